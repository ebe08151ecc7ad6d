"""Run units: their pods, their hooks one after the other, and what their Pebbles report.

A unit has a worker thread, which asks `events` what comes next; a workload container has a
watcher thread. All share one lock; `changed` is called under it whenever the model differs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import http.client
import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from onebox import (
    changes,
    events,
    home,
    hookclient,
    hookserver,
    hooktools,
    model,
    pebble,
    pods,
    unpack,
    volumes,
)

CHARM_IMAGE = "localhost/onebox/base:latest"
LOOK_AGAIN = 30.0
"""Seconds after which a unit at rest looks whether its pod is still there. The watchers of its
containers notice sooner; a charm without containers has none."""

SLOWEST = 1.0
"""Seconds between two hooks of the slowest unit when a seed shuffles the order: longer than most
hooks take, so that other units are done with many meanwhile."""

TOOLS = "/var/lib/juju/tools"
RUN = "/var/lib/juju/run"


@dataclasses.dataclass
class Command:
    """A command to be run in a unit between two hooks (``juju exec``)."""

    argv: Sequence[str]
    timeout: float
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    code: int = 1
    stdout: str = ""
    stderr: str = ""


class Engine:
    """Runs the units of every model.

    Args:
        directory: where this onebox lives.
        world: its models.
        podman: its pods.
        save: makes the model last; called with the lock held, after every change.
    """

    def __init__(
        self,
        directory: home.Home,
        world: model.World,
        podman: pods.Podman,
        save: Callable[[], None],
    ):
        self.lock = threading.Condition(threading.RLock())
        self.world = world
        self._home = directory
        self._podman = podman
        self._save = save
        self._workers: dict[tuple[str, str], threading.Thread] = {}
        self._commands: dict[tuple[str, str], list[Command]] = {}
        self._running: dict[tuple[str, str], subprocess.Popen[str]] = {}
        self._stopping = False
        self._logs = threading.Lock()
        tools = directory.path / "tools"
        run = directory.path / "run"
        for path in (tools, run):
            path.mkdir(parents=True, exist_ok=True)
        hookclient.install(tools)
        self._hooks = hookserver.HookServer(run / "hook.sock", self.lock)

    # Starting and stopping.

    def start(self) -> None:
        """Take up every unit where it was."""
        self._hooks.start()
        with self.lock:
            for found in self.world.models.values():
                changes.interrupted(found)
            self.changed()

    def stop(self) -> None:
        """Let running hooks end, and run no more."""
        with self.lock:
            self._stopping = True
            self.lock.notify_all()
        for worker in list(self._workers.values()):
            worker.join(timeout=60)
        self._hooks.stop()

    def changed(self) -> None:
        """Save the model and let everyone look at it again. The lock must be held."""
        for found in self.world.models.values():
            for storage in changes.collect(found):
                volumes.remove(storage)
            for app in found.applications.values():
                changes.roll(app)
            for unit in found.units():
                key = (found.name, unit.name)
                if key not in self._workers and not self._stopping:
                    worker = threading.Thread(
                        target=self._work, args=key, name=f"{found.name}.{unit.name}", daemon=True
                    )
                    self._workers[key] = worker
                    worker.start()
        self._save()
        self.lock.notify_all()

    # A unit's life.

    def _work(self, model_name: str, unit_name: str) -> None:
        key = (model_name, unit_name)
        draw = self._draw(model_name, unit_name)
        pause = self._pause(model_name, unit_name)
        found = self._find(key)
        if found is not None and not self._pod_due(*found):
            # The pod was there before this daemon.
            for container in found[0].applications[found[1].application].charm.containers:
                self._watch(model_name, unit_name, container)
        try:
            while self._step(key, draw):
                time.sleep(pause)
        finally:
            with self.lock:
                self._workers.pop(key, None)
                self.lock.notify_all()

    def _step(self, key: tuple[str, str], draw: events.Choose) -> bool:
        """Do the next thing for a unit; False when there is nothing left to do for good."""
        found = self._find(key)
        if found is None or self._stopping:
            return False
        world, unit = found
        if events.settled(unit):
            self._remove(world, unit)
            return False
        if self._pod_due(world, unit):
            try:
                self._make_pod(world, unit)
            except (pods.PodmanError, OSError, ValueError) as error:
                self._pod_failed(world, unit, error)
                self._rest(5)
            return True
        with self.lock:
            commands = self._commands.get(key, [])
            command = commands.pop(0) if commands else None
            hook = None if command else events.next_hook(world, unit, time.time(), draw)
            if command is None and hook is None:
                if unit.agent.current == "executing":
                    self._agent(unit, "idle")
                    self.changed()
                self.lock.wait(timeout=self._until_due(world, unit))
                return True
        if command is not None:
            self._run_command(world, unit, command)
        elif hook is not None:
            self._run_hook(world, unit, hook)
        return True

    def _find(self, key: tuple[str, str]) -> tuple[model.Model, model.Unit] | None:
        with self.lock:
            world = self.world.models.get(key[0])
            if world is None:
                return None
            try:
                return world, world.unit(key[1])
            except KeyError:
                return None

    def _draw(self, model_name: str, unit_name: str) -> events.Choose:
        """Return how to choose among hooks whose order is open: the first, or by the seed."""
        world = self.world.models[model_name]
        if world.seed is None:
            return events.first
        return events.shuffled(world.seed, unit_name)

    def _pause(self, model_name: str, unit_name: str) -> float:
        """Return the seconds that a unit is slower than others, by the seed."""
        seed = self.world.models[model_name].seed
        return 0 if seed is None else random.Random(f"{seed}/{unit_name}").uniform(0, SLOWEST)

    def _rest(self, seconds: float) -> None:
        with self.lock:
            if not self._stopping:
                self.lock.wait(timeout=seconds)

    def _until_due(self, world: model.Model, unit: model.Unit) -> float:
        """Return the seconds until a timer of the unit may be due."""
        due = [unit.update_status or events.NEVER]
        if unit.failure is not None:
            due.append(unit.failure.retry_at)
        for secret in world.secrets.values():
            due.extend(
                datetime.datetime.fromisoformat(text).timestamp()
                for text in (
                    secret.rotate_next,
                    *(revision.expire for revision in secret.revisions.values()),
                )
                if text
            )
        return min(max(min(due) - time.time(), 0.05), LOOK_AGAIN)

    # Pods.

    def _pod_due(self, world: model.Model, unit: model.Unit) -> bool:
        app = world.applications[unit.application]
        if not unit.address or not self._podman.alive(self._pod_name(world, unit), None):
            return True
        # A unit in error gets its new charm all the same: Kubernetes replaces the pod.
        return unit.replace and (unit.stopped or unit.failure is not None) and bool(app.units)

    def _pod_name(self, world: model.Model, unit: model.Unit) -> str:
        return f"{world.name}.{unit.name.replace('/', '-')}"

    def _make_pod(self, world: model.Model, unit: model.Unit) -> None:
        """Make, start again or replace the pod of a unit, and take note of its address."""
        name = self._pod_name(world, unit)
        app = world.applications[unit.application]
        with self.lock:
            replaced = unit.replace
            made_from = changes.pod_hash(app)
            charm, wanted = app.charm, self._pod(world, app, unit)
            storages = [s for s in world.storage.values() if s.unit == unit.name and s.attached]
            # When nothing of a pod runs it is lost, as on a node that went down: Kubernetes makes
            # a new one. A single container that died is only started again.
            containers = (None, *charm.containers)
            lost = not any(self._podman.alive(name, container) for container in containers)
        fresh = replaced or lost or unit.pod != made_from
        if fresh:
            self._podman.remove(name)
            with self.lock:
                # Before the new Pebble can boot: what its watcher says of it must not be wiped
                # away, since it says so only once.
                events.new_pod(unit)
                self.changed()
            self._unpack(world, unit, charm, app.resources)
        for storage in storages:
            volumes.ensure(storage)
        self._podman.ensure(wanted)
        address = self._podman.address(name)
        with self.lock:
            unit.pod = made_from
            if unit.address != address:
                self._moved(world, unit, address)
            changes.elect(app)
            if unit.status.message == "installing agent":
                self._status(unit.status, "waiting", "agent initialising")
            self.changed()
        for container in app.charm.containers:
            self._watch(world.name, unit.name, container)

    def _pod(self, world: model.Model, app: model.Application, unit: model.Unit) -> pods.Pod:
        suffixes = ("", f".{world.name}", f".{world.name}.svc", f".{world.name}.svc.cluster.local")
        own = f"{app.name}-{unit.number}.{app.name}-endpoints"
        mounts = [
            (str(self._unit_directory(world, unit)), f"/var/lib/juju/agents/{_tag(unit)}"),
            (str(self._home.path / "tools"), TOOLS),
            (str(self._home.path / "run"), RUN),
        ]
        storages = [s for s in world.storage.values() if s.unit == unit.name and s.attached]
        mounts.extend((s.path, f"/var/lib/juju/storage/{s.id}") for s in storages)
        containers = [
            pods.Container(
                name=spec.name,
                image=app.resources[spec.resource],
                mounts=tuple(
                    (storage.path, location)
                    for wanted, location in spec.mounts
                    for storage in storages
                    if storage.name == wanted
                ),
            )
            for spec in app.charm.containers.values()
        ]
        return pods.Pod(
            name=self._pod_name(world, unit),
            aliases=(*(app.name + s for s in suffixes), *(own + s for s in suffixes)),
            containers=tuple(containers),
            charm_image=CHARM_IMAGE,
            mounts=tuple(mounts),
            publish=tuple(app.publish) if unit.number == 0 else (),
        )

    def _unit_directory(self, world: model.Model, unit: model.Unit) -> pathlib.Path:
        return self._home.model(world.name) / unit.name.replace("/", "-")

    def _unpack(
        self,
        world: model.Model,
        unit: model.Unit,
        charm: model.Charm,
        resources: Mapping[str, str],
    ) -> None:
        """Put a fresh copy of the charm where the pod will see it; the old state is lost."""
        directory = self._unit_directory(world, unit)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(
            unpack.unpacked(self._home.path, charm), directory / "charm", symlinks=True
        )
        for name, image in resources.items():
            path = directory / "resources" / name
            path.mkdir(parents=True)
            # What Juju gives for an image: its address and a login (juju docker resource file).
            text = json.dumps({"registrypath": image, "username": "", "password": ""})
            (path / f"{name}.yaml").write_text(text)

    def _moved(self, world: model.Model, unit: model.Unit, address: str) -> None:
        unit.address = address
        for relation in world.relations.values():
            if unit.name in relation.scope:
                events.enter_scope(relation, unit)
                relation.bag(unit.name).version += 1

    def _pod_failed(self, world: model.Model, unit: model.Unit, error: Exception) -> None:
        self.log(world.name, "controller", "ERROR", "juju.worker.caas", f"{unit.name}: {error}")
        with self.lock:
            self._status(unit.status, "waiting", f"pod cannot start: {error}")
            self.changed()

    def _remove(self, world: model.Model, unit: model.Unit) -> None:
        """Take down the pod of a unit that has run its last hook, and forget the unit."""
        self._podman.remove(self._pod_name(world, unit))
        shutil.rmtree(self._unit_directory(world, unit), ignore_errors=True)
        with self.lock:
            self._workers.pop((world.name, unit.name), None)
            changes.drop_unit(world, unit.name, str(self.storage_root(world)))
            self.changed()

    def storage_root(self, world: model.Model) -> pathlib.Path:
        """Return the directory that holds a model's storage."""
        return self._home.model(world.name) / "storage"

    # Workload containers.

    def _watch(self, model_name: str, unit_name: str, container: str) -> None:
        name = f"{model_name}.{unit_name}:{container}"
        if any(thread.name == name for thread in threading.enumerate()):
            return
        threading.Thread(
            target=self._watch_container,
            args=(model_name, unit_name, container),
            name=name,
            daemon=True,
        ).start()

    def _watch_container(self, model_name: str, unit_name: str, container: str) -> None:
        key = (model_name, unit_name)
        pause = 0.1
        while not self._stopping:
            found = self._find(key)
            if found is None:
                return
            world, unit = found
            name = self._pod_name(world, unit)
            try:
                path = self._podman.socket(name, container)
                boot = pebble.boot_id(path)
                self._report_boot(unit, container, boot)
                while not self._stopping and unit.boots.get(container) == boot:
                    news, after = pebble.notices(path, container, unit.noticed.get(container, ""))
                    self._report(unit, container, news, after)
                pause = 0.1
            except (OSError, http.client.HTTPException, ValueError):
                if self._find(key) is None:
                    return
                self._revive(world, unit, container)
                time.sleep(pause)
                pause = min(pause * 2, 2)

    def _report_boot(self, unit: model.Unit, container: str, boot: str) -> None:
        with self.lock:
            if unit.boots.get(container) == boot:
                return
            unit.boots[container] = boot
            event = model.WorkloadEvent("pebble-ready", container, boot)
            if event not in unit.workload:
                unit.workload.append(event)
            self.changed()

    def _report(
        self, unit: model.Unit, container: str, news: list[model.WorkloadEvent], after: str
    ) -> None:
        if not news and unit.noticed.get(container, "") == after:
            return
        with self.lock:
            unit.noticed[container] = after
            unit.workload.extend(event for event in news if event not in unit.workload)
            self.changed()

    def _revive(self, world: model.Model, unit: model.Unit, container: str) -> None:
        """Restart a container whose Pebble died while its pod lives, as Kubernetes does."""
        name = self._pod_name(world, unit)
        with self.lock:
            busy = unit.replace or unit.life is model.Life.DYING or self._stopping
            if not self._podman.alive(name, None):
                # The whole pod is gone: that is for the unit's worker to see.
                self.lock.notify_all()
                return
        if busy or self._podman.alive(name, container):
            return
        with contextlib.suppress(pods.PodmanError):
            self._podman.restart_container(name, container)

    # Hooks.

    def _run_hook(self, world: model.Model, unit: model.Unit, hook: model.Hook) -> None:
        key = (world.name, unit.name)
        with self.lock:
            events.join(world, unit)
            operation = self._begin_operation(world, unit, hook)
            label = f"running {hook.name} " + ("action" if operation else "hook")
            self._agent(unit, "executing", label.strip())
            context = self._context(world, unit, hook)
            self.changed()
        began = time.monotonic()
        path = f"{'actions' if operation else 'hooks'}/{hook.name}"
        done = self._dispatch(world, unit, context, [f"{_charm(unit)}/dispatch"], hook, path)
        with self.lock:
            if self._find(key) is None:
                return
            if operation is not None:
                self._end_operation(operation, context, done)
            elif done.code == 0:
                context.commit()
                events.succeeded(world, unit, hook, time.time())
            else:
                self._failed(world, unit, hook)
            self._record(world, unit, hook, context, done.code, time.monotonic() - began)
            if events.next_hook(world, unit, time.time()) is None:
                self._agent(unit, "idle")
            self.changed()

    def _failed(self, world: model.Model, unit: model.Unit, hook: model.Hook) -> None:
        if unit.replace and hook.kind == "stop":
            # Kubernetes does not wait for a hook to succeed before it ends a pod.
            unit.stopped = True
            return
        retry = str(world.config.get("automatically-retry-hooks", "true")).lower() != "false"
        events.failed(unit, hook, time.time(), retry=retry)
        self.log(
            world.name,
            _tag(unit),
            "ERROR",
            "juju.worker.uniter.operation",
            f'hook "{hook.name}" (via hook dispatching script: dispatch) failed: exit status 1',
        )

    def _context(
        self, world: model.Model, unit: model.Unit, hook: model.Hook | None
    ) -> hooktools.Context:
        module = f"unit.{unit.name}.juju-log"
        prefix = f"{hook.endpoint}:{hook.relation}: " if hook and hook.relation is not None else ""
        resources = f"/var/lib/juju/agents/{_tag(unit)}/resources"
        return hooktools.Context(
            world,
            unit,
            hook,
            lambda level, message: self.log(
                world.name, _tag(unit), level, module, prefix + message
            ),
            clock=_now,
            resource=lambda name: f"{resources}/{name}/{name}.yaml",
        )

    def _dispatch(
        self,
        world: model.Model,
        unit: model.Unit,
        context: hooktools.Context,
        argv: Sequence[str],
        hook: model.Hook | None,
        path: str,
        timeout: float | None = None,
    ) -> Command:
        """Run a program of the charm with the hook tools at hand, and wait for its end."""
        identifier = f"{unit.name}-{hook.name if hook else 'exec'}-{secrets.token_hex(12)}"
        environment = hook_environment(world, unit, hook, path, identifier)
        result = Command(argv, timeout or 0)
        self._hooks.open(identifier, context)
        key = (world.name, unit.name)
        pid_file = self._unit_directory(world, unit) / "hook.pid"
        try:
            process = subprocess.Popen(
                self._podman.enter(
                    self._pod_name(world, unit), None, argv, environment, _charm(unit)
                ),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._running[key] = process
            pid_file.write_text(str(process.pid))
            try:
                result.stdout, result.stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                _kill(process.pid)
                result.stdout, result.stderr = process.communicate()
            result.code = process.returncode
        except pods.PodmanError as error:
            result.stderr = str(error)
        finally:
            self._running.pop(key, None)
            self._hooks.close(identifier)
            with contextlib.suppress(OSError):
                pid_file.unlink()
        if hook is not None and hook.operation is None:
            module = f"unit.{unit.name}.{hook.name}"
            for level, text in (("DEBUG", result.stdout), ("WARNING", result.stderr)):
                for line in text.splitlines():
                    self.log(world.name, _tag(unit), level, module, line)
        return result

    def _run_command(self, world: model.Model, unit: model.Unit, command: Command) -> None:
        with self.lock:
            context = self._context(world, unit, None)
        done = self._dispatch(
            world, unit, context, command.argv, None, "", command.timeout or None
        )
        with self.lock:
            if done.code == 0:
                context.commit()
            self.changed()
        command.code, command.stdout, command.stderr = done.code, done.stdout, done.stderr
        command.done.set()

    def execute(self, model_name: str, unit_name: str, command: Command) -> None:
        """Run a command in a unit, with hook tools, once the running hook has ended."""
        with self.lock:
            self._commands.setdefault((model_name, unit_name), []).append(command)
            self.lock.notify_all()
        command.done.wait()

    def enter(
        self, model_name: str, unit_name: str, container: str | None
    ) -> tuple[list[str], dict[str, str]]:
        """Return the command line that leads into a container of a unit, and its environment."""
        found = self._find((model_name, unit_name))
        if found is None:
            raise changes.UserError(f'unit "{unit_name}" not found')
        world, unit = found
        name = self._pod_name(world, unit)
        if (
            container is not None
            and container not in world.applications[unit.application].charm.containers
        ):
            raise changes.UserError(f'unit "{unit_name}" has no container "{container}"')
        environment = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8"}
        if container is not None:
            environment |= {
                "JUJU_CONTAINER_NAME": container,
                "PEBBLE": "/charm/container/pebble",
                "PEBBLE_SOCKET": "/charm/container/pebble.socket",
            }
        argv = self._podman.enter(name, container, ["/bin/true"], environment, "/")
        return argv[:-1], environment

    def _begin_operation(
        self, world: model.Model, unit: model.Unit, hook: model.Hook
    ) -> model.Operation | None:
        if hook.operation is None:
            return None
        operation = world.operations[hook.operation]
        operation.status, operation.started = "running", hooktools.timestamp(_now())
        unit.actions.remove(operation.id)
        return operation

    def _end_operation(
        self, operation: model.Operation, context: hooktools.Context, done: Command
    ) -> None:
        operation.completed = hooktools.timestamp(_now())
        operation.results = {**context.results, "return-code": done.code}
        if done.stdout:
            operation.results["stdout"] = done.stdout
        if done.stderr:
            operation.results["stderr"] = done.stderr
        bad = "aborted" if operation.status == "aborting" else "failed"
        failed = done.code != 0 or context.failure is not None
        operation.status = bad if failed else "completed"
        operation.message = context.failure or (f"exit status {done.code}" if done.code else "")
        if done.code == 0:
            # An action that says it failed has still run to its end: what it wrote counts.
            context.commit()

    def busy(self, world: model.Model) -> list[str]:
        """Return the units that have something to do now; the lock must be held."""
        return [unit.name for unit in world.units() if self._is_busy(world, unit)]

    def _is_busy(self, world: model.Model, unit: model.Unit) -> bool:
        containers = world.applications[unit.application].charm.containers
        name = self._pod_name(world, unit)
        return (
            (world.name, unit.name) in self._running
            or unit.failure is not None
            or unit.replace
            or unit.life is model.Life.DYING
            or unit.agent.current == "executing"
            or set(unit.boots) != set(containers)
            or not all(self._podman.alive(name, one) for one in (None, *containers))
            or events.next_hook(world, unit, time.time()) is not None
        )

    def kill_hook(self, model_name: str, unit_name: str) -> bool:
        """Kill the hook that a unit is running; return whether there was one."""
        with self.lock:
            process = self._running.get((model_name, unit_name))
            if process is None:
                return False
            _kill(process.pid)
            return True

    def init_pid(self, model_name: str, unit_name: str, container: str | None) -> int:
        """Return the process id of a container's Pebble."""
        pid = self._podman.init_pid(f"{model_name}.{unit_name.replace('/', '-')}", container)
        if pid is None:
            raise changes.UserError(f"container {container or 'charm'} of {unit_name} is not up")
        return pid

    def depose(self, world: model.Model, name: str) -> str:
        """Move the lead of an application to another unit, between two hooks of its leader."""
        with self.lock:
            app = changes.application(world, name)
            while app.leader and (world.name, app.leader) in self._running:
                self.lock.wait(timeout=1)
            leader = changes.depose(app)
            if leader is None:
                raise changes.UserError(f'application "{name}" has no other unit to lead it')
            self.changed()
            return leader

    # Small things.

    def _agent(self, unit: model.Unit, current: str, message: str = "") -> None:
        self._status(unit.agent, current, message)

    def _status(self, status: model.Status, current: str, message: str = "") -> None:
        if (status.current, status.message) != (current, message):
            status.current, status.message = current, message
            status.since = hooktools.timestamp(_now())

    def _record(
        self,
        world: model.Model,
        unit: model.Unit,
        hook: model.Hook,
        context: hooktools.Context,
        code: int,
        seconds: float,
    ) -> None:
        """Append a line on a hook to the model's ``hooks.jsonl``, for tests and the curious."""
        line = {
            "time": time.time(),
            "unit": unit.name,
            "hook": hook.name,
            "relation": hook.relation,
            "remote": hook.remote_unit or hook.remote_application,
            "code": code,
            "seconds": round(seconds, 4),
            "tools": context.calls,
        }
        with self._logs, (self._home.model(world.name) / "hooks.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def log(self, model_name: str, entity: str, level: str, module: str, message: str) -> None:
        """Append a line to a model's debug-log."""
        directory = self._home.model(model_name)
        directory.mkdir(parents=True, exist_ok=True)
        line = {
            "time": hooktools.timestamp(_now()),
            "entity": entity,
            "level": level,
            "module": module,
            "message": message,
        }
        with self._logs, (directory / "debug.log").open("a") as file:
            file.write(json.dumps(line) + "\n")


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def hook_environment(
    world: model.Model, unit: model.Unit, hook: model.Hook | None, path: str, context: str
) -> dict[str, str]:
    """Return the environment of a dispatch (juju `HookVars`, see juju-runtime 1.1)."""
    found = {
        "PATH": f"{TOOLS}:{_PATH}",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "CHARM_DIR": _charm(unit),
        "JUJU_CHARM_DIR": _charm(unit),
        "JUJU_CONTEXT_ID": context,
        "JUJU_AGENT_SOCKET_ADDRESS": f"{RUN}/hook.sock",
        "JUJU_AGENT_SOCKET_NETWORK": "unix",
        "JUJU_DISPATCH_PATH": path,
        "JUJU_HOOK_NAME": hook.name if hook and hook.operation is None else "",
        "JUJU_UNIT_NAME": unit.name,
        "JUJU_MODEL_NAME": world.name,
        "JUJU_MODEL_UUID": world.uuid,
        "JUJU_VERSION": model.JUJU_VERSION,
        "JUJU_MACHINE_ID": "",
        "JUJU_PRINCIPAL_UNIT": "",
        "JUJU_AVAILABILITY_ZONE": "",
        "CLOUD_API_VERSION": "",
        "JUJU_API_ADDRESSES": "",
    }
    return found if hook is None else {**found, **_hook_variables(world, hook)}


def _hook_variables(world: model.Model, hook: model.Hook) -> dict[str, str]:
    found: dict[str, str] = {}
    if hook.relation is not None:
        found["JUJU_RELATION"] = hook.endpoint
        found["JUJU_RELATION_ID"] = f"{hook.endpoint}:{hook.relation}"
        found["JUJU_REMOTE_APP"] = hook.remote_application
        found["JUJU_REMOTE_UNIT"] = hook.remote_unit
        if hook.departing:
            found["JUJU_DEPARTING_UNIT"] = hook.departing
    elif hook.workload is not None:
        found["JUJU_WORKLOAD_NAME"] = hook.workload.container
        if hook.workload.notice_id:
            found["JUJU_NOTICE_ID"] = hook.workload.notice_id
            found["JUJU_NOTICE_TYPE"] = "custom"
            found["JUJU_NOTICE_KEY"] = hook.workload.notice_key
        if hook.workload.check:
            found["JUJU_PEBBLE_CHECK_NAME"] = hook.workload.check
    elif hook.secret:
        found["JUJU_SECRET_ID"] = f"secret:{hook.secret}"
        found["JUJU_SECRET_LABEL"] = hook.secret_label
        if hook.secret_revision:
            found["JUJU_SECRET_REVISION"] = str(hook.secret_revision)
    elif hook.storage:
        found["JUJU_STORAGE_ID"] = hook.storage
        found["JUJU_STORAGE_LOCATION"] = f"/var/lib/juju/storage/{hook.storage}"
        found["JUJU_STORAGE_KIND"] = "filesystem"
    elif hook.operation is not None:
        found["JUJU_ACTION_NAME"] = hook.name
        found["JUJU_ACTION_UUID"] = world.operations[hook.operation].uuid
        found["JUJU_ACTION_TAG"] = f"action-{hook.operation}"
    return found


def kill_stale_hooks(directory: home.Home) -> None:
    """Kill hooks that a daemon which is gone has left running."""
    for path in directory.path.glob("m/*/*/hook.pid"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(path.read_text())
            if b"nsenter" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                _kill(pid)
        path.unlink(missing_ok=True)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _charm(unit: model.Unit) -> str:
    return f"/var/lib/juju/agents/{_tag(unit)}/charm"


def _tag(unit: model.Unit) -> str:
    return "unit-" + unit.name.replace("/", "-")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
