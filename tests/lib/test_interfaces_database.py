"""The wires of databases: what their charms write, and what they might."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_kit import uris
from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import database, mysql_client, mysql_legacy, postgresql_client

SECRETS = {
    "secret:user": {
        "username": "relation-7",
        "password": "pa:ss/w@rd",
        "uris": "postgresql://relation-7:x@h:5432/mlflow",
    },
    "secret:tls": {"tls": "True", "tls-ca": "PEM"},
    "secret:tls-v1": {"tls": "false", "tls-ca": ""},
    "secret:half": {"password": "first the password"},
}

# As postgresql-k8s 16 and mysql-k8s 8.0 write it (data_interfaces 0.58 and 0.41).
POSTGRESQL = {
    "data": '{"database": "mlflow", "requested-secrets": "[]"}',
    "database": "mlflow",
    "endpoints": "postgresql-k8s-primary.m.svc.cluster.local:5432",
    "read-only-endpoints": "postgresql-k8s-replicas.m.svc.cluster.local:5432",
    "secret-user": "secret:user",
    "secret-tls": "secret:tls",
    "version": "16.9",
}
MYSQL = {
    "database": "mlflow",
    "endpoints": "mysql-k8s-primary.m.svc.cluster.local.:3306",
    "secret-user": "secret:user",
    "version": "8.0.42-0ubuntu0.22.04.1",
}


def test_the_request_is_complete_in_one_go():
    bag = postgresql_client.request("mlflow")

    assert bag["database"] == "mlflow"
    assert {"username", "password", "tls", "tls-ca"} <= set(json.loads(bag["requested-secrets"]))
    assert mysql_client.request("mlflow") == bag


def test_postgresql_k8s():
    assert postgresql_client.read(POSTGRESQL, SECRETS.get) == database.Database(
        endpoints=(uris.Endpoint("postgresql-k8s-primary.m.svc.cluster.local", 5432),),
        name="mlflow",
        username="relation-7",
        password="pa:ss/w@rd",
        tls=True,
        tls_ca="PEM",
    )


def test_mysql_k8s_with_its_trailing_dot():
    found = mysql_client.read(MYSQL, SECRETS.get)

    assert isinstance(found, database.Database)
    assert found.endpoints == (uris.Endpoint("mysql-k8s-primary.m.svc.cluster.local", 3306),)
    assert not found.tls


def test_mariadb_k8s_leaves_the_port_out_of_no_endpoint():
    found = mysql_client.read({**MYSQL, "endpoints": "mariadb-k8s:3306"}, SECRETS.get)

    assert isinstance(found, database.Database)
    assert str(found.endpoints[0]) == "mariadb-k8s:3306"


def test_the_truth_of_a_v1_provider():
    found = postgresql_client.read({**POSTGRESQL, "secret-tls": "secret:tls-v1"}, SECRETS.get)

    assert isinstance(found, database.Database)
    assert not found.tls


def test_a_provider_without_secrets():
    bag = {
        "database": "mlflow",
        "endpoints": "a:1,b:2",
        "username": "u",
        "password": "p",
        "tls": "False",
        "uris": "postgresql://u:p@a:1/mlflow",
    }

    assert postgresql_client.read(bag, SECRETS.get) == database.Database(
        endpoints=(uris.Endpoint("a", 1), uris.Endpoint("b", 2)),
        name="mlflow",
        username="u",
        password="p",
    )


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (dict.fromkeys(POSTGRESQL, ""), "credentials"),
        ({"secret-user": ""}, "credentials"),
        ({"secret-user": "secret:half"}, "credentials"),
        ({"secret-user": "secret:unknown"}, "a grant of secret-user"),
        ({"secret-tls": "secret:unknown"}, "a grant of secret-tls"),
        ({"endpoints": ""}, "an endpoint"),
        ({"database": ""}, "a database"),
    ],
)
def test_what_is_not_there_yet_is_absent(change, missing):
    assert postgresql_client.read({**POSTGRESQL, **change}, SECRETS.get) == Absent(missing)


@pytest.mark.parametrize(
    "change",
    [
        {"endpoints": "a:b:c"},
        {"endpoints": ","},
        {"endpoints": "host:0"},
        {"database": "a\nb"},
        {"database": "a\x00"},
    ],
)
def test_what_cannot_be_used_is_invalid(change):
    assert isinstance(postgresql_client.read({**POSTGRESQL, **change}, SECRETS.get), Invalid)


@pytest.mark.parametrize("key", ["username", "password"])
@pytest.mark.parametrize("text", ["a\nb", "a\x00b", "a\x7fb", "a\x85b"])
def test_control_characters_are_refused_and_not_repeated(key, text):
    content = {**SECRETS["secret:user"], key: text}
    found = postgresql_client.read(POSTGRESQL, {**SECRETS, "secret:user": content}.get)

    assert found == Invalid(f"{key} has control characters")


def test_a_password_that_pymysql_cannot_send_is_refused():
    content = {**SECRETS["secret:user"], "password": "pässword"}
    secrets = {**SECRETS, "secret:user": content}

    assert isinstance(mysql_client.read(MYSQL, secrets.get), Invalid)
    assert isinstance(postgresql_client.read(POSTGRESQL, secrets.get), database.Database)


LEGACY = {
    "host": "10.152.183.7",
    "port": "3306",
    "user": "mysql",
    "password": "password",
    "database": "database",
    "root_password": "root",
}


def test_the_older_mariadb_charm():
    found = mysql_legacy.read([{}, {"host": "10.1.1.1"}, LEGACY, {**LEGACY, "host": "10.9.9.9"}])

    assert found == database.Database(
        endpoints=(uris.Endpoint("10.152.183.7", 3306),),
        name="database",
        username="mysql",
        password="password",
    )


@pytest.mark.parametrize("units", [[], [{}], [{**LEGACY, "password": ""}]])
def test_the_older_mariadb_charm_on_its_way(units):
    assert mysql_legacy.read(units) == Absent("credentials")


@pytest.mark.parametrize(
    "change",
    [
        {"port": "many"},
        {"port": "0"},
        {"port": "65536"},
        {"port": "3306.5"},
        {"host": "a b"},
        {"user": "a\nb"},
        {"password": "a\x00"},
        {"password": "ü"},
        {"database": "a\tb"},
    ],
)
def test_the_older_mariadb_charm_gone_wrong(change):
    assert isinstance(mysql_legacy.read([{**LEGACY, **change}]), Invalid)


TEXTS = st.dictionaries(
    st.sampled_from([*POSTGRESQL, *LEGACY, "username", "password", "tls", "tls-ca"]), st.text()
)


@given(TEXTS)
def test_no_databag_raises(bag):
    for read in (postgresql_client.read, mysql_client.read):
        assert isinstance(read(bag, SECRETS.get), (Absent, Invalid, database.Database))
    assert isinstance(mysql_legacy.read([bag]), (Absent, Invalid, database.Database))
