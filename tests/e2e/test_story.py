"""The main job: log, register, serve, predict; through a password, and whatever is changed."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import stat
import time
import typing
import zipfile
from collections.abc import Generator

import jubilant
import pytest

from onebox import bundlefile, stack
from tests.e2e import machine, users

BUNDLE = bundlefile.load(stack.BUNDLE, [stack.OVERLAY])
RELATIONS = [(first, second) for (first, second), _ in BUNDLE.relations]
NEIGHBOURS = sorted({pair[1].partition(":")[0] for pair in RELATIONS})
"""The applications on the second side of all relations."""
OWN_CHARMS = [stack.SERVER, stack.MODELS, stack.PROXY]
BACKING_CHARMS = sorted(set(BUNDLE.applications) - set(OWN_CHARMS))


IDLE = {"resource-dispatcher"}
"""Applications whose workload is files only, with nothing that runs."""


def application(name: str) -> str:
    """Return the application of a ``MODEL.APPLICATION-NUMBER.CONTAINER...``."""
    return name.split(".")[1].rpartition("-")[0]


def predict(access: stack.Access) -> users.Answer:
    return users.predict(access.model_url, login(access))


def served(access: stack.Access) -> bool:
    """Return whether a prediction comes."""
    return users.answers(lambda: predict(access))


@pytest.fixture(scope="module")
def logged(client: users.Client) -> dict[str, typing.Any]:
    """What came of each thing that a data scientist does, with the login."""
    return client.session()


@pytest.fixture(scope="module")
def refused(made: users.Made, access: stack.Access) -> dict[str, typing.Any]:
    """The same without the password."""
    with users.Client({"MLFLOW_TRACKING_URI": access.tracking_uri}) as anonymous:
        return anonymous.session()


def test_each_service_started_once(made: users.Made) -> None:
    # GIVEN the first `make up`, whose last step gives mlflow-models its model
    # THEN Pebble has started each service one time, from deploy to active
    assert made.starts, "no service was started"
    assert {name for name, count in made.starts.items() if count != 1} == set(), made.starts
    assert {application(name) for name in made.starts} >= {*BUNDLE.applications} - IDLE


def test_a_second_make_up_is_quick_and_restarts_nothing(made: users.Made) -> None:
    # GIVEN the stack as the first one has left it
    before = list(machine.containers(users.HOME, stack.MODEL))
    workloads = machine.workloads(users.HOME, stack.MODEL)
    daemon = machine.daemon(users.HOME)
    began = time.monotonic()
    done = users.make("up")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 60
    assert done.stdout == made.stdout
    assert set(machine.containers(users.HOME, stack.MODEL)) ^ set(before) == set()
    assert machine.workloads(users.HOME, stack.MODEL) == workloads
    assert machine.daemon(users.HOME) == daemon


def test_the_printed_block_makes_a_clean_shell_a_client(
    made: users.Made, tmp_path: pathlib.Path
) -> None:
    # GIVEN a shell with nothing set, into which the block is pasted
    file = tmp_path / "block.sh"
    file.write_text(made.block)
    tmp_path.chmod(0o755)
    clean = users.Client({})
    # WHEN the training example runs in it
    done = clean.run(
        [
            *("sh", "/programs/paste.sh"),
            *("python3", "/examples/train_wine.py", "--epochs", "2", "--model", "pasted"),
        ],
        {tmp_path: "/pasted"},
    )
    # THEN it has logged, registered and named a model
    assert done.returncode == 0, done.stderr
    assert re.search(r"models:/pasted@champion is version [1-9]", done.stdout), done.stdout


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("log_params", {"alpha": "0.5", "päram": "wert"}),
        ("log_metrics", [0.5, 0.25, 0.125]),
        ("log_model", True),
        ("register", "session-model-empty"),
        ("set_alias", True),
        ("list_artifacts", ["notes/note.txt"]),
        ("download_artifacts", "a note"),
        ("upload_artifact", ["sent.txt"]),
    ],
)
def test_the_client_does_it_with_the_password_only(
    logged: dict[str, typing.Any],
    refused: dict[str, typing.Any],
    operation: str,
    expected: object,
) -> None:
    assert logged[operation] == expected
    assert refused[operation]["status"] == 401


@pytest.mark.parametrize(
    "path",
    [
        "",
        "static-files/index.html",
        "health",
        "version",
        "api/2.0/mlflow/experiments/search?max_results=1",
        "ajax-api/2.0/mlflow/experiments/search?max_results=1",
        "api/2.0/mlflow-artifacts/artifacts?path=",
        "get-artifact?path=model&run_uuid=0",
        "api/3.0/mlflow/server-info",
        "%2e%2e/mlflow-server/version",
    ],
)
def test_no_path_is_served_without_the_password(access: stack.Access, path: str) -> None:
    answer = users.http(access.tracking_uri + path)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("login", [("admin", "wrong"), ("", ""), ("relation-1", "x" * 72)])
def test_a_wrong_login_is_refused(access: stack.Access, login: tuple[str, str]) -> None:
    assert users.http(access.tracking_uri, login=login).status == 401
    assert users.http(f"{access.model_url}/invocations", login=login, body={}).status == 401


def test_predictions_equal_the_models_own(client: users.Client, access: stack.Access) -> None:
    # examples/predict.py loads the model by the same URI; `make up` ran it as a program
    asked = ["predictions", access.model_url, "models:/wine@champion"]
    served, own = client.session(asked)["predictions"]
    assert served == own != []
    # and one row that is known
    assert predict(access).json() == {"predictions": [0]}


@pytest.mark.parametrize("path", ["ping", "version"])
def test_the_served_model_tells_that_it_is_there(access: stack.Access, path: str) -> None:
    login = (access.username, access.password)
    assert users.http(f"{access.model_url}/{path}", login=login).status == 200
    assert users.http(f"{access.model_url}/{path}").status == 401


@pytest.fixture(scope="class")
def restored(made: users.Made, access: stack.Access) -> Generator[None]:
    """After all tests of a class, the model of before is named and served again."""
    yield
    juju = jubilant.Juju(model=stack.MODEL)
    juju.config(stack.MODELS, {"models-uri": "models:/wine@champion"})
    users.settle(juju)
    assert predict(access).json() == {"predictions": [0]}


def until_models(juju: jubilant.Juju, current: str, part: str, timeout: float) -> None:
    """Wait until mlflow-models has a status, with some text in its message."""

    def says(status: jubilant.Status) -> bool:
        found, message = users.message(status, f"{stack.MODELS}/0")
        return found == current and part in message

    users.until(juju, says, timeout)


@pytest.mark.usefixtures("restored")
class TestURIs:
    """What the charm makes of them; `tests/functional/test_models.py` has every form and fault."""

    @pytest.mark.parametrize(
        ("uri", "reason"),
        [
            ("models:/wine@nobody", "nobody"),
            ("runs:/00000000000000000000000000000000/model", "00000000000000000000000000000000"),
            ("wine@champion", "models-uri"),
        ],
    )
    def test_a_wrong_one_is_blocked_and_the_previous_model_answers(
        self, juju: jubilant.Juju, access: stack.Access, uri: str, reason: str
    ) -> None:
        # GIVEN a served model WHEN the option names one that is not there
        assert predict(access).status == 200
        juju.config(stack.MODELS, {"models-uri": uri})
        # THEN the status says which and why, and the model before it still answers
        until_models(juju, "blocked", reason, 120)
        assert predict(access).json() == {"predictions": [0]}

    @pytest.mark.parametrize("form", ["runs", "s3"])
    def test_a_form_that_needs_no_registry_is_served(
        self, juju: jubilant.Juju, client: users.Client, access: stack.Access, form: str
    ) -> None:
        uri = client.session("model_uris")["model_uris"][form]
        juju.config(stack.MODELS, {"models-uri": uri})
        until_models(juju, "active", form, 60)
        assert predict(access).json() == {"predictions": [0]}


@pytest.fixture
def kept(client: users.Client) -> Generator[None]:
    """All runs that were there before a change are there after it, and a new one can be logged."""
    before = client.session("runs")["runs"]
    assert isinstance(before, list)
    assert before
    yield
    after = client.session("log_run", "runs")
    assert set(after["runs"]) >= {*before, after["log_run"]}


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_relations_removed_and_added_again(
    juju: jubilant.Juju, access: stack.Access, neighbour: str
) -> None:
    pairs = [pair for pair in RELATIONS if pair[1].partition(":")[0] == neighbour]
    # GIVEN the active stack WHEN all relations to one application go
    for pair in pairs:
        juju.remove_relation(*pair)
    users.until(juju, lambda status: not any(related(status, pair) for pair in pairs))
    # THEN it comes back to active once they are there again
    for pair in pairs:
        juju.integrate(*pair)
    users.settle(juju)
    assert stack.find_access() == access
    assert predict(access).json() == {"predictions": [0]}


def related(status: jubilant.Status, pair: tuple[str, str]) -> bool:
    """Return whether two endpoints are related; units may still be leaving until they are not."""
    application, _, endpoint = pair[0].partition(":")
    other = pair[1].partition(":")[0]
    relations = status.apps[application].relations.get(endpoint, [])
    return any(relation.related_app == other for relation in relations)


@pytest.mark.usefixtures("kept")
def test_scaled_up_and_down(juju: jubilant.Juju, access: stack.Access) -> None:
    def units(status: jubilant.Status) -> set[int]:
        return {len(status.apps[name].units) for name in OWN_CHARMS}

    # WHEN there are two units of each
    for name in OWN_CHARMS:
        juju.add_unit(name)
    users.until(juju, lambda status: units(status) == {2})
    users.settle(juju)
    # THEN all is served, by whichever unit answers
    for _ in range(6):
        assert users.http(access.tracking_uri + "health", login=login(access)).status == 200
        assert predict(access).json() == {"predictions": [0]}
    # AND when those that lead lose it, others lead, with the same addresses and the same login
    before = leaders(juju)
    for name in OWN_CHARMS:
        assert machine.fault("lose-leadership", application=name) == ""
    users.settle(juju)
    assert not leaders(juju) & before
    assert stack.find_access() == access
    assert predict(access).json() == {"predictions": [0]}
    # AND with one of them less
    for name in OWN_CHARMS:
        juju.remove_unit(name, num_units=1)
    users.until(juju, lambda status: units(status) == {1})
    users.settle(juju)
    assert predict(access).json() == {"predictions": [0]}


def leaders(juju: jubilant.Juju) -> set[str]:
    return {
        name
        for application in OWN_CHARMS
        for name, unit in juju.status().apps[application].units.items()
        if unit.leader
    }


def login(access: stack.Access) -> tuple[str, str]:
    return access.username, access.password


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("applications", [OWN_CHARMS, BACKING_CHARMS], ids=" ".join)
def test_refreshed(
    juju: jubilant.Juju,
    access: stack.Access,
    applications: list[str],
    tmp_path: pathlib.Path,
) -> None:
    # WHEN applications get another revision of their charm
    before = {name: juju.status().apps[name].charm_rev for name in applications}
    for name in applications:
        charm = pathlib.Path(BUNDLE.applications[name]["charm"])
        juju.refresh(name, path=newer(charm, tmp_path / charm.name))
    # THEN each of them runs it, and all is active
    users.settle(juju)
    after = juju.status().apps
    assert {name: after[name].charm_rev for name in applications} == {
        name: revision + 1 for name, revision in before.items()
    }
    assert predict(access).json() == {"predictions": [0]}


def newer(charm: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    """Write a charm that differs from another by one file that nobody reads."""
    path.write_bytes(charm.read_bytes())
    entry = zipfile.ZipInfo("revision")
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, os.urandom(8).hex())
    return path


def test_every_workload_killed_comes_back(
    juju: jubilant.Juju, client: users.Client, access: stack.Access
) -> None:
    # GIVEN all that Pebble runs in the stack
    logged = client.session("log_run")["log_run"]
    before = machine.workloads(users.HOME, stack.MODEL)
    assert {application(name) for name in before} == {*BUNDLE.applications}
    # WHEN each process is killed
    for name, pids in before.items():
        assert pids or application(name) in IDLE, name
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    # THEN it is all there again by itself, nothing of the old is left, and no run is lost
    users.until(juju, lambda _: replaced(before, machine.workloads(users.HOME, stack.MODEL)))
    users.until(juju, lambda _: served(access))
    users.settle(juju)
    assert logged in client.session("runs")["runs"]


def replaced(before: dict[str, list[int]], after: dict[str, list[int]]) -> bool:
    """Return whether each container runs other processes than before, and no more.

    Before, it may have run one more for a while: what tells the charm of a start.
    """
    return all(
        bool(found) == bool(pids) and len(found) <= len(pids) and not set(found) & set(pids)
        for name, pids in before.items()
        for found in [after.get(name, [])]
    )


def test_every_container_killed_comes_back(
    juju: jubilant.Juju, client: users.Client, access: stack.Access
) -> None:
    logged = client.session("log_run")["log_run"]
    # WHEN process 1 of every workload container is killed, as the kernel does without memory
    before = {
        (pod, container): pid
        for pod, container, pid in machine.containers(users.HOME, stack.MODEL)
        if container not in {"charm", "sandbox"}
    }
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    # THEN each has a new one, and nothing that was acknowledged is lost
    users.until(juju, lambda _: restarted(before))
    users.until(juju, lambda _: served(access))
    users.settle(juju)
    assert logged in client.session("runs")["runs"]


def restarted(before: dict[tuple[str, str], int]) -> bool:
    after = {
        (pod, container): pid
        for pod, container, pid in machine.containers(users.HOME, stack.MODEL)
    }
    return all(after.get(key, pid) != pid for key, pid in before.items())
