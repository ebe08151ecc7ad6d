"""``juju debug-log``: show a model's log, which the daemon writes as JSON lines."""

from __future__ import annotations

import collections
import datetime
import fnmatch
import json
import os
import pathlib
import time
import typing
from collections.abc import Iterator, Sequence

LEVELS = ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"]

Line = dict[str, str]
"""``time`` (RFC 3339), ``entity`` as ``unit-minio-0``, ``level``, ``module``, ``message``."""


class Filter(typing.NamedTuple):
    """Which lines are shown; entities may be written as ``minio/0`` and with ``*``."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    include_module: Sequence[str] = ()
    exclude_module: Sequence[str] = ()
    level: str = "DEBUG"

    def accepts(self, line: Line) -> bool:
        """Return whether a line is shown."""
        entity, module = line["entity"], line["module"]
        if LEVELS.index(line["level"]) < LEVELS.index(self.level):
            return False
        if self.include and not any(_is(entity, pattern) for pattern in self.include):
            return False
        if any(_is(entity, pattern) for pattern in self.exclude):
            return False
        if self.include_module and not any(module.startswith(it) for it in self.include_module):
            return False
        return not any(module.startswith(prefix) for prefix in self.exclude_module)


def _is(entity: str, pattern: str) -> bool:
    name = pattern if pattern.startswith("unit-") else f"unit-{pattern.replace('/', '-')}"
    return fnmatch.fnmatchcase(entity, name) or entity == pattern


def read(path: pathlib.Path, wanted: Filter, *, last: int = 0, follow: bool) -> Iterator[Line]:
    """Return the lines of a log that pass a filter.

    Args:
        path: the log; it need not be there yet.
        wanted: the filter.
        last: at most this many of the lines that are there already; 0 for all.
        follow: whether to go on with what is written from now on, for ever.
    """
    path.touch()
    with path.open("rb") as file:
        present = filter(wanted.accepts, _lines(file))
        yield from collections.deque(present, maxlen=last or None)
        while follow:
            yield from filter(wanted.accepts, _lines(file))
            time.sleep(0.2)


def _lines(file: typing.BinaryIO) -> Iterator[Line]:
    while text := file.readline():
        if not text.endswith(b"\n"):
            # The daemon is in the middle of a line: look again later.
            file.seek(-len(text), os.SEEK_CUR)
            return
        yield json.loads(text)


def show(line: Line, *, utc: bool = False, date: bool = False) -> str:
    """Write a line as Juju does: ``unit-minio-0: 10:41:05 INFO juju-log hello``."""
    moment = datetime.datetime.fromisoformat(line["time"])
    shown = moment if utc else moment.astimezone()
    clock = shown.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")
    return f"{line['entity']}: {clock} {line['level']} {line['module']} {line['message']}"
