"""Hand a listening socket from one server to the next one.

Two servers that share one socket share its queue of new connections as well, so that none is
lost when the older one stops. Two sockets on one port (SO_REUSEPORT) would lose those that wait
in the queue of the socket that is closed.

Wire: one byte and the file descriptor over a unix socket in a folder that only the user of the
servers may write to. Standard library only.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

_TIMEOUT = 5.0
"""Seconds; a server that does not answer in time is as good as gone."""


def listener(port: int, folder: Path) -> socket.socket:
    """Return the socket of a server that runs, or else a new one.

    Args:
        port: TCP port, on all addresses.
        folder: where servers offer their sockets.
    """
    for path in sorted(folder.glob("*.sock")):
        with contextlib.suppress(OSError):
            return _take(path)
    return _new(port)


@contextlib.contextmanager
def offered(shared: socket.socket, path: Path) -> Iterator[None]:
    """Offer a listening socket to whoever connects to `path`, until the block ends."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as offer:
        offer.bind(str(path))
        path.chmod(0o600)
        offer.listen()
        threading.Thread(target=_give, args=(offer, shared), daemon=True).start()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _take(path: Path) -> socket.socket:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT)
        connection.connect(str(path))
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        if not descriptors:
            raise ConnectionError("the other server is about to end")
        return socket.socket(fileno=descriptors[0])


def _give(offer: socket.socket, shared: socket.socket) -> None:
    # The end of the offer, and of the program, closes the socket under this loop.
    with contextlib.suppress(OSError):
        while True:
            connection, _ = offer.accept()
            with connection:
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
