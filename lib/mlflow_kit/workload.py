"""Make a workload container what a plan says; the only caller of Pebble."""

from __future__ import annotations

import dataclasses
import io
import logging
import shlex
import time

import ops

from mlflow_kit import plan as plans
from mlflow_kit import problems

logger = logging.getLogger(__name__)

LABEL = "charm"


@dataclasses.dataclass(frozen=True)
class Health:
    """What runs in the container now.

    Attributes:
        problems: reasons not to be active, empty when every service runs and every check has
            run and is up.
        restarted: names of the services that this call started, restarted or stopped.
    """

    problems: tuple[problems.Problem, ...] = ()
    restarted: tuple[str, ...] = ()

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
        changed = _write(container, plan)
        restarted = _run(container, plan, changed)
        if restarted and settle:
            _settle(container, plan, settle)
    except ops.pebble.ConnectionError:
        return _unreachable(container)
    except ops.pebble.ChangeError as error:
        # The text of the error holds the service's last output lines: it goes to Pebble's own
        # log, not to ours, since a program may print a secret.
        logger.error("Pebble change failed: kind %s", error.change.kind if error.change else "?")
        return Health((problems.waiting("workload does not start; see its log"),))
    found = observe(container, plan)
    return dataclasses.replace(found, restarted=restarted)


def observe(container: ops.Container, plan: plans.Plan) -> Health:
    """Say what runs, without changing anything."""
    wanted = [service.name for service in plan.services if not service.one_shot]
    try:
        services = container.get_services(*wanted) if wanted else {}
        checks = container.get_checks() if plan.checks else {}
    except ops.pebble.ConnectionError:
        return _unreachable(container)
    found: list[problems.Problem] = []
    for name in wanted:
        if name not in services or not services[name].is_running():
            found.append(problems.waiting(f"{name} is not running"))
    for check in plan.checks:
        info = checks.get(check.name)
        # A new Pebble check is "up" until it has failed often enough, so only a check that has
        # run and has not failed since proves anything.
        if info is None or not info.has_run:
            found.append(problems.waiting(f"{check.name} is starting"))
        elif info.status != ops.pebble.CheckStatus.UP or info.failures:
            found.append(problems.waiting(f"{check.name} does not answer its health check"))
    return Health(tuple(found))


def read_text(container: ops.Container, path: str) -> str | None:
    """Return a text file of the container, or None when it or the container is not there."""
    try:
        return container.pull(path).read()
    except (ops.pebble.PathError, ops.pebble.ConnectionError):
        return None


def _unreachable(container: ops.Container) -> Health:
    return Health((problems.waiting(f"container {container.name} is not ready"),))


def _write(container: ops.Container, plan: plans.Plan) -> set[str]:
    """Bring directories and files to the plan; return the paths that changed."""
    for directory in plan.directories:
        _ensure_directory(container, directory)
    changed = {file.path for file in plan.files if _ensure_file(container, file)}
    named = {file.path for file in plan.files} | {d.path for d in plan.directories}
    for directory in plan.directories:
        if directory.purge:
            for found in container.list_files(directory.path):
                if found.path not in named:
                    container.remove_path(found.path, recursive=True)
                    changed.add(found.path)
    return changed


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


def _ensure_file(container: ops.Container, file: plans.File) -> bool:
    found = _stat(container, file.path)
    same = (
        found is not None
        and found.permissions == file.mode
        and (found.user_id, found.group_id) == (file.user_id, file.group_id)
        and read_text(container, file.path) == file.content
    )
    if same:
        return False
    # Pebble writes to a temporary name and renames, so no reader sees half a file.
    container.push(
        file.path,
        io.BytesIO(file.content.encode()),
        make_dirs=True,
        permissions=file.mode,
        user_id=file.user_id,
        group_id=file.group_id,
    )
    return True


def _stat(container: ops.Container, path: str) -> ops.pebble.FileInfo | None:
    try:
        return container.list_files(path, itself=True)[0]
    except ops.pebble.APIError as error:
        if error.code == 404:
            return None
        raise


def _run(container: ops.Container, plan: plans.Plan, changed: set[str]) -> tuple[str, ...]:
    """Add the layer where it differs, then start, restart, signal or stop what needs it."""
    current = container.get_plan()
    running = {name for name, info in container.get_services().items() if info.is_running()}
    wanted = {service.name for service in plan.services}
    layer = _layer(plan, current)
    before = current.to_dict()
    after = layer.to_dict()
    if any(
        before.get(part, {}).get(name) != after.get(part, {}).get(name)
        for part in ("services", "checks")
        for name in after.get(part, {})
    ):
        container.add_layer(LABEL, layer, combine=True)

    stop = sorted(running - wanted)
    if stop:
        container.stop(*stop)
    restart: list[str] = []
    for service in plan.services:
        differs = before.get("services", {}).get(service.name) != after["services"][service.name]
        stale = differs or not changed.isdisjoint(service.restart_on)
        if stale or (service.name not in running and not service.one_shot):
            restart.append(service.name)
        elif not changed.isdisjoint(service.reload_on) and service.name in running:
            container.send_signal(service.reload_signal, service.name)
    if restart:
        container.restart(*restart)
    return (*stop, *restart)


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
        "kill-delay": f"{service.kill_delay:g}s",
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
        "period": f"{check.period:g}s",
        "timeout": f"{check.timeout:g}s",
        "threshold": check.threshold,
    }
    if check.url:
        found["http"] = {"url": check.url}
    else:
        found["exec"] = {"command": shlex.join(check.argv)}
    return found


def _settle(container: ops.Container, plan: plans.Plan, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if observe(container, plan).ok:
            return
        time.sleep(0.1)
