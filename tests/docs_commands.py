"""The commands that the documentation tells its readers to type.

Two kinds of fenced blocks hold commands. In a ``console`` block, a line after ``$ `` is typed and
the lines up to the next one are what comes back; these run here. An ``sh`` block holds commands
alone, for places where the tests cannot go. A line that ends with a backslash goes on in the next.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

_FENCE = re.compile(r"^( *)```(\w*) *$")
_PROMPT = "$ "


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        text: what is typed, of one line or more.
        output: the lines that are shown below it.
        line: number of its first line in the page.
        runs: whether a test may run it.
    """

    text: str
    output: tuple[str, ...]
    line: int
    runs: bool

    def missing(self, printed: str) -> list[str]:
        """Return the lines of `output` that are not in what was really printed.

        Blanks count as one, and ``...`` stands for anything; other lines may be in between.
        """
        return [
            shown
            for shown in self.output
            if not re.search(f"^{_pattern(shown)}$", printed, re.MULTILINE)
        ]

    def words(self) -> list[str]:
        """Return the command's words, as a shell would see them, without redirections."""
        return shlex.split(self.text, comments=True)


def _pattern(shown: str) -> str:
    parts = (re.escape(word).replace(re.escape("..."), ".*") for word in shown.split())
    return "[^\\S\n]+".join(parts).replace("[^\\S\n]+.*", ".*") + "[^\\S\n]*"


def commands(page: Path) -> list[Command]:
    """Return the commands of a page, in their order."""
    found: list[Command] = []
    for kind, first, lines in _blocks(page.read_text(encoding="utf-8")):
        if kind == "console":
            found.extend(_console(first, lines))
        elif kind == "sh":
            found.extend(_shell(first, lines))
    return found


def _blocks(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """Yield kind, number of the first line, and lines of each fenced block."""
    opened: tuple[str, str, int] | None = None
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, lines = (fence[1], fence[2], number + 1), []
        elif fence and not fence[2]:
            yield opened[1], opened[2], lines
            opened = None
        else:
            lines.append(line.removeprefix(opened[0]))


def _console(first: int, lines: list[str]) -> Iterator[Command]:
    number = 0
    while number < len(lines):
        if not lines[number].startswith(_PROMPT):
            raise ValueError(f"line {first + number}: a console block begins with {_PROMPT!r}")
        begin, typed = number, [lines[number].removeprefix(_PROMPT)]
        while typed[-1].endswith("\\"):
            number += 1
            typed.append(lines[number])
        number += 1
        output: list[str] = []
        while number < len(lines) and not lines[number].startswith(_PROMPT):
            output.append(lines[number])
            number += 1
        shown = tuple(line for line in output if line.strip())
        yield Command("\n".join(typed), shown, first + begin, runs=True)


def _shell(first: int, lines: list[str]) -> Iterator[Command]:
    typed: list[str] = []
    for number, line in enumerate(lines):
        typed.append(line)
        if line.endswith("\\"):
            continue
        text = "\n".join(typed)
        if text.strip() and not text.startswith("#"):
            yield Command(text, (), first + number + 1 - len(typed), runs=False)
        typed = []
