"""What commands show: JSON that jubilant reads, and the table that people read."""

from __future__ import annotations

import datetime
import json
import pathlib
import re
import typing

import pytest
from jubilant import _task as tasktypes
from jubilant import modeltypes, secrettypes, statustypes, unittypes

from onebox import changes, model, report, table

NOW = datetime.datetime(2026, 11, 21, 10, 41, 5, tzinfo=datetime.UTC)
SINCE = "2026-11-21T10:40:00Z"

SERVER = model.Charm(
    "mlflow-server",
    "digest",
    "/server.charm",
    endpoints={
        "object-storage": model.EndpointSpec("object-storage", "object-storage", "requirer"),
        "peers": model.EndpointSpec("peers", "mlflow_peers", "peer"),
    },
    options={
        "workers": model.Option("int", 0, "How many."),
        "hosts": model.Option("string"),
        "embedded": model.Option("boolean", False),
    },
)
MINIO = model.Charm(
    "minio",
    "digest",
    "/minio.charm",
    endpoints={
        "object-storage": model.EndpointSpec("object-storage", "object-storage", "provider"),
    },
)


@pytest.fixture
def world() -> model.Model:
    found = model.Model("mlflow", "3c2f0f2e-0000-4000-8000-000000000001", created=SINCE)
    server = model.Application(
        "mlflow-server", SERVER, revision=2, scale=2, version="3.17.2", leader="mlflow-server/0"
    )
    server.config = {"workers": 4}
    for number, message in ((0, ""), (10, "database is not there yet")):
        unit = model.Unit(f"mlflow-server/{number}", address=f"10.1.0.{number + 2}")
        unit.status = model.Status("waiting" if message else "active", message, SINCE)
        unit.agent = model.Status("idle", since=SINCE)
        unit.ports = ["5000/tcp"]
        unit.pod = changes.pod_hash(server)
        server.units[unit.name] = unit
    minio = model.Application("minio", MINIO, channel="ckf-1.10/stable", leader="minio/0")
    minio.status = model.Status("active", "", SINCE)
    minio.units["minio/0"] = model.Unit("minio/0", address="10.1.0.9")
    found.applications = {"mlflow-server": server, "minio": minio}
    ends = [
        model.Endpoint("mlflow-server", "object-storage", "object-storage", "requirer"),
        model.Endpoint("minio", "object-storage", "object-storage", "provider"),
    ]
    relation = model.Relation(3, ends, scope=["mlflow-server/0", "minio/0"])
    relation.bag("minio").data["data"] = "x"
    relation.bag("mlflow-server/0").data["egress"] = "10.1.0.2"
    peers = model.Endpoint("mlflow-server", "peers", "mlflow_peers", "peer")
    found.relations = {0: model.Relation(0, [peers]), 3: relation}
    found.storage["data/0"] = model.Storage("data/0", "minio/0", "/var/data")
    return found


def status(world: model.Model) -> statustypes.Status:
    """The status as jubilant reads it, through JSON."""
    return statustypes.Status._from_dict(json.loads(json.dumps(report.status(world, NOW))))


def test_a_unit_whose_pod_is_replaced_is_not_idle(world: model.Model):
    world.applications["mlflow-server"].units["mlflow-server/0"].replace = True

    units = status(world).apps["mlflow-server"].units

    assert units["mlflow-server/0"].juju_status.current == "allocating"
    assert units["mlflow-server/10"].juju_status.current == "idle"


def test_status_is_what_jubilant_reads(world: model.Model):
    found = status(world)

    assert (found.model.name, found.model.type, found.model.version) == (
        "mlflow",
        "caas",
        model.JUJU_VERSION,
    )
    server = found.apps["mlflow-server"]
    assert server.charm == "local:mlflow-server-2"
    assert (server.charm_origin, server.charm_rev, server.scale) == ("local", 2, 2)
    assert server.version == "3.17.2"
    assert server.relations["object-storage"] == [
        statustypes.AppStatusRelation("minio", "object-storage", "global")
    ]
    assert server.relations["peers"][0].related_app == "mlflow-server"
    unit = server.units["mlflow-server/0"]
    assert unit.leader
    assert unit.is_active
    assert unit.open_ports == ["5000/tcp"]
    assert (unit.address, unit.provider_id) == ("10.1.0.2", "mlflow-server-0")
    assert unit.juju_status.current == "idle"
    assert unit.workload_status.since == "21 Nov 2026 10:40:00Z"
    assert not server.units["mlflow-server/10"].leader
    assert found.storage.storage["data/0"].attachments
    assert found.controller.timestamp == "10:41:05Z"


def test_an_application_that_says_nothing_is_as_its_worst_unit(world: model.Model):
    assert status(world).apps["mlflow-server"].app_status.current == "waiting"

    world.unit("mlflow-server/10").failure = model.Failure(model.Hook("config-changed"))
    found = status(world).apps["mlflow-server"]
    assert found.is_error
    assert found.app_status.message == 'hook failed: "config-changed"'
    assert found.units["mlflow-server/10"].is_error

    world.applications["mlflow-server"].status = model.Status("maintenance", "migrating", SINCE)
    assert status(world).apps["mlflow-server"].is_maintenance


def test_an_application_without_units_waits(world: model.Model):
    world.applications["minio"].status = model.Status("waiting", "installing agent")
    world.applications["minio"].units.clear()

    assert status(world).apps["minio"].is_waiting


def test_a_unit_shows_its_relations_with_their_data(world: model.Model):
    view = json.loads(json.dumps(report.show_unit(world, "mlflow-server/0")))

    found = unittypes.UnitInfo._from_dict(view["mlflow-server/0"])

    assert found.leader
    peers, storage = found.relation_info
    assert (peers.endpoint, peers.related_endpoint) == ("peers", "peers")
    assert storage.relation_id == 3
    assert storage.app_data == {"data": "x"}
    assert storage.local_unit == unittypes.UnitRelationData(True, {"egress": "10.1.0.2"})
    assert list(storage.related_units) == ["minio/0"]


def test_models_are_what_jubilant_reads(world: model.Model):
    found = modeltypes.ModelInfo._from_dict(report.show_model(world)["mlflow"])

    assert (found.short_name, found.model_type, found.life) == ("mlflow", "caas", "alive")
    listed = report.models(model.World({"mlflow": world}, "mlflow"))
    assert listed["current-model"] == "mlflow"
    assert listed["models"][0]["units"] == 3


def test_options_tell_where_their_value_comes_from(world: model.Model):
    found = report.config(world, "mlflow-server")

    assert found["settings"]["workers"] == {
        "default": 0,
        "description": "How many.",
        "source": "user",
        "type": "int",
        "value": 4,
    }
    assert found["settings"]["embedded"]["source"] == "default"
    assert found["settings"]["embedded"]["value"] is False
    assert found["settings"]["hosts"] == {"description": "", "source": "unset", "type": "string"}
    assert found["application-config"]["trust"]["value"] is False


def test_a_finished_action_is_what_jubilant_reads():
    item = model.Operation(7, "minio/0", "backup", "uuid", status="completed")
    item.results = {"outer": {"inner": "1"}}
    item.log = [(SINCE, "half way")]

    found = tasktypes.Task._from_dict(json.loads(json.dumps(report.operation(item))))

    assert found.success
    assert (found.id, found.results) == ("7", {"outer": {"inner": "1"}})
    assert found.log == ["21 Nov 2026 10:40:00Z half way"]


def test_a_failed_action_tells_why():
    item = model.Operation(7, "minio/0", "backup", "uuid", status="failed", message="no space")

    found = tasktypes.Task._from_dict(report.operation(item))

    assert not found.success
    assert found.message == "no space"


def test_an_action_that_waits_has_no_results():
    assert "results" not in report.operation(model.Operation(7, "minio/0", "backup", "uuid"))


SECRETS = [
    model.Secret(
        "aaaaaaaaaaaaaaaaaaa1",
        "mlflow-server",
        label="account",
        rotate="daily",
        rotate_next="2026-11-22T00:00:00Z",
        created=SINCE,
        latest=2,
        revisions={
            1: model.Revision({"password": "old"}, SINCE),
            2: model.Revision({"password": "hunter2"}, "2026-11-21T10:41:00Z"),
        },
        grants=[model.Grant("minio", 3)],
    ),
    model.Secret(
        "aaaaaaaaaaaaaaaaaaa2",
        "",
        name="mine",
        created=SINCE,
        revisions={1: model.Revision({"key": "x"}, SINCE, "2027-01-01T00:00:00Z")},
        grants=[model.Grant("minio")],
    ),
]


def listed(view: dict[str, typing.Any]) -> list[secrettypes.Secret]:
    plain = json.loads(json.dumps(view))
    return [secrettypes.Secret._from_dict({"uri": uri, **item}) for uri, item in plain.items()]


def test_secrets_are_what_jubilant_reads_without_their_content(world: model.Model):
    world.secrets = {secret.id: secret for secret in SECRETS}

    charm, user = listed(report.secrets(world))

    assert (charm.owner, charm.revision, charm.label) == ("mlflow-server", 2, "account")
    assert charm.rotation == "daily"
    assert charm.updated.minute == 41
    assert charm.access == [
        secrettypes.Access(
            "application-minio",
            "relation-mlflow-server.object-storage.minio.object-storage",
            "view",
        )
    ]
    assert (user.owner, user.name, user.expires) == ("mlflow", "mine", "2027-01-01T00:00:00Z")
    assert [item.name for item in listed(report.secrets(world, "mlflow"))] == ["mine"]
    assert "hunter2" not in json.dumps(report.secrets(world))
    assert "hunter2" not in json.dumps(report.show_secret(world, SECRETS[0], revisions=True))


def test_a_secret_is_revealed_only_when_asked(world: model.Model):
    def revealed(**wanted: typing.Any) -> secrettypes.RevealedSecret:
        ((uri, item),) = report.show_secret(world, SECRETS[0], reveal=True, **wanted).items()
        return secrettypes.RevealedSecret._from_dict({"uri": uri, **item})

    assert revealed().content == {"password": "hunter2"}
    assert revealed(revision=1).content == {"password": "old"}
    with pytest.raises(KeyError):
        revealed(revision=3)


TABLE = pathlib.Path(__file__).parent / "data" / "status.txt"


def test_the_table_is_the_one_that_juju_users_know(world: model.Model):
    world.unit("mlflow-server/10").agent = model.Status(
        "executing", "running config-changed hook", SINCE
    )

    view = report.status(world, NOW)
    view["model"]["version"] = "3.6.25"

    assert table.status(view, relations=True) == TABLE.read_text()


def test_colours_change_nothing_but_colours(world: model.Model):
    view = report.status(world, NOW)

    coloured = table.status(view, relations=True, colour=True)

    assert "\x1b[32mactive\x1b[0m" in coloured
    assert "\x1b[33mwaiting\x1b[0m" in coloured
    plain = re.sub(r"\x1b\[[0-9]+m", "", coloured)
    assert [line.rstrip() for line in plain.splitlines()] == [
        line.rstrip() for line in table.status(view, relations=True).splitlines()
    ]


def test_an_empty_model_says_so():
    shown = table.status(report.status(model.Model("empty", "uuid"), NOW))

    assert shown.endswith('Model "admin/empty" is empty.\n')
