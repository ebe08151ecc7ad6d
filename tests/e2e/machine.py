"""What the machine itself shows of a onebox: its processes, mounts and Pebbles."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator

from ops import pebble

from onebox import home, pods, stack

PROC = pathlib.Path("/proc")

_MOMENT = 0.5
"""Seconds that no command of a check takes."""


def processes(where: home.Home) -> list[int]:
    """Return the processes of a onebox: daemon, monitors, and all that runs in its pods."""
    own = {
        pid for pid in every_process() if _named(where, _command(pid)) or _is_daemon(where, pid)
    }
    found: set[int] = set()
    todo = list(own)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children(pid)
    return sorted(found)


def power_cut(where: home.Home) -> None:
    """Kill everything of a onebox at once, with no time to say goodbye."""
    while found := processes(where):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def fault(kind: str, *, model: str = stack.MODEL, **more: object) -> str:
    """Break something of the tests' own onebox; return why it could not be broken."""
    words = [f"{key}={value}" for key, value in {"kind": kind, "model": model, **more}.items()]
    onebox = stack.JUJU.with_name("onebox")
    done = subprocess.run([onebox, "fault", *words], capture_output=True, text=True, check=False)
    return done.stderr


def daemon(where: home.Home) -> int:
    """Return the process of the daemon."""
    found = [pid for pid in every_process() if _is_daemon(where, pid)]
    assert len(found) == 1, found
    return found[0]


def leftovers(where: home.Home) -> list[str]:
    """Return what is left of a onebox on this machine."""
    found = [f"process {pid}: {_command(pid)}" for pid in processes(where)]
    found += [f"mount {line}" for line in mounts(where)]
    for path in (where.path, pathlib.Path("/run") / where.prefix):
        if path.exists():
            found.append(str(path))
    listed = pods.podman("ps", "--all", "--format", "{{.Names}}") + pods.podman(
        "pod", "ps", "--format", "{{.Name}}"
    )
    found += [f"pod {name}" for name in listed.split() if name.startswith(f"{where.prefix}.")]
    networks = pods.podman("network", "ls", "--format", "{{.Name}}").split()
    return found + [f"network {name}" for name in networks if name == where.prefix]


def mounts(where: home.Home) -> list[str]:
    """Return the lines of /proc/mounts about the directories of a onebox."""
    lines = (PROC / "self" / "mounts").read_text().splitlines()
    return [line for line in lines if _named(where, line)]


def stopped(where: home.Home) -> list[int]:
    """Return the processes that a signal has stopped."""
    return [pid for pid in processes(where) if _state(pid) == "T"]


def containers(where: home.Home, model: str) -> Iterator[tuple[str, str, int]]:
    """Yield pod, container and process 1 of every container of a model that is up."""
    podman = pods.Podman(where.prefix, None, where.path)
    for pod in podman.pods():
        if pod.startswith(f"{model}."):
            folder = pathlib.Path("/run") / where.prefix / pod / "pids"
            for file in sorted(folder.glob("*")):
                # A pod that is being made anew has some of them already, and some no longer.
                with contextlib.suppress(FileNotFoundError, ValueError):
                    yield pod, file.name, int(file.read_text())


def workloads(where: home.Home, model: str) -> dict[str, list[int]]:
    """Return the processes of the services that Pebble runs, by ``pod.container``.

    What Pebble runs for a check is gone a moment later.
    """
    before = _workloads(where, model)
    time.sleep(_MOMENT)
    return {
        name: [pid for pid in pids if pid in before.get(name, ())]
        for name, pids in _workloads(where, model).items()
    }


def _workloads(where: home.Home, model: str) -> dict[str, list[int]]:
    return {
        f"{pod}.{container}": list(children(pid))
        for pod, container, pid in containers(where, model)
        if container not in {"charm", "sandbox"}
    }


def pebbles(where: home.Home, model: str) -> Iterator[tuple[str, pebble.Client]]:
    """Yield a client of each workload container's Pebble, with its ``pod.container``."""
    podman = pods.Podman(where.prefix, None, where.path)
    for pod, container, _ in containers(where, model):
        if container not in {"charm", "sandbox"}:
            yield f"{pod}.{container}", pebble.Client(str(podman.socket(pod, container)))


def starts(where: home.Home, model: str) -> collections.Counter[str]:
    """Return how often each service was started, by ``pod.container.service``.

    A task that starts services is about one: ``Start service "mlflow"``.
    """
    found: collections.Counter[str] = collections.Counter()
    for name, client in pebbles(where, model):
        for change in client.get_changes(pebble.ChangeState.ALL):
            for task in change.tasks:
                if task.kind == "start":
                    service = re.findall('"(.*)"', task.summary)[0]
                    found[f"{name}.{service}"] += 1
    return found


def _named(where: home.Home, text: str) -> bool:
    """Whether a text has the name of this onebox, and not of one whose name is longer."""
    names = f"{re.escape(where.prefix)}|{re.escape(str(where.path))}"
    return re.search(rf"({names})(?![\w-])", text) is not None


def _is_daemon(where: home.Home, pid: int) -> bool:
    if "onebox.daemon" not in _command(pid):
        return False
    try:
        environment = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"ONEBOX_HOME={where.path}".encode() in environment


def every_process() -> list[int]:
    """Return all processes of this machine."""
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def _command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def _state(pid: int) -> str:
    """Return the letter of proc(5) for what a process does; empty when it is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""


def children(pid: int) -> Iterator[int]:
    """Yield the processes that another one has started, or has inherited."""
    for task in (PROC / str(pid) / "task").glob("*/children"):
        try:
            yield from map(int, task.read_text().split())
        except OSError:
            continue
