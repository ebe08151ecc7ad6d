"""The provider's side of `kubernetes_manifest`, and the files that keep what it was sent.

Source: resource-dispatcher's library 0.1 (objects in the databag) and 0.2 (in a Juju secret).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from mlflow_kit import plan as plans
from mlflow_kit import secrets
from mlflow_kit.databag import Absent, Invalid

KINDS = {
    "secrets": "Secret",
    "service-accounts": "ServiceAccount",
    "pod-defaults": "PodDefault",
    "config-maps": "ConfigMap",
}
"""The kind of object that each endpoint takes."""

_FOLDER = "/manifests"

Manifest: TypeAlias = "dict[str, object]"
"""A Kubernetes object as a JSON mapping."""


def read(
    bag: Mapping[str, str], secret: secrets.Reader, kind: str
) -> Absent | Invalid | list[Manifest]:
    """Read the requirer's application databag.

    Args:
        bag: the databag.
        secret: reads a Juju secret.
        kind: the kind of object that the endpoint takes.
    """
    text = bag.get("kubernetes_manifests", "")
    if not text:
        return []
    if bag.get("is_secret", "").lower() == "true":
        content = secret(text)
        if content is None:
            return Absent("a grant of its secret")
        text = content.get("manifests", "")
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return Invalid("manifests are not JSON")
    if not isinstance(found, list):
        return Invalid("manifests are not a list")
    result: list[Manifest] = []
    for item in cast("list[object]", found):
        if not isinstance(item, dict):
            return Invalid("a manifest is not a mapping")
        manifest = cast("Manifest", item)
        if manifest.get("kind") != kind:
            return Invalid(f"a manifest is not of kind {kind}")
        if not identity(manifest)[1]:
            return Invalid("a manifest has no name")
        result.append(manifest)
    return result


def identity(manifest: Manifest) -> tuple[str, str]:
    """Return namespace and name; without a namespace it is meant for every user's."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        return ("", "")
    found = cast("dict[str, object]", metadata)
    namespace, name = found.get("namespace"), found.get("name")
    return (
        namespace if isinstance(namespace, str) else "",
        name if isinstance(name, str) else "",
    )


def duplicates(manifests: Sequence[Manifest]) -> list[str]:
    """Return the names that occur more than once in one namespace."""
    found = [identity(manifest) for manifest in manifests]
    return sorted({name for namespace, name in found if found.count((namespace, name)) > 1})


def path(endpoint: str) -> str:
    """Return the file that keeps the objects of an endpoint."""
    return f"{_FOLDER}/{endpoint}.json"


def dump(manifests: Sequence[Manifest]) -> str:
    """Return the content of such a file."""
    return json.dumps(sorted(manifests, key=identity), indent=2, sort_keys=True) + "\n"


def plan(contents: Mapping[str, str]) -> plans.Plan:
    """Return the plan of the container.

    Args:
        contents: content of each endpoint's file.
    """
    return plans.Plan(
        directories=(plans.Directory(path=_FOLDER, mode=0o700, purge=True),),
        files=tuple(
            plans.File(path=path(endpoint), content=content, mode=0o600)
            for endpoint, content in sorted(contents.items())
        ),
    )
