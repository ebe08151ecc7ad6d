"""What the charm `minio` answers and runs."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import ops
import pytest
import yaml
from ops import testing

import charm
from mlflow_kit import testing as kit_testing
from onebox.charms import simulation

VERSIONS = {"_supported_versions": "- v1\n"}
CREDENTIALS = "/etc/minio/credentials"
CHARACTERS = "has characters that are not allowed: use printable ASCII without spaces around it"

Unit = simulation.Unit[charm.MinioCharm]


@pytest.fixture(autouse=True)
def pebble(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # No check ever runs by itself in the simulation.
    monkeypatch.setattr(charm, "_SETTLE", 0)
    with kit_testing.simulation():
        yield


@pytest.fixture
def make_unit(tmp_path: pathlib.Path) -> Callable[..., Unit]:
    def make(**options: Any) -> Unit:
        version = testing.Exec(["minio", "--version"], stdout="minio version RELEASE.2026 (x)\n")
        return simulation.Unit(
            charm.MinioCharm,
            "minio",
            tmp_path,
            keeps=("/etc/minio", "/var/lib", "/data"),
            execs=[version],
            **options,
        )

    return make


def relation(**remote: str) -> testing.Relation:
    return testing.Relation("object-storage", remote_app_data=remote)


def test_account_is_sent_when_minio_is_healthy(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a requirer that has said its versions
    requirer = relation(**VERSIONS)
    unit = make_unit(relations={requirer}, config={"secret-key": "01234567"})
    # WHEN MinIO becomes healthy
    unit.start()
    # THEN the account is there, as YAML that keeps the secret a text
    assert unit.status == ops.ActiveStatus()
    sent = unit.sent(requirer)
    assert sent["_supported_versions"] == "- v1\n"
    assert yaml.safe_load(sent["data"]) == {
        "access-key": "minio",
        "namespace": "m",
        "port": 9000,
        "secret-key": "01234567",
        "secure": False,
        "service": "minio",
    }


def test_a_silent_requirer_gets_versions_and_keeps_nobody_waiting(
    make_unit: Callable[..., Unit],
) -> None:
    # GIVEN two requirers, of which one has not said its versions
    silent, other = relation(), relation(**VERSIONS)
    unit = make_unit(relations={silent, other})
    # WHEN MinIO becomes healthy
    unit.start()
    # THEN only the other one has the account
    assert unit.sent(silent) == VERSIONS
    assert "data" in unit.sent(other)


def test_nothing_is_sent_before_minio_answers(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a requirer
    requirer = relation(**VERSIONS)
    unit = make_unit(relations={requirer})
    # WHEN MinIO was started and its check has not run yet
    unit.run()
    # THEN the unit waits
    assert unit.status == ops.WaitingStatus("minio is starting")
    assert unit.sent(requirer) == VERSIONS


def test_account_stays_during_an_outage(make_unit: Callable[..., Unit]) -> None:
    # GIVEN an account that was sent
    requirer = relation(**VERSIONS)
    unit = make_unit(relations={requirer})
    unit.start()
    before = dict(unit.sent(requirer))
    # WHEN MinIO fails its check
    unit.fail()
    # THEN the status says so and the databag is the same
    assert unit.status == ops.WaitingStatus("minio does not answer its health check")
    assert unit.sent(requirer) == before


def test_generated_secret_key_is_kept(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit without a secret key in its options
    requirer = relation(**VERSIONS)
    unit = make_unit(relations={requirer})
    # WHEN it runs several times
    unit.start()
    first = yaml.safe_load(unit.sent(requirer)["data"])["secret-key"]
    unit.run()
    # THEN a long key was made once, and kept in a secret
    assert len(first) >= 32
    assert yaml.safe_load(unit.sent(requirer)["data"])["secret-key"] == first
    assert [secret.latest_content for secret in unit.state.secrets] == [{"secret-key": first}]


def test_second_run_changes_nothing(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit that is done
    unit = make_unit(relations={relation(**VERSIONS)})
    unit.start()
    before = unit.state
    # WHEN it runs again
    unit.run()
    # THEN databag, secret and container are as they were
    assert unit.state == before


def test_secret_key_is_in_a_file_only(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a secret key that can be searched for
    unit = make_unit(config={"secret-key": "canary-canary"})
    # WHEN the charm starts MinIO
    unit.start()
    # THEN it is in a file of the service and nowhere in the plan
    password = unit.path(f"{CREDENTIALS}/root-password")
    assert password.read_text() == "canary-canary"
    assert password.stat().st_mode & 0o777 == 0o600
    plan = unit.container.plan.to_dict()
    assert "canary" not in str(plan)
    environment = unit.container.plan.services["minio"].environment
    assert environment["MINIO_ROOT_PASSWORD_FILE"] == f"{CREDENTIALS}/root-password"


def test_new_secret_key_reaches_everyone(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit that serves
    requirer = relation(**VERSIONS)
    unit = make_unit(relations={requirer}, config={"secret-key": "old-secret"})
    unit.start()
    # WHEN the option changes
    unit.change(config={"secret-key": "new-secret"})
    unit.start()
    # THEN MinIO and the requirer have the new one
    assert unit.path(f"{CREDENTIALS}/root-password").read_text() == "new-secret"
    assert yaml.safe_load(unit.sent(requirer)["data"])["secret-key"] == "new-secret"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"access-key": ""}, "access-key is too short: use at least 3 characters"),
        ({"access-key": "ab"}, "access-key is too short: use at least 3 characters"),
        ({"secret-key": "1234567"}, "secret-key is too short: use at least 8 characters"),
        (
            {"secret-key": "1234567 "},
            f"secret-key {CHARACTERS}",
        ),
        (
            {"access-key": "min\nio"},
            f"access-key {CHARACTERS}",
        ),
    ],
)
def test_bad_option_blocks_and_keeps_what_runs(
    make_unit: Callable[..., Unit], config: dict[str, str], message: str
) -> None:
    # GIVEN a unit that serves
    requirer = relation(**VERSIONS)
    unit = make_unit(relations={requirer})
    unit.start()
    before = unit.state
    # WHEN an option gets out of bounds
    unit.change(config=config)
    unit.run()
    # THEN the status names it, and what was there stays
    assert unit.status == ops.BlockedStatus(message)
    assert unit.state.relations == before.relations
    assert unit.state.containers == before.containers


def test_second_unit_is_blocked_and_runs_nothing(make_unit: Callable[..., Unit]) -> None:
    # GIVEN unit 1
    unit = make_unit(number=1, leader=False)
    # WHEN it runs
    unit.run()
    # THEN it says what to do
    assert unit.status == ops.BlockedStatus("MinIO serves from one unit here: scale to 1")
    assert not unit.container.plan.services


def test_unit_without_leadership_waits_for_the_key(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit that is not the leader, and no key yet
    unit = make_unit(leader=False)
    # WHEN it runs
    unit.run()
    # THEN it waits
    assert unit.status == ops.WaitingStatus("waiting for leadership to make the secret key")


def test_unreachable_container_waits(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a container whose Pebble does not answer
    unit = make_unit()
    unit.change_container(can_connect=False)
    # WHEN the charm runs
    unit.run()
    # THEN it waits
    assert unit.status == ops.WaitingStatus("container minio is not ready")


def test_port_and_version_are_known(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a fresh unit
    unit = make_unit()
    # WHEN it starts MinIO
    unit.start()
    # THEN Juju knows the port and the version
    assert unit.state.opened_ports == {testing.TCPPort(9000)}
    assert unit.state.workload_version == "RELEASE.2026"


def test_a_requirer_that_scales_down_is_no_reason_to_stop(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit that serves
    requirer = relation(**VERSIONS)
    unit = make_unit(relations={requirer})
    unit.start()
    # WHEN one unit of its requirer departs
    (current,) = unit.state.relations
    unit.run(unit.context.on.relation_departed(current, remote_unit=1))
    # THEN it still says that it is active
    assert unit.status == ops.ActiveStatus()


def test_stopping_is_said(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit
    unit = make_unit()
    # WHEN it stops
    unit.run(unit.context.on.stop())
    # THEN it does not claim to be active
    assert unit.status == ops.MaintenanceStatus("stopping")
