"""The plan and the SQL of PostgreSQL; tests/functional runs them on a real server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import postgresql


def account(number: int, database: str, verifier: str = "v") -> postgresql.Account:
    return postgresql.Account(name=f"relation_id_{number}", database=database, verifier=verifier)


def held(*accounts: postgresql.Account, databases: tuple[str, ...] = ()) -> postgresql.Found:
    return postgresql.Found(
        version="15.18",
        roles=frozenset({"postgres", *databases, *(each.name for each in accounts)}),
        databases={"postgres": True, **dict.fromkeys(databases, False)},
        accounts={each.name: each for each in accounts},
    )


def test_what_is_there_needs_no_change() -> None:
    # GIVEN a server that holds what is wanted
    found = held(account(1, "a"), account(2, "b"), databases=("a", "b"))
    # WHEN compared
    changes = postgresql.changes(found, [account(1, "a"), account(2, "b")], relation_ids=[1, 2])
    # THEN there is nothing to do
    assert changes == []


def test_first_account_makes_its_database() -> None:
    # GIVEN an empty server
    # WHEN an account is wanted
    changes = postgresql.changes(held(), [account(1, "a")], relation_ids=[1])
    # THEN a role owns the database, nobody else may connect, and the account acts as the owner
    statements = "\n".join(change.sql for change in changes).splitlines()
    assert statements == [
        'CREATE ROLE "a" NOLOGIN;',
        'CREATE DATABASE "a" OWNER "a";',
        'REVOKE ALL ON DATABASE "a" FROM PUBLIC;',
        "BEGIN;",
        'CREATE ROLE "relation_id_1" LOGIN PASSWORD \'v\' IN ROLE "a";',
        'ALTER ROLE "relation_id_1" IN DATABASE "a" SET role TO \'a\';',
        "COMMIT;",
    ]


def test_half_made_database_is_completed() -> None:
    # GIVEN a hook that died after CREATE DATABASE
    found = postgresql.Found(
        version="15.18",
        roles=frozenset({"a"}),
        databases={"a": True},
        accounts={},
    )
    # WHEN its account is wanted
    changes = postgresql.changes(found, [account(1, "a")], relation_ids=[1])
    # THEN what was left is done
    assert changes[0].sql == 'REVOKE ALL ON DATABASE "a" FROM PUBLIC;'


def test_lost_secret_gives_the_account_a_new_password() -> None:
    # GIVEN an account with another password than the one that will be sent
    found = held(account(1, "a", "old"), databases=("a",))
    # WHEN compared
    changes = postgresql.changes(found, [account(1, "a", "new")], relation_ids=[1])
    # THEN the server gets the new one
    assert [change.sql for change in changes] == ["ALTER ROLE \"relation_id_1\" PASSWORD 'new';"]


def test_account_of_a_silent_relation_stays() -> None:
    # GIVEN a relation whose request cannot be read at the moment
    found = held(account(1, "a"), databases=("a",))
    # WHEN compared
    # THEN its account is left alone
    assert postgresql.changes(found, [], relation_ids=[1]) == []


def test_account_that_moves_is_made_anew() -> None:
    # GIVEN an account of one database
    found = held(account(1, "a"), databases=("a", "b"))
    # WHEN its relation asks for another one
    changes = postgresql.changes(found, [account(1, "b")], relation_ids=[1])
    # THEN it loses the first, keeps nothing in it, and gets the second
    assert changes[1].database == "a"
    assert 'DROP ROLE "relation_id_1";' in changes[2].sql
    assert 'IN ROLE "b"' in changes[3].sql


def test_verifier_is_the_one_that_postgresql_computes() -> None:
    # GIVEN the salt, password and verifier of RFC 7677's example
    # WHEN ours is made, whose salt differs
    made = postgresql.verifier("user", "pencil")
    # THEN it has the form of pg_authid and is the same each time
    scheme, rest = made.split("$", 1)
    iterations, salt = rest.split("$")[0].split(":")
    assert (scheme, iterations) == ("SCRAM-SHA-256", "4096")
    assert len(salt) == 24
    assert made == postgresql.verifier("user", "pencil")
    assert made != postgresql.verifier("user", "pencils")
    assert made != postgresql.verifier("other", "pencil")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_quoted_names_end_where_they_should(name: str) -> None:
    # GIVEN any name
    # WHEN it is quoted as identifier and as literal
    # THEN the quote inside is doubled, so that no other text follows
    for quoted, mark in ((postgresql.identifier(name), '"'), (postgresql.literal(name), "'")):
        assert quoted[0] == quoted[-1] == mark
        assert quoted[1:-1].replace(mark * 2, "").count(mark) == 0
        assert quoted[1:-1].replace(mark * 2, mark) == name


@pytest.mark.parametrize("name", ["mlflow", "a=b", 'a"b', "ä", "x" * 63])
def test_good_names_are_taken(name: str) -> None:
    postgresql.check_name(name)


@pytest.mark.parametrize("name", ["x" * 64, "template1", "Postgres", "pg_a", "relation_id_3"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="database name"):
        postgresql.check_name(name)


def test_uri_quotes_its_parts() -> None:
    # GIVEN a password and a database with characters that divide a URI
    # WHEN the URI is made
    uri = postgresql.uri(account(1, "a/b?c"), "p@:/ w", "host:5432")
    # THEN they are encoded
    assert uri == "postgresql://relation_id_1:p%40%3A%2F%20w@host:5432/a%2Fb%3Fc"
