"""Commands about applications: deploy, relate, configure, scale, remove."""

from __future__ import annotations

import pathlib
import typing
from collections.abc import Mapping, Sequence

from onebox import client
from onebox.commands import base

DEPLOY = [
    base.arg("charm", help="path of a packed charm or of a bundle"),
    base.arg("application", nargs="?"),
    base.many("--overlay", text="bundles: a file that is laid over the bundle"),
    base.many("--config", text="key=value, or a YAML file"),
    base.arg("--num-units", "-n", type=int),
    base.many("--resource", text="name=image"),
    base.many("--storage", text="name=directive"),
    base.arg("--channel", help="kept and shown"),
    base.arg("--base", help="accepted: the image decides"),
    base.many(
        "--publish", text="onebox: APPLICATION=8080:80, ports of this machine and of the pod"
    ),
    base.flag("--trust"),
    base.flag("--force", text="accepted: onebox has no check that it would skip"),
    base.flag("--dry-run", text="bundles: verify, and print what would be done"),
]


@base.command("deploy", arguments=DEPLOY)
def deploy(options: base.Options) -> None:
    """Deploy a packed charm, or a bundle with its overlays."""
    path = pathlib.Path(options.charm)
    if not options.charm.startswith((".", "/")):
        if path.exists():
            raise base.CommandError(
                f'The charm or bundle "{options.charm}" is ambiguous.\n'
                f"To deploy a local charm or bundle, run `juju deploy ./{options.charm}`."
            )
        raise base.CommandError(
            f'"{options.charm}" would come from Charmhub, which onebox cannot reach; '
            f"give the path of a packed charm, as ./build/{options.charm}.charm"
        )
    publish = _publish(options.publish)
    if path.is_dir():
        path /= "bundle.yaml"
    if path.suffix not in {".yaml", ".yml"}:
        _refuse(options, "charm", "overlay", "dry_run")
        _deploy_charm(options, path, publish)
        return
    _refuse(options, "bundle", "config", "num_units", "resource", "base", "channel", "storage")
    from onebox import bundlefile

    overlays = [pathlib.Path(item) for item in options.overlay]
    try:
        deploy_bundle(
            path,
            overlays,
            model=options.model,
            trust=options.trust,
            publish=publish,
            dry_run=options.dry_run,
        )
    except bundlefile.BundleError as error:
        raise base.CommandError(str(error)) from None


def _publish(items: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
    if not items:
        return {}
    from onebox import bundles

    try:
        return {name: bundles.parse_ports(text) for name, text in base.pairs(items).items()}
    except ValueError as error:
        raise base.UsageError(f"--publish: {error}") from None


def _refuse(options: base.Options, kind: str, *names: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
    if given:
        text = f"options provided but not supported when deploying a {kind}: {', '.join(given)}"
        raise base.CommandError(text)


def _deploy_charm(
    options: base.Options, path: pathlib.Path, publish: Mapping[str, Sequence[tuple[int, int]]]
) -> None:
    from onebox import charmfile

    try:
        charm = charmfile.read(path.resolve())
    except charmfile.CharmError as error:
        raise base.CommandError(str(error)) from None
    name = options.application or charm.name
    base.say(
        f'Located local charm "{charm.name}"\nDeploying "{name}" from local charm "{charm.name}"'
    )
    base.call(
        options,
        "deploy",
        charm=str(path.resolve()),
        application=name,
        config=_config(options.config, name),
        num_units=1 if options.num_units is None else options.num_units,
        resources=base.pairs(options.resource),
        storage=base.pairs(options.storage),
        trust=options.trust,
        channel=options.channel or "",
        publish=list(publish.get(name, [])),
    )


def _config(items: Sequence[str], application: str) -> dict[str, typing.Any]:
    """Read ``--config``: ``key=value``, ``key=@file``, or a YAML file with the application."""
    found: dict[str, typing.Any] = {}
    for item in items:
        if "=" in item:
            found |= {key: _value(text) for key, text in base.pairs([item]).items()}
            continue
        content = base.yaml_file(item)
        if not isinstance(content, dict) or not isinstance(content.get(application), dict):
            raise base.CommandError(f'no settings found for "{application}" in "{item}"')
        found |= content[application]
    return found


def _value(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        return pathlib.Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise base.CommandError(f'cannot read "{text[1:]}": {error}') from None


def deploy_bundle(
    path: pathlib.Path,
    overlays: Sequence[pathlib.Path],
    *,
    model: str | None = None,
    trust: bool = False,
    publish: Mapping[str, Sequence[tuple[int, int]]] | None = None,
    dry_run: bool = False,
) -> int:
    """Verify a bundle and do what is missing; return how many steps that took.

    Raises:
        bundlefile.BundleError: it is faulty; nothing was done.
        client.ApiError: the daemon refused a step.
    """
    from onebox import bundlefile, bundles

    view = client.call("status", model=model)
    bundle = bundlefile.load(path, overlays)
    there = bundle.applications.keys() & view["applications"].keys()
    settings = {
        name: client.call("config_get", {"application": name}, model=model) for name in there
    }
    steps = bundles.plan(bundle, trust=trust, status=view, settings=settings, publish=publish)
    if dry_run:
        print("Changes to deploy bundle:" if steps else "No changes to apply.")
    for step in steps:
        text = _describe(step)
        if dry_run:
            print(text)
        else:
            base.say(text)
            client.call(step["method"], step["params"], model=model)
    if not dry_run:
        base.say("Deploy of bundle completed.")
    return len(steps)


def _describe(step: Mapping[str, typing.Any]) -> str:
    params = step["params"]
    name = params.get("application", "")
    match step["method"]:
        case "deploy":
            return f"- deploy application {name} from {params['charm']}"
        case "integrate":
            return f"- add relation {params['a']} - {params['b']}"
        case "config_set":
            return f"- set application options for {name}: {', '.join(params['values'])}"
        case "scale":
            return f"- scale {name} to {params['scale']} units"
        case method:
            return f"- {method} {name}"


@base.command(
    "refresh",
    arguments=[
        base.arg("application"),
        base.arg("--path", help="a packed charm"),
        base.many("--resource", text="name=image"),
        base.many("--config", text="key=value, or a YAML file"),
        base.flag("--trust"),
        base.flag("--force", "--force-base", "--force-units", text="accepted: nothing to skip"),
    ],
)
def refresh(options: base.Options) -> None:
    """Give an application another charm or other images."""
    if not options.path and not options.resource:
        raise base.CommandError("charms come from files: give --path, --resource or both")
    base.call(
        options,
        "refresh",
        application=options.application,
        path=str(pathlib.Path(options.path).resolve()) if options.path else None,
        resources=base.pairs(options.resource),
        config=_config(options.config, options.application),
        trust=options.trust,
    )


@base.command(
    "remove-application",
    arguments=[
        base.arg("applications", nargs="+"),
        base.NO_PROMPT,
        base.DESTROY_STORAGE,
        base.FORCE,
    ],
)
def remove_application(options: base.Options) -> None:
    """Remove applications."""
    for name in options.applications:
        base.say(f"will remove application {name}")
        base.call(
            options,
            "remove_application",
            application=name,
            destroy_storage=options.destroy_storage,
            force=options.force,
        )


@base.command(
    "add-unit",
    arguments=[base.arg("application"), base.arg("--num-units", "-n", type=int, default=1)],
)
def add_unit(options: base.Options) -> None:
    """Add units to an application."""
    base.call(options, "add_units", application=options.application, count=options.num_units)


@base.command(
    "remove-unit",
    arguments=[
        base.arg("application"),
        base.arg("--num-units", type=int, default=0, help="how many; has to be given"),
        base.NO_PROMPT,
        base.flag("--destroy-storage", text="refused, as in Juju"),
        base.FORCE,
    ],
)
def remove_unit(options: base.Options) -> None:
    """Remove units, the highest number first."""
    # The words are Juju's (cmd/juju/application/removeunit.go, validateCAASRemoval).
    if options.destroy_storage:
        raise base.CommandError(
            "k8s models only support --num-units: --destroy-storage goes with "
            "`juju remove-application`, and a unit that comes back finds its storage"
        )
    name, named, _ = options.application.partition("/")
    if named:
        raise base.CommandError(
            "k8s models do not support removing named units.\nInstead specify an application "
            f"with --num-units, as `juju remove-unit {name} --num-units 1`"
        )
    if options.num_units <= 0:
        raise base.CommandError("specify the number of units (> 0) to remove using --num-units")
    left = base.call(
        options, "remove_units", application=name, count=options.num_units, force=options.force
    )
    base.say(f"scaling down to {left} units")


@base.command(
    "scale-application", arguments=[base.arg("application"), base.arg("scale", type=int)]
)
def scale_application(options: base.Options) -> None:
    """Set how many units an application has."""
    base.call(options, "scale", application=options.application, scale=options.scale)
    base.say(f"{options.application} scaled to {options.scale} units")


@base.command(
    "trust",
    arguments=[
        base.arg("application"),
        base.flag("--remove"),
        base.arg("--scope", choices=["cluster"]),
    ],
)
def trust(options: base.Options) -> None:
    """Let a charm use the cloud's credentials, or no longer."""
    base.call(options, "trust", application=options.application, remove=options.remove)


@base.command("expose", arguments=[base.arg("application")])
def expose(options: base.Options) -> None:
    """Mark an application as exposed."""
    base.call(options, "expose", application=options.application)


@base.command("unexpose", arguments=[base.arg("application")])
def unexpose(options: base.Options) -> None:
    """Take back `expose`."""
    base.call(options, "unexpose", application=options.application)


@base.command(
    "integrate",
    "relate",
    arguments=[base.arg("a", metavar="APP[:EP]"), base.arg("b", metavar="...")],
)
def integrate(options: base.Options) -> None:
    """Relate two applications."""
    base.call(options, "integrate", a=options.a, b=options.b)


@base.command(
    "remove-relation",
    arguments=[base.arg("a", metavar="APP[:EP]"), base.arg("b", metavar="..."), base.FORCE],
)
def remove_relation(options: base.Options) -> None:
    """Remove the relation of two applications."""
    base.call(options, "remove_relation", a=options.a, b=options.b, force=options.force)


@base.command(
    "config",
    arguments=[
        base.arg("application"),
        base.arg("values", nargs="*", metavar="KEY[=VALUE|=@FILE]"),
        base.many("--file", text="YAML with the application's settings"),
        base.many("--reset", text="keys, comma separated"),
        base.formats("yaml", "json"),
    ],
)
def config(options: base.Options) -> None:
    """Print or set an application's options."""
    assigned = [item for item in options.values if "=" in item]
    reset = base.words(options.reset)
    if assigned or reset or options.file:
        if len(assigned) != len(options.values):
            raise base.UsageError("cannot set and retrieve configuration values simultaneously")
        values = _config([*options.file, *assigned], options.application)
        base.call(
            options, "config_set", application=options.application, values=values, reset=reset
        )
        return
    view = base.call(options, "config_get", application=options.application)
    if not options.values:
        base.write(view, options.format)
        return
    key, known = options.values[0], view["settings"] | view["application-config"]
    if key not in known:
        text = f'key "{key}" not found in "{options.application}" application config.'
        raise base.CommandError(text)
    value = known[key].get("value", "")
    print(str(value).lower() if isinstance(value, bool) else value)


@base.command("storage", "list-storage", arguments=[base.formats("tabular", "json", "yaml")])
def storage(options: base.Options) -> None:
    """List the storage of the model."""
    view = base.call(options, "storage")
    if options.format != "tabular":
        base.write(view, options.format)
        return
    sizes = {item["storage"]: f"{item['size']} MiB" for item in view["filesystems"].values()}
    rows = [["Unit", "Storage ID", "Type", "Size", "Status"]]
    for name, item in sorted(view["storage"].items()):
        unit = ",".join(item.get("attachments", {}).get("units", {}))
        rows.append([unit, name, item["kind"], sizes.get(name, ""), item["status"]["current"]])
    base.table(rows)
