"""The order in which Juju sends what it leaves open makes no difference to where all ends.

SEEDS=count  how many seeds, one without it
SEED=number  this seed only, as a failing test has printed it
"""

from __future__ import annotations

import concurrent.futures
import os
import random
import subprocess
from collections.abc import Generator, Mapping

import pytest

from onebox import home
from tests.e2e import machine, seeds, users

AT_ONCE = 2
"""Models: half of what one needs is waiting."""

SEEDS = (
    [int(os.environ["SEED"])]
    if "SEED" in os.environ
    else random.sample(range(1, seeds.LARGEST), int(os.environ.get("SEEDS", "1")))
)

Runs = Mapping[int | None, concurrent.futures.Future[seeds.Run]]


@pytest.fixture(scope="module")
def runs(environment: None, tmp_path_factory: pytest.TempPathFactory) -> Generator[Runs]:
    """The run of each seed, and of Juju's own order (None), in a onebox of their own."""
    where = home.Home(users.HOME.path.with_name(f"{users.HOME.path.name}-s"))
    folder = tmp_path_factory.mktemp("overlays")
    pack = [home.CHECKOUT / ".venv" / "bin" / "python", home.CHECKOUT / "tools" / "pack.py"]
    subprocess.run(pack, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONEBOX_HOME", str(where.path))
        # What a run that was killed has left behind.
        users.make("down")
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            yield {seed: pool.submit(seeds.run, where, seed, folder) for seed in (None, *SEEDS)}
            pool.shutdown(cancel_futures=True)
        done = users.make("down")
        assert done.returncode == 0, done.stderr
        assert machine.leftovers(where) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_any_order_ends_the_same(runs: Runs, seed: int) -> None:
    print(f"SEED={seed} runs this one again")
    # GIVEN the bundle, deployed in Juju's own order
    expected = runs[None].result()
    # WHEN it is deployed in another one
    found = runs[seed].result()
    print(f"{found.seconds:.0f} s, started more than once: {dict(found.restarted)}")
    # THEN no hook has failed on the way
    assert found.failed == []
    # and plans, files, databags, secrets and statuses are the same
    different = seeds.differences(expected.snapshot, found.snapshot)
    assert not different, f"seed {seed} ends elsewhere:\n{different}"


def test_juju_s_own_order_starts_each_service_once(runs: Runs) -> None:
    found = runs[None].result()
    print(f"Juju's own order: {found.seconds:.0f} s")
    assert found.failed == []
    assert found.restarted == {}
