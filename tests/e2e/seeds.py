"""The whole bundle in a model of its own, in an order that a seed shuffles, and where it ends.

What has to be the same in every order is a `Run.snapshot`: texts by the place where they were
found. What no two deployments share (passwords, ids, addresses, the model's name) is replaced by
what it stands for.
"""

from __future__ import annotations

import base64
import dataclasses
import difflib
import json
import pathlib
import re
import stat
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping

import msgspec
import yaml

from onebox import client, home, model, pods, report, stack, up
from tests.e2e import machine

LARGEST = 99_999
"""Of all seeds: a model is named after its seed, and the paths of its sockets have to be short."""

_TOKEN = re.compile(r"[\w+/=-]{20,}")
"""What a charm has made up, rather than put together from what others may know."""
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
"""Of what a secret is in."""
_BCRYPT = re.compile(r"\$2b\$(\d\d)\$[./A-Za-z0-9]{53}")

_NOT_THE_CHARM_S = re.compile(r"/charm(/|$)|/etc/mtab$|/run/\.containerenv$|/__pycache__(/|$)")
"""Files that Podman, Pebble and Python make."""
_OF_A_PROCESS = re.compile(r"\.(pid|lock)$")
"""Files whose contents are the number of a process."""

Snapshot = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Run:
    """One deployment.

    Attributes:
        seconds: from `juju deploy` until nothing was left to do.
        snapshot: where it has ended.
        restarted: services that were started more than once, with how often.
        failed: hooks that ended with an error, as ``unit hook``.
    """

    seconds: float
    snapshot: Snapshot
    restarted: Mapping[str, int]
    failed: list[str]


def run(where: home.Home, seed: int | None, folder: pathlib.Path) -> Run:
    """Deploy the bundle, wait until it is at rest, look at it and remove it.

    Args:
        where: the onebox, which is that of ONEBOX_HOME.
        seed: of the order; None for Juju's own.
        folder: for an overlay.

    Raises:
        AssertionError: it does not come to rest.
        onebox.console.CommandError: a command failed.
    """
    name = "s-juju" if seed is None else f"s-{seed}"
    stack.juju("add-model", name, "--no-switch", *([] if seed is None else ["--seed", str(seed)]))
    try:
        began = time.monotonic()
        _deploy(name, folder / f"{name}.yaml")
        _settle(name)
        seconds = time.monotonic() - began
        return Run(
            seconds,
            snapshot(where, name),
            {key: count for key, count in machine.starts(where, name).items() if count > 1},
            list(_failed(where, name)),
        )
    finally:
        stack.juju("destroy-model", name, "--destroy-storage", "--force", "--no-prompt")


def differences(expected: Snapshot, found: Snapshot) -> str:
    """Return what differs, as a unified diff for each place; empty when nothing does."""
    lines: list[str] = []
    for place in sorted(expected.keys() | found.keys()):
        lines += difflib.unified_diff(
            expected.get(place, "(not there)").splitlines(),
            found.get(place, "(not there)").splitlines(),
            f"{place}, in Juju's order",
            place,
            lineterm="",
        )
    return "\n".join(lines)


def _deploy(name: str, path: pathlib.Path) -> None:
    document = yaml.safe_load(stack.write_overlay(path, up.DEFAULT_PORT).read_text())
    # Only one model could have the port; the name of the host in all addresses stays.
    document["applications"][stack.INGRESS]["annotations"] = {"onebox/publish": ""}
    path.write_text(yaml.safe_dump(document))
    overlays = [f"--overlay={overlay}" for overlay in (stack.OVERLAY, path)]
    stack.juju("deploy", "--model", name, "--trust", str(stack.BUNDLE), *overlays)


def _settle(name: str) -> None:
    """Wait until all is active but the server of models, which waits for one."""
    deadline = time.monotonic() + up.READY_TIMEOUT
    while lacking := stack.missing(client.call("status", model=name), [stack.MODELS]):
        assert time.monotonic() < deadline, f"model {name} is not active: {'; '.join(lacking)}"
        time.sleep(0.3)
    client.call("settle", {"timeout": up.READY_TIMEOUT}, model=name)


def _failed(where: home.Home, name: str) -> Iterator[str]:
    for line in (where.model(name) / "hooks.jsonl").read_text().splitlines():
        hook = json.loads(line)
        if hook["code"]:
            yield f"{hook['unit']} {hook['hook']}"


def snapshot(where: home.Home, name: str) -> Snapshot:
    """Return where a model at rest has ended, without what no two deployments share."""
    world = msgspec.json.decode(where.state.read_bytes(), type=model.World).models[name]
    found = dict(known_to_juju(world))
    for container, one in machine.pebbles(where, name):
        place = container.removeprefix(f"{name}.")
        found[f"plan of {place}"] = one.get_plan().to_yaml()
        found[f"services of {place}"] = _lines(
            f"{service.name} {service.startup} {service.current}" for service in one.get_services()
        )
        found[f"checks of {place}"] = _lines(
            f"{check.name} {check.startup} {check.status}" for check in one.get_checks()
        )
        layer = pods.podman(
            *("inspect", "--format", "{{.GraphDriver.Data.UpperDir}}"),
            f"{where.prefix}.{container}",
        )
        found |= {
            f"file {path} of {place}": text for path, text in written(pathlib.Path(layer.strip()))
        }
    normal = normaliser(world)
    return {place: normal(text) for place, text in found.items()}


def known_to_juju(world: model.Model) -> Iterator[tuple[str, str]]:
    """Yield what Juju keeps of a model: statuses, ports, databags and secrets."""
    for application in world.applications.values():
        status = report.application_status(application)
        yield (
            f"status of {application.name}",
            _lines([status.current, status.message, application.version, str(application.leader)]),
        )
    for unit in world.units():
        status = report.unit_status(unit)
        yield f"status of {unit.name}", _lines([status.current, status.message])
        yield f"ports of {unit.name}", _lines(sorted(unit.ports))
    for relation in world.relations.values():
        between = " ".join(str(endpoint) for endpoint in relation.endpoints)
        yield f"units of relation {between}", _lines(sorted(relation.scope))
        for owner, bag in relation.bags.items():
            yield f"databag of {owner} in {between}", _json(bag.data)
    for secret in world.secrets.values():
        grants = [msgspec.structs.asdict(grant) for grant in secret.grants]
        yield (
            f"secret {secret.label} of {secret.owner}",
            _json(
                {
                    "content": secret.revisions[secret.latest].content,
                    "grants": sorted(grants, key=str),
                    "rotate": secret.rotate,
                }
            ),
        )


def written(layer: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yield all that was written in a container since its image, but for its volumes.

    Args:
        layer: the container's own layer of its overlay.
    """
    for file in sorted(layer.rglob("*")):
        path = f"/{file.relative_to(layer)}"
        if _NOT_THE_CHARM_S.search(path):
            continue
        found = file.lstat()
        text = f"{stat.filemode(found.st_mode)} {found.st_uid}:{found.st_gid}"
        if stat.S_ISREG(found.st_mode) and not _OF_A_PROCESS.search(path):
            text += "\n" + file.read_text(errors="replace")
        yield path, text


def normaliser(world: model.Model) -> Callable[[str], str]:
    """Return what replaces the secrets, ids, addresses and the name of a model in a text."""
    names = {world.name: "MODEL", world.uuid: "MODEL-UUID"}
    names |= {unit.address: f"ADDRESS-OF-{unit.name}" for unit in world.units()}
    for secret in world.secrets.values():
        label = f"SECRET-{secret.owner}-{secret.label}"
        names[secret.id] = label
        for key, value in secret.revisions[secret.latest].content.items():
            if _TOKEN.fullmatch(value):
                names[value] = names[urllib.parse.quote(value, safe="")] = f"{label}-{key}"
                names[base64.b64encode(value.encode()).decode()] = f"{label}-{key}-BASE64"
    longest_first = sorted(names, key=len, reverse=True)
    pattern = re.compile("|".join(f"{re.escape(name)}(?!\\d)" for name in longest_first))

    def normal(text: str) -> str:
        text = pattern.sub(lambda found: names[found[0]], text)
        return _DIGEST.sub("DIGEST", _BCRYPT.sub(r"BCRYPT-\1", text))

    return normal


def _lines(items: Iterator[str] | list[str]) -> str:
    return "\n".join(items)


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True)
