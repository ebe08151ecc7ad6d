"""Why a charm cannot do its work: one value that stops the work and is shown as the status."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable

import ops


class Kind(enum.Enum):
    """Who has to act before the problem goes away, most urgent first."""

    BLOCKED = "blocked"
    """The operator: the message says what to do."""
    MAINTENANCE = "maintenance"
    """Nobody: the charm is at work and goes on by itself."""
    WAITING = "waiting"
    """Another application, or the workload."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """One reason not to be active.

    Attributes:
        kind: who has to act.
        message: one sentence for the status line; it never holds a secret or the text of a
            foreign exception.
    """

    kind: Kind
    message: str


def blocked(message: str) -> Problem:
    """Return a problem that the operator has to solve."""
    return Problem(Kind.BLOCKED, message)


def maintenance(message: str) -> Problem:
    """Return a problem that the charm is solving."""
    return Problem(Kind.MAINTENANCE, message)


def waiting(message: str) -> Problem:
    """Return a problem that another application or the workload solves."""
    return Problem(Kind.WAITING, message)


_STATUS = {
    Kind.BLOCKED: ops.BlockedStatus,
    Kind.MAINTENANCE: ops.MaintenanceStatus,
    Kind.WAITING: ops.WaitingStatus,
}


def report(event: ops.CollectStatusEvent, problems: Iterable[Problem], active: str = "") -> None:
    """Add a status for each problem, and Active, which wins only where there is none.

    Args:
        event: the collect-status event; ops shows the most urgent status that was added, and
            the first one among equals.
        problems: most useful first.
        active: the message shown when there is no problem.
    """
    for problem in problems:
        event.add_status(_STATUS[problem.kind](problem.message))
    event.add_status(ops.ActiveStatus(active))
