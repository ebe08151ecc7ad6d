"""What the charm `traefik-k8s` answers and runs."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import ops
import pytest
from ops import testing

import charm
from mlflow_kit import testing as kit_testing
from onebox.charms import simulation

Unit = simulation.Unit[charm.TraefikCharm]

# A literal databag of the requirer's library, version 2.21.
APP = {"model": '"kubeflow"', "name": '"mlflow-server"', "port": "5000", "strip-prefix": "true"}
UNIT = {"host": '"mlflow-server-0.mlflow-server-endpoints.kubeflow.svc.cluster.local"'}
URL = "http://ingress.example/kubeflow-mlflow-server"


@pytest.fixture(autouse=True)
def pebble(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # No check ever runs by itself in the simulation.
    monkeypatch.setattr(charm, "_SETTLE", 0)
    with kit_testing.simulation():
        yield


@pytest.fixture
def make_unit(tmp_path: pathlib.Path) -> Callable[..., Unit]:
    def make(**options: Any) -> Unit:
        options = {"config": {"external_hostname": "ingress.example"}, **options}
        unit = simulation.Unit(
            charm.TraefikCharm, "traefik", tmp_path, keeps=("/etc", "/run"), **options
        )
        unit.path("/etc/resolv.conf").write_text("nameserver 10.0.0.10\nnameserver 9.9.9.9\n")
        return unit

    return make


def relation(
    app: dict[str, str] = APP, unit: dict[str, str] = UNIT, **options: Any
) -> testing.Relation:
    return testing.Relation("ingress", remote_app_data=app, remote_units_data={0: unit}, **options)


def config(unit: Unit) -> str:
    return unit.path("/etc/nginx/nginx.conf").read_text()


def answered(unit: Unit, requirer: testing.Relation) -> str | None:
    """The address that a requirer was given."""
    text = unit.sent(requirer).get("ingress")
    return json.loads(text)["url"] if text else None


def test_requirer_gets_path_and_address(make_unit: Callable[..., Unit]) -> None:
    # GIVEN an application that asks for ingress
    requirer = relation()
    unit = make_unit(relations={requirer})
    # WHEN nginx is healthy
    unit.start()
    # THEN its path leads to its unit, and it knows the address
    assert unit.status == ops.ActiveStatus()
    assert unit.sent(requirer) == {"ingress": json.dumps({"url": URL})}
    assert "location /kubeflow-mlflow-server/ {" in config(unit)
    assert f"{json.loads(UNIT['host'])}:5000;" in config(unit)
    # AND its name is asked of the first name server, which knows the pods
    assert "resolver 10.0.0.10 valid=5s;" in config(unit)


@pytest.mark.parametrize(
    ("option", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080/kubeflow-mlflow-server"),
        ("ingress.example:80", URL),
        ("[fd00::1]:8080", "http://[fd00::1]:8080/kubeflow-mlflow-server"),
        ("", "http://192.0.2.0/kubeflow-mlflow-server"),
    ],
)
def test_address_follows_the_option(make_unit: Callable[..., Unit], option: str, url: str) -> None:
    # GIVEN where clients reach the ingress
    requirer = relation()
    unit = make_unit(relations={requirer}, config={"external_hostname": option})
    # WHEN nginx is healthy
    unit.start()
    # THEN the address says so
    assert answered(unit, requirer) == url


def test_without_any_address_it_waits(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit that Juju has given no address
    nowhere = testing.Network("ingress", bind_addresses=[], ingress_addresses=[])
    requirer = relation()
    unit = make_unit(relations={requirer}, networks={nowhere}, config={"external_hostname": ""})
    # WHEN nginx is healthy
    unit.start()
    # THEN it says what helps, and gives no address
    message = "waiting for an address; external_hostname can give one"
    assert unit.status == ops.WaitingStatus(message)
    assert unit.sent(requirer) == {}


@pytest.mark.parametrize("option", ["http://a", "a b", "a:0", "a:70000", "a/b", "a;b", "a\nb"])
def test_bad_option_blocks_and_keeps_what_runs(
    make_unit: Callable[..., Unit], option: str
) -> None:
    # GIVEN a unit that serves
    requirer = relation()
    unit = make_unit(relations={requirer})
    unit.start()
    before = config(unit)
    # WHEN the option is no host
    unit.change(config={"external_hostname": option})
    unit.run()
    # THEN the status names it, and route and address stay
    assert isinstance(unit.status, ops.BlockedStatus)
    assert unit.status.message.startswith("option external_hostname ")
    assert answered(unit, requirer) == URL
    assert config(unit) == before


@pytest.mark.parametrize(
    ("app", "unit_data", "reason"),
    [
        ({**APP, "model": "kubeflow"}, UNIT, "a value is not JSON"),
        ({**APP, "name": '"a;b"'}, UNIT, "model and name do not make a path"),
        ({**APP, "name": '"a/b"'}, UNIT, "model and name do not make a path"),
        ({**APP, "name": '{"a": 1}'}, UNIT, "model and name do not make a path"),
        ({**APP, "port": '"5000"'}, UNIT, "port is not a number"),
        ({**APP, "port": "true"}, UNIT, "port is not a number"),
        ({**APP, "port": "0"}, UNIT, "port is not between 1 and 65535"),
        ({**APP, "port": "65536"}, UNIT, "port is not between 1 and 65535"),
        ({**APP, "scheme": '"h2c"'}, UNIT, "scheme is neither http nor https"),
        (APP, {"host": "raw"}, "a value is not JSON"),
        (APP, {"host": '"a b"'}, "a host is neither a name nor an address"),
        (APP, {"host": '"a;} server {"'}, "a host is neither a name nor an address"),
    ],
)
def test_bad_request_blocks_and_serves_the_others(
    make_unit: Callable[..., Unit], app: dict[str, str], unit_data: dict[str, str], reason: str
) -> None:
    # GIVEN one request that cannot be met, and one that can
    bad = relation(app, unit_data, remote_app_name="bad")
    good = relation({**APP, "name": '"good"'}, remote_app_name="good")
    unit = make_unit(relations={bad, good})
    # WHEN the charm runs
    unit.start()
    # THEN the status says what is wrong, and the other one is served
    assert unit.status == ops.BlockedStatus(f"bad: {reason}")
    assert answered(unit, bad) is None
    assert answered(unit, good) == "http://ingress.example/kubeflow-good"


@pytest.mark.parametrize(
    ("app", "unit_data"),
    [
        ({}, {}),
        ({key: APP[key] for key in ("model", "name")}, UNIT),
        (APP, {}),
        ({"_supported_versions": "- v2\n", "data": "service: a"}, {}),
    ],
)
def test_partial_request_is_left_alone(
    make_unit: Callable[..., Unit], app: dict[str, str], unit_data: dict[str, str]
) -> None:
    # GIVEN a requirer that has not said everything, or speaks istio-pilot's wire
    requirer = relation(app, unit_data)
    unit = make_unit(relations={requirer})
    # WHEN the charm runs
    unit.start()
    # THEN it is active and has said nothing
    assert unit.status == ops.ActiveStatus()
    assert unit.sent(requirer) == {}


def test_unknown_keys_and_nulls_change_nothing(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a request with the optional keys of the library, and of a later one
    more = {
        "scheme": "null",
        "redirect-https": "true",
        "healthcheck_params": '{"path": "/health"}',
        "is_port_open": "true",
        "later": "raw",
    }
    requirer = relation({**APP, **more}, {**UNIT, "ip": '"10.1.0.7"', "later": "raw"})
    unit = make_unit(relations={requirer})
    # WHEN the charm runs
    unit.start()
    # THEN it is served as before
    assert answered(unit, requirer) == URL


def test_two_requests_for_one_path_get_neither(make_unit: Callable[..., Unit]) -> None:
    # GIVEN two applications whose model and name make the same path
    first = relation({**APP, "model": '"a"', "name": '"b-c"'}, remote_app_name="b-c")
    second = relation({**APP, "model": '"a-b"', "name": '"c"'}, remote_app_name="c")
    unit = make_unit(relations={first, second})
    # WHEN the charm runs
    unit.start()
    # THEN it says so, and gives it to nobody
    message = "several applications ask for the path /a-b-c"
    assert unit.status == ops.BlockedStatus(message)
    assert answered(unit, first) is answered(unit, second) is None
    assert "/a-b-c" not in config(unit)


def test_withdrawn_request_loses_route_and_address(make_unit: Callable[..., Unit]) -> None:
    # GIVEN an application that is served
    requirer = relation()
    unit = make_unit(relations={requirer})
    unit.start()
    # WHEN it takes its request back
    unit.change_relation(requirer, remote_app_data={})
    unit.run()
    # THEN there is no route and no address
    assert unit.sent(requirer) == {}
    assert "kubeflow-mlflow-server" not in config(unit)


def test_route_goes_with_its_relation(make_unit: Callable[..., Unit]) -> None:
    # GIVEN an application that is served
    requirer = relation()
    unit = make_unit(relations={requirer})
    unit.start()
    # WHEN its relation is removed
    unit.run(unit.context.on.relation_broken(unit.state.get_relation(requirer.id)))
    # THEN there is no route
    assert "kubeflow-mlflow-server" not in config(unit)


def test_new_unit_is_reloaded_and_not_restarted(make_unit: Callable[..., Unit]) -> None:
    # GIVEN an application that is served
    requirer = relation()
    unit = make_unit(relations={requirer})
    unit.start()
    # WHEN it gets a second unit
    unit.change_relation(requirer, remote_units_data={0: UNIT, 1: {"host": '"b.example"'}})
    unit.run()
    # THEN both are used, and what nginx has proven to be still counts
    assert "b.example:5000;" in config(unit)
    assert f"{json.loads(UNIT['host'])}:5000;" in config(unit)
    assert unit.status == ops.ActiveStatus()


def test_second_run_changes_nothing(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit that is done
    unit = make_unit(relations={relation()})
    unit.start()
    before = unit.state
    # WHEN it runs again
    unit.run()
    # THEN databags and container are as they were
    assert unit.state == before


def test_follower_serves_and_says_nothing(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit that is not the leader
    requirer = relation()
    unit = make_unit(number=1, leader=False, relations={requirer})
    # WHEN nginx is healthy
    unit.start()
    # THEN it has the route, too
    assert unit.status == ops.ActiveStatus()
    assert "location /kubeflow-mlflow-server/ {" in config(unit)
    assert unit.sent(requirer) == {}


def test_outage_takes_nothing_back(make_unit: Callable[..., Unit]) -> None:
    # GIVEN an address that was given
    requirer = relation()
    unit = make_unit(relations={requirer})
    unit.start()
    # WHEN nginx fails its check
    unit.fail()
    # THEN the status says so and the address stays
    assert unit.status == ops.WaitingStatus("nginx does not answer its health check")
    assert answered(unit, requirer) == URL


def test_unreachable_container_waits(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a container whose Pebble does not answer
    unit = make_unit()
    unit.change_container(can_connect=False)
    # WHEN the charm runs
    unit.run()
    # THEN it waits
    assert unit.status == ops.WaitingStatus("container traefik is not ready")


def test_port_is_known(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a fresh unit
    unit = make_unit()
    # WHEN it starts
    unit.start()
    # THEN Juju knows the port
    assert unit.state.opened_ports == {testing.TCPPort(80)}


def test_stopping_is_said(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit
    unit = make_unit()
    # WHEN it stops
    unit.run(unit.context.on.stop())
    # THEN it does not claim to be active
    assert unit.status == ops.MaintenanceStatus("stopping")
