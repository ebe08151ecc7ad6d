"""``make down``: remove what `up` has made on this machine, but for what checkouts share.

What to remove is found by the names that only this onebox gives, and not by what its state says,
which may be gone; so it also works after a crash, and twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Iterator

from onebox import console, engine, home, images, pods

_PATIENCE = 30.0
"""Seconds for the daemon to end."""


def down() -> int:
    """Remove the stack of this checkout, say what was removed, and return the exit code."""
    return console.guarded("down", _down)


def _down(where: home.Home) -> None:
    with without_daemon(where) as killed:
        removed = [f"the daemon (process {pid})" for pid in killed]
        removed += _remove(where)
    for line in removed or ["nothing was there"]:
        console.say(f"removed {line}" if removed else line)
    console.say(
        f"kept what other checkouts share: {pods.cache()} and the images {images.REPOSITORY}/* "
        "in Podman's storage"
    )


def _remove(where: home.Home) -> list[str]:
    """Remove everything, and return what there was."""
    removed: list[str] = []
    engine.kill_stale_hooks(where)
    if shutil.which("podman"):
        podman = pods.Podman(where.prefix, None, where.path)
        removed += [f"pod {name}" for name in podman.pods()]
        if podman.has_network():
            removed.append(f"network {where.prefix}")
        podman.destroy()
    removed += [f"mount {mount}" for mount in unmount(where)]
    if any(not path.name.endswith(".lock") for path in where.path.iterdir()):
        removed.append(f"the state in {where.path}")
    shutil.rmtree(where.path)
    return removed


@contextlib.contextmanager
def without_daemon(where: home.Home) -> Generator[list[int]]:
    """Kill the daemon, and keep others from starting, as any `juju status` would start one.

    Yields:
        The processes that were killed.

    Raises:
        console.CommandError: something else holds the daemon's lock.
    """
    killed: list[int] = []
    deadline = time.monotonic() + _PATIENCE
    with (where.path / "daemon.lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                for pid in _daemon_processes(where):
                    _kill(pid)
                    killed.append(pid)
            else:
                break
            if time.monotonic() > deadline:
                raise console.CommandError(f"the daemon of {where.path} cannot be stopped")
            time.sleep(0.05)
        yield killed


def _daemon_processes(where: home.Home) -> Iterator[int]:
    """Yield the process that holds the daemon's lock, whether or not it still answers."""
    try:
        lock = (where.path / "daemon.lock").stat()
    except FileNotFoundError:
        return
    # "1: FLOCK  ADVISORY  WRITE 4711 fe:00:393229 0 EOF", see proc(5).
    for line in pathlib.Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if "FLOCK" in fields and fields[5].rpartition(":")[2] == str(lock.st_ino):
            pid = int(fields[4])
            with contextlib.suppress(FileNotFoundError):
                if b"onebox.daemon" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                    yield pid


def _kill(pid: int) -> None:
    """Kill the daemon and wait until it is gone; what it has not written is removed anyway."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(descriptor, "rb") as watched, contextlib.suppress(ProcessLookupError):
        # With the Podman commands that it is running, which would go on making pods; what
        # Podman leaves in the background has process groups of its own.
        os.killpg(os.getpgid(pid), signal.SIGKILL)
        # A pidfd is readable once the process has ended.
        select.select([watched], [], [], 10)


def unmount(where: home.Home) -> list[str]:
    """Unmount what is mounted inside the directories of this onebox, and return the places."""
    roots = (f"{where.path}/", f"/run/{where.prefix}/")
    lines = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    mounts = [line.split()[1] for line in lines if line.split()[1].startswith(roots)]
    # The innermost first.
    for mount in sorted(mounts, reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True)
    return mounts
