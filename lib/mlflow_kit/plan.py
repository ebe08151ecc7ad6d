"""What shall run in a workload container: pure values, no Juju and no I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Directory:
    """A directory in the workload container.

    Attributes:
        path: absolute path.
        mode: permission bits.
        user_id: numeric owner; images name their users differently, numbers work on all.
        group_id: numeric group.
        purge: whether files in it that the plan does not name are removed. Used for the
            directories that hold credentials, which must vanish with their relation.
        keep: whether it is only made where it is missing, and left alone with whatever mode
            and owner it has once it is there. Used for directories on storage: what lies in
            them exists nowhere else.
    """

    path: str
    mode: int = 0o755
    user_id: int = 0
    group_id: int = 0
    purge: bool = False
    keep: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """A file in the workload container.

    Attributes:
        path: absolute path.
        content: the whole text; not shown by ``repr`` since it may be a secret.
        mode: permission bits.
        user_id: numeric owner.
        group_id: numeric group.
    """

    path: str
    content: str = dataclasses.field(repr=False)
    mode: int = 0o644
    user_id: int = 0
    group_id: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """A Pebble health check without a level.

    It has no level because Kubernetes must not restart the container for a workload that
    Pebble itself can restart (ops how-to "Manage Pebble health checks").

    Attributes:
        name: check name.
        url: address for an HTTP check; exactly one of ``url`` and ``argv`` is set.
        argv: command for an exec check.
        period: seconds between runs.
        timeout: seconds until one run counts as failed.
        threshold: consecutive failures until the check is down.
    """

    name: str
    url: str = ""
    argv: tuple[str, ...] = ()
    period: float = 10
    timeout: float = 3
    threshold: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service:
    """A Pebble service.

    Attributes:
        name: service name.
        argv: program and arguments, never joined by a shell. No secrets: anyone may read it.
        environment: variables. No secrets either: Pebble shows them in its plan.
        working_dir: directory to start in; empty for Pebble's default.
        user_id: numeric user to run as.
        group_id: numeric group to run as.
        restart_on: paths of plan files whose change needs a restart.
        reload_on: paths of plan files whose change needs ``reload_signal`` only.
        reload_signal: for example ``SIGHUP``.
        kill_delay: seconds between SIGTERM and SIGKILL.
        one_shot: runs once to its end, and again only when its definition or a file in
            ``restart_on`` changes. Pebble runs it again while it fails.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    working_dir: str = ""
    user_id: int = 0
    group_id: int = 0
    restart_on: tuple[str, ...] = ()
    reload_on: tuple[str, ...] = ()
    reload_signal: str = "SIGHUP"
    kill_delay: float = 5
    one_shot: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a charm wants in one container; the empty plan stops everything.

    Attributes:
        services: in order of start.
        directories: parents first.
        files: written before any service starts.
        checks: health checks.
    """

    services: tuple[Service, ...] = ()
    directories: tuple[Directory, ...] = ()
    files: tuple[File, ...] = ()
    checks: tuple[Check, ...] = ()
