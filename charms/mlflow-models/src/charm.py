#!/usr/bin/env python3
"""Charm for mlflow-models: predictions of one MLflow model over HTTP."""

from __future__ import annotations

import ops

import layout
import progress
import publish
import scoring
import state
from mlflow_kit import databag, problems, workload
from mlflow_kit.problems import Problem

_MAX_EXAMPLE = 32 * 1024
"""Longest example body that an action answers with, in characters."""


def _reconcile_events(charm: ops.CharmBase) -> tuple[ops.BoundEvent, ...]:
    """List the events after which everything is looked at again.

    Not install, start and relation-joined: config-changed and relation-changed are always beside
    them. Nor relation-departed: applications, not their units, say what we read.
    """
    on = charm.on
    relations = (state.INGRESS, state.MLFLOW, state.OBJECT_STORAGE)
    return (
        on.config_changed,
        on.upgrade_charm,
        on.leader_elected,
        on[layout.CONTAINER].pebble_ready,
        on[layout.CONTAINER].pebble_custom_notice,
        on[layout.CONTAINER].pebble_check_failed,
        on[layout.CONTAINER].pebble_check_recovered,
        *(on[name].relation_created for name in relations),
        *(on[name].relation_changed for name in relations),
        *(on[name].relation_broken for name in relations),
    )


class MlflowModelsCharm(ops.CharmBase):
    """Serves one model with MLflow's own scoring server."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._container = self.unit.get_container(layout.CONTAINER)
        self._outcome: tuple[tuple[Problem, ...], str] | None = None
        for event in _reconcile_events(self):
            framework.observe(event, self._on_reconcile)
        framework.observe(self.on.update_status, self._on_update_status)
        framework.observe(self.on.get_endpoint_action, self._on_get_endpoint)
        framework.observe(self.on.collect_unit_status, self._on_collect_status)

    def _on_reconcile(self, _: ops.EventBase) -> None:
        self.unit.set_ports(layout.PORT)
        found = state.load(self)
        if not isinstance(found, state.State):
            # Nothing is changed: what serves has the last good options.
            self._outcome = (tuple(found), "")
            return
        self._publish(found)
        health = workload.apply(self._container, scoring.plan(found))
        served = progress.served(found)
        if served is not None and served.mlflow:
            self.unit.set_workload_version(served.mlflow)
        self._outcome = _outcome(found, health)

    def _on_update_status(self, event: ops.UpdateStatusEvent) -> None:
        status = self.unit.status
        if isinstance(status, ops.ActiveStatus) and workload.serves(self._container):
            self._outcome = (), status.message
        else:
            self._on_reconcile(event)

    def _on_get_endpoint(self, event: ops.ActionEvent) -> None:
        found = state.load(self)
        if not isinstance(found, state.State):
            event.fail(found[0].message)
            return
        served = progress.served(found)
        if served is None:
            event.fail("no model is served; the unit's status says why")
            return
        results = {
            "model": progress.served_uri(found),
            "url": f"{publish.address(found)}/invocations",
        }
        path = f"{(served.content or {}).get('path')}/{layout.EXAMPLE_FILE}"
        example = workload.read_text(self._container, path)
        if example is not None and len(example) <= _MAX_EXAMPLE:
            results["example"] = example
        event.set_results(results)

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        # After an event for which nothing was looked at, the status stays what it is.
        if self._outcome is not None:
            problems.report(event, *self._outcome)

    def _publish(self, found: state.State) -> None:
        for endpoint, bags in publish.outgoing(found).items():
            for relation in state.active(self.model, endpoint):
                databag.save(relation.data[self.unit], bags.unit)
                if self.unit.is_leader():
                    databag.save(relation.data[self.app], bags.app)


def _outcome(found: state.State, health: workload.Health) -> tuple[tuple[Problem, ...], str]:
    """Return what is wrong, and what to say when nothing is."""
    return (*progress.find(found), *health.problems), f"serving {progress.served_uri(found)}"


if __name__ == "__main__":
    ops.main(MlflowModelsCharm)
