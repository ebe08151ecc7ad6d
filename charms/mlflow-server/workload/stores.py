"""The two stores of the tracking server, as the programs of this container see them.

Standard library only at import; the drivers are imported where they are needed, because each
costs more than a check of the schema may take.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import pebble_notify

CONNECT_TIMEOUT = 5
"""Seconds until a store counts as unreachable."""

# Errors that MySQL and MariaDB answer, by number (MySQL's "Server Error Message Reference").
_ACCESS_DENIED = frozenset({1044, 1045, 1698})
_NO_SUCH_TABLE = 1146

# SQLSTATE of PostgreSQL for a table that is not there (its documentation, appendix A).
_UNDEFINED_TABLE = "42P01"

# Error codes that S3 answers when it does not know the account, or its signature is wrong.
_WRONG_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})


class StoreError(Exception):
    """A store cannot be used; the argument is a state that the charm has words for."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


@dataclasses.dataclass(frozen=True)
class Stores:
    """Where the stores are; the passwords lie in files that are named here.

    Attributes:
        dialect: ``postgresql`` or ``mysql``, which stands for MariaDB too.
        uri: SQLAlchemy URL for MLflow.
        connect: keyword arguments for the driver's ``connect``.
        bucket: name of the S3 bucket.
        endpoint: S3 endpoint.
        environment: variables that boto3 needs.
    """

    dialect: str
    uri: str
    connect: dict[str, Any]
    bucket: str
    endpoint: str
    environment: dict[str, str]


def load(path: str) -> Stores:
    """Read the file that the charm wrote."""
    return Stores(**json.loads(pathlib.Path(path).read_text(encoding="utf-8")))


@dataclasses.dataclass(frozen=True)
class Revisions:
    """The schema revisions that the installed MLflow knows.

    Attributes:
        head: the revision that it needs.
        parents: the revision before each one; None for the first.
        folder: where the migration scripts are.
    """

    head: str
    parents: dict[str, str | None]
    folder: pathlib.Path

    def pending(self, current: str | None) -> list[str]:
        """Return the revisions from the head down to the one after ``current``."""
        found: list[str] = []
        revision: str | None = self.head
        while revision is not None and revision != current:
            found.append(revision)
            revision = self.parents[revision]
        return found


def revisions() -> Revisions:
    """Read the revisions from MLflow's migration scripts.

    Asking MLflow or Alembic would import all of MLflow, which takes seconds; parsing the
    scripts takes 30 ms.
    """
    spec = importlib.util.find_spec("mlflow")
    if spec is None or spec.origin is None:
        raise StoreError("no-mlflow")
    folder = pathlib.Path(spec.origin).parent / "store" / "db_migrations" / "versions"
    parents: dict[str, str | None] = {}
    for script in sorted(folder.glob("*.py")):
        values = _assignments(script)
        if "revision" in values:
            parents[str(values["revision"])] = values.get("down_revision")
    heads = set(parents) - set(parents.values())
    if len(heads) != 1:
        raise StoreError("no-mlflow")
    return Revisions(heads.pop(), parents, folder)


def _assignments(script: pathlib.Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in ast.parse(script.read_bytes()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in {"revision", "down_revision"}:
                found[name] = ast.literal_eval(node.value)
    return found


@contextlib.contextmanager
def connection(stores: Stores) -> Iterator[Any]:
    """Open a DB-API connection for the block.

    Raises:
        StoreError: ``database-unreachable``, ``database-refuses`` (the login) or
            ``database-fails``, whether the database says so here or within the block.
    """
    driver = _postgresql if stores.dialect == "postgresql" else _mysql
    with driver(stores) as opened, contextlib.closing(opened):
        yield opened


@contextlib.contextmanager
def _postgresql(stores: Stores) -> Iterator[Any]:
    import psycopg2

    try:
        yield psycopg2.connect(**stores.connect, connect_timeout=CONNECT_TIMEOUT)
    except psycopg2.OperationalError as error:
        # libpq gives no code for what happens while it connects, only the server's words.
        refused = "authentication failed" in str(error) or "no pg_hba.conf entry" in str(error)
        state = "database-refuses" if refused else "database-unreachable"
        raise StoreError(state) from error
    except psycopg2.InterfaceError as error:
        raise StoreError("database-unreachable") from error
    except psycopg2.Error as error:
        print(f"database answers {error.pgcode}", flush=True)
        raise StoreError("database-fails") from error


@contextlib.contextmanager
def _mysql(stores: Stores) -> Iterator[Any]:
    import pymysql

    try:
        yield pymysql.connect(
            **stores.connect,
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=6 * CONNECT_TIMEOUT,
            write_timeout=6 * CONNECT_TIMEOUT,
        )
    except (pymysql.OperationalError, pymysql.InterfaceError) as error:
        state = (
            "database-refuses" if mysql_code(error) in _ACCESS_DENIED else "database-unreachable"
        )
        raise StoreError(state) from error
    except pymysql.MySQLError as error:
        print(f"database answers {mysql_code(error)}", flush=True)
        raise StoreError("database-fails") from error


def mysql_code(error: BaseException) -> int:
    """Return the server's error number, 0 when there is none."""
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else 0


def query(opened: Any, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows."""
    with contextlib.closing(opened.cursor()) as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def schema_revision(stores: Stores, opened: Any) -> str | None:
    """Return the revision of the schema, None where there is no schema of MLflow's."""
    if stores.dialect == "postgresql":
        import psycopg2

        try:
            rows = query(opened, "SELECT version_num FROM alembic_version")
        except psycopg2.ProgrammingError as error:
            if error.pgcode != _UNDEFINED_TABLE:
                raise
            rows = []
        # The transaction that the query began would hold a lock on the table.
        opened.rollback()
    else:
        import pymysql

        try:
            rows = query(opened, "SELECT version_num FROM alembic_version")
        except pymysql.ProgrammingError as error:
            if mysql_code(error) != _NO_SUCH_TABLE:
                raise
            rows = []
    return str(rows[0][0]) if rows else None


def bucket(stores: Stores) -> str:
    """Say whether the bucket can be used.

    Returns:
        ``ready``, ``bucket-missing``, ``bucket-forbidden``, ``bucket-refuses`` (the store does
        not accept the keys) or ``bucket-unreachable``.
    """
    import botocore.exceptions

    try:
        # HEAD would do, but its answer has no body to tell the reasons apart.
        s3(stores).list_objects_v2(Bucket=stores.bucket, MaxKeys=1)
    except botocore.exceptions.ClientError as error:
        return bucket_state(error)
    except botocore.exceptions.BotoCoreError:
        return "bucket-unreachable"
    return "ready"


def create_bucket(stores: Stores) -> str:
    """Create the bucket; the answers are those of `bucket`."""
    import botocore.exceptions

    try:
        s3(stores).create_bucket(Bucket=stores.bucket)
    except botocore.exceptions.ClientError as error:
        # Another unit may have been quicker, or the name may be somebody else's.
        taken = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}
        if error.response.get("Error", {}).get("Code") in taken:
            return bucket(stores)
        return bucket_state(error)
    except botocore.exceptions.BotoCoreError:
        return "bucket-unreachable"
    return "ready"


def bucket_state(error: Any) -> str:
    """Return the state for an error that S3 answered."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return "bucket-missing"
    if code in _WRONG_KEYS:
        return "bucket-refuses"
    if status == 403:
        return "bucket-forbidden"
    return "bucket-unreachable"


def s3(stores: Stores) -> Any:
    """Return an S3 client that gives up soon."""
    import boto3
    import botocore.config

    os.environ.update(stores.environment)
    # A session of its own, since each keeps the keys that it has read for a minute.
    return boto3.session.Session().client(
        "s3",
        endpoint_url=stores.endpoint,
        config=botocore.config.Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=2 * CONNECT_TIMEOUT,
            retries={"max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )


class Report:
    """The file in which a program says how far it is; the charm reads it.

    Only states that the charm has words for, and revisions, are written: never the text of an
    exception, which may hold an address or a password.
    """

    def __init__(self, path: str) -> None:
        self._path = pathlib.Path(path)

    def __call__(self, state: str, **details: str | None) -> None:
        """Write the state, and wake the charm when it differs from the one that is there."""
        content = {"state": state, **{key: value or "" for key, value in details.items()}}
        text = json.dumps(content, sort_keys=True)
        with contextlib.suppress(FileNotFoundError):
            if self._path.read_text(encoding="utf-8") == text:
                return
        print(f"state: {text}", flush=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=self._path.parent, prefix=".", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        pathlib.Path(file.name).replace(self._path)
        try:
            pebble_notify.notify()
        except OSError as error:
            # The charm then learns of it with its next event.
            print(f"no notice: {error}", flush=True)
