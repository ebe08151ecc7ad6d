"""The schema's migration on real databases, as the charm runs it."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from tests.functional import stack

pytestmark = pytest.mark.timeout(300)

STORES = "/etc/mlflow-charm/stores.json"
HALF_WAY = """
CREATE FUNCTION wait() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_sleep(600) FROM pg_event_trigger_ddl_commands()
        WHERE object_identity = 'public.alembic_version';
END $$;
CREATE EVENT TRIGGER half_way ON ddl_command_end EXECUTE FUNCTION wait();
"""
"""Has PostgreSQL wait where the tables are there, and the one with their version nearly."""


def migrations(*logs: str) -> list[str]:
    """Return the lines that tell of a migration, of which each begins with this one."""
    return [
        line for log in logs for line in log.splitlines() if '"state": "schema-migrating"' in line
    ]


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
    postgresql.sql(HALF_WAY, account.name)
    unit.apply(unit.state(postgresql, account, storage))

    # WHEN the container dies when it has made tables, but not noted which version they are
    stack.eventually(lambda: len(postgresql.tables(account.name)) >= 2)
    all_pods.kill("mlflow")
    assert "alembic_version" not in postgresql.tables(account.name)
    postgresql.disconnect(account.username)
    postgresql.sql("DROP EVENT TRIGGER half_way; DROP FUNCTION wait;", account.name)
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
    assert unit.head() in message
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
    mariadb.set_revision(account.name, unit.head())
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
