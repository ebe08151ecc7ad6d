"""Where this onebox keeps its state, and the names that set it apart from others.

Each checkout is a onebox of its own: state, names of pods, network and ports differ, so that a
test run never touches a stack that another checkout runs on the same machine.
"""

from __future__ import annotations

import os
import pathlib
import typing

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


class Home(typing.NamedTuple):
    """The state directory of one onebox.

    Attributes:
        path: kept short, because the path of a Unix socket has at most 107 bytes.
    """

    path: pathlib.Path

    @property
    def prefix(self) -> str:
        """What the names of its pods and network begin with."""
        return f"onebox-{self.path.name}"

    @property
    def socket(self) -> pathlib.Path:
        """Where the daemon listens for the command line."""
        return self.path / "api.sock"

    @property
    def state(self) -> pathlib.Path:
        """The saved `model.World`."""
        return self.path / "state.json"

    def model(self, name: str) -> pathlib.Path:
        """The directory of a model: its debug-log and the files of its units."""
        return self.path / "m" / name


def find() -> Home:
    """Return the onebox of this checkout, or the one that ``ONEBOX_HOME`` names."""
    named = os.environ.get("ONEBOX_HOME")
    if named:
        return Home(pathlib.Path(named).resolve())
    # Loads OpenSSL, which takes longer than all else of a `juju status`.
    import hashlib

    digest = hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:6]
    return Home(pathlib.Path("/var/lib/onebox") / digest)
