"""Break something on purpose, to see that the stack mends itself.

``onebox fault kind=KIND unit=UNIT ...``; `KINDS` says what there is. None of them touches anything
but the pods of this onebox.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pathlib
import select
import signal
import subprocess
import threading
import typing
from collections.abc import Callable, Iterator, Mapping

from onebox import changes, engine, model

Params = Mapping[str, typing.Any]


def inject(runner: engine.Engine, world: model.Model, params: Params) -> typing.Any:
    """Carry out a fault.

    Args:
        runner: the engine.
        world: the model.
        params: ``kind``, and what it needs: ``unit``, ``container`` (the charm's own by default),
            ``other`` (a unit), ``application``, ``seconds`` (until it ends by itself).

    Raises:
        changes.UserError: the fault does not exist, or what it aims at is not there.
    """
    kind = params.get("kind")
    if kind not in KINDS:
        raise changes.UserError(f"no fault {kind!r}; there are: {', '.join(sorted(KINDS))}")
    return KINDS[kind](runner, world, params)


def _pebble(runner: engine.Engine, world: model.Model, params: Params) -> int:
    return runner.init_pid(world.name, params["unit"], params.get("container"))


def _descendants(pid: int) -> Iterator[int]:
    """Return the processes below one, parents first."""
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                yield child
                yield from _descendants(child)


def _signal(processes: Iterator[int], number: signal.Signals) -> int:
    count = 0
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            count += 1
    return count


def _kill_workload(runner: engine.Engine, world: model.Model, params: Params) -> typing.Any:
    """Kill what Pebble runs in a container; Pebble itself lives."""
    return _signal(_descendants(_pebble(runner, world, params)), signal.SIGKILL)


def _freeze(runner: engine.Engine, world: model.Model, params: Params) -> typing.Any:
    """Stop the processes of a container for some seconds, as a host without CPU does."""
    pid = _pebble(runner, world, params)
    count = _signal(_descendants(pid), signal.SIGSTOP)
    _later(params, lambda: _signal(_descendants(pid), signal.SIGCONT))
    return count


def _kill_container(runner: engine.Engine, world: model.Model, params: Params) -> typing.Any:
    """Kill a container's Pebble, and with it all in the container."""
    os.kill(_pebble(runner, world, params), signal.SIGKILL)


def _kill_pods(runner: engine.Engine, world: model.Model, params: Params) -> typing.Any:
    """Kill every container of a unit, or of the whole model, at once."""
    with runner.lock:
        wanted = [
            (unit.name, container)
            for unit in world.units()
            if params.get("unit") in {None, unit.name}
            for container in (None, *world.applications[unit.application].charm.containers)
        ]
        with contextlib.ExitStack() as opened:
            processes: list[int] = []
            for unit, container in wanted:
                with contextlib.suppress(changes.UserError, ProcessLookupError):
                    descriptor = os.pidfd_open(runner.init_pid(world.name, unit, container))
                    opened.callback(os.close, descriptor)
                    processes.append(descriptor)
            # All are known before the first is killed: to ask for one takes longer than to come
            # back. And all have ended before the lock is free: of a pod that is half dead, the
            # dead half alone would be started again.
            for descriptor in processes:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            for descriptor in processes:
                select.select([descriptor], [], [])
    return len(wanted)


def _kill_hook(runner: engine.Engine, world: model.Model, params: Params) -> typing.Any:
    """Kill the hook that a unit is running."""
    if not runner.kill_hook(world.name, params["unit"]):
        raise changes.UserError(f"unit {params['unit']} is not running a hook")


def _cut(runner: engine.Engine, world: model.Model, params: Params) -> typing.Any:
    """Cut one unit's pod from another's for some seconds."""
    with runner.lock:
        address = changes.unit(world, params["other"]).address
    pid = runner.init_pid(world.name, params["unit"], None)
    _network(pid, "ip", "route", "add", "blackhole", f"{address}/32")
    _later(params, lambda: _network(pid, "ip", "route", "del", "blackhole", f"{address}/32"))


def _slow(runner: engine.Engine, world: model.Model, params: Params) -> typing.Any:
    """Limit what a unit's pod can send for some seconds; ``rate`` as tc writes it."""
    rate = str(params.get("rate", "1mbit"))
    pid = runner.init_pid(world.name, params["unit"], None)
    bucket = ("tbf", "rate", rate, "burst", "32kbit", "latency", "400ms")
    _network(pid, "tc", "qdisc", "replace", "dev", "eth0", "root", *bucket)
    _later(params, lambda: _network(pid, "tc", "qdisc", "del", "dev", "eth0", "root"))


def _fill(runner: engine.Engine, world: model.Model, params: Params) -> typing.Any:
    """Fill a unit's volumes for some seconds.

    The ballast is a file without a name that this process holds open, so servers do not see it,
    and the space is free again when the time is over or the daemon is killed. Storage without a
    size of its own is refused, because to fill it would be to fill this machine's disk.
    """
    with runner.lock:
        name = changes.unit(world, params["unit"]).name
        found = [s for s in world.storage.values() if s.unit == name and s.limited]
    # Asked of the machine as well, so that the disk is not filled in place of a lost mount.
    full = [storage.path for storage in found if os.path.ismount(storage.path)]
    if not full:
        raise changes.UserError(
            f"unit {name} has no volume; deploy it with --storage NAME=SIZE, for example 64M"
        )
    for path in full:
        ballast = os.open(path, os.O_TMPFILE | os.O_WRONLY)
        _take_all(ballast)
        _later(params, functools.partial(os.close, ballast))
    return len(full)


def _take_all(descriptor: int) -> None:
    """Allocate what is left of a filesystem to a file; no byte is written to the disk for it."""
    offset, size = 0, 1 << 40
    while size >= 512:
        try:
            os.posix_fallocate(descriptor, offset, size)
            offset += size
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EFBIG}:
                raise
            size //= 2


def _lose_leadership(runner: engine.Engine, world: model.Model, params: Params) -> typing.Any:
    """Let another unit of an application lead."""
    return runner.depose(world, params["application"])


def _network(pid: int, *argv: str) -> None:
    """Run a command of the host in a pod's network namespace."""
    done = subprocess.run(
        ["nsenter", f"--target={pid}", "--net", "--", *argv],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise changes.UserError(f"{' '.join(argv)}: {done.stderr.strip()}")


def _later(params: Params, end: Callable[[], object]) -> None:
    def run() -> None:
        # The pod may be gone by then, and what was done to it with it.
        with contextlib.suppress(changes.UserError):
            end()

    timer = threading.Timer(float(params.get("seconds", 10)), run)
    timer.daemon = True
    timer.start()


KINDS: dict[str, Callable[[engine.Engine, model.Model, Params], typing.Any]] = {
    "cut": _cut,
    "fill": _fill,
    "freeze": _freeze,
    "kill-container": _kill_container,
    "kill-hook": _kill_hook,
    "kill-pods": _kill_pods,
    "kill-workload": _kill_workload,
    "lose-leadership": _lose_leadership,
    "slow": _slow,
}
"""Every fault. Killing the daemon needs no help of the daemon: ``kill -9``."""
