"""The interfaces of this bundle's own: what one side writes the other reads, now and later."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import basic_auth, kubernetes_manifest, mlflow_client

SECRETS = {
    "secret:account": {"username": "relation-6-mlflow-server", "password": "p:w"},
    "secret:empty": {"username": "", "password": ""},
    "secret:other": {"token": "x"},
    "secret:control": {"username": "a\nb", "password": "p"},
}
ENTRY = {
    "application": "mlflow-server",
    "model": "m",
    "url": "http://htpasswd-proxy.m.svc.cluster.local:8080/mlflow-server",
    "external-url": "https://example.com/m-mlflow-server",
}
BAG = {"endpoints": json.dumps([ENTRY]), "secret-user": "secret:account"}


def test_an_account_and_its_addresses():
    found = basic_auth.read(BAG, SECRETS.get)

    assert isinstance(found, basic_auth.Account)
    assert (found.username, found.password, found.secret) == (
        "relation-6-mlflow-server",
        "p:w",
        "secret:account",
    )
    assert found.endpoint("mlflow-server", "m") == basic_auth.Endpoint(
        application="mlflow-server",
        model="m",
        url=ENTRY["url"],
        external_url=ENTRY["external-url"],
    )
    assert found.endpoint("mlflow-server", "other") is None
    assert "p:w" not in repr(found)


def test_what_the_provider_writes_the_requirer_reads():
    endpoints = [
        basic_auth.Endpoint(application="b", model="m", url="http://p/b"),
        basic_auth.Endpoint(
            application="a", model="m", url="http://p/a", external_url="https://x/a"
        ),
    ]
    content = basic_auth.secret_content("u", "p")

    bag = basic_auth.write(endpoints, "secret:mine")
    found = basic_auth.read(bag, {"secret:mine": content}.get)

    assert found == basic_auth.Account(
        endpoints=tuple(sorted(endpoints)), username="u", password="p", secret="secret:mine"
    )
    assert bag == basic_auth.write(reversed(endpoints), "secret:mine")
    assert "external-url" not in json.loads(bag["endpoints"])[1]
    assert basic_auth.write(endpoints, "") == {"endpoints": "", "secret-user": ""}


def test_a_later_version_may_say_more():
    bag = {**BAG, "endpoints": json.dumps([{**ENTRY, "realm": "x"}]), "new": "key"}

    assert basic_auth.read(bag, SECRETS.get) == basic_auth.read(BAG, SECRETS.get)


@pytest.mark.parametrize(
    ("bag", "missing"),
    [
        ({}, "an account"),
        ({"endpoints": BAG["endpoints"]}, "an account"),
        ({**BAG, "secret-user": "secret:unknown"}, "a grant of secret-user"),
    ],
)
def test_accounts_on_their_way(bag, missing):
    assert basic_auth.read(bag, SECRETS.get) == Absent(missing)


def test_an_account_is_good_for_nothing_yet():
    found = basic_auth.read({"secret-user": "secret:account"}, SECRETS.get)

    assert isinstance(found, basic_auth.Account)
    assert found.endpoints == ()


@pytest.mark.parametrize(
    "change",
    [
        {"secret-user": "secret:empty"},
        {"secret-user": "secret:other"},
        {"secret-user": "secret:control"},
        {"endpoints": "{"},
        {"endpoints": "{}"},
        {"endpoints": "[1]"},
        {"endpoints": "[{}]"},
        {"endpoints": json.dumps([{**ENTRY, "url": "ftp://x"}])},
        {"endpoints": json.dumps([{**ENTRY, "url": "http://x; evil"}])},
        {"endpoints": json.dumps([{**ENTRY, "external-url": 7}])},
        {"endpoints": json.dumps([{**ENTRY, "external-url": "x"}])},
        {"endpoints": json.dumps([{**ENTRY, "application": None}])},
    ],
    ids=str,
)
def test_accounts_that_make_no_sense(change):
    assert isinstance(basic_auth.read({**BAG, **change}, SECRETS.get), Invalid)


PRINTABLE = st.text(alphabet=[c for c in string.printable if c.isprintable()], min_size=1)


@given(PRINTABLE, PRINTABLE)
def test_every_printable_account_is_passed_on(username, password):
    content = basic_auth.secret_content(username, password)

    found = basic_auth.read(basic_auth.write([], "secret:x"), {"secret:x": content}.get)

    assert isinstance(found, basic_auth.Account)
    assert (found.username, found.password) == (username, password)


def test_a_tracking_server():
    tracking = mlflow_client.Tracking(
        uri="http://mlflow-server.m.svc.cluster.local:5000", version="3.17.2", artifacts="proxied"
    )

    bag = mlflow_client.write(tracking)

    assert bag == {
        "tracking-uri": "http://mlflow-server.m.svc.cluster.local:5000",
        "version": "3.17.2",
        "artifacts": "proxied",
    }
    assert mlflow_client.read({**bag, "later": "x"}) == tracking
    assert mlflow_client.read({"tracking-uri": "http://x:5000/"}) == mlflow_client.Tracking(
        uri="http://x:5000"
    )
    assert set(mlflow_client.write(None).values()) == {""}


@pytest.mark.parametrize("bag", [{}, {"version": "3"}, {"tracking-uri": ""}])
def test_a_tracking_server_on_its_way(bag):
    assert mlflow_client.read(bag) == Absent("a tracking URI")


@pytest.mark.parametrize(
    "bag",
    [
        {"tracking-uri": "file:///etc"},
        {"tracking-uri": "http://u:p@x"},
        {"tracking-uri": "http://x", "version": "3\n4"},
    ],
)
def test_a_tracking_server_that_makes_no_sense(bag):
    assert isinstance(mlflow_client.read(bag), Invalid)


@given(
    st.dictionaries(
        st.sampled_from([*BAG, "tracking-uri", "version", "artifacts"]), st.text() | st.just("[]")
    )
)
def test_no_databag_raises(bag):
    assert isinstance(basic_auth.read(bag, SECRETS.get), (Absent, Invalid, basic_auth.Account))
    assert isinstance(mlflow_client.read(bag), (Absent, Invalid, mlflow_client.Tracking))


SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "mlflow-server-minio-artifact"},
    "stringData": {"AWS_ACCESS_KEY_ID": "minio"},
}


def test_manifests_in_clear_are_what_library_0_1_reads():
    bag = kubernetes_manifest.plaintext([SECRET])

    assert json.loads(bag["kubernetes_manifests"]) == [SECRET]
    assert bag["is_secret"] == ""
    assert kubernetes_manifest.plaintext([]) == {"kubernetes_manifests": "", "is_secret": ""}


def test_manifests_in_a_secret_are_what_library_0_2_reads():
    assert json.loads(kubernetes_manifest.secret_content([SECRET])["manifests"]) == [SECRET]
    assert kubernetes_manifest.by_secret("secret:x") == {
        "kubernetes_manifests": "secret:x",
        "is_secret": "true",
    }
    assert set(kubernetes_manifest.by_secret("").values()) == {""}
