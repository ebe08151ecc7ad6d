"""The options of the charm."""

from __future__ import annotations

import dataclasses
import re

import accounts
from mlflow_kit import options

_REALM = re.compile(r"[A-Za-z0-9 ._-]{1,64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The options, checked.

    Attributes:
        realm: what browsers show when they ask for the password.
        username: name of the first account, whose password the charm generates.
        users: URI of the secret with own accounts; None without any.

    Raises:
        ValueError: if an option has a value that is not allowed; the message names both.
    """

    realm: str
    username: str
    users: str | None = None

    def __post_init__(self) -> None:
        if not _REALM.fullmatch(self.realm):
            raise options.error("realm", self.realm, "1 to 64 letters, digits, blanks and . _ -")
        if not accounts.NAME.fullmatch(self.username):
            raise options.error("username", self.username, accounts.NAME_RULE)
        if self.username.startswith(accounts.RESERVED):
            allowed = f"a name that does not begin with {accounts.RESERVED!r}"
            raise options.error("username", self.username, allowed)
