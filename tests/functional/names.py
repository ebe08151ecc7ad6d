"""Names for the pods and networks of a test run, from which another run knows what is left over.

A run that was killed, or a machine that lost power, leaves pods behind. Their names hold the id of
the process that made them, so that the next run can tell them from those of a run at work.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import secrets
import shutil
import signal

from onebox import pods

STATE = pathlib.Path("/var/lib/onebox")
_RUN = pathlib.Path("/run")
_NAME = re.compile(r"t(\d+)x[0-9a-f]{6}")


def fresh() -> str:
    """Return a name that no other onebox has; ``onebox-`` before it makes its prefix."""
    return f"t{os.getpid()}x{secrets.token_hex(3)}"


def sweep() -> list[str]:
    """Remove what runs that are gone have left behind; return the names."""
    networks = pods.podman("network", "ls", "--format", "{{.Name}}").split()
    names = {name.removeprefix("onebox-") for name in networks}
    for folder in (STATE, _RUN):
        names.update(path.name.removeprefix("onebox-") for path in folder.glob("*t*x*"))
    stale = sorted(
        name for name in names if (match := _NAME.fullmatch(name)) and not _runs(int(match[1]))
    )
    for name in stale:
        _kill_daemon(STATE / name)
        pods.Podman(f"onebox-{name}", None, STATE / name).destroy()
        shutil.rmtree(STATE / name, ignore_errors=True)
    return stale


def _runs(pid: int) -> bool:
    try:
        return b"pytest" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _kill_daemon(home: pathlib.Path) -> None:
    wanted = f"ONEBOX_HOME={home}".encode()
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)
