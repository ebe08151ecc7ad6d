"""Run PostgreSQL's own programs in the workload container: initdb, and psql with SQL."""

from __future__ import annotations

import ops

import postgresql
from mlflow_kit import workload

# Where Debian and Ubuntu install each major version, outside PATH.
_DEBIAN = "/usr/lib/postgresql"
_NEW_DATA = f"{postgresql.STORAGE}/pgdata.new"


class VersionError(Exception):
    """The image has no PostgreSQL that can read the data; the text says which one is needed."""


def prepare(container: ops.Container) -> str:
    """Make the data directory if there is none, and say where the programs are.

    Returns:
        The folder of ``postgres``, ``psql`` and the others, of the version of the data.

    Raises:
        VersionError: see there.
        ops.pebble.ConnectionError: the container cannot be reached.
        ops.pebble.ExecError: initdb failed.
    """
    versions = _versions(container)
    if not versions:
        raise VersionError(f"the image has no PostgreSQL in {_DEBIAN}")
    if not container.exists(postgresql.DATA):
        programs = versions[max(versions, key=int)]
        _initialise(container, programs)
        return programs
    version = (workload.read_text(container, f"{postgresql.DATA}/PG_VERSION") or "?").strip()
    if version not in versions:
        raise VersionError(
            f"the data is of PostgreSQL {version}, the image has {', '.join(versions)}"
        )
    return versions[version]


def find(container: ops.Container, programs: str) -> postgresql.Found:
    """Read what the server holds."""
    return postgresql.found(_psql(container, programs, "postgres", postgresql.FIND))


def run(container: ops.Container, programs: str, change: postgresql.Change) -> None:
    """Make one change."""
    _psql(container, programs, change.database, change.sql)


def _versions(container: ops.Container) -> dict[str, str]:
    """Return the folder of programs by major version."""
    if not container.exists(_DEBIAN):
        return {}
    return {
        info.name: f"{info.path}/bin"
        for info in container.list_files(_DEBIAN)
        if info.name.isdigit()
    }


def _initialise(container: ops.Container, programs: str) -> None:
    """Run initdb aside and move the result, so that no half-made directory is ever used."""
    if container.exists(_NEW_DATA):
        container.remove_path(_NEW_DATA, recursive=True)
    container.make_dir(
        _NEW_DATA,
        permissions=0o700,
        user_id=postgresql.USER_ID,
        group_id=postgresql.USER_ID,
    )
    container.exec(
        [
            f"{programs}/initdb",
            f"--pgdata={_NEW_DATA}",
            "--username=postgres",
            "--auth-local=peer",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--data-checksums",
        ],
        user_id=postgresql.USER_ID,
        group_id=postgresql.USER_ID,
        working_dir="/",
        timeout=300,
    ).wait_output()
    container.exec(["mv", "-T", _NEW_DATA, postgresql.DATA], timeout=30).wait_output()


def _psql(container: ops.Container, programs: str, database: str, sql: str) -> str:
    output, _ = container.exec(
        [
            f"{programs}/psql",
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            # Without this an error message quotes the statement.
            "--set=VERBOSITY=terse",
        ],
        # As an argument, a database name with "=" in it would be taken for a connection string.
        environment={
            "PGHOST": postgresql.SOCKETS,
            "PGPORT": str(postgresql.PORT),
            "PGUSER": "postgres",
            "PGDATABASE": database,
        },
        stdin=sql,
        timeout=60,
    ).wait_output()
    return output
