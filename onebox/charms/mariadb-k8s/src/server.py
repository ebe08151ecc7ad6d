"""Run MariaDB's own programs in the workload container: its installer, and SQL."""

from __future__ import annotations

import ops

import mariadb

_NEW_DATA = f"{mariadb.STORAGE}/data.new"


def prepare(container: ops.Container) -> None:
    """Make the data directory if there is none.

    It is made aside and moved, so that no half-made directory is ever used.

    Raises:
        ops.pebble.ConnectionError: the container cannot be reached.
        ops.pebble.ExecError: the installer failed.
    """
    if container.exists(mariadb.DATA):
        return
    if container.exists(_NEW_DATA):
        container.remove_path(_NEW_DATA, recursive=True)
    container.make_dir(
        _NEW_DATA, permissions=0o700, user_id=mariadb.USER_ID, group_id=mariadb.USER_ID
    )
    container.exec(
        [
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={_NEW_DATA}",
            # Root of the container, which is who the charm comes in as, is root of the server.
            "--auth-root-authentication-method=socket",
            "--auth-root-socket-user=root",
            "--skip-test-db",
        ],
        user_id=mariadb.USER_ID,
        group_id=mariadb.USER_ID,
        working_dir="/",
        timeout=300,
    ).wait_output()
    container.exec(["mv", "-T", _NEW_DATA, mariadb.DATA], timeout=30).wait_output()


def find(container: ops.Container) -> mariadb.Found:
    """Read what the server holds."""
    return mariadb.found(_sql(container, mariadb.FIND))


def run(container: ops.Container, statements: list[str]) -> None:
    """Run statements as root."""
    if statements:
        _sql(container, "\n".join(statements))


def _sql(container: ops.Container, sql: str) -> str:
    output, _ = container.exec(
        [
            "mariadb",
            "--no-defaults",
            f"--socket={mariadb.SOCKET}",
            "--user=root",
            "--default-character-set=utf8mb4",
            "--batch",
            "--raw",
            "--skip-column-names",
        ],
        stdin=sql,
        timeout=60,
    ).wait_output()
    return output
