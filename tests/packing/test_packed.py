"""A packed charm is complete, small, the same each time, and runs on any Python from 3.10 on."""

from __future__ import annotations

import ast
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pack
import pytest
import stage
import yaml
from conftest import NOOP

MAX_MEGABYTES = 3.0

HOOK_TOOL = Path(__file__).parent / "hook-tool.sh"
HOOK_TOOLS = [
    "action-fail",
    "action-get",
    "action-log",
    "action-set",
    "application-version-set",
    "close-port",
    "config-get",
    "goal-state",
    "is-leader",
    "juju-log",
    "network-get",
    "open-port",
    "opened-ports",
    "relation-get",
    "relation-ids",
    "relation-list",
    "relation-model-get",
    "relation-set",
    "resource-get",
    "secret-add",
    "secret-get",
    "secret-grant",
    "secret-ids",
    "secret-info-get",
    "secret-remove",
    "secret-revoke",
    "secret-set",
    "state-delete",
    "state-get",
    "state-set",
    "status-get",
    "status-set",
    "storage-add",
    "storage-get",
    "storage-list",
]


def _pythons() -> dict[str, str]:
    """The interpreters of this machine that a charm has to run on, by version."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for minor in range(10, 15):
        program = shutil.which(f"python3.{minor}")
        # A version manager may have a program of that name which only says that it is not there.
        if program is None:
            continue
        done = subprocess.run([program, "-c", ""], check=False, capture_output=True)
        if done.returncode == 0:
            found.setdefault(f"3.{minor}", program)
    return found


PYTHONS = _pythons()


@pytest.fixture(scope="session")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where charms are unpacked, each of them once."""
    return tmp_path_factory.mktemp("agents")


@pytest.fixture
def unpacked(charm: Path, packed: dict[str, Path], agents: Path) -> Path:
    """The charm as Juju lays it out in a unit."""
    folder = agents / f"unit-{charm.name}-0" / "charm"
    if not folder.exists():
        with zipfile.ZipFile(packed[charm.name]) as archive:
            for info in archive.infolist():
                Path(archive.extract(info, folder)).chmod(info.external_attr >> 16 & 0o777)
    return folder


def _environment(folder: Path, python: str, tmp_path: Path) -> dict[str, str]:
    """What Juju sets for a hook, with nothing on PATH but hook tools and one Python."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in HOOK_TOOLS:
        (tools / tool).symlink_to(HOOK_TOOL)
    (tools / "python3").write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
    (tools / "python3").chmod(0o755)
    (tools / "cat").symlink_to(shutil.which("cat") or "/bin/cat")
    config = folder / "config.yaml"
    options = yaml.safe_load(config.read_text())["options"] if config.exists() else {}
    values = {name: option["default"] for name, option in options.items() if "default" in option}
    (tmp_path / "config.json").write_text(json.dumps(values))
    return {
        "PATH": str(tools),
        "HOOK_LOG": str(tmp_path / "hooks.log"),
        "HOOK_CONFIG": str(tmp_path / "config.json"),
        "JUJU_CHARM_DIR": str(folder),
        "JUJU_MODEL_NAME": "test",
        "JUJU_MODEL_UUID": "a1b2c3d4-0000-4000-8000-000000000000",
        "JUJU_UNIT_NAME": "x/0",
        "JUJU_VERSION": "3.6.11",
    }


def _dispatch(folder: Path, environ: dict[str, str], path: str, hook: str) -> str:
    """Run one event as Juju does and answer with the hook tools that it called."""
    log = Path(environ["HOOK_LOG"])
    log.write_text("")
    done = subprocess.run(
        [folder / "dispatch"],
        check=False,
        cwd=folder,
        env=environ | {"JUJU_DISPATCH_PATH": path, "JUJU_HOOK_NAME": hook},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return log.read_text()


@pytest.mark.parametrize("python", PYTHONS.values(), ids=PYTHONS.keys())
def test_dispatch_runs(unpacked: Path, python: str, tmp_path: Path):
    # GIVEN an unpacked charm and a unit whose containers are not up yet
    environ = _environment(unpacked, python, tmp_path)
    for event in ("leader-elected", "config-changed", "update-status"):
        # WHEN Juju dispatches an event
        calls = _dispatch(unpacked, environ, f"hooks/{event}", event)
        # THEN the charm ends well and says how it is
        statuses = [line.split()[2] for line in calls.splitlines() if "status-set" in line]
        assert statuses, calls
        assert set(statuses) <= {"active", "blocked", "maintenance", "waiting"}


@pytest.fixture
def noop(packed: dict[str, Path], tmp_path: Path) -> Path:
    """The no-op charm, unpacked."""
    folder = tmp_path / "charm"
    with zipfile.ZipFile(packed[NOOP.name]) as archive:
        archive.extractall(folder)
    (folder / "dispatch").chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("event", "other"),
    [
        ("install", "config-changed"),
        ("start", "config-changed"),
        ("ingress-relation-joined", "ingress-relation-changed"),
    ],
)
def test_dispatch_starts_nothing_for_an_event_beside_another(
    noop: Path, tmp_path: Path, event: str, other: str
):
    started = tmp_path / "started"
    environ = _environment(noop, sys.executable, tmp_path)
    (tmp_path / "tools" / "python3").write_text(f"#!/bin/sh\n: > '{started}'\n")
    _dispatch(noop, environ, f"hooks/{event}", event)
    assert not started.exists()
    _dispatch(noop, environ, f"hooks/{other}", other)
    assert started.exists()


def test_dispatch_runs_an_action(noop: Path, tmp_path: Path):
    environ = _environment(noop, sys.executable, tmp_path)
    environ |= {"JUJU_ACTION_NAME": "echo", "JUJU_ACTION_UUID": "1"}
    calls = _dispatch(noop, environ, "actions/echo", "")
    assert "action-set text=back" in calls


def _imports(folder: Path) -> set[str]:
    """The modules of a charm's src and lib, and all that they import anywhere."""
    found = set()
    for top in (folder / "src", folder / "lib"):
        for path in top.rglob("*.py"):
            parts = path.relative_to(top).with_suffix("").parts
            found.add(".".join(part for part in parts if part != "__init__"))
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module)
    return found


@pytest.mark.parametrize("python", PYTHONS.values(), ids=PYTHONS.keys())
def test_every_module_imports(unpacked: Path, python: str):
    # GIVEN all modules, and those that functions import only when they need them
    modules = sorted(_imports(unpacked))
    assert "charm" in modules
    # WHEN the charm's own environment imports them, as dispatch sets it up
    program = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run(
        [python, "-S", "-c", program, *modules],
        check=False,
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(str(unpacked / part) for part in ("src", "lib", "venv")),
        },
    )
    # THEN none is missing
    assert done.returncode == 0, done.stderr


def test_workload_programs_are_python(unpacked: Path):
    """The image's own Python runs them, and 3.10 is the oldest there is."""
    for path in (unpacked / "workload").rglob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 10))


def test_no_compiled_file(charm: Path, packed: dict[str, Path]):
    with zipfile.ZipFile(packed[charm.name]) as archive:
        for name in archive.namelist():
            assert Path(name).suffix not in {".so", ".pyc", ".pyd", ".a", ".o", ".dll"}, name
            assert not archive.read(name).startswith(b"\x7fELF"), name


def test_only_files_with_plain_modes(charm: Path, packed: dict[str, Path]):
    with zipfile.ZipFile(packed[charm.name]) as archive:
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert stat.S_IMODE(modes.pop("dispatch")) == 0o755
    for name, mode in modes.items():
        assert stat.S_ISREG(mode), name
        assert stat.S_IMODE(mode) in {0o644, 0o755}, name


def test_only_what_a_unit_needs(charm: Path, packed: dict[str, Path]):
    with zipfile.ZipFile(packed[charm.name]) as archive:
        names = set(archive.namelist())
    required = {"metadata.yaml", "manifest.yaml", "dispatch", "src/charm.py", "LICENSE"}
    assert required <= names
    assert not {"charmcraft.yaml", "uv.lock", "pyproject.toml"} & names
    assert not [name for name in names if "tests" in Path(name).parts]
    assert "lib/mlflow_kit/testing.py" not in names


def test_is_small(charm: Path, packed: dict[str, Path]):
    size = packed[charm.name].stat().st_size / 1e6
    assert size <= MAX_MEGABYTES, f"{charm.name}.charm has {size:.1f} MB"


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another build folder, in which nothing is cached from before."""
    return tmp_path_factory.mktemp("build")


def test_same_sources_same_bytes(charm: Path, packed: dict[str, Path], elsewhere: Path):
    # GIVEN a charm packed before, WHEN it is packed again elsewhere, at another time and umask
    umask = os.umask(0o077)
    try:
        again = pack.pack(charm, elsewhere)
    finally:
        os.umask(umask)
    # THEN not a byte differs
    assert again.read_bytes() == packed[charm.name].read_bytes()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A charm's folder that a test may change."""
    return Path(shutil.copytree(NOOP, tmp_path / "source" / "noop"))


def test_packs_again_only_when_something_changed(copied: Path, tmp_path: Path):
    # GIVEN a packed charm
    build = tmp_path / "build"
    first = pack.pack(copied, build).read_bytes()
    stamp = (build / "noop.charm").stat().st_mtime_ns
    # WHEN nothing changed, THEN the file is left alone
    pack.pack(copied, build)
    assert (build / "noop.charm").stat().st_mtime_ns == stamp
    # WHEN a source changed, THEN it is packed again
    source = copied / "src" / "charm.py"
    source.write_text(source.read_text() + "# a remark\n")
    assert pack.pack(copied, build).read_bytes() != first


def test_packs_again_what_was_damaged(copied: Path, tmp_path: Path):
    build = tmp_path / "build"
    whole = pack.pack(copied, build).read_bytes()
    (build / "noop.charm").write_bytes(whole[:1000])
    assert pack.pack(copied, build).read_bytes() == whole


def test_a_changed_file_has_another_date(copied: Path, tmp_path: Path):
    """Python would run old bytecode if a new revision's source had the old date and size."""

    def date() -> tuple[int, ...]:
        with zipfile.ZipFile(pack.pack(copied, tmp_path / "build")) as archive:
            return archive.getinfo("src/charm.py").date_time

    before = date()
    source = copied / "src" / "charm.py"
    source.write_text(source.read_text().replace("does nothing", "does NOTHING"))
    assert date() != before


def test_makes_a_missing_lock(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (copied / "uv.lock").unlink()
    pack.pack(copied, tmp_path / "build")
    assert (copied / "uv.lock").exists()
    assert "no uv.lock yet" in capsys.readouterr().out


def test_refuses_compiled_packages(copied: Path, tmp_path: Path):
    # GIVEN a charm that needs a package without a pure form
    project = copied / "pyproject.toml"
    project.write_text(project.read_text().replace('"ops==3.9.0"', '"ops==3.9.0", "msgspec"'))
    (copied / "uv.lock").unlink()
    # WHEN it is packed, THEN it is refused with the file's name, and no half-made .charm stays
    with pytest.raises(pack.PackError, match=r"msgspec/.*\.so: compiled"):
        pack.pack(copied, tmp_path / "build")
    assert not list((tmp_path / "build").glob("*.charm"))


def test_refuses_links(copied: Path, tmp_path: Path):
    (copied / "src" / "link.py").symlink_to("charm.py")
    with pytest.raises(stage.StageError, match=r"link\.py: a charm holds no symbolic links"):
        pack.pack(copied, tmp_path / "build")


def test_refuses_a_private_lib(copied: Path, tmp_path: Path):
    (copied / "lib").mkdir()
    with pytest.raises(stage.StageError, match="shared code belongs in lib/"):
        pack.pack(copied, tmp_path / "build")


def test_names_the_charms_there_are():
    with pytest.raises(stage.StageError, match="no charm 'mlflow-sever'; there are: "):
        stage.find("mlflow-sever")


def test_command_line_says_what_is_wrong():
    done = subprocess.run(
        [sys.executable, stage.ROOT / "tools" / "pack.py", "no-such-charm"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pack: no charm 'no-such-charm'")
