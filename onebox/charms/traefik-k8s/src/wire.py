"""The provider's side of `ingress` v2 (IngressPerApp), as traefik-k8s 2.21 reads and writes it.

Every value is JSON. It is written apart from `mlflow_kit.interfaces.ingress`, which the MLflow
charms ask with, so that a mistake there is not made here as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import nginx
from mlflow_kit.databag import Absent, Invalid

_MANDATORY = ("model", "name", "port")
_OPTIONAL = ("scheme", "strip-prefix")


def read(
    app: Mapping[str, str], units: Sequence[Mapping[str, str]]
) -> Absent | Invalid | nginx.Route:
    """Read what a requirer asks for.

    Args:
        app: its application databag.
        units: the databags of its units.
    """
    if not all(app.get(key) for key in _MANDATORY):
        return Absent("a request")
    try:
        values: dict[str, object] = {
            key: json.loads(app[key]) for key in (*_MANDATORY, *_OPTIONAL) if app.get(key)
        }
        hosts: list[object] = [json.loads(unit["host"]) for unit in units if unit.get("host")]
    except (ValueError, RecursionError):
        return Invalid("a value is not JSON")
    if not hosts:
        return Absent("a unit")
    port = values["port"]
    if isinstance(port, bool) or not isinstance(port, int):
        return Invalid("port is not a number")
    try:
        return nginx.Route(
            prefix=f"/{values['model']}-{values['name']}",
            # A null is how the library's models write a default.
            scheme=str(values.get("scheme") or "http"),
            hosts=tuple(sorted({str(host) for host in hosts})),
            port=port,
            strip_prefix=values.get("strip-prefix") is True,
        )
    except ValueError as error:
        return Invalid(str(error))


def answer(url: str) -> dict[str, str]:
    """Return what the leader saves for a requirer; an empty URL takes it back."""
    return {"ingress": json.dumps({"url": url}) if url else ""}
