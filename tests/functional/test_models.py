"""A model from its URI to its predictions, in the images, with real MLflow and MinIO (root).

What mlflow-models plans is applied to a real Pebble in the image that it runs on. Only Juju is
missing: the tests themselves reconcile, and only when Juju would, that is, after a change of
options or a notice from the container.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import json
import pathlib
import subprocess
import sys
import threading
import time
import types
import typing
from collections.abc import Callable, Iterator

import ops
import pytest

from mlflow_kit import container as kit
from mlflow_kit import plan as plans
from mlflow_kit import problems, workload
from mlflow_kit.interfaces import object_storage
from onebox import images, pods, setup
from tests.functional import names

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHARM = ROOT / "charms/mlflow-models"
EXAMPLES = ROOT / "examples"

ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root"}
DAEMON = 584792
TRACKING_URI = "http://localhost:5000"
STORE = object_storage.ObjectStorage(
    url="http://localhost:9000", access_key="mi nio", secret_key="s3cr#t \"%;'x\\y"
)
WAIT = 120.0

# All that the tests need in the registry and in the stores, by one process: importing MLflow and
# scikit-learn is most of its work. Two versions of a wine model, what the model itself predicts,
# a copy of the first version in a bucket; and folders that are no good models: one without the
# file that makes it one, one whose flavour is not in the image, one that raises while it is
# loaded, and one that looks around.
PREPARE = """
import json, pathlib, sys
import boto3, mlflow, mlflow.artifacts, mlflow.pyfunc
from sklearn import datasets
sys.path.insert(0, "/tmp")
import train_wine

SPY = '''
import pathlib
class Spy:
    def predict(self, rows, params=None):
        return [attempt(*pair) for pair in (
            ("read", "/etc/mlflow-models/credentials/keys.json"),
            ("write", "/var/lib/mlflow-models/fetched/result.json"),
            ("write", str(pathlib.Path(__file__).parent.parent / "MLmodel")),
            ("write", "/opt/mlflow-models/serve.py"),
            ("write", "/etc/mlflow-models/slots/serve-a.json"),
        )]
def attempt(what, path):
    try:
        pathlib.Path(path).read_text() if what == "read" else open(path, "a").close()
    except OSError as error:
        return type(error).__name__
    return "done"
def _load_pyfunc(path):
    return Spy()
'''

def folder(name, loader, code=""):
    made = pathlib.Path("/tmp/models") / name
    (made / "code").mkdir(parents=True)
    (made / "code" / f"{loader}.py").write_text(code) if code else None
    flavour = {"loader_module": loader, "code": "code", "python_version": "3.11.2"}
    text = json.dumps({"flavors": {"python_function": flavour}, "mlflow_version": "3.17.2"})
    (made / "MLmodel").write_text(text)

def upload(url, key, secret):
    copy = pathlib.Path(mlflow.artifacts.download_artifacts("models:/wine/1", dst_path="/tmp/up"))
    store = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=secret
    )
    store.create_bucket(Bucket="models")
    for file in copy.rglob("*"):
        if file.is_file():
            store.upload_file(str(file), "models", f"wine/v 1/{file.relative_to(copy)}")

mlflow.set_tracking_uri("http://localhost:5000")
train_wine.train(1, "wine", "first")
version = train_wine.train(10, "wine", "champion")
upload(*json.load(sys.stdin))
pathlib.Path("/tmp/models/nothing").mkdir(parents=True)
pathlib.Path("/tmp/models/nothing/readme").write_text("no model")
folder("exotic", "exotic_flavour")
folder("broken", "broken_loader", "def _load_pyfunc(path):\\n    raise RuntimeError('canary')")
folder("spy", "spy_loader", SPY)
with mlflow.start_run() as odd:
    mlflow.log_artifacts("/tmp/models")
found = mlflow.MlflowClient().get_model_version("wine", version)
rows = datasets.load_wine(as_frame=True).data.iloc[::20]
predicted = mlflow.pyfunc.load_model(f"models:/wine/{version}").predict(rows)
print(json.dumps({
    "version": version,
    "model": found.source.split("/")[-1],
    "run": found.run_id,
    "experiment": mlflow.get_run(found.run_id).info.experiment_id,
    "body": {"dataframe_split": rows.to_dict(orient="split")},
    "predictions": predicted.tolist(),
    "odd": odd.info.run_id,
}))
"""


class Charm(types.SimpleNamespace):
    """The modules of the charm, which have names that other charms' modules have as well."""

    NAMES = ("config", "layout", "progress", "reports", "scoring", "slots", "state", "model_uri")

    @classmethod
    def load(cls) -> Charm:
        sys.path.insert(0, str(CHARM / "src"))
        try:
            return cls(**{name: importlib.import_module(name) for name in cls.NAMES})
        finally:
            sys.path.remove(str(CHARM / "src"))
            for name in cls.NAMES:
                sys.modules.pop(name, None)


class Container(ops.Container):
    """A workload container, on its socket as the machine sees it."""

    def __init__(self, name: str, socket: pathlib.Path) -> None:
        self.name = name
        self._pebble = ops.pebble.Client(socket_path=str(socket))
        self._juju_version = None


class World:
    """One pod: MLflow, MinIO and the container of mlflow-models, which share the network."""

    def __init__(self, folder: pathlib.Path) -> None:
        references = {name: image.reference for name, image in images.read().items()}
        self._podman = pods.Podman(f"onebox-{names.fresh()}", None, folder)
        self.pod = pods.Pod(
            name="m.models-0",
            aliases=("models-0",),
            containers=tuple(
                pods.Container(name=name, image=references[image])
                for name, image in (
                    ("tracking", "mlflow"),
                    ("store", "minio"),
                    ("mlflow-models", "mlflow-models"),
                )
            ),
            charm_image=references["base"],
        )

    def start(self) -> None:
        self._podman.ensure_network()
        self._podman.ensure(self.pod)
        self.serve_tracking()
        self.serve_store()

    def stop(self) -> None:
        self._podman.destroy()

    def container(self, name: str) -> Container:
        found = Container(name, self._podman.socket(self.pod.name, name))
        eventually(found.can_connect, 30)
        return found

    def restart(self, name: str) -> None:
        """Have a container start again with nothing of what was in it."""
        self._podman.restart_container(self.pod.name, name)

    def log(self, container: str) -> str:
        """Return the end of what Pebble and its services have printed."""
        return self._podman.log(self.pod.name, container).read_text()[-10_000:]

    def run(
        self,
        container: str,
        *argv: str,
        environment: dict[str, str] | None = None,
        stdin: str = "",
    ) -> str:
        """Run a program as root in a container; return what it printed."""
        environment = {**ENV, **(environment or {})}
        command = self._podman.enter(self.pod.name, container, argv, environment, "/tmp")
        done = subprocess.run(
            command, env=environment, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def prepare(self) -> dict[str, typing.Any]:
        """Fill registry and stores with what the tests ask for, and return its names."""
        program = (EXAMPLES / "train_wine.py").read_text()
        self.container("mlflow-models").push("/tmp/train_wine.py", program)
        login = json.dumps([STORE.url, STORE.access_key, STORE.secret_key])
        printed = self.run("mlflow-models", "python3", "-c", PREPARE, stdin=login)
        return json.loads(printed.splitlines()[-1])

    @property
    def address(self) -> str:
        return self._podman.address(self.pod.name)

    def serve_tracking(self) -> None:
        argv = (
            *("mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1"),
            *("--backend-store-uri", "sqlite:////srv/mlflow/mlflow.db"),
            *("--artifacts-destination", "/srv/mlflow/artifacts"),
        )
        off = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._serve("tracking", "/srv/mlflow", argv, off, f"{TRACKING_URI}/health")

    def serve_store(self) -> None:
        argv = ("minio", "server", "--address", ":9000", "/srv/store")
        login = {"MINIO_ROOT_USER": STORE.access_key, "MINIO_ROOT_PASSWORD": STORE.secret_key}
        self._serve("store", "/srv/store", argv, login, f"{STORE.url}/minio/health/live")

    def _serve(
        self, name: str, folder: str, argv: tuple[str, ...], env: dict[str, str], url: str
    ) -> None:
        plan = plans.Plan(
            directories=(
                plans.Directory(path=folder, user_id=DAEMON, group_id=DAEMON, keep=True),
            ),
            services=(
                plans.Service(
                    name=name,
                    argv=argv,
                    environment={**env, "HOME": folder},
                    working_dir=folder,
                    user_id=DAEMON,
                    group_id=DAEMON,
                ),
            ),
            checks=(plans.Check(name="answers", url=url, period=0.5, timeout=0.4),),
        )
        container = self.container(name)
        workload.apply(container, plan)
        eventually(lambda: workload.observe(container, plan).ok, WAIT)


class Unit:
    """The unit of mlflow-models, without Juju."""

    def __init__(self, world: World, charm: Charm) -> None:
        self._world = world
        self._charm = charm
        self._seen: set[tuple[str, str]] = set()
        self._options: dict[str, typing.Any] = {
            "models_uri": "",
            "workers": 1,
            "log_level": "info",
            "request_timeout": 60,
        }
        self.found: tuple[problems.Problem, ...] = ()
        self.container = world.container("mlflow-models")

    def configure(self, **options: typing.Any) -> None:
        self._options.update(options)
        self.reconcile()

    def reconcile(self) -> None:
        """Do what the charm does in each event."""
        state = self.state()
        health = workload.apply(self.container, self._charm.scoring.plan(state))
        self.found = (*self._charm.progress.find(state), *health.problems)

    def state(self) -> typing.Any:
        layout, reports = self._charm.layout, self._charm.reports
        config = self._charm.config.Config(**self._options)
        source = self._charm.state.Source(
            uri=config.models_uri, tracking_uri=TRACKING_URI, object_storage=STORE
        )

        def read(path: str) -> str | None:
            return workload.read_text(self.container, path)

        return self._charm.state.State(
            application="models",
            model="m",
            unit="models/0",
            address=None,
            config=config,
            source=source if config.models_uri else None,
            result=reports.read_result(read(layout.RESULT_FILE)),
            slots=tuple(
                reports.read_slot(
                    name, read(layout.slot_file(name)), read(layout.report_file(name))
                )
                for name in layout.SERVERS
            ),
            programs=kit.programs(CHARM / "workload", layout.PROGRAM_FILES),
        )

    def until(self, holds: Callable[[], bool], seconds: float = WAIT) -> None:
        """Wait, and reconcile after each notice, as Juju has the charm do."""
        deadline = time.monotonic() + seconds
        while not holds():
            notices = {
                (notice.id, str(notice.last_repeated))
                for notice in self.container.get_notices(
                    users=ops.pebble.NoticesUsers.ALL, types=[ops.pebble.NoticeType.CUSTOM]
                )
            }
            if notices - self._seen:
                self._seen |= notices
                self.reconcile()
            assert time.monotonic() < deadline, (
                f"never came true: {self.found}\n{self._world.log('mlflow-models')}"
            )
            time.sleep(0.1)

    def until_active(self) -> None:
        self.until(lambda: not self.found)

    def until_settled(self) -> None:
        """Wait until a problem is one that does not go away by itself within seconds."""
        kinds = (problems.Kind.BLOCKED, problems.Kind.WAITING)
        self.until(
            lambda: any(
                found.kind in kinds and found.message.startswith("models-uri")
                for found in self.found
            )
        )

    @property
    def message(self) -> str:
        return self.found[0].message if self.found else ""

    @property
    def servers(self) -> dict[str, int]:
        """Process id of each server that runs, by the name of its service."""
        return {name: pid for name, pid, parent in self._running() if parent == 1}

    @property
    def processes(self) -> set[int]:
        """Process id of each server that runs, and of its workers."""
        return {pid for _, pid, _ in self._running()}

    def _running(self) -> list[tuple[str, int, int]]:
        return json.loads(self._world.run("mlflow-models", "python3", "-c", SERVERS))


SERVERS = """
import json, pathlib
found = []
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        argv = (folder / "cmdline").read_text().split("\\0")
        parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        continue
    if "/opt/mlflow-models/serve.py" in argv:
        found.append((pathlib.Path(argv[2]).stem, int(folder.name), parent))
print(json.dumps(found))
"""


def eventually(probe: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def ask(world: World, body: object) -> tuple[int, typing.Any]:
    """Ask for predictions; return the status and the answer."""
    with contextlib.closing(http.client.HTTPConnection(world.address, 8080, timeout=30)) as server:
        headers = {"Content-Type": "application/json"}
        server.request("POST", "/invocations", json.dumps(body), headers)
        response = server.getresponse()
        return response.status, json.loads(response.read())


def get(world: World, path: str) -> tuple[int, str]:
    with contextlib.closing(http.client.HTTPConnection(world.address, 8080, timeout=30)) as server:
        server.request("GET", path)
        response = server.getresponse()
        return response.status, response.read().decode()


def answers(world: World) -> bool:
    try:
        return get(world, "/ping")[0] == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def charm() -> Charm:
    return Charm.load()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    setup.ensure_all()
    made = World(tmp_path_factory.mktemp("models"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def prepared(world: World) -> dict[str, typing.Any]:
    return world.prepare()


@pytest.fixture(scope="module")
def odd(prepared: dict[str, typing.Any]) -> str:
    """The run with folders that are no good models."""
    return prepared["odd"]


@pytest.fixture(scope="module")
def unit(world: World, charm: Charm, prepared: dict[str, typing.Any]) -> Unit:
    """One unit for all: each test says what shall be served, which may be served already."""
    return Unit(world, charm)


@pytest.fixture(scope="module")
def wine(prepared: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """The version that is the champion, and the other names of the same model."""
    version, model, run = (prepared[key] for key in ("version", "model", "run"))
    return {
        "body": prepared["body"],
        "predictions": prepared["predictions"],
        "uris": [
            "models:/wine@champion",
            f"models:/wine/{version}",
            "models:/wine/latest",
            f"models:/{model}",
            f"runs:/{run}/model",
            f"mlflow-artifacts:/{prepared['experiment']}/models/{model}/artifacts",
        ],
    }


def test_every_form_of_uri_gives_the_predictions_of_the_model(
    world: World, unit: Unit, wine: dict[str, typing.Any]
) -> None:
    servers = []
    for uri in wine["uris"]:
        unit.configure(models_uri=uri)
        unit.until_active()
        assert ask(world, wine["body"]) == (200, {"predictions": wine["predictions"]}), uri
        servers.append(unit.servers)
    # One server is enough for the names of one version, and one for the model's own and its run's:
    # with a version MLflow's client brings a file more, in which it notes which one.
    assert servers[0] == servers[1] == servers[2]
    assert servers[3] == servers[4]
    unit.configure(models_uri="s3://models/wine/v 1")
    unit.until_active()
    status, answer = ask(world, wine["body"])
    assert status == 200
    assert len(answer["predictions"]) == len(wine["predictions"])
    assert get(world, "/ping")[0] == 200
    assert get(world, "/version") == (200, "3.17.2")


def test_no_process_and_no_log_shows_the_keys(world: World, unit: Unit) -> None:
    unit.configure(models_uri="s3://models/wine/v 1")
    unit.until_active()
    seen = world.run(
        "mlflow-models",
        "sh",
        "-c",
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'",
    )
    assert "serve.py" in seen
    assert STORE.secret_key not in seen
    assert STORE.secret_key not in str(unit.container.get_plan().to_dict())


WRONG = [
    ("models:/wine@nobody", "does not exist: the model has no such alias"),
    ("models:/wine/77", "does not exist"),
    ("models:/cheese/1", "does not exist"),
    ("models:/m-00000000000000000000000000000000", "does not exist"),
    ("runs:/00000000000000000000000000000000/model", "does not exist"),
    ("runs:/{odd}/nothing", "is not a model: there is no MLmodel file"),
    ("mlflow-artifacts:/77/nothing", "is not a model: there is no MLmodel file"),
    ("s3://models/wine", "is not a model: there is no MLmodel file"),
    ("s3://no-such-bucket/wine", "does not exist"),
    (
        "runs:/{odd}/exotic",
        "needs the Python package exotic_flavour, which the image does not have",
    ),
    ("runs:/{odd}/broken", "cannot be loaded (RuntimeError); the log of the service says more"),
]


def test_a_wrong_uri_is_refused_and_the_previous_model_answers(
    world: World, unit: Unit, odd: str, wine: dict[str, typing.Any]
) -> None:
    # GIVEN a served model
    unit.configure(models_uri="models:/wine/2")
    unit.until_active()
    before = unit.servers
    for form, reason in WRONG:
        # WHEN a URI is set that names no model which can be served
        uri = form.format(odd=odd)
        unit.configure(models_uri=uri)
        unit.until_settled()
        # THEN the reason is said, and the same process answers as before
        assert unit.found[0].kind is problems.Kind.BLOCKED
        assert unit.message == f"models-uri {uri} {reason}; models:/wine/2 is still served"
        # One that has failed to load says so, and then ends.
        eventually(lambda: unit.servers == before, WAIT)
        assert ask(world, wine["body"]) == (200, {"predictions": wine["predictions"]})


def test_a_switch_loses_no_request(world: World, unit: Unit, wine: dict[str, typing.Any]) -> None:
    unit.configure(models_uri="models:/wine/1")
    unit.until_active()
    answers: list[object] = []
    done = threading.Event()

    def load() -> None:
        while not done.wait(0.03):
            try:
                answers.append(ask(world, wine["body"])[0])
            except (OSError, http.client.HTTPException) as error:
                answers.append(error)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for uri in ("models:/wine/2", "models:/wine/1"):
            unit.configure(models_uri=uri)
            unit.until_active()
        unit.configure(models_uri="models:/wine/2", workers=2)
        unit.until_active()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert len(answers) > 100
    assert set(answers) == {200}
    print(f"{len(answers)} predictions during three switches, none failed")
    # Of the models that were served, only the last is kept.
    eventually(
        lambda: len(unit.container.list_files("/var/lib/mlflow-models/fetched/models")) == 1, 30
    )
    assert list(unit.servers) == [
        slot.name for slot in unit.state().slots if slot.content is not None
    ]


def test_a_model_can_neither_read_the_keys_nor_change_a_file(
    world: World, unit: Unit, odd: str
) -> None:
    # GIVEN keys in the container, and a model whose code looks for them
    unit.configure(models_uri=f"runs:/{odd}/spy", workers=1)
    unit.until_active()
    keys = world.run("mlflow-models", "cat", "/etc/mlflow-models/credentials/keys.json")
    assert json.loads(keys)["secret-key"] == STORE.secret_key
    # WHEN it runs, THEN the system refuses it every file
    status, answer = ask(world, {"inputs": [[1]]})
    assert status == 200
    assert answer == {"predictions": ["PermissionError"] * 5}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_server_comes_back(
    world: World, unit: Unit, wine: dict[str, typing.Any], workers: int
) -> None:
    unit.configure(models_uri="models:/wine@champion", workers=workers)
    unit.until_active()
    before, processes = unit.servers, unit.processes
    for pid in before.values():
        world.run("mlflow-models", "sh", "-c", f"kill -9 {pid}")
    # The workers that it has left end, too.
    eventually(lambda: not unit.processes & processes, WAIT)
    eventually(lambda: set(unit.servers) == set(before), WAIT)
    eventually(lambda: answers(world), WAIT)
    unit.until_active()
    assert ask(world, wine["body"]) == (200, {"predictions": wine["predictions"]})


def test_waits_for_a_tracking_server_that_is_down(
    world: World, unit: Unit, wine: dict[str, typing.Any]
) -> None:
    # GIVEN no model, and a name that only the tracking server knows
    unit.configure(models_uri="", workers=1)
    tracking = world.container("tracking")
    tracking.stop("tracking")
    try:
        unit.configure(models_uri="models:/wine/latest")
        unit.until_settled()
        assert unit.found[0].kind is problems.Kind.WAITING
        assert unit.message == (
            "models-uri models:/wine/latest cannot be read: the tracking server does not answer"
        )
    finally:
        tracking.start("tracking")
    # WHEN it is back, nobody has to do anything
    unit.until_active()
    assert ask(world, wine["body"]) == (200, {"predictions": wine["predictions"]})


def test_a_fresh_container_gets_its_model_again(
    world: World, charm: Charm, unit: Unit, wine: dict[str, typing.Any]
) -> None:
    unit.configure(models_uri="models:/wine@champion", workers=1)
    unit.until_active()
    started = time.monotonic()
    world.restart("mlflow-models")
    again = Unit(world, charm)
    again.configure(models_uri="models:/wine@champion")
    again.until_active()
    assert ask(world, wine["body"]) == (200, {"predictions": wine["predictions"]})
    print(f"served again {time.monotonic() - started:.1f} s after the container was lost")
    # Nothing happens when nothing has changed.
    before = again.servers
    for _ in range(5):
        again.reconcile()
    assert again.servers == before
    again.configure(models_uri="")
    assert again.servers == {}
