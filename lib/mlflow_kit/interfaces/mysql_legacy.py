"""`mysql`: the interface of charmed-osm-mariadb-k8s, requirer side.

Everything lies in clear in the provider's unit databags; the requirer writes nothing and the
provider chooses the database. Source: SMAK1993/charmed-osm-mariadb-k8s and mysql-k8s'
deprecated endpoint ``mysql``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlflow_kit import uris
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import _parse, database, mysql_client

_KEYS = ("host", "port", "user", "password", "database")


def read(
    units: Sequence[Mapping[str, str]],
) -> Absent | Invalid | database.Database:
    """Read the databags of the provider's units, in the order of the units.

    The first unit that has sent everything counts: the others may not have come so far. The
    account of ``root``, which the provider sends as well, is not looked at.
    """
    complete = [bag for bag in units if all(bag.get(key) for key in _KEYS)]
    if not complete:
        return Absent("credentials")
    bag = complete[0]
    for key in ("user", "password", "database"):
        if _parse.has_control(bag[key]):
            return Invalid(f"{key} has control characters")
    host = bag["host"].removesuffix(".")
    if not uris.is_host(host):
        return Invalid("host is neither a name nor an address")
    port = _parse.port(bag["port"])
    if isinstance(port, Invalid):
        return port
    return mysql_client.checked(
        database.Database(
            endpoints=(uris.Endpoint(host, port),),
            name=bag["database"],
            username=bag["user"],
            password=bag["password"],
        )
    )
