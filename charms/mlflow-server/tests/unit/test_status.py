"""What `juju status` says on the way from deployment to service, and when something goes."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import conftest as given
import ops
import pytest
from ops import testing

BLOCKED, WAITING = testing.BlockedStatus, testing.WaitingStatus


@pytest.mark.parametrize(
    ("relations", "expected"),
    [
        ([], BLOCKED("missing relation: postgresql, mysql or mariadb")),
        ([given.storage()], BLOCKED("missing relation: postgresql, mysql or mariadb")),
        ([given.postgresql()], BLOCKED("missing relation: object-storage")),
        (
            [given.postgresql({}), given.storage()],
            WAITING("postgresql: waiting for credentials"),
        ),
        ([given.mysql({}), given.storage()], WAITING("mysql: waiting for credentials")),
        ([given.mariadb({}), given.storage()], WAITING("mariadb: waiting for credentials")),
        ([given.mysql(), given.storage("")], WAITING("object-storage: waiting for data")),
        (
            [given.postgresql(), given.mysql(), given.storage()],
            BLOCKED(
                "related to postgresql and mysql: only one database can be used, remove the others"
            ),
        ),
        (
            [given.postgresql(), given.storage("- no mapping")],
            BLOCKED("object-storage: data is not a mapping"),
        ),
        (
            [given.postgresql(), given.storage(), given.ingress("")],
            WAITING("ingress: waiting for an address"),
        ),
        (
            [given.postgresql(), given.storage(), given.ingress("ftp://x")],
            BLOCKED("ingress: ingress url is not an http or https URL"),
        ),
        (
            [given.postgresql(), given.storage(), given.basic_auth({})],
            WAITING("basic-auth: waiting for an account"),
        ),
        ([given.postgresql(), given.storage()], WAITING("mlflow is starting")),
        ([given.mysql(), given.storage()], WAITING("mlflow is starting")),
        ([given.mariadb(), given.storage()], WAITING("mlflow is starting")),
    ],
    ids=lambda value: value.message if isinstance(value, ops.StatusBase) else None,
)
@pytest.mark.parametrize("leader", [True, False])
def test_status_says_what_is_missing(ctx, relations, expected, leader):
    out = ctx.run(ctx.on.config_changed(), given.state(*relations, leader=leader))

    assert out.unit_status == expected
    assert given.running(out) is (expected == WAITING("mlflow is starting"))


def test_a_secret_that_is_not_granted_is_waited_for(ctx):
    state = given.state(given.postgresql(), given.storage())
    out = ctx.run(ctx.on.config_changed(), dataclasses.replace(state, secrets=frozenset()))

    assert out.unit_status == WAITING("postgresql: waiting for a grant of secret-user")


def test_a_container_that_is_not_there_yet_is_waited_for(ctx):
    workload = testing.Container("mlflow", can_connect=False)
    state = given.state(given.postgresql(), given.storage(), workload=workload)

    out = ctx.run(ctx.on.config_changed(), state)

    assert out.unit_status == WAITING("container mlflow is not ready")


@pytest.mark.parametrize("leader", [True, False])
def test_active_is_when_the_check_has_run_and_is_up(ctx, leader):
    out = ctx.run(
        ctx.on.config_changed(), given.state(given.postgresql(), given.storage(), leader=leader)
    )
    assert out.unit_status == WAITING("mlflow is starting")

    out = ctx.run(ctx.on.update_status(), given.up(out))

    assert out.unit_status == testing.ActiveStatus()


def test_a_server_that_does_not_answer_is_not_active(ctx, tmp_path):
    out = ctx.run(
        ctx.on.config_changed(), given.state(given.postgresql(), given.storage(), disk=tmp_path)
    )

    down = given.with_check(out, successes=3, failures=8, status=ops.pebble.CheckStatus.DOWN)
    out = ctx.run(ctx.on.update_status(), down)

    assert out.unit_status == WAITING("mlflow does not answer its health check")


@pytest.mark.parametrize(
    ("program", "content", "expected"),
    [
        ("migrate", {"state": "schema-migrating"}, "migrating the database schema"),
        ("migrate", {"state": "database-unreachable"}, "the database cannot be reached"),
        ("serve", {"state": "database-refuses"}, "the database refuses the login"),
        ("serve", {"state": "bucket-unreachable"}, "the object store cannot be reached"),
        (
            "serve",
            {"state": "schema-newer", "found": "abc", "head": "def"},
            "database schema abc is newer than this MLflow's def: deploy the newer MLflow",
        ),
        (
            "migrate",
            {"state": "schema-half-migrated", "found": "a\nb'<x>", "head": "def"},
            "database schema is half-migrated at revision abx: restore a backup of the database",
        ),
        ("serve", {"state": "from the future"}, "mlflow is starting"),
        ("serve", {"state": "serving", "mlflow": "3.17.2"}, "mlflow is starting"),
    ],
)
def test_the_programs_in_the_container_say_what_they_wait_for(
    ctx, tmp_path, program, content, expected
):
    out = ctx.run(
        ctx.on.config_changed(), given.state(given.postgresql(), given.storage(), disk=tmp_path)
    )
    given.says(tmp_path, program, **content)

    out = ctx.run(ctx.on.update_status(), given.with_check(out, successes=0, failures=0))

    assert out.unit_status.message == expected


@pytest.mark.parametrize("text", ["", "not JSON", "[1]", '{"state": 1}', '{"state": null}'])
def test_a_state_file_that_makes_no_sense_is_no_error(ctx, tmp_path, text):
    out = ctx.run(
        ctx.on.config_changed(), given.state(given.postgresql(), given.storage(), disk=tmp_path)
    )
    (tmp_path / "run" / "mlflow-charm" / "serve.json").write_text(text)

    out = ctx.run(ctx.on.update_status(), given.up(out))

    assert out.unit_status == testing.ActiveStatus()


def test_a_unit_that_does_not_lead_does_not_show_an_old_migration(ctx, tmp_path):
    out = ctx.run(
        ctx.on.config_changed(), given.state(given.postgresql(), given.storage(), disk=tmp_path)
    )
    given.says(tmp_path, "migrate", state="schema-migrating")

    out = ctx.run(ctx.on.update_status(), dataclasses.replace(given.up(out), leader=False))

    assert out.unit_status == testing.ActiveStatus()
    assert given.services(out)["migrate"] == ops.pebble.ServiceStatus.INACTIVE


def test_the_version_is_that_of_the_mlflow_that_runs(ctx, tmp_path):
    out = ctx.run(
        ctx.on.config_changed(), given.state(given.postgresql(), given.storage(), disk=tmp_path)
    )
    given.says(tmp_path, "serve", state="serving", mlflow="3.17.2")

    out = ctx.run(ctx.on.update_status(), given.up(out))

    assert out.workload_version == "3.17.2"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 0}, ("workers", "0", "1 to 16")),
        ({"workers": 17}, ("workers", "17", "1 to 16")),
        ({"workers": -(10**9)}, ("workers", "-1000000000", "1 to 16")),
        ({"log-level": "loud"}, ("log-level", "'loud'", "debug, info")),
        ({"log-level": ""}, ("log-level", "''")),
        ({"bucket": "My_Bucket"}, ("bucket", "'My_Bucket'")),
        ({"bucket": "ab"}, ("bucket", "'ab'")),
        ({"bucket": "10.1.2.3"}, ("bucket", "'10.1.2.3'")),
        ({"bucket": "a..b"}, ("bucket",)),
        ({"bucket": "../etc"}, ("bucket",)),
        ({"bucket": "b" * 10**6}, ("bucket", "...")),
        ({"database": "a b"}, ("database",)),
        ({"database": "x'; DROP TABLE runs"}, ("database",)),
        ({"database": ""}, ("database",)),
        ({"allowed-hosts": "*"}, ("allowed-hosts", "'*'", "wildcard")),
        ({"allowed-hosts": "a.example,b.example:80"}, ("allowed-hosts", "'b.example:80'")),
        ({"allowed-hosts": "a\nb"}, ("allowed-hosts", r"'a\nb'")),
        ({"external-url": "example.com"}, ("external-url", "http or https")),
        ({"external-url": "https://user:pw@example.com"}, ("external-url",)),
        ({"external-url": "https://example.com:99999"}, ("external-url",)),
    ],
    ids=str,
)
def test_a_bad_option_is_named_and_the_last_good_one_keeps_serving(ctx, options, words):
    # GIVEN a server that runs
    out = ctx.run(ctx.on.config_changed(), given.state(given.postgresql(), given.storage()))
    plan = out.get_container("mlflow").plan.to_dict()

    # WHEN an option is set to something that it cannot be
    out = ctx.run(ctx.on.config_changed(), dataclasses.replace(given.up(out), config=options))

    # THEN the status says so in one line, and nothing else happens
    assert isinstance(out.unit_status, testing.BlockedStatus)
    assert all(word in out.unit_status.message for word in words)
    assert "\n" not in out.unit_status.message
    assert len(out.unit_status.message) < 200
    assert given.running(out)
    assert out.get_container("mlflow").plan.to_dict() == plan


@pytest.mark.parametrize("endpoint", ["postgresql", "object-storage"])
def test_a_relation_that_goes_takes_the_server_and_its_credentials_along(ctx, tmp_path, endpoint):
    # GIVEN a server that runs
    state = given.state(given.postgresql(), given.storage(), disk=tmp_path)
    out = given.up(ctx.run(ctx.on.config_changed(), state))
    secrets = tmp_path / "etc" / "mlflow-charm" / "secrets"
    assert sorted(path.name for path in secrets.iterdir()) == ["pgpass", "s3.json"]

    # WHEN one of its relations breaks
    broken = next(r for r in out.relations if r.endpoint == endpoint)
    out = ctx.run(ctx.on.relation_broken(broken), out)

    # THEN nothing runs, and no credential is left
    assert isinstance(out.unit_status, testing.BlockedStatus)
    assert not any(
        status == ops.pebble.ServiceStatus.ACTIVE for status in given.services(out).values()
    )
    assert list(secrets.iterdir()) == []

    # AND it comes back with the relation
    out = ctx.run(ctx.on.config_changed(), dataclasses.replace(state, containers=out.containers))
    assert given.running(out)


def test_a_database_that_is_added_does_not_stop_the_one_that_serves(ctx):
    out = ctx.run(ctx.on.config_changed(), given.state(given.postgresql(), given.storage()))

    both = given.state(given.postgresql(), given.mysql(), given.storage())
    out = ctx.run(
        ctx.on.config_changed(), dataclasses.replace(both, containers=given.up(out).containers)
    )

    assert isinstance(out.unit_status, testing.BlockedStatus)
    assert given.running(out)


@pytest.mark.parametrize("endpoint", ["postgresql", "object-storage", "ingress", "basic-auth"])
def test_a_bad_databag_is_named_and_the_last_good_one_keeps_serving(ctx, tmp_path, endpoint):
    # GIVEN a server that runs
    good = [given.postgresql(), given.storage(), given.ingress(), given.basic_auth()]
    state = given.state(*good, disk=tmp_path)
    out = given.up(ctx.run(ctx.on.config_changed(), state))
    plan = out.get_container("mlflow").plan.to_dict()
    file = tmp_path / "etc" / "mlflow-charm" / "server.json"
    before = file.read_text()

    # WHEN every value in a databag becomes something that it cannot be
    def spoil(relation: testing.Relation) -> testing.Relation:
        bag = dict.fromkeys(relation.remote_app_data, '\u2603 {"[: $(reboot)')
        return dataclasses.replace(relation, remote_app_data=bag)

    relations = [spoil(one) if one.endpoint == endpoint else one for one in good]
    bad = next(one for one in relations if one.endpoint == endpoint)
    out = ctx.run(ctx.on.relation_changed(bad), dataclasses.replace(out, relations=relations))

    # THEN the status says which, and nothing else happens
    assert isinstance(out.unit_status, testing.BlockedStatus)
    assert out.unit_status.message.startswith(f"{endpoint}: ")
    assert given.running(out)
    assert out.get_container("mlflow").plan.to_dict() == plan
    assert file.read_text() == before


def test_an_ingress_that_goes_away_does_not_stop_the_server(ctx, tmp_path):
    relations = (given.postgresql(), given.storage(), given.ingress())
    out = given.up(ctx.run(ctx.on.config_changed(), given.state(*relations, disk=tmp_path)))
    assert given.running(out)

    without = given.state(given.postgresql(), given.storage(), given.ingress(""))
    out = ctx.run(ctx.on.config_changed(), dataclasses.replace(without, containers=out.containers))

    assert given.running(out)
    assert out.unit_status == WAITING("ingress: waiting for an address")


def test_the_first_start_waits_for_the_address_of_the_proxy(ctx):
    # GIVEN an account at a proxy that does not serve us yet
    bag = {"secret-user": "secret:account00000000000000", "endpoints": "[]"}
    out = ctx.run(
        ctx.on.config_changed(),
        given.state(given.postgresql(), given.storage(), given.basic_auth(bag)),
    )

    assert out.unit_status.message.startswith("basic-auth: waiting for this application's")
    assert not given.running(out)


JUNK = ["", "null", "[]", "{}", "1", '"x"', "[[]]", "{", "\x00", "secret:x", "é" * 3, "a:b:c"]


@pytest.mark.parametrize("junk", JUNK)
def test_no_databag_makes_a_hook_fail(ctx, junk: str, tmp_path: pathlib.Path):
    def every(*keys: str) -> dict[str, str]:
        return dict.fromkeys(keys, junk)

    database = ("secret-user", "secret-tls", "username", "password", "endpoints", "database")
    legacy = ("host", "port", "user", "password", "database")
    relations = [
        given.postgresql(every(*database)),
        given.mysql(every(*database)),
        given.mariadb(every(*legacy)),
        dataclasses.replace(given.storage(), remote_app_data=every("_supported_versions", "data")),
        dataclasses.replace(
            given.ingress(), remote_app_data=every("_supported_versions", "ingress")
        ),
        given.basic_auth(every("secret-user", "endpoints")),
        *(given.relation(e, 20 + n) for n, e in enumerate(("mlflow", "pod-defaults", "secrets"))),
    ]

    # Each database by itself, since two of them are a problem of another kind.
    for database_relation in relations[:3]:
        out = ctx.run(ctx.on.config_changed(), given.state(database_relation, *relations[3:]))

        assert isinstance(out.unit_status, (testing.BlockedStatus, testing.WaitingStatus))
        assert not given.running(out)
        json.dumps(out.unit_status.message)
