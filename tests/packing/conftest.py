"""What the packing tests share: every charm, packed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import goprogram
import pack
import pytest
import stage

NOOP = Path(__file__).parent / "data" / "noop"


def every_charm() -> list[Path]:
    """The folders of all charms: ours, the backing charms, and the no-op charm."""
    return [*stage.charms().values(), NOOP]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `charm` once for each charm."""
    if "charm" in metafunc.fixturenames:
        metafunc.parametrize("charm", every_charm(), ids=lambda charm: charm.name)


@pytest.fixture(scope="session")
def packed() -> dict[str, Path]:
    """The .charm of each charm by its name, where bundle.yaml expects them."""
    return {charm.name: pack.pack(charm) for charm in every_charm()}


class Judge:
    """Juju's own parser, as a program (tools/go/juju-charm)."""

    def __init__(self, program: Path):
        self._program = program

    def charm(self, path: Path) -> dict:
        """What Juju makes of a charm.

        Raises:
            ValueError: Juju does not take it; the message is Juju's.
        """
        return json.loads(self._run("charm", path))

    def bundle(self, path: Path, *overlays: Path) -> None:
        """Read and verify a bundle.

        Raises:
            ValueError: Juju does not take it; the message is Juju's.
        """
        self._run("bundle", path, *overlays)

    def _run(self, *arguments: str | Path) -> str:
        done = subprocess.run(
            [self._program, *arguments], check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise ValueError(done.stderr)
        return done.stdout


@pytest.fixture(scope="session")
def juju() -> Judge:
    """Juju's own parser."""
    return Judge(goprogram.build("juju-charm"))
