"""The hook tools: what a charm reads and writes while one of its hooks runs.

A `Context` is one run of a hook. Reads see the model and the hook's own pending writes. Writes of
relation data, secrets, ports and charm state wait in the context, and count only when `commit`
is called after the hook succeeded (juju `context.go` Flush); status, logs and versions are set at
once, as in Juju. Texts of errors are Juju's, since ops and charm libraries match on them.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
import re
import secrets
import string
import typing
from collections.abc import Callable, Mapping, Sequence

import yaml

from onebox import events, model

Log = Callable[[str, str], None]
"""Takes a level and a message for the debug-log."""


class ToolError(Exception):
    """A hook tool fails: the text goes to stderr, the code is its exit code."""

    def __init__(self, text: str, code: int = 1):
        super().__init__(text)
        self.code = code


@dataclasses.dataclass(frozen=True)
class Arguments:
    """A tool's parsed arguments: options with a value, flags, and the rest."""

    options: Mapping[str, str]
    flags: frozenset[str]
    rest: tuple[str, ...]


def parse(args: Sequence[str], options: str = "", flags: str = "") -> Arguments:
    """Split arguments as Juju's tools do.

    Args:
        args: as the charm gave them.
        options: names that take a value, separated by blanks, without their dashes.
        flags: names that take none (``--app`` and also ``--app=true``).

    Raises:
        ToolError: an unknown option (exit code 2).
    """
    with_value, without = set(options.split()), set(flags.split())
    found: dict[str, str] = {}
    on: set[str] = set()
    rest: list[str] = []
    items = iter(args)
    for item in items:
        if item == "--":
            rest.extend(items)
        elif item.startswith("-") and len(item) > 1:
            name, equals, value = item.lstrip("-").partition("=")
            if name in with_value:
                found[name] = value if equals else next(items, "")
            elif name in without:
                if value.lower() != "false":
                    on.add(name)
            else:
                raise ToolError(f"ERROR option provided but not defined: {item}", 2)
        else:
            rest.append(item)
    return Arguments(found, frozenset(on), tuple(rest))


@dataclasses.dataclass(frozen=True)
class Call:
    """What a charm gave a tool."""

    args: tuple[str, ...]
    stdin: str

    def parse(self, options: str = "", flags: str = "") -> Arguments:
        """Split the arguments, see `parse`."""
        return parse(self.args, options, flags)


class Context:
    """One run of one hook.

    Args:
        world: the model; tools that act at once change it in place.
        unit: the unit whose hook it is.
        hook: the hook.
        log: writes to the debug-log.
        leader: whether the unit leads; settled when the hook begins, as Juju guarantees.
        clock: returns now, in UTC.
        resource: returns the path, in the charm container, of a resource's file.
    """

    def __init__(
        self,
        world: model.Model,
        unit: model.Unit,
        hook: model.Hook | None,
        log: Log,
        *,
        clock: Callable[[], datetime.datetime],
        resource: Callable[[str], str],
    ):
        self.world = world
        self.unit = unit
        self.hook = hook
        self.application = world.applications[unit.application]
        self.leader = self.application.leader == unit.name
        # What was read once stays so until the hook ends, as in Juju's contexts.
        self._settings = self.application.settings()
        self._seen: dict[tuple[int, str], dict[str, str]] = {}
        self._log = log
        self._clock = clock
        self._resource = resource
        self._bags: dict[tuple[int, str], dict[str, str]] = {}
        self._secrets: dict[str, model.Secret | None] = {}
        self._ports: list[str] | None = None
        self._state: dict[str, str] | None = None
        self.results: dict[str, typing.Any] = {}
        self.failure: str | None = None
        self.calls: list[str] = []

    def run(self, tool: str, args: Sequence[str], stdin: str) -> str:
        """Run a hook tool and return its output.

        Raises:
            ToolError: it fails.
        """
        self.calls.append(tool)
        method = _TOOLS.get(tool)
        if method is None:
            raise ToolError(f"ERROR onebox has no hook tool {tool}")
        return method(self, Call(tuple(args), stdin))

    # What the hook wrote becomes part of the model.

    def commit(self) -> None:
        """Make the pending writes part of the model, as one change."""
        for (identifier, owner), data in self._bags.items():
            relation = self.world.relations.get(identifier)
            if relation is None:
                continue
            bag = relation.bag(owner)
            if bag.data != data:
                bag.data = data
                bag.version += 1
        for identifier, secret in self._secrets.items():
            self._commit_secret(identifier, secret)
        if self._ports is not None:
            self.unit.ports = self._ports
        if self._state is not None:
            self.unit.state = self._state

    def _commit_secret(self, identifier: str, secret: model.Secret | None) -> None:
        current = self.world.secrets.get(identifier)
        if secret is None:
            self.world.secrets.pop(identifier, None)
        elif current is None:
            self.world.secrets[identifier] = secret
        else:
            # Other units may have read the secret meanwhile, so what they track stays.
            secret.consumers = current.consumers
            self.world.secrets[identifier] = secret

    # Reading.

    def _config_get(self, call: Call) -> str:
        found = call.parse("format", "a all")
        if found.rest:
            return _show(self._settings.get(found.rest[0]), found)
        return _show(self._settings, found)

    def _is_leader(self, call: Call) -> str:
        return _show(self.leader, call.parse("format"))

    def _relation_ids(self, call: Call) -> str:
        found = call.parse("format")
        name = found.rest[0] if found.rest else self._hook_relation()[1]
        if name not in self.application.charm.endpoints:
            # Juju answers an empty list for an endpoint that the charm does not have.
            return _show([], found)
        return _show([f"{name}:{relation.id}" for relation in self._relations(name)], found)

    def _relation_list(self, call: Call) -> str:
        found = call.parse("format r relation", "app")
        relation = self._relation(found)
        if "app" in found.flags:
            return _show(relation.remote(self.application.name).application, found)
        return _show(self._members(relation), found)

    def _relation_get(self, call: Call) -> str:
        found = call.parse("format r relation", "app")
        relation = self._relation(found)
        key = found.rest[0] if found.rest else "-"
        owner = found.rest[1] if len(found.rest) > 1 else None
        if owner is None:
            if self.hook is None or not self.hook.remote_application:
                raise ToolError("ERROR no unit or application specified")
            owner = self.hook.remote_unit or self.hook.remote_application
        if "app" in found.flags:
            owner = owner.split("/", maxsplit=1)[0]
        data = self._read_bag(relation, owner)
        return _show(data if key == "-" else data.get(key), found)

    def _read_bag(self, relation: model.Relation, owner: str) -> dict[str, str]:
        pending = self._bags.get((relation.id, owner))
        if pending is not None:
            return pending
        local, remote = self.application.name, relation.remote(self.application.name).application
        if owner == local and not relation.peer and not self.leader:
            raise ToolError("ERROR permission denied")
        if owner.split("/", maxsplit=1)[0] not in {local, remote}:
            raise ToolError("ERROR permission denied")
        if owner.startswith(f"{local}/") and owner != self.unit.name and not relation.peer:
            raise ToolError("ERROR permission denied")
        bag = relation.bags.get(owner)
        if bag is None and "/" in owner and owner != self.unit.name:
            raise ToolError(
                f'ERROR cannot read settings for unit "{owner}" in relation: not found'
            )
        return self._seen.setdefault((relation.id, owner), dict(bag.data) if bag else {})

    def _relation_model_get(self, call: Call) -> str:
        found = call.parse("format r relation")
        self._relation(found)
        return _show({"uuid": self.world.uuid}, found)

    def _network_get(self, call: Call) -> str:
        found = call.parse("format r relation", "bind-address ingress-address egress-subnets")
        binding = found.rest[0] if found.rest else ""
        if binding != "juju-info" and binding not in self.application.charm.endpoints:
            raise ToolError(f'ERROR no network config found for binding "{binding}"')
        address = self.unit.address
        return _show(
            {
                "bind-addresses": [
                    {
                        "mac-address": "",
                        "interface-name": "eth0",
                        "addresses": [{"hostname": "", "value": address, "cidr": f"{address}/32"}],
                    }
                ],
                "egress-subnets": [f"{address}/32"],
                "ingress-addresses": [address],
            },
            found,
        )

    def _resource_get(self, call: Call) -> str:
        found = call.parse()
        name = found.rest[0] if found.rest else ""
        if name not in self.application.charm.resources:
            raise ToolError(f'ERROR could not download resource: resource "{name}" not found')
        return self._resource(name)

    def _goal_state(self, call: Call) -> str:
        found = call.parse("format")

        def units(application: model.Application) -> dict[str, dict[str, str]]:
            return {
                unit.name: {
                    "status": "dying" if unit.life is model.Life.DYING else unit.status.current,
                    "since": unit.status.since,
                }
                for unit in application.units.values()
            }

        relations: dict[str, dict[str, dict[str, str]]] = {}
        for relation in self.world.relations_of(self.application.name):
            remote = self.world.applications.get(
                relation.remote(self.application.name).application
            )
            if remote is None or relation.peer:
                continue
            entry = relations.setdefault(relation.local(self.application.name).name, {})
            entry[remote.name] = {"status": "joined", "since": remote.status.since}
            entry.update(units(remote))
        return _show({"units": units(self.application), "relations": relations}, found)

    def _storage_list(self, call: Call) -> str:
        found = call.parse("format")
        wanted = found.rest[0] if found.rest else None
        return _show(
            [
                storage.id
                for storage in self._storages()
                if wanted is None or storage.name == wanted
            ],
            found,
        )

    def _storage_get(self, call: Call) -> str:
        found = call.parse("format s")
        identifier = found.options.get("s") or (self.hook.storage if self.hook else "")
        for storage in self._storages():
            if storage.id == identifier:
                location = f"/var/lib/juju/storage/{storage.id}"
                data = {"kind": "filesystem", "location": location}
                return _show(data.get(found.rest[0]) if found.rest else data, found)
        raise ToolError(f'ERROR invalid value "{identifier}" for option -s: storage not found', 2)

    def _storages(self) -> list[model.Storage]:
        return [
            storage
            for storage in self.world.storage.values()
            if storage.unit == self.unit.name and storage.attached
        ]

    # Relation data.

    def _relation_set(self, call: Call) -> str:
        found = call.parse("format r relation file", "app")
        relation = self._relation(found)
        values: dict[str, str] = {}
        if "file" in found.options:
            values.update(_string_map(call.stdin))
        values.update(_pairs(found.rest))
        owner = self.application.name if "app" in found.flags else self.unit.name
        if "app" in found.flags and not self.leader:
            raise ToolError("ERROR cannot write relation settings")
        bag = self._bags.setdefault((relation.id, owner), dict(relation.bag(owner).data))
        for key, value in values.items():
            if value:
                bag[key] = value
            else:
                bag.pop(key, None)
        return ""

    def _relations(self, endpoint: str) -> list[model.Relation]:
        found: list[model.Relation] = []
        for relation in self.world.relations_of(self.application.name):
            view = self.unit.relations.get(relation.id)
            known = view is not None and not view.broken
            if known and relation.local(self.application.name).name == endpoint:
                found.append(relation)
        return found

    def _hook_relation(self) -> tuple[int, str]:
        if self.hook is None or self.hook.relation is None:
            raise ToolError("ERROR no relation id specified", 2)
        return self.hook.relation, self.hook.endpoint

    def _relation(self, found: Arguments) -> model.Relation:
        text = found.options.get("r") or found.options.get("relation")
        if text is None:
            identifier, endpoint = self._hook_relation()
        else:
            endpoint, _, number = text.rpartition(":")
            identifier = int(number) if number.isdecimal() else -1
        relation = self.world.relations.get(identifier)
        if relation is not None:
            names = {
                side.name
                for side in relation.endpoints
                if side.application == self.application.name
            }
            view = self.unit.relations.get(identifier)
            gone = view is None or view.broken
            if names and (not endpoint or endpoint in names) and not gone:
                return relation
        raise ToolError(f'ERROR invalid value "{text}" for option -r: relation not found', 2)

    def _members(self, relation: model.Relation) -> list[str]:
        view = self.unit.relations.get(relation.id) or model.RelationView()
        members = set(view.members)
        if self.hook is not None and self.hook.relation == relation.id:
            if self.hook.kind == "relation-joined":
                members.add(self.hook.remote_unit)
            elif self.hook.kind == "relation-departed":
                members.discard(self.hook.remote_unit)
        return sorted(members)

    # Secrets.

    def _secret_add(self, call: Call) -> str:
        found = call.parse("label description expire rotate owner file")
        owner = found.options.get("owner", "application")
        if owner == "application" and not self.leader:
            raise ToolError("ERROR this unit is not the leader")
        label = found.options.get("label", "")
        name = self.application.name if owner == "application" else self.unit.name
        self._label_free(name, label)
        moment = self._now()
        secret = model.Secret(
            id=secret_id(),
            owner=name,
            created=moment,
            label=label,
            revisions={1: model.Revision(_content(found.rest), moment)},
        )
        self._describe(secret, found)
        self._secrets[secret.id] = secret
        return f"secret:{secret.id}"

    def _secret_set(self, call: Call) -> str:
        found = call.parse("label description expire rotate owner file")
        secret = self._managed(found.rest[0] if found.rest else "")
        content = _content(found.rest[1:])
        if "label" in found.options and found.options["label"] != secret.label:
            self._label_free(secret.owner, found.options["label"])
        if content and content != secret.revisions[secret.latest].content:
            secret.latest += 1
            secret.revisions[secret.latest] = model.Revision(content, self._now())
        self._describe(secret, found)
        return ""

    def _describe(self, secret: model.Secret, found: Arguments) -> None:
        secret.label = found.options.get("label", secret.label)
        secret.description = found.options.get("description", secret.description)
        if "expire" in found.options:
            secret.revisions[secret.latest].expire = self._expiry(found.options["expire"])
        policy = found.options.get("rotate")
        if policy is not None and policy != secret.rotate:
            if policy != "never" and policy not in events.ROTATION:
                raise ToolError(f'ERROR rotate policy "{policy}" not valid')
            secret.rotate = policy
            due = events.ROTATION.get(policy)
            secret.rotate_next = (self._clock() + due).isoformat() if due else None

    def _expiry(self, text: str) -> str:
        duration = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", text)
        if duration and text:
            hours, minutes, seconds = (float(part or 0) for part in duration.groups())
            delta = datetime.timedelta(hours=hours, minutes=minutes, seconds=seconds)
            return (self._clock() + delta).isoformat()
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise ToolError(f'ERROR expire time or duration "{text}" not valid') from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).isoformat()

    def _label_free(self, owner: str, label: str) -> None:
        if label and any(
            secret.owner == owner and secret.label == label for secret in self._visible()
        ):
            raise ToolError(f'ERROR secret with label "{label}" already exists')

    def _visible(self) -> list[model.Secret]:
        """All secrets as this hook has left them."""
        merged: dict[str, model.Secret | None] = {**self.world.secrets, **self._secrets}
        return [secret for secret in merged.values() if secret is not None]

    def _find(self, text: str, label: str = "") -> model.Secret:
        """Find a secret by id, or by a label: of this side's own, or as this unit named it."""
        identifier = bare_id(text)
        if not identifier and not label:
            raise ToolError("ERROR missing secret URI", 2)
        for secret in self._visible():
            if identifier:
                if secret.id == identifier:
                    return secret
                continue
            own = secret.owner in {self.unit.name, self.application.name}
            if own and secret.label == label:
                return secret
            consumer = secret.consumers.get(self.unit.name)
            if consumer is not None and consumer.label and consumer.label == label:
                return secret
        raise ToolError(f'ERROR secret "{identifier or label}" not found')

    def _managed(self, text: str, label: str = "") -> model.Secret:
        """Return a copy, to be committed, of a secret that this unit may change."""
        secret = self._find(text, label)
        if secret.owner == self.application.name and not self.leader:
            raise ToolError("ERROR permission denied")
        if secret.owner not in {self.application.name, self.unit.name}:
            raise ToolError("ERROR permission denied")
        pending = self._secrets.get(secret.id)
        if pending is None:
            pending = self._secrets[secret.id] = copy.deepcopy(secret)
        return pending

    def _secret_get(self, call: Call) -> str:
        found = call.parse("format label", "peek refresh")
        text, label = (found.rest[0] if found.rest else ""), found.options.get("label", "")
        secret = self._find(text, "" if text else label)
        if not self.world.may_read(secret, self.unit.name):
            raise ToolError("ERROR permission denied")
        stored = self.world.secrets.get(secret.id)
        own = secret.owner in {self.unit.name, self.application.name}
        if stored is None:
            # Added in this hook: there is nothing to track before it is committed.
            number = secret.latest
        else:
            number = self._track(stored, label if text and not own else "", found.flags)
            if found.flags & {"peek", "refresh"}:
                number = secret.latest
        revision = secret.revisions.get(number)
        if revision is None:
            raise ToolError(f'ERROR secret revision "{secret.id}/{number}" not found')
        key = found.rest[1] if len(found.rest) > 1 else None
        if key and key not in revision.content:
            raise ToolError(f'ERROR secret key value "{key}" not found')
        return _show(revision.content[key] if key else revision.content, found)

    def _track(self, secret: model.Secret, label: str, flags: frozenset[str]) -> int:
        """Note what this unit reads of a secret, at once as in Juju; return the revision."""
        consumer = secret.consumers.get(self.unit.name)
        if consumer is None:
            if "peek" in flags and not label:
                return secret.latest
            consumer = model.Consumer()
            secret.consumers[self.unit.name] = consumer
        if label:
            consumer.label = label
        if not consumer.tracked or "refresh" in flags:
            consumer.tracked = secret.latest
            consumer.notified = max(consumer.notified, secret.latest)
        return consumer.tracked

    def _secret_info_get(self, call: Call) -> str:
        found = call.parse("format label")
        secret = self._find(found.rest[0] if found.rest else "", found.options.get("label", ""))
        if secret.owner == self.application.name and not self.leader:
            raise ToolError("ERROR permission denied")
        if secret.owner not in {self.application.name, self.unit.name}:
            raise ToolError("ERROR permission denied")
        info: dict[str, typing.Any] = {
            "revision": secret.latest,
            "label": secret.label,
            "owner": "application" if "/" not in secret.owner else "unit",
            "rotation": secret.rotate,
        }
        if secret.description:
            info["description"] = secret.description
        expire = secret.revisions[secret.latest].expire
        if expire:
            info["expiry"] = expire
        if secret.rotate_next:
            info["rotates"] = secret.rotate_next
        return _show({secret.id: info}, found)

    def _secret_ids(self, call: Call) -> str:
        own = {self.unit.name, *([self.application.name] if self.leader else [])}
        identifiers = [secret.id for secret in self._visible() if secret.owner in own]
        return _show(identifiers, call.parse("format"))

    def _secret_grant(self, call: Call) -> str:
        found = call.parse("r relation unit")
        secret = self._managed(found.rest[0] if found.rest else "")
        relation = self._relation(found)
        target = found.options.get("unit") or relation.remote(self.application.name).application
        grant = model.Grant(target, relation.id)
        if grant not in secret.grants:
            secret.grants.append(grant)
        return ""

    def _secret_revoke(self, call: Call) -> str:
        found = call.parse("r relation app unit")
        secret = self._managed(found.rest[0] if found.rest else "")
        target = found.options.get("unit") or found.options.get("app")
        number: int | None = None
        if {"r", "relation"} & set(found.options):
            number = self._relation(found).id
        secret.grants = [
            grant
            for grant in secret.grants
            if not (
                (target is None or grant.target == target)
                and (number is None or grant.relation == number)
            )
        ]
        return ""

    def _secret_remove(self, call: Call) -> str:
        found = call.parse("revision")
        secret = self._managed(found.rest[0] if found.rest else "")
        text = found.options.get("revision", "0")
        if not text.isdecimal():
            raise ToolError(f'ERROR invalid value "{text}" for option --revision', 2)
        number = int(text)
        if number:
            secret.revisions.pop(number, None)
        if not number or not secret.revisions:
            self._secrets[secret.id] = None
        return ""

    # At once, not rolled back.

    def _status_get(self, call: Call) -> str:
        found = call.parse("format application", "include-data")
        if found.options.get("application", "").lower() == "true":
            if not self.leader:
                raise ToolError("ERROR finding application status: this unit is not the leader")
            status = self.application.status
            units = {unit.name: _status(unit.status) for unit in self.application.units.values()}
            return _show({"application-status": {**_status(status), "units": units}}, found)
        data = _status(self.unit.status)
        return _show(data if "include-data" in found.flags else data["status"], found)

    def _status_set(self, call: Call) -> str:
        found = call.parse("application")
        current, message = (*found.rest, "", "")[:2]
        if current not in {"active", "blocked", "maintenance", "waiting"}:
            raise ToolError(f'ERROR invalid status "{current}"', 2)
        status = self.unit.status
        if found.options.get("application", "").lower() == "true":
            if not self.leader:
                raise ToolError("ERROR setting application status: this unit is not the leader")
            status = self.application.status
        if (status.current, status.message) != (current, message):
            status.current, status.message, status.since = current, message, self._now()
        return ""

    def _juju_log(self, call: Call) -> str:
        found = call.parse("log-level l format", "debug")
        level = found.options.get("log-level") or found.options.get("l") or "INFO"
        self._log(level.upper(), " ".join(found.rest))
        return ""

    def _application_version_set(self, call: Call) -> str:
        found = call.parse()
        self.application.version = found.rest[0] if found.rest else ""
        return ""

    # Ports and charm state.

    def _open_port(self, call: Call) -> str:
        ports = self._current_ports()
        ports.extend(port for port in _ports(call) if port not in ports)
        return ""

    def _close_port(self, call: Call) -> str:
        closing = _ports(call)
        self._ports = [port for port in self._current_ports() if port not in closing]
        return ""

    def _opened_ports(self, call: Call) -> str:
        found = call.parse("format", "endpoints")
        return _show(sorted(self._current_ports()), found)

    def _current_ports(self) -> list[str]:
        if self._ports is None:
            self._ports = list(self.unit.ports)
        return self._ports

    def _state_get(self, call: Call) -> str:
        found = call.parse("format")
        state = self.unit.state if self._state is None else self._state
        return _show(state.get(found.rest[0]) if found.rest else state, found)

    def _state_set(self, call: Call) -> str:
        found = call.parse("file")
        state = dict(self.unit.state) if self._state is None else self._state
        if "file" in found.options:
            state.update(_string_map(call.stdin))
        state.update(_pairs(found.rest))
        self._state = state
        return ""

    def _state_delete(self, call: Call) -> str:
        state = dict(self.unit.state) if self._state is None else self._state
        for key in call.parse().rest:
            state.pop(key, None)
        self._state = state
        return ""

    # Actions.

    def _operation(self) -> model.Operation:
        if self.hook is None or self.hook.operation is None:
            raise ToolError("ERROR not running an action")
        return self.world.operations[self.hook.operation]

    def _action_get(self, call: Call) -> str:
        found = call.parse("format")
        value: typing.Any = self._operation().params
        for part in found.rest[0].split(".") if found.rest else []:
            value = value.get(part) if isinstance(value, dict) else None
        return _show(value, found)

    def _action_set(self, call: Call) -> str:
        self._operation()
        for key, value in _pairs(call.parse().rest).items():
            *parents, last = key.split(".")
            target = self.results
            for part in parents:
                # A value in the way is overwritten (juju jujuc/action-set.go, addValueToMap).
                if not isinstance(target.get(part), dict):
                    target[part] = {}
                target = target[part]
            target[last] = value
        return ""

    def _action_fail(self, call: Call) -> str:
        self._operation()
        found = call.parse()
        self.failure = (
            found.rest[0]
            if found.rest
            else "action failed without reason given, check action for errors"
        )
        return ""

    def _action_log(self, call: Call) -> str:
        self._operation().log.append((self._now(), " ".join(call.parse().rest)))
        return ""

    def _refuse(self, _call: Call) -> str:
        tool = self.calls[-1]
        raise ToolError(f"ERROR onebox has no hook tool {tool}: {_REFUSED[tool]}")

    def _now(self) -> str:
        return timestamp(self._clock())


def timestamp(moment: datetime.datetime) -> str:
    """Write a time as Juju's API does: RFC 3339, UTC, whole seconds."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def secret_id() -> str:
    """Make up the id of a secret: 20 characters, as Juju's xid."""
    alphabet = string.ascii_lowercase[:22] + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(20))


def bare_id(text: str) -> str:
    """Return the id in any of a secret's spellings: bare, ``secret:ID``, ``secret://MODEL/ID``."""
    return text.removeprefix("secret:").rpartition("/")[2]


def _show(value: typing.Any, found: Arguments) -> str:
    if found.options.get("format") == "json":
        return json.dumps(value)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value)
    return yaml.safe_dump(value, default_flow_style=False).rstrip("\n")


def _status(status: model.Status) -> dict[str, typing.Any]:
    return {"status": status.current, "message": status.message, "status-data": {}}


def _pairs(items: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ToolError(f'ERROR expected "key=value", got "{item}"', 2)
        found[key] = value
    return found


def _string_map(text: str) -> dict[str, str]:
    try:
        loaded = json.loads(text)
    except json.JSONDecodeError:
        try:
            loaded = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise ToolError(f"ERROR cannot read settings: {error}") from None
    if not isinstance(loaded, dict):
        raise ToolError("ERROR cannot read settings: expected a map")
    content = typing.cast(dict[object, object], loaded)
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ToolError(f"ERROR cannot read settings: value of {key!r} is not a string")
    return typing.cast(dict[str, str], loaded)


def _content(items: Sequence[str]) -> dict[str, str]:
    content = _pairs(items)
    for key in content:
        # Juju's rule for secret keys (core/secrets/createparams.go).
        if not re.fullmatch(r"[a-z](?:-?[a-z0-9]){2,}", key):
            raise ToolError(f'ERROR key "{key}" not valid')
    if sum(len(value) for value in content.values()) > 1024 * 1024:
        raise ToolError("ERROR secret content too large: 1 MiB is the limit")
    return content


def _ports(call: Call) -> list[str]:
    found = call.parse("endpoints format")
    ports: list[str] = []
    for item in found.rest:
        if item == "icmp":
            ports.append(item)
            continue
        match = re.fullmatch(r"(\d+)(?:-(\d+))?(?:/(tcp|udp))?", item.lower())
        if not match or not all(0 < int(p) < 65536 for p in match.groups()[:2] if p):
            raise ToolError(f'ERROR invalid port "{item}"', 2)
        last = f"-{match[2]}" if match[2] else ""
        ports.append(f"{match[1]}{last}/{match[3] or 'tcp'}")
    return ports


_TOOLS: dict[str, Callable[[Context, Call], str]] = {
    "action-fail": Context._action_fail,
    "action-get": Context._action_get,
    "action-log": Context._action_log,
    "action-set": Context._action_set,
    "application-version-set": Context._application_version_set,
    "close-port": Context._close_port,
    "config-get": Context._config_get,
    "goal-state": Context._goal_state,
    "is-leader": Context._is_leader,
    "juju-log": Context._juju_log,
    "network-get": Context._network_get,
    "open-port": Context._open_port,
    "opened-ports": Context._opened_ports,
    "relation-get": Context._relation_get,
    "relation-ids": Context._relation_ids,
    "relation-list": Context._relation_list,
    "relation-model-get": Context._relation_model_get,
    "relation-set": Context._relation_set,
    "resource-get": Context._resource_get,
    "secret-add": Context._secret_add,
    "secret-get": Context._secret_get,
    "secret-grant": Context._secret_grant,
    "secret-ids": Context._secret_ids,
    "secret-info-get": Context._secret_info_get,
    "secret-remove": Context._secret_remove,
    "secret-revoke": Context._secret_revoke,
    "secret-set": Context._secret_set,
    "state-delete": Context._state_delete,
    "state-get": Context._state_get,
    "state-set": Context._state_set,
    "status-get": Context._status_get,
    "status-set": Context._status_set,
    "storage-get": Context._storage_get,
    "storage-list": Context._storage_list,
}

_REFUSED = {
    "credential-get": "there is no Kubernetes to give credentials of",
    "juju-reboot": "there is no machine to reboot, as in a model on Kubernetes",
    "storage-add": "storage is asked for by `juju deploy`",
}
_TOOLS |= dict.fromkeys(_REFUSED, Context._refuse)

NAMES = tuple(sorted(_TOOLS))
"""Every hook tool; each is a link to `hooktool` in the charm container."""
