"""The command line: ``juju`` with the commands that this project's users and tests need.

Arguments, output, JSON and exit codes are those of Juju 3.6, as far as jubilant and the documents
of this project use them. What is slow to import is imported where it is used, since tests call
this every second.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import typing
from collections.abc import Sequence

from onebox import client
from onebox.commands import applications, base, models, units, usersecrets

GROUPS = (models, applications, units, usersecrets)
"""Modules with commands; importing one registers them."""

ELSEWHERE = {
    "bootstrap": "there is no controller to make: `make up` starts onebox",
    "destroy-controller": "`make down` removes everything",
    "kill-controller": "`make down` removes everything",
    "add-relation": "use `juju integrate`",
    "upgrade-charm": "use `juju refresh`",
    "run-action": "use `juju run`",
    "show-action-output": "use `juju show-task`",
    "cancel-action": "use `juju cancel-task`",
    "show-operation": "use `juju show-task`: an operation here has one task of the same number",
    "wait-for": "use `juju status --watch 2s`, or jubilant's wait in tests",
    "actions": "read `actions` in the charm's charmcraft.yaml",
    "attach-resource": "use `juju refresh --resource NAME=IMAGE`",
    "show-application": "use `juju status` and `juju config`",
    "debug-hooks": "use `juju debug-log` and `juju ssh`",
    "debug-code": "use `juju debug-log` and `juju ssh`",
    "add-secret-backend": "onebox keeps secrets in its own state file",
    "secret-backends": "onebox keeps secrets in its own state file",
    "offer": "onebox has no relations between models",
    "consume": "onebox has no relations between models",
    "add-machine": "onebox has one machine, this one",
    "machines": "onebox has one machine, this one",
    "add-cloud": "onebox has one cloud, this machine",
    "add-k8s": "onebox has one cloud, this machine",
    "clouds": "onebox has one cloud, this machine",
    "update-cloud": "onebox has one cloud, this machine",
    "add-credential": "onebox has one cloud, this machine, which asks for none",
    "add-ssh-key": "`juju ssh` enters pods without a key",
    "remove-ssh-key": "`juju ssh` enters pods without a key",
    "constraints": "onebox sets no limits on pods",
    "set-constraints": "onebox sets no limits on pods",
    "model-constraints": "onebox sets no limits on pods",
    "set-model-constraints": "onebox sets no limits on pods",
    "export-bundle": "keep the bundle file and its overlays",
    "info": "Charmhub cannot be reached from onebox",
    "find": "Charmhub cannot be reached from onebox",
    "download": "Charmhub cannot be reached from onebox",
}
"""Juju's commands that onebox does not have, and what to do instead."""

NO_OPTION = {
    "--constraints": "onebox sets no limits on pods",
    "--to": "onebox has one machine, this one",
    "--bind": "onebox has no network spaces",
    "--device": "onebox has no devices",
    "--attach-storage": "storage comes back to the unit that had it",
    "--base": "the image of the charm's container decides",
    "--channel": "charms come from files: use --path",
    "--credential": "onebox has one cloud, this machine, which asks for none",
    "--release-storage": "storage ends with its model: use --destroy-storage",
    "--storage": "storage is asked for by `juju deploy`",
    "--revision": "charms come from files: give a path",
    "--switch": "charms come from files: use --path",
    "--map-machines": "onebox has one machine, this one",
    "--via": "onebox has no relations between models",
    "--application": "name the units with --unit",
    "--all": "name each",
    "--machine": "onebox has one machine: use your own shell",
    "--controller": "onebox has one controller, itself",
}
"""Juju's options that onebox does not have, and why."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        found = re.search(r"unrecognized arguments: (.*)", message)
        word = found[1].split()[0].partition("=")[0] if found else ""
        if word.startswith("-"):
            message = f"option provided but not defined: {word}"
        if word in NO_OPTION:
            message += f" ({NO_OPTION[word]})"
        raise base.UsageError(f"{message}\nsee `{self.prog} --help`")


def _parser(program: str, found: base.Command) -> _Parser:
    summary = found.run.__doc__ or ""
    parser = _Parser(prog=f"{program} {found.name}", description=summary, allow_abbrev=False)
    parser.add_argument("-m", "--model", type=base.model_name, help="default: the current model")
    for names, settings in found.arguments:
        parser.add_argument(*names, **settings)
    return parser


def _help(program: str, name: str | None) -> None:
    if name is not None:
        _parser(program, _find(name)).print_help()
        return
    print(f"usage: {program} COMMAND [ARGUMENTS]; `{program} help COMMAND` tells more\n")
    width = max(map(len, base.COMMANDS))
    for group in GROUPS:
        print(group.__doc__)
        for item in base.COMMANDS.values():
            if item.run.__module__ == group.__name__:
                print(f"  {item.name:{width}}  {item.run.__doc__}")
        print()


def _find(name: str) -> base.Command:
    if name in base.COMMANDS:
        return base.COMMANDS[name]
    text = f'juju: "{name}" is not a juju command. See "juju --help".'
    if name in ELSEWHERE:
        text = f'onebox does not have "juju {name}": {ELSEWHERE[name]}'
    raise base.UsageError(text)


def run(program: str, words: Sequence[str]) -> None:
    """Run one command.

    Args:
        program: ``juju`` or ``onebox``.
        words: the command and its arguments.

    Raises:
        base.UsageError, base.CommandError, client.ApiError: it did not work.
    """
    name, *rest = words or ["help"]
    if name in {"help", "--help", "-h"}:
        _help(program, rest[0] if rest else None)
    elif program == "onebox" and name in ONEBOX:
        ONEBOX[name]([name, *rest])
    else:
        found = _find(name)
        parser = _parser(program, found)
        options = (
            parser.parse_args(rest) if found.remainder else parser.parse_intermixed_args(rest)
        )
        found.run(options)


def _up(_words: list[str]) -> None:
    from onebox import up

    sys.exit(up.up())


def _down(_words: list[str]) -> None:
    from onebox import down

    sys.exit(down.down())


def _ask(words: list[str]) -> None:
    """Pass a request for the daemon itself on: ``fault key=value ...`` or ``stop``."""
    params = base.pairs(words[1:])
    model = params.pop("model", None)
    answer = client.call(words[0], params, model=model, start=words[0] != "stop")
    if answer:
        print(answer)


ONEBOX = {"up": _up, "down": _down, "fault": _ask, "stop": _ask}
"""Commands of ``onebox`` itself; it has those of ``juju`` as well."""


def main() -> None:
    """Run what the shell scripts in bin/ pass: the program's name, then its arguments."""
    program, *words = sys.argv[1:]
    try:
        run(program, words)
        sys.stdout.flush()
    except base.UsageError as error:
        code, text = 2, f"ERROR {error}"
    except (base.CommandError, client.ApiError) as error:
        code, text = 1, f"ERROR {error}"
    except KeyboardInterrupt:
        code, text = 130, ""
    except BrokenPipeError:
        # Whoever reads has seen enough, as in `juju debug-log | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code, text = 141, ""
    else:
        code, text = 0, ""
    if text:
        print(text, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
