"""What the programs in the container write for the charm, and what it wrote for them.

They run as users who are not trusted with more than their own work, so that text which is not
what it should be counts as none.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from typing import cast


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A model in the container.

    Attributes:
        serial: number of the fetched model; each new content gets the next one.
        path: its folder.
        uri: the URI that it was copied from, with an alias resolved to a version.
        requested: the URI that was asked for.
    """

    serial: int
    path: str
    uri: str
    requested: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What `fetch.py` has come to.

    Attributes:
        job: id of the job that is done or has failed; empty before the first.
        error: why it failed, in words that follow its URI in a sentence; empty when it is done.
        blocked: whether an operator has to act on the error.
        model: the last model that was fetched, by this job or another.
    """

    job: str = ""
    error: str = ""
    blocked: bool = False
    model: Model | None = None


class Status(enum.Enum):
    """How far a server is."""

    LOADING = "loading"
    UP = "up"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slot:
    """One of the two servers.

    Attributes:
        name: name of its Pebble service.
        content: what the charm asked for (the slot's file); None when it is free.
        status: how far it is with that.
        error: why the model cannot be served, in words that follow its URI.
        mlflow: version of MLflow that serves.
    """

    name: str
    content: Mapping[str, object] | None = None
    status: Status = Status.LOADING
    error: str = ""
    mlflow: str = ""
    generation: int = 0


def read_result(text: str | None) -> Result:
    """Read the result of `fetch.py`."""
    found = _mapping(text)
    return Result(
        job=_text(found, "job"),
        error=_text(found, "error"),
        blocked=found.get("blocked") is True,
        model=_model(found.get("model")),
    )


def read_slot(name: str, content: str | None, report: str | None) -> Slot:
    """Read a slot's file and the report of its server.

    A report of an earlier generation is about another model and says nothing on this one, but
    its number must not be used again.
    """
    asked = _mapping(content)
    said = _mapping(report)
    generation = max(_number(asked, "generation"), _number(said, "generation"))
    if not asked:
        return Slot(name=name, generation=generation)
    if _number(said, "generation") != _number(asked, "generation"):
        return Slot(name=name, content=asked, generation=generation)
    known = {status.value: status for status in Status}
    return Slot(
        name=name,
        content=asked,
        status=known.get(_text(said, "status"), Status.LOADING),
        error=_text(said, "error"),
        mlflow=_text(said, "mlflow"),
        generation=generation,
    )


def _model(value: object) -> Model | None:
    if not isinstance(value, dict):
        return None
    found = cast("dict[str, object]", value)
    serial = _number(found, "serial")
    path, uri = _text(found, "path"), _text(found, "uri")
    if not (serial and path and uri):
        return None
    return Model(serial=serial, path=path, uri=uri, requested=_text(found, "requested"))


def _mapping(text: str | None) -> dict[str, object]:
    try:
        found: object = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}


def _text(found: Mapping[str, object], key: str) -> str:
    value = found.get(key)
    # One line: it may become part of a status.
    return " ".join(value.split()) if isinstance(value, str) else ""


def _number(found: Mapping[str, object], key: str) -> int:
    value = found.get(key)
    return value if isinstance(value, int) and value > 0 else 0
