"""Watch the Pebble of one workload container: its boots, notices and checks."""

from __future__ import annotations

import http.client
import json
import pathlib
import socket
import typing
import urllib.parse

from onebox import model

LONG_POLL = 60
"""Seconds that Pebble holds a request for notices; also how often an idle watcher wakes."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: pathlib.Path, timeout: float):
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _get(path: pathlib.Path, url: str, timeout: float = 10) -> typing.Any:
    connection = _Connection(path, timeout)
    try:
        connection.request("GET", url)
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    if answer.get("type") == "error":
        raise OSError(answer.get("result", {}).get("message", "Pebble refused a request"))
    return answer["result"]


def boot_id(path: pathlib.Path) -> str:
    """Return Pebble's boot id, which is new for each start of its container.

    Args:
        path: its socket.

    Raises:
        OSError, http.client.HTTPException: Pebble does not answer.
    """
    return _get(path, "/v1/system-info")["boot-id"]


def notices(
    path: pathlib.Path, container: str, after: str
) -> tuple[list[model.WorkloadEvent], str]:
    """Wait for notices and return the events that Juju makes of them.

    Juju makes hooks of custom notices, and of the changes that Pebble starts when a check fails
    or recovers; it ignores all others (juju `pebblenotices.go`).

    Args:
        path: Pebble's socket.
        container: name of the container.
        after: time of the last notice that was taken; empty for all.

    Returns:
        The events, oldest first, and the time to ask from next.

    Raises:
        OSError, http.client.HTTPException: Pebble does not answer.
    """
    query = {"users": "all", "timeout": f"{LONG_POLL}s", **({"after": after} if after else {})}
    url = "/v1/notices?" + urllib.parse.urlencode(query)
    found: list[model.WorkloadEvent] = []
    for notice in _get(path, url, LONG_POLL + 10):
        after = max(after, notice["last-repeated"], key=_moment)
        if notice["type"] == "custom":
            found.append(
                model.WorkloadEvent(
                    "pebble-custom-notice",
                    container,
                    notice["last-repeated"],
                    notice_id=notice["id"],
                    notice_key=notice["key"],
                )
            )
        elif notice["type"] == "change-update":
            event = _check_event(path, container, notice)
            if event is not None:
                found.append(event)
    return found, after


def _moment(text: str) -> tuple[str, str]:
    """Return a key that orders RFC 3339 times in UTC, whose fractions have any length."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    return seconds, fraction.ljust(9, "0")


def _check_event(
    path: pathlib.Path, container: str, notice: dict[str, typing.Any]
) -> model.WorkloadEvent | None:
    kind = (notice.get("last-data") or {}).get("kind")
    if kind not in {"perform-check", "recover-check"}:
        return None
    change = _get(path, f"/v1/changes/{notice['key']}")
    name = (notice["last-data"].get("check-name")) or change.get("data", {}).get("check-name", "")
    if kind == "perform-check" and change["status"] == "Error":
        return model.WorkloadEvent("pebble-check-failed", container, notice["key"], check=name)
    if kind == "recover-check" and change["status"] == "Done":
        return model.WorkloadEvent("pebble-check-recovered", container, notice["key"], check=name)
    return None
