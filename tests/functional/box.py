"""A onebox of the tests' own: no stack on the machine shares its state, pods or network."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import typing
from collections.abc import Iterator

from onebox import client, down, home, pods
from tests.functional import names

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = pathlib.Path(__file__).parent / "data"
IMAGE = "localhost/onebox/base:latest"


class CommandError(Exception):
    """A command in a container failed; the text is what it wrote to stderr."""


class Box:
    """Drives the daemon of one onebox, and reads what it wrote down."""

    def __init__(self, directory: home.Home):
        self.home = directory
        self.model = "m"

    def call(self, method: str, **params: typing.Any) -> typing.Any:
        """Send a request about the model."""
        return client.call(method, params, model=self.model, progress=lambda _: None, start=False)

    def refused(self, method: str, **params: typing.Any) -> str:
        """Send a request that must be refused, and return the words."""
        try:
            self.call(method, **params)
        except client.ApiError as error:
            return str(error)
        raise AssertionError(f"{method} was not refused")

    def settle(self, timeout: float = 90) -> None:
        """Wait until no unit has a hook to run."""
        self.call("settle", timeout=timeout)

    def deploy(self, charm: pathlib.Path, name: str, units: int = 1, **more: typing.Any) -> None:
        """Deploy a charm whose container is ``work``, as those in ``data`` have it."""
        self.call(
            "deploy",
            charm=str(charm),
            application=name,
            num_units=units,
            resources={"work-image": IMAGE},
            **more,
        )

    def mark(self) -> int:
        """Return the place in the list of hooks up to now, for `hooks`."""
        return len(self._hooks())

    def hooks(self, unit: str = "", since: int = 0) -> list[str]:
        """Return the hooks that succeeded: ``NAME REMOTE`` of a unit, or ``UNIT NAME REMOTE``."""
        return [
            f"{'' if unit else line['unit'] + ' '}{line['hook']} {line['remote']}".strip()
            for line in self._hooks()[since:]
            if line["code"] == 0 and unit in {"", line["unit"]}
        ]

    def spans(self, unit: str) -> list[tuple[float, float]]:
        """Return begin and end, seconds since the epoch, of each hook of a unit."""
        lines = [line for line in self._hooks() if line["unit"] == unit]
        return [(line["time"] - line["seconds"], line["time"]) for line in lines]

    def failures(self, since: int = 0) -> list[str]:
        """Return the hooks that failed, as ``UNIT NAME``."""
        return [f"{x['unit']} {x['hook']}" for x in self._hooks()[since:] if x["code"] != 0]

    def _hooks(self) -> list[dict[str, typing.Any]]:
        path = self.home.model(self.model) / "hooks.jsonl"
        return (
            [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        )

    def journal(self, unit: str) -> list[dict[str, typing.Any]]:
        """Return what the probe saw in each dispatch of its pod."""
        answer = self.run(unit, "cat", "/var/lib/juju/storage/journal.jsonl")
        return [json.loads(line) for line in answer.splitlines()]

    def run(self, unit: str, *argv: str) -> str:
        """Run a command with hook tools in a unit, and return what it printed."""
        done = self.call("exec", unit=unit, argv=list(argv), timeout=60)
        assert done["code"] == 0, done
        return done["stdout"]

    def inside(self, unit: str, container: str | None, *argv: str) -> str:
        """Run a command in a container, beside the hooks."""
        found = self.call("enter", unit=unit, container=container)
        done = subprocess.run(
            [*found["argv"], *argv],
            env=found["env"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CommandError(done.stderr)
        return done.stdout

    def unit(self, name: str) -> dict[str, typing.Any]:
        """Return a unit's part of the status."""
        application = name.split("/", maxsplit=1)[0]
        return self.call("status")["applications"][application]["units"][name]

    def bag(self, unit: str, endpoint: str, key: str = "local-unit") -> dict[str, str]:
        """Return a databag of a unit's first relation on an endpoint."""
        for relation in self.call("show_unit", unit=unit)[unit]["relation-info"]:
            if relation["endpoint"] == endpoint:
                found = relation.get(key, {})
                return found.get("data", {}) if key == "local-unit" else found
        raise KeyError(endpoint)

    def until(self, what: str, holds: typing.Callable[[], bool], timeout: float = 60) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + timeout
        while not holds():
            assert time.monotonic() < deadline, f"after {timeout} s still not: {what}"
            time.sleep(0.1)

    def start_daemon(self) -> None:
        """Start the daemon, and wait until it answers."""
        self.launch("-m", "onebox.daemon")
        self.until("the daemon answers", self._alive_and_answers, 30)

    def launch(self, *argv: str) -> None:
        """Start a Python program as the daemon; held here, so that its end can be waited for."""
        log = (self.home.path / "daemon.log").open("ab")
        with log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-P", *argv],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill_daemon(self) -> None:
        """Kill the daemon with SIGKILL."""
        self.daemon.kill()
        self.daemon.wait()

    def _alive_and_answers(self) -> bool:
        assert self.daemon.poll() is None, (self.home.path / "daemon.log").read_text()
        return self.answers()

    def ended(self, seconds: float) -> bool:
        """Whether the daemon ends within some seconds."""
        try:
            self.daemon.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def answers(self) -> bool:
        """Whether the daemon answers."""
        try:
            client.call("version", start=False)
        except client.ApiError:
            return False
        return True


@contextlib.contextmanager
def new() -> Iterator[Box]:
    """Make a onebox with an empty model, and remove every trace of it afterwards."""
    directory = home.Home(names.STATE / names.fresh())
    made = Box(directory)
    before = os.environ.get("ONEBOX_HOME")
    os.environ["ONEBOX_HOME"] = str(directory.path)
    try:
        directory.path.mkdir(parents=True)
        made.start_daemon()
        client.call("add_model", {"name": "m"}, start=False)
        yield made
    finally:
        with contextlib.suppress(client.ApiError):
            client.call("stop", start=False)
        made.daemon.wait(timeout=70)
        pods.Podman(directory.prefix, None, directory.path).destroy()
        down.unmount(directory)
        subprocess.run(["rm", "-rf", str(directory.path)], check=True)
        if before is None:
            del os.environ["ONEBOX_HOME"]
        else:
            os.environ["ONEBOX_HOME"] = before


def zipped(name: str, into: pathlib.Path) -> pathlib.Path:
    """Return the ``.charm`` file of a charm without ops, whose hooks take next to no time.

    Args:
        name: ``plain``, which says nothing, or ``probe``, which tells what Juju does to it.
        into: a folder for the file.
    """
    return pathlib.Path(shutil.make_archive(str(into / name), "zip", DATA / name))


def pack(folder: pathlib.Path, into: pathlib.Path) -> pathlib.Path:
    """Pack the folder of a charm with ops, and return the ``.charm`` file."""
    subprocess.run(
        [sys.executable, ROOT / "tools" / "pack.py", "--build-dir", into, folder], check=True
    )
    return into / f"{folder.name}.charm"
