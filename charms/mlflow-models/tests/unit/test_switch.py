"""How one model follows another, and what stays when it cannot."""

from __future__ import annotations

from pathlib import Path

from conftest import Unit, mlflow, tracking
from ops import testing

import layout


def test_a_new_model_is_loaded_beside_the_old_one(unit: Unit):
    # GIVEN version 1 is served
    unit.serving()
    # WHEN another model is named and fetched
    unit.configure(models_uri="models:/wine/2")
    assert unit.running == {"serve-a", "fetch"}
    unit.fetched(serial=2, uri="models:/wine/2")
    # THEN both servers run until the new one is up
    assert unit.running == {"serve-a", "serve-b", "fetch"}
    unit.report("serve-b", "loading")
    assert unit.running == {"serve-a", "serve-b", "fetch"}
    unit.report("serve-b", "up")
    assert unit.running == {"serve-b", "fetch"}
    assert not unit.file(layout.slot_file("serve-a")).exists()
    unit.check_up()
    assert unit.status == testing.ActiveStatus("serving models:/wine/2")


def test_back_to_the_first_model_does_not_trust_its_old_report(unit: Unit):
    unit.serving()
    unit.configure(models_uri="models:/wine/2")
    unit.fetched(serial=2, uri="models:/wine/2")
    unit.report("serve-b", "up")
    # WHEN it goes back to what slot a has said to serve, a while ago
    unit.configure(models_uri="models:/wine@champion")
    unit.fetched(serial=1)
    # THEN the server of slot b stays until the one of slot a has said so again
    assert unit.running == {"serve-a", "serve-b", "fetch"}
    unit.report("serve-a", "up")
    assert unit.running == {"serve-a", "fetch"}


def test_a_model_that_cannot_be_fetched_changes_nothing(unit: Unit):
    unit.serving()
    slot = unit.json(layout.slot_file("serve-a"))
    unit.configure(models_uri="models:/wine@nobody")
    unit.not_fetched("does not exist", blocked=True)
    assert unit.running == {"serve-a", "fetch"}
    assert unit.json(layout.slot_file("serve-a")) == slot
    assert unit.status == testing.BlockedStatus(
        "models-uri models:/wine@nobody does not exist; models:/wine/1 is still served"
    )


def test_a_model_that_cannot_be_loaded_leaves_the_old_one(unit: Unit):
    unit.serving()
    unit.configure(models_uri="models:/trees/1")
    unit.fetched(serial=2, uri="models:/trees/1")
    unit.report("serve-b", "failed", "needs the Python package xgboost")
    assert unit.running == {"serve-a", "fetch"}
    message = (
        "models-uri models:/trees/1 needs the Python package xgboost; "
        "models:/wine/1 is still served"
    )
    assert unit.status == testing.BlockedStatus(message)
    # It is not tried again by itself, at whatever event.
    unit.run(unit.on.update_status())
    assert unit.running == {"serve-a", "fetch"}
    assert unit.status == testing.BlockedStatus(message)
    # WHEN another one is named, the slot of the failed one is used again
    unit.configure(models_uri="models:/wine/3")
    unit.fetched(serial=3, uri="models:/wine/3")
    assert unit.running == {"serve-a", "serve-b", "fetch"}


def test_a_change_of_options_takes_over_like_a_new_model(unit: Unit):
    unit.serving()
    unit.configure(workers=2)
    assert unit.running == {"serve-a", "serve-b", "fetch"}
    assert unit.json(layout.slot_file("serve-a"))["workers"] == 1
    assert unit.json(layout.slot_file("serve-b"))["workers"] == 2
    unit.report("serve-b", "up")
    assert unit.running == {"serve-b", "fetch"}


def test_another_uri_of_the_same_files_starts_no_server(unit: Unit):
    # GIVEN a served model WHEN another URI brings the same files
    unit.serving()
    slot = unit.json(layout.slot_file("serve-a"))
    unit.configure(models_uri="runs:/1234/model")
    unit.fetched(serial=1, uri="runs:/1234/model")
    # THEN the same server goes on, and the status has the new name
    assert unit.running == {"serve-a", "fetch"}
    assert unit.json(layout.slot_file("serve-a")) == slot
    assert unit.status == testing.ActiveStatus("serving runs:/1234/model")


def test_emptying_the_option_stops_everything(unit: Unit):
    unit.serving()
    unit.configure(models_uri="")
    assert unit.running == set()
    assert isinstance(unit.status, testing.WaitingStatus)
    # AND the same model starts again when it is named again
    unit.configure(models_uri="models:/wine@champion")
    assert unit.running == {"serve-a", "fetch"}


def test_a_model_that_was_stopped_does_not_come_back_with_another(unit: Unit):
    unit.serving()
    unit.configure(models_uri="")
    unit.configure(models_uri="models:/wine/2")
    assert unit.running == {"fetch"}


def test_serving_goes_on_while_the_tracking_server_restarts(unit: Unit):
    # GIVEN a served model, WHEN the server withdraws its address
    unit.serving()
    relation = next(iter(unit.state.relations))
    unit.set(relations={mlflow()})
    unit.run(unit.on.relation_changed(next(iter(unit.state.relations))))
    # THEN nothing is missing: the model is here
    assert unit.running == {"serve-a"}
    assert unit.status == testing.ActiveStatus("serving models:/wine/1")
    unit.set(relations={relation})
    unit.run(unit.on.relation_changed(relation))
    assert unit.running == {"serve-a", "fetch"}


def test_serving_goes_on_without_the_relation(unit: Unit):
    unit.serving()
    relation = next(iter(unit.state.relations))
    unit.run(unit.on.relation_broken(relation))
    assert unit.running == {"serve-a"}
    assert unit.status == testing.BlockedStatus(
        "models-uri models:/wine@champion needs relation mlflow; models:/wine/1 is still served"
    )


def test_a_fresh_container_fetches_again(unit: Unit, tmp_path: Path):
    # GIVEN a served model, WHEN the container has lost its files and its plan
    unit.serving()
    slot = unit.json(layout.slot_file("serve-a"))
    fresh = Unit(tmp_path / "second")
    fresh.set(relations={tracking()}, config=unit.state.config)
    fresh.run(fresh.on.pebble_ready(fresh.container))
    # THEN it gets back to the same by itself
    assert fresh.running == {"fetch"}
    fresh.fetched()
    assert fresh.running == {"serve-a", "fetch"}
    assert fresh.json(layout.slot_file("serve-a")) == slot


def test_a_second_reconcile_changes_nothing(unit: Unit):
    unit.serving()
    files = {
        path: path.stat().st_mtime_ns
        for path in unit.file("/etc/mlflow-models").rglob("*")
        if path.is_file()
    }
    before = unit.state
    for event in (unit.on.config_changed(), unit.on.update_status(), unit.on.upgrade_charm()):
        unit.run(event)
        assert unit.state == before
    assert files == {path: path.stat().st_mtime_ns for path in files}
