"""One stack, made by `make up` in a home of its own, that end-to-end tests share.

Each test leaves it as it has found it: active, with the same applications and relations. So that
a stack of the same checkout, or of another, is not disturbed, the home (and with it the names of
pods and network), the port and the subnet are the tests' own. When several processes run the
tests (`pytest -n 3 --dist loadscope`), each has a onebox and takes one of the groups.

    E2E_KEEP=1   leave the stack there for the next run, which then takes it over
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import time
from collections.abc import Generator, Iterator

import jubilant
import pytest
from xdist import remote, scheduler

from onebox import home, pods, stack, up
from tests.e2e import byhand, machine, users

HOME = users.HOME

GROUPS = (
    ("test_story",),
    ("test_browser", "test_docs", "test_up", "test_input", "test_notebook", "test_secrets"),
    ("test_commands", "test_faults", "test_mariadb", "test_volumes", "test_public_images"),
)
"""Modules in their order. The groups take equally long: two with a bundle each, and one whose
modules share a model that needs none."""


class _ByGroup(scheduler.LoadScopeScheduling):
    """Gives each process one group after the other; a module in no group is one by itself."""

    def _split_scope(self, nodeid: str) -> str:
        name = pathlib.Path(nodeid.partition("::")[0]).stem
        return next((modules[0] for modules in GROUPS if name in modules), name)


def pytest_xdist_make_scheduler(
    config: pytest.Config, log: remote.Producer
) -> scheduler.LoadScopeScheduling:
    return _ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = (name for modules in GROUPS for name in modules)
    order = {name: number for number, name in enumerate(names)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session", autouse=True)
def environment() -> Iterator[None]:
    """The environment that every command of the tests sees, for the tests' own onebox."""
    others = pods.published(but=HOME.prefix)
    candidates = list(up.candidate_ports(HOME))[1:]
    port = next(port for port in candidates if port not in others and up.free(port))
    kept = HOME.path / "port"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONEBOX_HOME", str(HOME.path))
        patch.setenv("PORT", kept.read_text() if kept.exists() else str(port))
        patch.delenv("SUBNET", raising=False)
        patch.setenv("PATH", f"{stack.JUJU.parent}:{os.environ['PATH']}")
        yield


@pytest.fixture(scope="session")
def emptied(environment: None) -> Generator[None]:
    """A onebox with nothing in it, and at the end the `make down` that must leave nothing."""
    keep = bool(os.environ.get("E2E_KEEP"))
    if not keep:
        # What a run that was killed has left behind.
        users.make("down")
    yield
    if not keep:
        done = users.make("down")
        assert done.returncode == 0, done.stderr
        assert machine.leftovers(HOME) == []


@pytest.fixture(scope="session")
def made(emptied: None) -> users.Made:
    """The first `make up`."""
    began = time.monotonic()
    done = users.make("up")
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    return users.Made(done.stdout, done.stderr, seconds, machine.starts(HOME, stack.MODEL))


@pytest.fixture(scope="session")
def access(made: users.Made) -> stack.Access:
    return stack.find_access()


@pytest.fixture(scope="session")
def client(made: users.Made, access: stack.Access) -> Generator[users.Client]:
    """MLflow's client with the login."""
    with users.Client(access.environment()) as client:
        yield client


@pytest.fixture
def juju(made: users.Made) -> jubilant.Juju:
    return jubilant.Juju(model=stack.MODEL)


@pytest.fixture(scope="session")
def hand(emptied: None) -> Generator[byhand.Hand]:
    """A second model, in which charms are deployed one by one."""
    juju = jubilant.Juju(model=byhand.MODEL)
    models = json.loads(juju.cli("models", "--format", "json", include_model=False))["models"]
    if byhand.MODEL in {model["short-name"] for model in models}:
        juju.destroy_model(byhand.MODEL, destroy_storage=True, force=True)
    juju.add_model(byhand.MODEL)
    with users.Client({"MLFLOW_TRACKING_URI": byhand.TRACKING_URI}, inside=True) as client:
        yield byhand.deploy(juju, client)
    juju.destroy_model(byhand.MODEL, destroy_storage=True, force=True)


@pytest.fixture
def elsewhere(tmp_path: pathlib.Path) -> Generator[users.Elsewhere]:
    """Another checkout's onebox on this machine, empty; removed at the end."""
    place = home.Home(HOME.path.with_name(f"{HOME.path.name}-b"))
    shutil.rmtree(place.path, ignore_errors=True)
    other = users.Elsewhere(place, tmp_path)
    yield other
    done = other.make("down")
    assert done.returncode == 0, done.stderr
    assert machine.leftovers(place) == []
