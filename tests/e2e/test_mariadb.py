"""The same story with MariaDB in place of PostgreSQL, on each of its two wires."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from onebox import stack
from tests.e2e import byhand, users

WIRES = {
    "mysql_client": ("mlflow-server:mysql", "mariadb-k8s:database"),
    "mysql": ("mlflow-server:mariadb", "mariadb-k8s:mysql"),
}
POSTGRESQL = ("mlflow-server:postgresql", "postgresql-k8s:database")


@pytest.fixture(scope="module")
def mariadb(hand: byhand.Hand) -> Generator[byhand.Hand]:
    """The server of the model without a database, and MariaDB beside it."""
    juju = hand.juju
    juju.deploy(
        byhand.BUILD / "mariadb-k8s.charm",
        resources={"mariadb-image": byhand.image("mariadb")},
        config={"password": "legacy-wire-secret", "root-password": "legacy-root-secret"},
    )
    hand.ensure_models()
    juju.config(stack.MODELS, reset="models-uri")
    juju.remove_relation(*POSTGRESQL)
    yield hand
    juju.integrate(*POSTGRESQL)
    # Until its hooks have run the server is active with MariaDB.
    users.rest(juju, users.TIMEOUT)
    users.until(juju, lambda status: status.apps[stack.SERVER].is_active)


@pytest.mark.parametrize("wire", list(WIRES))
def test_the_story_on_mariadb(mariadb: byhand.Hand, wire: str) -> None:
    juju, pair = mariadb.juju, WIRES[wire]
    # GIVEN a server that misses its database, and says so
    status = users.until(juju, lambda status: users.message(status, byhand.SERVER)[0] == "blocked")
    assert "postgresql" in users.message(status, byhand.SERVER)[1]
    # WHEN it gets MariaDB
    juju.integrate(*pair)
    users.until(juju, lambda status: status.apps[stack.SERVER].is_active)
    # THEN the whole story works
    mariadb.story(f"mariadb-{wire.replace('_', '-')}")
    # and the metadata is in that database
    relations = juju.status().apps[stack.SERVER].relations
    assert relations[pair[0].partition(":")[2]][0].related_app == "mariadb-k8s"
    juju.config(stack.MODELS, reset="models-uri")
    juju.remove_relation(*pair)
