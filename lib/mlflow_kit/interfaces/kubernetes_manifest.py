"""`kubernetes_manifest`: objects for resource-dispatcher to put into namespaces, requirer side.

The requirer sends, the provider answers nothing. Source: resource-dispatcher's library 0.1
(plaintext) and 0.2 (Juju secret); its 0.2 reader takes both, the 0.1 reader only plaintext.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

Manifest = Mapping[str, object]
"""A Kubernetes object as a JSON mapping; without a namespace it goes to every user's."""

_MANIFESTS = "kubernetes_manifests"
_ENVELOPED = "is_secret"
_CONTENT = "manifests"


def plaintext(manifests: Sequence[Manifest]) -> dict[str, str]:
    """Return what the leader saves for objects without secrets; all 0.x providers read it."""
    return {_MANIFESTS: _dump(manifests) if manifests else "", _ENVELOPED: ""}


def secret_content(manifests: Sequence[Manifest]) -> dict[str, str]:
    """Return the content of the Juju secret that `by_secret` points to."""
    return {_CONTENT: _dump(manifests)}


def by_secret(uri: str) -> dict[str, str]:
    """Return what the leader saves for objects in a Juju secret; an empty URI withdraws them."""
    return {_MANIFESTS: uri, _ENVELOPED: "true" if uri else ""}


def _dump(manifests: Sequence[Manifest]) -> str:
    return json.dumps(list(manifests), sort_keys=True)
