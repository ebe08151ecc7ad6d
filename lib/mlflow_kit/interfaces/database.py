"""`postgresql_client` and `mysql_client`: data_interfaces V0, which both share.

Source: charmlibs' interface specifications and what postgresql-k8s, mysql-k8s and mariadb-k8s
write (data_interfaces 0.58). V1 requests get no answer from them, so V0 is what we send; a V1
provider answers a V0 request in V0 form.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from mlflow_kit import secrets, uris
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import _parse

_SECRETS = ("username", "password", "tls", "tls-ca", "uris")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Database:
    """A database and the account to use it with.

    Attributes:
        endpoints: servers that take writes, in order of preference.
        name: name of the database, which may differ from the one that was asked for.
        username: database user.
        password: its password.
        tls: whether connections have to be encrypted.
        tls_ca: PEM of the authority that signed the server's certificate; empty when unknown.
    """

    endpoints: tuple[uris.Endpoint, ...]
    name: str
    username: str
    password: str = dataclasses.field(repr=False)
    tls: bool = False
    tls_ca: str = dataclasses.field(default="", repr=False)


def request(database: str) -> dict[str, str]:
    """Return what the requirer's leader saves: the name of the database that it wants."""
    return {"database": database, "requested-secrets": json.dumps(_SECRETS)}


def read(
    bag: Mapping[str, str], secret: secrets.Reader, *, default_port: int
) -> Absent | Invalid | Database:
    """Read the provider's application databag."""
    fields = _fields(bag, secret)
    if isinstance(fields, Absent | Invalid):
        return fields
    for key in ("username", "password"):
        if not fields.get(key):
            return Absent("credentials")
    for key, missing in (("database", "a database"), ("endpoints", "an endpoint")):
        if not bag.get(key):
            return Absent(missing)
    for key in ("username", "password"):
        if _parse.has_control(fields[key]):
            return Invalid(f"{key} has control characters")
    if _parse.has_control(bag["database"]):
        return Invalid("database has control characters")
    try:
        endpoints = uris.parse_endpoints(bag["endpoints"], default_port)
    except ValueError as error:
        return Invalid(f"endpoints {error}")
    # V0 providers write Python's "True", V1 providers JSON's "true".
    return Database(
        endpoints=endpoints,
        name=bag["database"],
        username=fields["username"],
        password=fields["password"],
        tls=fields.get("tls", "").lower() == "true",
        tls_ca=fields.get("tls-ca", ""),
    )


def _fields(
    bag: Mapping[str, str], secret: secrets.Reader
) -> Mapping[str, str] | Absent | Invalid:
    """Return the secret fields, which lie in secrets or, with old providers, in the databag."""
    fields = {key: bag.get(key, "") for key in _SECRETS}
    for group in ("secret-user", "secret-tls"):
        if not bag.get(group):
            continue
        content = _parse.secret(bag, group, secret)
        if isinstance(content, Absent | Invalid):
            return content
        fields.update(content)
    return fields
