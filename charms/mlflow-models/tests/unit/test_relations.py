"""What other applications are told."""

from __future__ import annotations

import json

import pytest
from conftest import Unit, object_storage, tracking
from ops import testing


@pytest.mark.parametrize("leader", [True, False])
def test_asks_for_an_ingress(unit: Unit, leader: bool):
    ingress = testing.Relation("ingress")
    unit.set(relations={ingress}, leader=leader)
    unit.run(unit.on.relation_created(ingress))
    found = unit.state.get_relation(ingress.id)
    assert json.loads(found.local_unit_data["host"]) == (
        "models-0.models-endpoints.m.svc.cluster.local"
    )
    if not leader:
        assert found.local_app_data == {}
        return
    asked = found.local_app_data
    assert json.loads(asked["name"]) == "models"
    assert json.loads(asked["model"]) == "m"
    assert json.loads(asked["port"]) == 8080
    assert json.loads(asked["strip-prefix"]) is True
    assert asked["_supported_versions"] == "- v2\n"


def test_greets_the_object_store(unit: Unit):
    # GIVEN minio, which answers nobody until every requirer has said its version
    store = testing.Relation("object-storage")
    unit.set(relations={store})
    unit.run(unit.on.relation_created(store))
    assert unit.state.get_relation(store.id).local_app_data == {"_supported_versions": "- v1\n"}


def test_waits_for_the_address_of_an_ingress_that_is_related(unit: Unit):
    unit.serving()
    ingress = testing.Relation("ingress")
    unit.set(relations={*unit.state.relations, ingress})
    unit.run(unit.on.relation_created(ingress))
    # What is asked for is served; the address is not there yet.
    assert unit.status == testing.WaitingStatus("ingress: waiting for an address")


@pytest.mark.parametrize("leader", [True, False])
def test_every_unit_serves(unit: Unit, leader: bool):
    unit.set(leader=leader)
    unit.serving()
    assert unit.status == testing.ActiveStatus("serving models:/wine/1")


def test_every_event_comes_to_the_same(unit: Unit):
    store, server, ingress = object_storage(), tracking(), testing.Relation("ingress")
    unit.set(relations={store, server, ingress})
    unit.configure(models_uri="models:/wine/1")
    unit.run(unit.on.update_status())
    first = unit.state
    relations = sorted(first.relations, key=lambda relation: relation.endpoint)
    events = [
        unit.on.leader_elected(),
        unit.on.upgrade_charm(),
        unit.on.pebble_ready(unit.container),
        *(unit.on.relation_changed(relation) for relation in relations),
        *(unit.on.relation_joined(relation) for relation in relations),
    ]
    for event in events:
        unit.run(event)
        assert unit.state == first
