"""`postgresql_client` and `mysql_client`, the provider's side of data_interfaces V0.

The database charms of onebox answer with it; `database` is what the MLflow charms ask with. V1
requests are not answered, as the databases on Charmhub do not answer them either.

Source: charmlibs' interface specifications and data_interfaces 0.58, as postgresql-k8s and
mariadb-k8s use it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import cast

import ops

from mlflow_kit import databag
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import _parse

# Which secret a field goes to; the databag key is "secret-" and this name.
_GROUPS = {"username": "user", "password": "user", "uris": "user", "tls": "tls"}

# What a requirer may ask for beyond a database with an ordinary account. Silence would leave it
# with less than it needs, so each of them is refused by name.
_REFUSED = (
    "extra-user-roles",
    "extra-group-roles",
    "prefix-matching",
    "requested-entity-secret",
    "external-node-connectivity",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What a requirer asks for.

    Attributes:
        database: name of the database.
        secret_fields: fields that it wants in Juju secrets; with none of them it is an old
            requirer, which reads everything in clear.
    """

    database: str
    secret_fields: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """A database and the account to use it with.

    Attributes:
        database: name of the database.
        username: the account.
        password: its password.
        endpoints: ``host:port``, several separated by commas.
        version: of the server.
        uris: a connection URI with the password in it; empty where the provider sends none.
        tls: ``True`` or ``False``, as Python writes it; empty where the provider does not say.
    """

    database: str
    username: str
    password: str = dataclasses.field(repr=False)
    endpoints: str
    version: str
    uris: str = dataclasses.field(default="", repr=False)
    tls: str = ""


def read(bag: Mapping[str, str]) -> Absent | Invalid | Request:
    """Read the requirer's application databag."""
    database = bag.get("database", "")
    if not database:
        return Absent("the name of a database")
    if _parse.has_control(database):
        return Invalid("database has control characters")
    for key in _REFUSED:
        if bag.get(key):
            return Invalid(f"{key} is not offered here")
    if bag.get("entity-type", "USER") != "USER":
        return Invalid("entity-type other than USER is not offered here")
    wanted = _parse.json_value(bag, "requested-secrets")
    if wanted is None:
        wanted = []
    if isinstance(wanted, Invalid):
        return wanted
    if not isinstance(wanted, list):
        return Invalid("requested-secrets is not a list")
    names = cast("list[object]", wanted)
    return Request(
        database=database,
        secret_fields=frozenset(name for name in names if isinstance(name, str)),
    )


def split(request: Request, answer: Answer) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return what goes into the databag, and what goes into which secret."""
    clear = {
        "database": answer.database,
        "endpoints": answer.endpoints,
        "version": answer.version,
    }
    groups: dict[str, dict[str, str]] = {}
    for field, group in _GROUPS.items():
        value: str = getattr(answer, field)
        if not value:
            continue
        if field in request.secret_fields:
            groups.setdefault(group, {})[field] = value
        elif field == "uris" and request.secret_fields:
            # Nobody asked for it, and its password would lie in clear.
            continue
        else:
            clear[field] = value
    return clear, groups


def given_password(charm: ops.CharmBase, relation: ops.Relation) -> str | None:
    """Return the password that this relation was given before, for the leader."""
    try:
        content = charm.model.get_secret(label=_label(relation, "user")).peek_content()
    except ops.SecretNotFoundError:
        content = relation.data[charm.app]
    return content.get("password")


def publish(
    charm: ops.CharmBase, relation: ops.Relation, request: Request, answer: Answer
) -> None:
    """Save the answer, as the leader."""
    clear, groups = split(request, answer)
    bag = relation.data[charm.app]
    for group, content in groups.items():
        key = f"secret-{group}"
        uri = _save_secret(charm, relation, _label(relation, group), content)
        # Juju writes one URI in several forms; the one that was sent first stays.
        clear[key] = bag.get(key) or uri
    databag.save(bag, clear)


def withdraw(charm: ops.CharmBase, relation: ops.Relation) -> None:
    """Remove the secrets of a relation that is going away, as the leader."""
    for group in sorted(set(_GROUPS.values())):
        with contextlib.suppress(ops.SecretNotFoundError):
            charm.model.get_secret(label=_label(relation, group)).remove_all_revisions()


def _save_secret(
    charm: ops.CharmBase, relation: ops.Relation, label: str, content: dict[str, str]
) -> str:
    try:
        secret = charm.model.get_secret(label=label)
    except ops.SecretNotFoundError:
        secret = charm.app.add_secret(content, label=label)
        secret.grant(relation)
        return secret.id or ""
    if secret.peek_content() != content:
        secret.set_content(content)
    return secret.get_info().id


def _label(relation: ops.Relation, group: str) -> str:
    """The label that data_interfaces uses; it is known to this side only."""
    return f"{relation.name}.{relation.id}.{group}.secret"
