"""The same deployment with MariaDB in place of PostgreSQL."""

from __future__ import annotations

import pytest
from conftest import ROOT, Stack

pytestmark = pytest.mark.abort_on_fail


async def test_deploys(stack: Stack):
    await stack.deploy(ROOT / "overlays" / "mariadb.yaml")


async def test_logs_and_reads_back(stack: Stack):
    output = await stack.example("notebook_run.py")
    assert "the model was read back" in output
