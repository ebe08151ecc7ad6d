"""Start clean: what runs before this one have left behind is removed."""

from __future__ import annotations

import pytest

from tests.functional import names

SLOWEST = (
    *("test_migrate", "test_models", "test_crashes", "test_backing"),
    *("test_proxy", "test_conformance", "test_images"),
)
"""Modules that take minutes, the longest first, so that no process is left with one in the end.
One of few tests, as test_crashes, is early, too: pytest-xdist lines up the next one behind it."""


def pytest_sessionstart(session: pytest.Session) -> None:
    # The workers of pytest-xdist begin while their controller has already swept.
    if not hasattr(session.config, "workerinput"):
        names.sweep()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
