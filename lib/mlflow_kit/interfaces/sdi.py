"""The handshake of serialized-data-interface (SDI), which `object-storage` and `ingress` use.

Both leaders say which versions they speak; the provider sends ``data`` only after that. One
silent requirer keeps the provider from answering anybody, so `versions` is always written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import yaml

from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import _parse

_VERSIONS = "_supported_versions"
_DATA = "data"


def versions(version: str) -> dict[str, str]:
    """Return the key that says which single version this side speaks, as SDI writes it."""
    return {_VERSIONS: f"- {version}\n"}


def message(version: str, data: Mapping[str, object]) -> dict[str, str]:
    """Return the keys that send ``data``; JSON, which is YAML too and has a stable order."""
    return {**versions(version), _DATA: json.dumps(data, sort_keys=True)}


def speaks(bag: Mapping[str, str]) -> bool:
    """Whether the other side has said that it speaks SDI."""
    return bool(bag.get(_VERSIONS))


def common(bag: Mapping[str, str], versions: Sequence[str]) -> str:
    """Return the first of these versions that the other side speaks; empty when there is none."""
    try:
        spoken: object = yaml.safe_load(bag.get(_VERSIONS, ""))
    except (yaml.YAMLError, ValueError, RecursionError):
        return ""
    if not isinstance(spoken, list):
        return ""
    return next((version for version in versions if version in spoken), "")


def read(bag: Mapping[str, str], version: str) -> Absent | Invalid | Mapping[str, object]:
    """Return the ``data`` that the other side sent in this version."""
    if not speaks(bag):
        return Absent("the versions it speaks")
    try:
        spoken: object = yaml.safe_load(bag[_VERSIONS])
    except (yaml.YAMLError, ValueError, RecursionError):
        return Invalid(f"{_VERSIONS} is not YAML")
    if not isinstance(spoken, list) or version not in spoken:
        return Invalid(f"{_VERSIONS} does not name {version}")
    if not bag.get(_DATA):
        return Absent("data")
    return _parse.yaml_mapping(bag, _DATA)
