"""Which hook a unit runs next, and what its success changes: pure functions of the model.

The order is that of Juju's uniter, which repeatedly takes the first applicable item (juju
`internal/worker/uniter/resolver.go` and the resolvers beside it). One hook runs at a time in a
unit; units run side by side.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import random
import typing
from collections.abc import Callable, Iterator, Sequence

import msgspec

from onebox import model

UPDATE_STATUS_INTERVAL = 300.0
"""Seconds, Juju's default of model-config ``update-status-hook-interval``."""

RETRY_FIRST, RETRY_LONGEST = 5.0, 300.0
"""Seconds until a failed hook is retried, doubled each time (juju ``RetryStrategy``)."""

EXPIRED_AGAIN = 60.0
"""Seconds until secret-expired is sent again for a revision that was not removed."""

ROTATION = {
    "hourly": datetime.timedelta(hours=1),
    "daily": datetime.timedelta(days=1),
    "weekly": datetime.timedelta(weeks=1),
    "monthly": datetime.timedelta(days=30),
    "quarterly": datetime.timedelta(days=90),
    "yearly": datetime.timedelta(days=365),
}

NEVER = 1e18
"""Seconds since the epoch: a time that does not come."""

Choose = Callable[[Sequence[model.Hook]], model.Hook]


def first(hooks: Sequence[model.Hook]) -> model.Hook:
    """Choose what Juju's resolver would take."""
    return hooks[0]


def shuffled(seed: int, unit: str) -> Choose:
    """Return a choice that a seed makes for a unit.

    Each hook has a rank of its own, so that the choice among the same hooks is the same in every
    run, however many came before and whenever they came.
    """

    def rank(hook: model.Hook) -> float:
        return random.Random(
            f"{seed}/{unit}/{hook.name}/{hook.relation}/{hook.remote_unit}"
        ).random()

    return lambda hooks: min(hooks, key=rank)


def next_hook(
    world: model.Model, unit: model.Unit, now: float, choose: Choose = first
) -> model.Hook | None:
    """Return the hook that a unit has to run now, or None when it is at rest.

    Args:
        world: the model.
        unit: one of its units.
        now: seconds since the epoch.
        choose: picks among hooks whose order Juju leaves open; they are in the resolver's order.
    """
    if unit.failure is not None:
        # A unit in error still runs actions (juju actions/resolver.go).
        for hook in _actions(world, unit):
            return hook
        return unit.failure.hook if now >= unit.failure.retry_at else None
    fixed = next(_fixed(world, unit), None)
    if fixed is None and unit.stopped:
        return None
    if fixed is not None:
        # Pebble may be ready at any time after install, so that its hook comes before
        # config-changed and start, or after them.
        early = [] if not unit.installed or unit.upgrade or unit.stopped else _workload(unit)
        return choose([fixed, *early])
    open_hooks = list(_open(world, unit, now))
    return choose(open_hooks) if open_hooks else None


def _fixed(world: model.Model, unit: model.Unit) -> Iterator[model.Hook]:
    """Hooks that come before everything else, in their order."""
    application = world.applications[unit.application]
    dying = unit.life is model.Life.DYING
    if not unit.installed:
        if not dying:
            yield model.Hook("install")
        return
    if unit.stopped:
        # Only the last hook is left; after it, or for a pod that is replaced, the pod goes.
        if dying and not unit.removed:
            yield model.Hook("remove")
        return
    if unit.upgrade:
        yield model.Hook("upgrade-charm")
        return
    if not dying:
        yield from _created(world, unit)
        if application.leader == unit.name and not unit.leader_elected:
            yield model.Hook("leader-elected")
        if not unit.config:
            yield model.Hook("config-changed", config_hash(application, unit))
        elif not unit.started:
            yield model.Hook("start")


def _created(world: model.Model, unit: model.Unit) -> Iterator[model.Hook]:
    for relation in world.relations_of(unit.application):
        view = unit.relations.get(relation.id)
        if relation.life is model.Life.ALIVE and (view is None or not view.created):
            endpoint = relation.local(unit.application)
            yield model.Hook(
                f"{endpoint.name}-relation-created",
                relation=relation.id,
                endpoint=endpoint.name,
                remote_application=relation.remote(unit.application).application,
            )


def _open(world: model.Model, unit: model.Unit, now: float) -> Iterator[model.Hook]:
    """Hooks whose order depends on when news arrives, in the resolver's order."""
    application = world.applications[unit.application]
    yield from _workload(unit)
    yield from _secrets(world, unit, now)
    yield from _actions(world, unit)
    if unit.life is model.Life.DYING:
        yield from _dying(world, unit)
        return
    if unit.replace:
        yield model.Hook("stop")
        return
    for storage in world.storage.values():
        # On Kubernetes storage is announced after start (juju docs, hook.md "Storage hooks").
        if storage.unit == unit.name and storage.attached and storage.id not in unit.storage:
            yield model.Hook(f"{storage.name}-storage-attached", storage=storage.id)
    current = config_hash(application, unit)
    if unit.config != current:
        yield model.Hook("config-changed", current)
    for relation in world.relations_of(application.name):
        yield from _relation(world, unit, relation)
    if unit.update_status and now >= unit.update_status:
        yield model.Hook("update-status")


def _workload(unit: model.Unit) -> list[model.Hook]:
    """The oldest thing that Pebble reported."""
    return [
        model.Hook(f"{event.container}-{event.kind}", workload=event)
        for event in unit.workload[:1]
    ]


def _dying(world: model.Model, unit: model.Unit) -> Iterator[model.Hook]:
    """The end of a unit: its storage, its relations, then stop (remove is in `_fixed`)."""
    if unit.storage:
        name = unit.storage[0].split("/", maxsplit=1)[0]
        yield model.Hook(f"{name}-storage-detaching", storage=unit.storage[0])
        return
    leaving = [
        hook
        for relation in world.relations_of(unit.application)
        for hook in _relation(world, unit, relation)
    ]
    yield from leaving or [model.Hook("stop")]


def _actions(world: model.Model, unit: model.Unit) -> Iterator[model.Hook]:
    for identifier in unit.actions[:1]:
        yield model.Hook(world.operations[identifier].action, operation=identifier)


def _relation(
    world: model.Model, unit: model.Unit, relation: model.Relation
) -> Iterator[model.Hook]:
    """The next hook of one relation, if any; its hooks have an order of their own."""
    view = unit.relations.get(relation.id)
    if view is None or view.broken:
        return
    local, remote = relation.local(unit.application), relation.remote(unit.application)

    def hook(
        kind: str, remote_unit: str = "", departing: str = "", *, token: str = ""
    ) -> model.Hook:
        return model.Hook(
            f"{local.name}-{kind}",
            token,
            relation=relation.id,
            endpoint=local.name,
            remote_application=remote.application,
            remote_unit=remote_unit,
            departing=departing,
        )

    if relation.life is model.Life.DYING or unit.life is model.Life.DYING:
        yield from _leave(unit, view, hook)
    else:
        yield from _follow(world, unit, relation, view, hook)


class _MakeHook(typing.Protocol):
    def __call__(
        self, kind: str, remote_unit: str = "", departing: str = "", *, token: str = ""
    ) -> model.Hook: ...


def _leave(unit: model.Unit, view: model.RelationView, hook: _MakeHook) -> Iterator[model.Hook]:
    """A relation that ends for the unit: first its members depart, then it breaks."""
    for member in sorted(view.members)[:1]:
        departing = unit.name if unit.life is model.Life.DYING else member
        yield hook("relation-departed", member, departing)
    if not view.members:
        yield hook("relation-broken")


def _follow(
    world: model.Model,
    unit: model.Unit,
    relation: model.Relation,
    view: model.RelationView,
    hook: _MakeHook,
) -> Iterator[model.Hook]:
    """A relation that lives: the first thing that the unit has not been told of it."""
    remote = relation.remote(unit.application).application
    members = [
        name
        for name in relation.scope
        if name != unit.name and name.split("/", maxsplit=1)[0] == remote
    ]
    versions = {name: relation.bag(name).version for name in (*members, *view.members)}
    for member in sorted(name for name, version in view.members.items() if version < 0):
        yield hook("relation-changed", member, token=str(versions[member]))
        return
    for member in sorted(view.members.keys() - set(members)):
        yield hook("relation-departed", member, member)
        return
    latest = relation.bag(remote).version
    # The leader wrote its own peer data itself.
    if latest > view.application and not (relation.peer and world.is_leader(unit.name)):
        yield hook("relation-changed", token=str(latest))
        return
    for member in [name for name in members if name not in view.members]:
        yield hook("relation-joined", member)
        return
    for member in [name for name in members if versions[name] > view.members[name]]:
        yield hook("relation-changed", member, token=str(versions[member]))
        return


def _secrets(world: model.Model, unit: model.Unit, now: float) -> Iterator[model.Hook]:
    owned = [secret for secret in world.secrets.values() if _owns(world, unit, secret)]
    for secret in owned:
        for number, revision in sorted(secret.revisions.items()):
            if _due(revision.expire, now) and now - revision.expired_sent > EXPIRED_AGAIN:
                yield _secret_hook("secret-expired", secret, secret.label, number)
        if secret.rotate in ROTATION and _due(secret.rotate_next, now):
            yield _secret_hook("secret-rotate", secret, secret.label)
    for secret in world.secrets.values():
        consumer = secret.consumers.get(unit.name)
        if (
            consumer is not None
            and consumer.tracked
            and consumer.notified < secret.latest
            and secret.owner not in {unit.name, unit.application}
            and world.may_read(secret, unit.name)
        ):
            hook = _secret_hook("secret-changed", secret, consumer.label)
            yield msgspec.structs.replace(hook, token=str(secret.latest))
    for secret in owned:
        tracked = {consumer.tracked for consumer in secret.consumers.values()}
        for number, revision in sorted(secret.revisions.items()):
            if number < secret.latest and number not in tracked and not revision.obsolete_sent:
                yield _secret_hook("secret-remove", secret, secret.label, number)


def _secret_hook(name: str, secret: model.Secret, label: str, revision: int = 0) -> model.Hook:
    return model.Hook(name, secret=secret.id, secret_label=label, secret_revision=revision)


def _owns(world: model.Model, unit: model.Unit, secret: model.Secret) -> bool:
    """Return whether hooks for the owner of a secret are this unit's to run."""
    if secret.owner == unit.application:
        return world.is_leader(unit.name)
    return secret.owner == unit.name


def _due(when: str | None, now: float) -> bool:
    return when is not None and datetime.datetime.fromisoformat(when).timestamp() <= now


def config_hash(application: model.Application, unit: model.Unit) -> str:
    """Return what config-changed is for: settings, trust and addresses."""
    text = json.dumps([application.settings(), application.trust, unit.address], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def join(world: model.Model, unit: model.Unit) -> None:
    """Let a unit take part in all relations that are new to it.

    Juju's agent does so as a whole before the next hook, once the unit is installed (its
    ``SynchronizeScopes``). So already the first relation-created sees every other relation.
    """
    if not unit.installed or unit.failure is not None or unit.life is model.Life.DYING:
        return
    for relation in world.relations_of(unit.application):
        if relation.life is model.Life.ALIVE and relation.id not in unit.relations:
            unit.relations[relation.id] = model.RelationView()
            enter_scope(relation, unit)


def enter_scope(relation: model.Relation, unit: model.Unit) -> None:
    """Put a unit and what Juju tells of it into a relation."""
    if unit.name not in relation.scope:
        relation.scope.append(unit.name)
    # Juju writes these three keys itself (juju apiserver uniter EnterScope).
    bag = relation.bag(unit.name)
    bag.data.update(
        {
            "egress-subnets": f"{unit.address}/32",
            "ingress-address": unit.address,
            "private-address": unit.address,
        }
    )


def succeeded(world: model.Model, unit: model.Unit, hook: model.Hook, now: float) -> None:
    """Write down that a hook was run to its end.

    Args:
        world: the model; changed in place.
        unit: the unit that ran it.
        hook: what it ran.
        now: seconds since the epoch.
    """
    if hook.operation is not None:
        return
    unit.failure = None
    if hook.workload is not None:
        if hook.workload in unit.workload:
            unit.workload.remove(hook.workload)
    elif hook.relation is not None:
        _succeeded_relation(world, unit, hook, hook.relation)
    elif hook.secret:
        _succeeded_secret(world, unit, hook, now)
    elif hook.storage:
        _succeeded_storage(world, unit, hook)
    else:
        _succeeded_lifecycle(world, unit, hook, now)


def _succeeded_lifecycle(
    world: model.Model, unit: model.Unit, hook: model.Hook, now: float
) -> None:
    match hook.kind:
        case "install":
            unit.installed = True
        case "upgrade-charm":
            unit.upgrade = False
        case "leader-elected":
            unit.leader_elected = True
        case "config-changed":
            unit.config = hook.token
        case "start":
            unit.started = True
            unit.update_status = now + interval(world)
        case "update-status":
            unit.update_status = now + interval(world)
        case "stop":
            unit.stopped = True
        case "remove":
            unit.removed = True
        case unknown:
            raise AssertionError(f"no such hook: {unknown}")


def _succeeded_relation(
    world: model.Model, unit: model.Unit, hook: model.Hook, identifier: int
) -> None:
    view = unit.relations[identifier]
    match hook.kind:
        case "relation-created":
            view.created = True
        case "relation-joined":
            view.members[hook.remote_unit] = -1
        case "relation-changed" if hook.remote_unit:
            view.members[hook.remote_unit] = int(hook.token)
        case "relation-changed":
            view.application = int(hook.token)
        case "relation-departed":
            view.members.pop(hook.remote_unit, None)
        case "relation-broken":
            view.broken = True
            relation = world.relations.get(identifier)
            if relation is not None and unit.name in relation.scope:
                relation.scope.remove(unit.name)
        case unknown:
            raise AssertionError(f"no such hook: {unknown}")


def _succeeded_secret(world: model.Model, unit: model.Unit, hook: model.Hook, now: float) -> None:
    secret = world.secrets.get(hook.secret)
    if secret is None:
        return
    revision = secret.revisions.get(hook.secret_revision)
    match hook.kind:
        case "secret-changed":
            if unit.name in secret.consumers:
                secret.consumers[unit.name].notified = int(hook.token)
        case "secret-rotate":
            if secret.rotate in ROTATION:
                moment = datetime.datetime.fromtimestamp(now, tz=datetime.UTC)
                secret.rotate_next = (moment + ROTATION[secret.rotate]).isoformat()
        case "secret-remove":
            if revision is not None:
                revision.obsolete_sent = True
        case "secret-expired":
            if revision is not None:
                revision.expired_sent = now
        case unknown:
            raise AssertionError(f"no such hook: {unknown}")


def _succeeded_storage(world: model.Model, unit: model.Unit, hook: model.Hook) -> None:
    if hook.kind == "storage-attached":
        unit.storage.append(hook.storage)
        return
    unit.storage.remove(hook.storage)
    if hook.storage in world.storage:
        world.storage[hook.storage].attached = False


def interval(world: model.Model) -> float:
    """Return the seconds between two update-status hooks."""
    text = str(world.config.get("update-status-hook-interval", ""))
    units = {"s": 1, "m": 60, "h": 3600}
    if text[-1:] in units and text[:-1].isdigit():
        return float(text[:-1]) * units[text[-1]]
    return UPDATE_STATUS_INTERVAL


def failed(unit: model.Unit, hook: model.Hook, now: float, *, retry: bool) -> None:
    """Write down that a hook ended with an error, and when it is run again."""
    attempts = unit.failure.attempts + 1 if unit.failure else 1
    delay = min(RETRY_FIRST * 2 ** (attempts - 1), RETRY_LONGEST)
    unit.failure = model.Failure(hook, attempts, now + delay if retry else NEVER)


def new_pod(unit: model.Unit) -> None:
    """Write down that the unit's pod is new: what lived in the old one is gone."""
    unit.pod = ""
    unit.failure = None
    unit.upgrade = unit.installed
    unit.replace = unit.stopped = unit.started = False
    unit.config = ""
    unit.boots.clear()
    unit.noticed.clear()
    unit.workload.clear()
    unit.update_status = 0


def settled(unit: model.Unit) -> bool:
    """Return whether a unit that is being removed has run its last hook."""
    return unit.life is model.Life.DYING and (not unit.installed or unit.removed)
