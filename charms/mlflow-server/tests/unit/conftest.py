"""States of a model for the charm's tests."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import ops
import pytest
from ops import testing

import server
from charm import MlflowServerCharm
from mlflow_kit import testing as kit

MODEL = "team"
APP = "mlflow-server"

DB_PASSWORD = "db-canary-4711"
S3_SECRET = "s3-canary-4711"
USER_PASSWORD = "user-canary-4711"
CANARIES = (DB_PASSWORD, S3_SECRET, USER_PASSWORD)


@pytest.fixture(autouse=True)
def pebble() -> Iterator[None]:
    with kit.simulation():
        yield


@pytest.fixture
def ctx() -> testing.Context[MlflowServerCharm]:
    return testing.Context(MlflowServerCharm)


def postgresql_secret(password: str = DB_PASSWORD) -> testing.Secret:
    return testing.Secret(
        {"username": "relation-7", "password": password}, id="secret:database0000000000"
    )


def postgresql(data: Mapping[str, str] | None = None) -> testing.Relation:
    return testing.Relation(
        "postgresql",
        remote_app_name="postgresql-k8s",
        id=1,
        remote_app_data={
            "secret-user": "secret:database0000000000",
            "endpoints": "postgresql-k8s-primary.team.svc.cluster.local:5432",
            "database": "mlflow",
            "version": "16.9",
        }
        if data is None
        else dict(data),
    )


def mysql(data: Mapping[str, str] | None = None) -> testing.Relation:
    return testing.Relation(
        "mysql",
        remote_app_name="mysql-k8s",
        id=2,
        remote_app_data={
            "secret-user": "secret:database0000000000",
            "endpoints": "mysql-k8s-primary.team.svc.cluster.local.:3306",
            "database": "mlflow",
        }
        if data is None
        else dict(data),
    )


def mariadb(data: Mapping[str, str] | None = None) -> testing.Relation:
    return testing.Relation(
        "mariadb",
        remote_app_name="mariadb",
        id=3,
        remote_units_data={
            0: {
                "host": "10.152.183.7",
                "port": "3306",
                "user": "mysql",
                "password": DB_PASSWORD,
                "database": "database",
                "root_password": "root",
            }
            if data is None
            else dict(data)
        },
    )


def storage(data: str | None = None) -> testing.Relation:
    text = (
        f"access-key: minio\nnamespace: team\nport: 9000\nsecret-key: {S3_SECRET}\n"
        "secure: false\nservice: minio\n"
    )
    return testing.Relation(
        "object-storage",
        remote_app_name="minio",
        id=4,
        remote_app_data={"_supported_versions": "- v1\n", "data": text if data is None else data},
    )


def ingress(url: str = "http://example.com/team-mlflow-server") -> testing.Relation:
    return testing.Relation(
        "ingress",
        remote_app_name="htpasswd-proxy",
        id=5,
        remote_app_data={"ingress": json.dumps({"url": url})} if url else {},
    )


def account_secret() -> testing.Secret:
    return testing.Secret(
        {"username": "relation-6-mlflow-server", "password": USER_PASSWORD},
        id="secret:account00000000000000",
    )


def basic_auth(data: Mapping[str, str] | None = None) -> testing.Relation:
    entry = {
        "application": APP,
        "model": MODEL,
        "url": "http://htpasswd-proxy.team.svc.cluster.local:8080/mlflow-server",
        "external-url": "https://example.com/team-mlflow-server",
    }
    return testing.Relation(
        "basic-auth",
        remote_app_name="htpasswd-proxy",
        id=6,
        remote_app_data={
            "secret-user": "secret:account00000000000000",
            "endpoints": json.dumps([entry]),
        }
        if data is None
        else dict(data),
    )


def relation(endpoint: str, number: int) -> testing.Relation:
    return testing.Relation(endpoint, remote_app_name=f"remote-{endpoint}", id=number)


def container(disk: pathlib.Path | None = None, **options: Any) -> testing.Container:
    """Return the workload container; with a disk its files stay from one event to the next."""
    if disk is not None:
        for top in ("etc", "opt", "run", "var"):
            (disk / top).mkdir(exist_ok=True)
            options.setdefault("mounts", {})[top] = testing.Mount(
                location=f"/{top}", source=disk / top
            )
    return testing.Container(server.CONTAINER, can_connect=True, **options)


def state(
    *relations: testing.RelationBase,
    leader: bool = True,
    secrets: tuple[testing.Secret, ...] = (),
    disk: pathlib.Path | None = None,
    workload: testing.Container | None = None,
    config: Mapping[str, str | int | bool] | None = None,
) -> testing.State:
    """Return a state with these relations, and the secrets that they mention."""
    needed = {
        "secret:database0000000000": postgresql_secret(),
        "secret:account00000000000000": account_secret(),
    }
    given = {secret.id: secret for secret in secrets}
    mentioned = {
        identifier: secret
        for identifier, secret in needed.items()
        if any(identifier in getattr(each, "remote_app_data", {}).values() for each in relations)
    }
    return testing.State(
        leader=leader,
        model=testing.Model(MODEL),
        relations=relations,
        containers={workload or container(disk)},
        secrets={**mentioned, **given}.values(),
        config=dict(config or {}),
    )


def up(found: testing.State) -> testing.State:
    """Return the state a moment later: the server's check has run and is up."""
    return with_check(found, successes=1, failures=0)


def with_check(
    found: testing.State,
    *,
    successes: int,
    failures: int,
    status: ops.pebble.CheckStatus = ops.pebble.CheckStatus.UP,
) -> testing.State:
    workload = found.get_container(server.CONTAINER)
    info = testing.CheckInfo(
        server.SERVICE,
        status=status,
        successes=successes,
        failures=failures,
        threshold=server.THRESHOLD,
    )
    return dataclasses.replace(
        found, containers={dataclasses.replace(workload, check_infos=frozenset({info}))}
    )


def says(disk: pathlib.Path, program: str, **content: str) -> None:
    """Have ``serve`` or ``migrate`` write its state."""
    path = {"serve": server.SERVE_STATE, "migrate": server.MIGRATE_STATE}[program]
    (disk / path[1:]).write_text(json.dumps(content))


def services(found: testing.State) -> dict[str, ops.pebble.ServiceStatus]:
    return dict(found.get_container(server.CONTAINER).service_statuses)


def running(found: testing.State) -> bool:
    return services(found).get(server.SERVICE) == ops.pebble.ServiceStatus.ACTIVE
