"""Let no worker outlive the server that has started it.

A supervisor that is killed cannot stop its workers. They would go on to answer and to hold the
port, and Pebble would not know: it waits for their output to end as well, for nine tenths of the
service's kill delay (`WaitDelay` in canonical/pebble, internals/overlord/servstate/handlers.go).
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time

_PATIENCE = 26
"""Seconds until a worker that hangs is killed: longer than servers give requests under way."""


def end_with_parent() -> None:
    """Have this process end when the one whose worker it is has gone; nothing if it is none."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait, args=(parent.sentinel,), daemon=True).start()


def _wait(parent: int) -> None:
    multiprocessing.connection.wait([parent])
    # Requests under way are answered still.
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)
