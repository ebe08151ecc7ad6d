"""What `onebox fault` breaks is whole again by itself, and nothing that was acknowledged is lost.

Killed workloads and containers and lost leadership are in `test_story.py`, full volumes in
`test_volumes.py`, a killed daemon and a machine that lost power in `test_up.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from onebox import stack
from tests.e2e import byhand, machine, users

POSTGRESQL, MINIO = "postgresql-k8s", "minio"


def until(what: str, holds: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.2)


def present() -> dict[str, object]:
    """Return the mounts there are, and how many processes Pebble runs in each container."""
    running = {
        f"{pod}.{container}": len(list(machine.children(pid)))
        for pod, container, pid in machine.containers(users.HOME, byhand.MODEL)
        if container != "sandbox"
    }
    return {**running, "mounts": machine.mounts(users.HOME)}


def fault(kind: str, **more: object) -> str:
    """Break something; return why it could not be broken."""
    return machine.fault(kind, model=byhand.MODEL, **more)


@pytest.fixture(scope="module")
def login(hand: byhand.Hand) -> tuple[str, str]:
    """The login of the proxy, which is in front of the server now; a model is served."""
    hand.ensure_models()
    hand.ensure_proxy()
    hand.story("unbreakable")
    return hand.credentials()


@pytest.fixture
def whole(hand: byhand.Hand, login: tuple[str, str]) -> Iterator[None]:
    """A run that was logged before is there after, all is served, and nothing is left over."""
    logged = hand.client.session("log_run")["log_run"]
    before = present()
    yield
    users.until(hand.juju, lambda _: served(hand, login))
    users.settle(hand.juju)
    assert logged in hand.client.session("runs")["runs"]
    until(f"as before: {before}", lambda: present() == before)


def served(hand: byhand.Hand, login: tuple[str, str]) -> bool:
    """Return whether the page and a prediction come."""
    return users.answers(lambda: hand.page(login)) and users.answers(hand.predict)


@pytest.mark.usefixtures("whole")
def test_frozen_servers_go_on() -> None:
    # WHEN database, object store and tracking server have no processor for a while
    for unit, container in (
        (f"{POSTGRESQL}/0", "postgresql"),
        (f"{MINIO}/0", "minio"),
        (f"{stack.SERVER}/0", "mlflow"),
    ):
        assert fault("freeze", unit=unit, container=container, seconds=8) == ""
    assert len(machine.stopped(users.HOME)) > 3
    # THEN they go on
    until("all go on", lambda: not machine.stopped(users.HOME))


@pytest.mark.usefixtures("whole")
def test_a_network_that_is_cut_and_slow_mends(hand: byhand.Hand) -> None:
    # WHEN the tracking server cannot reach its database, and the object store answers slowly
    assert fault("slow", unit=f"{MINIO}/0", rate="256kbit", seconds=15) == ""
    server = f"{stack.SERVER}/0"
    assert fault("cut", unit=server, other=f"{POSTGRESQL}/0", seconds=10) == ""
    meanwhile = hand.client.session("log_run")["log_run"]
    # THEN what is acknowledged meanwhile stays
    if isinstance(meanwhile, str):
        assert meanwhile in hand.client.session("runs")["runs"]


@pytest.mark.usefixtures("whole")
def test_hooks_killed_half_way_are_run_again(hand: byhand.Hand) -> None:
    juju = hand.juju
    changed = {stack.SERVER: "log-level", stack.MODELS: "log-level", stack.PROXY: "realm"}
    try:
        # GIVEN an option that changes in each of the charms
        for application, option in changed.items():
            juju.config(application, {option: "error"})
            # WHEN the hook that is to carry it out is killed
            until(
                f"a hook of {application} is killed",
                lambda unit=f"{application}/0": not fault("kill-hook", unit=unit),
            )
        # THEN it comes into effect all the same
        users.settle(juju)
        assert 'realm="error"' in hand.page().headers["WWW-Authenticate"]
    finally:
        for application, option in changed.items():
            juju.config(application, reset=[option])
    users.settle(juju)
    assert 'realm="MLflow"' in hand.page().headers["WWW-Authenticate"]


@pytest.mark.usefixtures("whole")
def test_all_pods_killed_at_once_come_back() -> None:
    before = pebbles()
    assert fault("kill-pods") == ""
    # THEN each container has a new one
    until("all are new", lambda: renewed(before, pebbles()), users.TIMEOUT)


def pebbles() -> dict[tuple[str, str], int]:
    found = machine.containers(users.HOME, byhand.MODEL)
    return {(pod, name): pid for pod, name, pid in found if name != "sandbox"}


def renewed(before: dict[tuple[str, str], int], after: dict[tuple[str, str], int]) -> bool:
    return before.keys() == after.keys() and not before.items() & after.items()
