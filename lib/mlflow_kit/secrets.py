"""Read Juju secrets that other applications own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import ops

Reader: TypeAlias = Callable[[str], "Mapping[str, str] | None"]
"""Takes the URI of a secret; answers its content, or None when it may not be read (yet)."""


def reader(model: ops.Model) -> Reader:
    """Return a function that reads the newest revision of a secret by its URI.

    It answers None for a secret that was not granted yet or is gone: Juju reports the first as
    ``ModelError`` ("permission denied") or as ``SecretNotFoundError``, depending on its version.
    """

    def read(uri: str) -> Mapping[str, str] | None:
        if not uri:
            return None
        try:
            # With refresh the newest revision is tracked from here on; a plain read would stay
            # on the first one that this unit has ever seen.
            return model.get_secret(id=uri).get_content(refresh=True)
        except (ops.SecretNotFoundError, ops.ModelError):
            return None
        except ValueError:
            # ops refuses text that has not the form of a secret URI.
            return None

    return read
