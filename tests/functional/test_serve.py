"""The tracking server's start and what it does while it runs, on real databases and stores."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import string
import time
import typing
from collections.abc import Iterator

import pytest

from mlflow_kit.interfaces import database, object_storage
from tests.functional import stack

pytestmark = pytest.mark.timeout(300)

PRINTABLE = "".join(c for c in string.printable if c.isprintable())
"""Every printable character of ASCII, the blank first in no place where it could be cut off."""


def test_nothing_starts_before_the_schema_is_there(db, unit, storage):
    # GIVEN a unit that does not lead
    account = db.create(user="we ird'\"\\@:/%", password=PRINTABLE)
    found = unit.state(db, account, storage, leader=False)

    unit.apply(found)

    # THEN it waits, and touches nothing
    unit.wait_for("serve", "schema-behind")
    time.sleep(2)
    assert db.tables(account.name) == []
    assert unit.status("serve") == [
        "waiting: waiting for the leader to migrate the database schema"
    ]

    # WHEN it becomes leader
    assert unit.apply(unit.state(db, account, storage, leader=True)).restarted == ("migrate",)

    # THEN it migrates and serves, with artifacts in a bucket that was not there before
    unit.wait_for("migrate", "done")
    assert db.revision(account.name) == unit.head()
    unit.wait_until_up()
    status, body = unit.get("/api/2.0/mlflow/experiments/search?max_results=1")
    assert (status, "experiments" in body) == (200, True)
    artifact = "/api/2.0/mlflow-artifacts/artifacts/0/probe"
    assert unit.get(artifact, "PUT", {"a": 1})[0] == 200
    assert unit.get(artifact) == (200, '{"a": 1}')


def test_the_public_image_serves_as_well(all_pods, postgresql, storage):
    # GIVEN an image with the layout of the public one: root, its Python in /usr/local
    with stack.server_pod(all_pods, "public", "lookalike-mlflow") as unit:
        unit.apply(unit.state(postgresql, postgresql.create(), storage))

        unit.wait_until_up()

        assert works(unit)


def test_the_object_store_says_what_is_wrong(postgresql, unit, storage):
    account = postgresql.create()
    wrong = dataclasses.replace(storage, secret_key="not the key")
    unit.apply(unit.state(postgresql, account, wrong))

    unit.wait_for("migrate", "bucket-refuses")

    # WHEN the keys are right, nothing is restarted to take them
    assert unit.apply(unit.state(postgresql, account, storage)).restarted == ()
    unit.wait_for("migrate", "done")
    unit.wait_until_up()


@dataclasses.dataclass
class Serving:
    """A server that runs, and what it runs on."""

    unit: stack.Server
    db: stack.Database
    account: database.Database
    workers: int

    def state(
        self, account: database.Database, storage: object_storage.ObjectStorage
    ) -> typing.Any:
        return self.unit.state(
            self.db,
            account,
            storage,
            workers=self.workers,
            allowed_hosts="mlflow.example.com",
        )


@contextlib.contextmanager
def a_server(
    all_pods: stack.Pods, db: stack.Database, storage: object_storage.ObjectStorage, workers: int
) -> Iterator[Serving]:
    account = db.create(password="canary-of-the-database")
    with stack.server_pod(all_pods, f"serving-{db.name}") as unit:
        found = Serving(unit, db, account, workers)
        unit.apply(found.state(account, storage))
        unit.wait_until_up()
        yield found


@pytest.fixture(scope="module")
def two_workers(all_pods, postgresql, storage) -> Iterator[Serving]:
    with a_server(all_pods, postgresql, storage, workers=2) as found:
        yield found


@pytest.fixture(scope="module")
def on_mariadb(all_pods, mariadb, storage) -> Iterator[Serving]:
    with a_server(all_pods, mariadb, storage, workers=1) as found:
        yield found


@pytest.fixture(params=["two_workers", "on_mariadb"])
def serving(request: pytest.FixtureRequest) -> Serving:
    """A server on each database; what does not depend on it is tested on one."""
    return request.getfixturevalue(request.param)


def works(unit: stack.Server) -> bool:
    with contextlib.suppress(OSError):
        return unit.get("/api/2.0/mlflow/experiments/search?max_results=1")[0] == 200
    return False


def test_no_secret_can_be_seen(serving, storage):
    assert works(serving.unit)

    script = (
        "import pathlib\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    for name in ('cmdline', 'environ'):\n"
        "        try: print((p / name).read_bytes())\n"
        "        except OSError: pass\n"
    )
    everything = [
        stack.run(serving.unit.container, "python3", "-c", script),
        serving.unit.container.get_plan().to_yaml(),
        serving.unit.pods.log(serving.unit.name),
        json.dumps(serving.unit.status("serve")),
    ]
    for text in everything:
        assert "canary-of-the-database" not in text
        assert storage.secret_key not in text
    assert "uvicorn" in everything[0]


def test_the_server_listens_to_its_names_only(two_workers):
    name = two_workers.unit.name
    address = two_workers.unit.pods.address(name)

    def status(host: str) -> int:
        connection = http.client.HTTPConnection(address, 5000, timeout=30)
        connection.request("GET", "/no-such-page", headers={"Host": host})
        try:
            return connection.getresponse().status
        finally:
            connection.close()

    for host in (
        name,
        f"{name}.t.svc.cluster.local:5000",
        f"{address}:5000",
        "mlflow.example.com",
        "mlflow.example.com:443",
        "localhost:5000",
    ):
        assert status(host) == 404, host
    for host in ("10.evil.com", "example.com", "mlflow.example.com.evil.com", "10.1.2.3"):
        assert status(host) == 403, host


def test_two_workers_and_no_job_runner(two_workers):
    # The supervisor, its resource tracker and two workers.
    assert len(server_processes(two_workers.unit)) == 4


def test_a_new_password_restarts_nothing(serving, storage):
    processes = server_processes(serving.unit)

    # WHEN the database has a new password and the charm writes it down
    rotated = dataclasses.replace(serving.account, password="new: \\ '\" #;")
    serving.db.set_password(rotated.username, rotated.password)
    found = serving.state(rotated, storage)
    health = serving.unit.apply(found)
    serving.db.disconnect(rotated.username)

    # THEN the same processes go on with it
    assert health.restarted == ()
    stack.eventually(lambda: works(serving.unit))
    assert server_processes(serving.unit) == processes


def test_a_killed_server_leaves_no_workers_and_comes_back(two_workers):
    unit = two_workers.unit
    before = server_processes(unit)

    # WHEN the supervisor alone is killed
    script = (
        "import os, pathlib, signal\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    if b'\\0-m\\0uvicorn\\0' in (p / 'cmdline').read_bytes():\n"
        "        os.kill(int(p.name), signal.SIGKILL)\n"
    )
    stack.run(unit.container, "python3", "-c", script)

    # THEN its workers end, too, before Pebble would give up to wait for them, and new ones serve
    stack.eventually(lambda: not {*before} & {*server_processes(unit)}, seconds=15)
    stack.eventually(lambda: works(unit))
    assert len(server_processes(unit)) == 4


def server_processes(unit: stack.Server) -> list[str]:
    script = (
        "import os, pathlib\n"
        "for p in sorted(pathlib.Path('/proc').glob('[0-9]*')):\n"
        "    try: argv = (p / 'cmdline').read_bytes()\n"
        "    except OSError: continue\n"
        "    ours = b'uvicorn' in argv or b'multiprocessing' in argv\n"
        "    if ours and int(p.name) != os.getpid(): print(p.name)\n"
    )
    return stack.run(unit.container, "python3", "-c", script).split()
