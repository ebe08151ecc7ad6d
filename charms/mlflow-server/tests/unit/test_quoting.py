"""Names and passwords of every printable character reach the drivers as they are."""

from __future__ import annotations

import configparser
import string
import urllib.parse

from hypothesis import given
from hypothesis import strategies as st

import server
import state
from config import Config
from mlflow_kit import uris
from mlflow_kit.interfaces import database, object_storage

PRINTABLE = st.text(
    alphabet=[c for c in string.printable if c.isprintable()], min_size=1, max_size=40
)


def a_state(dialect, username: str = "u", password: str = "p", name: str = "d") -> state.State:
    return state.State(
        identity=state.Identity(
            application="mlflow-server",
            model="m",
            unit="mlflow-server/0",
            leader=True,
            address="",
        ),
        config=Config(),
        dialect=dialect,
        database=database.Database(
            endpoints=(uris.Endpoint("db", 1),), name=name, username=username, password=password
        ),
        storage=object_storage.ObjectStorage(url="http://s", access_key="a", secret_key="b"),
    )


def unescape(entry: str) -> list[str]:
    """Take a line of a password file apart as libpq does (passwordFromFile in fe-connect.c)."""
    fields, current, characters = [], "", iter(entry.removesuffix("\n"))
    for character in characters:
        if character == "\\":
            current += next(characters, "")
        elif character == ":":
            fields.append(current)
            current = ""
        else:
            current += character
    return [*fields, current]


@given(password=PRINTABLE)
def test_the_password_file_of_libpq(password):
    assert unescape(server.passfile(password)) == ["*", "*", "*", "*", password]


@given(username=PRINTABLE, password=PRINTABLE, name=PRINTABLE)
def test_the_option_file_of_pymysql(username, password, name):
    # The parser that PyMySQL builds on, and its way with quotes (pymysql.optionfile)
    parser = configparser.RawConfigParser(allow_no_value=True)
    parser.read_string(server.my_cnf(a_state("mysql", username, password, name)))

    def value(key: str) -> str:
        text = parser.get("client", key)
        return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text

    assert value("user") == username
    assert value("password") == password
    assert value("database") == name


@given(username=PRINTABLE, name=PRINTABLE)
def test_the_url_of_postgresql(username, name):
    found = server.plan(
        a_state("postgresql", username=username, name=name), dict.fromkeys(server.PROGRAMS, "")
    )
    stores = next(f for f in found.files if f.path.endswith("stores.json"))
    uri = server.json.loads(stores.content)["uri"]

    parts = urllib.parse.urlsplit(uri)
    assert (parts.scheme, parts.netloc, parts.path) == ("postgresql+psycopg2", "", "")
    query = dict(urllib.parse.parse_qsl(parts.query, strict_parsing=True))
    assert (query["user"], query["dbname"]) == (username, name)


@given(password=PRINTABLE.filter(lambda text: len(text) > 4))
def test_no_password_is_in_a_file_for_everybody(password):
    for dialect in ("postgresql", "mysql"):
        found = server.plan(
            a_state(dialect, password=f"canary{password}"), dict.fromkeys(server.PROGRAMS, "")
        )
        holders = [file for file in found.files if "canary" in file.content]
        assert holders
        assert {(f.mode, f.user_id, f.group_id) for f in holders} == {(0o600, 584792, 584792)}
