"""Load one model and answer predictions with it.

Run by the charm as one of two Pebble services: `python3 serve.py SLOT REPORT`. SLOT is a JSON
file:

    {"generation": 3, "serial": 2, "path": "/var/lib/mlflow-models/fetched/models/2",
     "port": 8080, "workers": 1, "log-level": "info", "request-timeout": 60, "check": "serving"}

The socket is shared (SO_REUSEPORT): a new model is loaded while the old one answers, and the
charm stops the old server only after this one has reported `up`. REPORT is the file for that: a
JSON mapping of `generation` and `serial` as in SLOT, `status` (`loading`, `up` or `failed`),
`error` and `mlflow`, the version of MLflow that serves.

It is MLflow's own scoring server, run by uvicorn in this process: `mlflow models serve` would
start the same application through a shell, with an extra process and twice the memory.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
import types
import typing
from pathlib import Path

import pebble_notify
import uvicorn

if typing.TYPE_CHECKING:
    import fastapi

logger = logging.getLogger("serve")

_FILES = "MLFLOW_MODELS_FILES"
"""Hands both files to uvicorn's worker processes, which import this module anew."""

_STARTUP_FAILURE = 3
"""Exit status by which a uvicorn worker says that another start would fail as well."""

_DRAIN = 10
"""Seconds that running requests get after SIGTERM; below the kill delay in Pebble's plan."""


class Slot:
    """What the charm asked for, and the report on it."""

    def __init__(self, slot_file: str, report_file: str) -> None:
        self.content: dict = json.loads(Path(slot_file).read_text())
        self._report_file = Path(report_file)

    def report(self, status: str, error: str = "") -> None:
        """Say how far the server is."""
        import mlflow.version

        # Workers may report at the same time.
        temporary = self._report_file.with_suffix(f".{os.getpid()}")
        found = {
            "generation": self.content["generation"],
            "serial": self.content["serial"],
            "status": status,
            "error": error,
            "mlflow": mlflow.version.VERSION,
        }
        temporary.write_text(json.dumps(found))
        temporary.replace(self._report_file)


def main(slot_file: str, report_file: str) -> None:
    """Serve until told to stop."""
    slot = Slot(slot_file, report_file)
    slot.report("loading")
    os.environ[_FILES] = json.dumps([slot_file, report_file])
    os.environ["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] = str(slot.content["request-timeout"])
    level = slot.content["log-level"]
    with _socket(slot.content["port"]) as listener:
        threading.Thread(target=_announce, args=(slot, listener), daemon=True).start()
        uvicorn.run(
            "serve:application",
            factory=True,
            fd=listener.fileno(),
            workers=slot.content["workers"],
            log_level=level,
            # The proxy in front has an access log; two would cost throughput.
            access_log=level == "debug",
            timeout_graceful_shutdown=_DRAIN,
        )


def _socket(port: int) -> socket.socket:
    """Return a bound socket that does not listen yet, so that nothing is sent to it."""
    dual = socket.has_dualstack_ipv6()
    bound = socket.socket(socket.AF_INET6 if dual else socket.AF_INET, socket.SOCK_STREAM)
    if dual:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("::" if dual else "0.0.0.0", port))
    return bound


def application() -> fastapi.FastAPI:
    """Return the scoring server with the model loaded; called once in each worker."""
    slot = Slot(*json.loads(os.environ[_FILES]))
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    with _Reported(slot):
        model = mlflow.pyfunc.load_model(slot.content["path"])
    return scoring_server.init(model)


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
        raise SystemExit(_STARTUP_FAILURE) from error


def _announce(slot: Slot, listener: socket.socket) -> None:
    """Report `up` once the socket listens, and call the charm once Pebble's check agrees."""
    # A connection to the port would not tell: the previous server may answer it.
    while not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        time.sleep(0.05)
    slot.report("up")
    _call_charm(lambda: pebble_notify.wait_until_up(slot.content["check"]))


def _call_charm(call: typing.Callable[[], object]) -> None:
    try:
        call()
    except OSError:
        # The charm finds the report at its next update-status, minutes later.
        logger.exception("Pebble took no notice")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    main(sys.argv[1], sys.argv[2])
