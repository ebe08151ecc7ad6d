"""Commands about secrets: the user's own, and those of charms to look at."""

from __future__ import annotations

import base64
import binascii
import pathlib
import re
import typing
from collections.abc import Sequence

from onebox.commands import base

CONTENT = [
    base.arg("values", nargs="*", metavar="KEY=VALUE|KEY#file=PATH|KEY#base64=DATA"),
    base.arg("--file", help="YAML file with the content"),
    base.arg("--info", help="description"),
]


def _content(values: Sequence[str], file: str | None) -> dict[str, str]:
    """Read a secret's content; its keys by Juju's rules (``core/secrets``)."""
    found: dict[str, str] = {}
    if file:
        content = base.yaml_file(file)
        if not isinstance(content, dict):
            raise base.CommandError(f'"{file}" is not a mapping of keys and values')
        found |= {str(key): str(value) for key, value in content.items()}
    for name, text in base.pairs(values).items():
        key, _, kind = name.partition("#")
        found[key] = _decoded(key, kind, text)
    for key in found:
        if not re.fullmatch(r"[a-z](-?[a-z0-9]){2,}", key, re.ASCII):
            raise base.CommandError(f'secret data key "{key}" not valid')
    return found


def _decoded(key: str, kind: str, text: str) -> str:
    try:
        match kind:
            case "":
                return text
            case "file":
                return pathlib.Path(text).read_text(encoding="utf-8")
            case "base64":
                return base64.b64decode(text, validate=True).decode()
    except (OSError, UnicodeDecodeError, binascii.Error) as error:
        raise base.CommandError(f'the value of "{key}" cannot be read: {error}') from None
    raise base.UsageError(f'"{key}#{kind}" is neither "{key}#file" nor "{key}#base64"')


@base.command("add-secret", arguments=[base.arg("name"), *CONTENT])
def add_secret(options: base.Options) -> None:
    """Add a secret, and print its URI."""
    content = _content(options.values, options.file)
    if not content:
        raise base.CommandError("missing secret value or filename")
    print(
        base.call(
            options, "add_secret", name=options.name, content=content, info=options.info or ""
        )
    )


@base.command(
    "update-secret",
    arguments=[
        base.arg("secret"),
        *CONTENT,
        base.arg("--name", help="another name"),
        base.flag("--auto-prune", text="remove revisions that nobody reads"),
    ],
)
def update_secret(options: base.Options) -> None:
    """Change the content, name or description of a secret."""
    base.call(
        options,
        "update_secret",
        secret=options.secret,
        content=_content(options.values, options.file),
        name=options.name or "",
        info=options.info or "",
        auto_prune=options.auto_prune,
    )


TARGETS = [base.arg("secret"), base.arg("applications", metavar="APPLICATION[,APPLICATION...]")]


@base.command("grant-secret", arguments=TARGETS)
def grant_secret(options: base.Options) -> None:
    """Let applications read a secret."""
    names = base.words([options.applications])
    base.call(options, "grant_secret", secret=options.secret, applications=names)


@base.command("revoke-secret", arguments=TARGETS)
def revoke_secret(options: base.Options) -> None:
    """Let applications no longer read a secret."""
    names = base.words([options.applications])
    base.call(options, "revoke_secret", secret=options.secret, applications=names)


@base.command("remove-secret", arguments=[base.arg("secret"), base.arg("--revision", type=int)])
def remove_secret(options: base.Options) -> None:
    """Remove a secret, or one revision of it."""
    base.call(options, "remove_secret", secret=options.secret, revision=options.revision)


@base.command(
    "secrets",
    "list-secrets",
    arguments=[base.arg("--owner"), base.formats("tabular", "json", "yaml")],
)
def secrets(options: base.Options) -> None:
    """List the secrets."""
    view = base.call(options, "secrets", owner=options.owner)
    if options.format != "tabular":
        base.write(view, options.format)
        return
    rows = [["ID", "Name", "Owner", "Rotation", "Revision", "Last updated"]]
    for identifier, item in view.items():
        name, owner = item.get("name", item.get("label", "-")), item["owner"]
        rotation = item.get("rotation", "never")
        rows.append([identifier, name, owner, rotation, str(item["revision"]), item["updated"]])
    base.table(rows)


@base.command(
    "show-secret",
    arguments=[
        base.arg("secret"),
        base.flag("--reveal", "-r", text="print its content"),
        base.arg("--revision", type=int),
        base.flag("--revisions", text="print what is known of each"),
        base.formats("yaml", "json"),
    ],
)
def show_secret(options: base.Options) -> None:
    """Print what is known of a secret."""
    if options.revisions and (options.reveal or options.revision):
        raise base.UsageError("specify either --revisions or --reveal and --revision")
    view: dict[str, typing.Any] = base.call(
        options,
        "show_secret",
        secret=options.secret,
        reveal=options.reveal,
        revision=options.revision,
        revisions=options.revisions,
    )
    if options.format == "yaml":
        # Only Juju's JSON has the level "Data".
        for item in view.values():
            if "content" in item:
                item["content"] = item["content"]["Data"]
    base.write(view, options.format)
