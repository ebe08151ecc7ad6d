"""Hand a listening socket from one server to the next one.

Two servers that share one socket share its queue of new connections as well, so that none is
lost when the older one stops. Two sockets on one port (SO_REUSEPORT) would lose those that wait
in the queue of the socket that is closed.

Wire: one byte and the file descriptor over a unix socket in a folder that only the user of the
servers may write to. Standard library only.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from pathlib import Path

logger = logging.getLogger("handover")

_TIMEOUT = 5.0
"""Seconds; a server that does not answer in time is as good as gone."""


def listener(port: int, folder: Path) -> socket.socket:
    """Return the socket of a server that runs, or else a new one.

    Args:
        port: TCP port, on all addresses.
        folder: where servers offer their sockets.
    """
    for path in sorted(folder.glob("*.sock")):
        found = _taken(path)
        if found:
            return found
    return _new(port)


def offer(shared: socket.socket, path: Path) -> None:
    """Offer a listening socket to whoever connects to `path`, as long as this program runs."""
    path.unlink(missing_ok=True)
    place = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    place.bind(str(path))
    path.chmod(0o600)
    place.listen()
    threading.Thread(target=_give, args=(place, shared), daemon=True).start()


def _taken(path: Path) -> socket.socket | None:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT)
            connection.connect(str(path))
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    except ConnectionRefusedError:
        # Left by a server that was killed.
        path.unlink(missing_ok=True)
        return None
    except OSError as error:
        logger.warning("%s hands over no socket: %s", path.name, error)
        return None
    # A server that is about to end has no socket to send.
    return socket.socket(fileno=descriptors[0]) if descriptors else None


def _give(place: socket.socket, shared: socket.socket) -> None:
    while True:
        connection, _ = place.accept()
        # Who has asked may be gone already, and the socket may be closed: this server then ends.
        with connection, contextlib.suppress(OSError):
            socket.send_fds(connection, [b"\0"], [shared.fileno()])


def _new(port: int) -> socket.socket:
    dual = socket.has_dualstack_ipv6()
    found = socket.socket(socket.AF_INET6 if dual else socket.AF_INET, socket.SOCK_STREAM)
    if dual:
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # For the case that a server hangs, holds the port and hands over nothing.
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(("::" if dual else "0.0.0.0", port))
    return found
