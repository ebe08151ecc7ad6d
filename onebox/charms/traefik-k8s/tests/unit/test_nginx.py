"""The configuration of nginx; tests/functional gives it to a real one."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nginx
import wire
from mlflow_kit.databag import Absent, Invalid


def route(prefix: str, *hosts: str, strip: bool = True) -> nginx.Route:
    return nginx.Route(
        prefix=prefix, scheme="http", hosts=hosts or ("a",), port=5000, strip_prefix=strip
    )


def config(*routes: nginx.Route, resolver: str = "10.0.0.10") -> str:
    file, _ = nginx.plan(routes, resolver).files
    return file.content


def test_order_of_routes_does_not_matter() -> None:
    # GIVEN the same routes in another order
    # WHEN rendered
    # THEN nginx sees no difference, and is not reloaded
    assert config(route("/a"), route("/b", "y", "x")) == config(route("/b", "x", "y"), route("/a"))


def test_no_route_serves_nothing() -> None:
    # GIVEN no route
    # WHEN rendered
    # THEN every path is not found
    assert "proxy_pass" not in config()
    assert "location / { return 404; }" in config()


def test_no_resolver_leaves_the_directive_out() -> None:
    # GIVEN a container without a name server
    # WHEN rendered
    # THEN there is no directive without an argument
    assert "resolver  " not in config(route("/a", "10.0.0.1"), resolver="")
    assert "resolver valid" not in config(route("/a", "10.0.0.1"), resolver="")


def test_units_share_the_requests() -> None:
    # GIVEN three units, one of them with an IPv6 address
    # WHEN rendered
    found = config(route("/a", "x", "y", "fd00::1"))
    # THEN each gets a third
    assert "33.33% [fd00::1]:5000;\n33.33% x:5000;\n* y:5000;" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 10.0.0.10\n", "10.0.0.10"),
        (
            "# nameserver 1.1.1.1\nsearch a\nnameserver\t10.0.0.10 # x\nnameserver 9.9.9.9",
            "10.0.0.10",
        ),
        ("nameserver fd00::a\n", "[fd00::a]"),
        ("nameserver not-an-address\nnameserver 10.0.0.10\n", "10.0.0.10"),
        ("", ""),
    ],
)
def test_first_name_server_counts(text: str, expected: str) -> None:
    assert nginx.nameserver(text) == expected


KEYS = ("model", "name", "port", "scheme", "strip-prefix", "later")
JSON_TEXT = st.one_of(
    st.text(),
    st.sampled_from(['"a"', '"a-b"', "5000", "null", "true", "[]", "{}", '"a;b"', '"a b"']),
)


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON_TEXT)),
    st.lists(st.fixed_dictionaries({}, optional={"host": JSON_TEXT}), max_size=3),
)
def test_no_databag_gets_into_the_configuration_unchecked(
    app: dict[str, str], units: list[dict[str, str]]
) -> None:
    # GIVEN any databags
    # WHEN they are read
    found = wire.read(app, units)
    # THEN they are absent, invalid, or a route whose parts are plain words
    if isinstance(found, (Absent, Invalid)):
        return
    text = config(found)
    prefix = f"/{json.loads(app['model'])}-{json.loads(app['name'])}"
    assert re.fullmatch(r"/[A-Za-z0-9-]+", prefix)
    assert f"location {prefix}/ {{" in text
    assert text.count("{") == text.count("}")
