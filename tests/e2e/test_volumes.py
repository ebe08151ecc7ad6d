"""A volume that is full loses nothing, and the stack goes on when there is space again."""

from __future__ import annotations

import typing

import pytest

from onebox import stack
from tests.e2e import byhand, users
from tests.e2e.test_faults import MINIO, POSTGRESQL, fault, present, until


@pytest.mark.parametrize("application", [POSTGRESQL, MINIO])
def test_a_full_volume_loses_nothing(hand: byhand.Hand, application: str) -> None:
    client = hand.client
    # GIVEN a run, and servers whose storage has a size
    logged = client.session("log_run")["log_run"]
    before = present()
    # WHEN there is no space any more
    assert fault("fill", unit=f"{application}/0", seconds=20) == ""
    meanwhile: typing.Any = client.session("log_run", "upload_artifact")
    # THEN what is acknowledged meanwhile stays
    kept = {run for run in (logged, meanwhile["log_run"]) if isinstance(run, str)}
    assert kept <= set(client.session("runs")["runs"])
    # AND there is space again
    until("a run is logged", lambda: isinstance(client.session("log_run")["log_run"], str))
    users.until(hand.juju, lambda status: status.apps[stack.SERVER].is_active)
    until(f"as before: {before}", lambda: present() == before)
