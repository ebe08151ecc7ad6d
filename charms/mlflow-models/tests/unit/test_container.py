"""What is put into the container: who may read it, and that no secret is where it must not be."""

from __future__ import annotations

import json

import pytest
from conftest import STORE, TRACKING_URI, Unit, object_storage, tracking
from hypothesis import given
from hypothesis import strategies as st
from ops import testing

import layout
import reports

SECRET = str(STORE["secret-key"])


def test_only_the_fetcher_can_read_the_keys(unit: Unit):
    unit.set(relations={tracking(), object_storage()})
    unit.configure(models_uri="s3://models/wine")
    keys = unit.file(layout.KEYS_FILE)
    assert json.loads(keys.read_text()) == {"access-key": "key", "secret-key": SECRET}
    assert keys.stat().st_mode & 0o777 == 0o600
    assert keys.parent.stat().st_mode & 0o777 == 0o700
    services = unit.container.plan.services
    assert services["fetch"].user_id == services["fetch"].group_id == layout.FETCHER_USER
    unit.fetched()
    server = unit.container.plan.services["serve-a"]
    assert server.user_id == server.group_id == layout.SERVER_USER != layout.FETCHER_USER


def test_the_secret_is_in_one_file_and_nowhere_else(unit: Unit):
    unit.set(relations={tracking(), object_storage()})
    unit.configure(models_uri="s3://models/wine")
    unit.fetched(uri="s3://models/wine")
    found = {
        str(path)
        for path in unit.file("/").rglob("*")
        if path.is_file() and "canary" in path.read_text()
    }
    assert found == {str(unit.file(layout.KEYS_FILE))}
    seen = [unit.logs, unit.message, json.dumps(unit.container.plan.to_dict())]
    for relation in unit.state.relations:
        seen += [str(relation.local_app_data), str(relation.local_unit_data)]
    assert "canary" not in "".join(seen)


def test_the_keys_go_with_the_relation(unit: Unit):
    store = object_storage()
    unit.set(relations={tracking(), store})
    unit.configure(models_uri="models:/wine/1")
    assert unit.file(layout.KEYS_FILE).exists()
    unit.run(unit.on.relation_broken(unit.state.get_relation(store.id)))
    assert not unit.file(layout.KEYS_FILE).exists()


def test_the_keys_go_with_the_option(unit: Unit):
    unit.set(relations={object_storage()})
    unit.configure(models_uri="s3://models/wine")
    assert unit.file(layout.KEYS_FILE).exists()
    unit.configure(models_uri="")
    assert not unit.file(layout.KEYS_FILE).exists()


def test_the_fetcher_is_told_where_to_go(unit: Unit):
    unit.set(relations={tracking(), object_storage(secure=True)})
    unit.configure(models_uri="models:/wine quality$(id)/1")
    job = unit.json(layout.JOB_FILE)
    assert job["uri"] == "models:/wine quality$(id)/1"
    assert job["tracking-uri"] == TRACKING_URI
    assert job["s3"]["endpoint"] == "https://minio.m.svc.cluster.local:9000"
    # The URI is in that file only: no command line has it.
    assert "quality" not in json.dumps(unit.container.plan.to_dict())


@pytest.mark.parametrize(
    "change",
    [{"models_uri": "models:/wine/2"}, {"models_uri": "models:/wine@champion "}],
)
def test_the_job_changes_with_the_model_only(unit: Unit, change: dict[str, str]):
    unit.serving()
    before = unit.json(layout.JOB_FILE)["id"]
    unit.configure(workers=3)
    assert unit.json(layout.JOB_FILE)["id"] == before
    unit.configure(**change)
    refused = change["models_uri"].endswith(" ")
    assert (unit.json(layout.JOB_FILE)["id"] == before) is refused


@given(
    st.one_of(
        st.none(),
        st.text(),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "job",
                            "error",
                            "blocked",
                            "model",
                            "serial",
                            "path",
                            "uri",
                            "generation",
                            "status",
                        ]
                    ),
                    inner,
                )
            ),
        ).map(json.dumps),
    )
)
def test_whatever_the_programs_write_is_read(text: str | None):
    result = reports.read_result(text)
    slot = reports.read_slot("serve-a", text, text)
    for line in (result.job, result.error, slot.error, slot.mlflow):
        assert "\n" not in line
    assert slot.generation >= 0


def test_a_leftover_report_says_nothing_on_a_new_model():
    slot = reports.read_slot(
        "serve-a",
        json.dumps({"generation": 3, "serial": 2}),
        json.dumps({"generation": 2, "status": "up", "error": ""}),
    )
    assert slot.status is reports.Status.LOADING


def test_shows_what_to_ask(unit: Unit):
    unit.serving()
    model = unit.file(f"{layout.STORE}/models/1")
    model.mkdir(parents=True)
    (model / layout.EXAMPLE_FILE).write_text('{"inputs": [1]}')
    unit.run(unit.on.action("get-endpoint"))
    assert unit.action_results == {
        "model": "models:/wine/1",
        "url": "http://models.m.svc.cluster.local:8080/invocations",
        "example": '{"inputs": [1]}',
    }


def test_shows_the_address_from_outside(unit: Unit):
    ingress = testing.Relation(
        "ingress", remote_app_data={"ingress": json.dumps({"url": "https://example.com/m-models"})}
    )
    unit.serving()
    unit.set(relations={*unit.state.relations, ingress})
    unit.run(unit.on.action("get-endpoint"))
    assert unit.action_results == {
        "model": "models:/wine/1",
        "url": "https://example.com/m-models/invocations",
    }


def test_has_nothing_to_show_without_a_model(unit: Unit):
    with pytest.raises(testing.ActionFailed, match="no model is served"):
        unit.run(unit.on.action("get-endpoint"))
