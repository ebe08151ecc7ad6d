"""What the programs in the container say of themselves, in words for the status; pure."""

from __future__ import annotations

import json
from typing import Any, cast

from mlflow_kit import problems

# The words for the states that workload/*.py write.
_MESSAGES = {
    "no-mlflow": (problems.blocked, "the image has no MLflow whose schema is known"),
    "database-unreachable": (problems.waiting, "the database cannot be reached"),
    "database-refuses": (problems.waiting, "the database refuses the login"),
    "database-fails": (problems.waiting, "the database answers with an error; see the log"),
    "schema-behind": (problems.waiting, "waiting for the leader to migrate the database schema"),
    "schema-newer": (
        problems.blocked,
        "database schema {found} is newer than this MLflow's {head}: deploy the newer MLflow",
    ),
    "schema-locked": (problems.waiting, "another unit migrates the database schema"),
    "schema-migrating": (problems.maintenance, "migrating the database schema"),
    "schema-charset": (
        problems.blocked,
        "database is not utf8mb4: run ALTER DATABASE ... CHARACTER SET utf8mb4 on it",
    ),
    "schema-triggers": (
        problems.blocked,
        "database refuses triggers: set log_bin_trust_function_creators=1 on its server",
    ),
    "schema-half-migrated": (
        problems.blocked,
        "database schema is half-migrated at revision {found}: restore a backup of the database",
    ),
    "schema-forbidden": (
        problems.blocked,
        "the database's account may not migrate the schema: grant it all rights on the database",
    ),
    "schema-failed": (
        problems.blocked,
        "migration of the database schema failed at revision {found}: see the log of mlflow",
    ),
    "schema-interrupted": (problems.maintenance, "migration was interrupted and is tried again"),
    "bucket-unreachable": (problems.waiting, "the object store cannot be reached"),
    "bucket-missing": (problems.waiting, "waiting for the leader to create the bucket"),
    "bucket-refuses": (problems.waiting, "the object store refuses the keys"),
    "bucket-forbidden": (
        problems.blocked,
        "the object store's account may not use the bucket: choose another by option bucket",
    ),
}


def problem(text: str | None) -> tuple[problems.Problem, ...]:
    """Return what a program of ours says in its state file.

    Args:
        text: content of the file; None when there is none.
    """
    found = _report(text)
    state = found.get("state", "")
    if state not in _MESSAGES:
        return ()
    kind, message = _MESSAGES[state]
    # Revisions come from the database, so they may be anything.
    revisions = {
        key: "".join(char for char in found.get(key, "") if char.isalnum())[:32] or "none"
        for key in ("found", "head")
    }
    return (kind(message.format(**revisions)),)


def version(text: str | None) -> str:
    """Return the version of MLflow that `serve.py` found; empty when it is not known."""
    return "".join(
        char for char in _report(text).get("mlflow", "") if char.isalnum() or char in ".+-"
    )[:32]


def _report(text: str | None) -> dict[str, str]:
    try:
        found: object = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    entries = cast("dict[str, Any]", found)
    return {key: value for key, value in entries.items() if isinstance(value, str)}
