"""Addresses are built and taken apart without surprises."""

from __future__ import annotations

import string
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_kit import uris

PRINTABLE = st.text(alphabet=[c for c in string.printable if c.isprintable()], min_size=1)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("db:5432", "db", 5432),
        ("primary.m.svc.cluster.local.:3306", "primary.m.svc.cluster.local", 3306),
        ("10.1.2.3:1", "10.1.2.3", 1),
        ("[fd00::1]:65535", "fd00::1", 65535),
        ("[fd00::1]", "fd00::1", 5432),
        ("db", "db", 5432),
        ("my_db-0.x:80", "my_db-0.x", 80),
    ],
)
def test_endpoints(text, host, port):
    assert uris.parse_endpoint(text, 5432) == uris.Endpoint(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":5432",
        "a:b:c",
        "a:",
        "a:0",
        "a:65536",
        "a:99999999999999999999",
        "a:-1",
        "a:\u0661",
        "fd00::1:5432",
        "[db]:1",
        "[fd00::1",
        "a b:1",
        "a/b:1",
        "a@b:1",
        "-a:1",
        "a..b:1",
        f"{'a' * 64}:1",
        f"{'a.' * 200}b:1",
        "a\n:1",
    ],
)
def test_what_is_no_endpoint_is_refused_without_repeating_it(text):
    with pytest.raises(ValueError, match=r"^(is not|has a) ") as error:
        uris.parse_endpoint(text, 5432)
    assert not text or text not in str(error.value)


def test_an_endpoint_needs_a_port_where_there_is_no_default():
    with pytest.raises(ValueError, match="port"):
        uris.parse_endpoint("db")


def test_lists_of_endpoints_keep_their_order():
    assert uris.parse_endpoints("b:1, a:2,b:1,") == (
        uris.Endpoint("b", 1),
        uris.Endpoint("a", 2),
    )
    with pytest.raises(ValueError, match="empty"):
        uris.parse_endpoints(" , ")


@given(st.text())
def test_an_endpoint_is_parsed_or_refused(text):
    try:
        found = uris.parse_endpoint(text, 1)
    except ValueError:
        return
    assert uris.parse_endpoint(str(found)) == found


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://example.com", "http://example.com"),
        ("http://Example.com:80/ml/", "http://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("https://example.com:8443/x", "https://example.com:8443"),
        ("http://[fd00::1]:5000/", "http://[fd00::1]:5000"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_origins_are_what_browsers_send(url, origin):
    assert uris.origin(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "http://",
        "http:///x",
        "http://user@example.com",
        "http://user:password@example.com",
        "http://example.com/?a=b",
        "http://example.com/#x",
        "http://exa mple.com",
        "http://example.com/\n",
        "http://example.com:port",
        "http://example.com:0",
        "http://example.com:65536",
        "http://exa;mple.com",
        "http://[::1",
        "javascript:alert(1)",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValueError, match=r"^(is not|has) "):
        uris.parse_web(url)


@given(st.text())
def test_an_address_is_parsed_or_refused(text):
    try:
        found = uris.parse_web(text)
    except ValueError:
        return
    assert not found.path.endswith("/")


def test_names_inside_the_cluster():
    assert uris.service_url("app", "m", 5000) == "http://app.m.svc.cluster.local:5000"
    assert uris.unit_host("app/3", "m") == "app-3.app-endpoints.m.svc.cluster.local"


def test_allowed_hosts_are_named_with_and_without_port():
    assert uris.allowed_hosts(["a", "a", "fd00::1"]) == (
        "a",
        "a:*",
        "[fd00::1]",
        "[[]fd00::1]:*",
    )


@given(value=PRINTABLE)
def test_every_character_survives_a_url(value):
    url = uris.sqlalchemy("postgresql+psycopg2", {"user": value, "dbname": value})

    parts = urllib.parse.urlsplit(url)
    assert parts.scheme == "postgresql+psycopg2"
    query = dict(urllib.parse.parse_qsl(parts.query, strict_parsing=True))
    assert query == {"user": value, "dbname": value}
