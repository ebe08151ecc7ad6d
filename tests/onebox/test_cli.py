"""The command line, driven by jubilant as it comes, against the daemon's own answers.

Only the engine is not there: its place takes one that has nothing to wait for, and whose units
are this machine. The end-to-end tests do the same with real pods.
"""

from __future__ import annotations

import concurrent.futures
import copy
import fcntl
import json
import os
import pathlib
import socketserver
import subprocess
import sys
import threading
import typing
import zipfile
from collections.abc import Iterator

import hypothesis
import jubilant
import pytest
import yaml
from hypothesis import strategies as st

from onebox import api, changes, client, debuglog, engine, events, home, model

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = ROOT / "onebox" / "bin"
SINCE = "2026-11-21T10:40:00Z"

FILES: dict[str, typing.Any] = {
    "metadata.yaml": {
        "name": "probe",
        "containers": {"work": {"resource": "probe-image", "mounts": []}},
        "resources": {"probe-image": {"type": "oci-image"}},
        "storage": {"data": {"type": "filesystem"}},
        "provides": {"giver": {"interface": "probe"}},
        "requires": {"taker": {"interface": "probe", "limit": 1}},
    },
    "config.yaml": {
        "options": {
            "size": {"type": "int", "default": 1},
            "name": {"type": "string"},
            "fast": {"type": "boolean", "default": False},
            "account": {"type": "secret"},
        }
    },
    "actions.yaml": {"backup": {"description": "x"}, "fail": {}, "hang": {}},
    "manifest.yaml": {"bases": []},
    "dispatch": "#!/bin/sh\n",
}


class Resting(engine.Engine):
    """An engine for which everything has happened already."""

    def __init__(self, where: home.Home, world: model.World) -> None:
        self.lock = threading.Condition(threading.RLock())
        self._where = where
        self._world = world

    def changed(self) -> None:
        for found in self._world.models.values():
            for unit in list(found.units()):
                unit.address = "127.0.0.1"
                unit.status = model.Status("active", "", SINCE)
                unit.agent = model.Status("idle", "", SINCE)
                changes.elect(found.applications[unit.application])
                self._act(found, unit)
                if unit.life is model.Life.DYING:
                    changes.drop_unit(found, unit.name, "/storage")
            changes.collect(found)
        self.lock.notify_all()

    def _act(self, world: model.Model, unit: model.Unit) -> None:
        for number in unit.actions:
            operation = world.operations[number]
            if operation.action == "hang":
                continue
            operation.results = dict(operation.params)
            operation.log = [(SINCE, "began")]
            operation.status = "completed"
            if operation.action == "fail":
                operation.status, operation.message = "failed", "no space left"

    def storage_root(self, world: model.Model) -> pathlib.Path:
        return self._where.path / "storage"

    def execute(self, model_name: str, unit_name: str, command: engine.Command) -> None:
        argv = ["timeout", "-s", "KILL", str(command.timeout), *command.argv]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        command.code, command.stdout, command.stderr = done.returncode, done.stdout, done.stderr

    def enter(
        self, model_name: str, unit_name: str, container: str | None
    ) -> tuple[list[str], dict[str, str]]:
        return ["env"], {"CONTAINER": str(container)}


@pytest.fixture
def where(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> home.Home:
    monkeypatch.setenv("ONEBOX_HOME", str(tmp_path / "home"))
    # The commands run on the Python of these tests.
    python = pathlib.Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{BIN}:{python}:{os.environ['PATH']}")
    monkeypatch.delenv("NO_COLOR", raising=False)
    found = home.find()
    found.path.mkdir()
    return found


@pytest.fixture
def world(where: home.Home) -> Iterator[model.World]:
    """The models behind a socket that answers as the daemon does."""
    found = model.World()
    answers = api.Api(where, found, Resting(where, found))

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            def send(message: dict[str, typing.Any]) -> None:
                self.wfile.write(json.dumps(message).encode() + b"\n")

            message = json.loads(self.rfile.readline())
            try:
                send({"result": answers.answer(message, lambda text: send({"progress": text}))})
            except changes.UserError as error:
                send({"error": str(error)})

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Server(str(where.socket), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture
def juju(world: model.World) -> jubilant.Juju:
    found = jubilant.Juju(wait_timeout=20)
    found.add_model("m")
    return found


@pytest.fixture
def charm(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "probe.charm"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES.items():
            text = content if isinstance(content, str) else yaml.safe_dump(content)
            archive.writestr(name, text)
    return path


IMAGE = {"probe-image": "localhost/probe:1"}


@pytest.fixture
def probe(juju: jubilant.Juju, charm: pathlib.Path) -> jubilant.Juju:
    """A model with one application, `probe`."""
    juju.deploy(charm, resources=IMAGE)
    return juju


def run(*words: str, **more: typing.Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / words[0]), *words[1:]], capture_output=True, text=True, check=False, **more
    )


# Models and applications, through jubilant.


def test_the_version_is_one_that_jubilant_understands(where: home.Home):
    found = jubilant.Juju().version()

    assert f"{found.major}.{found.minor}.{found.patch}" == model.JUJU_VERSION


def test_temporary_models_come_and_go(world: model.World):
    with jubilant.temp_model() as juju:
        assert juju.status().model.name == juju.model
        assert juju.show_model().short_name == juju.model
        assert list(world.models) == [juju.model]

    assert not world.models


def test_a_new_model_is_current_unless_told_not_to(world: model.World):
    for words in (["first"], ["second", "--no-switch"], ["third"]):
        assert run("juju", "add-model", *words).returncode == 0
        assert world.current == ("third" if words == ["third"] else "first")

    assert run("juju", "switch", "onebox:admin/second").returncode == 0
    assert run("juju", "switch").stdout == "onebox:admin/second\n"
    assert "second*" in run("juju", "models").stdout
    assert json.loads(run("juju", "models", "--format", "json").stdout)["models"]


def test_a_model_is_destroyed_only_when_its_name_is_typed(juju: jubilant.Juju, world: model.World):
    assert run("juju", "destroy-model", "m", input="no\n").returncode == 1
    assert "m" in world.models
    assert run("juju", "destroy-model", "m", input="m\n").returncode == 0
    assert "m" not in world.models


def test_the_named_model_is_destroyed_not_the_current_one(world: model.World):
    assert run("juju", "add-model", "keep").returncode == 0
    assert run("juju", "add-model", "--no-switch", "go").returncode == 0

    assert run("juju", "destroy-model", "--no-prompt", "go").returncode == 0

    assert list(world.models) == ["keep"]


def test_a_charm_is_deployed_with_what_was_asked_for(
    juju: jubilant.Juju, charm: pathlib.Path, world: model.World
):
    juju.deploy(
        charm,
        "other",
        config={"size": 3, "fast": True, "name": "a=b"},
        resources=IMAGE,
        storage={"data": "2G"},
        num_units=2,
        channel="latest/edge",
        base="ubuntu@24.04",
        trust=True,
        force=True,
    )
    juju.wait(jubilant.all_active, delay=0.01)

    found = world.models["m"].applications["other"]
    assert found.config == {"size": 3, "fast": True, "name": "a=b"}
    assert found.storage == {"data": "2G"}
    assert (found.scale, found.trust, found.channel) == (2, True, "latest/edge")
    assert list(juju.status().apps["other"].units) == ["other/0", "other/1"]


def test_settings_come_from_a_file_too(
    juju: jubilant.Juju, charm: pathlib.Path, tmp_path: pathlib.Path
):
    (tmp_path / "c.yaml").write_text("probe: {size: 7, fast: true}\n")
    (tmp_path / "name").write_text("long text\n")

    words = ["--config", f"{tmp_path}/c.yaml", "--config", f"name=@{tmp_path}/name"]
    juju.cli("deploy", str(charm), *words, "--resource", "probe-image=x")

    assert juju.config("probe") == {"size": 7, "fast": True, "name": "long text\n"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["./none.charm"], "no charm was found at"),
        (["CHARM"], "local charm missing OCI images for: probe-image"),
        (["CHARM", "--resource", "probe-image=x", "--config", "size=x"], "expected int, got"),
        (["CHARM", "--resource", "probe-image=x", "--config", "colour=x"], "unknown option"),
        (["CHARM", "--overlay", "x.yaml", "--dry-run"], "a charm: --overlay, --dry-run"),
        (["./b.yaml", "-n", "2", "--config", "a=b"], "a bundle: --config, --num-units"),
        (["minio"], "would come from Charmhub"),
        (["bundle.yaml"], 'The charm or bundle "bundle.yaml" is ambiguous'),
    ],
)
def test_what_cannot_be_deployed_is_refused(
    juju: jubilant.Juju, charm: pathlib.Path, words: list[str], text: str
):
    words = [str(charm) if word == "CHARM" else word for word in words]

    done = run("juju", "deploy", *words, cwd=ROOT)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(("ERROR ", "To deploy"))
    assert text in done.stderr
    assert not juju.status().apps


def test_options_are_set_read_and_reset(probe: jubilant.Juju, world: model.World):
    probe.config("probe", {"size": 5, "fast": True, "name": "x"})
    assert probe.config("probe") == {"size": 5, "fast": True, "name": "x"}
    assert probe.cli("config", "probe", "size") == "5\n"
    assert probe.cli("config", "probe", "fast") == "true\n"
    assert probe.config("probe", app_config=True)["trust"] is False

    probe.config("probe", {"fast": False}, reset=["size", "name"])
    assert world.models["m"].applications["probe"].config == {"fast": False}

    with pytest.raises(jubilant.CLIError, match='option "size" expected int, got "big"'):
        probe.config("probe", {"size": "big"})
    with pytest.raises(jubilant.CLIError, match='key "colour" not found in "probe"'):
        probe.cli("config", "probe", "colour")
    with pytest.raises(jubilant.CLIError, match='application "none" not found'):
        probe.config("none")


def test_units_come_and_go(probe: jubilant.Juju):
    probe.add_unit("probe", num_units=2)
    assert len(probe.status().apps["probe"].units) == 3
    probe.remove_unit("probe", num_units=1)
    assert len(probe.status().apps["probe"].units) == 2
    probe.cli("scale-application", "probe", "1")
    assert len(probe.status().apps["probe"].units) == 1
    with pytest.raises(jubilant.CLIError, match="juju remove-unit probe --num-units"):
        probe.remove_unit("probe/0", num_units=1)
    with pytest.raises(jubilant.CLIError, match="specify the number of units"):
        probe.remove_unit("probe")
    with pytest.raises(jubilant.CLIError, match="--destroy-storage goes with `juju remove-app"):
        probe.remove_unit("probe", num_units=1, destroy_storage=True)
    assert len(probe.status().apps["probe"].units) == 1


def test_a_unit_that_is_removed_by_force_runs_no_hook(probe: jubilant.Juju, world: model.World):
    unit = world.models["m"].unit("probe/0")
    unit.installed, unit.failure = True, model.Failure(model.Hook("start"), retry_at=1e12)

    probe.remove_unit("probe", num_units=1, force=True)

    assert events.settled(unit)
    assert events.next_hook(world.models["m"], unit, 0) is None


def test_relations_are_made_and_removed(probe: jubilant.Juju, charm: pathlib.Path):
    probe.deploy(charm, "other", resources=IMAGE)
    probe.integrate("probe:taker", "other:giver")

    with pytest.raises(jubilant.CLIError, match="already exists"):
        probe.cli("relate", "probe:taker", "other:giver")
    with pytest.raises(jubilant.CLIError, match="ambiguous relation"):
        probe.integrate("probe", "other")
    shown = probe.cli("status", "--relations")
    assert "other:giver           probe:taker  probe      regular" in shown
    assert probe.status().apps["probe"].relations["taker"][0].related_app == "other"

    probe.remove_relation("probe:taker", "other")
    assert "taker" not in probe.status().apps["probe"].relations


def test_an_application_is_trusted_exposed_refreshed_and_removed(
    probe: jubilant.Juju, charm: pathlib.Path, world: model.World
):
    found = world.models["m"].applications["probe"]
    probe.trust("probe", scope="cluster")
    probe.cli("expose", "probe")
    assert found.trust
    assert found.exposed
    probe.trust("probe", remove=True)
    probe.cli("unexpose", "probe")
    assert not found.trust
    assert not found.exposed

    probe.refresh("probe", path=charm, resources={"probe-image": "two"}, config={"size": 9})
    assert found.resources == {"probe-image": "two"}
    assert found.config == {"size": 9}

    probe.remove_application("probe", destroy_storage=True)
    assert not probe.status().apps


def test_a_refresh_that_is_refused_changes_nothing(
    probe: jubilant.Juju, charm: pathlib.Path, world: model.World
):
    before = copy.deepcopy(world)
    with zipfile.ZipFile(charm, "a") as archive:
        archive.writestr("newer", "")

    for wrong in ({"size": "big"}, {"colour": "red"}):
        with pytest.raises(jubilant.CLIError, match=r"size|colour"):
            probe.refresh(
                "probe", path=charm, resources={"probe-image": "two"}, config=wrong, trust=True
            )

    assert world == before


def test_model_configuration_is_set_read_and_reset(juju: jubilant.Juju):
    juju.model_config({"update-status-hook-interval": "10s", "a": True})
    assert juju.model_config() == {"update-status-hook-interval": "10s", "a": "true"}
    assert "update-status-hook-interval  model  10s" in juju.cli("model-config")
    assert juju.cli("model-config", "a") == "true\n"
    juju.model_config(reset=["a", "update-status-hook-interval"])
    assert juju.model_config() == {}


# Units, through jubilant.


def test_an_action_runs_with_its_parameters(probe: jubilant.Juju):
    params = {"outer": {"inner": 3}, "list": ["a"], "text": "x y"}

    task = probe.run("probe/leader", "backup", params)

    assert task.results == params
    assert task.log == ["21 Nov 2026 10:40:00Z began"]
    assert task.success


def test_parameters_are_written_with_dots(probe: jubilant.Juju):
    shown = probe.cli("run", "probe/0", "backup", "a.b=3", "a.c=true", "url=secret:x/y", "t=")

    assert yaml.safe_load(shown) == {
        "a": {"b": 3, "c": True},
        "url": "secret:x/y",
        "t": None,
    }
    shown = probe.cli("run", "probe/0", "backup", "n=3", "--string-args")
    assert yaml.safe_load(shown) == {"n": "3"}


def test_a_failed_action_fails_the_command(probe: jubilant.Juju):
    with pytest.raises(jubilant.TaskError) as caught:
        probe.run("probe/0", "fail")
    assert caught.value.task.message == "no space left"

    done = run("juju", "run", "probe/0", "fail")
    assert done.returncode == 1
    assert "Action id 2 failed: no space left" in done.stdout
    assert "the following task failed:" in done.stderr
    assert yaml.safe_load(probe.cli("show-task", "2"))["status"] == "failed"


def test_what_cannot_run_is_told(probe: jubilant.Juju):
    with pytest.raises(ValueError, match="not found"):
        probe.run("probe/0", "none")
    with pytest.raises(ValueError, match="not found"):
        probe.run("none/leader", "backup")
    with pytest.raises(TimeoutError, match="timed out waiting for results from: unit probe/0"):
        probe.run("probe/0", "hang", wait=0.1)
    assert run("juju", "run", "probe/0").returncode == 2
    assert run("juju", "run", "probe/0", "hang", "--background").returncode == 0


def test_an_action_that_waits_is_cancelled(probe: jubilant.Juju, world: model.World):
    run("juju", "run", "probe/0", "hang", "--background")

    shown = yaml.safe_load(probe.cli("cancel-task", "1"))

    assert shown == {"actions": [{"id": "1", "unit": "probe/0", "status": "cancelled"}]}
    assert yaml.safe_load(probe.cli("show-task", "1"))["message"] == "action cancelled via the API"
    assert world.models["m"].unit("probe/0").actions == []
    assert run("juju", "cancel-task", "9").stderr == 'ERROR operation "9" not found\n'


def test_a_command_is_executed_in_a_unit(probe: jubilant.Juju):
    task = probe.exec("printf", "%s", "a  b", unit="probe/0", wait=5)
    assert (task.stdout, task.return_code) == ("a  b", 0)
    assert probe.exec("echo $((1+1)); echo oops >&2", unit="probe/leader").stdout == "2\n"

    with pytest.raises(jubilant.TaskError) as caught:
        probe.exec("exit 3", unit="probe/0")
    assert caught.value.task.return_code == 3

    with pytest.raises(TimeoutError, match="timed out waiting for results from: unit probe/0"):
        probe.exec("sleep 9", unit="probe/0", wait=0.2)

    done = run("juju", "exec", "--unit", "probe/0", "--", "sh", "-c", "echo out; echo err >&2")
    assert done.stdout == "out\n"
    assert "err\n" in done.stderr


def test_ssh_runs_in_the_container_that_is_named(probe: jubilant.Juju):
    assert probe.ssh("probe/0", "echo $CONTAINER", container="work") == "work\n"
    assert probe.ssh("probe/leader", "echo", "a", "&&", "echo", "b", user="root") == "a\nb\n"
    assert run("juju", "ssh", "probe/0", "exit 7").returncode == 7
    shell = run("juju", "ssh", "--container", "work", "probe/0", input="echo $CONTAINER; exit 8")
    assert (shell.stdout, shell.stderr, shell.returncode) == ("work\n", "", 8)


def test_the_environment_of_the_user_stays_outside(
    probe: jubilant.Juju, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_TOKEN", "hunter2")

    assert "hunter2" not in probe.ssh("probe/0", "env")


def test_a_file_is_copied_there_and_back(probe: jubilant.Juju, tmp_path: pathlib.Path):
    source, there, back = (tmp_path / name for name in ("a b", "there", "back"))
    source.write_bytes(b"\x00\xff")
    back.mkdir()

    probe.scp(source, f"probe/0:{there}")
    probe.scp(f"probe/0:{there}", back, container="work")

    assert (back / "there").read_bytes() == b"\x00\xff"
    with pytest.raises(jubilant.CLIError, match="scp has no -r here"):
        probe.scp(source, f"probe/0:{there}", scp_options=["-r"])
    with pytest.raises(jubilant.CLIError, match="cannot copy"):
        probe.scp("probe/0:/no/such/file", tmp_path / "x")


def test_a_unit_is_shown_and_resolved(probe: jubilant.Juju, world: model.World):
    assert probe.show_unit("probe/0").leader

    with pytest.raises(jubilant.CLIError, match="is not in an error state"):
        probe.cli("resolved", "probe/0")
    unit = world.models["m"].unit("probe/0")
    unit.failure = model.Failure(model.Hook("start"), retry_at=1e12)
    assert probe.status().apps["probe"].units["probe/0"].is_error
    probe.cli("resolve", "--no-retry", "probe/0")
    assert unit.failure is None


@pytest.mark.parametrize("directive", ["64M", "kubernetes,64M", "1,0.0625G"])
def test_a_size_of_storage_is_taken(
    juju: jubilant.Juju, charm: pathlib.Path, world: model.World, directive: str
):
    juju.deploy(charm, resources={"probe-image": "one"}, storage={"data": directive})
    [storage] = world.models["m"].storage.values()
    assert (storage.size, storage.limited) == (64, True)


def test_storage_is_listed(probe: jubilant.Juju):
    assert "probe/0  data/0      filesystem  1024 MiB  attached" in probe.cli("storage")


# Secrets, through jubilant.


def test_secrets_of_the_user(probe: jubilant.Juju, world: model.World, tmp_path: pathlib.Path):
    uri = probe.add_secret("mine", {"password": "hunter2"}, info="an account")
    probe.grant_secret("mine", "probe")
    assert world.models["m"].secrets[uri.unique_identifier].grants == [model.Grant("probe")]

    assert [(item.name, item.owner) for item in probe.secrets()] == [("mine", "m")]
    assert "hunter2" not in probe.cli("secrets")
    assert probe.show_secret("mine").description == "an account"
    assert probe.show_secret(uri, reveal=True).content == {"password": "hunter2"}
    shown = yaml.safe_load(probe.cli("show-secret", "mine", "--reveal"))
    assert shown[uri.unique_identifier]["content"] == {"password": "hunter2"}

    probe.update_secret(uri, {"password": "new"}, name="ours")
    assert probe.show_secret("ours", reveal=True).content == {"password": "new"}
    assert len(probe.show_secret("ours", revisions=True).revisions or []) == 2
    probe.cli("revoke-secret", "ours", "probe")
    probe.remove_secret("ours")
    assert probe.secrets() == []


def test_content_of_a_secret_comes_from_words_files_and_base64(
    juju: jubilant.Juju, tmp_path: pathlib.Path
):
    (tmp_path / "key").write_text("from a file")

    juju.cli("add-secret", "s", "word=a=b", f"file#file={tmp_path}/key", "coded#base64=aGk=")

    content = juju.show_secret("s", reveal=True).content
    assert content == {"word": "a=b", "file": "from a file", "coded": "hi"}
    for wrong in ("UPPER=x", "ab=x", "a--b=x", "coded#base64=%%", f"k#file={tmp_path}/none"):
        with pytest.raises(jubilant.CLIError):
            juju.cli("add-secret", "t", wrong)
    with pytest.raises(jubilant.CLIError, match="missing secret value"):
        juju.cli("add-secret", "t")


# Bundles.

BUNDLE = """\
bundle: kubernetes
applications:
  one:
    charm: ./probe.charm
    scale: 1
    resources: {probe-image: x}
  two:
    charm: ./probe.charm
    scale: 1
    trust: true
    resources: {probe-image: x}
    options: {size: 2}
relations:
  - [one:taker, two:giver]
"""


def test_a_bundle_is_deployed_once(
    juju: jubilant.Juju, charm: pathlib.Path, world: model.World, tmp_path: pathlib.Path
):
    (tmp_path / "bundle.yaml").write_text(BUNDLE)
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("applications:\n  one:\n    options: {name: x}\n")

    with pytest.raises(jubilant.CLIError, match="--trust argument"):
        juju.deploy(tmp_path / "bundle.yaml")
    words = ["deploy", str(tmp_path), "--trust", "--overlay", str(overlay)]
    planned = juju.cli(*words, "--dry-run")
    assert "- add relation one:taker - two:giver" in planned
    assert not juju.status().apps

    juju.deploy(tmp_path / "bundle.yaml", overlays=[overlay], trust=True)
    found = world.models["m"]
    assert found.applications["one"].config == {"name": "x"}
    assert found.applications["two"].trust
    assert len(found.relations) == 1
    assert juju.cli(*words, "--dry-run") == "No changes to apply.\n"

    overlay.write_text("applications:\n  one:\n    options: {name: y}\n    scale: 2\n")
    juju.cli(*words)
    assert found.applications["one"].config == {"name": "y"}
    assert len(found.applications["one"].units) == 2


def test_a_faulty_bundle_deploys_nothing(
    juju: jubilant.Juju, charm: pathlib.Path, tmp_path: pathlib.Path
):
    (tmp_path / "bundle.yaml").write_text(
        BUNDLE.replace("size: 2", "size: big").replace("two:giver", "three:giver")
    )

    done = run("juju", "deploy", "./bundle.yaml", "--trust", cwd=tmp_path)

    assert done.returncode == 1
    assert "bundle.yaml:12: " in done.stderr
    assert "bundle.yaml:14: " in done.stderr
    assert not juju.status().apps


def test_ports_are_published_by_name(juju: jubilant.Juju, charm: pathlib.Path, world: model.World):
    juju.cli("deploy", str(charm), "--resource=probe-image=x", "--publish", "probe=8080:80")

    assert world.models["m"].applications["probe"].publish == [(8080, 80)]
    assert run("juju", "deploy", str(charm), "--publish", "probe=80").returncode == 2


# Output for people.


def test_status_is_filtered_by_names(probe: jubilant.Juju, charm: pathlib.Path):
    probe.deploy(charm, "other", resources=IMAGE, num_units=2)

    assert (
        "probe"
        not in run("juju", "status", "other").stdout.partition("App")[2].partition("Charm")[0]
    )
    shown = json.loads(probe.cli("status", "other/1", "--format", "json"))
    assert list(shown["applications"]) == ["other"]
    assert list(shown["applications"]["other"]["units"]) == ["other/1"]
    assert "relations" not in shown
    assert "probe/0" in probe.cli("status", "pr*")
    with pytest.raises(jubilant.CLIError, match="nothing matched specified filter"):
        probe.cli("status", "none")


def test_colours_are_for_terminals_or_on_request(probe: jubilant.Juju):
    assert "\x1b[" not in run("juju", "status").stdout
    assert "\x1b[32mactive" in run("juju", "status", "--color").stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["frobnicate"], '"frobnicate" is not a juju command'),
        (["add-relation", "a", "b"], "use `juju integrate`"),
        (["wait-for", "application", "a"], "juju status --watch"),
        (["add-secret-backend", "vault"], "keeps secrets in its own state file"),
        (["status", "--frob"], "option provided but not defined: --frob"),
        (["deploy", "./x.charm", "--constraints", "mem=1G"], "onebox sets no limits on pods"),
        (["deploy", "./x.charm", "--to=1"], "onebox has one machine"),
        (["status", "--format", "oneline"], "invalid choice: 'oneline'"),
        (["config"], "application"),
        (["run", "probe/0", "x", "--wait", "5"], 'invalid duration "5"'),
        (["add-model", "x", "--config", "novalue"], 'expected "key=value"'),
    ],
)
def test_what_is_not_there_is_named(world: model.World, words: list[str], text: str):
    done = run("juju", *words)

    assert done.returncode == 2
    assert done.stderr.startswith("ERROR ")
    assert text in done.stderr
    assert done.stdout == ""


def test_help_lists_every_command_and_explains_each(where: home.Home):
    listed = run("juju", "help").stdout

    for name in ("status", "integrate", "relate", "add-secret", "debug-log"):
        assert f"\n  {name} " in listed
    assert "--overlay" in run("juju", "help", "deploy").stdout
    assert "--overlay" in run("juju", "deploy", "--help").stdout


def test_the_command_line_starts_without_slow_imports():
    text = "import sys, onebox.cli; print(sorted({'yaml', 'msgspec', 'jinja2'} & {*sys.modules}))"

    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


def test_a_reader_that_has_seen_enough_is_no_error(probe: jubilant.Juju):
    with subprocess.Popen(
        [BIN / "juju", "help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == ""


def test_commands_work_through_links_and_beside_modules_of_other_names(
    probe: jubilant.Juju, tmp_path: pathlib.Path
):
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')\n")
    (tmp_path / "link").symlink_to(BIN / "juju")

    done = subprocess.run(
        [tmp_path / "link", "status", "probe"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "probe/0*" in done.stdout


# The client.


def test_a_daemon_that_is_not_there_is_not_started_to_be_stopped(where: home.Home):
    done = run("onebox", "stop")

    assert done.returncode == 1
    assert done.stderr == "ERROR the onebox daemon is not running\n"


def test_a_daemon_that_does_not_start_is_told_with_the_end_of_its_log(
    where: home.Home, monkeypatch: pytest.MonkeyPatch
):
    # A directory in the place of its saved models: the daemon cannot read them.
    where.state.mkdir()
    monkeypatch.setenv("PATH", f"{BIN}:{pathlib.Path(sys.executable).parent}:/bin")

    with pytest.raises(client.ApiError, match="does not start; the end of its log"):
        client.call("status")


def test_a_daemon_that_another_client_is_starting_is_waited_for(where: home.Home):
    # GIVEN another client's daemon, which does not listen yet
    with (where.path / "daemon.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            answer = pool.submit(client.ensure_daemon)
            # WHEN the one that this client starts has given up
            with pytest.raises(concurrent.futures.TimeoutError):
                answer.result(timeout=2)
            assert "already runs" in (where.path / "daemon.log").read_text()
            # THEN the client is served by the other
            with socketserver.UnixStreamServer(
                str(where.socket), socketserver.StreamRequestHandler
            ):
                answer.result(timeout=20).close()


def test_a_daemon_that_dies_at_work_is_told(where: home.Home):
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b'{"progress": "half way"}\n' * 3)

    heard: list[str] = []
    with socketserver.UnixStreamServer(str(where.socket), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(client.ApiError, match="ended while it worked on status"):
            client.call("status", progress=heard.append)

    assert heard == ["half way"]


# The debug-log.

LINES = [
    {"entity": "unit-probe-0", "level": "DEBUG", "module": "unit.probe/0.hook", "message": "1"},
    {"entity": "unit-probe-0", "level": "INFO", "module": "unit.probe/0.juju-log", "message": "2"},
    {
        "entity": "unit-other-1",
        "level": "ERROR",
        "module": "unit.other/1.juju-log",
        "message": "3",
    },
    {"entity": "controller", "level": "WARNING", "module": "onebox", "message": "4"},
]


@pytest.fixture
def log(juju: jubilant.Juju, where: home.Home) -> pathlib.Path:
    path = where.model("m") / "debug.log"
    path.write_text("".join(json.dumps({"time": SINCE, **line}) + "\n" for line in LINES))
    return path


def test_the_log_is_shown_as_juju_does(juju: jubilant.Juju, log: pathlib.Path):
    assert juju.cli("debug-log", "--utc").splitlines()[1] == (
        "unit-probe-0: 10:40:00 INFO unit.probe/0.juju-log 2"
    )
    assert len(juju.debug_log().splitlines()) == 4
    assert [line[-1] for line in juju.debug_log(limit=2).splitlines()] == ["3", "4"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--include", "probe/0"], "12"),
        (["-i", "unit-other-1"], "3"),
        (["-i", "probe/*,controller"], "124"),
        (["--exclude", "probe/0"], "34"),
        (["--level", "warning"], "34"),
        (["--include-module", "unit.probe"], "12"),
        (["--exclude-module", "unit"], "4"),
        (["--limit", "1", "--replay"], "4"),
    ],
)
def test_the_log_is_filtered(juju: jubilant.Juju, log: pathlib.Path, words: list[str], shown: str):
    found = juju.cli("debug-log", *words)

    assert "".join(line[-1] for line in found.splitlines()) == shown


def test_a_log_is_followed_and_half_a_line_is_waited_for(log: pathlib.Path):
    lines = debuglog.read(log, debuglog.Filter(), last=1, follow=True)
    assert next(lines)["message"] == "4"

    whole = json.dumps({"time": SINCE, **LINES[3], "message": "h\u00e9"}, ensure_ascii=False)
    # The first write ends within a character.
    first, second = whole.encode().split(b"\xa9")
    _append(log, first)
    threading.Timer(0.3, _append, [log, b"\xa9" + second + b"\n"]).start()
    assert next(lines)["message"] == "h\u00e9"


def _append(path: pathlib.Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


@hypothesis.given(st.text())
def test_any_pattern_is_only_a_pattern(pattern: str):
    line = {"time": SINCE, **LINES[0]}

    assert debuglog.Filter(include=[pattern]).accepts(line) in {True, False}
    assert debuglog.Filter(include=["probe/0", pattern]).accepts(line)
    assert not debuglog.Filter(exclude=["probe/0", pattern]).accepts(line)
