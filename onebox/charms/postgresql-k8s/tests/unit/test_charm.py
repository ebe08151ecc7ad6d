"""What the charm `postgresql-k8s` answers and runs."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import ops
import pytest
from ops import testing

import charm
import postgresql
from mlflow_kit import testing as kit_testing
from onebox.charms import simulation

BIN = "/usr/lib/postgresql/15/bin"
STORAGE = "/var/lib/postgresql/data"
REQUESTED = json.dumps(["username", "password", "tls", "tls-ca", "uris"])
EMPTY = {
    "version": "15.18 (Debian 15.18-0+deb12u1)",
    "roles": ["postgres"],
    "databases": {"postgres": True},
    "accounts": [],
}

Unit = simulation.Unit[charm.PostgresqlCharm]


@pytest.fixture(autouse=True)
def pebble(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # No check ever runs by itself in the simulation.
    monkeypatch.setattr(charm, "_SETTLE", 0)
    with kit_testing.simulation():
        yield


@pytest.fixture
def make_unit(tmp_path: pathlib.Path) -> Callable[..., Unit]:
    """Make a unit on an image as Debian lays it out, with a data directory of its version."""

    def make(*, held: dict[str, Any] = EMPTY, data: str = "15", **options: Any) -> Unit:
        unit = simulation.Unit(
            charm.PostgresqlCharm,
            "postgresql",
            tmp_path,
            keeps=("/usr/lib", "/var/lib", "/etc/postgresql"),
            execs=[
                testing.Exec([f"{BIN}/psql"], stdout=json.dumps(held)),
                testing.Exec([f"{BIN}/initdb"]),
                testing.Exec(["mv"]),
            ],
            **options,
        )
        unit.path(BIN).mkdir(parents=True)
        unit.path(STORAGE).mkdir(parents=True)
        if data:
            version = unit.path(f"{STORAGE}/pgdata/PG_VERSION")
            version.parent.mkdir()
            version.write_text(f"{data}\n")
        return unit

    return make


def relation(**remote: str) -> testing.Relation:
    return testing.Relation("database", remote_app_data=remote)


def programs(unit: Unit) -> list[str]:
    """The programs that were run in the container, without their folders."""
    ran = unit.context.exec_history.get("postgresql", [])
    return [pathlib.Path(each.command[0]).name for each in ran]


def sql(unit: Unit) -> str:
    ran = unit.context.exec_history.get("postgresql", [])
    return "\n".join(str(each.stdin) for each in ran if each.command[0].endswith("psql"))


def secrets(unit: Unit) -> dict[str, testing.Secret]:
    return {secret.label or "": secret for secret in unit.state.secrets}


def test_database_is_offered_by_secret(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a requirer that wants its credentials in secrets
    requirer = relation(database="mlflow", **{"requested-secrets": REQUESTED})
    unit = make_unit(relations={requirer})
    # WHEN PostgreSQL becomes healthy
    unit.start()
    # THEN it has an answer without a password in clear
    assert unit.status == ops.ActiveStatus()
    user = secrets(unit)[f"database.{requirer.id}.user.secret"]
    tls = secrets(unit)[f"database.{requirer.id}.tls.secret"]
    host = "postgresql-k8s-0.postgresql-k8s-endpoints.m.svc.cluster.local"
    assert unit.sent(requirer) == {
        "database": "mlflow",
        "endpoints": f"{host}:5432",
        "secret-tls": tls.id,
        "secret-user": user.id,
        "version": "15.18",
    }
    name = f"relation_id_{requirer.id}"
    password = (user.latest_content or {})["password"]
    assert user.latest_content == {
        "username": name,
        "password": password,
        "uris": f"postgresql://{name}:{password}@{host}:5432/mlflow",
    }
    assert tls.latest_content == {"tls": "False"}
    # AND only that relation may read them
    assert user.remote_grants == {requirer.id: {"remote"}}
    assert tls.remote_grants == {requirer.id: {"remote"}}


def test_old_requirer_gets_everything_in_clear(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a requirer that knows no secrets
    requirer = relation(database="mlflow")
    unit = make_unit(relations={requirer})
    # WHEN PostgreSQL becomes healthy
    unit.start()
    # THEN all is in the databag
    sent = unit.sent(requirer)
    assert sent["username"] == f"relation_id_{requirer.id}"
    assert sent["tls"] == "False"
    assert sent["password"] in sent["uris"]
    assert not unit.state.secrets


def test_second_run_changes_nothing(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit that is done
    unit = make_unit(relations={relation(database="a", **{"requested-secrets": REQUESTED})})
    unit.start()
    before = unit.state
    # WHEN it runs again
    unit.run()
    # THEN databags, secrets and container are as they were
    assert unit.state == before


def test_password_is_in_no_statement_and_no_argument(make_unit: Callable[..., Unit]) -> None:
    # GIVEN an account that was made
    requirer = relation(database="mlflow", **{"requested-secrets": REQUESTED})
    unit = make_unit(relations={requirer})
    unit.start()
    content = secrets(unit)[f"database.{requirer.id}.user.secret"].latest_content or {}
    # WHEN one looks at what was run for it
    ran = unit.context.exec_history["postgresql"]
    # THEN the password is not in it, but its verifier is
    assert content["password"] not in str([each.command for each in ran])
    assert content["password"] not in str([each.environment for each in ran])
    assert content["password"] not in sql(unit)
    assert postgresql.verifier(content["username"], content["password"]) in sql(unit)


def test_account_goes_with_its_relation(make_unit: Callable[..., Unit]) -> None:
    # GIVEN an account that was made
    requirer = relation(database="mlflow", **{"requested-secrets": REQUESTED})
    name = f"relation_id_{requirer.id}"
    account = {"name": name, "database": "mlflow", "verifier": "x"}
    unit = make_unit(
        relations={requirer},
        held={**EMPTY, "databases": {"postgres": True, "mlflow": False}, "accounts": [account]},
    )
    unit.start()
    assert f"DROP ROLE {name}" not in sql(unit).replace('"', "")
    # WHEN the relation is removed
    unit.run(unit.context.on.relation_broken(unit.state.get_relation(requirer.id)))
    # THEN the account and its secrets are gone, and the database stays
    assert f"DROP ROLE {name}" in sql(unit).replace('"', "")
    assert "DROP DATABASE" not in sql(unit)
    assert not unit.state.secrets


def test_first_start_makes_the_data_directory_aside(make_unit: Callable[..., Unit]) -> None:
    # GIVEN an empty storage
    unit = make_unit(data="")
    # WHEN the charm starts PostgreSQL
    unit.run()
    # THEN initdb ran as the service's user, and its result was moved
    ran = unit.context.exec_history["postgresql"]
    assert programs(unit)[:2] == ["initdb", "mv"]
    assert ran[0].user_id == ran[0].group_id == 584792
    assert f"--pgdata={STORAGE}/pgdata.new" in ran[0].command
    assert ran[1].command[-2:] == [f"{STORAGE}/pgdata.new", f"{STORAGE}/pgdata"]


def test_data_that_is_there_is_used(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a storage with data, in a new pod
    unit = make_unit(data="15")
    # WHEN the charm starts PostgreSQL
    unit.start()
    # THEN no data directory is made
    assert "initdb" not in programs(unit)
    assert unit.container.plan.services["postgresql"].command.split()[1] == f"{BIN}/postgres"


def test_data_of_another_version_blocks(make_unit: Callable[..., Unit]) -> None:
    # GIVEN data that the image's PostgreSQL cannot read
    unit = make_unit(data="14")
    # WHEN the charm runs
    unit.run()
    # THEN it says so and starts nothing
    assert unit.status == ops.BlockedStatus("the data is of PostgreSQL 14, the image has 15")
    assert not unit.container.plan.services


def test_image_without_postgresql_blocks(make_unit: Callable[..., Unit]) -> None:
    # GIVEN another image
    unit = make_unit()
    unit.path(BIN).rmdir()
    unit.path(BIN).parent.rmdir()
    # WHEN the charm runs
    unit.run()
    # THEN it says so
    missing = "the image has no PostgreSQL in /usr/lib/postgresql"
    assert unit.status == ops.BlockedStatus(missing)


def test_outage_takes_nothing_back(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a database that was offered
    requirer = relation(database="mlflow", **{"requested-secrets": REQUESTED})
    unit = make_unit(relations={requirer})
    unit.start()
    before = dict(unit.sent(requirer))
    # WHEN PostgreSQL fails its check
    unit.fail()
    # THEN the status says so and the databag is the same
    assert unit.status == ops.WaitingStatus("postgresql does not answer its health check")
    assert unit.sent(requirer) == before


def test_nothing_is_offered_before_postgresql_answers(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a requirer
    requirer = relation(database="mlflow")
    unit = make_unit(relations={requirer})
    # WHEN PostgreSQL was started and its check has not run yet
    unit.run()
    # THEN the unit waits
    assert unit.status == ops.WaitingStatus("postgresql is starting")
    assert not unit.sent(requirer)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"database": "postgres"}, "the database name postgres is reserved"),
        ({"database": "PG_x"}, "the database name PG_x is reserved"),
        ({"database": "relation_id_1"}, "the database name relation_id_1 is reserved"),
        ({"database": "ü" * 32}, "a database name has at most 63 bytes"),
        ({"database": "a\nb"}, "database has control characters"),
        ({"database": "a", "requested-secrets": "{"}, "requested-secrets is not JSON"),
        ({"database": "a", "requested-secrets": "{}"}, "requested-secrets is not a list"),
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


def test_requirer_that_has_not_asked_is_left_alone(make_unit: Callable[..., Unit]) -> None:
    # GIVEN an empty databag, and a V1 request, which V0 does not see
    empty, newer = relation(), relation(version="v1", requests="[]")
    unit = make_unit(relations={empty, newer})
    # WHEN the charm runs
    unit.start()
    # THEN it is active and has said nothing
    assert unit.status == ops.ActiveStatus()
    assert not unit.sent(empty)
    assert not unit.sent(newer)


def test_second_unit_is_blocked_and_runs_nothing(make_unit: Callable[..., Unit]) -> None:
    # GIVEN unit 1
    unit = make_unit(number=1, leader=False)
    # WHEN it runs
    unit.run()
    # THEN it says what to do
    message = "PostgreSQL serves from one unit here: scale to 1"
    assert unit.status == ops.BlockedStatus(message)
    assert not unit.container.plan.services


def test_unit_without_leadership_serves_and_waits(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit that is not the leader
    unit = make_unit(leader=False, relations={relation(database="mlflow")})
    # WHEN PostgreSQL becomes healthy
    unit.start()
    # THEN it serves those who have an account, and waits to make new ones
    assert unit.container.plan.services
    assert unit.status == ops.WaitingStatus("waiting for leadership to serve relations")


def test_unreachable_container_waits(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a container whose Pebble does not answer
    unit = make_unit()
    unit.change_container(can_connect=False)
    # WHEN the charm runs
    unit.run()
    # THEN it waits
    assert unit.status == ops.WaitingStatus("container postgresql is not ready")


def test_old_revision_of_a_secret_is_removed(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a secret of which nobody reads the first revision any more
    secret = testing.Secret({"password": "old"}, label="l", owner="app")
    unit = make_unit(secrets={secret})
    # WHEN Juju says so
    unit.run(unit.context.on.secret_remove(secret, revision=0))
    # THEN it is removed
    assert unit.context.removed_secret_revisions == [0]


def test_version_and_port_are_known(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a fresh unit
    unit = make_unit()
    # WHEN PostgreSQL becomes healthy
    unit.start()
    # THEN Juju knows them
    assert unit.state.workload_version == "15.18"
    assert unit.state.opened_ports == {testing.TCPPort(5432)}


def test_stopping_is_said(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit
    unit = make_unit()
    # WHEN it stops
    unit.run(unit.context.on.stop())
    # THEN it does not claim to be active
    assert unit.status == ops.MaintenanceStatus("stopping")
