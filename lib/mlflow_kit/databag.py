"""Read relation data into one of three answers: absent, invalid, or a value.

"Not there yet" and "wrong" ask for different statuses, so the two are different types here and
no reader of a databag may fold them into one.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    import ops


@dataclasses.dataclass(frozen=True)
class Absent:
    """The other side has not sent all of its data yet.

    Attributes:
        waiting_for: what is missing, in words for a status line.
    """

    waiting_for: str


@dataclasses.dataclass(frozen=True)
class Invalid:
    """The other side sent data that cannot be used.

    Attributes:
        reason: which key, what is wrong and what is allowed; never the value of a secret.
    """

    reason: str


def remote_app(relation: ops.Relation) -> Mapping[str, str]:
    """Return the databag of the remote application.

    Empty when the remote application is not known, as in relation-broken after it is gone.
    """
    # ops types the application as never None and says in a comment that it may be.
    app = cast("ops.Application | None", relation.app)
    return {} if app is None else dict(relation.data[app])


def save(bag: ops.RelationDataContent, content: Mapping[str, str]) -> bool:
    """Make the keys of ``content`` have these values; an empty value removes the key.

    Only what differs is written, so that an unchanged databag wakes nobody; and all of it at
    once, since each hook tool is a process.

    Returns:
        Whether something was written.
    """
    changes = {key: value for key, value in content.items() if bag.get(key, "") != value}
    if changes:
        bag.update(changes)
    return bool(changes)
