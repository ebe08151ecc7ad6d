"""What the status says, from nothing to a served model, and when something is wrong."""

from __future__ import annotations

import dataclasses

import ops
import pytest
from conftest import Unit, mlflow, object_storage, tracking
from ops import testing

import layout
import scoring


def test_waits_with_a_hint_while_no_model_is_named(unit: Unit):
    # GIVEN no option is set, WHEN the container is ready
    unit.run(unit.on.pebble_ready(unit.container))
    # THEN the status says what to do, and nothing runs that could crash
    assert unit.status == testing.WaitingStatus(
        "set models-uri, for example models:/wine@champion"
    )
    assert unit.running == set()


def test_tells_which_relation_is_missing(unit: Unit):
    unit.configure(models_uri="models:/wine@champion")
    assert unit.status == testing.BlockedStatus(
        "models-uri models:/wine@champion needs relation mlflow"
    )
    unit.configure(models_uri="s3://models/wine")
    assert unit.status == testing.BlockedStatus(
        "models-uri s3://models/wine needs relation object-storage"
    )


def test_waits_for_data_of_the_relation(unit: Unit):
    unit.set(relations={mlflow()})
    unit.configure(models_uri="models:/wine/1")
    assert unit.status == testing.WaitingStatus("mlflow: waiting for a tracking URI")


@pytest.mark.parametrize(
    ("relations", "uri", "message"),
    [
        ({mlflow(**{"tracking-uri": "not a url"})}, "models:/w/1", "mlflow: tracking-uri"),
        ({object_storage(port="many")}, "s3://models/w", "object-storage: port"),
        ({tracking(), object_storage(port="many")}, "models:/w/1", "object-storage: port"),
    ],
)
def test_tells_what_is_wrong_with_the_data(
    unit: Unit, relations: set[testing.Relation], uri: str, message: str
):
    unit.set(relations=relations)
    unit.configure(models_uri=uri)
    assert isinstance(unit.status, testing.BlockedStatus)
    assert unit.message.startswith(message)


def test_is_active_only_when_the_server_and_its_check_are_up(unit: Unit):
    unit.set(relations={tracking()})
    unit.configure(models_uri="models:/wine@champion")
    assert unit.status == testing.MaintenanceStatus("fetching models:/wine@champion")
    unit.fetched(uri="models:/wine/3")
    assert unit.status == testing.MaintenanceStatus("loading models:/wine@champion")
    unit.report("serve-a", "loading")
    assert unit.status == testing.MaintenanceStatus("loading models:/wine@champion")
    unit.report("serve-a", "up")
    assert unit.status == testing.WaitingStatus("serving is starting")
    unit.check_up()
    assert unit.status == testing.ActiveStatus("serving models:/wine/3")
    assert unit.state.workload_version == "3.17.2"
    assert unit.state.opened_ports == {testing.TCPPort(layout.PORT)}


@pytest.mark.parametrize(
    ("blocked", "kind"), [(True, testing.BlockedStatus), (False, testing.WaitingStatus)]
)
def test_tells_why_a_model_cannot_be_fetched(unit: Unit, blocked: bool, kind: type):
    unit.set(relations={tracking()})
    unit.configure(models_uri="models:/wine@nobody")
    unit.not_fetched("does not exist", blocked=blocked)
    assert unit.status == kind("models-uri models:/wine@nobody does not exist")


def test_tells_why_a_model_cannot_be_loaded(unit: Unit):
    unit.set(relations={tracking()})
    unit.configure(models_uri="models:/trees/1")
    unit.fetched()
    unit.report("serve-a", "failed", "needs the Python package xgboost")
    assert unit.status == testing.BlockedStatus(
        "models-uri models:/trees/1 needs the Python package xgboost"
    )
    # Pebble goes on trying, since there is nothing else to serve.
    assert unit.running == {"serve-a", "fetch"}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("workers", 0, "0: allowed is a number from 1 to 64"),
        ("workers", 65, "65: allowed is a number from 1 to 64"),
        ("request-timeout", 0, "0: allowed is a number from 1 to 3600"),
        (
            "request-timeout",
            3601,
            "3601: allowed is a number from 1 to 3600",
        ),
        (
            "log-level",
            "loud\n",
            "'loud\\n': allowed is one of critical, error, warning, info, debug",
        ),
        (
            "models-uri",
            "file:///etc",
            "'file:///etc', which is not a model URI: allowed is ",
        ),
    ],
)
def test_refuses_options_out_of_bounds(unit: Unit, option: str, value: object, message: str):
    unit.serving()
    plan = unit.container.plan
    unit.configure(**{option: value})
    assert isinstance(unit.status, testing.BlockedStatus)
    assert unit.message.startswith(f"option {option} is {message}")
    # What served goes on, with the same plan: nothing was restarted.
    assert unit.running == {"serve-a", "fetch"}
    assert unit.container.plan == plan


def test_says_that_the_container_is_not_ready(unit: Unit):
    unit.set(relations={tracking()})
    unit.set(containers={testing.Container(layout.CONTAINER, can_connect=False)})
    unit.configure(models_uri="models:/wine@champion")
    assert unit.status == testing.WaitingStatus("container mlflow-models is not ready")


def test_sees_a_server_that_does_not_answer(unit: Unit):
    unit.serving()
    info = testing.CheckInfo(
        layout.CHECK,
        status=ops.pebble.CheckStatus.DOWN,
        successes=3,
        failures=scoring.THRESHOLD,
        threshold=scoring.THRESHOLD,
    )
    unit.set(containers={dataclasses.replace(unit.container, check_infos={info})})
    unit.run(unit.on.pebble_check_failed(unit.container, info))
    assert unit.status == testing.WaitingStatus("serving does not answer its health check")
