"""What runs, what makes it restart, and that no secret shows."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import stat
from unittest import mock

import conftest as given
import ops
import pytest
from ops import testing

from mlflow_kit.interfaces import database

EVENTS = [
    "config_changed",
    "leader_elected",
    "update_status",
    "upgrade_charm",
]


class Writes:
    """Counts what is written to the container, and which services were touched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for owner, name in (
            (ops.Container, "push"),
            (ops.Container, "make_dir"),
            (ops.Container, "remove_path"),
            (ops.Container, "add_layer"),
            (ops.Container, "restart"),
            (ops.RelationDataContent, "__setitem__"),
        ):
            self._count(monkeypatch, owner, name)

    def _count(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        real = getattr(owner, name)

        def counted(*args: object, **kwargs: object) -> object:
            self.calls.append(f"{name} {args[1] if len(args) > 1 else ''}")
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)


def everything(**options) -> testing.State:
    return given.state(
        given.postgresql(),
        given.storage(),
        given.ingress(),
        given.basic_auth(),
        given.relation("mlflow", 10),
        given.relation("pod-defaults", 11),
        given.relation("secrets", 12),
        **options,
    )


@pytest.mark.parametrize("event", EVENTS)
def test_a_second_look_writes_nothing(ctx, tmp_path, monkeypatch, event):
    out = given.up(ctx.run(ctx.on.config_changed(), everything(disk=tmp_path)))
    out = given.up(ctx.run(ctx.on.update_status(), out))
    writes = Writes(monkeypatch)

    ctx.run(getattr(ctx.on, event)(), out)

    assert writes.calls == []


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_leads_to_the_same_plan(ctx, event):
    expected = ctx.run(ctx.on.config_changed(), everything())

    out = ctx.run(getattr(ctx.on, event)(), everything())

    assert out.get_container("mlflow").plan == expected.get_container("mlflow").plan
    assert {r.id: r.local_app_data for r in out.relations if r.id != 12} == {
        r.id: r.local_app_data for r in expected.relations if r.id != 12
    }


@pytest.mark.parametrize(
    ("leader", "services"), [(True, {"mlflow", "migrate"}), (False, {"mlflow"})]
)
def test_every_unit_serves_and_only_the_leader_migrates(ctx, leader, services):
    out = ctx.run(
        ctx.on.config_changed(), given.state(given.postgresql(), given.storage(), leader=leader)
    )

    assert set(given.services(out)) == services


@pytest.mark.parametrize(
    "relation", [given.postgresql(), given.mysql(), given.mariadb()], ids=lambda r: r.endpoint
)
def test_no_secret_is_where_others_can_read_it(ctx, tmp_path, caplog, relation):
    state = given.state(
        relation,
        given.storage(),
        given.ingress(),
        given.basic_auth(),
        given.relation("pod-defaults", 11),
        given.relation("secrets", 12),
        disk=tmp_path,
    )

    out = ctx.run(ctx.on.config_changed(), state)

    visible = [
        out.get_container("mlflow").plan.to_yaml(),
        out.unit_status.message,
        caplog.text,
        "".join(str(line) for line in ctx.juju_log),
        *(json.dumps(dict(r.local_app_data)) for r in out.relations),
        *(json.dumps(dict(r.local_unit_data)) for r in out.relations),
    ]
    for canary in given.CANARIES:
        assert not any(canary in text for text in visible)
    # AND in files only where nobody but the server's user may read it
    for path in tmp_path.rglob("*"):
        if path.is_file() and any(c in path.read_text() for c in given.CANARIES):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert path.parent == tmp_path / "etc" / "mlflow-charm" / "secrets"
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("rotated", ["database", "storage"])
def test_a_new_password_is_written_and_restarts_nothing(ctx, tmp_path, monkeypatch, rotated):
    state = given.state(given.postgresql(), given.storage(), disk=tmp_path)
    out = given.up(ctx.run(ctx.on.config_changed(), state))
    writes = Writes(monkeypatch)

    # WHEN a password changes
    if rotated == "database":
        secret = given.postgresql_secret("brand new")
        changed = dataclasses.replace(out, secrets=frozenset([secret]))
        event = ctx.on.secret_changed(secret)
        file, expected = "pgpass", "*:*:*:*:brand new\n"
    else:
        data = given.storage().remote_app_data["data"].replace(given.S3_SECRET, "brand new")
        others = [r for r in out.relations if r.endpoint != "object-storage"]
        relation = given.storage(data)
        changed = dataclasses.replace(out, relations=[*others, relation])
        event = ctx.on.relation_changed(relation)
        file, expected = "s3.json", '"SecretAccessKey": "brand new"'
    out = ctx.run(event, changed)

    # THEN its file has the new one, and nothing restarts
    content = (tmp_path / "etc" / "mlflow-charm" / "secrets" / file).read_text()
    assert expected in content
    pushed = [call for call in writes.calls if call.startswith("push")]
    assert pushed == [f"push /etc/mlflow-charm/secrets/{file}"]
    assert not any("restart" in call or "layer" in call for call in writes.calls)
    assert out.unit_status == testing.ActiveStatus()


def test_another_address_restarts_the_server_once_and_migrates_nothing(ctx, tmp_path, monkeypatch):
    relations = (given.postgresql(), given.storage())
    out = given.up(
        ctx.run(ctx.on.config_changed(), given.state(*relations, given.ingress(), disk=tmp_path))
    )
    client = type(_pebble(ctx, out))
    restarted = mock.Mock()
    monkeypatch.setattr(client, "restart_services", restarted)
    moved = given.state(*relations, given.ingress("https://mlflow.example.org"))
    ctx.run(ctx.on.config_changed(), dataclasses.replace(moved, containers=out.containers))

    assert [call.args for call in restarted.call_args_list] == [(["mlflow"],)]
    environment = _server(tmp_path)["environment"]
    assert "mlflow.example.org:*" in environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == "https://mlflow.example.org"


def _pebble(ctx, state) -> ops.pebble.Client:
    with ctx(ctx.on.update_status(), state) as manager:
        return manager.charm.unit.get_container("mlflow").pebble


def _server(disk: pathlib.Path) -> dict:
    return json.loads((disk / "etc" / "mlflow-charm" / "server.json").read_text())


def test_a_change_of_leader_leaves_the_server_alone(ctx, tmp_path, monkeypatch):
    state = given.state(given.postgresql(), given.storage(), disk=tmp_path, leader=False)
    out = given.up(ctx.run(ctx.on.config_changed(), state))
    writes = Writes(monkeypatch)

    out = ctx.run(ctx.on.leader_elected(), dataclasses.replace(out, leader=True))

    assert given.services(out)["migrate"] == ops.pebble.ServiceStatus.ACTIVE
    assert [call for call in writes.calls if call.startswith("restart")] == ["restart migrate"]


def test_a_charm_that_brings_new_programs_restarts_nothing(ctx, tmp_path, monkeypatch):
    state = given.state(given.postgresql(), given.storage(), disk=tmp_path)
    out = given.up(ctx.run(ctx.on.config_changed(), state))
    program = tmp_path / "opt" / "mlflow-charm" / "serve.py"
    program.write_text("an older one")
    writes = Writes(monkeypatch)

    ctx.run(ctx.on.upgrade_charm(), out)

    assert "an older one" not in program.read_text()
    assert [c for c in writes.calls if c.startswith(("restart", "add_layer"))] == []


def test_a_container_that_lost_everything_gets_it_back(ctx, tmp_path):
    state = given.state(given.postgresql(), given.storage(), disk=tmp_path)
    first = ctx.run(ctx.on.config_changed(), state)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    fresh = tmp_path / "fresh"
    fresh.mkdir()

    container = given.container(fresh)
    out = ctx.run(
        ctx.on.pebble_ready(container), dataclasses.replace(first, containers={container})
    )

    assert given.running(out)
    assert {p.relative_to(fresh): p.read_bytes() for p in fresh.rglob("*") if p.is_file()} == {
        path.relative_to(tmp_path): content for path, content in before.items()
    }


def test_the_server_is_told_all_names_it_has(ctx, tmp_path):
    ctx.run(
        ctx.on.config_changed(),
        everything(disk=tmp_path, config={"allowed-hosts": "a.example, B.example"}),
    )

    environment = _server(tmp_path)["environment"]
    hosts = environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    for name in (
        "mlflow-server",
        "mlflow-server.team",
        "mlflow-server.team.svc",
        "mlflow-server.team.svc.cluster.local",
        "mlflow-server-0.mlflow-server-endpoints.team.svc.cluster.local",
        "htpasswd-proxy.team.svc.cluster.local",
        "example.com",
        "192.0.2.0",
        "localhost",
        "127.0.0.1",
        "a.example",
        "b.example",
    ):
        assert name in hosts
        assert f"{name}:*" in hosts
    assert environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",") == [
        "http://example.com",
        "http://htpasswd-proxy.team.svc.cluster.local:8080",
        "https://example.com",
    ]


def test_the_server_is_sized_and_kept_simple(ctx, tmp_path):
    ctx.run(
        ctx.on.config_changed(),
        given.state(given.postgresql(), given.storage(), disk=tmp_path, config={"workers": 3}),
    )

    found = _server(tmp_path)
    environment, arguments = found["environment"], found["uvicorn"]
    assert arguments[arguments.index("--workers") + 1] == "3"
    # 40 threads of a worker and one: with fewer MLflow's writers lock each other out
    pool = int(environment["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"])
    assert pool + int(environment["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"]) >= 41
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] == "s3://mlflow"
    assert environment["_MLFLOW_SERVER_SERVE_ARTIFACTS"] == "true"


def test_uploads_get_less_time_than_the_kill_delay(ctx, tmp_path):
    out = ctx.run(
        ctx.on.config_changed(), given.state(given.postgresql(), given.storage(), disk=tmp_path)
    )

    arguments = _server(tmp_path)["uvicorn"]
    grace = int(arguments[arguments.index("--timeout-graceful-shutdown") + 1])
    service = out.get_container("mlflow").plan.services["mlflow"].to_dict()
    assert grace < int(service["kill-delay"].removesuffix("s"))
    assert (service["user-id"], service["group-id"]) == (584792, 584792)


def test_mysql_with_a_trailing_dot_and_several_endpoints(ctx, tmp_path):
    bag = {
        **given.mysql().remote_app_data,
        "endpoints": "primary.team.svc.cluster.local.:3306,[fd00::2]:3307",
    }
    ctx.run(ctx.on.config_changed(), given.state(given.mysql(bag), given.storage(), disk=tmp_path))

    text = (tmp_path / "etc" / "mlflow-charm" / "secrets" / "my.cnf").read_text()
    assert 'host="primary.team.svc.cluster.local"\nport="3306"\n' in text


def test_postgresql_with_several_endpoints_and_a_ca(ctx, tmp_path):
    tls = testing.Secret(
        {"tls": "True", "tls-ca": "PEM of the CA"}, id="secret:tls00000000000000000"
    )
    bag = {
        **given.postgresql().remote_app_data,
        "endpoints": "a.example:5432,[fd00::2]:5433",
        "secret-tls": "secret:tls00000000000000000",
    }
    ctx.run(
        ctx.on.config_changed(),
        given.state(given.postgresql(bag), given.storage(), secrets=(tls,), disk=tmp_path),
    )

    etc = tmp_path / "etc" / "mlflow-charm"
    connect = json.loads((etc / "stores.json").read_text())["connect"]
    assert connect["host"] == "a.example,fd00::2"
    assert connect["port"] == "5432,5433"
    assert connect["target_session_attrs"] == "read-write"
    assert connect["sslmode"] == "verify-ca"
    assert (etc / "database-ca.pem").read_text() == "PEM of the CA"
    assert connect["sslrootcert"] == "/etc/mlflow-charm/database-ca.pem"


def test_a_password_is_not_in_the_representation_of_a_state():
    found = database.Database(endpoints=(), name="x", username="u", password=given.DB_PASSWORD)

    assert given.DB_PASSWORD not in repr(found)
