"""Bring the database's schema to what this MLflow needs, and create the bucket.

    python3 migrate.py STORES.json STATE.json

Run by the leader only. Goes on until both are done: a store that is away comes back, and a
problem that a person has to solve may be solved any time. The migration itself runs in a
process of its own (``--upgrade``), which holds a lock in the database for exactly as long as it
lives: neither a second leader nor a restarted parent can migrate at the same time.
"""

from __future__ import annotations

import enum
import hashlib
import subprocess
import sys
import time
from typing import Any

import collector
import stores

_PAUSE = 1
_PAUSE_BLOCKED = 10
_PAUSE_FORBIDDEN = 60
"""Seconds until the next try: where a store may come back, where a person has to act, and where
only a full try can tell whether somebody has."""

_LOCK = "mlflow-schema"

# Numbers with which MySQL and MariaDB say that a step of the migration has been done already:
# the sign of a migration that broke off, since their DDL is not transactional.
_HALF_WAY = frozenset({1022, 1050, 1060, 1061, 1068, 1091, 1359, 1826})

# Numbers and SQLSTATEs that say that the account may not do what the migration needs.
_FORBIDDEN = frozenset({1044, 1142, 1227, 1370, 1419})
_FORBIDDEN_STATES = frozenset({"42501"})

# SQLSTATE classes of PostgreSQL for a connection that broke and a server that shuts down.
_AWAY_STATES = ("08", "57P")

# A connection that could not be made: libpq gives no SQLSTATE then, and PyMySQL the numbers that
# clients use among themselves (MySQL's documentation, "Client Error Message Reference").
_AWAY = frozenset({0, 2002, 2003, 2005, 2006, 2013})


class Outcome(enum.IntEnum):
    """How an upgrade ended, as the exit status of its process.

    The names, in lower case and with hyphens, are states that the charm has words for.
    """

    DONE = 0
    SCHEMA_LOCKED = 70
    SCHEMA_CHARSET = 71
    SCHEMA_TRIGGERS = 72
    SCHEMA_HALF_MIGRATED = 73
    SCHEMA_FORBIDDEN = 74
    DATABASE_UNREACHABLE = 75
    SCHEMA_FAILED = 76
    SCHEMA_INTERRUPTED = 77

    @property
    def state(self) -> str:
        """The state that the charm reads."""
        return self.name.lower().replace("_", "-")


_BROKEN = frozenset({Outcome.SCHEMA_HALF_MIGRATED, Outcome.SCHEMA_FAILED})
"""Outcomes that come again for as long as nobody changes the database."""

_TABLES = {
    "postgresql": (
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = CURRENT_SCHEMA() ORDER BY 1"
    ),
    "mysql": (
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = DATABASE() ORDER BY 1"
    ),
}


def upgrade(path: str, report: stores.Report) -> Outcome:
    """Migrate under the lock, unless something stands in the way."""
    config = stores.load(path)
    known = stores.revisions()
    try:
        with stores.connection(config) as opened:
            if not _lock(config, opened):
                return Outcome.SCHEMA_LOCKED
            # On a connection of its own, as the lock's must be left in its transaction.
            with stores.connection(config) as reader:
                current = stores.schema_revision(config, reader)
                obstacle = _obstacle(config, reader, known, current)
            if current == known.head:
                return Outcome.DONE
            if obstacle is not None:
                return obstacle
            report("schema-migrating", found=current, head=known.head)
            return _run(config)
    except stores.StoreError:
        return Outcome.DATABASE_UNREACHABLE


def _lock(config: stores.Stores, opened: Any) -> bool:
    """Take the lock; it goes with the connection."""
    if config.dialect == "postgresql":
        # The lock of a transaction, since a pooler in between (pgbouncer) may give each
        # transaction another session.
        key = int.from_bytes(hashlib.sha256(_LOCK.encode()).digest()[:8], "big", signed=True)
        return bool(stores.query(opened, "SELECT pg_try_advisory_xact_lock(%s)", key)[0][0])
    # MySQL's lock names count for the whole server, and are at most 64 characters long.
    name = stores.query(opened, "SELECT DATABASE()")[0][0]
    digest = hashlib.sha256(str(name).encode()).hexdigest()[:32]
    return stores.query(opened, "SELECT GET_LOCK(%s, 0)", f"{_LOCK}-{digest}")[0][0] == 1


def _obstacle(
    config: stores.Stores, opened: Any, known: stores.Revisions, current: str | None
) -> Outcome | None:
    """Say what would make a migration fail half-way on MySQL and MariaDB."""
    if config.dialect == "postgresql":
        return None
    charset = stores.query(opened, "SELECT @@character_set_database")[0][0]
    if current is None and charset != "utf8mb4":
        # Later versions of MLflow cannot migrate any other.
        return Outcome.SCHEMA_CHARSET
    triggers = any(
        "CREATE TRIGGER" in script.read_text(encoding="utf-8")
        for revision in known.pending(current)
        for script in known.folder.glob(f"{revision}_*.py")
    )
    if triggers and not _may_create_triggers(opened):
        return Outcome.SCHEMA_TRIGGERS
    return None


def _may_create_triggers(opened: Any) -> bool:
    row = stores.query(opened, "SELECT @@log_bin, @@log_bin_trust_function_creators")[0]
    if not int(row[0]) or int(row[1]):
        return True
    grants = [str(row[0]) for row in stores.query(opened, "SHOW GRANTS")]
    return any("SUPER" in grant or "ALL PRIVILEGES ON *.*" in grant for grant in grants)


def _run(config: stores.Stores) -> Outcome:
    """Do what ``mlflow db upgrade`` does (mlflow.db), but without a URL in argv."""
    with collector.paused():
        import sqlalchemy.exc
        from mlflow.store.db import utils

    try:
        engine = utils.create_sqlalchemy_engine(config.uri)
        if utils._is_empty_database(engine):
            utils._initialize_tables(engine)
        else:
            utils._upgrade_db(engine)
    except sqlalchemy.exc.DBAPIError as error:
        print(f"migration failed: {type(error.orig).__name__} {_code(error.orig)}", flush=True)
        return _failure(config, error)
    return Outcome.DONE


def _code(error: BaseException | None) -> int | str:
    """Return the SQLSTATE (PostgreSQL) or the number (MySQL) of a driver's error."""
    if error is None:
        return ""
    return getattr(error, "pgcode", None) or stores.mysql_code(error)


def _failure(config: stores.Stores, error: Any) -> Outcome:
    code = _code(error.orig)
    if code in _FORBIDDEN or code in _FORBIDDEN_STATES:
        return Outcome.SCHEMA_FORBIDDEN
    if code in _HALF_WAY and config.dialect == "mysql":
        return Outcome.SCHEMA_HALF_MIGRATED
    if error.connection_invalidated or str(code).startswith(_AWAY_STATES) or code in _AWAY:
        return Outcome.DATABASE_UNREACHABLE
    return Outcome.SCHEMA_FAILED


class Migration:
    """The schema's way to the head, over as many tries as it takes."""

    def __init__(self, path: str, state: str) -> None:
        self._path = path
        self._state = state
        self._config = stores.load(path)
        self._report = stores.Report(state)
        self._broken: tuple[Outcome, object] | None = None

    def step(self) -> str:
        """Look at the database and migrate if it can be done.

        Returns:
            ``ready``, or the state in which it is; that is reported already.
        """
        try:
            known = stores.revisions()
            current, tables = self._look()
            if current == known.head:
                return "ready"
            if current is not None and current not in known.parents:
                self._report("schema-newer", found=current, head=known.head)
                return "schema-newer"
            if self._broken is not None and self._broken[1] == (current, tables):
                return self._broken[0].state
            outcome = self._upgrade()
            current, tables = self._look()
        except stores.StoreError as error:
            self._report(error.state)
            return error.state
        self._broken = (outcome, (current, tables)) if outcome in _BROKEN else None
        if outcome is Outcome.DONE:
            return "ready"
        self._report(outcome.state, found=current, head=known.head)
        return outcome.state

    def _look(self) -> tuple[str | None, list[tuple[Any, ...]]]:
        """Return what changes when somebody restores, empties or repairs the database."""
        with stores.connection(self._config) as opened:
            current = stores.schema_revision(self._config, opened)
            return current, stores.query(opened, _TABLES[self._config.dialect])

    def _upgrade(self) -> Outcome:
        process = subprocess.run(
            [sys.executable, __file__, "--upgrade", self._path, self._state], check=False
        )
        try:
            return Outcome(process.returncode)
        except ValueError:
            # It crashed or was killed. Whether that left something half-way on MySQL is what
            # the next try finds out.
            return Outcome.SCHEMA_INTERRUPTED


def main(path: str, state: str) -> None:
    """Go on until the schema is at the head and the bucket is there."""
    report = stores.Report(state)
    migration = Migration(path, state)
    config = stores.load(path)
    while True:
        found = migration.step()
        if found == "ready":
            found = stores.bucket(config)
            if found == "bucket-missing":
                found = stores.create_bucket(config)
            report("done" if found == "ready" else found)
            if found == "ready":
                return
        if found == Outcome.SCHEMA_FORBIDDEN.state:
            time.sleep(_PAUSE_FORBIDDEN)
        else:
            time.sleep(_PAUSE_BLOCKED if found.startswith("schema-") else _PAUSE)


if __name__ == "__main__":
    if sys.argv[1] == "--upgrade":
        sys.exit(upgrade(sys.argv[2], stores.Report(sys.argv[3])))
    main(*sys.argv[1:])
