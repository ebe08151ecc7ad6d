"""`mlflow_client`: where the tracking server of a model is, both sides.

Provider's application databag, written by the leader only while the server answers:
``tracking-uri``, ``version`` and ``artifacts``. The requirer writes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from mlflow_kit import uris
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import _parse

_KEYS = ("tracking-uri", "version", "artifacts")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracking:
    """A tracking server.

    Attributes:
        uri: tracking URI inside the cluster, without a trailing slash.
        version: MLflow's version there; empty when not known.
        artifacts: ``proxied`` when clients send artifacts through the server; empty when not
            known.
    """

    uri: str
    version: str = ""
    artifacts: str = ""


def write(tracking: Tracking | None) -> dict[str, str]:
    """Return what the provider's leader saves; None withdraws the address."""
    if tracking is None:
        return dict.fromkeys(_KEYS, "")
    values = (tracking.uri, tracking.version, tracking.artifacts)
    return dict(zip(_KEYS, values, strict=True))


def read(bag: Mapping[str, str]) -> Absent | Invalid | Tracking:
    """Read the provider's application databag."""
    if not bag.get("tracking-uri"):
        return Absent("a tracking URI")
    try:
        uri = uris.parse_web(bag["tracking-uri"]).geturl()
    except ValueError as error:
        return Invalid(f"tracking-uri {error}")
    for key in ("version", "artifacts"):
        if _parse.has_control(bag.get(key, "")):
            return Invalid(f"{key} has control characters")
    return Tracking(uri=uri, version=bag.get("version", ""), artifacts=bag.get("artifacts", ""))
