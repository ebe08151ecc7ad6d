"""`postgresql_client`: a database of postgresql-k8s or pgbouncer-k8s, requirer side."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_kit import secrets
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import database

DEFAULT_PORT = 5432


def request(name: str) -> dict[str, str]:
    """Return what the requirer's leader saves."""
    return database.request(name)


def read(bag: Mapping[str, str], secret: secrets.Reader) -> Absent | Invalid | database.Database:
    """Read the provider's application databag."""
    return database.read(bag, secret, default_port=DEFAULT_PORT)
