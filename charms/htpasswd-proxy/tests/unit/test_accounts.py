"""Own accounts: what is taken, what is refused, and that nothing of a password is repeated."""

from __future__ import annotations

import contextlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

import accounts

NAMES = st.text(string.ascii_letters + string.digits + "._@-", min_size=1, max_size=64).filter(
    lambda name: not name.startswith(accounts.RESERVED)
)
PASSWORDS = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=12, max_size=72
).filter(lambda text: 12 <= len(text.encode()) <= 72)


@given(st.dictionaries(NAMES, PASSWORDS, min_size=1, max_size=10))
def test_whatever_can_be_typed_is_a_password(users: dict[str, str]) -> None:
    # GIVEN lines of names and passwords, in any order, with blank lines in between
    lines = "\n\n".join(f"{name}:{password}" for name, password in users.items())
    # THEN these are the accounts
    found = accounts.parse(f"{lines}\n")
    assert {account.name: account.password for account in found} == users
    assert not any(account.generated for account in found)


@given(st.text())
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    # Text that happens to be a list of accounts is as rare as it is harmless.
    with contextlib.suppress(ValueError):
        assert accounts.parse(text)
        return
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
        accounts.parse(text)


def test_password_is_in_no_message_and_no_repr() -> None:
    # GIVEN a line where the colon was forgotten, so that all of it may be a password
    secret = "correct horse battery"
    with pytest.raises(ValueError, match="line 1") as refused:
        accounts.parse(f"ada {secret}")
    assert secret not in str(refused.value)
    # AND one whose name is not a name
    with pytest.raises(ValueError, match="line 1") as refused:
        accounts.parse(f"{secret}:ada")
    assert secret not in str(refused.value)
    # AND one that is right
    assert secret not in repr(accounts.parse(f"ada:{secret}"))


def test_number_of_accounts_is_bounded() -> None:
    lines = "\n".join(f"user{number}:correct horse" for number in range(101))
    with pytest.raises(ValueError, match="there are 101 accounts, 100 are allowed"):
        accounts.parse(lines)
