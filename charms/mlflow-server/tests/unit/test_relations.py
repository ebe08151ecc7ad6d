"""What other applications are told and asked."""

from __future__ import annotations

import dataclasses
import json
import subprocess

import conftest as given
import ops
import pytest
import yaml
from ops import testing

ENDPOINTS = (
    "postgresql",
    "object-storage",
    "ingress",
    "basic-auth",
    "mlflow",
    "pod-defaults",
    "secrets",
)


def sent(state: testing.State, endpoint: str) -> dict[str, str]:
    relation = next(r for r in state.relations if r.endpoint == endpoint)
    return dict(relation.local_app_data)


@pytest.mark.parametrize("endpoint", ["postgresql", "mysql"])
def test_the_leader_asks_for_a_database(ctx, endpoint):
    state = given.state(given.relation(endpoint, 9), config={"database": "experiments"})

    out = ctx.run(ctx.on.config_changed(), state)

    assert sent(out, endpoint)["database"] == "experiments"
    assert "username" in json.loads(sent(out, endpoint)["requested-secrets"])


def test_the_leader_greets_the_object_store(ctx):
    out = ctx.run(ctx.on.config_changed(), given.state(given.relation("object-storage", 9)))

    assert yaml.safe_load(sent(out, "object-storage")["_supported_versions"]) == ["v1"]


def test_ingress_is_asked_for_on_both_wires_by_all_units(ctx):
    relation = given.relation("ingress", 9)
    out = ctx.run(ctx.on.config_changed(), given.state(relation))

    bag = sent(out, "ingress")
    assert {key: json.loads(bag[key]) for key in ("name", "model", "port", "strip-prefix")} == {
        "name": "mlflow-server",
        "model": "team",
        "port": 5000,
        "strip-prefix": True,
    }
    assert yaml.safe_load(bag["data"]) == {
        "service": "mlflow-server",
        "namespace": "team",
        "port": 5000,
        "prefix": "/mlflow-server/",
        "rewrite": "/",
    }
    host = "mlflow-server-0.mlflow-server-endpoints.team.svc.cluster.local"
    for leader in (True, False):
        out = ctx.run(ctx.on.config_changed(), given.state(relation, leader=leader))
        unit = out.get_relation(9).local_unit_data
        assert json.loads(unit["host"]) == host
        assert json.loads(unit["ip"]) == "192.0.2.0"


def test_only_the_leader_writes_for_the_application(ctx):
    relations = [given.relation(endpoint, n) for n, endpoint in enumerate(ENDPOINTS)]

    out = ctx.run(ctx.on.config_changed(), given.state(*relations, leader=False))

    assert all(dict(r.local_app_data) == {} for r in out.relations)


def test_the_service_exposes_the_port(ctx):
    out = ctx.run(ctx.on.config_changed(), given.state())

    assert out.opened_ports == {testing.TCPPort(5000)}


def test_the_tracking_uri_is_published_only_while_the_server_answers(ctx, tmp_path):
    relations = (given.postgresql(), given.storage(), given.relation("mlflow", 9))
    out = ctx.run(ctx.on.config_changed(), given.state(*relations, disk=tmp_path))
    assert sent(out, "mlflow") == {}

    given.says(tmp_path, "serve", state="serving", mlflow="3.17.2")
    out = ctx.run(ctx.on.update_status(), given.up(out))
    published = {
        "tracking-uri": "http://mlflow-server.team.svc.cluster.local:5000",
        "version": "3.17.2",
        "artifacts": "proxied",
    }
    assert sent(out, "mlflow") == published

    # A restart is no reason to have clients run away
    starting = given.with_check(out, successes=0, failures=1)
    out = ctx.run(ctx.on.update_status(), starting)
    assert sent(out, "mlflow") == published

    # but a server that is down is
    down = given.with_check(out, successes=3, failures=8, status=ops.pebble.CheckStatus.DOWN)
    out = ctx.run(ctx.on.update_status(), down)
    assert sent(out, "mlflow") == {}


def test_the_tracking_uri_goes_with_the_database(ctx):
    relations = (given.postgresql(), given.storage(), given.relation("mlflow", 9))
    out = given.up(ctx.run(ctx.on.config_changed(), given.state(*relations)))
    out = given.up(ctx.run(ctx.on.update_status(), out))
    assert sent(out, "mlflow") != {}

    out = ctx.run(ctx.on.relation_broken(out.get_relation(1)), out)

    assert sent(out, "mlflow") == {}


def full(**options) -> testing.State:
    return given.state(
        given.postgresql(),
        given.storage(),
        given.ingress(),
        given.basic_auth(),
        given.relation("pod-defaults", 11),
        given.relation("secrets", 12),
        **options,
    )


def manifests(state: testing.State) -> list[dict]:
    """Return what resource-dispatcher would find behind the databag of `secrets`."""
    bag = sent(state, "secrets")
    if not bag:
        return []
    assert bag["is_secret"] == "true"
    secret = state.get_secret(label="notebook-manifests")
    assert secret.remote_grants == {12: {"remote-secrets"}}
    content = secret.latest_content or secret.tracked_content
    return json.loads(content["manifests"])


def test_notebooks_get_the_proxied_address_and_an_account(ctx):
    out = ctx.run(ctx.on.config_changed(), full())

    (pod_default,) = json.loads(sent(out, "pod-defaults")["kubernetes_manifests"])
    assert pod_default["metadata"]["name"] == "mlflow-server-minio"
    assert pod_default["spec"]["selector"]["matchLabels"] == {"mlflow-server-minio": "true"}
    environment = {entry["name"]: entry for entry in pod_default["spec"]["env"]}
    assert environment["MLFLOW_TRACKING_URI"]["value"] == (
        "http://htpasswd-proxy.team.svc.cluster.local:8080/mlflow-server"
    )
    (secret,) = manifests(out)
    for name, value in (
        ("MLFLOW_TRACKING_USERNAME", "relation-6-mlflow-server"),
        ("MLFLOW_TRACKING_PASSWORD", given.USER_PASSWORD),
    ):
        reference = environment[name]["valueFrom"]["secretKeyRef"]
        assert reference["name"] == secret["metadata"]["name"] == "mlflow-server-credentials"
        assert secret["stringData"][reference["key"]] == value


def test_notebooks_get_the_direct_address_where_there_is_no_proxy(ctx):
    state = given.state(
        given.postgresql(),
        given.storage(),
        given.relation("pod-defaults", 11),
        given.relation("secrets", 12),
    )

    out = ctx.run(ctx.on.config_changed(), state)

    (pod_default,) = json.loads(sent(out, "pod-defaults")["kubernetes_manifests"])
    assert pod_default["spec"]["env"] == [
        {
            "name": "MLFLOW_TRACKING_URI",
            "value": "http://mlflow-server.team.svc.cluster.local:5000",
        }
    ]
    assert sent(out, "secrets") == {}


def test_notebooks_get_the_keys_of_the_object_store_if_asked_for(ctx):
    out = ctx.run(ctx.on.config_changed(), full(config={"notebook-object-storage": True}))

    names = {m["metadata"]["name"]: m for m in manifests(out)}
    assert names["mlflow-server-minio-artifact"]["stringData"] == {
        "AWS_ACCESS_KEY_ID": "minio",
        "AWS_SECRET_ACCESS_KEY": given.S3_SECRET,
    }
    pod_defaults = json.loads(sent(out, "pod-defaults")["kubernetes_manifests"])
    assert [m["metadata"]["name"] for m in pod_defaults] == [
        "mlflow-server-minio",
        "mlflow-server-access-minio",
    ]
    assert given.S3_SECRET not in sent(out, "pod-defaults")["kubernetes_manifests"]


def test_a_new_password_reaches_notebooks_in_the_same_secret(ctx):
    out = ctx.run(ctx.on.config_changed(), full())
    uri = sent(out, "secrets")["kubernetes_manifests"]

    changed = testing.Secret(
        {"username": "relation-6-mlflow-server", "password": "another"},
        id="secret:account00000000000000",
    )
    others = [s for s in out.secrets if s.id != changed.id]
    out = ctx.run(
        ctx.on.update_status(), dataclasses.replace(out, secrets=frozenset([*others, changed]))
    )

    (secret,) = manifests(out)
    assert secret["stringData"]["MLFLOW_TRACKING_PASSWORD"] == "another"
    assert sent(out, "secrets")["kubernetes_manifests"] == uri

    # AND the old revision is removed once nobody reads it any more, this unit included
    out = ctx.run(ctx.on.update_status(), out)
    shared = out.get_secret(label="notebook-manifests")
    ctx.run(ctx.on.secret_remove(shared, revision=1), out)
    assert ctx.removed_secret_revisions == [1]


def test_what_notebooks_got_is_withdrawn_with_the_account(ctx):
    out = ctx.run(ctx.on.config_changed(), full())

    out = ctx.run(ctx.on.relation_broken(out.get_relation(6)), out)

    assert sent(out, "secrets") == {}
    assert not [s for s in out.secrets if s.label == "notebook-manifests"]
    (pod_default,) = json.loads(sent(out, "pod-defaults")["kubernetes_manifests"])
    assert [entry["name"] for entry in pod_default["spec"]["env"]] == ["MLFLOW_TRACKING_URI"]


def test_what_notebooks_got_is_withdrawn_with_the_store(ctx):
    out = ctx.run(ctx.on.config_changed(), full())

    out = ctx.run(ctx.on.relation_broken(out.get_relation(4)), out)

    assert sent(out, "secrets") == {}
    assert sent(out, "pod-defaults") == {}


def test_get_connection_tells_where_the_password_is_and_not_what_it_is(ctx):
    ctx.run(ctx.on.action("get-connection"), full())

    results = ctx.action_results
    assert results["tracking-uri"] == "https://example.com/team-mlflow-server"
    assert results["external-uri"] == "https://example.com/team-mlflow-server"
    assert results["in-cluster-uri"] == (
        "http://htpasswd-proxy.team.svc.cluster.local:8080/mlflow-server"
    )
    assert results["username"] == "relation-6-mlflow-server"
    assert results["password-secret"] == "secret:account00000000000000"
    assert not any(canary in json.dumps(results) for canary in given.CANARIES)


def test_the_environment_of_get_connection_works_in_a_shell(ctx, tmp_path):
    # GIVEN a `juju` that reveals the secret as Juju does
    answer = {"account00000000000000": {"content": {"Data": {"password": "p'w \"$x"}}}}
    juju = tmp_path / "juju"
    juju.write_text(
        "#!/bin/sh\n"
        'test "$*" = "show-secret --reveal --format json account00000000000000" || exit 9\n'
        f"cat <<'END'\n{json.dumps(answer)}\nEND\n"
    )
    juju.chmod(0o755)
    ctx.run(ctx.on.action("get-connection"), full())

    # WHEN the block is run, THEN all three variables are there
    done = subprocess.run(
        ["sh", "-ec", ctx.action_results["environment"] + "\nenv"],
        env={"PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "MLFLOW_TRACKING_URI=https://example.com/team-mlflow-server\n" in done.stdout
    assert "MLFLOW_TRACKING_USERNAME=relation-6-mlflow-server\n" in done.stdout
    assert "MLFLOW_TRACKING_PASSWORD=p'w \"$x\n" in done.stdout


def test_get_connection_without_a_proxy_needs_no_password(ctx):
    ctx.run(ctx.on.action("get-connection"), given.state(given.postgresql(), given.storage()))

    assert ctx.action_results == {
        "tracking-uri": "http://mlflow-server.team.svc.cluster.local:5000",
        "in-cluster-uri": "http://mlflow-server.team.svc.cluster.local:5000",
        "environment": (
            "export MLFLOW_TRACKING_URI=http://mlflow-server.team.svc.cluster.local:5000"
        ),
    }


def test_get_connection_says_why_there_is_none(ctx):
    with pytest.raises(testing.ActionFailed) as failure:
        ctx.run(ctx.on.action("get-connection"), given.state())

    assert failure.value.message == "missing relation: postgresql, mysql or mariadb"


def test_an_action_changes_nothing(ctx):
    before = full()

    out = ctx.run(ctx.on.action("get-connection"), before)

    assert given.services(out) == {}
    assert all(dict(r.local_app_data) == {} for r in out.relations)
