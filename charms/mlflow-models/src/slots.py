"""Which of the two servers runs which model.

A new model, or the same one with other options, goes to the free slot while the old one answers;
both share the port. The old server stops when the new one has said that it is up, and stays when
the new one has failed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from reports import Slot, Status

_NAMES = frozenset({"generation", "uri"})
"""What tells slots and models apart for people and reports: to a server, `serial` is the model."""


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What a slot shall do.

    Attributes:
        name: name of the slot.
        content: content of its file, for the program that serves.
        running: whether its server runs; one that failed is kept only as a note of the failure.
    """

    name: str
    content: Mapping[str, object]
    running: bool = True


def assign(wanted: Mapping[str, object] | None, slots: Sequence[Slot]) -> tuple[Assignment, ...]:
    """Decide what both slots shall do.

    Args:
        wanted: what shall be served, without the generation; None for nothing new.
        slots: both slots as they are.

    Returns:
        Slots without an assignment are free: their servers stop.
    """
    holder = holder_of(wanted, slots)
    if holder is not None and holder.status is Status.UP:
        return (_kept(holder),)
    others = [slot for slot in slots if slot is not holder and _usable(slot)]
    if wanted is None:
        return tuple(_kept(slot) for slot in others)
    if holder is None:
        return _placed(wanted, slots)
    # With nothing else to serve, Pebble goes on trying to start the one that failed.
    running = holder.status is not Status.FAILED or not others
    return (
        *(_kept(slot) for slot in others),
        dataclasses.replace(_kept(holder), running=running),
    )


def holder_of(wanted: Mapping[str, object] | None, slots: Sequence[Slot]) -> Slot | None:
    """Return the slot that was asked for just this, by whatever URI."""
    for slot in slots:
        if slot.content is not None and wanted is not None and _same(wanted, slot.content):
            return slot
    return None


def _placed(wanted: Mapping[str, object], slots: Sequence[Slot]) -> tuple[Assignment, ...]:
    """Put something new where it disturbs least."""
    target = min(slots, key=_worth)
    generation = 1 + max(slot.generation for slot in slots)
    others = [slot for slot in slots if slot is not target and _usable(slot)]
    new = Assignment(target.name, {**wanted, "generation": generation})
    return (*(_kept(slot) for slot in others), new)


def _worth(slot: Slot) -> int:
    if slot.content is None:
        return 0
    return {Status.FAILED: 1, Status.LOADING: 2, Status.UP: 3}[slot.status]


def _usable(slot: Slot) -> bool:
    return slot.content is not None and slot.status is not Status.FAILED


def _kept(slot: Slot) -> Assignment:
    return Assignment(slot.name, slot.content or {})


def _same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether a server that does the one need not be started to do the other."""
    keys = (one.keys() | other.keys()) - _NAMES
    return all(one.get(key) == other.get(key) for key in keys)
