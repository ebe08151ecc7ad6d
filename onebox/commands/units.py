"""Commands about units: actions, programs run in them, their files and logs."""

from __future__ import annotations

import os
import pathlib
import sys
import time
import typing
from collections.abc import Sequence

from onebox import client
from onebox.commands import base

POLL = 0.05, 0.5
"""Seconds between looks at a running action: at first, and at most."""

SHELL = ["/bin/sh", "-c", "command -v bash >/dev/null && exec bash -i; exec sh -i"]
"""What `ssh` runs at a terminal when no command is given."""

WAIT = base.arg("--wait", type=base.seconds, help="for example 90s")
CONTAINER = base.arg("--container", help="default: the charm's own container")


def unit_name(options: base.Options, name: str) -> str:
    """Return a unit's name for ``application/leader`` or itself."""
    application, _, number = name.partition("/")
    if number != "leader":
        return name
    view = base.call(options, "status")["applications"].get(application, {})
    leaders = [unit for unit, item in view.get("units", {}).items() if item.get("leader")]
    if not leaders:
        raise base.CommandError(f'could not determine leader for "{application}" (not found)')
    return leaders[0]


@base.command(
    "run",
    arguments=[
        base.arg("words", nargs="+", metavar="UNIT... ACTION [KEY.KEY=VALUE...]"),
        base.arg("--params", help="YAML file with parameters"),
        base.flag("--string-args", text="take every value as a string"),
        base.flag("--background", text="do not wait"),
        WAIT,
        base.formats("plain", "json", "yaml"),
        base.flag("--utc"),
    ],
)
def run(options: base.Options) -> None:
    """Run an action on units and print its results."""
    units = [word for word in options.words if "/" in word.partition("=")[0]]
    names = [word for word in options.words if word not in units and "=" not in word]
    if not units or len(names) != 1:
        raise base.UsageError("name one or more units and one action")
    params = base.yaml_file(options.params) if options.params else {}
    if not isinstance(params, dict):
        raise base.CommandError(f'"{options.params}" is not a mapping of parameters')
    assigned = [word for word in options.words if "=" in word and word not in units]
    for path, text in base.pairs(assigned).items():
        _put(params, path.split("."), text, plain=options.string_args)
    tasks = {
        unit: base.call(options, "run", unit=unit, action=names[0], params=params)
        for unit in (unit_name(options, item) for item in units)
    }
    base.say(f"Running operation {next(iter(tasks.values()))} with {len(tasks)} task(s)")
    for unit, task in tasks.items():
        base.say(f"  - task {task} on unit-{unit.replace('/', '-')}")
    if options.background:
        base.say("Check task status with 'juju show-task ID'")
        return
    base.say("")
    wait = 60.0 if options.wait is None else options.wait
    _finish(options, {unit: _wait(options, unit, task, wait) for unit, task in tasks.items()})


def _put(params: dict[str, typing.Any], path: Sequence[str], text: str, *, plain: bool) -> None:
    """Set a parameter that is written with dots, as ``outer.inner=3``."""
    import yaml

    *outer, last = path
    for key in outer:
        inner = params.setdefault(key, {})
        if not isinstance(inner, dict):
            raise base.UsageError(f'parameter "{".".join(path)}": "{key}" has a value already')
        params = inner
    try:
        params[last] = text if plain else yaml.safe_load(text)
    except yaml.YAMLError:
        raise base.UsageError(f'parameter "{".".join(path)}" is not YAML: {text}') from None


def _wait(
    options: base.Options, unit: str, task: int | str, seconds: float
) -> dict[str, typing.Any]:
    deadline, pause = time.monotonic() + seconds, POLL[0]
    while True:
        found = base.call(options, "operation", operation=task)
        if found["status"] not in {"pending", "running", "aborting"}:
            return found
        if time.monotonic() > deadline:
            raise base.CommandError(f"timed out waiting for results from: unit {unit}")
        time.sleep(pause)
        pause = min(pause * 1.5, POLL[1])


def _finish(options: base.Options, found: dict[str, dict[str, typing.Any]]) -> None:
    """Print results as Juju does; fail if a task did."""
    if options.format == "plain":
        for unit, item in found.items():
            _plain(unit if len(found) > 1 else "", item)
    else:
        base.write(found, options.format)
    codes = {unit: _code(item) for unit, item in found.items()}
    failed = [
        f' - id "{found[unit]["id"]}" with return code {code}'
        for unit, code in codes.items()
        if code
    ]
    if failed:
        raise base.CommandError(
            "the following task failed:\n"
            + "\n".join(failed)
            + "\n\nuse 'juju show-task' to inspect the failure"
        )


def _code(item: dict[str, typing.Any]) -> int:
    code = item.get("results", {}).get("return-code", 0)
    return code or int(item["status"] != "completed")


def _plain(title: str, item: dict[str, typing.Any]) -> None:
    if title:
        print(f"{title}:")
    for line in item.get("log", []):
        base.say(line)
    if item["status"] != "completed" and item.get("message"):
        print(f"Action id {item['id']} failed: {item['message']}")
    results = dict(item.get("results", {}))
    results.pop("return-code", None)
    print(results.pop("stdout", ""), end="")
    print(results.pop("stderr", ""), end="", file=sys.stderr)
    if results:
        base.write(results, "yaml")


@base.command("show-task", arguments=[base.arg("id", type=int), base.formats("yaml", "json")])
def show_task(options: base.Options) -> None:
    """Print what came of an action."""
    base.write(base.call(options, "operation", operation=options.id), options.format)


@base.command(
    "cancel-task",
    arguments=[base.arg("ids", nargs="+", type=int, metavar="ID"), base.formats("yaml", "json")],
)
def cancel_task(options: base.Options) -> None:
    """Take back actions that wait, and kill those that run."""
    ended = [base.call(options, "cancel", operation=number) for number in options.ids]
    shown = [{key: item[key] for key in ("id", "unit", "status")} for item in ended]
    base.write({"actions": shown}, options.format)


@base.command(
    "exec",
    arguments=[
        base.many("--unit", "-u", text="units, comma separated"),
        WAIT,
        base.formats("plain", "json", "yaml"),
        base.arg("words", nargs="...", metavar="-- COMMAND"),
    ],
    remainder=True,
)
def exec_(options: base.Options) -> None:
    """Run a command in a unit's charm container, with the hook tools."""
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    units = [unit_name(options, item) for item in base.words(options.unit)]
    if not units or not words:
        raise base.UsageError("name the units with --unit, and a command after --")
    # As in Juju: one word is a script, several are a program and its arguments.
    argv = words if len(words) > 1 else ["/bin/bash", "-c", words[0]]
    timeout = 300.0 if options.wait is None else options.wait
    found: dict[str, dict[str, typing.Any]] = {}
    for unit in units:
        began = time.monotonic()
        answer = base.call(options, "exec", unit=unit, argv=argv, timeout=timeout)
        if answer["code"] < 0 and time.monotonic() - began >= timeout:
            raise base.CommandError(f"timed out waiting for results from: unit {unit}")
        results: dict[str, typing.Any] = {"return-code": answer["code"]}
        results |= {key: answer[key] for key in ("stdout", "stderr") if answer.get(key)}
        found[unit] = {
            "id": str(answer.get("id", 0)),
            "unit": unit,
            "status": "failed" if answer["code"] else "completed",
            "results": results,
        }
    _finish(options, found)


@base.command(
    "ssh",
    arguments=[
        CONTAINER,
        base.flag("--no-host-key-checks"),
        base.arg("target", metavar="UNIT"),
        base.arg("words", nargs="...", metavar="COMMAND"),
    ],
    remainder=True,
)
def ssh(options: base.Options) -> None:
    """Run a command, or a shell, in a container of a unit."""
    import subprocess

    if options.words[:1] and options.words[0].startswith("-"):
        raise base.UsageError(f"ssh has no {options.words[0]} here: pods are entered without SSH")
    argv, environment = _enter(options, options.target)
    # As ssh does: the words become one line for the shell over there.
    inner = SHELL if sys.stdin.isatty() else ["/bin/sh"]
    if options.words:
        inner = ["/bin/sh", "-c", " ".join(options.words)]
    process = subprocess.Popen([*argv, *inner], env=environment)
    while True:
        try:
            sys.exit(process.wait())
        except KeyboardInterrupt:
            # The program over there got it from the terminal as well, and decides.
            continue


def _enter(options: base.Options, target: str) -> tuple[list[str], dict[str, str]]:
    """Return the prefix that enters a container, and the environment for it."""
    unit = unit_name(options, target.rpartition("@")[2])
    found = base.call(options, "enter", unit=unit, container=options.container)
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    if "TERM" in os.environ:
        environment["TERM"] = os.environ["TERM"]
    return found["argv"], {**environment, **found.get("env", {})}


@base.command(
    "scp",
    arguments=[
        CONTAINER,
        base.flag("--no-host-key-checks"),
        base.arg("words", nargs="...", metavar="SOURCE DESTINATION"),
    ],
    remainder=True,
)
def scp(options: base.Options) -> None:
    """Copy one file to or from a container of a unit, named as UNIT:PATH."""
    import subprocess

    words = [word for word in options.words if word != "--"]
    extra = [word for word in words if word.startswith("-")]
    if extra:
        raise base.UsageError(
            f"scp has no {extra[0]} here: copy one file, or pack more with tar through `juju ssh`"
        )
    if len(words) != 2 or (":" in words[0]) == (":" in words[1]):
        raise base.UsageError("name one file here and one as UNIT:PATH")
    source, destination = words
    remote, _, path = (source if ":" in source else destination).partition(":")
    local = pathlib.Path(destination if ":" in source else source)
    name = pathlib.PurePosixPath(source.rpartition(":")[2]).name
    argv, environment = _enter(options, remote)
    try:
        if ":" in source:
            with (local / name if local.is_dir() else local).open("wb") as file:
                done = subprocess.run(
                    [*argv, "cat", "--", path], check=False, stdout=file, env=environment
                )
        else:
            target = f"{path}{name}" if path.endswith("/") or not path else path
            with local.open("rb") as file:
                done = subprocess.run(
                    [*argv, "tee", "--", target],
                    check=False,
                    stdin=file,
                    stdout=subprocess.DEVNULL,
                    env=environment,
                )
    except OSError as error:
        raise base.CommandError(f"cannot copy: {error}") from None
    if done.returncode:
        raise base.CommandError(f"cannot copy {source} to {destination}")


@base.command(
    "resolved",
    "resolve",
    arguments=[
        base.arg("units", nargs="+"),
        base.flag("--no-retry", text="take the failed hook as done"),
    ],
)
def resolved(options: base.Options) -> None:
    """Let units in error go on."""
    for unit in options.units:
        base.call(options, "resolved", unit=unit, no_retry=options.no_retry)


@base.command("show-unit", arguments=[base.arg("unit"), base.formats("yaml", "json")])
def show_unit(options: base.Options) -> None:
    """Print a unit's relations, with their data."""
    unit = unit_name(options, options.unit)
    base.write(base.call(options, "show_unit", unit=unit), options.format)


@base.command(
    "debug-log",
    arguments=[
        base.many("--include", "-i", text="units, as minio/0 or minio/*"),
        base.many("--exclude", "-x"),
        base.many("--include-module"),
        base.many("--exclude-module"),
        base.arg("--level", "-l", type=str.upper, default="DEBUG"),
        base.arg("--limit", type=int, default=0, help="the last N lines, and no more"),
        base.arg("--lines", "-n", type=int, default=10, help="with --tail: begin N lines back"),
        base.flag("--replay", text="with --tail: begin with the first line"),
        base.flag("--tail", text="go on for ever; what a terminal gets"),
        base.flag("--no-tail"),
        base.flag("--utc"),
        base.flag("--date"),
    ],
)
def debug_log(options: base.Options) -> None:
    """Print the log of the model."""
    from onebox import debuglog, home

    if options.level not in debuglog.LEVELS:
        raise base.UsageError(f'level "{options.level}" is not one of {debuglog.LEVELS}')
    wanted = debuglog.Filter(
        base.words(options.include),
        base.words(options.exclude),
        base.words(options.include_module),
        base.words(options.exclude_module),
        options.level,
    )
    model = next(iter(client.call("show_model", model=options.model)))
    follow = options.tail or (sys.stdout.isatty() and not options.no_tail and not options.limit)
    last = options.limit or (options.lines if follow and not options.replay else 0)
    path = home.find().model(model) / "debug.log"
    for line in debuglog.read(path, wanted, last=last, follow=follow):
        print(debuglog.show(line, utc=options.utc, date=options.date), flush=follow)
