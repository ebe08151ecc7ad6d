"""Bad input: the status names it, what served before goes on serving, no hook fails."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import time
import typing
from collections.abc import Iterator, Mapping

import jubilant
import pytest
import yaml

from onebox import home, stack
from tests.e2e import users

SERVER, MODELS, PROXY = f"{stack.SERVER}/0", f"{stack.MODELS}/0", f"{stack.PROXY}/0"


@dataclasses.dataclass(frozen=True)
class Wire:
    """One side of a relation that is tampered with, and who reads it.

    Attributes:
        reader: the unit that reads the databag.
        endpoint: its endpoint.
        writer: the unit that leads the application on the other side.
        remote: the endpoint there.
    """

    reader: str
    endpoint: str
    writer: str
    remote: str

    def __str__(self) -> str:
        return f"{self.reader}-{self.endpoint}"


WIRES = [
    Wire(SERVER, "postgresql", "postgresql-k8s/0", "database"),
    Wire(SERVER, "object-storage", "minio/0", "object-storage"),
    Wire(SERVER, "ingress", PROXY, "upstreams"),
    Wire(SERVER, "basic-auth", PROXY, "basic-auth"),
    Wire(MODELS, "mlflow", SERVER, "mlflow"),
    Wire(MODELS, "object-storage", "minio/0", "object-storage"),
    Wire(PROXY, "upstreams", SERVER, "ingress"),
    Wire(PROXY, "ingress", "traefik-k8s/0", "ingress"),
]

GARBAGE = '\u2603 {"[: "\' $(reboot) %s\\'


def relation(juju: jubilant.Juju, wire: Wire) -> tuple[int, dict[str, str]]:
    """Return the id of a relation and the writer's application databag."""
    shown = json.loads(juju.cli("show-unit", wire.reader, "--format", "json"))
    writer = wire.writer.partition("/")[0]
    for found in shown[wire.reader]["relation-info"]:
        units = {name.partition("/")[0] for name in found["related-units"]}
        if found["endpoint"] == wire.endpoint and writer in units:
            return found["relation-id"], found["application-data"]
    raise AssertionError(f"no relation {wire}")


def write(juju: jubilant.Juju, wire: Wire, number: int, values: dict[str, str]) -> None:
    """Write into the writer's application databag as its leader; an empty value removes a key."""
    pairs = [f"{key}={value}" for key, value in values.items()]
    juju.exec("relation-set", "--app", "-r", f"{wire.remote}:{number}", *pairs, unit=wire.writer)


@pytest.fixture
def serving(access: stack.Access) -> Iterator[None]:
    """Whatever is tampered with, the tracking server answers and is never open."""
    login = access.username, access.password
    yield
    assert users.http(access.tracking_uri).status == 401
    answer = users.http(access.tracking_uri, login=login)
    deadline = time.monotonic() + users.TIMEOUT
    # While the server starts again the proxy asks clients to come back.
    while answer.status == 429 and time.monotonic() < deadline:
        time.sleep(1)
        answer = users.http(access.tracking_uri, login=login)
    assert answer.status == 200


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_a_databag_that_cannot_be_read(juju: jubilant.Juju, wire: Wire) -> None:
    number, before = relation(juju, wire)
    assert before, f"{wire} has no data"
    # WHEN every value in it is something else, and then nothing
    try:
        for how, value in {"garbage": GARBAGE, "partial": ""}.items():
            write(juju, wire, number, dict.fromkeys(before, value))
            # What the reader said of the last value must not be taken for what it says of this.
            users.rest(juju, users.TIMEOUT)
            # THEN the reader says which endpoint, unless the writer has put it right by then
            users.until(juju, lambda status, how=how: noticed(juju, status, wire, how, before))
    finally:
        write(juju, wire, number, before)
    users.settle(juju)


def noticed(
    juju: jubilant.Juju, status: jubilant.Status, wire: Wire, how: str, before: dict[str, str]
) -> bool:
    """Return whether a reader has seen what was written, and says so if it has to."""
    current, message = users.message(status, wire.reader)
    assert GARBAGE not in message
    if wire.endpoint in message:
        assert current in {"blocked", "waiting"}
        return True
    idle = jubilant.all_agents_idle(status)
    return idle and (tolerates(wire, how) or relation(juju, wire)[1] == before)


def tolerates(wire: Wire, how: str) -> bool:
    """Whether a reader does without what was withdrawn: an account, or where models come from."""
    spare = {(SERVER, "basic-auth"), (MODELS, "mlflow"), (MODELS, "object-storage")}
    return how == "partial" and (wire.reader, wire.endpoint) in spare


BAD_OPTIONS = {
    SERVER: [
        ("workers", "0", "1 to 16"),
        ("workers", "17", "1 to 16"),
        ("log-level", "loud", "debug, info"),
        ("bucket", "No_Bucket", "3 to 63"),
        ("database", "drop table;", "letters, digits"),
        ("allowed-hosts", "a b,c:80", "host names"),
        ("external-url", "javascript:alert(1)", "http or https"),
    ],
    MODELS: [
        ("workers", "0", "1 to 64"),
        ("request-timeout", "0", "1 to 3600"),
        ("log-level", "loud", "critical"),
        ("models-uri", "file:///etc/passwd", "models:/"),
    ],
    PROXY: [
        ("realm", 'x"; return 200;', "letters, digits"),
        ("username", "a:b", "1 to 64"),
        ("username", "relation-1", "relation-"),
    ],
}
"""By unit: an option, a value that it does not take, and words that say what it does take."""


@pytest.mark.usefixtures("serving")
def test_options_that_are_out_of_range(juju: jubilant.Juju) -> None:
    before = {unit: juju.config(unit.partition("/")[0]) for unit in BAD_OPTIONS}
    wrong: dict[str, str] = {}
    try:
        # WHEN in each charm one option after the other is wrong
        for row in itertools.zip_longest(*BAD_OPTIONS.values()):
            bad = {unit: one for unit, one in zip(BAD_OPTIONS, row, strict=True) if one}
            for unit, (option, value, _) in bad.items():
                set_alone(juju, unit, {option: value}, wrong.get(unit), before[unit])
                wrong[unit] = option
            # THEN one sentence says which option, which value and what is allowed
            for unit, words in bad.items():
                users.until(juju, lambda status, unit=unit, words=words: says(status, unit, words))
    finally:
        for unit, option in wrong.items():
            set_alone(juju, unit, {}, option, before[unit])
    users.settle(juju)


def set_alone(
    juju: jubilant.Juju,
    unit: str,
    values: dict[str, str],
    other: str | None,
    before: Mapping[str, typing.Any],
) -> None:
    """Set options of a unit's application, and another one back to what it was before."""
    back = {} if other is None or other in values else {other: before.get(other)}
    known = {option: value for option, value in back.items() if value is not None}
    reset = [option for option in back if option not in known]
    juju.config(unit.partition("/")[0], {**known, **values}, reset=reset)


def says(status: jubilant.Status, unit: str, words: tuple[str, str, str]) -> bool:
    """Return whether a unit is blocked by an option, and tells its value and what is allowed."""
    option, value, allowed = words
    current, message = users.message(status, unit)
    shown = value.partition(",")[0][:8]
    return current == "blocked" and all(part in message for part in (option, shown, allowed))


NAMES = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code).isalnum()) + "._@-"


@pytest.fixture(scope="class")
def accounts(made: users.Made) -> Iterator[str]:
    """The secret of option users."""
    juju = jubilant.Juju(model=stack.MODEL)
    uri = juju.add_secret("bad-accounts", {"users": "good:long enough a password"})
    juju.grant_secret(uri, stack.PROXY)
    juju.config(stack.PROXY, {"users": uri})
    yield uri
    juju.config(stack.PROXY, reset="users")
    juju.remove_secret(uri)
    users.settle(juju)


class TestAccountsThatCannotBe:
    @pytest.mark.usefixtures("serving")
    @pytest.mark.parametrize(
        ("lines", "reason"),
        [
            ("no colon here", "line 1 is not of the form name:password"),
            ("a b:long enough a password", "the name on line 1"),
            ("short:wombat", "has 6 bytes"),
            (f"long:{'x' * 73}", "has 73 bytes"),
            ("relation-9:long enough a password", "relation-"),
            ("admin:long enough a password", "'admin'"),
            ("twice:long enough a password\ntwice:another long password", "there twice"),
            ("bell:with a bell \x07 in it!", "cannot be typed"),
        ],
    )
    def test_the_status_says_why(
        self, juju: jubilant.Juju, accounts: str, lines: str, reason: str
    ) -> None:
        # WHEN the secret of option users has something else
        juju.update_secret(accounts, {"users": lines})
        # THEN the status says what is wrong
        status = users.until(juju, lambda status: reason in users.message(status, PROXY)[1])
        current, message = users.message(status, PROXY)
        assert current == "blocked"
        # and nothing of a password
        for password in (line.partition(":")[2] for line in lines.splitlines()):
            assert not password or password not in message


def test_every_character_that_can_be_typed(juju: jubilant.Juju, access: stack.Access) -> None:
    printable = "".join(chr(code) for code in range(0x20, 0x7F))
    accounts = {
        NAMES[:64]: printable[:64],
        NAMES[-40:]: printable[-64:],
        "accents": "pässwörd für viele ☃",
        "a": ": :: ::: :::: ",
    }
    content = "\n".join(f"{name}:{password}" for name, password in accounts.items())
    uri = juju.add_secret("odd-accounts", {"users": content})
    juju.grant_secret(uri, stack.PROXY)
    juju.config(stack.PROXY, {"users": uri})
    users.settle(juju)
    try:
        for login in accounts.items():
            users.until(
                juju,
                lambda _, login=login: users.http(access.tracking_uri, login=login).status == 200,
            )
            name, password = login
            wrong = (name, password[:-1] + ("x" if password[-1] != "x" else "y"))
            assert users.http(access.tracking_uri, login=wrong).status == 401
    finally:
        juju.config(stack.PROXY, reset="users")
        juju.remove_secret(uri)
    users.settle(juju)
    # THEN they are gone with the option, as soon as nginx has read its new configuration
    for login in accounts.items():
        users.until(
            juju,
            lambda _, login=login: users.http(access.tracking_uri, login=login).status == 401,
            timeout=10,
        )


def test_a_bundle_with_faults_deploys_nothing(juju: jubilant.Juju, tmp_path: pathlib.Path) -> None:
    # GIVEN a bundle with a charm that is not there and an option that a charm does not have
    bundle = {
        "bundle": "kubernetes",
        "applications": {
            "unused": {"charm": "./nowhere.charm", "scale": 1},
            "minio": {
                "charm": str(home.CHECKOUT / "build" / "minio.charm"),
                "scale": 1,
                "resources": {"oci-image": "x"},
                "options": {"colour": "blue"},
            },
        },
    }
    file = tmp_path / "bundle.yaml"
    file.write_text(yaml.safe_dump(bundle))
    before = set(juju.status().apps)
    # THEN both are named with their lines, and nothing was deployed
    with pytest.raises(jubilant.CLIError) as error:
        juju.deploy(file)
    assert "nowhere.charm" in error.value.stderr
    assert 'unknown option "colour"' in error.value.stderr
    assert error.value.stderr.count("bundle.yaml:") >= 2
    assert set(juju.status().apps) == before
