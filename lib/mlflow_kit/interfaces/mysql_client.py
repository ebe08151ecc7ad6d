"""`mysql_client`: a database of mysql-k8s, mysql-router-k8s or mariadb-k8s, requirer side."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_kit import secrets
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import database

DEFAULT_PORT = 3306


def request(name: str) -> dict[str, str]:
    """Return what the requirer's leader saves."""
    return database.request(name)


def read(bag: Mapping[str, str], secret: secrets.Reader) -> Absent | Invalid | database.Database:
    """Read the provider's application databag."""
    return checked(database.read(bag, secret, default_port=DEFAULT_PORT))


def checked(found: Absent | Invalid | database.Database) -> Absent | Invalid | database.Database:
    """Refuse an account that the PyMySQL driver cannot use.

    PyMySQL encodes passwords as Latin-1 while servers expect UTF-8, so only ASCII means the
    same on both sides (pymysql.connections.Connection).
    """
    if isinstance(found, database.Database) and not found.password.isascii():
        return Invalid("password has characters outside ASCII, which the driver cannot send")
    return found
