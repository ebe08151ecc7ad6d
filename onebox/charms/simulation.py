"""A unit of a backing charm in ops.testing, whose container keeps its files between events."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import ops
from ops import testing

CharmT = TypeVar("CharmT", bound=ops.CharmBase)

MODEL = testing.Model("m", uuid="7d8b1c0e-5a5c-4a6e-9c59-0e2a1f7e8a11")


class Unit(Generic[CharmT]):
    """One unit, with one workload container.

    Args:
        charm_type: the charm.
        container: name of the container.
        folder: an empty directory for the files of the container.
        keeps: the directories in the container whose content outlives an event.
        execs: answers of the programs in the container.
        number: of the unit.
        **state: what differs from a leader without relations, see `ops.testing.State`.
    """

    def __init__(
        self,
        charm_type: type[CharmT],
        container: str,
        folder: pathlib.Path,
        *,
        keeps: Iterable[str] = (),
        execs: Iterable[testing.Exec] = (),
        number: int = 0,
        **state: Any,
    ) -> None:
        mounts: dict[str, testing.Mount] = {}
        for location in keeps:
            source = folder / location.replace("/", "-")
            source.mkdir()
            mounts[location] = testing.Mount(location=location, source=source)
        self.context = testing.Context(charm_type, unit_id=number)
        self._name = container
        self._mounts = mounts
        found = testing.Container(container, can_connect=True, mounts=mounts, execs=set(execs))
        options = {"leader": True, "model": MODEL, "containers": {found}, **state}
        self.state = testing.State(**options)

    @property
    def container(self) -> testing.Container:
        """The container as it is now."""
        return self.state.get_container(self._name)

    @property
    def status(self) -> object:
        """The unit's status, to be compared with one of ops."""
        return self.state.unit_status

    def path(self, location: str) -> pathlib.Path:
        """Return where a file of the container is on this machine."""
        for mount, kept in self._mounts.items():
            if location.startswith(f"{mount}/"):
                return pathlib.Path(kept.source) / location.removeprefix(f"{mount}/")
        raise KeyError(location)

    def sent(self, relation: testing.Relation) -> Mapping[str, str]:
        """Return what the application says in a relation."""
        return self.state.get_relation(relation.id).local_app_data

    def change(self, **state: Any) -> None:
        """Change something of the state."""
        self.state = dataclasses.replace(self.state, **state)

    def change_container(self, **changes: Any) -> None:
        """Change something of the container."""
        self.change(containers={dataclasses.replace(self.container, **changes)})

    def change_relation(self, relation: testing.Relation, **changes: Any) -> None:
        """Change something of a relation."""
        now = self.state.get_relation(relation.id)
        changed = dataclasses.replace(now, **changes)
        self.change(relations={*(self.state.relations - {now}), changed})

    def run(self, event: Any = None) -> None:
        """Let an event happen; config-changed unless another one is given."""
        self.state = self.context.run(event or self.context.on.config_changed(), self.state)

    def start(self) -> None:
        """Let the charm start its service, and the health check of it succeed."""
        self.run()
        checks = {testing.CheckInfo(name, successes=1) for name in self.container.plan.checks}
        self.change_container(check_infos=checks)
        self.run()

    def fail(self) -> None:
        """Let the health check fail."""
        check = testing.CheckInfo(
            next(iter(self.container.plan.checks)),
            status=ops.pebble.CheckStatus.DOWN,
            failures=3,
        )
        self.change_container(check_infos={check})
        self.run(self.context.on.pebble_check_failed(self.container, check))
