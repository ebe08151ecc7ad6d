"""PostgreSQL with the wire of the Charmhub charm `postgresql-k8s`."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import secrets

import ops

import cluster
import postgresql
from mlflow_kit import databag, problems, uris, workload
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import database_provider

_ENDPOINT = "database"
_LAUNCHER = pathlib.Path(__file__).parent.parent / "workload" / "fast-shutdown.sh"

# PostgreSQL answers within a second; after a crash, or on a busy machine, it takes longer.
_SETTLE = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Client:
    """A relation that has asked for a database.

    Attributes:
        relation: the relation.
        request: what it asked for.
        password: of its account.
    """

    relation: ops.Relation
    request: database_provider.Request
    password: str = dataclasses.field(repr=False)

    @property
    def account(self) -> postgresql.Account:
        """The account that the server shall hold for it."""
        name = postgresql.account_name(self.relation.id)
        return postgresql.Account(
            name=name,
            database=self.request.database,
            verifier=postgresql.verifier(name, self.password),
        )


class PostgresqlCharm(ops.CharmBase):
    """One PostgreSQL server on the storage of unit 0."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self._container = self.unit.get_container("postgresql")
        self._problems: tuple[problems.Problem, ...] | None = None
        pebble = self.on["postgresql"]
        relation = self.on[_ENDPOINT]
        for event in (
            self.on.config_changed,
            self.on.upgrade_charm,
            self.on.leader_elected,
            self.on.update_status,
            self.on["pgdata"].storage_attached,
            pebble.pebble_ready,
            pebble.pebble_check_failed,
            pebble.pebble_check_recovered,
            relation.relation_created,
            relation.relation_changed,
        ):
            framework.observe(event, self._on_reconcile)
        framework.observe(relation.relation_broken, self._on_database_broken)
        framework.observe(self.on.secret_remove, self._on_secret_remove)
        for event in (self.on.stop, self.on.remove):
            framework.observe(event, self._on_stop)
        framework.observe(self.on.collect_unit_status, self._on_collect_status)

    def _on_reconcile(self, _: ops.EventBase) -> None:
        self._problems = self._reconcile()

    def _on_database_broken(self, event: ops.RelationBrokenEvent) -> None:
        self._problems = self._reconcile()
        if self.unit.is_leader():
            database_provider.withdraw(self, event.relation)

    def _on_secret_remove(self, event: ops.SecretRemoveEvent) -> None:
        event.remove_revision()
        self._problems = self._reconcile()

    def _on_stop(self, _: ops.EventBase) -> None:
        self._problems = (problems.maintenance("stopping"),)

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        # After an event for which nothing was looked at, the status stays what it is.
        if self._problems is not None:
            problems.report(event, self._problems)

    def _reconcile(self) -> tuple[problems.Problem, ...]:
        if not self.unit.name.endswith("/0"):
            return (problems.blocked("PostgreSQL serves from one unit here: scale to 1"),)
        self.unit.set_ports(postgresql.PORT)
        try:
            programs = cluster.prepare(self._container)
        except cluster.VersionError as error:
            return (problems.blocked(str(error)),)
        except ops.pebble.ConnectionError:
            return (problems.waiting("container postgresql is not ready"),)
        plan = postgresql.plan(
            programs,
            _LAUNCHER.read_text(),
            # What postgresql-k8s computes by default.
            max_connections=max(4 * (os.cpu_count() or 1), 100),
        )
        health = workload.apply(self._container, plan, settle=_SETTLE)
        if not health.ok:
            # What was sent stays: clients try again, and taking it away would stop them.
            return health.problems
        if not self.unit.is_leader():
            return (problems.waiting("waiting for leadership to serve relations"),)
        clients, found = self._clients()
        self._serve(programs, clients)
        return tuple(found)

    def _clients(self) -> tuple[list[_Client], list[problems.Problem]]:
        """Read all requests."""
        clients: list[_Client] = []
        found: list[problems.Problem] = []
        for relation in self.model.relations[_ENDPOINT]:
            request = database_provider.read(databag.remote_app(relation))
            if isinstance(request, Absent):
                # A relation that has not asked yet is no problem of ours.
                continue
            if not isinstance(request, Invalid):
                try:
                    postgresql.check_name(request.database)
                except ValueError as error:
                    request = Invalid(str(error))
            if isinstance(request, Invalid):
                found.append(problems.blocked(f"{relation.app.name}: {request.reason}"))
                continue
            password = database_provider.given_password(self, relation)
            clients.append(
                _Client(
                    relation=relation,
                    request=request,
                    password=password or secrets.token_urlsafe(24),
                )
            )
        return clients, found

    def _serve(self, programs: str, clients: list[_Client]) -> None:
        """Bring the server's accounts in line with the relations, then answer them."""
        held = cluster.find(self._container, programs)
        changes = postgresql.changes(
            held,
            [client.account for client in clients],
            relation_ids=[relation.id for relation in self.model.relations[_ENDPOINT]],
        )
        for change in changes:
            cluster.run(self._container, programs, change)
        self.unit.set_workload_version(held.version)
        for client in clients:
            answer = self._answer(client, held.version)
            database_provider.publish(self, client.relation, client.request, answer)

    def _answer(self, client: _Client, version: str) -> database_provider.Answer:
        # The real charm points to a Service for the primary; here unit 0 is the primary.
        host = uris.unit_host(self.unit.name, self.model.name)
        endpoint = f"{host}:{postgresql.PORT}"
        account = client.account
        return database_provider.Answer(
            database=account.database,
            username=account.name,
            password=client.password,
            endpoints=endpoint,
            version=version,
            uris=postgresql.uri(account, client.password, endpoint),
            tls="False",
        )


if __name__ == "__main__":
    ops.main(PostgresqlCharm)
