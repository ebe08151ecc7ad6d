"""What the charm `mariadb-k8s` answers and runs, on both of its endpoints."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import ops
import pytest
from ops import testing

import charm
import mariadb
from mlflow_kit import testing as kit_testing
from onebox.charms import simulation

REQUESTED = json.dumps(["username", "password", "tls", "tls-ca", "uris"])
EMPTY = {
    "version": "10.11.18-MariaDB-0+deb12u1",
    "databases": {"mysql": "", "sys": ""},
    "accounts": None,
    "grants": None,
}

Unit = simulation.Unit[charm.MariadbCharm]


@pytest.fixture(autouse=True)
def pebble(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # No check ever runs by itself in the simulation.
    monkeypatch.setattr(charm, "_SETTLE", 0)
    with kit_testing.simulation():
        yield


@pytest.fixture
def make_unit(tmp_path: pathlib.Path) -> Callable[..., Unit]:
    """Make a unit with a data directory."""

    def make(*, held: dict[str, Any] = EMPTY, data: bool = True, **options: Any) -> Unit:
        unit = simulation.Unit(
            charm.MariadbCharm,
            "mariadb",
            tmp_path,
            keeps=("/var/lib", "/etc", "/run"),
            execs=[
                testing.Exec(["mariadb"], stdout=json.dumps(held)),
                testing.Exec(["mariadb-install-db"]),
                testing.Exec(["mv"]),
            ],
            **options,
        )
        unit.path("/var/lib/mysql").mkdir()
        if data:
            unit.path("/var/lib/mysql/data").mkdir()
        return unit

    return make


def relation(**remote: str) -> testing.Relation:
    return testing.Relation("database", remote_app_data=remote)


def legacy() -> testing.Relation:
    return testing.Relation("mysql")


def ran(unit: Unit) -> list[testing.ExecArgs]:
    return unit.context.exec_history.get("mariadb", [])


def sql(unit: Unit) -> str:
    return "\n".join(str(each.stdin) for each in ran(unit) if each.command[0] == "mariadb")


def test_database_is_offered_by_secret(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a requirer that wants its credentials in secrets
    requirer = relation(database="mlflow", **{"requested-secrets": REQUESTED})
    unit = make_unit(relations={requirer})
    # WHEN MariaDB becomes healthy
    unit.start()
    # THEN it has the answer of mariadb-k8s: the account is called like the database, the
    # endpoint is the short name, and there is no word of TLS or URIs
    assert unit.status == ops.ActiveStatus()
    (user,) = unit.state.secrets
    assert unit.sent(requirer) == {
        "database": "mlflow",
        "endpoints": "mariadb-k8s:3306",
        "secret-user": user.id,
        "version": "10.11.18-MariaDB-0+deb12u1",
    }
    content = user.latest_content or {}
    assert content.keys() == {"username", "password"}
    assert content["username"] == "mlflow"
    assert user.remote_grants == {requirer.id: {"remote"}}
    # AND the server knows the account by the hash of its password
    assert mariadb.password_hash(content["password"]) in sql(unit)
    assert content["password"] not in str(ran(unit))


def test_old_requirer_gets_everything_in_clear(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a requirer that knows no secrets
    requirer = relation(database="mlflow")
    unit = make_unit(relations={requirer})
    # WHEN MariaDB becomes healthy
    unit.start()
    # THEN all is in the databag
    sent = unit.sent(requirer)
    assert sent["username"] == "mlflow"
    assert mariadb.password_hash(sent["password"]) in sql(unit)
    assert not unit.state.secrets


def test_second_run_changes_nothing(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit that is done
    requirers = {relation(database="a", **{"requested-secrets": REQUESTED}), legacy()}
    unit = make_unit(relations=requirers)
    unit.start()
    before = unit.state
    # WHEN it runs again
    unit.run()
    # THEN databags, secrets and container are as they were
    assert unit.state.relations == before.relations
    assert unit.state.secrets == before.secrets
    assert unit.container.service_statuses == before.get_container("mariadb").service_statuses


def test_database_is_dropped_with_its_relation(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a database that was made for a relation
    requirer = relation(database="mlflow", **{"requested-secrets": REQUESTED})
    comment = f"onebox {simulation.MODEL.uuid} relation {requirer.id}"
    unit = make_unit(
        relations={requirer},
        held={
            **EMPTY,
            "databases": {"mlflow": comment},
            "accounts": {"mlflow": "*X"},
            "grants": [["mlflow", "mlflow"]],
        },
    )
    unit.start()
    assert "DROP" not in sql(unit)
    # WHEN the relation is removed
    unit.run(unit.context.on.relation_broken(unit.state.get_relation(requirer.id)))
    # THEN database, account and secret are gone
    assert "DROP DATABASE `mlflow`;" in sql(unit)
    assert "DROP USER `mlflow`@'%';" in sql(unit)
    assert not unit.state.secrets


def test_legacy_wire_is_in_the_unit_databag(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a relation of the old interface
    requirer = legacy()
    unit = make_unit(relations={requirer})
    # WHEN MariaDB becomes healthy
    unit.start()
    # THEN the unit, not the application, says what the options say
    assert unit.sent(requirer) == {}
    bag = unit.state.get_relation(requirer.id).local_unit_data
    assert {key: bag[key] for key in bag if "address" not in key and "egress" not in key} == {
        "host": "mariadb-k8s.m.svc.cluster.local",
        "port": "3306",
        "user": "mysql",
        "password": "password",
        "database": "database",
        "root_password": "root",
    }
    assert "CREATE DATABASE `database` CHARACTER SET utf8mb4" in sql(unit)
    assert "ON `database`.* TO `mysql`@'%'" in sql(unit)
    assert "ON *.* TO `root`@'%'" in sql(unit)


def test_root_is_reachable_only_while_the_old_interface_needs_it(
    make_unit: Callable[..., Unit],
) -> None:
    # GIVEN a server that holds the accounts of the old interface, which nobody uses any more
    held = {**EMPTY, "databases": {"database": ""}, "accounts": {"root": "*X", "mysql": "*Y"}}
    unit = make_unit(held=held)
    # WHEN the charm runs
    unit.start()
    # THEN they go, and the database stays
    assert "DROP USER `root`@'%';" in sql(unit)
    assert "DROP USER `mysql`@'%';" in sql(unit)
    assert "DROP DATABASE" not in sql(unit)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"user": "root"}, "option user: the account name root is reserved"),
        ({"user": ""}, "option user: an account name has 1 to 64 characters"),
        ({"database": "mysql"}, "option database: the database name mysql is reserved"),
        ({"database": "x" * 65}, "option database: a database name has 1 to 64 characters"),
        ({"password": ""}, "option password is empty"),
        ({"root-password": ""}, "option root-password is empty"),
    ],
)
def test_bad_option_blocks_and_keeps_what_runs(
    make_unit: Callable[..., Unit], config: dict[str, str], message: str
) -> None:
    # GIVEN a unit that serves
    unit = make_unit(relations={legacy()})
    unit.start()
    before = unit.state
    # WHEN an option gets out of bounds
    unit.change(config=config)
    unit.run()
    # THEN the status names it, and what was there stays
    assert unit.status == ops.BlockedStatus(message)
    assert unit.state.relations == before.relations


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"database": "MySQL"}, "the database name MySQL is reserved"),
        ({"database": "root"}, "the account name root is reserved"),
        ({"database": "x" * 65}, "a database name has 1 to 64 characters"),
        ({"database": "a\nb"}, "database has control characters"),
        (
            {"database": " a"},
            "a database name has no control characters, emoji, or spaces around it",
        ),
        ({"database": "a", "extra-user-roles": "admin"}, "extra-user-roles is not offered here"),
    ],
)
def test_bad_request_blocks_and_serves_the_others(
    make_unit: Callable[..., Unit], request_: dict[str, str], reason: str
) -> None:
    # GIVEN one request that cannot be met, and one that can
    bad, good = relation(**request_), relation(database="mlflow")
    unit = make_unit(relations={bad, good})
    # WHEN the charm runs
    unit.start()
    # THEN the status says what is wrong, and the other requirer is served
    assert unit.status == ops.BlockedStatus(f"remote: {reason}")
    assert not unit.sent(bad)
    assert unit.sent(good)["database"] == "mlflow"


def test_two_relations_cannot_have_one_database(make_unit: Callable[..., Unit]) -> None:
    # GIVEN two relations that ask for the same database
    first, second = relation(database="mlflow"), relation(database="mlflow")
    unit = make_unit(relations={first, second})
    # WHEN the charm runs
    unit.start()
    # THEN the first one has it, since it would be dropped under the other one
    message = "remote: the database mlflow is taken by another relation"
    assert unit.status == ops.BlockedStatus(message)
    assert unit.sent(first)["database"] == "mlflow"
    assert not unit.sent(second)


def test_first_start_makes_the_data_directory_aside(make_unit: Callable[..., Unit]) -> None:
    # GIVEN an empty storage
    unit = make_unit(data=False)
    # WHEN the charm starts MariaDB
    unit.run()
    # THEN the installer ran as the service's user, and its result was moved
    install, move = ran(unit)[:2]
    assert install.command[0] == "mariadb-install-db"
    assert install.user_id == install.group_id == 584792
    assert move.command == ["mv", "-T", "/var/lib/mysql/data.new", "/var/lib/mysql/data"]


def test_outage_takes_nothing_back(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a database that was offered
    requirer = relation(database="mlflow", **{"requested-secrets": REQUESTED})
    unit = make_unit(relations={requirer})
    unit.start()
    before = dict(unit.sent(requirer))
    # WHEN MariaDB fails its check
    unit.fail()
    # THEN the status says so and the databag is the same
    assert unit.status == ops.WaitingStatus("mariadb does not answer its health check")
    assert unit.sent(requirer) == before


def test_second_unit_is_blocked_and_runs_nothing(make_unit: Callable[..., Unit]) -> None:
    # GIVEN unit 1
    unit = make_unit(number=1, leader=False)
    # WHEN it runs
    unit.run()
    # THEN it says what to do
    message = "MariaDB serves from one unit here: scale to 1"
    assert unit.status == ops.BlockedStatus(message)
    assert not unit.container.plan.services


def test_unreachable_container_waits(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a container whose Pebble does not answer
    unit = make_unit()
    unit.change_container(can_connect=False)
    # WHEN the charm runs
    unit.run()
    # THEN it waits
    assert unit.status == ops.WaitingStatus("container mariadb is not ready")


def test_stopping_is_said(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit
    unit = make_unit()
    # WHEN it stops
    unit.run(unit.context.on.stop())
    # THEN it does not claim to be active
    assert unit.status == ops.MaintenanceStatus("stopping")
