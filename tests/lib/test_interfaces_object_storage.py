"""The wire of the minio charm."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlflow_kit.databag import Absent, Invalid
from mlflow_kit.interfaces import object_storage, sdi

# As serialized-data-interface writes it for minio.
DATA = """access-key: minio
namespace: kubeflow
port: 9000
secret-key: '0123'
secure: false
service: minio
"""
BAG = {"_supported_versions": "- v1\n", "data": DATA}


def test_the_requirer_says_its_version():
    assert object_storage.request() == {"_supported_versions": "- v1\n"}


def test_minio():
    assert object_storage.read(BAG) == object_storage.ObjectStorage(
        url="http://minio.kubeflow.svc.cluster.local:9000", access_key="minio", secret_key="0123"
    )


@pytest.mark.parametrize(
    ("change", "url"),
    [
        ({"namespace": None}, "http://minio:9000"),
        ({"secure": True}, "https://minio.kubeflow.svc.cluster.local:9000"),
        ({"port": 443.0}, "http://minio.kubeflow.svc.cluster.local:443"),
        ({"service": "10.1.2.3", "namespace": None}, "http://10.1.2.3:9000"),
        ({"unknown": [1]}, "http://minio.kubeflow.svc.cluster.local:9000"),
    ],
)
def test_addresses(change, url):
    data = yaml.safe_dump({**yaml.safe_load(DATA), **change})
    found = object_storage.read({**BAG, "data": data})

    assert isinstance(found, object_storage.ObjectStorage)
    assert found.url == url


def test_json_is_read_as_well():
    found = object_storage.read({**BAG, **sdi.message("v1", yaml.safe_load(DATA))})

    assert isinstance(found, object_storage.ObjectStorage)


@pytest.mark.parametrize(
    "bag", [{}, {"data": DATA}, {"_supported_versions": "- v1\n"}, {**BAG, "data": ""}]
)
def test_what_is_not_there_yet_is_absent(bag):
    assert isinstance(object_storage.read(bag), Absent)


@pytest.mark.parametrize(
    "bag",
    [
        {**BAG, "_supported_versions": "- v2\n"},
        {**BAG, "_supported_versions": "{"},
        {**BAG, "_supported_versions": "v1"},
        {**BAG, "data": "- a list"},
        {**BAG, "data": "{"},
        {**BAG, "data": "!!python/object/apply:os.system [id]"},
        {**BAG, "data": "1: 2"},
    ],
)
def test_what_makes_no_sense_is_invalid(bag):
    assert isinstance(object_storage.read(bag), Invalid)


@pytest.mark.parametrize(
    "change",
    [
        {"access-key": None},
        {"access-key": ""},
        {"access-key": 1},
        {"access-key": "a\nb"},
        {"secret-key": ["x"]},
        {"port": "many"},
        {"port": 0},
        {"port": 70000},
        {"port": True},
        {"port": 1e300},
        {"port": float("nan")},
        {"secure": "yes"},
        {"secure": None},
        {"service": "mi nio"},
        {"service": "minio/evil"},
        {"namespace": "kube@flow"},
        {"namespace": 7},
    ],
    ids=str,
)
def test_each_field_is_checked_and_no_value_repeated(change):
    data = yaml.safe_dump({**yaml.safe_load(DATA), **change})
    found = object_storage.read({**BAG, "data": data})

    assert isinstance(found, Invalid)
    assert "0123" not in found.reason


def test_the_secret_key_is_not_shown():
    assert "0123" not in repr(object_storage.read(BAG))


@given(st.text(), st.text())
def test_no_databag_raises(versions, data):
    for bag in ({"_supported_versions": versions, "data": data}, {**BAG, "data": data}):
        assert isinstance(
            object_storage.read(bag), (Absent, Invalid, object_storage.ObjectStorage)
        )
