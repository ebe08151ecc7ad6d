"""ops-scenario is the oracle: the same charm, event and state end the same there and on onebox.

The states come from onebox's own model after random commands, so Scenario's consistency checker
also judges whether they can occur on Juju at all. The hook tools are the real ones: the charm is
a process that reaches them by their client and socket.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import typing

import hypothesis
import yaml
from hypothesis import strategies as st
from ops import testing

from onebox import changes, engine, events, hookclient, hookserver, hooktools, model

MIRROR = pathlib.Path(__file__).parent / "data" / "mirror"
METADATA = yaml.safe_load((MIRROR / "metadata.yaml").read_text())
OPTIONS = yaml.safe_load((MIRROR / "config.yaml").read_text())["options"]
NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)
ROLES: dict[str, typing.Literal["provider", "requirer", "peer"]] = {
    "provides": "provider",
    "requires": "requirer",
    "peers": "peer",
}
CHARM = model.Charm(
    "mirror",
    "digest",
    str(MIRROR),
    endpoints={
        name: model.EndpointSpec(name, spec["interface"], role)
        for section, role in ROLES.items()
        for name, spec in METADATA[section].items()
    },
    options={
        name: model.Option(spec["type"], spec.get("default")) for name, spec in OPTIONS.items()
    },
)


class Stage:
    """A model whose units are played, but for the one hook that is compared."""

    def __init__(self, root: pathlib.Path):
        self.world = model.Model("m", "4f0a0fd2-bd7b-4d84-9f03-1d4d63b7d0a9")
        self._root = root
        for name, units in (("a", 2), ("b", 2)):
            wanted = changes.Deploy(CHARM, name, {}, units, {}, {}, False, "", [])
            changes.deploy(self.world, wanted, str(root))
        for number, unit in enumerate(self.world.units(), 1):
            unit.address = f"10.0.0.{number}"
        for app in self.world.applications.values():
            changes.elect(app)

    def play(self, steps: int) -> None:
        """Let units run hooks that write nothing."""
        for _ in range(steps):
            for unit in self.world.units():
                hook = events.next_hook(self.world, unit, 1000)
                if hook is not None:
                    events.join(self.world, unit)
                    events.succeeded(self.world, unit, hook, 1000)

    def next_hook(self, unit: model.Unit) -> model.Hook:
        """Return the unit's next hook that Scenario can express.

        Juju tells of an application's data before the first unit has joined (its uniter's
        relation resolver does so); Scenario's checker wants a unit in each relation-changed.
        """
        while hook := events.next_hook(self.world, unit, 1000):
            members = unit.relations.get(hook.relation or -1, model.RelationView()).members
            if hook.kind != "relation-changed" or hook.remote_unit or members:
                return hook
            events.succeeded(self.world, unit, hook, 1000)
        return model.Hook("update-status")

    def on_onebox(self, unit: model.Unit, hook: model.Hook) -> dict[str, typing.Any]:
        """Run the charm's process with the real hook tools, commit, and return what is there."""
        lock = threading.Condition(threading.RLock())
        tools = self._root / "tools"
        tools.mkdir()
        hookclient.install(tools)
        server = hookserver.HookServer(self._root / "hook.sock", lock)
        server.start()
        context = hooktools.Context(
            self.world,
            unit,
            hook,
            lambda _level, _text: None,
            clock=lambda: NOW,
            resource=lambda name: name,
        )
        server.open("context", context)
        environment = engine.hook_environment(
            self.world, unit, hook, f"hooks/{hook.name}", "context"
        )
        charm = self._root / "charm"
        charm.mkdir()
        for name in ("metadata.yaml", "config.yaml"):
            (charm / name).write_text((MIRROR / name).read_text())
        environment |= {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "CHARM_DIR": str(charm),
            "JUJU_CHARM_DIR": str(charm),
            "JUJU_AGENT_SOCKET_ADDRESS": str(self._root / "hook.sock"),
        }
        done = subprocess.run(
            [sys.executable, str(MIRROR / "src" / "charm.py")],
            env=environment,
            cwd=charm,
            capture_output=True,
            text=True,
            check=False,
        )
        server.stop()
        assert done.returncode == 0, done.stderr
        context.commit()
        return {
            "bags": {
                (relation.id, owner): without_addresses(relation.bag(owner).data)
                for relation in self.world.relations.values()
                for owner in (unit.name, unit.application)
                if owner in relation.bags
            },
            "secrets": sorted(
                (secret.label, secret.revisions[secret.latest].content)
                for secret in self.world.secrets.values()
                if secret.owner == unit.application
            ),
            "ports": sorted(unit.ports),
            "status": (unit.status.current, unit.status.message),
        }

    def in_scenario(self, unit: model.Unit, hook: model.Hook) -> dict[str, typing.Any]:
        """Run the charm in ops-scenario from the same state, and return what is there."""
        spec = importlib.util.spec_from_file_location("mirror", MIRROR / "src" / "charm.py")
        assert spec is not None
        assert spec.loader is not None
        charm = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(charm)
        context = testing.Context(
            charm.MirrorCharm,
            meta=METADATA,
            config={"options": OPTIONS},
            app_name=unit.application,
            unit_id=unit.number,
            juju_version=model.JUJU_VERSION,
        )
        relations = {relation.id: relation for relation in self._relations(unit, hook)}
        state = testing.State(
            leader=self.world.is_leader(unit.name),
            config=dict(self.world.applications[unit.application].config),
            relations=relations.values(),
            secrets=self._secrets(unit),
            model=testing.Model(self.world.name, uuid=self.world.uuid, type="kubernetes"),
            planned_units=len(self.world.applications[unit.application].units),
        )
        out = context.run(self._event(context, hook, relations), state)
        bags: dict[tuple[int, str], dict[str, str]] = {}
        for relation in out.relations:
            bags[relation.id, unit.name] = without_addresses(dict(relation.local_unit_data))
            bags[relation.id, unit.application] = dict(relation.local_app_data)
        return {
            "bags": bags,
            "secrets": sorted(
                (secret.label or "", dict(secret.latest_content or {}))
                for secret in out.secrets
                if secret.owner == "app"
            ),
            "ports": sorted(f"{port.port}/{port.protocol}" for port in out.opened_ports),
            "status": (out.unit_status.name, out.unit_status.message),
        }

    def _relations(self, unit: model.Unit, hook: model.Hook) -> list[testing.RelationBase]:
        found: list[testing.RelationBase] = []
        for relation in self.world.relations_of(unit.application):
            view = unit.relations.get(relation.id)
            current = hook.relation == relation.id
            if view is None or view.broken:
                continue
            local = relation.local(unit.application)
            remote = relation.remote(unit.application).application
            members = set((view or model.RelationView()).members)
            if current and hook.kind == "relation-joined":
                members.add(hook.remote_unit)
            elif current and hook.kind == "relation-departed":
                members.discard(hook.remote_unit)
            shared: dict[str, typing.Any] = {
                "endpoint": local.name,
                "interface": local.interface,
                "id": relation.id,
                "local_app_data": dict(relation.bag(unit.application).data),
                "local_unit_data": dict(relation.bag(unit.name).data),
            }
            bags = {
                int(name.split("/")[1]): dict(relation.bag(name).data) for name in sorted(members)
            }
            if relation.peer:
                found.append(testing.PeerRelation(**shared, peers_data=bags))
            else:
                found.append(
                    testing.Relation(
                        **shared,
                        remote_app_name=remote,
                        remote_app_data=dict(relation.bag(remote).data),
                        remote_units_data=bags,
                    )
                )
        return found

    def _secrets(self, unit: model.Unit) -> list[testing.Secret]:
        found: list[testing.Secret] = []
        for secret in self.world.secrets.values():
            consumer = secret.consumers.get(unit.name) or model.Consumer(tracked=secret.latest)
            owned = secret.owner == unit.application
            if not owned and not self.world.may_read(secret, unit.name):
                continue
            found.append(
                testing.Secret(
                    tracked_content=secret.revisions[consumer.tracked].content,
                    latest_content=secret.revisions[secret.latest].content,
                    id=f"secret:{secret.id}",
                    owner="app" if owned else None,
                    label=secret.label if owned else (consumer.label or None),
                )
            )
        return found

    def _event(
        self,
        context: testing.Context[typing.Any],
        hook: model.Hook,
        relations: dict[int, testing.RelationBase],
    ) -> typing.Any:
        if hook.relation is None:
            return getattr(context.on, hook.name.replace("-", "_"))()
        make = getattr(context.on, hook.kind.replace("-", "_"))
        options: dict[str, typing.Any] = {}
        if hook.remote_unit:
            options["remote_unit"] = int(hook.remote_unit.split("/")[1])
        if hook.kind == "relation-departed":
            options["departing_unit"] = int(hook.departing.split("/")[1])
        return make(relations[hook.relation], **options)


def without_addresses(bag: dict[str, str]) -> dict[str, str]:
    """Leave out what Juju writes itself."""
    own = {"egress-subnets", "ingress-address", "private-address"}
    return {key: value for key, value in bag.items() if key not in own}


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)
COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("relate"), st.just(0)),
        st.tuples(st.just("unrelate"), st.just(0)),
        st.tuples(st.just("scale"), st.integers(1, 3)),
        st.tuples(st.just("play"), st.integers(1, 12)),
        st.tuples(st.just("write"), st.dictionaries(TEXT, TEXT, max_size=3)),
        st.tuples(st.just("text"), TEXT),
        st.tuples(st.just("secret"), st.booleans()),
    ),
    min_size=1,
    max_size=8,
)


def carry_out(stage: Stage, name: str, value: typing.Any) -> None:
    with contextlib.suppress(changes.UserError):
        COMMAND[name](stage, value)


def relate(stage: Stage, _value: int) -> None:
    changes.integrate(stage.world, "a:giver", "b:taker")


def unrelate(stage: Stage, _value: int) -> None:
    changes.remove_relation(stage.world, "a:giver", "b:taker", force=False)


def scale(stage: Stage, value: int) -> None:
    changes.scale(stage.world, "b", value, "/storage")
    for unit in stage.world.units():
        unit.address = unit.address or "10.0.1.1"


def write(stage: Stage, value: dict[str, str]) -> None:
    """Let the other side write into its databags."""
    for relation in stage.world.relations.values():
        for owner in ("b", "b/0"):
            if relation.life is model.Life.ALIVE and owner in (*relation.bags, "b"):
                relation.bag(owner).data.update(value)
                relation.bag(owner).version += 1


def configure(stage: Stage, value: str) -> None:
    changes.configure(stage.world, "a", {"text": value, "number": "7"}, [])


def give_secret(stage: Stage, value: bool) -> None:
    name = f"s{len(stage.world.secrets)}"
    given = changes.add_secret(stage.world, name, {"key": "v"}, "", "")
    changes.configure(stage.world, "a", {"secret": f"secret:{given.id}"}, [])
    if value:
        changes.grant(stage.world, given.name, ["a"], revoke=False)


COMMAND: dict[str, typing.Callable[[Stage, typing.Any], None]] = {
    "play": Stage.play,
    "relate": relate,
    "scale": scale,
    "secret": give_secret,
    "text": configure,
    "unrelate": unrelate,
    "write": write,
}


@hypothesis.given(commands=COMMANDS, leads=st.booleans())
@hypothesis.settings(max_examples=12, deadline=None)
def test_the_same_charm_event_and_state_end_the_same(
    commands: list[tuple[str, typing.Any]], leads: bool
) -> None:
    # A short path: the address of a Unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="o") as directory:
        stage = Stage(pathlib.Path(directory))
        if not leads:
            stage.world.applications["a"].leader = "a/1"
        for name, value in commands:
            carry_out(stage, name, value)
        unit = stage.world.unit("a/0")
        hook = stage.next_hook(unit)
        events.join(stage.world, unit)
        expected = stage.in_scenario(unit, hook)
        found = stage.on_onebox(unit, hook)
    for key, bag in expected["bags"].items():
        assert found["bags"].get(key, {}) == bag, (hook, key)
    assert found["secrets"] == expected["secrets"], hook
    assert found["ports"] == expected["ports"], hook
    assert found["status"] == expected["status"], hook
