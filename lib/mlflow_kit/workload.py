"""Make a workload container what a plan says; the only caller of Pebble.

A hook can die between any two steps, and Juju then runs it again. So what still has to happen
to a service is written down in the container (`_DUE`) before anything is changed, and crossed
out when it has happened.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http
import io
import logging
import posixpath
import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias, cast

import ops

from mlflow_kit import plan as plans
from mlflow_kit import problems

logger = logging.getLogger(__name__)

LABEL = "charm"

_DUE = "/run/charm/due"
"""Directory of empty files ``<service>.restart`` and ``<service>.reload``."""

_ENDED_SOON = "exited quickly"
"""What Pebble says of a service that ran (Pebble 1.32, ``servstate/handlers.go``, ``exited``)."""

_EXEC_TIMEOUT = 20.0
"""Seconds; what is run here answers within one."""

_Layer: TypeAlias = Mapping[str, Mapping[str, object]]


@dataclasses.dataclass(frozen=True)
class Health:
    """What runs in the container now.

    Attributes:
        problems: reasons not to be active, empty when every service runs and every check has
            run and is up.
        restarted: names of the services that this call started, restarted or stopped.
        starting: whether every service runs and no check is down yet, but not every one has
            succeeded: an address that was published stays good for this moment.
        faltering: whether a check that had succeeded fails, but not often enough to be down.
    """

    problems: tuple[problems.Problem, ...] = ()
    restarted: tuple[str, ...] = ()
    starting: bool = False
    faltering: bool = False

    @property
    def ok(self) -> bool:
        """Whether the workload serves."""
        return not self.problems


def apply(
    container: ops.Container,
    plan: plans.Plan,
    *,
    settle: float = 0,
) -> Health:
    """Write the files that differ, restart only what changed, and say what runs.

    Args:
        container: the workload container.
        plan: what shall be there; the empty plan stops every service.
        settle: seconds to wait for the checks after something was started. Only for programs
            that start within a second or two; slower ones announce themselves by a notice.

    Raises:
        ops.pebble.APIError: Pebble refused a request; a fault in the plan, so the hook fails.
    """
    try:
        restarted = _bring(container, plan)
    except ops.pebble.ConnectionError:
        return _unreachable(container)
    except (ops.pebble.ChangeError, ops.pebble.TimeoutError):
        # The text of a ChangeError holds the service's last lines of output. They are in
        # Pebble's log; the charm's log must not repeat what a program may have printed.
        logger.warning("a service of container %s did not start or stop", container.name)
        return Health((problems.waiting("workload does not start; see its log"),))
    if restarted:
        health = _observe_until(container, plan, settle, lambda found: found.ok)
    else:
        # No event follows when the next run of a check succeeds, and the unit would wait for
        # update-status with a server that was slow to answer once.
        next_run = max((check.period + check.timeout for check in plan.checks), default=0)
        health = _observe_until(container, plan, next_run, lambda found: not found.faltering)
    return dataclasses.replace(health, restarted=restarted)


def observe(container: ops.Container, plan: plans.Plan) -> Health:
    """Say what runs, without changing anything."""
    wanted = [service.name for service in plan.services if not service.one_shot]
    try:
        running = _running(container)
        checks = container.get_checks()
    except ops.pebble.ConnectionError:
        return _unreachable(container)
    down = [problems.waiting(f"{name} is not running") for name in wanted if name not in running]
    waiting: list[problems.Problem] = []
    faltering = False
    for check in plan.checks:
        info = checks.get(check.name)
        # A new Pebble check is "up" until it has failed often enough, so only a check that has
        # run and has not failed since proves anything.
        if info is None or not info.has_run:
            waiting.append(problems.waiting(f"{check.name} is starting"))
        elif info.status != ops.pebble.CheckStatus.UP:
            down.append(problems.waiting(f"{check.name} does not answer its health check"))
        elif info.failures and not info.successes:
            waiting.append(problems.waiting(f"{check.name} is starting"))
        elif info.failures:
            waiting.append(problems.waiting(f"{check.name} does not answer its health check"))
            faltering = True
    return Health((*down, *waiting), starting=bool(waiting) and not down, faltering=faltering)


def serves(container: ops.Container) -> bool:
    """Whether all that was last asked of the container runs and answers.

    Pebble alone is asked, so it costs a charm next to nothing. Juju announces each new input by
    an event of its own; so in update-status an active charm has nothing to do while this holds,
    and need not read its relations once more.
    """
    try:
        services = container.get_services().values()
        infos = container.get_checks()
        lost = _lost(container, infos)
    except ops.pebble.ConnectionError:
        return False
    wanted = [one for one in services if one.startup is ops.pebble.ServiceStartup.ENABLED]
    asked = [one for one in infos.values() if one.startup is not ops.pebble.CheckStartup.DISABLED]
    return (
        bool(wanted)
        and not lost
        and all(one.is_running() for one in wanted)
        and all(
            one.has_run and one.status is ops.pebble.CheckStatus.UP and not one.failures
            for one in asked
        )
    )


def runs(container: ops.Container, service: str) -> bool:
    """Whether a service runs, whatever its checks say."""
    try:
        return service in _running(container)
    except ops.pebble.ConnectionError:
        return False


def read_text(container: ops.Container, path: str) -> str | None:
    """Return a text file of the container, or None when it or the container is not there."""
    try:
        # Bytes that are no text must not raise here: they differ from what is expected.
        with container.pull(path, encoding=None) as file:
            return file.read().decode(errors="replace")
    except (ops.pebble.PathError, ops.pebble.ConnectionError):
        return None


def accepts(
    container: ops.Container,
    file: plans.File,
    argv: Sequence[str],
    *,
    directories: Sequence[plans.Directory] = (),
) -> bool:
    """Ask a program of the container whether a file is good, before it replaces another.

    Args:
        container: the workload container.
        file: the file to try, under a path that nothing else reads; it is removed afterwards.
        argv: the program and its arguments, run as the owner of the file; exit code 0 says yes.
        directories: made first, since the program may look for them.

    Raises:
        ops.pebble.APIError: the program is not in the image; the hook fails.
        ops.pebble.ConnectionError: the container is not ready.
    """
    for directory in directories:
        _ensure_directory(container, directory)
    _push(container, file)
    process = container.exec(
        list(argv),
        user_id=file.user_id,
        group_id=file.group_id,
        timeout=_EXEC_TIMEOUT,
        # Takes any bytes: what the program says is not read.
        encoding="latin-1",
        combine_stderr=True,
    )
    try:
        process.wait_output()
    except (ops.pebble.ExecError, ops.pebble.ChangeError, ops.pebble.TimeoutError):
        # The reason is not passed on, since it may quote the file.
        return False
    finally:
        container.remove_path(file.path, recursive=True)
    return True


def output(container: ops.Container, argv: Sequence[str]) -> str | None:
    """Return what a program prints, or None when the container is not there or it fails."""
    try:
        process = container.exec(list(argv), timeout=_EXEC_TIMEOUT, combine_stderr=True)
        return process.wait_output()[0]
    except (
        ops.pebble.APIError,
        ops.pebble.ChangeError,
        ops.pebble.ConnectionError,
        ops.pebble.ExecError,
        ops.pebble.TimeoutError,
    ):
        return None


def _unreachable(container: ops.Container) -> Health:
    return Health((problems.waiting(f"container {container.name} is not ready"),))


def _running(container: ops.Container) -> set[str]:
    return {name for name, info in container.get_services().items() if info.is_running()}


def _bring(container: ops.Container, plan: plans.Plan) -> tuple[str, ...]:
    """Bring the container to the plan; return the services that were stopped or started."""
    for directory in plan.directories:
        _ensure_directory(container, directory)
    listed = _listed(container, plan)
    files = [file for file in plan.files if _differs(container, file, listed.get(file.path))]
    surplus = _surplus(plan, listed)
    changed = {file.path for file in files} | set(surplus)
    current = container.get_plan()
    layer = _layer(plan, current)
    defined = cast("_Layer", current.to_dict())
    wanted = cast("_Layer", layer.to_dict())

    services = _part(defined, "services")
    restart, reload = _due(container)
    for service in plan.services:
        name = service.name
        differs = services.get(name) != _part(wanted, "services").get(name)
        if differs or not changed.isdisjoint(service.restart_on):
            restart.add(name)
        elif not changed.isdisjoint(service.reload_on):
            reload.add(name)
    _mark(container, restart, reload)

    for file in files:
        _push(container, file)
    for path in surplus:
        container.remove_path(path, recursive=True)
    if any(
        _part(defined, part).get(name) != definition
        for part in ("services", "checks")
        for name, definition in _part(wanted, part).items()
    ):
        container.add_layer(LABEL, layer, combine=True)
    return _run(container, plan, restart, reload)


def _part(layer: _Layer, part: str) -> Mapping[str, object]:
    """Return the services or the checks of a layer or plan."""
    return layer.get(part, {})


def _run(
    container: ops.Container, plan: plans.Plan, restart: set[str], reload: set[str]
) -> tuple[str, ...]:
    """Stop, start, restart and signal; cross out what has happened."""
    running = _running(container)
    stop = sorted(running - {service.name for service in plan.services})
    # What stops now may still have the kill delay of an older plan; ops' 30 s are for itself.
    patience = 30 + max((service.kill_delay for service in plan.services), default=30)
    if stop:
        container.pebble.stop_services(stop, timeout=patience)
    started: list[str] = []
    for service in plan.services:
        if service.name in restart:
            started.append(service.name)
        elif service.one_shot:
            continue
        elif service.name not in running:
            started.append(service.name)
        elif service.name in reload:
            container.send_signal(service.reload_signal, service.name)
    one_shots = {service.name for service in plan.services if service.one_shot}
    lasting = [name for name in started if name not in one_shots]
    with contextlib.ExitStack() as afterwards:
        # Whatever fails: a one-shot that cannot start is no reason to leave a service down.
        afterwards.callback(_run_checks, container, plan)
        afterwards.callback(_restart, container, lasting, patience)
        for name in started:
            if name in one_shots:
                _start_one_shot(container, name)
    if restart or reload:
        container.remove_path(_DUE, recursive=True)
    return (*stop, *started)


def _restart(container: ops.Container, names: Sequence[str], patience: float) -> None:
    if names:
        # Before, not after: who waits for the new process, as the workload's programs do, must
        # not find what the checks have found of the old one.
        active, lost = _checks(container)
        _stop_checks(container, active - lost)
        container.pebble.restart_services(names, timeout=patience)


def _stop_checks(container: ops.Container, names: Collection[str]) -> None:
    """Stop checks by their names."""
    if names:
        # A check that the plan disables goes on until it is stopped by name. By the client and
        # not by the Container, which reports each stop as "monitoring disabled" to the security
        # log: here it is the other way round.
        container.pebble.stop_checks(sorted(names))


def _run_checks(container: ops.Container, plan: plans.Plan) -> None:
    """Have the checks of the plan running, and no other."""
    wanted = {check.name for check in plan.checks}
    active, lost = _checks(container)
    surplus = active - lost - wanted
    if surplus:
        _stop_checks(container, surplus)
        active, lost = _checks(container)
    start = wanted - active
    if start:
        container.pebble.start_checks(sorted(start))
    if lost:
        # To stop a lost check crashes Pebble, to start it does nothing. A new plan starts what
        # has no change that is under way, or takes it for inactive when it is disabled.
        container.add_layer(LABEL, _layer(plan, container.get_plan()), combine=True)


def _checks(container: ops.Container) -> tuple[set[str], set[str]]:
    """Return the checks that are not inactive, and those of them that Pebble has lost."""
    infos = container.get_checks()
    return _active(infos), _lost(container, infos)


def _active(infos: Mapping[str, ops.pebble.CheckInfo]) -> set[str]:
    return {name for name, info in infos.items() if info.status != ops.pebble.CheckStatus.INACTIVE}


def _lost(container: ops.Container, infos: Mapping[str, ops.pebble.CheckInfo]) -> set[str]:
    """Return the checks that count as running and are never performed again.

    A check that is just being performed when it is stopped may write afterwards that it is
    running (Pebble 1.32, ``checkstate/handlers.go``, between the last look at its tomb and
    ``updateCheckData``). Pebble then takes it for running and never performs it again. What tells
    is that the change by which it was performed has ended.
    """
    ended = {name for name in _active(infos) if _ended(container, infos[name])}
    if ended:
        # A check that begins to fail or to recover goes on under another change.
        infos_now = container.get_checks()
        ended = {name for name in ended if infos_now[name].change_id == infos[name].change_id}
    return ended


def _ended(container: ops.Container, info: ops.pebble.CheckInfo) -> bool:
    """Whether the change by which Pebble performs a check is over."""
    if not info.change_id:
        return False
    try:
        return container.pebble.get_change(info.change_id).ready
    except ops.pebble.APIError as error:
        if error.code == http.HTTPStatus.NOT_FOUND:
            return True
        raise


def _start_one_shot(container: ops.Container, name: str) -> None:
    try:
        container.restart(name)
    except ops.pebble.ChangeError as error:
        if _ENDED_SOON not in error.err:
            raise
        # Pebble takes a service that ends within a second for one that could not start. For a
        # one-shot it is no news: its result is what it leaves behind, and Pebble runs it again
        # when it has failed.
        logger.debug("one-shot %s ended within a second", name)


def _due(container: ops.Container) -> tuple[set[str], set[str]]:
    """Return what a hook that died has left to restart and to reload."""
    restart: set[str] = set()
    reload: set[str] = set()
    for found in _list(container, _DUE):
        name, _, what = found.name.rpartition(".")
        (restart if what == "restart" else reload).add(name)
    return restart, reload


def _mark(container: ops.Container, restart: set[str], reload: set[str]) -> None:
    due = {f"{name}.restart" for name in restart} | {f"{name}.reload" for name in reload}
    for name in sorted(due):
        container.push(f"{_DUE}/{name}", "", make_dirs=True)


def _listed(container: ops.Container, plan: plans.Plan) -> dict[str, ops.pebble.FileInfo]:
    """Return what lies beside the plan's files and in the directories to purge, by path.

    One request for each directory takes less than one for each file.
    """
    folders = {posixpath.dirname(file.path) for file in plan.files}
    folders |= {directory.path for directory in plan.directories if directory.purge}
    return {found.path: found for folder in sorted(folders) for found in _list(container, folder)}


def _surplus(plan: plans.Plan, listed: Collection[str]) -> list[str]:
    """Return what lies in the directories to purge and is not in the plan."""
    named = {file.path for file in plan.files} | {d.path for d in plan.directories}
    purge = {directory.path for directory in plan.directories if directory.purge}
    return [path for path in listed if posixpath.dirname(path) in purge and path not in named]


def _ensure_directory(container: ops.Container, directory: plans.Directory) -> None:
    found = _stat(container, directory.path)
    if found is not None and directory.keep:
        return
    if (
        found is not None
        and found.permissions == directory.mode
        and (found.user_id, found.group_id) == (directory.user_id, directory.group_id)
    ):
        return
    if found is not None:
        # Pebble cannot change the mode of a directory that exists; one with the wrong owner
        # was left by something else, and its content is not ours to trust.
        container.remove_path(directory.path, recursive=True)
    container.make_dir(
        directory.path,
        make_parents=True,
        permissions=directory.mode,
        user_id=directory.user_id,
        group_id=directory.group_id,
    )


def _differs(
    container: ops.Container, file: plans.File, found: ops.pebble.FileInfo | None
) -> bool:
    return (
        found is None
        or found.permissions != file.mode
        or (found.user_id, found.group_id) != (file.user_id, file.group_id)
        or read_text(container, file.path) != file.content
    )


def _push(container: ops.Container, file: plans.File) -> None:
    # Pebble writes to a temporary name and renames, so no reader sees half a file.
    container.push(
        file.path,
        io.BytesIO(file.content.encode()),
        make_dirs=True,
        permissions=file.mode,
        user_id=file.user_id,
        group_id=file.group_id,
    )


def _stat(container: ops.Container, path: str) -> ops.pebble.FileInfo | None:
    return next(iter(_list(container, path, itself=True)), None)


def _list(
    container: ops.Container, path: str, *, itself: bool = False
) -> list[ops.pebble.FileInfo]:
    """Return what lies in a directory, or what a path is; nothing where nothing is."""
    try:
        return container.list_files(path, itself=itself)
    except ops.pebble.APIError as error:
        if error.code == http.HTTPStatus.NOT_FOUND:
            return []
        raise


def _layer(plan: plans.Plan, current: ops.pebble.Plan) -> ops.pebble.Layer:
    """Return the layer for the plan, with what it no longer names disabled.

    Pebble cannot remove a service or a check from its plan (it can only override it).
    """
    services: dict[str, ops.pebble.ServiceDict] = {}
    for name in current.services:
        services[name] = {"override": "replace", "command": "true", "startup": "disabled"}
    for service in plan.services:
        services[service.name] = _service(service)
    checks: dict[str, ops.pebble.CheckDict] = {}
    for name in current.checks:
        checks[name] = {
            "override": "replace",
            "startup": "disabled",
            "exec": {"command": "true"},
        }
    for check in plan.checks:
        checks[check.name] = _check(check)
    return ops.pebble.Layer({"services": services, "checks": checks})


def _service(service: plans.Service) -> ops.pebble.ServiceDict:
    found: ops.pebble.ServiceDict = {
        "override": "replace",
        "command": shlex.join(service.argv),
        # A one-shot is started by name: as "enabled" it would run again at each start.
        "startup": "disabled" if service.one_shot else "enabled",
        "on-success": "ignore" if service.one_shot else "restart",
        "kill-delay": _duration(service.kill_delay),
        "user-id": service.user_id,
        "group-id": service.group_id,
    }
    if service.environment:
        found["environment"] = dict(service.environment)
    if service.working_dir:
        found["working-dir"] = service.working_dir
    return found


def _check(check: plans.Check) -> ops.pebble.CheckDict:
    found: ops.pebble.CheckDict = {
        "override": "replace",
        "startup": "enabled",
        "period": _duration(check.period),
        # Pebble cuts the timeout to the period, and says so in its plan.
        "timeout": _duration(min(check.timeout, check.period)),
        "threshold": check.threshold,
    }
    if check.url:
        found["http"] = {"url": check.url}
    else:
        found["exec"] = {"command": shlex.join(check.argv)}
    return found


def _duration(seconds: float) -> str:
    """Write a duration as Pebble prints it in its plan, so that both compare equal.

    The form is that of ``String`` of Go's ``time.Duration``: ``500ms``, ``1.5s``, ``1m0s``.
    """
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _observe_until(
    container: ops.Container,
    plan: plans.Plan,
    seconds: float,
    done: Callable[[Health], bool],
) -> Health:
    """Say what runs, once that is as wanted or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        health = observe(container, plan)
        if done(health) or time.monotonic() >= deadline:
            return health
        time.sleep(0.1)
