"""Start the tracking server once its stores are ready, and tell the charm when it is up.

    python3 serve.py SERVER.json STORES.json STATE.json

The server must not start earlier: on an empty database it would create the schema by itself,
and two of them at once break it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import sys
import time

import pebble_notify
import stores

_PAUSE = 1
"""Seconds between two looks at a store that is not ready."""

_CHECK = "mlflow"
"""Name of the Pebble check that the charm defines for the server."""

_APPLICATION = ("--app-dir", str(pathlib.Path(__file__).parent), "application:app")


def schema(config: stores.Stores) -> tuple[str, dict[str, str | None]]:
    """Say whether the schema is what this MLflow needs.

    Returns:
        ``ready``, ``schema-behind``, ``schema-newer`` or a state of `stores.StoreError`, and
        the revisions.
    """
    try:
        known = stores.revisions()
        with stores.connection(config) as opened:
            current = stores.schema_revision(config, opened)
    except stores.StoreError as error:
        return error.state, {}
    if current == known.head:
        return "ready", {}
    if current is None or current in known.parents:
        return "schema-behind", {}
    return "schema-newer", {"found": current, "head": known.head}


def wait(config: stores.Stores, report: stores.Report) -> None:
    """Return when both stores are ready."""
    while True:
        state, details = schema(config)
        if state == "ready":
            state = stores.bucket(config)
        if state == "ready":
            return
        report(state, **details)
        time.sleep(_PAUSE)


def announce() -> None:
    """Have a process of its own tell the charm as soon as the server answers.

    It is a grandchild, so that Pebble, as process 1, reaps it: the server will not.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork() == 0:
        try:
            pebble_notify.wait_until_up(_CHECK, anew=True, seconds=300)
        except OSError as error:
            print(f"no notice: {error}", flush=True)
    os._exit(0)


def main(server: str, config: str, state: str) -> None:
    """Wait for the stores, then become the server."""
    arguments = json.loads(pathlib.Path(server).read_text(encoding="utf-8"))
    loaded = stores.load(config)
    report = stores.Report(state)
    wait(loaded, report)
    report("serving", mlflow=importlib.metadata.version("mlflow"))
    announce()
    # MLflow's own command would import MLflow once more, start its job runner and stay as an
    # extra process; this is what it runs in the end (mlflow.server._run_server).
    os.execve(
        sys.executable,
        [sys.executable, "-m", "uvicorn", *arguments["uvicorn"], *_APPLICATION],
        {**os.environ, **loaded.environment, **arguments["environment"]},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
