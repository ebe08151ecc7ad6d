#!/usr/bin/env python3
"""Charm for htpasswd-proxy: nginx with a password in front of whatever asks for an ingress."""

from __future__ import annotations

import ops

import credentials
import htpasswd
import nginx
import publish
import state
from config import Config
from mlflow_kit import databag, problems, workload
from mlflow_kit import plan as plans
from mlflow_kit.interfaces import ingress
from mlflow_kit.problems import Problem

CONTAINER = "nginx"

_SETTLE = 5.0
"""Seconds; nginx serves within one and its check runs every two."""


def _reconcile_events(charm: ops.CharmBase) -> tuple[ops.BoundEvent, ...]:
    """List the events after which everything is looked at again.

    Not install, start and relation-joined: config-changed and relation-changed are always beside
    them. And relation-departed only where units, not their application, say what we read.
    """
    on = charm.on
    relations = (state.BASIC_AUTH, state.INGRESS, state.PEERS, state.UPSTREAMS)
    return (
        on.config_changed,
        on.upgrade_charm,
        on.leader_elected,
        on.secret_changed,
        on[CONTAINER].pebble_ready,
        on[CONTAINER].pebble_check_failed,
        on[CONTAINER].pebble_check_recovered,
        *(on[name].relation_created for name in relations),
        *(on[name].relation_changed for name in relations),
        on[state.UPSTREAMS].relation_departed,
        *(on[name].relation_broken for name in relations),
    )


class HtpasswdProxyCharm(ops.CharmBase):
    """nginx with a password in front of whatever asks for an ingress."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._container = self.unit.get_container(CONTAINER)
        self._outcome: tuple[Problem, ...] | None = None
        for event in _reconcile_events(self):
            framework.observe(event, self._on_reconcile)
        framework.observe(self.on.update_status, self._on_update_status)
        framework.observe(self.on.secret_remove, self._on_secret_remove)
        framework.observe(self.on.get_credentials_action, self._on_get_credentials)
        framework.observe(self.on.rotate_password_action, self._on_rotate_password)
        framework.observe(self.on.collect_unit_status, self._on_collect_status)

    def _on_reconcile(self, event: ops.EventBase) -> None:
        if isinstance(event, ops.PebbleReadyEvent):
            answer = workload.output(self._container, ("nginx", "-v"))
            self.unit.set_workload_version(nginx.version(answer or ""))
        self._outcome = self._reconcile()

    def _on_update_status(self, event: ops.UpdateStatusEvent) -> None:
        active = isinstance(self.unit.status, ops.ActiveStatus)
        if active and workload.serves(self._container):
            self._outcome = ()
        else:
            self._on_reconcile(event)

    def _on_secret_remove(self, event: ops.SecretRemoveEvent) -> None:
        event.remove_revision()

    def _on_get_credentials(self, event: ops.ActionEvent) -> None:
        found = self._load()
        if not isinstance(found, state.State):
            event.fail(found[0].message)
            return
        event.set_results({"username": found.first, "secret": found.first_secret})

    def _on_rotate_password(self, event: ops.ActionEvent) -> None:
        owned = state.owned_secrets(self)
        if not self.unit.is_leader() or owned is None:
            event.fail("run this action on the leader")
            return
        try:
            credentials.rotate(owned)
        except LookupError as error:
            event.fail(str(error))
            return
        self._outcome = self._reconcile()
        event.set_results({"result": "the new password is in the secret of get-credentials"})

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        # After an event for which nothing was looked at, the status stays what it is.
        if self._outcome is not None:
            problems.report(event, self._outcome)

    def _reconcile(self) -> tuple[Problem, ...]:
        """Bring everything to what Juju says; return what is wrong."""
        self.unit.set_ports(nginx.PORT)
        self._greet()
        options = state.options(self)
        owned = state.owned_secrets(self)
        if isinstance(options, Config) and owned is not None and self.unit.is_leader():
            clients = state.active(self.model, state.BASIC_AUTH)
            credentials.ensure(owned, options.username, clients)
        found = self._load()
        if not isinstance(found, state.State):
            # Nothing is stopped: what serves has the last good users and asks for passwords.
            return (*found, *self._unready())
        if unready := self._unready():
            self._publish(found, workload.Health(unready))
            return (*found.problems, *unready)
        plan = nginx.plan(found, self._users(found))
        if not self._accepts(plan):
            # Nothing is withdrawn either: the last good configuration serves.
            return (problems.blocked("nginx refuses its new configuration and keeps the old"),)
        health = workload.apply(self._container, plan, settle=_SETTLE)
        self._publish(found, health)
        return (*found.problems, *health.problems)

    def _load(self) -> state.State | list[Problem]:
        options = state.options(self)
        if not isinstance(options, Config):
            return options
        resolv_conf = workload.read_text(self._container, "/etc/resolv.conf") or ""
        return state.load(self, options, resolv_conf)

    def _users(self, found: state.State) -> str:
        known = workload.read_text(self._container, nginx.PATHS.users) or ""
        return htpasswd.render(found.accounts, found.salt_key, known)

    def _accepts(self, plan: plans.Plan) -> bool:
        """Whether nginx takes the configuration; asked only for one that it does not have."""
        candidate = nginx.candidate(plan)
        if workload.read_text(self._container, nginx.PATHS.config) == candidate.content:
            return True
        return workload.accepts(
            self._container, candidate, nginx.trial(), directories=plan.directories
        )

    def _unready(self) -> tuple[Problem, ...]:
        return workload.observe(self._container, plans.Plan()).problems

    def _greet(self) -> None:
        """Tell requirers of the SDI wire a version, without which they send nothing."""
        if not self.unit.is_leader():
            return
        for relation in state.active(self.model, state.UPSTREAMS):
            greeting = ingress.greeting(databag.remote_app(relation))
            databag.save(relation.data[self.app], greeting)

    def _publish(self, found: state.State, health: workload.Health) -> None:
        outgoing = publish.outgoing(found, health)
        for relation in state.active(self.model, state.INGRESS):
            databag.save(relation.data[self.unit], outgoing.ingress_unit)
            if self.unit.is_leader():
                databag.save(relation.data[self.app], outgoing.ingress_app)
        if not self.unit.is_leader():
            return
        for relation in state.active(self.model, state.UPSTREAMS):
            databag.save(relation.data[self.app], outgoing.upstreams.get(relation.id, {}))
        for relation in state.active(self.model, state.BASIC_AUTH):
            databag.save(relation.data[self.app], outgoing.basic_auth.get(relation.id, {}))


if __name__ == "__main__":
    ops.main(HtpasswdProxyCharm)
