"""Commands about models: which there are, and what is in one."""

from __future__ import annotations

import fnmatch
import os
import sys
import time
import typing
from collections.abc import Sequence

from onebox import client
from onebox.commands import base


@base.command("version", arguments=[base.formats("smart", "json", "yaml"), base.flag("--all")])
def version(options: base.Options) -> None:
    """Print the Juju version that is copied."""
    from onebox import model

    text = f"{model.JUJU_VERSION}-genericlinux-{_architecture()}"
    if options.format == "smart" and not options.all:
        print(text)
    else:
        base.write({"version": text} if options.all else text, options.format)


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


@base.command("models", "list-models", arguments=[base.formats("tabular", "json", "yaml")])
def models(options: base.Options) -> None:
    """List the models."""
    view = base.call(options, "models")
    if options.format != "tabular":
        base.write(view, options.format)
        return
    rows = [["Model", "Cloud/Region", "Type", "Status", "Units"]]
    for item in view["models"]:
        mark = "*" if item["short-name"] == view["current-model"] else ""
        where = f"{item['cloud']}/{item['region']}"
        state = item["status"]["current"]
        rows.append([item["short-name"] + mark, where, item["type"], state, str(item["units"])])
    base.table(rows)


@base.command(
    "add-model",
    arguments=[
        base.arg("name"),
        base.arg("cloud", nargs="?", choices=["onebox", "localhost", "onebox/localhost"]),
        base.flag("--no-switch", text="keep the current model"),
        base.many("--config", text="key=value"),
        base.arg("--seed", type=int, help="onebox: vary the order of what Juju leaves open"),
    ],
)
def add_model(options: base.Options) -> None:
    """Add a model."""
    params = {"config": base.pairs(options.config), "switch": not options.no_switch}
    if options.seed is not None:
        params["seed"] = options.seed
    base.call(options, "add_model", name=options.name, **params)
    base.say(f"Added '{options.name}' model on onebox/localhost")


def _current() -> str | None:
    return client.call("models").get("current-model")


@base.command(
    "destroy-model",
    arguments=[
        base.arg("name", type=base.model_name),
        base.NO_PROMPT,
        base.DESTROY_STORAGE,
        base.FORCE,
        base.flag("--no-wait"),
        base.arg("--timeout", "-t", type=base.seconds),
    ],
)
def destroy_model(options: base.Options) -> None:
    """Remove a model with all that is in it."""
    if not options.no_prompt:
        print(f"This removes the model {options.name} for good. Type its name to go on: ", end="")
        sys.stdout.flush()
        if sys.stdin.readline().strip() != options.name:
            raise base.CommandError("aborted")
    params = {"destroy_storage": options.destroy_storage, "force": options.force}
    client.call("destroy_model", params, model=options.name)


@base.command("switch", arguments=[base.arg("name", type=base.model_name, nargs="?")])
def switch(options: base.Options) -> None:
    """Change the current model, or print it."""
    if options.name is None:
        print(f"onebox:admin/{_current() or ''}")
        return
    base.call(options, "switch", name=options.name)
    base.say(f"-> onebox:admin/{options.name}")


@base.command(
    "show-model",
    arguments=[base.arg("name", type=base.model_name, nargs="?"), base.formats("yaml", "json")],
)
def show_model(options: base.Options) -> None:
    """Print what is known of a model."""
    view = client.call("show_model", model=options.name or options.model)
    base.write(view, options.format)


@base.command(
    "model-config",
    arguments=[
        base.arg("values", nargs="*", metavar="KEY[=VALUE]"),
        base.many("--reset"),
        base.formats("tabular", "json", "yaml"),
    ],
)
def model_config(options: base.Options) -> None:
    """Print or set a model's configuration."""
    reset = base.words(options.reset)
    if reset or any("=" in item for item in options.values):
        base.call(options, "model_config", values=base.pairs(options.values), reset=reset)
        return
    view = base.call(options, "model_config")
    if options.values:
        if options.values[0] not in view:
            raise base.CommandError(
                f'key "{options.values[0]}" not found in "{_current()}" model.'
            )
        print(view[options.values[0]])
    elif options.format == "tabular":
        rows = [["Attribute", "From", "Value"]]
        base.table(rows + [[key, "model", str(value)] for key, value in sorted(view.items())])
    else:
        shown = {key: {"Value": value, "Source": "model"} for key, value in view.items()}
        base.write(shown, options.format)


@base.command(
    "status",
    arguments=[
        base.arg("selectors", nargs="*", metavar="APPLICATION|UNIT"),
        base.formats("tabular", "json", "yaml"),
        base.flag("--relations", "--integrations"),
        base.flag("--storage"),
        base.flag("--color"),
        base.flag("--no-color"),
        base.flag("--utc"),
        base.arg("--watch", type=base.seconds, metavar="2s", help="print it again and again"),
    ],
)
def status(options: base.Options) -> None:
    """Print the state of the model, its applications and units."""
    from onebox import table

    while True:
        view = _selected(base.call(options, "status"), options.selectors)
        if options.format != "tabular":
            view.pop("relations", None)
            base.write(view, options.format)
            return
        colour = (options.color or base.colour()) and not options.no_color
        text = table.status(view, relations=options.relations, colour=colour)
        if options.watch is None:
            print(text, end="")
            return
        print(f"\x1b[H\x1b[2J{text}", end="", flush=True)
        time.sleep(options.watch)


def _selected(view: dict[str, typing.Any], selectors: Sequence[str]) -> dict[str, typing.Any]:
    """Keep the applications and units that match a name or pattern."""
    if not selectors:
        return view
    kept: dict[str, typing.Any] = {}
    for name, item in view["applications"].items():
        units = {
            unit: found
            for unit, found in item.get("units", {}).items()
            if any(fnmatch.fnmatchcase(unit, pattern) for pattern in selectors)
        }
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in selectors):
            kept[name] = item
        elif units:
            kept[name] = {**item, "units": units}
    if not kept:
        raise base.CommandError(
            f"nothing matched specified filter{'s' if len(selectors) > 1 else ''}."
        )
    relations = [
        relation
        for relation in view.get("relations", [])
        if {relation[side].partition(":")[0] for side in ("provider", "requirer")} & kept.keys()
    ]
    return {**view, "applications": kept, "relations": relations}
