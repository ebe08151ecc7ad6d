"""The secrets that an application owns: made by its leader, read by all of its units.

Juju tells the units of an owner nothing when a secret of theirs appears or changes. So the leader
keeps a list in the databag of a peer relation: which secrets there are, and how often each was
changed. A change of the list wakes the other units, and shows the next leader what to tidy up.

Peer application databag: ``secrets``, a JSON list of objects (``label``, ``secret``: its URI,
``serial``: how often its content was changed), sorted by label.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import cast

import ops

_KEY = "secrets"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Entry:
    label: str
    secret: str
    serial: int = 0


class OwnedSecrets:
    """The secrets of one application.

    Only the leader may call what changes something.

    Args:
        model: the model.
        app: this application.
        peers: its peer relation.
    """

    def __init__(self, model: ops.Model, app: ops.Application, peers: ops.Relation) -> None:
        self._model = model
        self._app = app
        self._bag = peers.data[app]

    def labels(self) -> frozenset[str]:
        """Return the labels of all secrets."""
        return frozenset(self._list())

    def uri(self, label: str) -> str | None:
        """Return the URI of a secret."""
        entry = self._list().get(label)
        return None if entry is None else entry.secret

    def content(self, label: str) -> Mapping[str, str] | None:
        """Return the newest content, also if it was written in this very hook."""
        if label not in self._list():
            return None
        try:
            return self._model.get_secret(label=label).peek_content()
        except (ops.SecretNotFoundError, ops.ModelError):
            # The list can be ahead of the secrets for a moment: both come from the leader, but
            # not in one message.
            return None

    def add(
        self, label: str, content: Mapping[str, str], grant: ops.Relation | None = None
    ) -> None:
        """Make a secret, which the other side of a relation may read if one is given."""
        secret = self._app.add_secret(dict(content), label=label)
        if grant is not None:
            secret.grant(grant)
        # A secret knows its URI when it was just made, and only then without asking Juju.
        self._save({**self._list(), label: _Entry(label=label, secret=secret.id or "")})

    def change(self, label: str, content: Mapping[str, str]) -> None:
        """Give a secret a new content, and tell the other units.

        Raises:
            KeyError: if there is no secret of this label.
        """
        entries = self._list()
        entry = entries[label]
        self._model.get_secret(label=label).set_content(dict(content))
        self._save({**entries, label: dataclasses.replace(entry, serial=entry.serial + 1)})

    def remove(self, label: str) -> None:
        """Remove a secret; nothing happens when it is gone already."""
        entries = self._list()
        entries.pop(label, None)
        with contextlib.suppress(ops.SecretNotFoundError):
            self._model.get_secret(label=label).remove_all_revisions()
        self._save(entries)

    def _list(self) -> dict[str, _Entry]:
        # Only this class writes the list, so it is well-formed.
        found = cast("list[dict[str, str | int]]", json.loads(self._bag.get(_KEY) or "[]"))
        entries = (
            _Entry(
                label=str(each["label"]), secret=str(each["secret"]), serial=int(each["serial"])
            )
            for each in found
        )
        return {entry.label: entry for entry in entries}

    def _save(self, entries: Mapping[str, _Entry]) -> None:
        listed = [dataclasses.asdict(entries[label]) for label in sorted(entries)]
        self._bag[_KEY] = json.dumps(listed)
