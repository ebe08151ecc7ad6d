"""The configuration: valid for every state that can be, and free of what must not be in it."""

from __future__ import annotations

import dataclasses
import os
import string
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crossplane
import pytest
from crossplane import analyzer
from hypothesis import given, settings
from hypothesis import strategies as st

import directives
import mlflow_paths
import nginx
from accounts import Account
from mlflow_kit.interfaces import ingress
from state import State, Upstream

# Newer than crossplane's list; it stands where send_timeout does and takes one time as well.
analyzer.DIRECTIVES["auth_delay"] = analyzer.DIRECTIVES["send_timeout"]

LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
ADDRESS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.lists(LABEL, min_size=1, max_size=6).map(".".join),
)
STATE = State(
    application="htpasswd-proxy",
    model="team",
    unit="htpasswd-proxy/0",
    address="10.1.0.4",
    realm="MLflow",
    first="admin",
    first_secret="secret:d6q0000000000000000g",
    accounts=(Account(name="admin", password="x" * 27, generated=True),),
    salt_key=b"k" * 32,
    nameservers=("10.152.183.10",),
)


def upstream(
    number: int = 7,
    path: str = "mlflow-server",
    servers: tuple[str, ...] = ("10.1.0.7",),
    port: int = 5000,
    strip: bool = True,
) -> Upstream:
    request = ingress.Requirer(application=path, model="team", port=port, strip_prefix=strip)
    return Upstream(relation_id=number, request=request, path=path, servers=servers)


UPSTREAMS = st.lists(
    st.builds(
        upstream,
        number=st.integers(0, 10**6),
        path=LABEL,
        servers=st.lists(ADDRESS, min_size=1, max_size=4, unique=True).map(tuple),
        port=st.integers(1, 65535),
        strip=st.booleans(),
    ),
    max_size=4,
    unique_by=(lambda each: each.path, lambda each: each.relation_id),
).map(tuple)


def parse(text: str) -> list[dict[str, Any]]:
    """Parse a configuration by nginx's own rules: names, contexts and numbers of arguments."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "nginx.conf")
        file.write_text(text)
        found = crossplane.parse(os.fspath(file), strict=True, single=True)
        # It takes the entries of a map for directives, so in strict mode it leaves them out.
        lenient = crossplane.parse(os.fspath(file), single=True, check_ctx=True, check_args=True)
    assert lenient["errors"] == []
    tree = lenient["config"][0]["parsed"]
    entries = {
        d["line"] for each in walk(tree) if each["directive"] == "map" for d in each["block"]
    }
    assert [error for error in found["errors"] if error["line"] not in entries] == []
    return tree


def walk(tree: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for directive in tree:
        yield directive
        yield from walk(directive.get("block", []))


def words(tree: list[dict[str, Any]]) -> Iterator[str]:
    for directive in walk(tree):
        yield directive["directive"]
        yield from directive["args"]


@settings(max_examples=60, deadline=None)
@given(UPSTREAMS, st.booleans(), st.from_regex(r"[A-Za-z0-9 ._-]{1,64}", fullmatch=True))
def test_every_state_gives_a_configuration_that_nginx_can_read(
    upstreams: tuple[Upstream, ...], behind_ingress: bool, realm: str
) -> None:
    state = dataclasses.replace(
        STATE, upstreams=upstreams, behind_ingress=behind_ingress, realm=realm
    )
    tree = parse(nginx.config(state, "admin:hash\n"))
    # THEN each upstream has its locations, and the realm is there with the charset
    paths = {d["args"][-1] for d in walk(tree) if d["directive"] == "location"}
    assert {f"/{each.path}/" for each in upstreams} <= paths
    realms = [d["args"] for d in walk(tree) if d["directive"] == "auth_basic"]
    assert realms == [[f'{realm}", charset="UTF-8']]
    # AND sockets have names that fit into an address
    sockets = [d["args"][0] for d in walk(tree) if d["directive"] == "listen"]
    assert max(map(len, sockets)) <= len("unix:") + 107


@settings(max_examples=200)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cc", "Cs"])), min_size=1, max_size=4
    ).filter(lambda found: found[0] not in {"", "if"})
)
def test_words_come_back_as_they_were(found: list[str]) -> None:
    # GIVEN words with quotes, braces, semicolons, backslashes, blanks
    text = directives.render([directives.simple("map", *found)])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "nginx.conf")
        file.write_text(text)
        tokens = [token for token, _, _ in crossplane.lex(os.fspath(file))]
    # THEN the lexer finds one directive with just these
    assert [token.replace('\\"', '"').replace("\\\\", "\\") for token in tokens] == [
        "map",
        *found,
        ";",
    ]


@pytest.mark.parametrize("char", ["\n", "\r", "\x00", "\x1b", "\x7f"])
def test_control_characters_never_get_in(char: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        directives.render([directives.simple("set", f"a{char}b")])


def config() -> list[dict[str, Any]]:
    state = dataclasses.replace(
        STATE,
        upstreams=(upstream(), upstream(8, "named", ("a.team.svc", "b.team.svc"), strip=False)),
        behind_ingress=True,
    )
    return parse(nginx.config(state, "admin:hash\n"))


def outer_server() -> dict[str, Any]:
    servers = [d for d in walk(config()) if d["directive"] == "server" and "block" in d]
    return next(
        each
        for each in servers
        if ["8080", "default_server"] in [d["args"] for d in each["block"]]
    )


def test_nothing_that_had_memory_faults_is_used() -> None:
    names = {directive["directive"] for directive in walk(config())}
    assert not names & {"rewrite", "alias"}
    for directive in walk(config()):
        if directive["directive"] == "map":
            assert not [d for d in directive["block"] if d["directive"].startswith("~")]
        if directive["directive"] == "location":
            assert directive["args"][0] not in {"~", "~*"}


def test_only_health_and_the_answers_of_errors_are_without_password() -> None:
    open_locations = [
        d["args"]
        for d in outer_server()["block"]
        if d["directive"] == "location"
        and ["off"] in [e["args"] for e in d["block"] if e["directive"] == "auth_request"]
    ]
    named = [args for args in open_locations if args[0].startswith("@")]
    # THEN a client can ask for one of the others only: a path of its begins with a slash
    assert [args for args in open_locations if args not in named] == [
        ["=", "verdict"],
        ["=", "/health"],
    ]


def test_no_location_with_a_password_answers_before_it_is_checked() -> None:
    for location in outer_server()["block"]:
        if location["directive"] != "location":
            continue
        without = ["off"] in [d["args"] for d in location["block"] if "auth_request" in d.values()]
        if not without:
            assert not {d["directive"] for d in walk(location["block"])} & {"return", "if"}


def test_headers_of_the_server_reach_every_upstream() -> None:
    # A location with one header of its own would lose those of the server.
    for location in outer_server()["block"]:
        if location["directive"] == "location" and location["args"] != ["=", "verdict"]:
            assert "proxy_set_header" not in {d["directive"] for d in walk(location["block"])}
    sent = {
        d["args"][0]: d["args"][1]
        for d in outer_server()["block"]
        if "proxy_set_header" in d.values()
    }
    assert sent["Authorization"] == ""
    assert sent["Host"] == "$http_host"
    assert sent["X-Forwarded-For"] == "$realip_remote_addr"


def test_verdict_depends_on_one_header_of_the_client() -> None:
    location = next(d for d in outer_server()["block"] if d["args"] == ["=", "verdict"])
    sent = {
        d["args"][0]: d["args"][1] for d in location["block"] if "proxy_set_header" in d.values()
    }
    # THEN neither a body nor its length goes to the auth server
    assert sent["Content-Length"] == sent["Transfer-Encoding"] == ""
    switches = {d["directive"]: d["args"] for d in location["block"]}
    assert switches["proxy_pass_request_body"] == ["off"]
    assert switches["proxy_pass_request_headers"] == ["off"]
    assert sent["Authorization"] == "$http_authorization"


@pytest.mark.parametrize("path", mlflow_paths.REFUSED)
@pytest.mark.parametrize("name", ["mlflow-server", "named"])
def test_refused_paths_do_not_reach_an_upstream(path: str, name: str) -> None:
    location = next(
        d
        for d in outer_server()["block"]
        if d["directive"] == "location" and d["args"] == [f"/{name}/{path}"]
    )
    assert [d["args"] for d in location["block"]] == [["http://answers"]]


def digests(users: str) -> dict[str, str]:
    """What stands for each user in the key of the verdict cache."""
    tree = parse(nginx.config(STATE, users))
    key = next(d["args"] for d in walk(tree) if d["directive"] == "proxy_cache_key")
    assert key == ["$user_digest $http_authorization"]
    found = next(d for d in walk(tree) if d["args"] == ["$remote_user", "$user_digest"])
    # crossplane leaves two backslashes of a quoted word as they are; nginx makes one of them.
    return {d["directive"].replace("\\\\", "\\"): d["args"][0] for d in found["block"]}


def test_cache_key_follows_the_password_of_each_user() -> None:
    before = digests("ada:1\nbob:1\n")
    after = digests("ada:2\nbob:1\n")
    # THEN a new password makes old verdicts of this user useless, and of no other
    assert before[r"\ada"] != after[r"\ada"]
    assert before[r"\bob"] == after[r"\bob"]
    # AND whoever is not there has no digest, but neither a verdict that is kept
    assert after["default"] == ""


@pytest.mark.parametrize("name", ["default", "hostnames", "include", "volatile", "-", ".", "@"])
def test_names_that_mean_something_to_nginx_are_only_names(name: str) -> None:
    assert digests(f"{name}:1\n").keys() == {rf"\{name}", "default"}


def test_names_that_differ_in_case_only_share_a_digest() -> None:
    # A map of nginx takes both for the same.
    before, after = digests("Ada:1\nada:1\n"), digests("Ada:1\nada:2\n")
    assert before.keys() == {r"\ada", "default"}
    assert before[r"\ada"] != after[r"\ada"]


def test_no_password_is_in_the_plan() -> None:
    plan = nginx.plan(STATE, "admin:hash\n")
    password = STATE.accounts[0].password
    assert not [file for file in plan.files if password in file.content]
    assert password not in repr(plan)
    assert "hash" not in repr(plan)


def test_plan_names_its_user_by_number_and_keeps_files_from_others() -> None:
    plan = nginx.plan(STATE, "admin:hash\n")
    for made in (*plan.files, *plan.directories, *plan.services):
        assert (made.user_id, made.group_id) == (584792, 584792)
    users = next(file for file in plan.files if file.path == nginx.PATHS.users)
    assert users.mode == 0o600
    cache = next(each for each in plan.directories if each.path == nginx.PATHS.cache)
    assert cache.mode == 0o700


def test_new_users_and_new_upstreams_need_no_restart() -> None:
    first = nginx.plan(STATE, "admin:hash\n")
    second = nginx.plan(dataclasses.replace(STATE, upstreams=(upstream(),)), "admin:other\n")
    assert first.services == second.services
    before = {file.path: file.content for file in first.files}
    changed = {file.path for file in second.files if before[file.path] != file.content}
    assert not changed & set(first.services[0].restart_on)
    assert changed & set(first.services[0].reload_on)


def test_page_lists_the_upstreams_with_relative_links() -> None:
    state = dataclasses.replace(STATE, upstreams=(upstream(),))
    files = {file.path: file.content for file in nginx.plan(state, "").files}
    assert 'href="mlflow-server/"' in files[f"{nginx.PATHS.pages}/index.html"]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("nginx version: nginx/1.22.1\n", "1.22.1"),
        ("nginx version: nginx/1.30.6 (Ubuntu)", "1.30.6"),
        ("", ""),
        ("nginx/", ""),
        ("something else", ""),
    ],
)
def test_version_is_read_from_what_nginx_prints(answer: str, found: str) -> None:
    assert nginx.version(answer) == found


def test_alphabet_of_plain_words_has_no_syntax() -> None:
    plain = [char for char in string.printable if directives._PLAIN.fullmatch(char)]
    assert not set(plain) & set("{};#\"'\\ \t\n")
