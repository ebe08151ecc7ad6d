"""Load one model and answer predictions with it.

Run by the charm as one of two Pebble services: `python3 serve.py SLOT REPORT`. SLOT is a JSON
file:

    {"generation": 3, "serial": 2, "path": "/var/lib/mlflow-models/fetched/models/2",
     "port": 8080, "workers": 1, "log-level": "info", "request-timeout": 60, "check": "serving"}

REPORT is the file in which this program says how far it is: a JSON mapping of `generation` and
`serial` as in SLOT, `status` (`loading`, `up` or `failed`), `error` and `mlflow`, the version of
MLflow that serves.

A model is loaded while the previous one answers. Then both servers answer, on one socket, until
the charm stops the previous one: it does so when this one has reported `up`.

It is MLflow's own scoring server, run by uvicorn in this process: `mlflow models serve` would
start the same application through a shell, with one more process and twice the memory.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import threading
import types
import typing
from pathlib import Path

import collector
import handover
import orphans
import pebble_notify
import uvicorn

logger = logging.getLogger("serve")

_QUIET = 1.0
"""Seconds between the last connection that is accepted and the end of those without a request."""

_DRAIN = 8
"""Seconds that running requests get then; both together are below the kill delay."""


class Slot:
    """What the charm asked for, and the report on it."""

    def __init__(self, slot_file: str, report_file: str) -> None:
        self.content: dict = json.loads(Path(slot_file).read_text())
        self.report_file = Path(report_file)

    def report(self, status: str, error: str = "") -> None:
        """Say how far the server is."""
        # Workers may report at the same time.
        temporary = self.report_file.with_suffix(f".{os.getpid()}")
        found = {
            "generation": self.content["generation"],
            "serial": self.content["serial"],
            "status": status,
            "error": error,
            "mlflow": importlib.metadata.version("mlflow"),
        }
        temporary.write_text(json.dumps(found))
        temporary.replace(self.report_file)


class Server(uvicorn.Server):
    """Says when it is up, and ends without cutting off anybody."""

    def __init__(self, config: uvicorn.Config, slot: Slot) -> None:
        super().__init__(config)
        self._slot = slot

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then report it, and call the charm once Pebble's check agrees."""
        await super().startup(sockets=sockets)
        self._slot.report("up")
        check = self._slot.content["check"]
        call = (lambda: pebble_notify.wait_until_up(check),)
        threading.Thread(target=_call_charm, args=call, daemon=True).start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, answer what comes on open connections, then close those.

        uvicorn alone would close a connection whose request is still on its way.
        """
        for server in self.servers:
            server.close()
        self.server_state.default_headers = [
            *self.server_state.default_headers,
            (b"connection", b"close"),
        ]
        await asyncio.sleep(_QUIET)
        await super().shutdown(sockets)


class _Reported:
    """Reports whatever stops a model from being loaded: its own code may raise anything."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if kind is None:
            return
        logger.error("the model cannot be loaded", exc_info=error)
        if isinstance(error, ModuleNotFoundError):
            reason = f"needs the Python package {error.name}, which the image does not have"
        else:
            reason = f"cannot be loaded ({kind.__name__}); the log of the service says more"
        self._slot.report("failed", reason)
        _call_charm(pebble_notify.notify)
        raise SystemExit(1) from error


def main(slot_file: str, report_file: str) -> None:
    """Serve until told to stop."""
    slot = Slot(slot_file, report_file)
    slot.report("loading")
    os.environ["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] = str(slot.content["request-timeout"])
    workers = slot.content["workers"]
    folder = slot.report_file.parent
    with handover.listener(slot.content["port"], folder) as listener:
        run = work if workers == 1 else supervise
        run(slot, listener)


def work(slot: Slot, listener: socket.socket) -> None:
    """Load the model and answer; returns after SIGTERM."""
    with collector.paused():
        from mlflow import pyfunc
        from mlflow.pyfunc import scoring_server

        # A model's flavour imports as much again.
        with _Reported(slot):
            application = scoring_server.init(pyfunc.load_model(slot.content["path"]))
    level = slot.content["log-level"]
    config = uvicorn.Config(
        application,
        log_level=level,
        # A line for each request costs throughput; it is there when somebody looks for a fault.
        access_log=level == "debug",
        timeout_graceful_shutdown=_DRAIN,
    )
    orphans.end_with_parent()
    handover.offer(listener, slot.report_file.with_suffix(f".{os.getpid()}.sock"))
    Server(config, slot).run(sockets=[listener])


def supervise(slot: Slot, listener: socket.socket) -> None:
    """Run several workers; the first that ends takes the others and this program with it.

    Pebble then starts all again, as it does with a single one.
    """
    # Nothing that would not survive a fork has been imported here, nor any thread started.
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=work, args=(slot, listener)) for _ in range(slot.content["workers"])
    ]
    for worker in workers:
        worker.start()

    def stop(*_: object) -> None:
        for worker in workers:
            worker.terminate()

    signal.signal(signal.SIGTERM, stop)
    multiprocessing.connection.wait([worker.sentinel for worker in workers])
    stop()
    for worker in workers:
        worker.join()
    sys.exit(max(abs(worker.exitcode or 0) for worker in workers))


def _call_charm(call: typing.Callable[[], object]) -> None:
    try:
        call()
    except OSError:
        # The charm finds the report at its next update-status, minutes later.
        logger.exception("Pebble took no notice")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    main(sys.argv[1], sys.argv[2])
