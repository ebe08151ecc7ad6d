"""Everything the charm knows from outside, as one frozen value.

The only reader of options, databags and secrets.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Iterator, Mapping

import ops

import accounts
import credentials
from accounts import Account
from config import Config
from mlflow_kit import databag, problems, uris
from mlflow_kit import secrets as kit_secrets
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import ingress
from mlflow_kit.owned_secrets import OwnedSecrets
from mlflow_kit.problems import Problem

BASIC_AUTH = "basic-auth"
INGRESS = "ingress"
PEERS = "peers"
UPSTREAMS = "upstreams"

_USERS_KEY = "users"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upstream:
    """An application that gets a password in front of it.

    Attributes:
        relation_id: the relation that it asked over.
        request: what it asked for.
        path: where it appears, one path element without slashes.
        servers: addresses of its units, or names where it sent no address; never empty.
    """

    relation_id: int
    request: ingress.Requirer
    path: str
    servers: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """What the charm works from.

    Attributes:
        application: name of this application.
        model: name of its model.
        unit: name of this unit, for example ``htpasswd-proxy/0``.
        address: IP address of this unit; None while Juju does not know it.
        realm: what browsers show when they ask for the password.
        first: name of the first account.
        first_secret: URI of the secret that holds it.
        accounts: whoever may log in.
        salt_key: key for the salts of the password file.
        upstreams: the applications behind the proxy.
        unserved: relations whose upstream cannot be served.
        clients: URI of the secret with the account of each basic-auth relation, by its id.
        external_url: address of this proxy from outside, without a trailing slash; empty
            without an ingress.
        behind_ingress: whether an ingress is related, so that requests come through it.
        awaits_address: whether that ingress still owes us our address.
        nameservers: DNS servers of the container.
        problems: what is wrong with single relations; the rest works.
    """

    application: str
    model: str
    unit: str
    address: str | None
    realm: str
    first: str
    first_secret: str
    accounts: tuple[Account, ...]
    salt_key: bytes = dataclasses.field(repr=False)
    upstreams: tuple[Upstream, ...] = ()
    unserved: tuple[int, ...] = ()
    clients: Mapping[int, str] = dataclasses.field(default_factory=dict[int, str])
    external_url: str = ""
    behind_ingress: bool = False
    awaits_address: bool = False
    nameservers: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def options(charm: ops.CharmBase) -> Config | list[Problem]:
    """Read and check the options."""
    users = charm.config.get("users")
    try:
        return Config(
            realm=str(charm.config["realm"]),
            username=str(charm.config["username"]),
            users=str(users) if users else None,
        )
    except ValueError as error:
        return [problems.blocked(str(error))]


def load(charm: ops.CharmBase, config: Config, resolv_conf: str = "") -> State | list[Problem]:
    """Read everything.

    Args:
        charm: the charm.
        config: its options.
        resolv_conf: content of ``/etc/resolv.conf`` in the workload container.

    Returns:
        What to work from; or what is wrong, and then whatever serves shall go on as it does.
    """
    owned = owned_secrets(charm)
    known = None if owned is None else credentials.read(owned)
    if known is None:
        return [problems.waiting("the leader has not made the first account yet")]
    own = _own_accounts(charm, config)
    if isinstance(own, Problem):
        return [own]
    found: list[Problem] = []
    nameservers = tuple(_nameservers(resolv_conf))
    upstreams = tuple(_upstreams(charm, nameservers, found))
    served = {upstream.relation_id for upstream in upstreams}
    clients = {
        relation.id: known.clients[relation.id]
        for relation in active(charm.model, BASIC_AUTH)
        if relation.id in known.clients
    }
    relation = next(iter(active(charm.model, INGRESS)), None)
    external = None if relation is None else ingress.read(databag.remote_app(relation))
    if relation is not None and isinstance(external, (Absent, Invalid)):
        found.append(_problem(relation, external))
    return State(
        application=charm.app.name,
        model=charm.model.name,
        unit=charm.unit.name,
        address=_address(charm.model),
        realm=config.realm,
        first=known.first.name,
        first_secret=known.first_secret,
        accounts=(known.first, *own, *(account for account, _ in clients.values())),
        salt_key=known.salt_key,
        upstreams=upstreams,
        unserved=tuple(
            relation.id for relation in active(charm.model, UPSTREAMS) if relation.id not in served
        ),
        clients={number: secret for number, (_, secret) in clients.items()},
        external_url=external.url if isinstance(external, ingress.Ingress) else "",
        behind_ingress=relation is not None,
        # An ingress of the SDI wire answers without an address, and is not waited for.
        awaits_address=isinstance(external, (Absent, Invalid)),
        nameservers=nameservers,
        problems=tuple(found),
    )


def owned_secrets(charm: ops.CharmBase) -> OwnedSecrets | None:
    """Return this application's secrets; None during install, when no relation is there."""
    peers = charm.model.get_relation(PEERS)
    return None if peers is None else OwnedSecrets(charm.model, charm.app, peers)


def active(model: ops.Model, endpoint: str) -> list[ops.Relation]:
    """Return the relations of an endpoint, without one that is just being broken."""
    found = [relation for relation in model.relations[endpoint] if relation.active]
    return sorted(found, key=lambda relation: relation.id)


def _own_accounts(charm: ops.CharmBase, config: Config) -> tuple[Account, ...] | Problem:
    if config.users is None:
        return ()
    content = kit_secrets.reader(charm.model)(config.users)
    if content is None:
        return problems.blocked(
            "the secret of option users cannot be read: "
            f"juju grant-secret {config.users} {charm.app.name}"
        )
    if _USERS_KEY not in content:
        return problems.blocked(f"the secret of option users has no key {_USERS_KEY!r}")
    try:
        own = accounts.parse(content[_USERS_KEY])
    except ValueError as error:
        return problems.blocked(f"the secret of option users: {error}")
    if config.username in {account.name for account in own}:
        return problems.blocked(
            f"the secret of option users has the name {config.username!r}, "
            "which option username gives to the first account"
        )
    return own


def _upstreams(
    charm: ops.CharmBase, nameservers: tuple[str, ...], found: list[Problem]
) -> Iterator[Upstream]:
    """Yield what can be served; what cannot is added to the problems."""
    taken: set[str] = set()
    relations = active(charm.model, UPSTREAMS)
    if not relations:
        app = charm.app.name
        found.append(
            problems.blocked(f"nothing to protect: juju integrate {app}:{UPSTREAMS} APPLICATION")
        )
    for relation in relations:
        units = [
            relation.data[unit] for unit in sorted(relation.units, key=lambda unit: unit.name)
        ]
        request = ingress.read_requirer(
            databag.remote_app(relation), units, model=charm.model.name
        )
        if isinstance(request, (Absent, Invalid)):
            found.append(_problem(relation, request))
            continue
        path = request.application
        if request.model != charm.model.name:
            path = f"{request.model}-{request.application}"
        servers = request.hosts or (uris.service_host(request.application, request.model),)
        if request.scheme != "http":
            found.append(_problem(relation, Invalid("scheme is not http")))
        elif not all(_is_upstream(server) for server in servers):
            found.append(_problem(relation, Invalid("an address is not one of a unit")))
        elif path.lower() in taken:
            found.append(_problem(relation, Invalid(f"path /{path}/ belongs to another one")))
        elif not nameservers and not all(uris.is_ip(server) for server in servers):
            found.append(problems.waiting(f"no DNS server to resolve the units of {path}"))
        else:
            taken.add(path.lower())
            yield Upstream(relation_id=relation.id, request=request, path=path, servers=servers)


def _problem(relation: ops.Relation, answer: Absent | Invalid) -> Problem:
    where = f"{relation.name} ({relation.app.name})"
    if isinstance(answer, Absent):
        return problems.waiting(f"{where}: waiting for {answer.waiting_for}")
    return problems.blocked(f"{where}: {answer.reason}")


def _is_upstream(server: str) -> bool:
    """Whether requests may be sent there: not to this machine, nor to a cloud's metadata."""
    if not uris.is_ip(server):
        return server.lower() != "localhost"
    address = ipaddress.ip_address(server)
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or "%" in server
    )


def _nameservers(resolv_conf: str) -> Iterable[str]:
    for line in resolv_conf.splitlines():
        words = line.split()
        if (
            len(words) >= 2
            and words[0] == "nameserver"
            and uris.is_ip(words[1])
            and "%" not in words[1]
        ):
            yield words[1]


def _address(model: ops.Model) -> str | None:
    address = model.get_binding(UPSTREAMS).network.bind_address
    return None if address is None else str(address)
