"""The forms of model URI that this charm serves, checked before anything is started.

They are MLflow's own (documentation of MLflow, "Referencing Artifacts"; `_parse_model_uri` in
mlflow.store.artifact.utils.models), less those that need what the charm cannot give: local files
of a pod, stores whose credentials have no relation, and servers other than the related one.
"""

from __future__ import annotations

import dataclasses
import re

from mlflow_kit import options

ALLOWED = (
    "models:/NAME/VERSION, models:/NAME@ALIAS, models:/MODEL_ID, runs:/RUN_ID/PATH, "
    "mlflow-artifacts:/PATH or s3://BUCKET/PATH"
)

_MAX_LENGTH = 1024
"""Longer than an S3 key may be (1024 bytes), far longer than the names in a registry."""

_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
_VERSION = re.compile(r"[1-9][0-9]{0,9}|latest")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,255}")
# MLflow refuses "/" and ":" in a name, and takes "?" for the start of a query.
_NAME = re.compile(r"[^/:?]{1,255}")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# MLflow refuses encoded characters in artifact paths; the rest would start a query.
_NOT_IN_PATH = frozenset("?#%\\")


@dataclasses.dataclass(frozen=True)
class ModelUri:
    """A model URI of an allowed form.

    Attributes:
        text: the URI as MLflow takes it.
    """

    text: str

    @property
    def needs_tracking(self) -> bool:
        """Whether only a tracking server can tell where the model is."""
        return not self.needs_object_storage

    @property
    def needs_object_storage(self) -> bool:
        """Whether the model is read from an object store directly."""
        return self.text.startswith("s3:")

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> ModelUri:
    """Check a model URI.

    Raises:
        ValueError: it has none of the allowed forms; the message says which value and why.
    """
    reason = _fault(text)
    if reason:
        raise ValueError(f"{options.shown(text)}, which {reason}: allowed is {ALLOWED}")
    return ModelUri(text)


def _fault(text: str) -> str:
    if len(text) > _MAX_LENGTH:
        return f"is longer than {_MAX_LENGTH} characters"
    if not text.isprintable():
        return "has control characters"
    if text != text.strip():
        return "begins or ends with a blank"
    scheme, colon, rest = text.partition(":")
    check = {
        "models": _models_fault,
        "runs": _runs_fault,
        "mlflow-artifacts": _artifacts_fault,
        "s3": _s3_fault,
    }.get(scheme)
    if not colon or check is None:
        return "is not a model URI"
    return check(rest)


def _models_fault(rest: str) -> str:
    if not rest.startswith("/") or rest.startswith("//"):
        return "names no model after models:/"
    name, slash, version = rest[1:].partition("/")
    alias = ""
    if not slash:
        if _MODEL_ID.fullmatch(name):
            return ""
        # As in MLflow, the last @ counts: a name may hold others.
        name, at, alias = name.rpartition("@")
        if not at:
            return "has neither a version nor an alias"
    if not _NAME.fullmatch(name) or name in {".", ".."} or name != name.strip():
        return "has a name that the registry does not allow"
    if slash and not _VERSION.fullmatch(version):
        return "has a version that is neither a number nor 'latest'"
    if not slash and not _ALIAS.fullmatch(alias):
        return "has an alias that the registry does not allow"
    return ""


def _runs_fault(rest: str) -> str:
    run, slash, path = rest.removeprefix("/").partition("/")
    if not rest.startswith("/") or not _RUN_ID.fullmatch(run):
        return "has no run ID after runs:/"
    if not slash:
        return "has no path after the run ID"
    return _path_fault(path)


def _artifacts_fault(rest: str) -> str:
    if not rest.startswith("/") or rest.startswith("//"):
        return "names another server than the related one"
    return _path_fault(rest[1:])


def _s3_fault(rest: str) -> str:
    if not rest.startswith("//"):
        return "has no bucket after s3://"
    bucket, _, path = rest[2:].partition("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        return "has a bucket name that S3 does not allow"
    # One slash at the end is how S3 browsers show a folder.
    path = path.removesuffix("/")
    return _path_fault(path) if path else ""


def _path_fault(path: str) -> str:
    if any(part in {"", ".", ".."} for part in path.split("/")):
        return "has an empty part, '.' or '..' in its path"
    if not _NOT_IN_PATH.isdisjoint(path):
        return "has one of the characters ? # % \\ in its path"
    return ""
