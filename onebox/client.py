"""Talk to the daemon: one JSON line there, JSON lines back; start it when it is not there."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import sys
import time
import typing
from collections.abc import Callable, Mapping

from onebox import home

START_TIMEOUT = 60.0
"""Seconds for the daemon to answer; it looks at every pod that the last one has left."""


class ApiError(Exception):
    """The daemon refused a request or cannot be reached; the text is for the user."""


def call(
    method: str,
    params: Mapping[str, typing.Any] | None = None,
    *,
    model: str | None = None,
    progress: Callable[[str], None] | None = None,
    start: bool = True,
) -> typing.Any:
    """Send a request to the daemon and return its result.

    Args:
        method: what to do.
        params: its arguments, plain JSON.
        model: name of a model; None is the current one.
        progress: gets each line that the daemon tells on the way; None prints it to stderr.
        start: whether to start the daemon when it is not there.

    Raises:
        ApiError: with the daemon's words.
    """
    connection = ensure_daemon() if start else _connect()
    if connection is None:
        raise ApiError("the onebox daemon is not running")
    tell = progress or (lambda text: print(text, file=sys.stderr, flush=True))
    request = {"method": method, "model": model, "params": dict(params or {})}
    try:
        with connection, connection.makefile("rwb") as stream:
            stream.write(json.dumps(request).encode() + b"\n")
            stream.flush()
            told = ""
            for line in stream:
                answer = json.loads(line)
                if "progress" not in answer:
                    break
                if answer["progress"] != told:
                    told = answer["progress"]
                    tell(told)
            else:
                raise ApiError(
                    f"the onebox daemon ended while it worked on {method}; see {_log()}"
                )
    except OSError as error:
        raise ApiError(f"the onebox daemon does not answer: {error}; see {_log()}") from None
    if "error" in answer:
        raise ApiError(answer["error"])
    return answer["result"]


def ensure_daemon() -> socket.socket:
    """Return a connection to the daemon, which is started if it does not answer.

    Raises:
        ApiError: it did not come up; the text has the end of its log.
    """
    connection = _connect()
    if connection is not None:
        return connection
    # Seldom needed, and slow to import.
    import subprocess

    log = _log()
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                # -P: a json.py where the user happens to be must not be imported.
                [sys.executable, "-P", "-m", "onebox.daemon"],
                cwd="/",
                env={**os.environ, "PYTHONPATH": str(home.CHECKOUT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except PermissionError as error:
        raise ApiError(f"onebox runs as root: {error}; try again with sudo") from None
    except OSError as error:
        raise ApiError(f"the onebox daemon cannot be started: {error}") from None
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        # Asked before the look: of two clients that start one each, both get the one that stays.
        # The other gives up before the one that stays listens.
        ended = process.poll() not in {None, os.EX_TEMPFAIL}
        connection = _connect()
        if connection is not None:
            return connection
        if ended:
            break
        time.sleep(0.05)
    # Whoever removes a onebox keeps daemons from starting, and takes the log away as well.
    lines = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
    raise ApiError(
        "the onebox daemon does not start; the end of its log:\n  " + "\n  ".join(lines)
    )


def _connect() -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(home.find().socket))
    except PermissionError as error:
        connection.close()
        raise ApiError(f"onebox runs as root: {error}; try again with sudo") from None
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def _log() -> pathlib.Path:
    return home.find().path / "daemon.log"
