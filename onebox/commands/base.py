"""What the commands share: how one is declared, how it calls the daemon and prints."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import sys
import typing
from collections.abc import Callable, Sequence

from onebox import client

Options = argparse.Namespace
Argument = tuple[tuple[str, ...], dict[str, typing.Any]]


class UsageError(Exception):
    """The command line is wrong; exit code 2."""


class CommandError(Exception):
    """A command failed; the text follows ``ERROR``, exit code 1."""


class Command(typing.NamedTuple):
    """A command: its function, whose docstring is its help, and its arguments."""

    name: str
    run: Callable[[Options], None]
    arguments: Sequence[Argument]
    remainder: bool = False


COMMANDS: dict[str, Command] = {}


def arg(*names: str, **settings: typing.Any) -> Argument:
    """Describe an argument, as `argparse.ArgumentParser.add_argument` takes it."""
    return names, settings


def formats(*names: str) -> Argument:
    """Describe ``--format``; the first name is the default."""
    return arg("--format", choices=names, default=names[0], help=f"default: {names[0]}")


def flag(*names: str, text: str = "") -> Argument:
    """Describe an option without a value."""
    return arg(*names, action="store_true", help=text)


def many(*names: str, text: str = "") -> Argument:
    """Describe an option that may be repeated."""
    return arg(*names, action="append", default=[], help=text)


NO_PROMPT = flag("--no-prompt", "-y", text="do not ask")
DESTROY_STORAGE = flag("--destroy-storage", text="remove its storage too")
FORCE = flag("--force", text="go on where a hook fails")


def command(
    *names: str,
    arguments: Sequence[Argument] = (),
    remainder: bool = False,
) -> Callable[[Callable[[Options], None]], Callable[[Options], None]]:
    """Register a command under its name and aliases.

    Args:
        names: the name, then aliases.
        arguments: from `arg` and its kind.
        remainder: whether options after the first positional belong to a program to be run.
    """

    def register(run: Callable[[Options], None]) -> Callable[[Options], None]:
        for name in names:
            COMMANDS[name] = Command(name, run, arguments, remainder)
        return run

    return register


def model_name(text: str) -> str:
    """Take ``controller:user/model`` for ``model``."""
    return text.rpartition(":")[2].rpartition("/")[2]


def seconds(text: str) -> float:
    """Read Go's durations: ``90s``, ``1m30s``, ``1.5h``, ``500ms``."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    parts = re.findall(r"([0-9.]+)(ms|s|m|h)", text)
    if not parts or "".join(a + b for a, b in parts) != text:
        raise argparse.ArgumentTypeError(f'invalid duration "{text}", for example 90s or 5m')
    return sum(float(number) * units[unit] for number, unit in parts)


def pairs(items: Sequence[str]) -> dict[str, str]:
    """Read ``key=value`` words."""
    for item in items:
        if not item.partition("=")[0] or "=" not in item:
            raise UsageError(f'expected "key=value", got "{item}"')
    return dict(item.split("=", maxsplit=1) for item in items)


def yaml_file(path: str) -> typing.Any:
    """Read a YAML file, or standard input for ``-``. Raises: CommandError if it cannot be."""
    import yaml

    try:
        text = sys.stdin.read() if path == "-" else pathlib.Path(path).read_text(encoding="utf-8")
        return yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandError(f'cannot read "{path}": {error}') from None


def call(options: Options, method: str, **params: typing.Any) -> typing.Any:
    """Ask the daemon, for the model that the user has named."""
    return client.call(method, params, model=options.model)


def write(view: typing.Any, how: str) -> None:
    """Print plain data as ``json`` or ``yaml``."""
    if how == "json":
        print(json.dumps(view, separators=(",", ":")))
    else:
        import yaml

        class Dumper(yaml.SafeDumper):
            """Writes text of several lines as such, so that it can be copied."""

        def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
            style = "|" if "\n" in value else None
            return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

        Dumper.add_representer(str, text)
        shown = yaml.dump(view, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
        print(shown, end="")


def table(rows: Sequence[Sequence[typing.Any]]) -> None:
    """Print rows in columns; the first row has their titles."""
    from onebox import table as tables

    print(tables.columns(rows, colour=colour()), end="")


def colour() -> bool:
    """Return whether the output is for a person's terminal."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def say(text: str) -> None:
    """Tell the user something that is not the command's result."""
    print(text, file=sys.stderr)


def words(items: Sequence[str]) -> list[str]:
    """Split options that may be repeated and hold several words with commas."""
    return [word for item in items for word in item.split(",") if word]
