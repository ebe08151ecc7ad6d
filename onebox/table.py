"""Tables for people, as Juju's: `status` and columns for other lists."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping, Sequence

GREEN, YELLOW, RED, CYAN, MAGENTA = "32", "33", "31", "36", "35"

COLOURS = {
    **dict.fromkeys(("active", "idle", "available", "attached", "completed"), GREEN),
    **dict.fromkeys(("waiting", "maintenance", "executing", "allocating", "rebooting"), YELLOW),
    **dict.fromkeys(("blocked", "error", "failed", "lost", "terminated", "unknown"), RED),
}
"""Of statuses (juju ``cmd/output`` ``statusColors``)."""

Cell = str | tuple[str, str]
"""Text, or text and its colour."""


def columns(rows: Sequence[Sequence[Cell]], *, right: Sequence[int] = (), colour: bool) -> str:
    """Return rows as lines with aligned columns, two blanks apart.

    Args:
        rows: each with the same number of cells.
        right: numbers of the columns that are aligned at their right.
        colour: whether colours are shown.
    """
    widths = [max(len(_text(cell)) for cell in column) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for row in rows:
        shown: list[str] = []
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (width - len(_text(cell)))
            text = _painted(cell) if colour else _text(cell)
            shown.append(blanks + text if number in right else text + blanks)
        lines.append("  ".join(shown).rstrip())
    return "\n".join(lines) + "\n"


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _painted(cell: Cell) -> str:
    if isinstance(cell, str) or not cell[0] or not cell[1]:
        return _text(cell)
    return f"\x1b[{cell[1]}m{cell[0]}\x1b[0m"


def status(
    view: Mapping[str, typing.Any], *, relations: bool = False, colour: bool = False
) -> str:
    """Return what ``juju status`` prints.

    Args:
        view: from `report.status`.
        relations: whether the relations are listed.
        colour: whether colours are shown.
    """
    head = view["model"]
    cloud = f"{head['cloud']}/{head['region']}"
    clock = view["controller"]["timestamp"]
    model = [
        ["Model", "Controller", "Cloud/Region", "Version", "Timestamp"],
        [head["name"], head["controller"], cloud, head["version"], clock],
    ]
    sections = [columns(model, colour=colour)]
    applications = dict(sorted(view["applications"].items()))
    if applications:
        rows = [_APPLICATION, *(_application(name, item) for name, item in applications.items())]
        sections.append(columns(rows, right=(3, 6), colour=colour))
    units = list(_units(applications))
    if units:
        titles = ["Unit", "Workload", "Agent", "Address", "Ports", "Message"]
        sections.append(columns([titles, *units], colour=colour))
    if relations and view.get("relations"):
        titles = ["Integration provider", "Requirer", "Interface", "Type", "Message"]
        listed = sorted([item[key] for key in _RELATION] for item in view["relations"])
        sections.append(columns([titles, *listed], colour=colour))
    if not applications:
        sections.append(f'Model "admin/{head["name"]}" is empty.\n')
    return "\n".join(sections)


_APPLICATION = (
    *("App", "Version", "Status", "Scale", "Charm"),
    *("Channel", "Rev", "Address", "Exposed", "Message"),
)
_RELATION = ("provider", "requirer", "interface", "type", "message")


def coloured(word: str) -> Cell:
    """Return a status in its colour."""
    return (word, COLOURS.get(word, ""))


def _application(name: str, item: Mapping[str, typing.Any]) -> list[Cell]:
    units = item.get("units", {}).values()
    ready = sum(unit["juju-status"].get("current") in {"idle", "executing"} for unit in units)
    scale: Cell = str(ready) if ready == len(units) else (f"{ready}/{len(units)}", YELLOW)
    current = item["application-status"]
    return [
        name,
        item.get("version", "").partition("\n")[0][:30],
        coloured(current.get("current", "")),
        scale,
        item["charm-name"],
        item.get("charm-channel", ""),
        str(item["charm-rev"]),
        (item.get("address", ""), CYAN),
        "yes" if item["exposed"] else "no",
        _line(current),
    ]


def _units(applications: Mapping[str, typing.Any]) -> Iterator[list[Cell]]:
    for item in applications.values():
        units = item.get("units", {})
        for name in sorted(units, key=lambda unit: int(unit.rpartition("/")[2])):
            unit = units[name]
            agent, workload = unit["juju-status"], unit["workload-status"]
            doing = re.fullmatch(
                r"running (?:action )?(\S+)(?: hook| action)?", agent.get("message", "")
            )
            yield [
                f"{name}*" if unit.get("leader") else name,
                coloured(workload.get("current", "")),
                coloured(agent.get("current", "")),
                (unit.get("address", ""), CYAN),
                (",".join(unit.get("open-ports", [])), MAGENTA),
                f"({doing[1]}) {_line(workload)}" if doing else _line(workload),
            ]


def _line(current: Mapping[str, str]) -> str:
    return " ".join(current.get("message", "").splitlines())
