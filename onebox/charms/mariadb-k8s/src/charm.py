"""MariaDB with the wires of the Charmhub charms `mariadb-k8s` and `charmed-osm-mariadb-k8s`."""

from __future__ import annotations

import dataclasses
import secrets

import ops

import mariadb
import server
from mlflow_kit import databag, problems, uris, workload
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import database_provider

_ENDPOINT = "database"
_LEGACY_ENDPOINT = "mysql"

# MariaDB answers within two seconds; after a crash, or on a busy machine, it takes longer.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shared:
    """The options, which are what relations of the endpoint ``mysql`` get.

    Raises:
        ValueError: an option is out of bounds; the text names it.
    """

    user: str
    password: str = dataclasses.field(repr=False)
    database: str
    root_password: str = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        for option, value, check in (
            ("user", self.user, mariadb.check_account),
            ("database", self.database, mariadb.check_database),
        ):
            try:
                check(value)
            except ValueError as error:
                raise ValueError(f"option {option}: {error}") from None
        for option, value in (
            ("password", self.password),
            ("root-password", self.root_password),
        ):
            if not value:
                raise ValueError(f"option {option} is empty")

    def accounts(self) -> tuple[mariadb.Account, ...]:
        """Return the accounts that the server shall hold."""
        return (
            mariadb.Account(
                name=self.user,
                database=self.database,
                password=mariadb.password_hash(self.password),
            ),
            mariadb.Account(
                name="root",
                database="",
                password=mariadb.password_hash(self.root_password),
            ),
        )


class MariadbCharm(ops.CharmBase):
    """One MariaDB server on the storage of unit 0."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self._container = self.unit.get_container("mariadb")
        self._problems: tuple[problems.Problem, ...] | None = None
        pebble = self.on["mariadb"]
        relation = self.on[_ENDPOINT]
        legacy = self.on[_LEGACY_ENDPOINT]
        for event in (
            self.on.config_changed,
            self.on.upgrade_charm,
            self.on.leader_elected,
            self.on.update_status,
            self.on["database"].storage_attached,
            pebble.pebble_ready,
            pebble.pebble_check_failed,
            pebble.pebble_check_recovered,
            relation.relation_created,
            relation.relation_changed,
            legacy.relation_created,
            legacy.relation_broken,
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
            return (problems.blocked("MariaDB serves from one unit here: scale to 1"),)
        self.unit.set_ports(mariadb.PORT)
        try:
            server.prepare(self._container)
        except ops.pebble.ConnectionError:
            return (problems.waiting("container mariadb is not ready"),)
        health = workload.apply(self._container, mariadb.plan(), settle=_SETTLE)
        if not health.ok:
            # What was sent stays: clients try again, and taking it away would stop them.
            return health.problems
        if not self.unit.is_leader():
            return (problems.waiting("waiting for leadership to serve relations"),)
        try:
            shared = self._shared()
        except ValueError as error:
            return (problems.blocked(str(error)),)
        clients, found = self._clients()
        return (*found, *self._serve(clients, shared))

    def _shared(self) -> _Shared:
        """Read the options.

        Raises:
            ValueError: as `_Shared`.
        """
        return _Shared(
            user=str(self.config["user"]),
            password=str(self.config["password"]),
            database=str(self.config["database"]),
            root_password=str(self.config["root-password"]),
        )

    def _clients(self) -> tuple[list[_Client], list[problems.Problem]]:
        """Read all requests on the endpoint ``database``."""
        clients: list[_Client] = []
        found: list[problems.Problem] = []
        for relation in self.model.relations[_ENDPOINT]:
            request = database_provider.read(databag.remote_app(relation))
            if isinstance(request, Absent):
                # A relation that has not asked yet is no problem of ours.
                continue
            if not isinstance(request, Invalid):
                try:
                    # The account has the same name.
                    mariadb.check_database(request.database)
                    mariadb.check_account(request.database)
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

    def _serve(self, clients: list[_Client], shared: _Shared) -> list[problems.Problem]:
        """Bring databases and accounts in line with the relations, then answer them."""
        held = server.find(self._container)
        legacy = self.model.relations[_LEGACY_ENDPOINT]
        wanted = mariadb.Wanted(
            model=self.model.uuid,
            requests={
                client.relation.id: mariadb.Account(
                    name=client.request.database,
                    database=client.request.database,
                    password=mariadb.password_hash(client.password),
                )
                for client in clients
            },
            relation_ids=[relation.id for relation in self.model.relations[_ENDPOINT]],
            shared=shared.accounts() if legacy else (),
        )
        conflicts = mariadb.conflicts(held, wanted)
        met = {key: value for key, value in wanted.requests.items() if key not in conflicts}
        wanted = dataclasses.replace(wanted, requests=met)
        server.run(self._container, mariadb.changes(held, wanted))
        self.unit.set_workload_version(held.version)
        for client in clients:
            if client.relation.id not in conflicts:
                self._answer(client, held.version)
        for relation in legacy:
            databag.save(relation.data[self.unit], self._legacy_answer(shared))
        return [
            problems.blocked(
                f"{client.relation.app.name}: the database {client.request.database} "
                f"{conflicts[client.relation.id]}"
            )
            for client in clients
            if client.relation.id in conflicts
        ]

    def _answer(self, client: _Client, version: str) -> None:
        answer = database_provider.Answer(
            database=client.request.database,
            username=client.request.database,
            password=client.password,
            # The short name, as the real charm sends it.
            endpoints=f"{self.app.name}:{mariadb.PORT}",
            version=version,
        )
        database_provider.publish(self, client.relation, client.request, answer)

    def _legacy_answer(self, shared: _Shared) -> dict[str, str]:
        return {
            # The real charm sends the address of its Service, which its name stands for here.
            "host": uris.service_host(self.app.name, self.model.name),
            "port": str(mariadb.PORT),
            "user": shared.user,
            "password": shared.password,
            "database": shared.database,
            "root_password": shared.root_password,
        }


if __name__ == "__main__":
    ops.main(MariadbCharm)
