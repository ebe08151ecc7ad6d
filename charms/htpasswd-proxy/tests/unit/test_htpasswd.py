"""The password file: real bcrypt, stable lines, no hashing without need."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import htpasswd
from accounts import Account

KEY = b"k" * 32
GENERATED = Account(name="admin", password="6v9JmF2xYrZ0cQeTgHbNwUaLkDs", generated=True)
OWN = Account(name="ada", password="correct horse battery", generated=False)


def verifies(line: str, password: str) -> bool:
    """Whether crypt(3), which nginx asks as well, takes the password."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    hashed = line.partition(":")[2].strip().encode()
    return library.crypt(password.encode(), hashed) == hashed


def test_lines_are_bcrypt_hashes_at_the_cost_that_fits() -> None:
    text = htpasswd.render([GENERATED, OWN], KEY)
    own, generated = text.splitlines()
    assert own.startswith("ada:$2b$10$")
    assert generated.startswith("admin:$2b$05$")
    assert verifies(own, OWN.password)
    assert verifies(generated, GENERATED.password)
    assert not verifies(own, GENERATED.password)


@settings(max_examples=25, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["C"]), min_size=12, max_size=72).filter(
        lambda text: len(text.encode()) <= 72
    )
)
def test_every_password_that_is_allowed_is_hashed_whole(password: str) -> None:
    line = htpasswd.render([Account(name="x", password=password, generated=True)], KEY)
    assert verifies(line, password)
    assert not verifies(line, password[:-1])


def test_same_accounts_give_the_same_file_everywhere() -> None:
    assert htpasswd.render([OWN, GENERATED], KEY) == htpasswd.render([GENERATED, OWN], KEY)


def test_known_hashes_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    known = htpasswd.render([OWN, GENERATED], KEY)

    def never(password: str, setting: str) -> str:
        raise AssertionError("hashed without need")

    monkeypatch.setattr(htpasswd, "_crypt", never)
    assert htpasswd.render([OWN, GENERATED], KEY, known) == known


@pytest.mark.parametrize(
    "changed",
    [
        Account(name="ada", password="another long password", generated=False),
        Account(name="bob", password=OWN.password, generated=False),
    ],
)
def test_other_password_or_name_gets_another_hash(changed: Account) -> None:
    known = htpasswd.render([OWN], KEY)
    line = htpasswd.render([changed], KEY, known)
    assert line.partition(":")[2] != known.partition(":")[2]
    assert verifies(line, changed.password)


def test_salt_depends_on_the_key() -> None:
    assert htpasswd.render([OWN], KEY) != htpasswd.render([OWN], b"j" * 32)


@pytest.mark.parametrize("known", ["", "ada\n", "ada:\n", "ada:$2b$10$short\n", "\x00\n:::\n"])
def test_damaged_file_is_made_anew(known: str) -> None:
    assert htpasswd.render([OWN], KEY, known) == htpasswd.render([OWN], KEY)
