"""The password file of nginx: bcrypt hashes that stay the same as long as the passwords do.

A bcrypt hash takes 85 ms at cost 10, and a new random salt would change the file on every hook.
So the salt is derived: an HMAC of name and password under a random key that only this
application's units can read (a Juju secret). An existing line with the expected salt then proves
that the password is the same, and is taken over without hashing; and all units have the same
file. The salt tells nothing without that key; who can read the key can read the passwords too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

from accounts import Account

COST = 10
"""For passwords that people choose: the lowest cost that OWASP's password storage cheat sheet
allows."""
COST_GENERATED = 5
"""For passwords of 160 random bits, which nobody finds by trying, however cheap a try is."""

_SALT_BYTES = 16
_HASH_LENGTH = 60
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BCRYPT64 = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def render(accounts: Iterable[Account], key: bytes, known: str = "") -> str:
    """Return the password file.

    Args:
        accounts: whoever may log in.
        key: key that the salts are derived with.
        known: the present password file, whose hashes are taken over where they still hold.

    Raises:
        OSError: if the system's libcrypt is not there or has no bcrypt.
    """
    hashes = dict(line.split(":", 1) for line in known.splitlines() if ":" in line)
    lines: list[str] = []
    for account in sorted(accounts):
        setting = _setting(account, key)
        found = hashes.get(account.name, "")
        if not found.startswith(setting) or len(found) != _HASH_LENGTH:
            found = _crypt(account.password, setting)
        lines.append(f"{account.name}:{found}\n")
    return "".join(lines)


def _setting(account: Account, key: bytes) -> str:
    """Return algorithm, cost and salt, as crypt(5) writes them in front of a hash."""
    message = f"{account.name}:{account.password}".encode()
    salt = hmac.new(key, message, hashlib.sha256).digest()[:_SALT_BYTES]
    text = base64.b64encode(salt).rstrip(b"=").translate(bytes.maketrans(_BASE64, _BCRYPT64))
    cost = COST_GENERATED if account.generated else COST
    return f"$2b${cost:02d}${text.decode()}"


def _crypt(password: str, setting: str) -> str:
    # The system's own crypt(3), which is in every Ubuntu base. Python's module for it ended with
    # 3.12, and the bcrypt package is compiled for one version of Python. It is loaded only when
    # there is something to hash.
    import ctypes

    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    library.crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    answer: bytes | None = library.crypt(password.encode(), setting.encode())
    found = (answer or b"").decode()
    if not found.startswith(setting) or len(found) != _HASH_LENGTH:
        raise OSError("crypt(3) of this system has no bcrypt")
    return found
