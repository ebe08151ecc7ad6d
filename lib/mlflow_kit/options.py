"""How a charm says that an option cannot be used: which one, its value, and what is allowed."""

from __future__ import annotations

_SHOWN = 80
"""Characters of a value: a status line is no place for a megabyte."""


def error(option: str, value: object, allowed: str) -> ValueError:
    """Return the error for an option that is out of its bounds.

    Args:
        option: its name.
        value: what it is set to.
        allowed: what it may be.
    """
    return ValueError(f"option {option} is {shown(value)}: allowed is {allowed}")


def shown(value: object) -> str:
    """Return a value for a status line: quoted, without line breaks, not too long."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
