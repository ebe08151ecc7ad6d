"""`make up` and `make down`: after crashes, beside another checkout, with what cannot be.

That a second `make up` is quick, `test_story.py` looks at while the stack is as the first left it.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jubilant
import pytest

from onebox import home, stack, up
from tests.e2e import machine, users

NOOP = home.CHECKOUT / "tests" / "packing" / "data" / "noop"


@pytest.fixture(scope="session")
def noop() -> pathlib.Path:
    """A charm without a container: a onebox that runs it is small."""
    pack = [sys.executable, str(home.CHECKOUT / "tools" / "pack.py"), str(NOOP)]
    subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
    return home.CHECKOUT / "build" / "noop.charm"


def test_the_first_one_tells_what_it_does_and_how_to_go_on(
    made: users.Made, access: stack.Access
) -> None:
    # THEN what it will do comes first, then each step with its time
    assert made.stderr.lstrip().startswith("onebox installs Debian packages")
    assert str(users.HOME.path) in made.stderr
    for number in range(1, 7):
        assert f"== {number}/6 " in made.stderr
    assert made.stderr.count("done after") >= 6
    # and standard output has the address, the login and the block
    assert f"MLflow      {access.tracking_uri}" in made.stdout
    assert f"User        {access.username}" in made.stdout
    assert f"Password    {access.password}" in made.stdout
    assert made.block == access.block()
    # a fresh machine takes at most 15 minutes for all of it
    assert made.seconds < 900


def test_a_killed_daemon_takes_up_its_pods_again(
    juju: jubilant.Juju, access: stack.Access
) -> None:
    before = list(machine.containers(users.HOME, stack.MODEL))
    # WHEN the daemon is killed, what it runs goes on
    os.kill(machine.daemon(users.HOME), signal.SIGKILL)
    login = (access.username, access.password)
    assert users.http(access.tracking_uri, login=login).status == 200
    # THEN the next command starts it again, and finds everything as it was
    juju.status()
    users.settle(juju)
    assert list(machine.containers(users.HOME, stack.MODEL)) == before


def test_up_repairs_what_a_power_cut_leaves(
    client: users.Client, access: stack.Access, juju: jubilant.Juju
) -> None:
    logged = client.session("log_run")["log_run"]
    # WHEN everything is killed at once
    machine.power_cut(users.HOME)
    assert machine.processes(users.HOME) == []
    # THEN make up brings it back, with the same address, login, and data
    done = users.make("up")
    assert done.returncode == 0, done.stderr
    assert stack.find_access() == access
    assert logged in client.session("runs")["runs"]
    users.settle(juju)


def test_up_goes_on_where_it_was_interrupted(elsewhere: users.Elsewhere) -> None:
    # GIVEN a onebox that is being deployed
    process = elsewhere.start("up")
    deadline = time.monotonic() + 120
    while not (elsewhere.home.path / "m").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    # WHEN the user presses Ctrl-C
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    # THEN it ends at once and says how to go on
    assert process.returncode != 0
    assert "interrupted; run make up again" in stderr
    # AND down removes what there is (the fixture looks for what is left)
    assert elsewhere.make("down").returncode == 0


def test_two_checkouts_side_by_side(
    elsewhere: users.Elsewhere, juju: jubilant.Juju, access: stack.Access, noop: pathlib.Path
) -> None:
    # GIVEN the stack WHEN another checkout deploys, is killed and removed
    before = list(machine.containers(users.HOME, stack.MODEL))
    elsewhere.juju("add-model", "small")
    elsewhere.juju("deploy", str(noop))
    other = jubilant.Juju(model="small", cli_binary=str(elsewhere.binary))
    other.wait(jubilant.all_active, delay=0.5, successes=1, timeout=60)
    assert set(other.status().apps) == {"noop"}
    assert "noop" not in juju.status().apps
    os.kill(machine.daemon(elsewhere.home), signal.SIGKILL)
    done = elsewhere.make("down")
    # THEN nothing of it is left
    assert done.returncode == 0, done.stderr
    assert "removed pod small.noop-0" in done.stderr
    assert machine.leftovers(elsewhere.home) == []
    # and the stack has not noticed
    assert list(machine.containers(users.HOME, stack.MODEL)) == before
    login = (access.username, access.password)
    assert users.http(access.tracking_uri, login=login).status == 200
    # and a second down is fine
    again = elsewhere.make("down")
    assert again.returncode == 0, again.stderr
    assert "nothing was there" in again.stderr


def test_down_after_everything_was_killed(elsewhere: users.Elsewhere, noop: pathlib.Path) -> None:
    elsewhere.juju("add-model", "small")
    elsewhere.juju("deploy", str(noop))
    other = jubilant.Juju(model="small", cli_binary=str(elsewhere.binary))
    other.wait(jubilant.all_active, delay=0.5, successes=1, timeout=60)
    machine.power_cut(elsewhere.home)
    done = elsewhere.make("down")
    assert done.returncode == 0, done.stderr
    assert machine.leftovers(elsewhere.home) == []


@pytest.mark.parametrize("port", ["0", "65536", "eighty", "80 80"])
def test_a_port_that_is_none(elsewhere: users.Elsewhere, port: str) -> None:
    done = elsewhere.make("up", PORT=port)
    assert done.returncode != 0
    assert f"PORT={port} is not a port: a number from 1 to 65535 is expected" in done.stderr


def test_a_port_in_use(elsewhere: users.Elsewhere) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = elsewhere.make("up", PORT=str(port))
    assert done.returncode != 0
    assert f"port {port} of 127.0.0.1 is in use by another program" in done.stderr


@pytest.mark.parametrize(
    ("subnet", "reason"),
    [
        ("10.0.0", "is not an IPv4 network such as 10.89.7.0/24"),
        ("10.89.7.1/24", "is not an IPv4 network such as 10.89.7.0/24"),
        ("10.89.7.0/30", "has too few addresses"),
        ("127.0.0.0/8", "is in use on this machine"),
    ],
)
def test_a_subnet_that_cannot_be(elsewhere: users.Elsewhere, subnet: str, reason: str) -> None:
    done = elsewhere.make("up", SUBNET=subnet)
    assert done.returncode != 0
    assert f"{subnet} {reason}" in done.stderr


def test_the_subnet_of_another_checkout(elsewhere: users.Elsewhere, juju: jubilant.Juju) -> None:
    address = juju.status().apps[stack.SERVER].units[f"{stack.SERVER}/0"].address
    taken = f"{address.rpartition('.')[0]}.0/24"
    done = elsewhere.make("up", SUBNET=taken)
    assert done.returncode != 0
    assert f"subnet {taken} is in use on this machine" in done.stderr


def test_another_port_than_the_stack_has(made: users.Made) -> None:
    kept = json.loads((users.HOME.path / "port").read_text())
    other = next(port for port in up.candidate_ports(users.HOME) if port != kept)
    done = users.make("up", PORT=str(other))
    assert done.returncode != 0
    assert f"this stack has port {kept} already: make down first" in done.stderr


def test_two_at_once(made: users.Made, elsewhere: users.Elsewhere) -> None:
    # GIVEN a make up at work
    first = elsewhere.start("up")
    deadline = time.monotonic() + 60
    while not (elsewhere.home.path / "up.lock").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    # THEN another one says so and leaves it alone
    second = elsewhere.make("up")
    assert second.returncode != 0
    assert "another make up or make down is at work" in second.stderr
    os.killpg(first.pid, signal.SIGINT)
    first.communicate(timeout=60)


def test_not_root() -> None:
    # WHEN somebody else than root runs what make runs
    program = (
        # Loaded first: the interpreter may be in a place that only root may read.
        "import os; from onebox import cli, up; os.setuid(65534); cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, "onebox", "up"],
        env={"PYTHONPATH": str(home.CHECKOUT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "onebox up: only root can make networks, mounts and containers: sudo make up"
    )
