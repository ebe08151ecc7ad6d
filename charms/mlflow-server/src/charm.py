#!/usr/bin/env python3
"""The charm of MLflow's tracking server: which events there are, and what follows from them."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections.abc import Mapping

import ops

import notebook
import publish
import reports
import server
import state
from mlflow_kit import container, databag, problems, shared_secret, workload
from mlflow_kit.interfaces import kubernetes_manifest

logger = logging.getLogger(__name__)

_ENDPOINTS = (
    *state.DATABASES,
    "object-storage",
    "ingress",
    "basic-auth",
    "mlflow",
    "pod-defaults",
    "secrets",
)

_MANIFESTS_LABEL = "notebook-manifests"

_PROGRAMS = pathlib.Path(__file__).parent.parent / "workload"


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What one dispatch found: the reasons not to be active, and whether the server runs."""

    problems: tuple[problems.Problem, ...]
    health: workload.Health


class MlflowServerCharm(ops.CharmBase):
    """MLflow's tracking server and model registry."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._container = self.unit.get_container(server.CONTAINER)
        self._outcome: _Outcome | None = None
        for event in self._reconcile_events():
            framework.observe(event, self._on_reconcile)
        framework.observe(self.on.update_status, self._on_update_status)
        framework.observe(self.on.secret_remove, self._on_secret_remove)
        framework.observe(self.on.get_connection_action, self._on_get_connection)
        framework.observe(self.on.collect_unit_status, self._on_collect_unit_status)

    def _reconcile_events(self) -> list[ops.BoundEvent]:
        """List the events after which everything is looked at again.

        Not install, start and relation-joined: config-changed and relation-changed are always
        beside them. And relation-departed only where units, not their application, say what we
        read.
        """
        relations = [self.on[endpoint] for endpoint in _ENDPOINTS]
        pebble = self.on[server.CONTAINER]
        return [
            self.on.config_changed,
            self.on.upgrade_charm,
            self.on.leader_elected,
            self.on.secret_changed,
            *(relation.relation_created for relation in relations),
            *(relation.relation_changed for relation in relations),
            self.on["mariadb"].relation_departed,
            *(relation.relation_broken for relation in relations),
            pebble.pebble_ready,
            pebble.pebble_custom_notice,
            pebble.pebble_check_failed,
            pebble.pebble_check_recovered,
        ]

    def _on_reconcile(self, _: ops.EventBase) -> None:
        self.unit.set_ports(state.PORT)
        self._request()
        loaded = state.load(self)
        self._outcome = self._apply(loaded)
        self._publish(loaded, self._outcome.health)

    def _on_update_status(self, event: ops.UpdateStatusEvent) -> None:
        active = isinstance(self.unit.status, ops.ActiveStatus)
        if active and workload.serves(self._container):
            self._outcome = _Outcome((), workload.Health())
        else:
            self._on_reconcile(event)

    def _on_secret_remove(self, event: ops.SecretRemoveEvent) -> None:
        # Nobody tracks this old revision of the notebooks' manifests any more.
        event.remove_revision()

    def _on_get_connection(self, event: ops.ActionEvent) -> None:
        loaded = state.load(self)
        if isinstance(loaded, state.Unready):
            event.fail(loaded.problems[0].message)
        else:
            event.set_results(publish.connection(loaded))

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        # After an event for which nothing was looked at, the status stays what it is.
        if self._outcome is not None:
            problems.report(event, self._outcome.problems)

    def _request(self) -> None:
        """Ask other applications for what we need."""
        identity = state.identity(self)
        self._save(publish.unit_requests(identity), self.unit)
        if identity.leader:
            settings = state.options(self)
            valid = None if isinstance(settings, problems.Problem) else settings
            self._save(publish.requests(identity, valid), self.app)

    def _apply(self, loaded: state.State | state.Unready) -> _Outcome:
        """Bring the container to what the inputs ask for."""
        if isinstance(loaded, state.Unready):
            if loaded.stop:
                workload.apply(self._container, server.stopped())
            return _Outcome(loaded.problems, workload.Health(loaded.problems))
        if loaded.pending and not self._runs():
            return _Outcome(loaded.pending, workload.Health(loaded.pending))
        programs = container.programs(_PROGRAMS, server.PROGRAMS)
        health = workload.apply(self._container, server.plan(loaded, programs))
        return self._judge(loaded, health)

    def _judge(self, loaded: state.State, health: workload.Health) -> _Outcome:
        """Put what the programs say of themselves in place of what Pebble can see."""
        said: tuple[problems.Problem, ...] = ()
        if loaded.identity.leader:
            text = workload.read_text(self._container, server.MIGRATE_STATE)
            said = reports.problem(text)
        serve = workload.read_text(self._container, server.SERVE_STATE)
        if not health.ok:
            said = said or reports.problem(serve) or health.problems
        version = reports.version(serve)
        if version:
            self.unit.set_workload_version(version)
        return _Outcome((*said, *loaded.pending), health)

    def _publish(self, loaded: state.State | state.Unready, health: workload.Health) -> None:
        """Answer other applications."""
        if not self.unit.is_leader():
            return
        if isinstance(loaded, state.Unready) and not loaded.stop:
            # The last good configuration serves, and what was published for it holds.
            return
        usable = loaded if isinstance(loaded, state.State) else None
        version = reports.version(workload.read_text(self._container, server.SERVE_STATE))
        self._save(publish.outgoing(usable, health, version), self.app)
        self._share(notebook.secrets(usable) if usable else [])

    def _save(
        self, content: Mapping[str, Mapping[str, str]], owner: ops.Application | ops.Unit
    ) -> None:
        """Save databags, by endpoint, in each of its relations."""
        for endpoint, keys in content.items():
            for relation in self.model.relations[endpoint]:
                if relation.active:
                    databag.save(relation.data[owner], keys)

    def _share(self, manifests: list[kubernetes_manifest.Manifest]) -> None:
        """Share the notebooks' Secrets by a Juju secret that is granted to its readers."""
        relations = [r for r in self.model.relations["secrets"] if r.active]
        content = kubernetes_manifest.secret_content(manifests)
        secret = shared_secret.keep(
            self.model, self.app, _MANIFESTS_LABEL, content if manifests and relations else None
        )
        uri = shared_secret.uri(secret) if secret else ""
        for relation in relations:
            written = databag.save(relation.data[self.app], kubernetes_manifest.by_secret(uri))
            if secret is not None and written:
                secret.grant(relation)

    def _runs(self) -> bool:
        return workload.runs(self._container, server.SERVICE)


if __name__ == "__main__":
    ops.main(MlflowServerCharm)
