"""The daemon is killed between any two of its writes, and comes to the same end.

A scripted story runs against a daemon that is killed again and again, each time after another
number of writes, and against one that is left alone.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import random
import typing
from collections.abc import Callable

import pytest

from onebox import client, daemon, down, model, pebble, pods
from tests.e2e import machine
from tests.functional import box as boxes

KILLS = 30


class KilledError(Exception):
    """The daemon was killed before it had answered."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A command, and how its effect is seen.

    Attributes:
        method: the request.
        params: its parameters.
        seen: whether it is in effect, of the model as it is saved.
        settled: whether it is refused as long as something before it is under way.
    """

    method: str
    params: dict[str, typing.Any]
    seen: Callable[[model.Model], bool]
    settled: bool = False


def story(charm: pathlib.Path) -> list[Step]:
    def deploy(name: str, units: int, **more: typing.Any) -> Step:
        return Step(
            "deploy",
            {
                "charm": str(charm),
                "application": name,
                "num_units": units,
                "resources": {"work-image": boxes.IMAGE},
                **more,
            },
            lambda m: name in m.applications,
        )

    def remove(name: str) -> Step:
        return Step(
            "remove_application",
            {"application": name, "destroy_storage": True},
            lambda m: name not in m.applications or m.applications[name].life is model.Life.DYING,
        )

    def related(m: model.Model) -> bool:
        return any(not r.peer and r.life is model.Life.ALIVE for r in m.relations.values())

    ends = {"a": "a:giver", "b": "b:taker"}
    return [
        deploy("a", 2),
        deploy("b", 1, storage={"data": "16M"}),
        Step("integrate", ends, related),
        Step(
            "config_set",
            {"application": "a", "values": {"number": "2"}},
            lambda m: m.applications["a"].config.get("number") == 2,
        ),
        Step(
            "add_secret",
            {"name": "mine", "content": {"key": "value"}},
            lambda m: [s.name for s in m.secrets.values()] == ["mine"],
        ),
        Step(
            "run",
            {"unit": "a/0", "action": "answer", "params": {"text": "x", "wait": 1}},
            lambda m: len(m.operations) == 1,
        ),
        deploy("c", 1),
        Step(
            "scale",
            {"application": "a", "scale": 1},
            lambda m: m.applications["a"].scale == 1,
        ),
        Step("remove_relation", ends, lambda m: not related(m)),
        Step(
            "config_set",
            {"application": "b", "values": {"number": "3"}},
            lambda m: m.applications["b"].config.get("number") == 3,
        ),
        remove("c"),
        # A dying relation is still in the way of a new one.
        Step("integrate", ends, related, settled=True),
        Step(
            "scale",
            {"application": "a", "scale": 3},
            lambda m: m.applications["a"].scale == 3,
        ),
    ]


class Mortal:
    """A onebox whose daemon is killed a number of times, and started again each time.

    Attributes:
        box: the onebox.
        kills: how many kills are left.
        doomed: whether the daemon of now is one that dies on its way.
    """

    def __init__(self, box: boxes.Box, rng: random.Random, kills: int):
        self.box = box
        self.kills = kills
        self.doomed = False
        self._rng = rng
        if kills:
            box.kill_daemon()
            self.start()

    def start(self) -> None:
        """Start the daemon until one answers; the state that the last one left is whole."""
        while True:
            self.saved()
            self.doomed = self.kills > 0
            if not self.doomed:
                self.box.start_daemon()
                return
            self.kills -= 1
            point = [str(self._rng.randint(0, most)) for most in (20, 12)]
            self.box.launch(str(boxes.DATA / "mortal.py"), *point)
            while self.box.daemon.poll() is None:
                if self.box.answers():
                    return

    def saved(self) -> model.Model:
        """Read the state file."""
        return daemon.load(self.box.home.state).models[self.box.model]

    def call(self, method: str, **params: typing.Any) -> typing.Any:
        try:
            return self.box.call(method, **params)
        except client.ApiError:
            if not self.box.ended(1):
                raise
        self.start()
        raise KilledError

    def settle(self) -> None:
        """Wait until nothing is to do, however often the daemon dies meanwhile."""
        while True:
            try:
                return self.call("settle", timeout=120)
            except KilledError:
                continue

    def carry_out(self, step: Step) -> None:
        """Give a command until it is acknowledged or seen; acknowledged, it stays in effect."""
        while True:
            try:
                self.call(step.method, **step.params)
            except KilledError:
                if step.seen(self.saved()):
                    return
            else:
                assert step.seen(self.saved()), step
                return


def end(mortal: Mortal, steps: list[Step], rng: random.Random) -> object:
    """Carry out a story and return what has become of it."""
    for step in steps:
        if step.settled:
            mortal.settle()
        mortal.carry_out(step)
        if rng.random() < 0.5:
            mortal.settle()
            assert step.seen(mortal.saved()), step
    mortal.settle()
    while mortal.doomed:
        # What is at rest has to survive as well: the number is that of kills, whatever the speed.
        mortal.box.kill_daemon()
        mortal.start()
        mortal.settle()
    found = mortal.saved()
    return (
        {
            name: (
                app.scale,
                app.config,
                bool(app.leader),
                {unit: view.status.current for unit, view in app.units.items()},
            )
            for name, app in found.applications.items()
        },
        sorted(
            (sorted(map(str, r.endpoints)), sorted(r.scope), r.life)
            for r in found.relations.values()
        ),
        [secret.name for secret in found.secrets.values()],
        sorted((s.unit, s.name, s.size, s.attached) for s in found.storage.values()),
        sorted(pods.Podman(mortal.box.home.prefix, None, mortal.box.home.path).pods()),
    )


@pytest.fixture(scope="module")
def charm(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return boxes.zipped("plain", tmp_path_factory.mktemp("build"))


def test_a_daemon_killed_between_any_two_writes_comes_to_the_same_end(
    charm: pathlib.Path,
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    # GIVEN where the story ends when nobody interferes
    with boxes.new() as box:
        expected = end(Mortal(box, random.Random(seed), 0), story(charm), random.Random(seed))
    with boxes.new() as box:
        # WHEN the daemon is killed on the way, again and again
        mortal = Mortal(box, random.Random(seed), KILLS)
        # THEN it ends there, too
        assert end(mortal, story(charm), random.Random(seed)) == expected
        # AND the action has come to an end, if perhaps a bad one
        assert {o.status for o in mortal.saved().operations.values()} <= {"completed", "failed"}
        # AND nothing is left over once the applications are removed
        for name in "ab":
            box.call("remove_application", application=name, destroy_storage=True)
        box.until("gone", lambda: not mortal.saved().applications)
        assert leftovers(box) == []


def test_a_pebble_that_is_up_before_its_pod_is_known_is_not_forgotten(
    charm: pathlib.Path,
) -> None:
    with boxes.new() as box:
        # GIVEN a machine that is slow to say that a pod is there
        box.kill_daemon()
        box.launch(str(boxes.DATA / "slow.py"))
        box.until("the daemon answers", box.answers)
        box.deploy(charm, "a")
        box.settle()
        # WHEN a pod is lost and made anew
        since = box.mark()
        box.call("fault", kind="kill-pods")
        box.until("seen", lambda: len(box.hooks(since=since)) > 0)
        # THEN its Pebble is ready before the one who watches it would look again by himself
        box.settle(timeout=pebble.LONG_POLL / 2)
        assert "work-pebble-ready" in box.hooks("a/0", since)


def test_no_daemon_starts_while_one_is_taken_down() -> None:
    with boxes.new() as box:
        # GIVEN a onebox that is being removed
        with down.without_daemon(box.home) as killed:
            assert killed == [box.daemon.pid]
            assert box.ended(1)
            # WHEN somebody looks at its status, as another terminal may do all the time
            box.launch("-m", "onebox.daemon")
            # THEN that brings nothing back
            assert box.daemon.wait(30) == os.EX_TEMPFAIL
        box.start_daemon()


def leftovers(box: boxes.Box) -> list[str]:
    """Return what is there besides the daemon and its files."""
    label = f"label=onebox={box.home.prefix}"
    found = pods.podman("ps", "--all", "--filter", label, "--format", "{{.Names}}").split()
    found += [str(pid) for pid in machine.processes(box.home) if pid != box.daemon.pid]
    found += machine.mounts(box.home)
    places = [pathlib.Path("/run") / box.home.prefix, box.home.model(box.model) / "storage"]
    places += [path.parent for path in box.home.model(box.model).glob("*/hook.pid")]
    return found + [str(path) for place in places for path in place.glob("*")]
