"""What the commands of a user change in the model: pure functions, refused with Juju's words.

Nothing here waits or runs anything: the engine sees the changed model and does the rest.
"""

from __future__ import annotations

import copy
import datetime
import hashlib
import json
import re
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence

from onebox import bundles, charmfile, hooktools, model

_MODEL_NAME = re.compile(r"[a-z0-9]+[a-z0-9-]*", re.ASCII)
"""Juju's rule (names/v5 ``model.go``); unlike an application's, it may end in digits."""


class UserError(Exception):
    """A command cannot be carried out; the text is what the user reads after ``ERROR``."""


def add_model(world: model.World, name: str, now: datetime.datetime) -> model.Model:
    """Add an empty model."""
    if not _MODEL_NAME.fullmatch(name):
        raise UserError(
            f'"{name}" is not a valid name: model names may only contain lowercase '
            "letters, digits and hyphens"
        )
    if name in world.models:
        raise UserError(f'model "{name}" already exists')
    added = model.Model(name, str(uuid.uuid4()), created=hooktools.timestamp(now))
    world.models[name] = added
    return added


def application(world: model.Model, name: str) -> model.Application:
    """Return an application, or refuse."""
    if name not in world.applications:
        raise UserError(f'application "{name}" not found')
    return world.applications[name]


def unit(world: model.Model, name: str) -> model.Unit:
    """Return a unit, or refuse."""
    try:
        return world.unit(name)
    except KeyError:
        raise UserError(f'unit "{name}" not found') from None


class Deploy(typing.NamedTuple):
    """What `deploy` is asked for; words as in ``juju deploy``."""

    charm: model.Charm
    name: str
    config: Mapping[str, typing.Any]
    scale: int
    resources: Mapping[str, str]
    storage: Mapping[str, str]
    trust: bool
    channel: str
    publish: Sequence[tuple[int, int]]


def deploy(world: model.Model, wanted: Deploy, storage_root: str) -> model.Application:
    """Add an application and its units.

    Args:
        world: the model.
        wanted: the charm and the options of the command.
        storage_root: directory for the application's storage.

    Raises:
        UserError: the name is taken or malformed, an option does not exist or has a wrong
            value, or an image is missing.
    """
    if not bundles.APPLICATION_NAME.fullmatch(wanted.name):
        raise UserError(f'invalid application name "{wanted.name}"')
    if wanted.name in world.applications:
        raise UserError(
            f'deploying "{wanted.name}": cannot add application "{wanted.name}": '
            "application already exists"
        )
    if wanted.scale < 0:
        raise UserError("--num-units must be a positive integer")
    charm = wanted.charm
    unknown = sorted(set(wanted.resources) - set(charm.resources))
    if unknown:
        raise UserError(f'unrecognized resource "{unknown[0]}"')
    missing = sorted(set(charm.resources) - set(wanted.resources))
    if missing:
        raise UserError(f"local charm missing OCI images for: {', '.join(missing)}")
    added = model.Application(
        name=wanted.name,
        charm=charm,
        channel=wanted.channel,
        config=_options(charm, wanted.config),
        trust=wanted.trust,
        scale=wanted.scale,
        resources=dict(wanted.resources),
        storage=dict(wanted.storage),
        publish=list(wanted.publish),
    )
    world.applications[added.name] = added
    for endpoint in charm.endpoints.values():
        if endpoint.role == "peer":
            _relate(
                world,
                [model.Endpoint(added.name, endpoint.name, endpoint.interface, "peer")],
            )
    _grow(world, added, storage_root)
    return added


def _options(charm: model.Charm, values: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    found: dict[str, typing.Any] = {}
    for name, value in values.items():
        option = charm.options.get(name)
        if option is None:
            raise UserError(f'unknown option "{name}"')
        if value is None:
            continue
        try:
            found[name] = bundles.parse_option(name, option, value)
        except ValueError as error:
            raise UserError(str(error)) from None
    return found


def _grow(world: model.Model, app: model.Application, storage_root: str) -> None:
    """Add the units that the scale asks for: numbers are ordinals, as in a StatefulSet."""
    for number in range(app.scale):
        name = f"{app.name}/{number}"
        if name in app.units:
            continue
        app.units[name] = model.Unit(name)
        for spec in app.charm.storage.values():
            old = [s for s in world.storage.values() if s.unit == name and s.name == spec.name]
            if old:
                old[0].attached = True
                continue
            for _ in range(spec.minimum):
                identifier = f"{spec.name}/{world.next_storage}"
                world.next_storage += 1
                path = f"{storage_root}/{identifier.replace('/', '-')}"
                size = _asked_size(app.storage.get(spec.name, ""))
                world.storage[identifier] = model.Storage(
                    identifier, name, path, size=size or spec.size, limited=size is not None
                )


def _asked_size(directive: str) -> int | None:
    """Return the size in MiB of ``pool,count,size``, whose parts may be missing."""
    for part in directive.split(","):
        if re.fullmatch(r"\d+(\.\d+)?[MGT]", part):
            return charmfile.mebibytes(part)
    return None


def scale(
    world: model.Model, name: str, wanted: int, storage_root: str, *, force: bool = False
) -> None:
    """Ask for a number of units; the highest ordinals go first, by force without their hooks."""
    if wanted < 0:
        raise UserError("scaling to a negative number of units is not possible")
    app = application(world, name)
    app.scale = wanted
    for found in app.units.values():
        if found.number >= wanted:
            found.life = model.Life.DYING
            if force:
                _forget_hooks(world, found)
    _grow(world, app, storage_root)


def remove_application(
    world: model.Model, name: str, *, destroy_storage: bool, force: bool
) -> None:
    """Begin to remove an application: its relations and units go first."""
    app = application(world, name)
    app.life = model.Life.DYING
    app.destroy_storage = app.destroy_storage or destroy_storage
    app.scale = 0
    for relation in world.relations_of(name):
        relation.life = model.Life.DYING
    for found in app.units.values():
        found.life = model.Life.DYING
        if force:
            _forget_hooks(world, found)


def _forget_hooks(world: model.Model, found: model.Unit) -> None:
    """Let a unit go without its hooks, as ``--force`` does."""
    found.failure = None
    found.installed = found.stopped = found.removed = True
    for relation in world.relations.values():
        if found.name in relation.scope:
            relation.scope.remove(found.name)


def refresh(
    world: model.Model,
    name: str,
    charm: model.Charm | None,
    resources: Mapping[str, str],
    config: Mapping[str, typing.Any],
) -> None:
    """Give an application another charm, other images and options: all of it, or nothing."""
    app = application(world, name)
    if charm is not None:
        if charm.name != app.charm.name:
            raise UserError(
                f'cannot upgrade "{name}" to "{charm.name}": not the charm "{app.charm.name}"'
            )
        for relation in world.relations_of(name):
            side = relation.local(name)
            spec = charm.endpoints.get(side.name)
            if spec is None or spec.interface != side.interface or spec.role != side.role:
                raise UserError(
                    f'cannot upgrade application "{name}": would break relation "{side}"'
                )
    new = charm or app.charm
    unknown = sorted(set(resources) - set(new.resources))
    if unknown:
        raise UserError(f'unrecognized resource "{unknown[0]}"')
    images = {key: value for key, value in app.resources.items() if key in new.resources}
    images.update(resources)
    missing = sorted(set(new.resources) - set(images))
    if missing:
        raise UserError(f"local charm missing OCI images for: {', '.join(missing)}")
    parsed = _options(new, config)
    if charm is not None and charm.digest != app.charm.digest:
        app.revision += 1
        present = {relation.local(name).name for relation in world.relations_of(name)}
        app.charm = charm
        app.config = {key: app.config[key] for key in app.config if key in charm.options}
        for endpoint in charm.endpoints.values():
            if endpoint.role == "peer" and endpoint.name not in present:
                _relate(world, [model.Endpoint(name, endpoint.name, endpoint.interface, "peer")])
    app.config.update(parsed)
    app.resources = images
    roll(app)


def roll(app: model.Application) -> None:
    """Let the next unit whose pod is out of date replace it: one at a time, highest first.

    That is how a StatefulSet rolls; the next pod follows once the one before is up again.
    """
    wanted = pod_hash(app)
    if any(found.replace or not found.pod for found in app.units.values()):
        return
    stale = [found for found in app.units.values() if found.pod != wanted]
    if stale:
        max(stale, key=lambda found: found.number).replace = True


def pod_hash(app: model.Application) -> str:
    """Return what a pod is made from: charm, images and published ports."""
    text = json.dumps([app.charm.digest, app.resources, app.publish], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def configure(
    world: model.Model, name: str, values: Mapping[str, typing.Any], reset: Sequence[str]
) -> None:
    """Set and reset an application's options, all or none."""
    app = application(world, name)
    parsed = _options(app.charm, values)
    for key in reset:
        if key not in app.charm.options:
            raise UserError(f'unknown option "{key}"')
    for key in reset:
        app.config.pop(key, None)
    app.config.update(parsed)


def integrate(world: model.Model, a: str, b: str) -> model.Relation:
    """Relate two endpoints, each named ``application`` or ``application:endpoint``."""
    try:
        first, second = bundles.resolve_endpoints(world, a, b)
    except ValueError as error:
        raise UserError(str(error)) from None
    return _relate(world, [first, second])


def _relate(world: model.Model, endpoints: list[model.Endpoint]) -> model.Relation:
    relation = model.Relation(world.next_relation, endpoints)
    world.next_relation += 1
    world.relations[relation.id] = relation
    return relation


def remove_relation(world: model.Model, a: str, b: str, *, force: bool) -> None:
    """Begin to remove the relation between two applications or endpoints."""
    for relation in world.relations.values():
        if relation.peer:
            continue
        sides = [{str(side), side.application} for side in relation.endpoints]
        if (a in sides[0] and b in sides[1]) or (a in sides[1] and b in sides[0]):
            relation.life = model.Life.DYING
            if force:
                for found in world.units():
                    if relation.id in found.relations:
                        found.relations[relation.id].broken = True
            return
    raise UserError(f'relation "{a} {b}" not found')


def resolved(world: model.Model, name: str, *, retry: bool, now: float) -> model.Hook:
    """Let a unit in error go on: run its failed hook again, or take it as done."""
    found = unit(world, name)
    if found.failure is None:
        raise UserError(f'unit "{name}" is not in an error state')
    hook = found.failure.hook
    if retry:
        found.failure.retry_at = now
    return hook


_TYPES: dict[str, Callable[[object], bool]] = {
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}
"""JSON schema's types, as Juju checks an action's parameters."""


def enqueue(
    world: model.Model, name: str, action: str, params: Mapping[str, typing.Any], now: str
) -> model.Operation:
    """Ask a unit to run an action."""
    found = unit(world, name)
    spec = world.applications[found.application].charm.actions.get(action)
    if spec is None:
        raise UserError(f'action "{action}" not defined for unit "{name}" (not found)')
    unknown = sorted(set(params) - set(spec.params))
    if unknown and not spec.additional:
        raise UserError(
            f'validation failed: (root) : additional property "{unknown[0]}" is not allowed'
        )
    missing = [key for key in spec.required if key not in params]
    if missing:
        raise UserError(
            f'validation failed: (root) : "{missing[0]}" property is missing and required'
        )
    for key, value in params.items():
        wanted = spec.params.get(key, {}).get("type")
        if wanted in _TYPES and not _TYPES[wanted](value):
            raise UserError(
                f"validation failed: (root).{key} : must be of type {wanted}, "
                f"given {json.dumps(value)}"
            )
    filled = {key: value["default"] for key, value in spec.params.items() if "default" in value}
    operation = model.Operation(
        id=world.next_operation,
        unit=name,
        action=action,
        uuid=str(uuid.uuid4()),
        params={**filled, **params},
        enqueued=now,
    )
    world.next_operation += 1
    world.operations[operation.id] = operation
    found.actions.append(operation.id)
    return operation


def operation(world: model.Model, identifier: int) -> model.Operation:
    """Return an operation, or refuse."""
    if identifier not in world.operations:
        raise UserError(f'operation "{identifier}" not found')
    return world.operations[identifier]


def cancel(world: model.Model, identifier: int, now: str) -> model.Operation:
    """Take back an action that waits, and mark one that runs for its end (juju state/action.go).

    One that has ended stays as it is.
    """
    found = operation(world, identifier)
    if found.status == "pending":
        found.status, found.message = "cancelled", "action cancelled via the API"
        found.completed = now
        unit(world, found.unit).actions.remove(found.id)
    elif found.status == "running":
        found.status = "aborting"
    return found


def interrupted(world: model.Model) -> None:
    """Fail the actions that ran when the daemon ended: running one twice may do harm.

    (juju actions/resolver.go and operation/failaction.go)
    """
    for found in world.operations.values():
        if found.status in {"running", "aborting"}:
            found.status, found.message = "failed", "action terminated"


# Secrets of the user.


def add_secret(
    world: model.Model, name: str, content: Mapping[str, str], info: str, now: str
) -> model.Secret:
    """Add a secret that the user owns."""
    if any(secret.name == name for secret in world.secrets.values() if secret.name):
        raise UserError(f'secret with name "{name}" already exists')
    secret = model.Secret(
        id=hooktools.secret_id(),
        owner="",
        name=name,
        description=info,
        created=now,
        revisions={1: model.Revision(dict(content), now)},
    )
    world.secrets[secret.id] = secret
    return secret


def user_secret(world: model.Model, text: str) -> model.Secret:
    """Return a secret of the user's by its id or name, or refuse."""
    secret = any_secret(world, text)
    if secret.owner:
        raise UserError(f'secret "{text}" is owned by "{secret.owner}", not by you')
    return secret


def any_secret(world: model.Model, text: str) -> model.Secret:
    """Return a secret by its id or the user's name for it, or refuse."""
    identifier = hooktools.bare_id(text)
    for secret in world.secrets.values():
        if secret.id == identifier or (secret.name and secret.name == text):
            return secret
    raise UserError(f'secret "{text}" not found')


def update_secret(
    secret: model.Secret, content: Mapping[str, str], name: str, info: str, now: str
) -> None:
    """Give a secret of the user's another content, name or description."""
    if content and dict(content) != secret.revisions[secret.latest].content:
        secret.latest += 1
        secret.revisions[secret.latest] = model.Revision(dict(content), now)
    secret.name = name or secret.name
    secret.description = info or secret.description


def grant(world: model.Model, text: str, applications: Sequence[str], *, revoke: bool) -> None:
    """Let applications read a secret of the user's, or no longer."""
    secret = user_secret(world, text)
    for name in applications:
        application(world, name)
        given = model.Grant(name)
        if revoke and given in secret.grants:
            secret.grants.remove(given)
        elif not revoke and given not in secret.grants:
            secret.grants.append(given)


# What follows from the changes.


def elect(app: model.Application) -> None:
    """Give an application that has no living leader the first unit that is up.

    A unit claims the lead as soon as its agent runs, before its install hook (juju leadership
    tracker), and keeps it while it lives.
    """
    current = app.units.get(app.leader) if app.leader else None
    if current is not None and not current.removed and not current.stopped:
        return
    up = [u for u in app.units.values() if u.address and u.life is model.Life.ALIVE]
    app.leader = min(up, key=lambda found: found.number).name if up else None


def depose(app: model.Application) -> str | None:
    """Move the lead to the next unit that is up; return its name, None if there is none."""
    others = [
        found
        for found in app.units.values()
        if found.name != app.leader and found.address and found.life is model.Life.ALIVE
    ]
    if not others:
        return None
    if app.leader in app.units:
        app.units[app.leader].leader_elected = False
    app.leader = min(others, key=lambda found: found.number).name
    return app.leader


def drop_unit(world: model.Model, name: str, storage_root: str) -> None:
    """Forget a unit whose pod is gone; one that was asked for again meanwhile begins anew."""
    app = world.applications[name.split("/", maxsplit=1)[0]]
    app.units.pop(name, None)
    _forget_traces(world, name)
    if app.leader == name:
        app.leader = None
        elect(app)
    if app.life is model.Life.ALIVE:
        _grow(world, app, storage_root)


def _forget_traces(world: model.Model, name: str) -> None:
    """Forget what a unit that is gone was part of."""
    for operation in world.operations.values():
        if operation.unit == name and operation.status in {"pending", "running", "aborting"}:
            operation.status, operation.message = "failed", "unit removed"
    for secret in list(world.secrets.values()):
        secret.consumers.pop(name, None)
        if secret.owner == name:
            del world.secrets[secret.id]
    for relation in world.relations.values():
        if name in relation.scope:
            relation.scope.remove(name)
    for storage in world.storage.values():
        if storage.unit == name:
            storage.attached = False


def collect(world: model.Model) -> list[model.Storage]:
    """Forget relations and applications that have come to their end.

    Returns:
        Storage that was to be destroyed with its application; the caller removes the files.
    """
    for relation in list(world.relations.values()):
        if relation.life is model.Life.DYING and not _in_use(world, relation):
            del world.relations[relation.id]
            for found in world.units():
                found.relations.pop(relation.id, None)
            for secret in world.secrets.values():
                secret.grants = [g for g in secret.grants if g.relation != relation.id]
    for secret in world.secrets.values():
        if secret.auto_prune:
            tracked = {consumer.tracked for consumer in secret.consumers.values()}
            for number in [n for n in secret.revisions if n != secret.latest and n not in tracked]:
                del secret.revisions[number]
    gone: list[model.Storage] = []
    for app in list(world.applications.values()):
        related = any(not r.peer for r in world.relations_of(app.name))
        if app.life is model.Life.DYING and not app.units and not related:
            gone.extend(_drop_application(world, app))
    return gone


def _in_use(world: model.Model, relation: model.Relation) -> bool:
    """Return whether a unit still has hooks of a dying relation to run."""
    return any(
        view is not None and not view.broken
        for side in relation.endpoints
        if side.application in world.applications
        for found in world.applications[side.application].units.values()
        for view in [found.relations.get(relation.id)]
    )


def _drop_application(world: model.Model, app: model.Application) -> list[model.Storage]:
    del world.applications[app.name]
    for relation in list(world.relations_of(app.name)):
        del world.relations[relation.id]
    for secret in list(world.secrets.values()):
        secret.grants = [given for given in secret.grants if given.target != app.name]
        if secret.owner == app.name:
            del world.secrets[secret.id]
    mine = [s for s in world.storage.values() if s.unit.split("/", maxsplit=1)[0] == app.name]
    if not app.destroy_storage:
        for storage in mine:
            # An application of the same name later must not find this one's data.
            storage.unit = ""
        return []
    for storage in mine:
        del world.storage[storage.id]
    return [copy.copy(storage) for storage in mine]
