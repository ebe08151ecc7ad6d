"""Who may log in: accounts, and the list of own accounts that the operator brings."""

from __future__ import annotations

import dataclasses
import re

NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
NAME_RULE = "1 to 64 of the characters A-Z a-z 0-9 . _ @ -"
RESERVED = "relation-"
"""How the names of the accounts that relations get begin."""

_MIN_PASSWORD = 12
_MAX_PASSWORD = 72
"""Bytes; bcrypt ignores what comes after them."""
_MAX_ACCOUNTS = 100
"""Each needs 85 ms of hashing, once."""


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Account:
    """A name and its password.

    Attributes:
        name: user name.
        password: password in clear; it leaves the charm as a hash only.
        generated: whether the charm made the password, from 160 random bits.
    """

    name: str
    password: str = dataclasses.field(repr=False)
    generated: bool


def parse(text: str) -> tuple[Account, ...]:
    """Read own accounts: one ``name:password`` a line, blank lines left out.

    Args:
        text: value of the key ``users`` in the secret that the option ``users`` names.

    Raises:
        ValueError: if a line is not such an account. The message names the line, and the name
            where it is a valid one: anything else on a line may be part of a password.
    """
    found: dict[str, Account] = {}
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        name, colon, password = line.partition(":")
        where = f"line {number}"
        if not colon:
            raise ValueError(f"{where} is not of the form name:password")
        if not NAME.fullmatch(name):
            raise ValueError(f"the name on {where} must be {NAME_RULE}")
        if name.startswith(RESERVED):
            raise ValueError(f"the name {name!r} must not begin with {RESERVED!r}")
        if name in found:
            raise ValueError(f"the name {name!r} is there twice")
        _check_password(password, name)
        found[name] = Account(name=name, password=password, generated=False)
    if not found:
        raise ValueError("there is no account in it")
    if len(found) > _MAX_ACCOUNTS:
        raise ValueError(f"there are {len(found)} accounts, {_MAX_ACCOUNTS} are allowed")
    return tuple(sorted(found.values()))


def _check_password(password: str, name: str) -> None:
    size = len(password.encode(errors="surrogatepass"))
    if not _MIN_PASSWORD <= size <= _MAX_PASSWORD:
        raise ValueError(
            f"the password of {name!r} has {size} bytes, "
            f"{_MIN_PASSWORD} to {_MAX_PASSWORD} are allowed"
        )
    if not password.isprintable():
        raise ValueError(f"the password of {name!r} has characters that cannot be typed")
