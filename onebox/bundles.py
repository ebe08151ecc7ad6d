"""Bundles and relations: what Juju's client decides before anything is deployed.

`plan` finds every fault of a bundle at once, each with file and line, and says in order what has
to be asked of the daemon. All functions are pure.
"""

from __future__ import annotations

import math
import pathlib
import re
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from onebox import bundlefile, charmfile, model

APPLICATION_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]*[a-z][a-z0-9]*)*", re.ASCII)
"""Names of applications (juju/names v5 ``ApplicationSnippet``)."""

PUBLISH = "onebox/publish"
"""Annotation with the ports of unit 0 on 127.0.0.1: ``8080:80`` is host:pod, comma separated."""

TRUE, FALSE = {"1", "t", "T", "TRUE", "true", "True"}, {"0", "f", "F", "FALSE", "false", "False"}
"""What Juju takes for a boolean (Go's ``strconv.ParseBool``)."""

Step = dict[str, typing.Any]
"""One request to the daemon: ``method`` and ``params``."""


def plan(
    bundle: bundlefile.Bundle,
    *,
    trust: bool = False,
    status: Mapping[str, typing.Any] | None = None,
    settings: Mapping[str, Mapping[str, typing.Any]] | None = None,
    publish: Mapping[str, Sequence[tuple[int, int]]] | None = None,
    read_charm: Callable[[pathlib.Path], model.Charm] = charmfile.read,
) -> list[Step]:
    """Verify a bundle and return what is to be done, in order.

    An application that is already there keeps its charm; its options, scale and trust are
    brought in line, and relations that are missing are made (juju ``bundlechanges``).

    Args:
        bundle: what `bundlefile.load` returned.
        trust: whether the user has given ``--trust``.
        status: the model as `report.status` shows it; None for an empty one.
        settings: for each application that is there, `report.config` of it.
        publish: by application, (host port, pod port) instead of the annotation's.
        read_charm: returns the metadata of a packed charm.

    Raises:
        bundlefile.BundleError: with all faults.
    """
    deployed = (status or {}).get("applications", {})
    steps: list[Step] = []
    charms: dict[str, model.Charm] = {}
    for name, spec in bundle.applications.items():
        if not APPLICATION_NAME.fullmatch(name):
            bundle.problem(bundle.places[name], f'invalid application name "{name}"')
        charm = _charm(bundle, name, spec, read_charm)
        if charm is None:
            continue
        charms[name] = charm
        values = _verify_application(bundle, name, spec, charm)
        ports = (publish or {}).get(name, _published(bundle, name, spec))
        if name not in deployed:
            steps.append(_deploy(name, spec, values, ports))
            if spec.get("expose"):
                steps.append({"method": "expose", "params": {"application": name}})
        elif deployed[name]["charm-name"] != charm.name:
            other = deployed[name]["charm-name"]
            text = f'application "{name}" is there already, with the charm "{other}"'
            bundle.problem(spec.places["charm"], text)
        else:
            current = (settings or {}).get(name, {})
            steps += _align(name, spec, charm, values, deployed[name], current)
    steps += _integrate(bundle, charms, (status or {}).get("relations", []))
    wanting = sorted(name for name, spec in bundle.applications.items() if spec.get("trust"))
    if wanting and not trust:
        bundle.problems.append(
            "Bundle cannot be deployed without trusting applications with your cloud credentials."
            "\nPlease repeat the deploy command with the --trust argument if you consent to trust"
            " the following application(s):\n  - " + "\n  - ".join(wanting)
        )
    if bundle.problems:
        raise bundlefile.BundleError(bundle.problems)
    return steps


def _charm(
    bundle: bundlefile.Bundle,
    name: str,
    spec: bundlefile.Located,
    read_charm: Callable[[pathlib.Path], model.Charm],
) -> model.Charm | None:
    path = spec.get("charm", "")
    place = spec.places.get("charm", bundle.places[name])
    if path.startswith("/"):
        try:
            return read_charm(pathlib.Path(path))
        except charmfile.CharmError as error:
            bundle.problem(place, f'application "{name}": {error}')
    elif path:
        channel = f" {spec['channel']}" if spec.get("channel") else ""
        bundle.problem(
            place,
            f'application "{name}": onebox cannot fetch "{path}{channel}" from Charmhub; name'
            f" a packed charm, as ./{path}.charm, for example with --overlay onebox/overlay.yaml",
        )
    else:
        bundle.problem(place, f'application "{name}" has no charm')
    return None


def _verify_application(
    bundle: bundlefile.Bundle, name: str, spec: bundlefile.Located, charm: model.Charm
) -> dict[str, typing.Any]:
    """Return the options with their types; note what the charm does not know."""
    options = spec.get("options") or bundlefile.Located()
    values: dict[str, typing.Any] = {}
    for key, value in options.items():
        fault = "" if key in charm.options else f'unknown option "{key}"'
        if value is not None and not fault:
            try:
                values[key] = parse_option(key, charm.options[key], value)
            except ValueError as error:
                fault = str(error)
        if fault:
            bundle.problem(options.places[key], f'application "{name}": {fault}')
    for field, known in (("resources", charm.resources), ("storage", charm.storage)):
        for key in (spec.get(field) or {}).keys() - known.keys():
            text = f'application "{name}": charm "{charm.name}" has no {field.rstrip("s")} "{key}"'
            bundle.problem(spec[field].places[key], text)
    missing = ", ".join(key for key in charm.resources if key not in (spec.get("resources") or {}))
    if missing:
        text = f'application "{name}": local charm missing OCI images for: {missing}'
        bundle.problem(spec.places["charm"], text)
    if "num_units" not in spec:
        text = f'application "{name}" has no scale: Juju would deploy it with 0 units'
        bundle.problem(bundle.places[name], text)
    elif spec["num_units"] < 0:
        text = f'negative number of units specified on application "{name}"'
        bundle.problem(spec.places["num_units"], text)
    return values


def _published(
    bundle: bundlefile.Bundle, name: str, spec: bundlefile.Located
) -> list[tuple[int, int]]:
    annotations = spec.get("annotations") or bundlefile.Located()
    text = annotations.get(PUBLISH) or ""
    try:
        return parse_ports(text)
    except ValueError as error:
        bundle.problem(annotations.places[PUBLISH], f'application "{name}": {error}')
        return []


def _deploy(
    name: str,
    spec: bundlefile.Located,
    values: dict[str, typing.Any],
    ports: Sequence[tuple[int, int]],
) -> Step:
    params = {
        "charm": spec["charm"],
        "application": name,
        "config": values,
        "num_units": spec.get("num_units", 0),
        "resources": dict(spec.get("resources") or {}),
        "storage": {key: text for key, text in (spec.get("storage") or {}).items() if text},
        "trust": spec.get("trust", False),
        "channel": spec.get("channel", ""),
        "publish": [list(pair) for pair in ports],
    }
    return {"method": "deploy", "params": params}


def _align(
    name: str,
    spec: bundlefile.Located,
    charm: model.Charm,
    values: dict[str, typing.Any],
    deployed: Mapping[str, typing.Any],
    current: Mapping[str, typing.Any],
) -> Iterator[Step]:
    known = current.get("settings", {})
    changed = {
        key: option_text(value)
        for key, value in values.items()
        if known.get(key, {}).get("value", charm.options[key].default) != value
    }
    if changed:
        yield {"method": "config_set", "params": {"application": name, "values": changed}}
    if spec["num_units"] != deployed.get("scale", 0):
        yield {"method": "scale", "params": {"application": name, "scale": spec["num_units"]}}
    trusted = current.get("application-config", {}).get("trust", {}).get("value", False)
    if spec.get("trust") and not trusted:
        yield {"method": "trust", "params": {"application": name, "remove": False}}
    if spec.get("expose") and not deployed["exposed"]:
        yield {"method": "expose", "params": {"application": name}}


def _integrate(
    bundle: bundlefile.Bundle,
    charms: Mapping[str, model.Charm],
    existing: Sequence[Mapping[str, str]],
) -> Iterator[Step]:
    there = {frozenset((relation["provider"], relation["requirer"])) for relation in existing}
    seen: set[frozenset[str]] = set()
    counts: Counter[str] = Counter()
    for pair, place in bundle.relations:
        names = [side.partition(":")[0] for side in pair]
        unknown = [name for name in names if name not in bundle.applications]
        for name in unknown:
            text = f'relation {pair} refers to application "{name}" not defined in this bundle'
            bundle.problem(place, text)
        if unknown or any(name not in charms for name in names):
            continue
        try:
            ends = match_endpoints(pair, charms)
        except ValueError as error:
            bundle.problem(place, str(error))
            continue
        key = frozenset(map(str, ends))
        if key in seen:
            bundle.problem(place, f"relation {pair} is defined more than once")
            continue
        seen.add(key)
        counts.update(key)
        for end in ends:
            limit = charms[end.application].endpoints[end.name].limit
            if limit and counts[str(end)] > limit:
                bundle.problem(place, _over_limit(end, limit))
        if key not in there:
            yield {"method": "integrate", "params": {"a": str(ends[0]), "b": str(ends[1])}}


def match_endpoints(
    pair: Sequence[str], charms: Mapping[str, model.Charm]
) -> tuple[model.Endpoint, model.Endpoint]:
    """Return the two endpoints that ``application[:endpoint]`` names can only mean.

    Args:
        pair: two names.
        charms: by application.

    Returns:
        The requirer's endpoint, then the provider's: the order of Juju's relation keys.

    Raises:
        ValueError: there is no such pair, or several; Juju's words (``InferEndpoints``).
    """
    sides = [list(_endpoints(name, charms)) for name in pair]
    candidates = [
        (one, other) if one.role == "requirer" else (other, one)
        for one in sides[0]
        for other in sides[1]
        if one.application != other.application
        and one.interface == other.interface
        and {one.role, other.role} == {"requirer", "provider"}
    ]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        keys = "; ".join(sorted(f'"{one} {other}"' for one, other in candidates))
        raise ValueError(f'ambiguous relation: "{" ".join(pair)}" could refer to {keys}')
    if len(sides[0]) == len(sides[1]) == 1:
        shown = [f"{end} is a {end.role} of {end.interface}" for side in sides for end in side]
        raise ValueError(f"no relations found: {', '.join(shown)}")
    raise ValueError(f"no relations found between {pair[0]} and {pair[1]}")


def _endpoints(name: str, charms: Mapping[str, model.Charm]) -> Iterator[model.Endpoint]:
    application, colon, endpoint = name.partition(":")
    if application not in charms:
        raise ValueError(f'application "{application}" not found')
    specs = charms[application].endpoints
    if colon and endpoint not in specs:
        raise ValueError(f'application "{application}" has no "{endpoint}" relation')
    for spec in [specs[endpoint]] if colon else specs.values():
        if spec.role != "peer":
            yield model.Endpoint(application, spec.name, spec.interface, spec.role)


def resolve_endpoints(world: model.Model, a: str, b: str) -> tuple[model.Endpoint, model.Endpoint]:
    """Return the endpoints of a relation that is to be made: the requirer's, the provider's.

    Args:
        world: the model.
        a: ``application`` or ``application:endpoint``.
        b: the other side.

    Raises:
        ValueError: there is no such relation, several are possible, it is there already, or an
            endpoint has as many as it may have; Juju's words.
    """
    applications = world.applications
    ends = match_endpoints((a, b), {name: item.charm for name, item in applications.items()})
    key = f"{ends[0]} {ends[1]}"
    for end in ends:
        if applications[end.application].life is not model.Life.ALIVE:
            raise ValueError(
                f'cannot add relation "{key}": application {end.application} is not alive'
            )
    counts = Counter(str(end) for item in world.relations.values() for end in item.endpoints)
    for relation in world.relations.values():
        if set(relation.endpoints) == set(ends):
            raise ValueError(
                f'cannot add relation "{key}": relation {key} already exists\n\n'
                "Use 'juju status --relations' to view the current relations."
            )
    for end in ends:
        limit = applications[end.application].charm.endpoints[end.name].limit
        if limit and counts[str(end)] >= limit:
            text = _over_limit(end, limit)
            raise ValueError(f'cannot add relation "{key}": {text} (quota limit exceeded)')
    return ends


def _over_limit(end: model.Endpoint, limit: int) -> str:
    return (
        f"establishing a new relation for {end} would exceed its maximum relation limit of {limit}"
    )


def parse_option(name: str, option: model.Option, value: typing.Any) -> typing.Any:
    """Return a setting with its option's type; text is parsed (juju/charm v12 ``config.go``).

    Raises:
        ValueError: the value does not fit; Juju's words.
    """
    found = _parse_text(option.type, value) if isinstance(value, str) else _convert(option, value)
    if found is None:
        shown = f'"{value}"' if isinstance(value, str) else option_text(value)
        raise ValueError(f'option "{name}" expected {option.type}, got {shown}')
    return found


def _parse_text(kind: str, text: str) -> str | int | float | bool | None:
    match kind:
        case "int":
            whole = int(text) if re.fullmatch(r"[+-]?[0-9]{1,19}", text, re.ASCII) else None
            return whole if whole is not None and -(2**63) <= whole < 2**63 else None
        case "float":
            number = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
            value = float(text) if re.fullmatch(number, text, re.ASCII) else math.inf
            return value if math.isfinite(value) else None
        case "boolean":
            return True if text in TRUE else False if text in FALSE else None
        case "secret":
            return text if not text or text.startswith("secret:") else None
        case _:
            return text


def _convert(option: model.Option, value: typing.Any) -> int | float | bool | None:
    match option.type, value:
        case "boolean", bool():
            return value
        case _, bool():
            return None
        case "int", int():
            return value
        case "float", int() | float():
            return float(value)
        case _:
            return None


def option_text(value: typing.Any) -> str:
    """Write a setting as the user types it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_ports(text: str) -> list[tuple[int, int]]:
    """Read ``8080:80,9000:9000``: ports of this machine and of the pod.

    Raises:
        ValueError: it is something else, or a port is not in 1 to 65535.
    """
    found: list[tuple[int, int]] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5})", item, re.ASCII)
        ports = (int(match[1]), int(match[2])) if match else (0, 0)
        if not all(1 <= port <= 65535 for port in ports):
            raise ValueError(f'"{item}" does not name two ports, as 8080:80')
        found.append(ports)
    return found
