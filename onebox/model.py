"""What a onebox knows: pure data, saved as one JSON document.

Nothing here decides anything: `events` says which hook a unit runs next, `hooktools` what a hook
reads and writes, `daemon` does it. Words are Juju's own (application, unit, endpoint, databag).
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Iterator

import msgspec

JUJU_VERSION = "3.6.25"
"""What charms read in JUJU_VERSION: the release whose behaviour is copied, see docs."""


class Life(enum.Enum):
    """How far the removal of an entity has got."""

    ALIVE = "alive"
    DYING = "dying"


class Status(msgspec.Struct):
    """A status with the time (RFC 3339, UTC) since when it holds."""

    current: str = "unknown"
    message: str = ""
    since: str = ""


class Bag(msgspec.Struct):
    """One databag; ``version`` counts the commits that changed it."""

    version: int = 0
    data: dict[str, str] = msgspec.field(default_factory=dict)


class Endpoint(msgspec.Struct, frozen=True):
    """One side of a relation."""

    application: str
    name: str
    interface: str
    role: typing.Literal["provider", "requirer", "peer"]

    def __str__(self) -> str:
        return f"{self.application}:{self.name}"


class Relation(msgspec.Struct):
    """A relation between two endpoints, or the units of one (a peer relation).

    Attributes:
        bags: by application name and by unit name.
        scope: units that have entered the relation and not left it.
    """

    id: int
    endpoints: list[Endpoint]
    life: Life = Life.ALIVE
    bags: dict[str, Bag] = msgspec.field(default_factory=dict)
    scope: list[str] = msgspec.field(default_factory=list)

    @property
    def peer(self) -> bool:
        """Whether both sides are the same application's units."""
        return len(self.endpoints) == 1

    def local(self, application: str) -> Endpoint:
        """Return the endpoint of an application. Raises: KeyError if it has none."""
        for endpoint in self.endpoints:
            if endpoint.application == application:
                return endpoint
        raise KeyError(application)

    def remote(self, application: str) -> Endpoint:
        """Return the endpoint opposite to an application (its own in a peer relation)."""
        for endpoint in self.endpoints:
            if endpoint.application != application:
                return endpoint
        return self.endpoints[0]

    def bag(self, owner: str) -> Bag:
        """Return the databag of an application or a unit."""
        return self.bags.setdefault(owner, Bag())


class Grant(msgspec.Struct, frozen=True):
    """Access to a secret: for an application or unit, through a relation or for good."""

    target: str
    relation: int | None = None


class Consumer(msgspec.Struct):
    """What one unit knows of a secret that it reads.

    Attributes:
        tracked: the revision that secret-get returns.
        notified: the newest revision that secret-changed was sent for.
    """

    label: str = ""
    tracked: int = 0
    notified: int = 0


class Revision(msgspec.Struct):
    """One content of a secret."""

    content: dict[str, str]
    created: str
    expire: str | None = None
    obsolete_sent: bool = False
    expired_sent: float = 0


class Secret(msgspec.Struct):
    """A secret.

    Attributes:
        owner: an application or unit name; empty for one made by the user.
        name: the user's name for it; empty for a charm's.
        auto_prune: whether old revisions of a user's secret go once nobody tracks them.
        rotate: Juju's policy name.
        rotate_next: when secret-rotate is due, RFC 3339.
    """

    id: str
    owner: str
    name: str = ""
    label: str = ""
    description: str = ""
    auto_prune: bool = False
    rotate: str = "never"
    rotate_next: str | None = None
    created: str = ""
    latest: int = 1
    revisions: dict[int, Revision] = msgspec.field(default_factory=dict)
    grants: list[Grant] = msgspec.field(default_factory=list)
    consumers: dict[str, Consumer] = msgspec.field(default_factory=dict)


class Storage(msgspec.Struct):
    """A storage instance: a directory of this machine.

    Attributes:
        id: ``name/number``.
        unit: the unit it belongs to; a unit of this name that comes back finds it again.
        attached: whether the unit is there.
        size: MiB.
        limited: whether it is a volume of this size; otherwise it is as large as the disk.
    """

    id: str
    unit: str
    path: str
    attached: bool = True
    size: int = 1024
    limited: bool = False

    @property
    def name(self) -> str:
        """The name in the charm's metadata."""
        return self.id.split("/", maxsplit=1)[0]


class WorkloadEvent(msgspec.Struct, frozen=True):
    """Something that Pebble reported: a ready container, a custom notice, a check.

    Attributes:
        stamp: sets one occurrence apart from the next, which may come while the hook for the
            first is running, and needs a hook of its own.
    """

    kind: typing.Literal[
        "pebble-ready", "pebble-custom-notice", "pebble-check-failed", "pebble-check-recovered"
    ]
    container: str
    stamp: str = ""
    notice_id: str = ""
    notice_key: str = ""
    check: str = ""


class Hook(msgspec.Struct, frozen=True):
    """One dispatch of a charm.

    Attributes:
        name: as in JUJU_HOOK_NAME; an action's name when ``operation`` is set.
        departing: for relation-departed, the unit that leaves.
        operation: id of the action's `Operation`.
        token: what the hook is about to tell (a databag version, a hash of the configuration, a
            secret's revision), so that news that comes while it runs is told again.
    """

    name: str
    token: str = ""
    relation: int | None = None
    endpoint: str = ""
    remote_application: str = ""
    remote_unit: str = ""
    departing: str = ""
    workload: WorkloadEvent | None = None
    secret: str = ""
    secret_label: str = ""
    secret_revision: int = 0
    storage: str = ""
    operation: int | None = None

    @property
    def kind(self) -> str:
        """The name without its endpoint, container or storage: ``relation-changed``, ..."""
        prefix = self.endpoint or (self.workload.container if self.workload else "")
        prefix = prefix or self.storage.split("/", maxsplit=1)[0]
        return self.name.removeprefix(f"{prefix}-") if prefix else self.name


class Failure(msgspec.Struct):
    """A hook that ended with an error and is run again before anything but actions.

    Attributes:
        retry_at: seconds since the epoch.
    """

    hook: Hook
    attempts: int = 1
    retry_at: float = 0


class RelationView(msgspec.Struct):
    """What a unit has been told of one relation.

    Attributes:
        members: by remote unit, the databag version of its last relation-changed; -1 between
            relation-joined and the relation-changed that always follows it.
        application: the version of the remote application's databag of the last
            relation-changed for it.
        broken: relation-broken has succeeded; nothing more comes for this relation.
    """

    created: bool = False
    members: dict[str, int] = msgspec.field(default_factory=dict)
    application: int = 0
    broken: bool = False


class Unit(msgspec.Struct):
    """A unit, and how far its hooks have got.

    Attributes:
        life: dying once its removal was asked for.
        pod: `changes.pod_hash` of what its pod was made from; empty before it has one.
        noticed: by container, the time of the last Pebble notice that was taken.
        installed, started, leader_elected, stopped, removed: which hooks have succeeded.
        upgrade: upgrade-charm is due, as after each new pod of a unit that was installed.
        replace: its pod is to be replaced (refresh, new image) once its stop hook has run.
        config: hash of what the last config-changed was for; empty before the first.
        boots: by container, Pebble's boot id of the last pebble-ready.
        workload: reported by Pebble and not yet handled, oldest first.
        actions: ids waiting to be run, oldest first.
        storage: ids whose storage-attached has succeeded.
        update_status: when update-status is due, seconds since the epoch.
        state: what the charm keeps with state-set.
    """

    name: str
    life: Life = Life.ALIVE
    address: str = ""
    pod: str = ""
    noticed: dict[str, str] = msgspec.field(default_factory=dict)
    installed: bool = False
    started: bool = False
    leader_elected: bool = False
    stopped: bool = False
    removed: bool = False
    upgrade: bool = False
    replace: bool = False
    config: str = ""
    boots: dict[str, str] = msgspec.field(default_factory=dict)
    workload: list[WorkloadEvent] = msgspec.field(default_factory=list)
    actions: list[int] = msgspec.field(default_factory=list)
    relations: dict[int, RelationView] = msgspec.field(default_factory=dict)
    storage: list[str] = msgspec.field(default_factory=list)
    update_status: float = 0
    failure: Failure | None = None
    ports: list[str] = msgspec.field(default_factory=list)
    state: dict[str, str] = msgspec.field(default_factory=dict)
    status: Status = msgspec.field(default_factory=lambda: Status("waiting", "installing agent"))
    agent: Status = msgspec.field(default_factory=lambda: Status("allocating"))

    @property
    def application(self) -> str:
        """The application's name."""
        return self.name.split("/", maxsplit=1)[0]

    @property
    def number(self) -> int:
        """The ordinal."""
        return int(self.name.split("/", maxsplit=1)[1])


class Option(msgspec.Struct, frozen=True):
    """A charm's config option."""

    type: typing.Literal["string", "int", "float", "boolean", "secret"] = "string"
    default: str | int | float | bool | None = None
    description: str = ""


class ActionSpec(msgspec.Struct, frozen=True):
    """A charm's action: its JSON schema as Juju builds it."""

    description: str = ""
    params: dict[str, typing.Any] = msgspec.field(default_factory=dict)
    required: list[str] = msgspec.field(default_factory=list)
    additional: bool = True


class StorageSpec(msgspec.Struct, frozen=True):
    """A charm's storage declaration; ``size`` in MiB."""

    name: str
    location: str = ""
    size: int = 1024
    minimum: int = 1


class EndpointSpec(msgspec.Struct, frozen=True):
    """An endpoint in a charm's metadata; ``limit`` 0 means any number of relations."""

    name: str
    interface: str
    role: typing.Literal["provider", "requirer", "peer"]
    limit: int = 0
    optional: bool = True


class ContainerSpec(msgspec.Struct, frozen=True):
    """A workload container: its image resource, and (storage name, path) of its mounts."""

    name: str
    resource: str
    mounts: list[tuple[str, str]] = msgspec.field(default_factory=list)


class Charm(msgspec.Struct, frozen=True):
    """The parts of a packed charm's metadata that Juju acts on.

    Attributes:
        name: the charm's name.
        digest: SHA-256 of the ``.charm`` file: two files with the same bytes are one charm.
        path: the file as the user named it, absolute.
        endpoints: by name.
        containers: by name.
        storage: by name.
        resources: by name of an OCI image resource, the image that its ``upstream-source`` names
            (empty without one).
    """

    name: str
    digest: str
    path: str
    summary: str = ""
    endpoints: dict[str, EndpointSpec] = msgspec.field(default_factory=dict)
    containers: dict[str, ContainerSpec] = msgspec.field(default_factory=dict)
    storage: dict[str, StorageSpec] = msgspec.field(default_factory=dict)
    resources: dict[str, str] = msgspec.field(default_factory=dict)
    options: dict[str, Option] = msgspec.field(default_factory=dict)
    actions: dict[str, ActionSpec] = msgspec.field(default_factory=dict)


class Application(msgspec.Struct):
    """An application.

    Attributes:
        revision: counts the local charms it has had, from 0, as Juju's ``local:name-0``.
        config: what the user has set; defaults come from the charm.
        resources: image by resource name.
        publish: (port on 127.0.0.1 of this machine, port in the pod) of unit 0.
        leader: the leading unit; None while no unit is up.
        scale: how many units the user wants.
    """

    name: str
    charm: Charm
    revision: int = 0
    channel: str = ""
    life: Life = Life.ALIVE
    config: dict[str, typing.Any] = msgspec.field(default_factory=dict)
    trust: bool = False
    exposed: bool = False
    scale: int = 1
    resources: dict[str, str] = msgspec.field(default_factory=dict)
    storage: dict[str, str] = msgspec.field(default_factory=dict)
    publish: list[tuple[int, int]] = msgspec.field(default_factory=list)
    leader: str | None = None
    units: dict[str, Unit] = msgspec.field(default_factory=dict)
    status: Status = msgspec.field(default_factory=lambda: Status("waiting", "installing agent"))
    version: str = ""
    destroy_storage: bool = False

    def settings(self) -> dict[str, typing.Any]:
        """Return the options that have a value: set by the user, else the charm's default."""
        found = {
            name: option.default
            for name, option in self.charm.options.items()
            if option.default is not None
        }
        return {**found, **self.config}


class Operation(msgspec.Struct):
    """An action that was asked for, and what came of it.

    Attributes:
        id: the number that users see.
        uuid: what the charm sees.
        status: Juju's words.
        log: (time, message).
    """

    id: int
    unit: str
    action: str
    uuid: str
    params: dict[str, typing.Any] = msgspec.field(default_factory=dict)
    status: typing.Literal[
        "pending", "running", "aborting", "completed", "failed", "cancelled", "aborted"
    ] = "pending"
    message: str = ""
    results: dict[str, typing.Any] = msgspec.field(default_factory=dict)
    log: list[tuple[str, str]] = msgspec.field(default_factory=list)
    enqueued: str = ""
    started: str = ""
    completed: str = ""


class Model(msgspec.Struct):
    """A Juju model; `World` holds all of them.

    Attributes:
        config: model-config values that were set.
        seed: of the order in which what Juju leaves open happens; None for the plain order.
        next_*: numbers that are never given twice.
    """

    name: str
    uuid: str
    life: Life = Life.ALIVE
    created: str = ""
    config: dict[str, typing.Any] = msgspec.field(default_factory=dict)
    seed: int | None = None
    applications: dict[str, Application] = msgspec.field(default_factory=dict)
    relations: dict[int, Relation] = msgspec.field(default_factory=dict)
    secrets: dict[str, Secret] = msgspec.field(default_factory=dict)
    storage: dict[str, Storage] = msgspec.field(default_factory=dict)
    operations: dict[int, Operation] = msgspec.field(default_factory=dict)
    next_relation: int = 0
    next_operation: int = 1
    next_storage: int = 0

    def units(self) -> Iterator[Unit]:
        """Return the units of all applications, in order."""
        for application in self.applications.values():
            yield from application.units.values()

    def unit(self, name: str) -> Unit:
        """Return a unit. Raises: KeyError if it is not there."""
        return self.applications[name.split("/", maxsplit=1)[0]].units[name]

    def relations_of(self, application: str) -> Iterator[Relation]:
        """Return the relations that an application takes part in, by id."""
        for relation in self.relations.values():
            if any(endpoint.application == application for endpoint in relation.endpoints):
                yield relation

    def is_leader(self, unit: str) -> bool:
        """Return whether a unit leads its application."""
        return self.applications[unit.split("/", maxsplit=1)[0]].leader == unit

    def may_read(self, secret: Secret, unit: str) -> bool:
        """Return whether a unit may read a secret's content."""
        application = unit.split("/", maxsplit=1)[0]
        if secret.owner in {unit, application}:
            return True
        return any(grant.target in {unit, application} for grant in secret.grants)


class World(msgspec.Struct):
    """Every model of this onebox: what is saved."""

    models: dict[str, Model] = msgspec.field(default_factory=dict)
    current: str = ""
