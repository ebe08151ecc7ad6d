"""The schema's migration and the server's start, on real databases, as the charm runs them."""

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

STORES = "/etc/mlflow-charm/stores.json"

PRINTABLE = "".join(c for c in string.printable if c.isprintable())
"""Every printable character of ASCII, the blank first in no place where it could be cut off."""


@pytest.fixture(scope="module")
def all_pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Pods]:
    found = stack.Pods(tmp_path_factory.mktemp("pods"))
    yield found
    found.destroy()


@pytest.fixture(scope="module")
def storage(all_pods: stack.Pods) -> object_storage.ObjectStorage:
    return stack.minio(all_pods)


@pytest.fixture(scope="module")
def postgresql(all_pods: stack.Pods) -> stack.Database:
    return stack.postgresql(all_pods)


@pytest.fixture(scope="module")
def mariadb(all_pods: stack.Pods) -> stack.Database:
    return stack.mariadb(all_pods)


@pytest.fixture(params=["postgresql", "mariadb"])
def db(request: pytest.FixtureRequest) -> stack.Database:
    return request.getfixturevalue(request.param)


@pytest.fixture
def unit(all_pods: stack.Pods) -> Iterator[stack.Server]:
    with stack.server_pod(all_pods, "mlflow") as found:
        yield found


def head(unit: stack.Server) -> str:
    script = (
        "import sys; sys.path.append('/opt/mlflow-charm'); import stores;"
        "print(stores.revisions().head)"
    )
    return stack.run(unit.container, "python3", "-c", script).strip()


def migrations(*logs: str) -> list[str]:
    """Return the lines that tell of a migration, of which each begins with this one."""
    return [
        line for log in logs for line in log.splitlines() if '"state": "schema-migrating"' in line
    ]


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
    assert db.revision(account.name) == head(unit)
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


def test_two_leaders_migrate_once(all_pods, db, storage):
    account = db.create()
    with (
        stack.server_pod(all_pods, "one") as one,
        stack.server_pod(all_pods, "two") as two,
    ):
        for unit in (one, two):
            unit.apply(unit.state(db, account, storage))
        for unit in (one, two):
            unit.wait_for("migrate", "done")
            unit.wait_until_up()
            assert unit.get("/api/2.0/mlflow/experiments/search?max_results=1")[0] == 200
        assert len(migrations(all_pods.log("one"), all_pods.log("two"))) == 1


def test_a_migration_that_is_killed_starts_again_on_postgresql(
    all_pods, postgresql, unit, storage
):
    account = postgresql.create()
    found = unit.state(postgresql, account, storage)
    unit.apply(found)

    # WHEN the container dies while tables are made
    stack.eventually(lambda: len(postgresql.tables(account.name)) >= 2)
    all_pods.kill("mlflow")
    assert "alembic_version" not in postgresql.tables(account.name)
    unit.container = all_pods.ensure("mlflow")

    # THEN the next one finishes it
    unit.apply(unit.state(postgresql, account, storage))
    unit.wait_for("migrate", "done")
    unit.wait_until_up()


def test_a_parent_that_is_killed_leaves_one_migration(all_pods, postgresql, unit, storage):
    account = postgresql.create()
    unit.apply(unit.state(postgresql, account, storage))
    unit.wait_for("migrate", "schema-migrating")

    # WHEN only the process that watches the migration is killed
    script = (
        "import os, pathlib, signal\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    try: argv = (p / 'cmdline').read_bytes().split(b'\\0')\n"
        "    except OSError: continue\n"
        "    if argv[1:2] == [b'/opt/mlflow-charm/migrate.py'] and b'--upgrade' not in argv:\n"
        "        os.kill(int(p.name), signal.SIGKILL)\n"
    )
    stack.run(unit.container, "python3", "-c", script)

    # THEN the lock keeps the new one from a second migration at the same time
    unit.wait_for("migrate", "done")
    assert len(migrations(all_pods.log("mlflow"))) == 1


def test_a_database_that_is_away_or_refuses_is_waited_for(db, unit, storage):
    account = db.create(password="right")
    wrong = dataclasses.replace(account, password="wrong")
    away = dataclasses.replace(wrong, endpoints=(dataclasses.replace(wrong.endpoints[0], port=4),))
    unit.apply(unit.state(db, away, storage))
    unit.wait_for("migrate", "database-unreachable")
    unit.wait_for("serve", "database-unreachable")

    unit.apply(unit.state(db, wrong, storage))
    unit.wait_for("migrate", "database-refuses")
    unit.wait_for("serve", "database-refuses")
    assert unit.status("migrate") == ["waiting: the database refuses the login"]

    # WHEN the right password comes, nothing is restarted to take it
    assert unit.apply(unit.state(db, account, storage)).restarted == ()
    unit.wait_for("migrate", "done")


def test_a_migration_that_cannot_connect_is_tried_again(db, unit, storage):
    # GIVEN a migration that waits for the right password
    found = unit.state(db, db.create(password="right"), storage)
    wrong = dataclasses.replace(found.database, password="wrong")
    unit.apply(dataclasses.replace(found, database=wrong))
    unit.wait_for("migrate", "database-refuses")

    # WHEN the database goes away between its last look and MLflow's own connection
    with unit.container.pull(STORES) as file:
        stores = file.read()
    driver = json.loads(stores)["uri"].partition(":")[0]
    away = {**json.loads(stores), "uri": f"{driver}://nobody@127.0.0.1:4/nothing"}
    unit.container.push(STORES, json.dumps(away), user_id=0, group_id=0)
    (password,) = [
        file
        for file in stack.server.plan(found, stack.programs()).files
        if file.path.endswith(("/pgpass", "/my.cnf"))
    ]
    unit.container.push(
        password.path,
        password.content,
        permissions=password.mode,
        user_id=password.user_id,
        group_id=password.group_id,
    )

    # THEN that is no fault of the schema, and it goes on when the database is back
    unit.wait_for("migrate", "database-unreachable")
    unit.container.push(STORES, stores, user_id=0, group_id=0)
    unit.wait_for("migrate", "done")


def test_a_newer_schema_is_left_alone(db, unit, storage):
    account = db.create()
    db.sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL);", account.name)
    db.sql("INSERT INTO alembic_version VALUES ('ffffffffffff');", account.name)
    if db.dialect == "postgresql":
        db.sql(f'ALTER TABLE alembic_version OWNER TO "{account.username}";', account.name)

    unit.apply(unit.state(db, account, storage))

    unit.wait_for("migrate", "schema-newer")
    unit.wait_for("serve", "schema-newer")
    (message,) = unit.status("serve")
    assert message.startswith("blocked: ")
    assert "ffffffffffff" in message
    assert head(unit) in message
    assert db.tables(account.name) == ["alembic_version"]


def test_a_half_migrated_schema_is_reported_once(all_pods, mariadb, unit, storage):
    # GIVEN a schema whose tables are further than its revision, as a killed migration leaves it
    account = mariadb.create()
    found = unit.state(mariadb, account, storage)
    unit.apply(found)
    unit.wait_for("migrate", "done")
    mariadb.set_revision(account.name, "bf29a5ff90ea")
    before = len(migrations(all_pods.log("mlflow")))

    # WHEN it is migrated
    other = dataclasses.replace(found, config=dataclasses.replace(found.config, bucket="other"))
    unit.apply(other)

    # THEN the unit says what to do, and does not try again and again
    unit.wait_for("migrate", "schema-half-migrated")
    (message,) = unit.status("migrate")
    assert message.startswith("blocked: ")
    assert "restore a backup" in message
    time.sleep(12)
    assert len(migrations(all_pods.log("mlflow"))) == before + 1
    assert unit.said("migrate") == "schema-half-migrated"

    # AND once the database is repaired it goes on by itself
    mariadb.set_revision(account.name, head(unit))
    unit.wait_for("migrate", "done")


def test_what_would_break_a_migration_is_found_out_before_it_begins(mariadb, unit, storage):
    # GIVEN a database in Latin-1, on a server that refuses triggers
    account = mariadb.create(charset="latin1")
    mariadb.sql("SET GLOBAL log_bin_trust_function_creators = 0;")
    try:
        unit.apply(unit.state(mariadb, account, storage))
        unit.wait_for("migrate", "schema-charset")
        assert unit.status("migrate")[0].startswith("blocked: database is not utf8mb4")

        # WHEN the operator does what the messages say, one after the other
        mariadb.sql(f"ALTER DATABASE {account.name} CHARACTER SET utf8mb4;")
        unit.wait_for("migrate", "schema-triggers")
        assert unit.status("migrate")[0].startswith("blocked: database refuses triggers")
        assert mariadb.tables(account.name) == []
    finally:
        mariadb.sql("SET GLOBAL log_bin_trust_function_creators = 1;")

    # THEN it goes on by itself
    unit.wait_for("migrate", "done")


def test_an_account_without_rights_is_reported(postgresql, unit, storage):
    account = postgresql.create()
    # GIVEN a database that belongs to somebody else, as PostgreSQL 15 and newer treat others
    postgresql.sql(f"ALTER DATABASE {account.name} OWNER TO CURRENT_USER;")

    unit.apply(unit.state(postgresql, account, storage))

    unit.wait_for("migrate", "schema-forbidden")
    assert unit.status("migrate")[0].startswith("blocked: the database's account may not")


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

    # THEN its workers end, too, and new ones serve
    stack.eventually(lambda: not {*before} & {*server_processes(unit)})
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
