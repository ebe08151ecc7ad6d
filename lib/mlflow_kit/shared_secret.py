"""One secret of the application's that its leader keeps equal to what shall be shared."""

from __future__ import annotations

from collections.abc import Mapping

import ops


def keep(
    model: ops.Model, app: ops.Application, label: str, content: Mapping[str, str] | None
) -> ops.Secret | None:
    """Make, change or remove a secret, whatever is needed; only the leader may.

    Args:
        model: the model.
        app: this application, which owns the secret.
        label: the secret's label.
        content: what shall be in it; None when there shall be none.

    Returns:
        The secret; None when there is none.
    """
    try:
        secret = model.get_secret(label=label)
    except ops.SecretNotFoundError:
        return None if content is None else app.add_secret(dict(content), label=label)
    if content is None:
        secret.remove_all_revisions()
        return None
    # With refresh this unit goes on to the newest revision: owners track revisions as readers
    # do, and an old one that is still tracked is never offered for removal.
    if secret.get_content(refresh=True) != content:
        secret.set_content(dict(content))
    return secret


def uri(secret: ops.Secret) -> str:
    """Return the URI of a secret of ours, for a databag."""
    # A secret that was found by its label does not know its id.
    return secret.id or secret.get_info().id
