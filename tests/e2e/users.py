"""What users do: `make`, a clean shell, MLflow's client, plain HTTP."""

from __future__ import annotations

import base64
import collections
import dataclasses
import http.client as http_client
import json
import os
import pathlib
import subprocess
import time
import typing
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

import jubilant

from onebox import client, home, images, pods, stack

_PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
HOME = home.Home(home.find().path.with_name(f"e2e-{home.find().path.name}{_PROCESS}"))
"""The tests' own onebox; one for each process that runs tests."""

PROGRAMS = pathlib.Path(__file__).with_name("programs")
EXAMPLES = home.CHECKOUT / "examples"
ONE_WINE = home.CHECKOUT / "docs" / "tutorial" / "one-wine.json"
"""A request for one prediction, to the model that ``examples/train_wine.py`` makes."""
DELAY = 0.5
"""Seconds between two looks: each takes processor time from the stack."""

TIMEOUT = 240.0
"""Seconds for the stack to be active again after a change, on two busy cores."""


@dataclasses.dataclass(frozen=True)
class Made:
    """What the first `make up` printed, how long it took, and what it started.

    Attributes:
        stdout: the addresses, the login and the block to paste.
        stderr: its progress.
        seconds: how long it took.
        starts: how often each service of a workload was started, by unit, container and name.
    """

    stdout: str
    stderr: str
    seconds: float
    starts: collections.Counter[str]

    @property
    def block(self) -> str:
        """The lines that are to be pasted into a shell."""
        lines = self.stdout.splitlines(keepends=True)
        return "".join(line for line in lines if line.startswith("export "))


def make(target: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make as a user does, who may set variables on its command line."""
    return _finished(_make(target, variables), os.environ)


def _make(target: str, variables: Mapping[str, str]) -> list[str]:
    given = [f"{name}={value}" for name, value in variables.items()]
    return ["make", "--silent", "-C", str(home.CHECKOUT), target, *given]


def _finished(argv: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


class Client:
    """Programs that use MLflow's client, each in a container with nothing but an environment.

    Args:
        environment: the variables.
        inside: whether it is a pod of the cluster, else a program of this machine's user.
    """

    def __init__(self, environment: Mapping[str, str], *, inside: bool = False):
        self._inside = inside
        self._podman = pods.Podman(HOME.prefix, None, HOME.path)
        self._environment = dict(environment)
        self._name = f"session-{id(self)}"
        self._session: subprocess.Popen[str] | None = None

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the session; the next one begins anew."""
        if self._session is not None:
            with self._session:
                self._podman.remove_client(self._name)
            self._session = None

    def run(
        self, argv: list[str], mounts: Mapping[pathlib.Path, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program; /examples and /programs are there, and more mounts on demand."""
        return self._podman.run_client(
            images.read()["mlflow-models"].reference,
            argv,
            self._environment,
            _folders(mounts or {}),
            inside=self._inside,
        )

    def python(self, program: str, *arguments: str) -> str:
        """Run a Python program that must succeed, and return what it printed."""
        done = self.run(["python3", program, *arguments])
        assert done.returncode == 0, f"{program} failed: {done.stdout}\n{done.stderr}"
        return done.stdout

    def session(self, *operations: str | list[str]) -> dict[str, typing.Any]:
        """Have ``programs/session.py`` do some operations, and return what came of each.

        It goes on until the client is left, as a notebook does whose user has imported MLflow
        once; when it was killed meanwhile, another one takes over.
        """
        if self._session is not None and self._session.poll() is not None:
            self.end()
        if self._session is None:
            self._session = self._start()
        process = self._session
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(operations) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, f"session.py ended with exit code {process.wait()}"
        return json.loads(answer)

    def _start(self) -> subprocess.Popen[str]:
        command, environment = self._podman.client_command(
            self._name,
            images.read()["mlflow-models"].reference,
            ["python3", "/programs/session.py"],
            self._environment,
            _folders({}),
            inside=self._inside,
        )
        # Its errors are told in its answers; what else it says is shown with a test that fails.
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def _folders(more: Mapping[pathlib.Path, str]) -> list[tuple[str, str]]:
    folders = {EXAMPLES: "/examples", PROGRAMS: "/programs", **more}
    return [(str(path), mounted) for path, mounted in folders.items()]


class Elsewhere:
    """Another onebox on this machine, as another checkout has one.

    Args:
        where: its home.
        folder: for the program that runs its juju.
    """

    def __init__(self, where: home.Home, folder: pathlib.Path):
        self.home = where
        self._environment = {**os.environ, "ONEBOX_HOME": str(where.path)}
        self._environment.pop("PORT")
        self.binary = folder / "juju"
        """Its juju, for jubilant."""
        self.binary.write_text(f'#!/bin/sh\nONEBOX_HOME={where.path} exec {stack.JUJU} "$@"\n')
        self.binary.chmod(0o755)

    def make(self, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run make there."""
        return _finished(_make(target, variables), self._environment)

    def start(self, target: str) -> subprocess.Popen[str]:
        """Start make there, in a process group of its own."""
        return subprocess.Popen(
            # Tests that run in the background of a script ignore Ctrl-C, and what they start too.
            ["env", "--default-signal=INT", *_make(target, {})],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def juju(self, *arguments: str) -> str:
        """Run juju there."""
        done = _finished([str(self.binary), *arguments], self._environment)
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> typing.Any:
        """Return the body, which is JSON."""
        return json.loads(self.text)


def http(
    url: str,
    *,
    login: tuple[str, str] | None = None,
    body: typing.Any = None,
    host: str = "",
    timeout: float = 30,
) -> Answer:
    """Send a request: GET, or POST when there is a body, which is sent as JSON.

    Args:
        url: where to.
        login: user name and password.
        body: JSON.
        host: the name that the server is called by, when it is not the one in the URL.
        timeout: in seconds.
    """
    request = urllib.request.Request(url)
    if host:
        request.add_header("Host", host)
    if login is not None:
        token = base64.b64encode(":".join(login).encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    if body is not None:
        request.add_header("Content-Type", "application/json")
        request.data = json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return Answer(response.status, dict(response.headers), response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), error.read().decode())


def answers(ask: Callable[[], Answer]) -> bool:
    """Whether what is asked for comes; the server, or what is in front of it, may be away."""
    try:
        return ask().status == 200
    except (OSError, http_client.HTTPException):
        return False


def predict(url: str, login: tuple[str, str] | None = None) -> Answer:
    """Ask a served model, which is at a URL, about one wine: its class is 0."""
    body = json.loads(ONE_WINE.read_text())
    return http(f"{url}/invocations", login=login, body=body, timeout=60)


class _Looking(jubilant.Juju):
    """Gets what `juju status --format json` prints from the daemon, as that does.

    Tests look hundreds of times, and half of a program's time is its start.
    """

    def cli(self, *_: str, include_model: bool = True, stdin: str | None = None) -> str:
        return json.dumps(client.call("status", model=self.model))


def until(
    juju: jubilant.Juju,
    ready: Callable[[jubilant.Status], bool],
    timeout: float = TIMEOUT,
    delay: float = DELAY,
) -> jubilant.Status:
    """Wait for a state that may be gone a moment later.

    Args:
        juju: the model.
        ready: says of a status whether it is the one.
        timeout: in seconds.
        delay: seconds between two looks.
    """
    model = _Looking(model=juju.model)
    deadline = time.monotonic() + timeout
    while not ready(status := model.status()):
        assert time.monotonic() < deadline, f"still not after {timeout:.0f} s:\n{status}"
        time.sleep(delay)
    return status


def settle(juju: jubilant.Juju, timeout: float = TIMEOUT) -> jubilant.Status:
    """Wait until everything is active and nothing is left to do."""

    def settled(status: jubilant.Status) -> bool:
        if not (jubilant.all_active(status) and jubilant.all_agents_idle(status)):
            return False
        rest(juju, timeout)
        return jubilant.all_active(_Looking(model=juju.model).status())

    rest(juju, timeout)
    return until(juju, settled, timeout)


def rest(juju: jubilant.Juju, timeout: float) -> None:
    """Wait until no hook is left to run, without looking at the status again and again."""
    client.call("settle", {"timeout": timeout}, model=juju.model)


def message(status: jubilant.Status, unit: str) -> tuple[str, str]:
    """Return the workload status and message of a unit."""
    found = status.get_units(unit.partition("/")[0])[unit].workload_status
    return found.current, found.message
