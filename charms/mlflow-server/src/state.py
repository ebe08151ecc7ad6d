"""Read options, databags and secrets into one frozen State; nothing else reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import ops

import config
from mlflow_kit import databag, problems, secrets, uris
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import (
    basic_auth,
    database,
    ingress,
    mysql_client,
    mysql_legacy,
    object_storage,
    postgresql_client,
)

PORT = 5000

DATABASES = ("postgresql", "mysql", "mariadb")
"""Endpoints for a database, of which exactly one is wanted."""

_Model = TypeVar("_Model")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """Who we are.

    Attributes:
        application: name of the application.
        model: name of its model.
        unit: name of this unit.
        leader: whether this unit leads.
        address: IP address of the pod; empty while Juju does not know it.
    """

    application: str
    model: str
    unit: str
    leader: bool
    address: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """All that the workload and the databags follow from.

    Attributes:
        identity: who we are.
        config: the options.
        dialect: which kind of database it is; ``mysql`` stands for MariaDB too.
        database: the database for metadata.
        storage: the object store for artifacts.
        ingress_url: address that the ingress gave us; empty when there is none.
        account: account at the password proxy.
        pending: what other applications still owe us. A server that runs goes on without; a
            first start waits for it, because it would mean a restart a moment later.
    """

    identity: Identity
    config: config.Config
    dialect: Literal["postgresql", "mysql"]
    database: database.Database
    storage: object_storage.ObjectStorage
    ingress_url: str = ""
    account: basic_auth.Account | None = None
    pending: tuple[problems.Problem, ...] = ()

    @property
    def proxied(self) -> basic_auth.Endpoint | None:
        """Where the password proxy serves this application."""
        if self.account is None:
            return None
        return self.account.endpoint(self.identity.application, self.identity.model)

    @property
    def direct_url(self) -> str:
        """Address inside the cluster, past any proxy."""
        return uris.service_url(self.identity.application, self.identity.model, PORT)

    @property
    def internal_url(self) -> str:
        """Address inside the cluster, through the password proxy where there is one."""
        return self.proxied.url if self.proxied else self.direct_url

    @property
    def external_url(self) -> str:
        """Address for browsers and clients outside; empty when there is none."""
        if self.config.external_url:
            return self.config.external_url.rstrip("/")
        proxied = self.proxied.external_url if self.proxied else ""
        return proxied or self.ingress_url


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unready:
    """There is no State, and why.

    Attributes:
        problems: the reasons, most useful first.
        stop: whether the server must stop: an input is missing. Input that is there and bad
            leaves the last good configuration serving.
    """

    problems: tuple[problems.Problem, ...]
    stop: bool


def identity(charm: ops.CharmBase) -> Identity:
    """Return who we are."""
    return Identity(
        application=charm.app.name,
        model=charm.model.name,
        unit=charm.unit.name,
        leader=charm.unit.is_leader(),
        address=_address(charm.model),
    )


def options(charm: ops.CharmBase) -> config.Config | problems.Problem:
    """Return the options, or what is wrong with them."""
    try:
        return charm.load_config(config.Config)
    except ValueError as error:
        return problems.blocked(str(error))


def load(charm: ops.CharmBase) -> State | Unready:
    """Return the State, or why there is none."""
    loader = _Loader(charm.model)
    settings = options(charm)
    if isinstance(settings, problems.Problem):
        loader.bad.append(settings)
    found = loader.database()
    storage = loader.required("object-storage", object_storage.read)
    address = loader.optional("ingress", ingress.read)
    account = loader.optional("basic-auth", lambda bag: basic_auth.read(bag, loader.secret))
    if (
        isinstance(settings, problems.Problem)
        or found is None
        or storage is None
        or loader.missing
        or loader.bad
    ):
        return Unready(
            problems=(*loader.bad, *loader.missing, *loader.pending), stop=bool(loader.missing)
        )
    endpoint, server = found
    state = State(
        identity=identity(charm),
        config=settings,
        dialect="postgresql" if endpoint == "postgresql" else "mysql",
        database=server,
        storage=storage,
        ingress_url=address.url if address else "",
        account=account,
    )
    if account is not None and state.proxied is None:
        loader.pending.append(
            problems.waiting(
                "basic-auth: waiting for this application's address behind the proxy"
                " (relate ingress to it)"
            )
        )
    return dataclasses.replace(state, pending=tuple(loader.pending))


class _Loader:
    """Collects what is wrong while relations are read.

    Attributes:
        missing: inputs that are not there.
        bad: inputs that are there and cannot be used.
        pending: what a first start waits for.
    """

    def __init__(self, model: ops.Model) -> None:
        self._model = model
        self.secret = secrets.reader(model)
        self.missing: list[problems.Problem] = []
        self.bad: list[problems.Problem] = []
        self.pending: list[problems.Problem] = []

    def database(self) -> tuple[str, database.Database] | None:
        """Return the one database and its endpoint."""
        related = [endpoint for endpoint in DATABASES if self._relation(endpoint)]
        if not related:
            self.missing.append(problems.blocked("missing relation: postgresql, mysql or mariadb"))
            return None
        if len(related) > 1:
            self.bad.append(
                problems.blocked(
                    f"related to {' and '.join(related)}: only one database can be used,"
                    " remove the others"
                )
            )
            return None
        endpoint = related[0]
        relation = self._relation(endpoint)
        if relation is None:
            return None
        if endpoint == "mariadb":
            units = sorted(relation.units, key=lambda unit: unit.name)
            answer = mysql_legacy.read([dict(relation.data[unit]) for unit in units])
        else:
            read = {"postgresql": postgresql_client.read, "mysql": mysql_client.read}[endpoint]
            answer = read(databag.remote_app(relation), self.secret)
        found = self._checked(endpoint, answer, self.missing, self.bad)
        return None if found is None else (endpoint, found)

    def required(
        self, endpoint: str, read: Callable[[Mapping[str, str]], Absent | Invalid | _Model]
    ) -> _Model | None:
        """Return what a relation has to give."""
        relation = self._relation(endpoint)
        if relation is None:
            self.missing.append(problems.blocked(f"missing relation: {endpoint}"))
            return None
        answer = read(databag.remote_app(relation))
        return self._checked(endpoint, answer, self.missing, self.bad)

    def optional(
        self, endpoint: str, read: Callable[[Mapping[str, str]], Absent | Invalid | _Model]
    ) -> _Model | None:
        """Return what a relation gives, if there is one."""
        relation = self._relation(endpoint)
        if relation is None:
            return None
        answer = read(databag.remote_app(relation))
        return self._checked(endpoint, answer, self.pending, self.bad)

    def _relation(self, endpoint: str) -> ops.Relation | None:
        # In relation-broken the relation is listed for the last time, as not active.
        for relation in self._model.relations[endpoint]:
            if relation.active:
                return relation
        return None

    def _checked(
        self,
        endpoint: str,
        answer: Absent | Invalid | _Model,
        absent: list[problems.Problem],
        invalid: list[problems.Problem],
    ) -> _Model | None:
        if isinstance(answer, Absent):
            absent.append(problems.waiting(f"{endpoint}: waiting for {answer.waiting_for}"))
            return None
        if isinstance(answer, Invalid):
            invalid.append(problems.blocked(f"{endpoint}: {answer.reason}"))
            return None
        return answer


def _address(model: ops.Model) -> str:
    try:
        binding = model.get_binding("ingress")
        address = binding.network.bind_address if binding else None
    except ops.ModelError:
        # Juju has no address for a pod that is only coming up.
        return ""
    return str(address) if address else ""
