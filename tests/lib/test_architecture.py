"""The sources keep the rules of the architecture, and each rule can tell a breach."""

from __future__ import annotations

import ast
import functools
import textwrap
import tomllib
from pathlib import Path

import architecture
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("charms", "lib", "onebox", "tools", "tests", "examples", "images")


@functools.cache
def _sources(pattern: str = "*.py") -> list[Path]:
    return sorted(
        path
        for top in SOURCES
        for path in (ROOT / top).rglob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    )


@functools.cache
def _module(path: Path) -> architecture.Module:
    return _parse(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))


def _parse(path: str, source: str) -> architecture.Module:
    return architecture.Module(path, ast.parse(textwrap.dedent(source)))


@pytest.mark.parametrize("rule", architecture.RULES, ids=lambda rule: rule.name)
def test_sources_keep_the_rule(rule: architecture.Rule):
    # GIVEN every source that the rule is about
    covered = [path for path in _sources() if rule.covers(str(path.relative_to(ROOT)))]
    assert covered, "the rule covers no file, so it holds nothing"
    # WHEN they are read, THEN the rule has nothing against them
    objections = [
        str(objection) for path in covered for objection in rule.objections(_module(path))
    ]
    assert objections == []


# A breach of each rule, in a file where the rule holds.
BREACHES = [
    ("no_defer", "charms/x/src/charm.py", "event.defer()"),
    ("no_stored_state", "charms/x/src/charm.py", "class C:\n    s = ops.StoredState()"),
    ("no_stored_state", "lib/mlflow_kit/x.py", "s = StoredState()"),
    ("no_event_beside_another", "charms/x/src/charm.py", "f.observe(on['db'].relation_joined, g)"),
    ("no_event_beside_another", "charms/x/src/charm.py", "f.observe(self.on.install, g)"),
    ("no_event_beside_another", "charms/x/src/charm.py", "for event in (on.start, on.stop): pass"),
    ("status_is_collected", "charms/x/src/charm.py", "self.unit.status = ops.ActiveStatus()"),
    ("status_is_collected", "onebox/charms/x/src/charm.py", "self.app.status: object = x"),
    (
        "status_is_added_in_its_handler",
        "charms/x/src/charm.py",
        "def _on_start(self, event): event.add_status(x)",
    ),
    ("narrow_except", "onebox/x.py", "try: f()\nexcept Exception: g()"),
    ("narrow_except", "tools/x.py", "try: f()\nexcept: g()"),
    ("narrow_except", "charms/x/workload/x.py", "try: f()\nexcept (KeyError, Exception): g()"),
    ("narrow_except", "lib/mlflow_kit/x.py", "try: f()\nexcept BaseException: g()"),
    ("no_print", "lib/mlflow_kit/interfaces/x.py", "print(1)"),
    ("no_shell", "onebox/x.py", "subprocess.run(c, shell=True)"),
    ("no_shell", "tools/x.py", "subprocess.run(c, shell=flag)"),
    ("no_shell", "charms/x/workload/x.py", "os.system(c)"),
    ("no_shell", "examples/x.py", "subprocess.getoutput(c)"),
    ("pure_modules_know_no_juju", "charms/x/src/mlflow.py", "import ops"),
    ("pure_modules_know_no_juju", "charms/x/src/publish.py", "from ops import pebble"),
    ("pure_modules_know_no_juju", "charms/x/src/config.py", "def f():\n    import subprocess"),
    ("state_reads_the_inputs", "charms/x/src/charm.py", "self.config['port']"),
    ("state_reads_the_inputs", "charms/x/src/charm.py", "self.model.config.get('port')"),
    ("state_reads_the_inputs", "charms/x/src/charm.py", "self.load_config(Config)"),
    ("state_reads_the_inputs", "charms/x/src/charm.py", "relation.data[relation.app].get(k)"),
    ("state_reads_the_inputs", "charms/x/src/charm.py", "self.model.get_secret(id=x)"),
    ("state_reads_the_inputs", "charms/x/src/publish.py", "model.get_secret(id=x, label=y)"),
    ("one_caller_of_pebble", "charms/x/src/charm.py", "container.push('/x', '')"),
    ("one_caller_of_pebble", "charms/x/src/charm.py", "self._container.exec(['x'])"),
    ("one_caller_of_pebble", "lib/mlflow_kit/x.py", "container.replan()"),
    ("interfaces_know_the_keys", "charms/x/src/state.py", "relation.data[app]['endpoints']"),
    ("interfaces_know_the_keys", "charms/x/src/state.py", "bag.get('endpoints')"),
    ("interfaces_know_the_keys", "charms/x/src/charm.py", "databag.save(bag, {'url': url})"),
    ("charms_know_no_onebox", "charms/x/src/charm.py", "from onebox import model"),
    ("charms_know_no_onebox", "onebox/charms/x/src/charm.py", "import onebox.home"),
    ("library_knows_no_charm", "lib/mlflow_kit/x.py", "import state"),
    ("heavy_imports_wait", "charms/x/src/x.py", "import boto3"),
    ("heavy_imports_wait", "lib/mlflow_kit/x.py", "from lightkube.core import client"),
    ("heavy_imports_wait", "charms/x/src/x.py", "try: import jinja2\nexcept ImportError: raise"),
    ("values_are_frozen", "charms/x/src/state.py", "@dataclasses.dataclass\nclass State: pass"),
    (
        "values_are_frozen",
        "lib/mlflow_kit/x.py",
        "@dataclass(frozen=False, kw_only=True)\nclass Plan: pass",
    ),
    ("pods_know_podman", "onebox/x.py", "run(['podman', 'ps'])"),
    ("pods_know_podman", "onebox/commands/x.py", "run('podman', 'ps')"),
]

# What comes close to a breach and is none.
FINE = [
    ("no_defer", "charms/x/src/charm.py", "self.defer_nothing()"),
    ("status_is_collected", "charms/x/src/charm.py", "status = self.unit.status"),
    (
        "status_is_added_in_its_handler",
        "charms/x/src/charm.py",
        "def _on_collect_unit_status(self, event): event.add_status(x)",
    ),
    ("narrow_except", "onebox/x.py", "try: f()\nexcept (OSError, ValueError): g()"),
    ("narrow_except", "onebox/x.py", "try: f()\nexcept BaseException:\n    g()\n    raise"),
    ("no_shell", "onebox/x.py", "subprocess.run(c, shell=False)"),
    ("pure_modules_know_no_juju", "charms/x/src/state.py", "import ops"),
    (
        "pure_modules_know_no_juju",
        "charms/x/src/mlflow.py",
        "if typing.TYPE_CHECKING:\n    import ops",
    ),
    ("state_reads_the_inputs", "charms/x/src/charm.py", "databag.save(relation.data[app], out)"),
    ("state_reads_the_inputs", "charms/x/src/charm.py", "state.config.port"),
    ("state_reads_the_inputs", "charms/x/src/charm.py", "self.model.get_secret(label=OWN)"),
    ("one_caller_of_pebble", "lib/mlflow_kit/workload.py", "container.push('/x', '')"),
    ("interfaces_know_the_keys", "lib/mlflow_kit/interfaces/x.py", "bag.get('endpoints')"),
    ("interfaces_know_the_keys", "charms/x/src/state.py", "postgresql_client.read(bag)"),
    ("heavy_imports_wait", "charms/x/src/x.py", "def f():\n    import boto3"),
    ("heavy_imports_wait", "charms/x/src/x.py", "if TYPE_CHECKING:\n    import boto3"),
    ("values_are_frozen", "charms/x/src/x.py", "@dataclasses.dataclass(frozen=True)\nclass S: 1"),
    ("pods_know_podman", "onebox/pods.py", "run(['podman', 'ps'])"),
    ("pods_know_podman", "onebox/x.py", "shutil.which('podman')"),
]


@pytest.mark.parametrize(("name", "path", "source"), BREACHES)
def test_rule_tells_a_breach(name: str, path: str, source: str):
    assert name in _broken_rules(path, source)


@pytest.mark.parametrize(("name", "path", "source"), FINE)
def test_rule_lets_pass_what_is_fine(name: str, path: str, source: str):
    assert name not in _broken_rules(path, source)


def _broken_rules(path: str, source: str) -> set[str]:
    module = _parse(path, source)
    return {rule.name for rule in architecture.RULES if list(rule.objections(module))}


def test_every_rule_is_proved():
    assert {name for name, _, _ in BREACHES} == {rule.name for rule in architecture.RULES}


def test_no_symbolic_links():
    """charmcraft's plugins copy links as links, and they point nowhere inside a unit."""
    assert [path for path in _sources("*") if path.is_symlink()] == []


def test_no_suppressed_checks():
    # Written in two halves, so that this file is not one of those it looks for.
    marks = (
        "# no" + "qa",
        "# type: " + "ignore",
        "# pyright: " + "ignore",
        "pragma: " + "no cover",
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in _sources()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if any(mark in line for mark in marks)
    ]
    assert found == []


def _charms() -> list[Path]:
    return sorted(
        path.parent
        for pattern in ("charms/*/charmcraft.yaml", "onebox/charms/*/charmcraft.yaml")
        for path in ROOT.glob(pattern)
    )


@pytest.mark.parametrize("charm", _charms(), ids=lambda charm: charm.name)
def test_every_charm_is_type_checked(charm: Path):
    """Without an entry of its own, a charm's modules would be mixed up with another one's."""
    pyright = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]
    roots = {entry["root"] for entry in pyright["executionEnvironments"]}
    assert str(charm.relative_to(ROOT) / "src") in roots


@pytest.mark.parametrize("charm", _charms(), ids=lambda charm: charm.name)
def test_tests_run_with_the_versions_that_are_packed(charm: Path):
    # GIVEN the versions that go into the charm, and those that the tests run with
    packed = dict(_locked_versions(charm / "uv.lock"))
    tested = _locked_versions(ROOT / "uv.lock")
    project = tomllib.loads((charm / "pyproject.toml").read_text())["project"]["name"]
    # THEN they are the same
    packed.pop(project)
    # Only Python 3.10 needs backports, and the tests run on a newer one.
    differing = {
        name: (version, tested.get(name))
        for name, version in packed.items()
        if name in tested and tested[name] != version
    }
    assert differing == {}


@functools.cache
def _locked_versions(lock: Path) -> dict[str, str | None]:
    packages = tomllib.loads(lock.read_text())["package"]
    return {package["name"]: package.get("version") for package in packages}


@pytest.mark.parametrize("charm", _charms(), ids=lambda charm: charm.name)
def test_every_charm_has_its_files(charm: Path):
    required = ["pyproject.toml", "uv.lock", "src/charm.py"]
    if charm.parent == ROOT / "charms":
        required += ["README.md", "icon.svg", "tests/unit"]
    for name in required:
        assert (charm / name).exists(), f"{charm.name} has no {name}"
    described = yaml.safe_load((charm / "charmcraft.yaml").read_text())
    assert described["name"] == charm.name
