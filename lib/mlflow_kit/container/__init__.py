"""Programs that charms push into workload containers; they import the standard library only."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable


def programs(own: pathlib.Path, names: Iterable[str]) -> dict[str, str]:
    """Read programs that go into a container.

    Args:
        own: the folder of the charm's own programs; the others are here.
        names: their file names.

    Returns:
        The texts by name.

    Raises:
        FileNotFoundError: there is no such program in either folder.
    """
    shared = pathlib.Path(__file__).parent
    return {
        name: (own if (own / name).is_file() else shared).joinpath(name).read_text("utf-8")
        for name in names
    }
