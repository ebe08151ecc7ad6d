"""The commands that Juju users type, without a bundle, and what the statuses tell on the way."""

from __future__ import annotations

import json
import re

import jubilant
import pytest

from onebox import stack
from tests.e2e import byhand, machine, users


def test_the_status_names_every_relation_that_is_missing(hand: byhand.Hand) -> None:
    # GIVEN mlflow-server alone THEN it says what it needs
    status, message = hand.alone[-1]
    assert status == "blocked"
    assert "missing relation" in message


def test_the_status_names_what_is_still_missing(hand: byhand.Hand) -> None:
    # GIVEN an object store THEN only the databases are named
    status, message = hand.stored[-1]
    assert status == "blocked"
    assert re.search(r"postgresql|mysql|mariadb", message)
    assert "object-storage" not in message


def test_the_statuses_on_the_way_lead_to_active(hand: byhand.Hand) -> None:
    # GIVEN a database that is being set up
    words = [status for status, _ in hand.complete]
    # THEN the server waits for its data, then works, and is never in error
    assert words[0] == "blocked"
    assert "waiting" in words
    assert words[-1] == "active"
    assert "error" not in words
    assert any("postgresql" in message for status, message in hand.complete if status == "waiting")


def test_status_shows_the_relations(hand: byhand.Hand) -> None:
    shown = hand.juju.cli("status", "--relations")
    rows = [re.split(r"\s{2,}", line.strip()) for line in shown.splitlines()]
    assert [
        "minio:object-storage",
        "mlflow-server:object-storage",
        "object-storage",
        "regular",
    ] in rows
    assert [
        "postgresql-k8s:database",
        "mlflow-server:postgresql",
        "postgresql_client",
        "regular",
    ] in rows


def test_a_model_is_served_and_asked_for_predictions(hand: byhand.Hand) -> None:
    juju = hand.juju
    juju.deploy(
        byhand.BUILD / "mlflow-models.charm",
        resources={"mlflow-models-image": byhand.image("mlflow-models")},
    )
    users.until(juju, lambda status: byhand.MODELS in status.get_units(stack.MODELS))
    status = users.until(
        juju, lambda status: users.message(status, byhand.MODELS)[1].startswith("set models-uri")
    )
    # THEN without a model it waits with a hint
    assert users.message(status, byhand.MODELS)[0] == "waiting"
    juju.integrate(stack.MODELS, f"{stack.SERVER}:mlflow")
    hand.story("by-hand")


def test_actions_tell_how_to_connect(hand: byhand.Hand) -> None:
    task = hand.juju.run(byhand.SERVER, "get-connection")
    assert task.success
    assert task.results["tracking-uri"] == byhand.TRACKING_URI


def test_an_option_is_set_shown_and_reset(hand: byhand.Hand) -> None:
    juju, option = hand.juju, "notebook-object-storage"
    workload = f"{byhand.MODEL}.{stack.SERVER}-0.mlflow"
    before = machine.workloads(users.HOME, byhand.MODEL)[workload]
    assert before
    juju.config(stack.SERVER, {option: True})
    assert juju.config(stack.SERVER)[option] is True
    users.settle(juju)
    juju.config(stack.SERVER, reset=option)
    assert juju.config(stack.SERVER)[option] is False
    users.settle(juju)
    # It concerns notebooks, so nothing is restarted.
    assert machine.workloads(users.HOME, byhand.MODEL)[workload] == before


def test_show_unit_has_the_databags(hand: byhand.Hand) -> None:
    shown = json.loads(hand.juju.cli("show-unit", byhand.SERVER, "--format", "json"))
    endpoints = {one["endpoint"] for one in shown[byhand.SERVER]["relation-info"]}
    assert {"postgresql", "object-storage"} <= endpoints


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["deploy", "mlflow-server"], "Charmhub"),
        (["deploy", "./nowhere.charm"], "nowhere.charm"),
        (["relate", "minio", "nothing"], 'application "nothing" not found'),
        (["relate", "minio", "postgresql-k8s"], "no relations found"),
        (["relate", "minio", "mlflow-server"], "already exists"),
        (["config", "mlflow-server", "colour=blue"], 'unknown option "colour"'),
        (["config", "mlflow-server", "workers=many"], 'option "workers" expected int'),
        (["run", "mlflow-server/0", "fly"], 'action "fly" not defined'),
        (["run", "mlflow-server/9", "get-connection"], 'unit "mlflow-server/9" not found'),
        (["remove-application", "--no-prompt", "nothing"], 'application "nothing" not found'),
        (["frobnicate"], "frobnicate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_that_cannot_be_carried_out_says_why(
    hand: byhand.Hand, arguments: list[str], reason: str
) -> None:
    with pytest.raises(jubilant.CLIError) as error:
        hand.juju.cli(*arguments)
    assert reason in error.value.stderr
    assert error.value.returncode != 0
