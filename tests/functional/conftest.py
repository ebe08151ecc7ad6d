"""A clean start, an order of the modules, and the servers that several modules need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlflow_kit.interfaces import object_storage
from tests.functional import names, stack

SLOWEST = (
    *("test_models", "test_migrate", "test_crashes", "test_proxy", "test_conformance"),
    *("test_backing", "test_workload", "test_serve", "test_images", "test_pods"),
)
"""Modules that take minutes, the longest first, so that no process is left with one in the end,
and those that wait beside those that need a processor. One of few tests, as test_crashes, has the
next one lined up behind it by pytest-xdist."""


def pytest_sessionstart(session: pytest.Session) -> None:
    # The workers of pytest-xdist begin while their controller has already swept.
    if not hasattr(session.config, "workerinput"):
        names.sweep()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="module")
def all_pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Pods]:
    found = stack.Pods(tmp_path_factory.mktemp("pods"))
    yield found
    found.destroy()


@pytest.fixture(scope="module")
def storage(all_pods: stack.Pods) -> object_storage.ObjectStorage:
    return stack.minio(all_pods)


@pytest.fixture(scope="module")
def postgresql(all_pods: stack.Pods) -> stack.Database:
    return stack.postgresql(all_pods)


@pytest.fixture(scope="module")
def mariadb(all_pods: stack.Pods) -> stack.Database:
    return stack.mariadb(all_pods)


@pytest.fixture(params=["postgresql", "mariadb"])
def db(request: pytest.FixtureRequest) -> stack.Database:
    return request.getfixturevalue(request.param)


@pytest.fixture
def unit(all_pods: stack.Pods) -> Iterator[stack.Server]:
    with stack.server_pod(all_pods, "mlflow") as found:
        yield found
