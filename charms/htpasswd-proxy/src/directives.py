"""Write nginx configuration from a tree, so that no value can become syntax."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z0-9_./:=@,*+$()-]+")


@dataclasses.dataclass(frozen=True)
class Directive:
    """One directive of an nginx configuration.

    Attributes:
        name: name of the directive, or the text to look up in a ``map`` block.
        arguments: its arguments. A ``$`` in them starts a variable, in quotes too, and nginx
            knows no way to escape it: text from outside must not hold one.
        block: the directives between its braces; None for one that ends with a semicolon.
    """

    name: str
    arguments: tuple[str, ...] = ()
    block: tuple[Directive, ...] | None = None


def simple(name: str, *arguments: str) -> Directive:
    """Return a directive that ends with a semicolon."""
    return Directive(name, arguments)


def block(name: str, *arguments: str, body: Iterable[Directive]) -> Directive:
    """Return a directive with a block."""
    return Directive(name, arguments, tuple(body))


def render(directives: Iterable[Directive]) -> str:
    """Return the configuration file.

    Raises:
        ValueError: if a word holds a control character; the message does not repeat it.
    """
    return "".join(_lines(directives, ""))


def _lines(directives: Iterable[Directive], indent: str) -> Iterable[str]:
    for directive in directives:
        words = " ".join(_word(word) for word in (directive.name, *directive.arguments))
        if directive.block is None:
            yield f"{indent}{words};\n"
        else:
            yield f"{indent}{words} {{\n"
            yield from _lines(directive.block, indent + "    ")
            yield f"{indent}}}\n"


def _word(word: str) -> str:
    """Return a word as nginx reads it back (``ngx_conf_read_token``)."""
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in word):
        raise ValueError("a word of the nginx configuration has a control character")
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
