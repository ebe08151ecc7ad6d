"""Start clean: what runs before this one have left behind is removed."""

from __future__ import annotations

import pytest

from tests.functional import names


def pytest_sessionstart(session: pytest.Session) -> None:
    # The workers of pytest-xdist begin while their controller has already swept.
    if not hasattr(session.config, "workerinput"):
        names.sweep()
