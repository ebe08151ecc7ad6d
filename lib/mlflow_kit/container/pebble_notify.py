"""Tell the charm that something in its workload container has changed.

A Pebble custom notice makes Juju dispatch the charm within seconds, where update-status would
take minutes. Pushed into the container as a plain file: standard library only, Python >= 3.9.

Wire: Pebble's HTTP API over its unix socket (documentation of canonical/pebble, "API").
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from typing import cast

KEY = "charm.mlflow/changed"
"""The notice's key; the part before the slash is a domain that Pebble asks for."""

_DEFAULT_SOCKET = "/charm/container/pebble.socket"
_TIMEOUT = 10


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


def notify(key: str = KEY) -> None:
    """Record a custom notice.

    Raises:
        OSError: Pebble cannot be reached or refused the notice.
    """
    _request("POST", "/v1/notices", {"action": "add", "type": "custom", "key": key, "data": {}})


def wait_until_up(check: str, *, anew: bool = False, seconds: float = 120, key: str = KEY) -> bool:
    """Wait until a check has run and is up without a failure, then record the notice.

    A new Pebble check counts as up before its first run, so both are looked at.

    Args:
        check: name of the check.
        anew: whether it has to succeed once more. After a program was killed the check tells for
            a moment what it has found of that one.
        seconds: how long to wait at most.
        key: key of the notice.

    Returns:
        Whether the check came up in time.

    Raises:
        OSError: Pebble cannot be reached or refused the notice.
    """
    deadline = time.monotonic() + seconds
    before = _look(check).get("successes") if anew else None
    while time.monotonic() < deadline:
        info = _look(check)
        successes = info.get("successes")
        up = info.get("status") == "up" and successes and not info.get("failures")
        if up and successes != before:
            notify(key)
            return True
        time.sleep(0.5)
    return False


def _look(check: str) -> dict[str, object]:
    """Return what Pebble tells of a check; nothing when it is not there."""
    answer = _request("GET", f"/v1/checks?names={check}")
    (info,) = cast("list[dict[str, object]]", answer) or [{}]
    return info


def _request(method: str, path: str, body: object = None) -> object:
    connection = _UnixConnection(os.environ.get("PEBBLE_SOCKET", _DEFAULT_SOCKET))
    try:
        connection.request(
            method,
            path,
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        response = connection.getresponse()
        text = response.read()
        if response.status >= 400:
            raise OSError(f"Pebble answered {response.status} to {method} {path}")
        return json.loads(text).get("result")
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"Pebble's answer to {method} {path} is not understood") from error
    finally:
        connection.close()
