"""Both wires called `ingress`, both sides."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import ingress

REQUEST = ingress.request(application="mlflow-server", model="m", port=5000, prefix="/mlflow/")

# As traefik_k8s.v2.ingress writes it for another charm, and as SDI does for kfp-ui.
TRAEFIK_REQUIRER = {
    "model": '"kubeflow"',
    "name": '"mlflow-server"',
    "port": "5000",
    "strip-prefix": "true",
    "healthcheck_params": '{"path": "/health"}',
    "is_port_open": "true",
}
TRAEFIK_UNIT = {
    "host": '"mlflow-server-0.mlflow-server-endpoints.kubeflow.svc.cluster.local"',
    "ip": '"10.1.0.7"',
}
SDI_REQUIRER = {
    "_supported_versions": "- v2\n",
    "data": "namespace: kubeflow\nport: 3000\nprefix: /pipeline\nrewrite: /\nservice: kfp-ui\n",
}
SDI_V1_REQUIRER = {
    "_supported_versions": "- v1\n",
    "data": "port: 3000\nprefix: /pipeline\nservice: kfp-ui\n",
}


def test_the_request_has_both_wires():
    assert {k: json.loads(v) for k, v in REQUEST.items() if k != "_supported_versions"} == {
        "model": "m",
        "name": "mlflow-server",
        "port": 5000,
        "strip-prefix": True,
        "data": {
            "service": "mlflow-server",
            "namespace": "m",
            "port": 5000,
            "prefix": "/mlflow/",
            "rewrite": "/",
        },
    }
    assert yaml.safe_load(REQUEST["_supported_versions"]) == ["v2"]


def test_a_unit_says_where_it_is():
    assert ingress.unit_request(host="h", ip="10.1.0.7") == {"host": '"h"', "ip": '"10.1.0.7"'}
    assert ingress.unit_request(host="h", ip="") == {"host": '"h"', "ip": ""}


@pytest.mark.parametrize(
    ("bag", "expected"),
    [
        ({"ingress": '{"url": "http://1.2.3.4/m-x/"}'}, ingress.Ingress(url="http://1.2.3.4/m-x")),
        (
            {"ingress": '{"url": "https://example.com", "more": 1}'},
            ingress.Ingress(url="https://example.com"),
        ),
        ({"_supported_versions": "- v2\n"}, ingress.Ingress(url="")),
        ({}, Absent("an address")),
        ({"ingress": "null"}, Absent("an address")),
    ],
)
def test_answers(bag, expected):
    assert ingress.read(bag) == expected


@pytest.mark.parametrize(
    "text",
    [
        "http://x",
        "[]",
        "{}",
        '{"url": 1}',
        '{"url": ""}',
        '{"url": "ftp://x"}',
        '{"url": "http://a b"}',
        '{"url": "http://x;evil/"}',
        '{"url": "http://user:pw@x/"}',
        "[" * 10**5,
    ],
    ids=lambda text: text[:20],
)
def test_answers_that_make_no_sense(text):
    assert isinstance(ingress.read({"ingress": text}), Invalid)


def test_the_provider_reads_what_traefiks_library_writes():
    found = ingress.read_requirer(TRAEFIK_REQUIRER, [TRAEFIK_UNIT, {}], model="m")

    assert found == ingress.Requirer(
        application="mlflow-server",
        model="kubeflow",
        port=5000,
        strip_prefix=True,
        hosts=("10.1.0.7",),
    )
    assert isinstance(found, ingress.Requirer)
    assert ingress.answer(found, "http://x/y") == {"ingress": '{"url": "http://x/y"}'}
    assert ingress.answer(found, "") == {"ingress": ""}


def test_the_provider_reads_what_istios_requirers_write():
    found = ingress.read_requirer(SDI_REQUIRER, [], model="m")

    assert found == ingress.Requirer(
        application="kfp-ui", model="kubeflow", port=3000, strip_prefix=True, sdi="v2"
    )
    assert isinstance(found, ingress.Requirer)
    assert ingress.answer(found, "http://x/y") == {"_supported_versions": "- v2\n"}


def test_the_first_version_knows_no_namespace():
    found = ingress.read_requirer(SDI_V1_REQUIRER, [], model="m")

    assert found == ingress.Requirer(application="kfp-ui", model="m", port=3000, sdi="v1")


def test_the_provider_greets_those_who_wait_for_it():
    assert ingress.greeting({"_supported_versions": "- v1\n- v2\n"}) == {
        "_supported_versions": "- v2\n"
    }
    assert ingress.greeting(TRAEFIK_REQUIRER) == {}
    assert ingress.greeting(REQUEST) == {}


def test_our_own_request_is_read_as_the_wire_that_gets_an_address():
    found = ingress.read_requirer(
        REQUEST, [ingress.unit_request(host="h.m.svc", ip="")], model="other"
    )

    assert found == ingress.Requirer(
        application="mlflow-server", model="m", port=5000, strip_prefix=True, hosts=("h.m.svc",)
    )


@pytest.mark.parametrize(
    "app", [{}, {"name": '"x"'}, {"_supported_versions": "- v2\n"}, {"name": '"x"', "port": "1"}]
)
def test_requests_on_their_way(app):
    assert isinstance(ingress.read_requirer(app, [], model="m"), Absent)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "kubeflow"},
        {"name": "1"},
        {"name": '"a.b"'},
        {"name": '"a/b"'},
        {"name": '"a;b"'},
        {"model": '"$(id)"'},
        {"port": '"many"'},
        {"port": "0"},
        {"port": "70000"},
        {"port": "true"},
        {"scheme": '"h2c"'},
        {"scheme": "[]"},
        {"scheme": "[1]"},
        {"scheme": "{}"},
        {"strip-prefix": '"yes"'},
    ],
    ids=str,
)
def test_requests_that_make_no_sense(change):
    found = ingress.read_requirer({**TRAEFIK_REQUIRER, **change}, [TRAEFIK_UNIT], model="m")

    assert isinstance(found, Invalid)


@pytest.mark.parametrize("rewrite", ["[1]", "{a: 1}", "/other", "7"])
def test_routes_that_make_no_sense(rewrite):
    data = SDI_REQUIRER["data"].replace("rewrite: /", f"rewrite: {rewrite}")

    assert isinstance(
        ingress.read_requirer({**SDI_REQUIRER, "data": data}, [], model="m"), Invalid
    )


@pytest.mark.parametrize("host", ["h", '"a b"', '"a;b"', "[1]", '"a\\nb"', '"127.0.0.1/8"'])
def test_hosts_that_make_no_sense(host):
    found = ingress.read_requirer(TRAEFIK_REQUIRER, [{"host": host}], model="m")

    assert isinstance(found, Invalid)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
).map(json.dumps)
KEYS = st.sampled_from([*TRAEFIK_REQUIRER, *SDI_REQUIRER, "scheme", "ingress", "host", "ip"])


@given(st.dictionaries(KEYS, JSON | st.text()), st.dictionaries(KEYS, JSON))
def test_no_databag_raises(app, unit):
    assert isinstance(ingress.read(app), (Absent, Invalid, ingress.Ingress))
    found = ingress.read_requirer(app, [unit], model="m")
    assert isinstance(found, (Absent, Invalid, ingress.Requirer))
    ingress.greeting(app)
