"""Which secrets this application owns, and what is in them."""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from accounts import RESERVED, Account
from mlflow_kit.interfaces import basic_auth
from mlflow_kit.owned_secrets import OwnedSecrets

if TYPE_CHECKING:
    import ops

_FIRST = "first-user"
_SALTS = "salts"
_CLIENT = re.compile(r"client-([0-9]+)")
_RANDOM_BYTES = 20
_MAX_NAME = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Credentials:
    """What the secrets hold.

    Attributes:
        first: the account of whoever deployed the charm.
        first_secret: URI of the secret that holds it.
        salt_key: key for the salts of the password file.
        clients: the account of each basic-auth relation and the URI of its secret, by the
            relation's id.
    """

    first: Account
    first_secret: str
    salt_key: bytes = dataclasses.field(repr=False)
    clients: Mapping[int, tuple[Account, str]]


def ensure(owned: OwnedSecrets, username: str, clients: Iterable[ops.Relation]) -> None:
    """Make the secrets that are missing and remove those that nobody needs; for the leader.

    Args:
        owned: the secrets of this application.
        username: name of the first account.
        clients: the basic-auth relations that exist.
    """
    relations = {f"client-{relation.id}": relation for relation in clients}
    there = owned.labels()
    if _SALTS not in there:
        owned.add(_SALTS, {"key": secrets.token_hex(32)})
    if _FIRST not in there:
        owned.add(_FIRST, basic_auth.secret_content(username, _password()))
    for label in sorted(relations.keys() - there):
        relation = relations[label]
        name = f"{RESERVED}{relation.id}-{relation.app.name}"[:_MAX_NAME]
        owned.add(label, basic_auth.secret_content(name, _password()), grant=relation)
    for label in sorted(there - {_FIRST, _SALTS, *relations}):
        owned.remove(label)
    content = owned.content(_FIRST)
    if content is not None and content["username"] != username:
        owned.change(_FIRST, basic_auth.secret_content(username, content["password"]))


def rotate(owned: OwnedSecrets) -> None:
    """Give the first account a new password; for the leader.

    Raises:
        LookupError: if there is no first account yet.
    """
    content = owned.content(_FIRST)
    if content is None:
        raise LookupError("there is no account yet")
    owned.change(_FIRST, basic_auth.secret_content(content["username"], _password()))


def read(owned: OwnedSecrets) -> Credentials | None:
    """Read the secrets; None while the leader has not made them."""
    first, salts = owned.content(_FIRST), owned.content(_SALTS)
    if first is None or salts is None:
        return None
    clients: dict[int, tuple[Account, str]] = {}
    for label in sorted(owned.labels()):
        number = _CLIENT.fullmatch(label)
        content = owned.content(label) if number else None
        if number is not None and content is not None:
            clients[int(number[1])] = (_account(content), owned.uri(label) or "")
    return Credentials(
        first=_account(first),
        first_secret=owned.uri(_FIRST) or "",
        salt_key=bytes.fromhex(salts["key"]),
        clients=clients,
    )


def _password() -> str:
    return secrets.token_urlsafe(_RANDOM_BYTES)


def _account(content: Mapping[str, str]) -> Account:
    return Account(name=content["username"], password=content["password"], generated=True)
