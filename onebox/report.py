"""What Juju's commands show of a model, as the JSON that Juju prints: pure functions.

Keys and their spelling are those of Juju 3.6 (juju ``cmd/juju/status/formatted.go`` and its
neighbours) as far as `jubilant` and this project's users read them.
"""

from __future__ import annotations

import datetime
import typing
from collections.abc import Iterator

from onebox import changes, model

CONTROLLER, CLOUD, REGION = "onebox", "onebox", "localhost"
CONTROLLER_UUID = "00000000-0000-4000-8000-000000000000"

SEVERITY = ["unknown", "terminated", "active", "maintenance", "waiting", "blocked", "error"]
"""Statuses of units, the worst last (juju ``core/status`` ``DeriveStatus``)."""

NOT_SET = {("unknown", ""), ("waiting", "installing agent")}
"""What an application's status is before its charm has set one."""

View = dict[str, typing.Any]


def _moment(stamp: str) -> str:
    """Turn RFC 3339 into the form of Juju's status: ``21 Nov 2026 10:41:05Z``."""
    if not stamp:
        return ""
    return datetime.datetime.fromisoformat(stamp).strftime("%d %b %Y %H:%M:%SZ")


def _status(status: model.Status, **more: str) -> View:
    found = {"current": status.current, "message": status.message, "since": _moment(status.since)}
    return {key: value for key, value in (found | more).items() if value}


def status(world: model.Model, now: datetime.datetime) -> View:
    """Return what ``juju status --format json`` prints.

    One key more, ``relations``, is what the table of ``juju status --relations`` shows and Juju
    leaves out of the JSON: ``provider``, ``requirer``, ``interface``, ``type`` and ``message``.

    Args:
        world: the model.
        now: with a time zone.
    """
    clock = now.astimezone(datetime.UTC)
    life = "available" if world.life is model.Life.ALIVE else "destroying"
    found: View = {
        "model": {
            "name": world.name,
            "type": "caas",
            "controller": CONTROLLER,
            "cloud": CLOUD,
            "region": REGION,
            "version": model.JUJU_VERSION,
            "model-status": _status(model.Status(life, since=world.created)),
        },
        "machines": {},
        "applications": {
            name: _application(world, application)
            for name, application in world.applications.items()
        },
        "controller": {"timestamp": clock.strftime("%H:%M:%SZ")},
        "relations": list(_relations(world)),
    }
    if world.storage:
        found["storage"] = storage(world)
    return found


def _application(world: model.Model, application: model.Application) -> View:
    first = next(iter(application.units.values()), None)
    found: View = {
        "charm": f"local:{application.charm.name}-{application.revision}",
        "charm-origin": "local",
        "charm-name": application.charm.name,
        "charm-rev": application.revision,
        "charm-channel": application.channel,
        "scale": application.scale,
        "provider-id": f"{world.name}/{application.name}",
        "address": first.address if first else "",
        "life": "" if application.life is model.Life.ALIVE else application.life.value,
        "application-status": _status(application_status(application)),
        "relations": _related(world, application.name),
        "units": {name: _unit(application, unit) for name, unit in application.units.items()},
        "version": application.version,
        "endpoint-bindings": {"": "alpha", **dict.fromkeys(application.charm.endpoints, "alpha")},
    }
    kept = {key: value for key, value in found.items() if value or key in {"charm-rev", "scale"}}
    return kept | {"exposed": application.exposed}


def application_status(application: model.Application) -> model.Status:
    """Return the status that the charm has set, else that of the unit which is worst off."""
    own = application.status
    if (own.current, own.message) not in NOT_SET:
        return own
    units = [unit_status(unit) for unit in application.units.values()]
    return max(units, key=lambda item: SEVERITY.index(item.current), default=own)


def unit_status(unit: model.Unit) -> model.Status:
    """Return the workload status: an error while a hook has failed, else what the charm set."""
    if unit.failure is None:
        return unit.status
    return model.Status("error", f'hook failed: "{unit.failure.hook.name}"', unit.agent.since)


def agent_status(application: model.Application, unit: model.Unit) -> model.Status:
    """Return the agent's status: it has no pod while that is made or replaced."""
    if unit.replace or unit.pod != changes.pod_hash(application):
        return model.Status("allocating", "", unit.agent.since)
    return unit.agent


def _unit(application: model.Application, unit: model.Unit) -> View:
    found: View = {
        "workload-status": _status(unit_status(unit)),
        "juju-status": _status(agent_status(application, unit), version=model.JUJU_VERSION),
        "leader": application.leader == unit.name,
        "open-ports": unit.ports,
        "address": unit.address,
        "provider-id": unit.name.replace("/", "-"),
    }
    return {key: value for key, value in found.items() if value}


def _related(world: model.Model, application: str) -> View:
    found: View = {}
    for relation in world.relations_of(application):
        remote = relation.remote(application)
        entry = {
            "related-application": remote.application,
            "interface": remote.interface,
            "scope": "global",
        }
        found.setdefault(relation.local(application).name, []).append(entry)
    return found


def _relations(world: model.Model) -> Iterator[View]:
    for relation in world.relations.values():
        # A peer relation is shown as provided and required by the same endpoint.
        ends = sorted(relation.endpoints, key=lambda end: end.role)
        yield {
            "provider": str(ends[0]),
            "requirer": str(ends[-1]),
            "interface": ends[0].interface,
            "type": "peer" if relation.peer else "regular",
            "message": "" if relation.life is model.Life.ALIVE else relation.life.value,
        }


def storage(world: model.Model) -> View:
    """Return what ``juju storage --format json`` prints."""
    found: View = {"storage": {}, "filesystems": {}}
    for number, item in enumerate(world.storage.values()):
        current = "attached" if item.attached else "detached"
        unit = {"location": item.path, "life": "alive"}
        attachments = {"attachments": {"units": {item.unit: unit}}} if item.attached else {}
        found["storage"][item.id] = {
            "kind": "filesystem",
            "life": "alive",
            "status": {"current": current},
            "persistent": True,
            **attachments,
        }
        found["filesystems"][str(number)] = {
            "provider-id": item.path,
            "storage": item.id,
            "pool": "directory",
            "size": item.size,
            "life": "alive",
            "status": {"current": current},
        }
    return found


def models(world: model.World) -> View:
    """Return what ``juju models --format json`` prints."""
    listed = [
        {**_model(item), "is-controller": False, "units": len(list(item.units()))}
        for item in world.models.values()
    ]
    return {"models": listed, "current-model": world.current}


def show_model(world: model.Model) -> View:
    """Return what ``juju show-model --format json`` prints."""
    return {world.name: {**_model(world), "is-controller": False, "machines": {}}}


def _model(world: model.Model) -> View:
    alive = world.life is model.Life.ALIVE
    since = _moment(world.created)
    return {
        "name": f"admin/{world.name}",
        "short-name": world.name,
        "model-uuid": world.uuid,
        "model-type": "caas",
        "controller-uuid": CONTROLLER_UUID,
        "controller-name": CONTROLLER,
        "owner": "admin",
        "cloud": CLOUD,
        "region": REGION,
        "type": "kubernetes",
        "life": world.life.value,
        "status": {"current": "available" if alive else "destroying", "since": since},
        "users": {"admin": {"access": "admin", "last-connection": "just now"}},
        "agent-version": model.JUJU_VERSION,
    }


def show_unit(world: model.Model, name: str) -> View:
    """Return what ``juju show-unit --format json`` prints.

    Raises:
        KeyError: there is no such unit.
    """
    unit = world.unit(name)
    application = world.applications[unit.application]
    return {
        name: {
            "workload-version": application.version,
            "opened-ports": unit.ports,
            "charm": f"local:{application.charm.name}-{application.revision}",
            "leader": application.leader == name,
            "life": unit.life.value,
            "relation-info": [
                _relation_info(relation, unit) for relation in world.relations_of(unit.application)
            ],
            "provider-id": name.replace("/", "-"),
            "address": unit.address,
        }
    }


def _relation_info(relation: model.Relation, unit: model.Unit) -> View:
    remote = relation.remote(unit.application)

    def side(name: str) -> View:
        bag = relation.bags.get(name, model.Bag())
        return {"in-scope": name in relation.scope, "data": bag.data}

    return {
        "relation-id": relation.id,
        "endpoint": relation.local(unit.application).name,
        "related-endpoint": remote.name,
        "application-data": relation.bags.get(remote.application, model.Bag()).data,
        "local-unit": side(unit.name),
        "related-units": {
            name: side(name)
            for name in relation.scope
            if name != unit.name and name.split("/")[0] == remote.application
        },
    }


def config(world: model.Model, name: str) -> View:
    """Return what ``juju config APPLICATION --format json`` prints.

    Raises:
        KeyError: there is no such application.
    """
    application = world.applications[name]
    trust: View = {
        "default": False,
        "description": "Does this application have access to trusted credentials",
        "source": "user" if application.trust else "default",
        "type": "bool",
        "value": application.trust,
    }
    return {
        "application": name,
        "application-config": {"trust": trust},
        "charm": application.charm.name,
        "settings": {
            key: _setting(option, application.config.get(key))
            for key, option in sorted(application.charm.options.items())
        },
    }


def _setting(option: model.Option, chosen: typing.Any) -> View:
    found: View = {"description": option.description, "type": option.type}
    if option.default is not None:
        found["default"] = option.default
    value = option.default if chosen is None else chosen
    if value is not None:
        found["value"] = value
    plain = "unset" if option.default is None else "default"
    return found | {"source": plain if chosen is None else "user"}


def operation(item: model.Operation) -> View:
    """Return one entry of what ``juju run --format json`` prints; ``unit`` tells whose it is."""
    timing = {"enqueued": item.enqueued, "started": item.started, "completed": item.completed}
    found: View = {
        "id": str(item.id),
        "unit": item.unit,
        "status": item.status,
        "message": item.message,
        "log": [f"{_moment(stamp)} {text}" for stamp, text in item.log],
        "timing": {key: value for key, value in timing.items() if value},
    }
    if item.status in {"completed", "failed", "aborted"}:
        found["results"] = {"return-code": 0, **item.results}
    return {key: value for key, value in found.items() if value}


def secrets(world: model.Model, owner: str | None = None) -> View:
    """Return what ``juju secrets --format json`` prints.

    Args:
        world: the model.
        owner: an application's, unit's or, for the user's own, the model's name.
    """
    return {
        item.id: _secret(world, item)
        for item in world.secrets.values()
        if owner is None or owner in {item.owner, item.owner or world.name, f"model-{world.name}"}
    }


def show_secret(
    world: model.Model,
    secret: model.Secret,
    *,
    reveal: bool = False,
    revision: int | None = None,
    revisions: bool = False,
) -> View:
    """Return what ``juju show-secret --format json`` prints.

    Raises:
        KeyError: there is no such revision.
    """
    shown = _secret(world, secret)
    number = revision or secret.latest
    content = secret.revisions[number].content
    shown["revision"] = number
    if reveal:
        shown["content"] = {"Data": content}
    if revisions:
        shown["revisions"] = [
            {
                "revision": number,
                "backend": "internal",
                "created": item.created,
                "updated": item.created,
                **({"expires": item.expire} if item.expire else {}),
            }
            for number, item in sorted(secret.revisions.items())
        ]
    return {secret.id: shown}


def _secret(world: model.Model, secret: model.Secret) -> View:
    newest = secret.revisions[secret.latest]
    access = [
        {
            "target": _tag(grant.target),
            "scope": world.name if grant.relation is None else _scope(world, grant.relation),
            "role": "view",
        }
        for grant in secret.grants
    ]
    found: View = {
        "revision": secret.latest,
        "rotation": "" if secret.rotate == "never" else secret.rotate,
        "rotates": secret.rotate_next,
        "expires": newest.expire,
        "owner": secret.owner or world.name,
        "name": secret.name,
        "label": secret.label,
        "description": secret.description,
        "created": secret.created,
        "updated": newest.created,
        "access": access,
    }
    return {key: value for key, value in found.items() if value}


def _tag(name: str) -> str:
    return f"unit-{name.replace('/', '-')}" if "/" in name else f"application-{name}"


def _scope(world: model.Model, relation: int) -> str:
    if relation not in world.relations:
        return f"relation-{relation}"
    ends = ".".join(str(end) for end in world.relations[relation].endpoints)
    return f"relation-{ends.replace(':', '.')}"
