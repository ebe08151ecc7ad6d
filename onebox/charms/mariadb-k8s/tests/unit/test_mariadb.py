"""The plan and the SQL of MariaDB; tests/functional runs them on a real server."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mariadb

MODEL = "7d8b1c0e-5a5c-4a6e-9c59-0e2a1f7e8a11"
OTHER_MODEL = "0d3f5f0a-8f0e-4a53-8a53-8d1c7a1f2b22"


def account(name: str, password: str = "*A") -> mariadb.Account:
    return mariadb.Account(name=name, database=name, password=password)


def comment(relation_id: int, model: str = MODEL) -> str:
    return f"onebox {model} relation {relation_id}"


def held(**databases: int) -> mariadb.Found:
    """A server with databases of relations, and their accounts."""
    return mariadb.Found(
        version="10.11",
        databases={"mysql": "", **{name: comment(number) for name, number in databases.items()}},
        accounts=dict.fromkeys(databases, "*A"),
        grants=frozenset((mariadb.pattern(name), name) for name in databases),
    )


def test_what_is_there_needs_no_change() -> None:
    # GIVEN a server that holds what is wanted
    wanted = mariadb.Wanted(model=MODEL, requests={1: account("my_db")}, relation_ids=[1])
    # WHEN compared
    # THEN there is nothing to do
    assert mariadb.changes(held(my_db=1), wanted) == []


def test_database_and_account_are_made() -> None:
    # GIVEN an empty server
    wanted = mariadb.Wanted(model=MODEL, requests={1: account("my_db")}, relation_ids=[1])
    # WHEN compared
    # THEN the database remembers its relation, and the right is for that name only
    create, grant = mariadb.changes(held(), wanted)
    assert create == f"CREATE DATABASE `my_db` CHARACTER SET utf8mb4 COMMENT '{comment(1)}';"
    assert grant == (
        "GRANT ALL PRIVILEGES ON `my\\_db`.* TO `my_db`@'%' "
        "IDENTIFIED VIA mysql_native_password USING '*A';"
    )


def test_lost_secret_gives_the_account_a_new_password() -> None:
    # GIVEN an account with another password than the one that will be sent
    wanted = mariadb.Wanted(model=MODEL, requests={1: account("a", "*B")}, relation_ids=[1])
    # WHEN compared
    (change,) = mariadb.changes(held(a=1), wanted)
    # THEN the server gets the new one
    assert change.endswith("USING '*B';")


def test_database_of_a_silent_relation_stays() -> None:
    # GIVEN a relation whose request cannot be read at the moment
    wanted = mariadb.Wanted(model=MODEL, relation_ids=[1])
    # WHEN compared
    # THEN nothing of it is dropped
    assert mariadb.changes(held(a=1), wanted) == []


def test_next_relation_gets_an_empty_database_of_the_same_name() -> None:
    # GIVEN the database of a relation that is gone
    wanted = mariadb.Wanted(model=MODEL, requests={2: account("a", "*B")}, relation_ids=[2])
    # WHEN another relation asks for that name
    changes = mariadb.changes(held(a=1), wanted)
    # THEN the old one is dropped before the new one is made
    assert mariadb.conflicts(held(a=1), wanted) == {}
    assert changes[0] == "DROP DATABASE `a`;"
    assert changes[1].startswith("CREATE DATABASE `a`")
    assert changes[2].endswith("USING '*B';")


@pytest.mark.parametrize("text", ["", "made by hand", comment(1, OTHER_MODEL)])
def test_foreign_databases_are_never_dropped(text: str) -> None:
    # GIVEN a database that is not of this model
    found = mariadb.Found(version="10.11", databases={"a": text}, accounts={}, grants=frozenset())
    wanted = mariadb.Wanted(model=MODEL, requests={1: account("a")}, relation_ids=[1])
    # WHEN a relation asks for its name
    # THEN it stays, and the relation hears of it
    assert mariadb.conflicts(found, wanted) == {1: "is there already and not of this model"}
    assert mariadb.changes(found, mariadb.Wanted(model=MODEL)) == []


def test_shared_names_are_taken() -> None:
    # GIVEN the account and the database of the old interface
    shared = (mariadb.Account(name="u", database="d", password="*A"),)
    requests = {1: account("u"), 2: account("d"), 3: account("e")}
    wanted = mariadb.Wanted(model=MODEL, requests=requests, relation_ids=[1, 2, 3], shared=shared)
    # WHEN relations ask for the same names
    # THEN only the others are met
    assert mariadb.conflicts(held(), wanted).keys() == {1, 2}


def test_hash_is_the_one_of_the_server() -> None:
    # GIVEN the example of MariaDB's documentation of PASSWORD()
    # WHEN ours is made
    # THEN it is the same
    expected = "*3A70EE9FC6594F88CE9E959CD51C5A1C002DC937"
    assert mariadb.password_hash("notagoodpwd") == expected


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_quoted_names_end_where_they_should(name: str) -> None:
    # GIVEN any name
    quoted = mariadb.identifier(name)
    # WHEN it is quoted
    # THEN the quotes inside are doubled, so that no other text follows
    assert quoted[0] == quoted[-1] == "`"
    assert quoted[1:-1].replace("``", "").count("`") == 0
    assert quoted[1:-1].replace("``", "`") == name


@given(st.text())
def test_pattern_matches_its_own_name_only(name: str) -> None:
    # GIVEN any name
    pattern = mariadb.pattern(name)
    # WHEN the escapes of the pattern are taken out
    # THEN no wildcard is left, and the name is
    assert not re.search(r"(?<!\\)(?:\\\\)*[_%]", pattern)
    assert re.sub(r"\\(.)", r"\1", pattern, flags=re.DOTALL) == name


@pytest.mark.parametrize("name", ["mlflow", "a=b", "a`b", "ä", "x" * 64, "a.b/c"])
def test_good_names_are_taken(name: str) -> None:
    mariadb.check_database(name)
    mariadb.check_account(name)


@pytest.mark.parametrize("name", ["", "x" * 65, "SYS", "a ", "\N{GRINNING FACE}", "a\tb"])
def test_bad_database_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="database name"):
        mariadb.check_database(name)


@pytest.mark.parametrize("name", ["", "x" * 65, "Root", "mariadb.sys", "public"])
def test_bad_account_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="account name"):
        mariadb.check_account(name)
