"""Names and places in the workload container, which the charm and its programs agree on."""

from __future__ import annotations

CONTAINER = "mlflow-models"
PORT = 8080
CHECK = "serving"

SERVER_USER = 584792
"""Numeric user and group of the servers: `_daemon_` in Canonical's rocks."""
FETCHER_USER = 584793

SERVER_FILES = ("collector.py", "handover.py", "orphans.py", "pebble_notify.py", "serve.py")
PROGRAM_FILES = ("fetch.py", *SERVER_FILES)
PROGRAMS = "/opt/mlflow-models"
SETTINGS = "/etc/mlflow-models"
SLOTS = f"{SETTINGS}/slots"
CREDENTIALS = f"{SETTINGS}/credentials"
DATA = "/var/lib/mlflow-models"
STORE = f"{DATA}/fetched"
REPORTS = f"{DATA}/serving"

JOB_FILE = f"{SETTINGS}/job.json"
KEYS_FILE = f"{CREDENTIALS}/keys.json"
RESULT_FILE = f"{STORE}/result.json"
EXAMPLE_FILE = "serving_input_example.json"
"""A body for /invocations that MLflow keeps in a model's folder."""

FETCHER = "fetch"
SERVERS = ("serve-a", "serve-b")


def slot_file(name: str) -> str:
    """Return the path of the file that tells a server what to serve."""
    return f"{SLOTS}/{name}.json"


def report_file(name: str) -> str:
    """Return the path of the file in which a server says how far it is."""
    return f"{REPORTS}/{name}.json"
