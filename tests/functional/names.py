"""Names for the pods and networks of a test run, from which another run knows what is left over.

A run that was killed, or a machine that lost power, leaves pods behind. Whoever makes a name holds
a lock on a file of that name for as long as it lives; a name whose lock is free is left over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
import secrets
import shutil
import signal
import typing

from onebox import down, home, pods

STATE = pathlib.Path("/var/lib/onebox")
_RUN = pathlib.Path("/run")
_LOCKS = _RUN / "lock" / "onebox-tests"
_NAME = re.compile(r"t[0-9a-f]{10}")
_held: list[typing.IO[str]] = []


def fresh() -> str:
    """Return a name that no other onebox has; ``onebox-`` before it makes its prefix."""
    name = f"t{secrets.token_hex(5)}"
    _LOCKS.mkdir(parents=True, exist_ok=True)
    lock = (_LOCKS / name).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    _held.append(lock)
    return name


def sweep() -> list[str]:
    """Remove what runs that are gone have left behind; return the names."""
    networks = pods.podman("network", "ls", "--format", "{{.Name}}").split()
    names = {name.removeprefix("onebox-") for name in networks}
    for folder in (STATE, _RUN, _LOCKS):
        if folder.is_dir():
            names.update(path.name.removeprefix("onebox-") for path in folder.iterdir())
    stale = sorted(name for name in names if _NAME.fullmatch(name) and _free(name))
    for name in stale:
        _kill_daemon(STATE / name)
        pods.Podman(f"onebox-{name}", None, STATE / name).destroy()
        down.unmount(home.Home(STATE / name))
        shutil.rmtree(STATE / name, ignore_errors=True)
        (_LOCKS / name).unlink(missing_ok=True)
    return stale


def _free(name: str) -> bool:
    with contextlib.suppress(FileNotFoundError), (_LOCKS / name).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _kill_daemon(directory: pathlib.Path) -> None:
    wanted = f"ONEBOX_HOME={directory}".encode()
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)
