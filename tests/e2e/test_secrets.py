"""No secret is where somebody else could read it: planted ones, and all that the charms made."""

from __future__ import annotations

import base64
import dataclasses
import json
import pathlib
import secrets
import urllib.parse
from collections.abc import Generator, Iterator

import jubilant
import pytest
import yaml

from onebox import stack
from tests.e2e import machine, users

CANARY = f"canary-{secrets.token_hex(12)}"
# Each character that can be typed; the first ones make it unlike all else.
ODD_PASSWORD = "canary" + "".join(
    chr(code) for code in range(0x20, 0x7F) if chr(code).isprintable()
)
PUBLIC_KEYS = {"username", "database", "endpoints", "read-only-endpoints", "version", "tls"}
"""Keys of secrets whose values are no secrets."""

IN_CLEAR = {"object-storage", "mysql"}
"""Interfaces whose wire knows no Juju secrets; what is in their databags is not looked at."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Something that others can read."""

    name: str
    content: bytes


@pytest.fixture(scope="module")
def planted(client: users.Client) -> Generator[dict[str, str]]:
    """Secrets by where they come from: planted as a user's, and made by the charms."""
    # A user's own client has the login in its environment, which nobody else may read.
    client.end()
    juju = jubilant.Juju(model=stack.MODEL)
    uri = juju.add_secret("canary", {"users": f"canary:{CANARY}\nodd:{ODD_PASSWORD[:72]}"})
    juju.grant_secret(uri, stack.PROXY)
    juju.config(stack.PROXY, {"users": uri})
    users.settle(juju)
    found = {"the canary": CANARY, "the odd canary": ODD_PASSWORD[:72]}
    for secret in juju.secrets():
        shown = juju.show_secret(secret.uri, reveal=True)
        for key, value in shown.content.items():
            if key not in PUBLIC_KEYS and secret.uri != uri:
                found[f"{secret.owner} {secret.label} {key}"] = value
    found["the key of the object store"] = storage_key(juju)
    yield found
    juju.config(stack.PROXY, reset="users")
    juju.remove_secret(uri)
    users.settle(juju)


def storage_key(juju: jubilant.Juju) -> str:
    """Return the secret key that minio sends, in clear, over object-storage."""
    shown = json.loads(juju.cli("show-unit", f"{stack.SERVER}/0", "--format", "json"))
    bags = [
        relation["application-data"]
        for relation in shown[f"{stack.SERVER}/0"]["relation-info"]
        if relation["endpoint"] == "object-storage"
    ]
    return yaml.safe_load(bags[0]["data"])["secret-key"]


def forms(secret: str) -> Iterator[bytes]:
    """Yield the ways in which a text shows a secret."""
    yield secret.encode()
    yield json.dumps(secret)[1:-1].encode()
    yield urllib.parse.quote(secret, safe="").encode()
    encoded = base64.b64encode(secret.encode())
    # Without the end, which depends on what follows.
    yield encoded[: len(encoded) // 4 * 4 - 4]


def leaks(planted: dict[str, str], places: Iterator[Place]) -> list[str]:
    """Return which secret is in which place."""
    looked, found = 0, []
    for place in places:
        looked += 1
        for name, secret in planted.items():
            if any(form in place.content for form in forms(secret)):
                found.append(f"{name} is in {place.name}")
    assert looked, "nothing was looked at"
    return found


def test_the_planted_accounts_work(planted: dict[str, str], access: stack.Access) -> None:
    # A sweep for secrets that nobody uses would prove nothing.
    assert users.http(access.tracking_uri, login=("canary", CANARY)).status == 200
    assert users.http(access.tracking_uri, login=("odd", ODD_PASSWORD[:72])).status == 200
    assert users.http(access.tracking_uri, login=("odd", ODD_PASSWORD[:71])).status == 401
    assert len(planted) > 6, planted.keys()
    assert all(len(secret) >= 12 for secret in planted.values()), planted.keys()


def test_none_is_in_the_arguments_of_a_process(planted: dict[str, str]) -> None:
    assert leaks(planted, proc("cmdline", everybody=True)) == []


def test_none_is_in_the_environment_of_a_process(planted: dict[str, str]) -> None:
    assert leaks(planted, proc("environ", everybody=False)) == []


def proc(file: str, *, everybody: bool) -> Iterator[Place]:
    """Yield a file of each process: of the whole machine, or of this onebox only."""
    numbers = machine.every_process() if everybody else machine.processes(users.HOME)
    for pid in numbers:
        try:
            yield Place(f"{file} of {pid}", pathlib.Path(f"/proc/{pid}/{file}").read_bytes())
        except OSError:
            continue


def test_none_is_in_a_plan_of_pebble(planted: dict[str, str]) -> None:
    plans = (
        Place(f"the plan of {name}", client.get_plan().to_yaml().encode())
        for name, client in machine.pebbles(users.HOME, stack.MODEL)
    )
    assert leaks(planted, plans) == []


def test_none_is_in_a_databag(planted: dict[str, str], juju: jubilant.Juju) -> None:
    assert leaks(planted, databags(juju)) == []


def databags(juju: jubilant.Juju) -> Iterator[Place]:
    """Yield every databag of every unit but those of wires that know no Juju secrets."""
    status = json.loads(juju.cli("status", "--format", "json"))
    for application in status["applications"].values():
        interfaces = {
            endpoint: relations[0]["interface"]
            for endpoint, relations in application.get("relations", {}).items()
        }
        for unit in application["units"]:
            shown = json.loads(juju.cli("show-unit", unit, "--format", "json"))
            for relation in shown[unit]["relation-info"]:
                if interfaces.get(relation["endpoint"]) not in IN_CLEAR:
                    name = f"{unit} {relation['endpoint']}"
                    yield Place(name, json.dumps(relation, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    "command",
    [
        ["status", "--format", "json"],
        ["status", "--relations"],
        ["debug-log", "--replay", "--no-tail", "--level", "TRACE"],
        ["config", stack.PROXY],
        ["config", stack.SERVER],
        ["secrets", "--format", "json"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_none_is_in_what_juju_shows(
    planted: dict[str, str], juju: jubilant.Juju, command: list[str]
) -> None:
    shown = juju.cli(*command).encode()
    assert len(shown) > 100
    assert leaks(planted, iter([Place(" ".join(command), shown)])) == []


def test_none_is_in_a_log_of_a_workload(planted: dict[str, str]) -> None:
    logs = [*(users.HOME.path / "logs").glob("*.log"), users.HOME.path / "daemon.log"]
    assert len(logs) > 7
    assert leaks(planted, (Place(str(path), path.read_bytes()) for path in logs)) == []


def test_files_with_secrets_are_their_owners_alone(planted: dict[str, str]) -> None:
    # GIVEN all files of the workload containers' own directories
    open_to_others: list[str] = []
    looked = 0
    for pod, container, pid in machine.containers(users.HOME, stack.MODEL):
        root = pathlib.Path(f"/proc/{pid}/root")
        if container in {"charm", "sandbox"}:
            continue
        for folder in ("etc", "run", "var/lib", "opt", "dev/shm", "tmp"):
            for path in (root / folder).rglob("*"):
                if path.is_symlink() or not path.is_file() or path.stat().st_size > 1 << 20:
                    continue
                looked += 1
                place = Place(str(path), path.read_bytes())
                if path.stat().st_mode & 0o077 and leaks(planted, iter([place])):
                    open_to_others.append(f"{pod} {container} {path.relative_to(root)}")
    assert looked > 100
    assert open_to_others == []
