"""The order of hooks, from the model alone: what Juju runs, when, and for whom."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import strategies as st

from onebox import changes, events, model

ENDPOINTS = {
    "giver": model.EndpointSpec("giver", "probe", "provider"),
    "taker": model.EndpointSpec("taker", "probe", "requirer"),
    "replicas": model.EndpointSpec("replicas", "peers", "peer"),
}
CHARM = model.Charm("probe", "digest", "probe.charm", endpoints=ENDPOINTS)
WITH_STORAGE = model.Charm(
    "probe",
    "digest",
    "probe.charm",
    endpoints=ENDPOINTS,
    containers={"work": model.ContainerSpec("work", "image")},
    storage={"data": model.StorageSpec("data")},
)


class Machine:
    """Plays the engine: pods that come up at once, and hooks that succeed."""

    def __init__(self, seed: int | None = None) -> None:
        self.world = model.Model("m", "uuid")
        self.now = 1000.0
        self.history: list[tuple[str, str]] = []
        self._random = random.Random(seed) if seed is not None else None

    def deploy(self, name: str, units: int = 1, charm: model.Charm = CHARM) -> None:
        wanted = changes.Deploy(charm, name, {}, units, {}, {}, False, "", [])
        changes.deploy(self.world, wanted, "/storage")

    def step(self) -> bool:
        """Let one unit do one thing; False when all are at rest."""
        units = list(self.world.units())
        if self._random:
            self._random.shuffle(units)
        for unit in units:
            if self._advance(unit):
                return True
        return bool(changes.collect(self.world))

    def _advance(self, unit: model.Unit) -> bool:
        app = self.world.applications[unit.application]
        if events.settled(unit):
            changes.drop_unit(self.world, unit.name, "/storage")
            changes.collect(self.world)
            return True
        if not unit.address:
            unit.address = f"10.0.0.{len(self.history) % 200 + 1}"
            unit.pod = changes.pod_hash(app)
            changes.elect(app)
            unit.workload.extend(
                model.WorkloadEvent("pebble-ready", name) for name in app.charm.containers
            )
            return True
        choose = self._random.choice if self._random else events.first
        hook = events.next_hook(self.world, unit, self.now, choose)
        if hook is None:
            return False
        self.run(unit, hook)
        return True

    def run(self, unit: model.Unit, hook: model.Hook) -> None:
        events.join(self.world, unit)
        remote = hook.remote_unit or hook.remote_application
        self.history.append((unit.name, f"{hook.name} {remote}".strip()))
        events.succeeded(self.world, unit, hook, self.now)

    def settle(self) -> list[str]:
        """Run everything; return what ran, as ``UNIT HOOK REMOTE``."""
        start = len(self.history)
        for _ in range(2000):
            if not self.step():
                return [" ".join(entry) for entry in self.history[start:]]
        raise AssertionError("the model does not come to rest")


@pytest.fixture
def machine() -> Machine:
    return Machine()


def of(unit: str, ran: list[str]) -> list[str]:
    """Return the hooks of one unit."""
    return [line.removeprefix(f"{unit} ") for line in ran if line.startswith(f"{unit} ")]


def test_a_unit_starts_in_juju_s_order(machine: Machine) -> None:
    machine.deploy("a", charm=WITH_STORAGE)
    assert of("a/0", machine.settle()) == [
        "install",
        "replicas-relation-created a",
        "leader-elected",
        "config-changed",
        "start",
        "work-pebble-ready",
        "data-storage-attached",
    ]


def test_pebble_may_be_ready_before_config_changed_and_start() -> None:
    places = set[int]()
    for seed in range(20):
        machine = Machine(seed)
        machine.deploy("a", charm=WITH_STORAGE)
        ran = of("a/0", machine.settle())
        assert ran[0] == "install"
        places.add(ran.index("work-pebble-ready") - ran.index("config-changed"))
    assert min(places) < 0 < max(places)


def test_only_the_leader_hears_that_it_leads(machine: Machine) -> None:
    machine.deploy("a", units=2)
    ran = machine.settle()
    assert [line for line in ran if "leader-elected" in line] == ["a/0 leader-elected"]


def test_each_joined_is_followed_by_its_changed(machine: Machine) -> None:
    machine.deploy("a", units=2)
    machine.deploy("b")
    machine.settle()
    changes.integrate(machine.world, "a:giver", "b:taker")
    assert of("b/0", machine.settle()) == [
        "taker-relation-created a",
        "taker-relation-joined a/0",
        "taker-relation-changed a/0",
        "taker-relation-joined a/1",
        "taker-relation-changed a/1",
    ]


def test_the_first_relation_created_sees_all_other_relations(machine: Machine) -> None:
    machine.deploy("a")
    machine.deploy("b")
    relation = changes.integrate(machine.world, "a:giver", "b:taker")
    unit = machine.world.unit("a/0")

    def at(kind: str) -> None:
        while (hook := events.next_hook(machine.world, unit, machine.now)) is None or (
            hook.kind != kind
        ):
            assert machine.step()

    at("install")
    events.join(machine.world, unit)
    assert unit.relations == {}
    at("relation-created")
    events.join(machine.world, unit)
    assert relation.id in unit.relations
    assert len(unit.relations) == len(list(machine.world.relations_of("a"))) == 2
    assert unit.name in relation.scope


def test_application_data_that_is_there_already_comes_before_the_first_unit(
    machine: Machine,
) -> None:
    machine.deploy("a")
    machine.deploy("b")
    machine.settle()
    relation = changes.integrate(machine.world, "a:giver", "b:taker")
    relation.bag("a").data["key"] = "value"
    relation.bag("a").version += 1
    assert of("b/0", machine.settle())[:3] == [
        "taker-relation-created a",
        "taker-relation-changed a",
        "taker-relation-joined a/0",
    ]


def test_a_removed_relation_departs_then_breaks_on_both_sides(machine: Machine) -> None:
    machine.deploy("a", units=2)
    machine.deploy("b")
    relation = changes.integrate(machine.world, "a:giver", "b:taker")
    machine.settle()
    changes.remove_relation(machine.world, "a", "b", force=False)
    ran = machine.settle()
    assert of("b/0", ran) == [
        "taker-relation-departed a/0",
        "taker-relation-departed a/1",
        "taker-relation-broken a",
    ]
    assert of("a/1", ran) == ["giver-relation-departed b/0", "giver-relation-broken b"]
    assert relation.id not in machine.world.relations


def test_a_unit_that_goes_breaks_its_relations_and_the_others_see_it_depart(
    machine: Machine,
) -> None:
    machine.deploy("a", units=2, charm=WITH_STORAGE)
    machine.deploy("b")
    changes.integrate(machine.world, "a:giver", "b:taker")
    machine.settle()
    changes.scale(machine.world, "a", 1, "/storage")
    ran = machine.settle()
    assert of("b/0", ran) == ["taker-relation-departed a/1"]
    assert of("a/1", ran) == [
        "data-storage-detaching",
        "replicas-relation-departed a/0",
        "replicas-relation-broken a",
        "giver-relation-departed b/0",
        "giver-relation-broken b",
        "stop",
        "remove",
    ]
    assert "a/1" not in machine.world.applications["a"].units


def test_storage_comes_back_with_the_unit_of_the_same_number(machine: Machine) -> None:
    machine.deploy("a", units=2, charm=WITH_STORAGE)
    machine.settle()
    before = {s.unit: s.id for s in machine.world.storage.values()}
    changes.scale(machine.world, "a", 0, "/storage")
    machine.settle()
    changes.scale(machine.world, "a", 2, "/storage")
    machine.settle()
    assert {s.unit: s.id for s in machine.world.storage.values()} == before
    assert all(s.attached for s in machine.world.storage.values())


def test_a_new_pod_runs_upgrade_charm_config_changed_and_start_again(machine: Machine) -> None:
    machine.deploy("a")
    machine.settle()
    events.new_pod(machine.world.unit("a/0"))
    assert of("a/0", machine.settle()) == ["upgrade-charm", "config-changed", "start"]


def test_refresh_stops_units_one_at_a_time_from_the_highest(machine: Machine) -> None:
    machine.deploy("a", units=3)
    machine.settle()
    newer = model.Charm("probe", "newer", "probe.charm", endpoints=ENDPOINTS)
    changes.refresh(machine.world, "a", newer, {}, {})
    assert [u.name for u in machine.world.units() if u.replace] == ["a/2"]
    assert machine.settle() == ["a/2 stop"]


def test_a_failed_hook_is_retried_before_all_else_but_actions_still_run(machine: Machine) -> None:
    machine.deploy("a", charm=model.Charm("p", "d", "p", actions={"act": model.ActionSpec()}))
    machine.settle()
    unit = machine.world.unit("a/0")
    changes.configure(machine.world, "a", {}, [])
    hook = model.Hook("config-changed", "token")
    events.failed(unit, hook, machine.now, retry=True)
    changes.enqueue(machine.world, "a/0", "act", {}, "now")
    found = events.next_hook(machine.world, unit, machine.now)
    assert found is not None
    assert found.operation == 1
    unit.actions.clear()
    assert events.next_hook(machine.world, unit, machine.now) is None
    assert events.next_hook(machine.world, unit, machine.now + events.RETRY_FIRST) == hook


def test_retries_back_off_and_can_be_switched_off() -> None:
    unit = model.Unit("a/0")
    waits: list[float] = []
    for _ in range(9):
        events.failed(unit, model.Hook("start"), 0, retry=True)
        assert unit.failure is not None
        waits.append(unit.failure.retry_at)
    assert waits[:3] == [5, 10, 20]
    assert waits[-1] == events.RETRY_LONGEST
    events.failed(unit, model.Hook("start"), 0, retry=False)
    assert unit.failure is not None
    assert unit.failure.retry_at == events.NEVER


def test_what_changes_while_a_hook_runs_is_told_again(machine: Machine) -> None:
    machine.deploy("a", charm=model.Charm("p", "d", "p", options={"n": model.Option("int")}))
    machine.settle()
    unit = machine.world.unit("a/0")
    changes.configure(machine.world, "a", {"n": "1"}, [])
    hook = events.next_hook(machine.world, unit, machine.now)
    assert hook is not None
    changes.configure(machine.world, "a", {"n": "2"}, [])
    machine.run(unit, hook)
    assert machine.settle() == ["a/0 config-changed"]


def test_trust_and_addresses_are_told_by_config_changed(machine: Machine) -> None:
    machine.deploy("a")
    machine.settle()
    machine.world.applications["a"].trust = True
    assert machine.settle() == ["a/0 config-changed"]
    machine.world.unit("a/0").address = "10.9.9.9"
    assert machine.settle() == ["a/0 config-changed"]


@pytest.mark.parametrize(
    ("configured", "seconds"), [(None, 300), ("10s", 10), ("2m", 120), ("nonsense", 300)]
)
def test_update_status_comes_at_its_interval(
    machine: Machine, configured: str | None, seconds: float
) -> None:
    if configured:
        machine.world.config["update-status-hook-interval"] = configured
    machine.deploy("a")
    machine.settle()
    machine.now += seconds - 1
    assert machine.settle() == []
    machine.now += 2
    assert machine.settle() == ["a/0 update-status"]


@pytest.mark.parametrize(
    ("kind", "value", "allowed"),
    [
        ("string", "x", True),
        ("string", 1, False),
        ("integer", 1, True),
        ("integer", True, False),
        ("number", 1.5, True),
        ("boolean", "yes", False),
        ("array", [1], True),
        ("object", [1], False),
    ],
)
def test_types_of_an_action_s_parameters_are_checked(
    machine: Machine, kind: str, value: object, allowed: bool
) -> None:
    spec = model.ActionSpec(params={"p": {"type": kind}})
    machine.deploy("a", charm=model.Charm("p", "d", "p", actions={"act": spec}))
    if allowed:
        changes.enqueue(machine.world, "a/0", "act", {"p": value}, "now")
    else:
        with pytest.raises(changes.UserError, match=f"must be of type {kind}"):
            changes.enqueue(machine.world, "a/0", "act", {"p": value}, "now")


def test_a_notice_that_comes_while_the_hook_for_it_runs_gets_a_hook_of_its_own(
    machine: Machine,
) -> None:
    machine.deploy("a", charm=WITH_STORAGE)
    machine.settle()
    unit = machine.world.unit("a/0")
    notices = [
        model.WorkloadEvent("pebble-custom-notice", "work", stamp, notice_key="a.b/c")
        for stamp in ("1", "2")
    ]
    unit.workload.append(notices[0])
    hook = events.next_hook(machine.world, unit, machine.now)
    assert hook is not None
    unit.workload.append(notices[1])
    machine.run(unit, hook)
    assert machine.settle() == ["a/0 work-pebble-custom-notice"]


def secret(owner: str, *grants: model.Grant) -> model.Secret:
    revisions = {1: model.Revision({"key": "one"}, "")}
    return model.Secret("s" * 20, owner, revisions=revisions, grants=list(grants))


class TestSecrets:
    @pytest.fixture
    def given(self, machine: Machine) -> tuple[Machine, model.Secret]:
        machine.deploy("a")
        machine.deploy("b")
        relation = changes.integrate(machine.world, "a:giver", "b:taker")
        machine.settle()
        made = secret("a", model.Grant("b", relation.id))
        machine.world.secrets[made.id] = made
        made.consumers["b/0"] = model.Consumer("label", tracked=1, notified=1)
        return machine, made

    def add_revision(self, made: model.Secret) -> None:
        made.latest += 1
        made.revisions[made.latest] = model.Revision({"key": str(made.latest)}, "")

    def test_consumers_hear_of_a_new_revision_once(
        self, given: tuple[Machine, model.Secret]
    ) -> None:
        machine, made = given
        self.add_revision(made)
        assert machine.settle() == ["b/0 secret-changed"]

    def test_the_owner_may_remove_what_nobody_tracks_any_more(
        self, given: tuple[Machine, model.Secret]
    ) -> None:
        machine, made = given
        self.add_revision(made)
        machine.settle()
        made.consumers["b/0"].tracked = 2
        assert machine.settle() == ["a/0 secret-remove"]

    def test_a_revision_that_was_never_tracked_is_the_owner_s_to_remove(
        self, given: tuple[Machine, model.Secret]
    ) -> None:
        machine, made = given
        self.add_revision(made)
        self.add_revision(made)
        made.consumers["b/0"].tracked = 3
        made.consumers["b/0"].notified = 3
        assert machine.settle() == ["a/0 secret-remove", "a/0 secret-remove"]

    def test_a_grant_ends_with_its_relation(self, given: tuple[Machine, model.Secret]) -> None:
        machine, made = given
        changes.remove_relation(machine.world, "a", "b", force=False)
        machine.settle()
        assert not machine.world.may_read(made, "b/0")
        self.add_revision(made)
        assert "b/0 secret-changed" not in machine.settle()

    def test_rotation_is_due_at_its_time(self, given: tuple[Machine, model.Secret]) -> None:
        machine, made = given
        machine.world.config["update-status-hook-interval"] = "10h"
        machine.world.unit("a/0").update_status = machine.world.unit("b/0").update_status = 0
        made.rotate, made.rotate_next = "hourly", "1970-01-01T00:20:00+00:00"
        assert machine.settle() == []
        machine.now = 1300
        assert machine.settle() == ["a/0 secret-rotate"]

    def test_an_expired_revision_is_told_again_until_it_is_removed(
        self, given: tuple[Machine, model.Secret]
    ) -> None:
        machine, made = given
        made.revisions[1].expire = "1970-01-01T00:10:00+00:00"
        assert machine.settle() == ["a/0 secret-expired"]
        machine.now += events.EXPIRED_AGAIN + 1
        assert machine.settle() == ["a/0 secret-expired"]
        del made.revisions[1]
        machine.now += events.EXPIRED_AGAIN + 1
        assert machine.settle() == []


def test_old_revisions_of_a_user_s_secret_are_pruned_when_nobody_tracks_them(
    machine: Machine,
) -> None:
    made = changes.add_secret(machine.world, "mine", {"key": "one"}, "", "")
    made.consumers["a/0"] = model.Consumer(tracked=1)
    for value in ("two", "three"):
        changes.update_secret(made, {"key": value}, "", "", "")
    changes.collect(machine.world)
    assert set(made.revisions) == {1, 2, 3}
    made.auto_prune = True
    changes.collect(machine.world)
    assert set(made.revisions) == {1, 3}


@pytest.mark.parametrize("name", ["jubilant-77377122", "m", "0", "a-b"])
def test_model_names_may_end_in_digits(name: str) -> None:
    changes.add_model(model.World(), name, datetime.datetime.now(datetime.UTC))


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a.b", "ä"])
def test_other_model_names_are_refused(name: str) -> None:
    with pytest.raises(changes.UserError, match="not a valid name"):
        changes.add_model(model.World(), name, datetime.datetime.now(datetime.UTC))


def test_leadership_moves_only_to_a_unit_that_is_up(machine: Machine) -> None:
    machine.deploy("a", units=2)
    machine.settle()
    app = machine.world.applications["a"]
    assert changes.depose(app) == "a/1"
    assert machine.settle() == ["a/1 leader-elected"]
    changes.scale(machine.world, "a", 1, "/storage")
    assert "a/0 leader-elected" in machine.settle()


COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("scale"), st.sampled_from("ab"), st.integers(0, 3)),
        st.tuples(st.just("relate"), st.just("a:giver"), st.just("b:taker")),
        st.tuples(st.just("unrelate"), st.just("a:giver"), st.just("b:taker")),
        st.tuples(st.just("configure"), st.sampled_from("ab"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.just(""), st.integers(0, 20)),
    ),
    max_size=12,
)


def carry_out(machine: Machine, commands: list[tuple[str, str, object]]) -> Iterator[None]:
    for name, first, second in commands:
        try:
            if name == "scale":
                changes.scale(machine.world, first, int(str(second)), "/storage")
            elif name == "relate":
                changes.integrate(machine.world, first, str(second))
            elif name == "unrelate":
                changes.remove_relation(machine.world, first, str(second), force=False)
            elif name == "configure":
                changes.configure(machine.world, first, {"n": str(second)}, [])
        except changes.UserError:
            pass
        for _ in range(int(str(second)) if name == "wait" else 0):
            machine.step()
        yield


def test_a_seed_orders_hooks_whenever_they_come() -> None:
    hooks = [model.Hook(name) for name in ("a", "b", "c")]
    orders: set[tuple[str, ...]] = set()
    for seed in range(50):
        choose = events.shuffled(seed, "probe/0")
        left = list(hooks)
        order: list[model.Hook] = []
        while left:
            order.append(choose(left))
            left.remove(order[-1])
        # One that is there alone, or with another only, changes nothing.
        assert choose(hooks[2:]) is hooks[2]
        assert choose([order[2], order[0]]) is order[0]
        orders.add(tuple(hook.name for hook in order))
    # Every order comes.
    assert len(orders) == 6


@hypothesis.given(commands=COMMANDS, seed=st.integers(0, 10_000))
# A unit that is asked for again while it goes.
@hypothesis.example([("scale", "a", 0), ("scale", "b", 0), ("wait", "", 4), ("scale", "a", 1)], 0)
@hypothesis.settings(max_examples=150, deadline=None)
def test_any_commands_in_any_order_come_to_the_same_rest(
    commands: list[tuple[str, str, object]], seed: int
) -> None:
    """The order that Juju leaves open changes what runs when, and nothing of where it ends."""
    ends: list[object] = []
    for order in (None, seed):
        machine = Machine(order)
        charm = model.Charm("p", "d", "p", endpoints=ENDPOINTS, options={"n": model.Option("int")})
        for name in "ab":
            machine.deploy(name, charm=charm)
        machine.settle()
        for _ in carry_out(machine, commands):
            pass
        machine.settle()
        ends.append(
            (
                {n: (sorted(a.units), a.config) for n, a in machine.world.applications.items()},
                sorted(
                    (sorted(map(str, r.endpoints)), sorted(r.scope), r.life)
                    for r in machine.world.relations.values()
                ),
            )
        )
        for unit in machine.world.units():
            joined = [set(view.members) for view in unit.relations.values() if not view.broken]
            others = [
                {n for n in r.scope if n != unit.name}
                - (
                    {n for n in r.scope if n.startswith(f"{unit.application}/")}
                    if not r.peer
                    else set()
                )
                for r in machine.world.relations_of(unit.application)
            ]
            assert sorted(map(sorted, joined)) == sorted(map(sorted, others))
    assert ends[0] == ends[1]
