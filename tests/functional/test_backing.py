"""The backing charms of onebox on their real servers.

They are packed and deployed as a user would, and related to a charm without a word of its own,
whose databags the tests write and read with Juju's hook tools: literal keys on both sides.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import signal
import subprocess
import time
import typing
from collections.abc import Iterator, Mapping

import pytest
import yaml

from onebox import setup
from tests.functional import box as boxes

CHARMS = boxes.ROOT / "onebox" / "charms"
REQUESTED = json.dumps(["username", "password", "tls", "tls-ca", "uris"])

# All that a careless quoting in SQL, in a shell, in a URI or in a connection string stumbles over.
ODD_NAME = "a=b x\"y'z`w \\back %s_ ;-- $(id) ünï/?#&"


@dataclasses.dataclass
class Relation:
    """A relation between a backing charm and an application of the plain charm."""

    box: boxes.Box
    provider: str
    requirer: str
    number: int

    @property
    def _unit(self) -> str:
        return self.requirer.partition(":")[0] + "/0"

    def say(self, *, unit: bool = False, **values: str) -> None:
        """Write into the databag of the requirer, as its leader or as its unit."""
        where = [] if unit else ["--app"]
        pairs = [f"{key.replace('__', '-')}={value}" for key, value in values.items()]
        self.box.run(self._unit, "relation-set", "-r", str(self.number), *where, *pairs)
        self.box.settle()

    def heard(self) -> dict[str, str]:
        """Return what the backing application says."""
        application = self.provider.partition(":")[0]
        return self._read("--app", application)

    def heard_from_unit(self) -> dict[str, str]:
        """Return what unit 0 of the backing application says."""
        application = self.provider.partition(":")[0]
        return self._read("", f"{application}/0")

    def secret(self, uri: str) -> dict[str, str]:
        """Read a secret as the requirer."""
        return json.loads(self.box.run(self._unit, "secret-get", "--format=json", uri))

    def remove(self) -> None:
        self.box.call("remove_relation", a=self.provider, b=self.requirer)
        self.box.settle()

    def _read(self, *arguments: str) -> dict[str, str]:
        options = [argument for argument in arguments[:-1] if argument]
        text = self.box.run(
            self._unit,
            *("relation-get", "--format=json", "-r", str(self.number)),
            *(*options, "-", arguments[-1]),
        )
        return json.loads(text)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[boxes.Box]:
    """All backing charms, and the requirers ``one`` and ``two``."""
    build = tmp_path_factory.mktemp("build")
    images = {
        "minio": {"oci-image": "minio"},
        "postgresql-k8s": {"postgresql-image": "postgresql"},
        "mariadb-k8s": {"mariadb-image": "mariadb"},
        "traefik-k8s": {"traefik-image": "nginx"},
        "resource-dispatcher": {"oci-image": "base"},
    }
    # The requirers have the clients of the databases in their containers.
    clients = {"one": "postgresql", "two": "mariadb"}
    with boxes.new() as made:
        for name, resources in images.items():
            made.call(
                "deploy",
                charm=str(boxes.pack(CHARMS / name, build)),
                application=name,
                num_units=1,
                resources={key: setup.ensure_image(image) for key, image in resources.items()},
            )
        requirer = boxes.zipped("plain", build)
        for name, image in clients.items():
            made.call(
                "deploy",
                charm=str(requirer),
                application=name,
                num_units=1,
                resources={"work-image": setup.ensure_image(image)},
            )
        made.settle()
        made.until("active", lambda: not waiting(made))
        yield made


def waiting(box: boxes.Box) -> list[str]:
    """What is not active yet."""
    applications = box.call("status")["applications"]
    units = [unit for each in applications.values() for unit in each["units"].values()]
    return [
        unit["workload-status"]["message"]
        for unit in units
        if unit["workload-status"]["current"] != "active"
    ]


def status(box: boxes.Box, application: str) -> tuple[str, str]:
    found = box.unit(f"{application}/0")["workload-status"]
    return found["current"], found.get("message", "")


@contextlib.contextmanager
def related(box: boxes.Box, provider: str, requirer: str) -> Iterator[Relation]:
    """Relate two applications, and leave no relation behind."""
    number = box.call("integrate", a=provider, b=requirer)
    made = Relation(box, provider, requirer, number)
    box.settle()
    try:
        yield made
    finally:
        info = box.call("show_unit", unit=made._unit)[made._unit]["relation-info"]
        if any(each["relation-id"] == number for each in info):
            made.remove()


def restart_pod(box: boxes.Box, unit: str, container: str) -> None:
    """Kill everything in a workload container; it comes back with the files of its image."""
    since = box.mark()
    pid = int(box.call("enter", unit=unit, container=container)["argv"][1].partition("=")[2])
    os.kill(pid, signal.SIGKILL)
    ready = f"{container}-pebble-ready"
    box.until("restarted", lambda: ready in [hook.split()[0] for hook in box.hooks(unit, since)])
    box.settle()


class TestPostgresql:
    @staticmethod
    def sql(
        box: boxes.Box, answer: Mapping[str, str], account: Mapping[str, str], text: str
    ) -> str:
        """Run SQL over the network, as the requirer would."""
        host, _, port = answer["endpoints"].partition(":")
        variables = {
            "PGHOST": host,
            "PGPORT": port,
            "PGDATABASE": answer["database"],
            "PGUSER": account["username"],
            "PGPASSWORD": account["password"],
        }
        settings = [f"{name}={value}" for name, value in variables.items()]
        argv = ("env", *settings, "psql", "-XAqt", "-v", "ON_ERROR_STOP=1", "-c", text)
        return box.inside("one/0", "work", *argv).strip()

    def test_a_database_for_a_relation(self, box: boxes.Box) -> None:
        with related(box, "postgresql-k8s:database", "one:postgresql") as relation:
            # GIVEN a request
            relation.say(database="mlflow", requested__secrets=REQUESTED)
            # WHEN it is answered
            answer = relation.heard()
            # THEN the account works from another pod, and nothing of it is in clear
            assert answer.keys() == {
                "database",
                "endpoints",
                "secret-tls",
                "secret-user",
                "version",
            }
            account = relation.secret(answer["secret-user"])
            assert account["username"] == f"relation_id_{relation.number}"
            assert relation.secret(answer["secret-tls"]) == {"tls": "False"}
            assert answer["version"].startswith("15.")
            assert int(self.sql(box, answer, account, "SHOW max_connections")) >= 100
            self.sql(box, answer, account, "CREATE TABLE kept AS SELECT 42 AS x")
            # AND the URI leads there, too
            uri = ("psql", "-XAqt", account["uris"], "-c", "SELECT x FROM kept")
            assert box.inside("one/0", "work", *uri).strip() == "42"

    def test_the_database_stays_and_the_account_goes(self, box: boxes.Box) -> None:
        # GIVEN a database with a table of the first account
        with related(box, "postgresql-k8s:database", "one:postgresql") as first:
            first.say(database="stays", requested__secrets=REQUESTED)
            answer = first.heard()
            old = first.secret(answer["secret-user"])
            self.sql(box, answer, old, "CREATE TABLE kept AS SELECT 42 AS x")
            # WHEN its relation is removed
            first.remove()
        # THEN nobody can use the account any more
        with pytest.raises(boxes.CommandError):
            self.sql(box, answer, old, "SELECT 1")
        # AND the next relation finds the table, and owns it
        with related(box, "postgresql-k8s:database", "one:postgresql") as second:
            second.say(database="stays", requested__secrets=REQUESTED)
            new = second.secret(second.heard()["secret-user"])
            assert new["username"] != old["username"]
            assert self.sql(box, answer, new, "SELECT x FROM kept") == "42"
            self.sql(box, answer, new, "DROP TABLE kept")

    def test_an_account_opens_only_its_own_database(self, box: boxes.Box) -> None:
        with (
            related(box, "postgresql-k8s:database", "one:postgresql") as first,
            related(box, "postgresql-k8s:database", "two:postgresql") as second,
        ):
            # GIVEN two databases
            first.say(database="first", requested__secrets=REQUESTED)
            second.say(database="second", requested__secrets=REQUESTED)
            account = first.secret(first.heard()["secret-user"])
            # WHEN the first account tries the second database
            with pytest.raises(boxes.CommandError):
                self.sql(box, second.heard(), account, "SELECT 1")
            # THEN only its own one opens, and the secret of the other cannot be read
            assert self.sql(box, first.heard(), account, "SELECT 1") == "1"
            with pytest.raises(AssertionError):
                first.secret(second.heard()["secret-user"])

    def test_any_name_is_a_name(self, box: boxes.Box) -> None:
        with related(box, "postgresql-k8s:database", "one:postgresql") as relation:
            # GIVEN a request for a name that needs quoting everywhere
            relation.say(database=ODD_NAME, requested__secrets=REQUESTED)
            # WHEN it is answered
            answer = relation.heard()
            account = relation.secret(answer["secret-user"])
            # THEN that very database opens, by its parts and by the URI
            assert self.sql(box, answer, account, "SELECT current_database()") == ODD_NAME
            argv = ("psql", "-XAqt", account["uris"], "-c", "SELECT current_database()")
            assert box.inside("one/0", "work", *argv).strip() == ODD_NAME

    def test_data_outlives_its_container(self, box: boxes.Box) -> None:
        with related(box, "postgresql-k8s:database", "one:postgresql") as relation:
            # GIVEN a table
            relation.say(database="outlives", requested__secrets=REQUESTED)
            answer = relation.heard()
            account = relation.secret(answer["secret-user"])
            self.sql(box, answer, account, "CREATE TABLE kept AS SELECT 42 AS x")
            # WHEN everything in the container is killed
            restart_pod(box, "postgresql-k8s/0", "postgresql")
            # THEN the account, the table and the answer are as they were
            box.until("active", lambda: status(box, "postgresql-k8s")[0] == "active")
            assert self.sql(box, answer, account, "SELECT x FROM kept") == "42"
            assert relation.heard() == answer

    def test_a_busy_server_stops_at_once(self, box: boxes.Box) -> None:
        with related(box, "postgresql-k8s:database", "one:postgresql") as relation:
            # GIVEN a client that never goes
            relation.say(database="busy", requested__secrets=REQUESTED)
            answer = relation.heard()
            account = relation.secret(answer["secret-user"])
            begun = time.monotonic()
            found = box.call("enter", unit="one/0", container="work")
            argv = [*found["argv"], "psql", account["uris"], "-c", "SELECT pg_sleep(600)"]
            client = subprocess.Popen(argv, env=found["env"], stderr=subprocess.DEVNULL)
            sessions = (
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE usename = session_user AND pid <> pg_backend_pid()"
            )
            box.until("connected", lambda: self.sql(box, answer, account, sessions) == "1")
            # WHEN the service is restarted
            box.inside(
                "postgresql-k8s/0", "postgresql", "/charm/bin/pebble", "restart", "postgresql"
            )
            # THEN it does not wait for that client, and needs no crash recovery
            assert time.monotonic() - begun < 20
            assert client.wait(timeout=10) != 0
            box.until("back", lambda: self._answers(box, answer, account))
            logs = box.inside(
                "postgresql-k8s/0", "postgresql", "/charm/bin/pebble", "logs", "-n1000"
            )
            after = logs.rpartition("received fast shutdown request")[2]
            assert "database system is shut down" in after
            assert "not properly shut down" not in after

    def _answers(
        self, box: boxes.Box, answer: Mapping[str, str], account: Mapping[str, str]
    ) -> bool:
        with contextlib.suppress(boxes.CommandError):
            return self.sql(box, answer, account, "SELECT 1") == "1"
        return False


class TestMariadb:
    @staticmethod
    def sql(box: boxes.Box, account: Mapping[str, str], text: str, database: str = "") -> str:
        """Run SQL over the network, as the requirer would."""
        argv = (
            *("env", f"MYSQL_PWD={account['password']}", "mariadb", "--no-defaults"),
            *("--default-character-set=utf8mb4", "-N", "-B", "-r"),
            *("-h", account["host"], "-P", account["port"], "-u", account["user"]),
            *("-e", text, *([f"--database={database}"] if database else [])),
        )
        return box.inside("two/0", "work", *argv).strip()

    def account(self, relation: Relation) -> dict[str, str]:
        """Return the account of a relation of the newer interface."""
        answer = relation.heard()
        host, _, port = answer["endpoints"].partition(":")
        content = relation.secret(answer["secret-user"])
        return {
            "host": host,
            "port": port,
            "user": content["username"],
            "password": content["password"],
            "database": answer["database"],
        }

    @pytest.mark.parametrize("name", ["mlflow", ODD_NAME])
    def test_a_database_for_a_relation(self, box: boxes.Box, name: str) -> None:
        with related(box, "mariadb-k8s:database", "two:mysql") as relation:
            # GIVEN a request
            relation.say(database=name, requested__secrets=REQUESTED)
            # WHEN it is answered
            answer = relation.heard()
            # THEN it has the keys of mariadb-k8s, and the account works from another pod
            assert answer.keys() == {"database", "endpoints", "secret-user", "version"}
            assert answer["endpoints"] == "mariadb-k8s:3306"
            account = self.account(relation)
            assert account["user"] == account["database"] == name
            asked = "SELECT DATABASE(), @@character_set_database, @@log_bin"
            assert self.sql(box, account, asked, name) == f"{name}\tutf8mb4\t0"

    def test_the_database_is_dropped_with_the_relation(self, box: boxes.Box) -> None:
        # GIVEN a table
        with related(box, "mariadb-k8s:database", "two:mysql") as first:
            first.say(database="gone", requested__secrets=REQUESTED)
            old = self.account(first)
            self.sql(box, old, "CREATE TABLE kept (x INT)", "gone")
            # WHEN the relation is removed
            first.remove()
        # THEN the account is gone
        with pytest.raises(boxes.CommandError):
            self.sql(box, old, "SELECT 1")
        # AND the next relation gets an empty database
        with related(box, "mariadb-k8s:database", "two:mysql") as second:
            second.say(database="gone", requested__secrets=REQUESTED)
            assert self.sql(box, self.account(second), "SHOW TABLES", "gone") == ""

    def test_an_account_opens_only_its_own_database(self, box: boxes.Box) -> None:
        with (
            related(box, "mariadb-k8s:database", "one:mysql") as first,
            related(box, "mariadb-k8s:database", "two:mysql") as second,
        ):
            # GIVEN two databases, of which one name taken as a pattern matches the other
            first.say(database="a_c", requested__secrets=REQUESTED)
            second.say(database="abc", requested__secrets=REQUESTED)
            # WHEN the first account looks around
            account = self.account(first)
            # THEN it sees its own one only
            assert self.sql(box, account, "SHOW DATABASES").split() == [
                "a_c",
                "information_schema",
            ]
            with pytest.raises(boxes.CommandError):
                self.sql(box, account, "SELECT 1", "abc")

    def test_one_database_is_not_given_twice(self, box: boxes.Box) -> None:
        with related(box, "mariadb-k8s:database", "one:mysql") as first:
            first.say(database="same", requested__secrets=REQUESTED)
            with related(box, "mariadb-k8s:database", "two:mysql") as second:
                # WHEN a second application asks for the same name
                second.say(database="same", requested__secrets=REQUESTED)
                # THEN it is told, and gets nothing
                message = "two: the database same is taken by another relation"
                assert status(box, "mariadb-k8s") == ("blocked", message)
                assert "secret-user" not in second.heard()
            # AND the first one is not touched by the second one's going
            assert self.sql(box, self.account(first), "SELECT 1", "same") == "1"
            assert status(box, "mariadb-k8s")[0] == "active"

    def test_the_old_interface(self, box: boxes.Box) -> None:
        with related(box, "mariadb-k8s:mysql", "two:mariadb") as relation:
            # GIVEN a relation, in which the requirer says nothing
            # WHEN the unit has answered
            answer = relation.heard_from_unit()
            # THEN both accounts of its databag work from another pod
            own = {"host", "port", "user", "password", "database", "root_password"}
            assert own <= answer.keys()
            assert self.sql(box, answer, "SELECT DATABASE()", answer["database"]) == "database"
            root = {**answer, "user": "root", "password": answer["root_password"]}
            assert self.sql(box, root, "SELECT 1") == "1"
            # AND a changed option is followed by server and databag
            box.call("config_set", application="mariadb-k8s", values={"password": "it's \\ new"})
            box.settle()
            assert relation.heard_from_unit()["password"] == "it's \\ new"
            assert self.sql(box, relation.heard_from_unit(), "SELECT 1", "database") == "1"
            with pytest.raises(boxes.CommandError):
                self.sql(box, answer, "SELECT 1", "database")
        # WHEN the relation is gone
        # THEN root can come in from nowhere else
        with pytest.raises(boxes.CommandError):
            self.sql(box, root, "SELECT 1")

    def test_data_outlives_its_container(self, box: boxes.Box) -> None:
        with related(box, "mariadb-k8s:database", "two:mysql") as relation:
            # GIVEN a table
            relation.say(database="outlives", requested__secrets=REQUESTED)
            account = self.account(relation)
            self.sql(box, account, "CREATE TABLE kept AS SELECT 42 AS x", "outlives")
            # WHEN everything in the container is killed
            restart_pod(box, "mariadb-k8s/0", "mariadb")
            # THEN the account and the table are as they were
            box.until("active", lambda: status(box, "mariadb-k8s")[0] == "active")
            assert self.sql(box, account, "SELECT x FROM kept", "outlives") == "42"


class TestMinio:
    @staticmethod
    def s3(
        box: boxes.Box,
        account: Mapping[str, typing.Any],
        method: str,
        path: str,
        body: bytes = b"",
    ) -> tuple[int, bytes]:
        """Send a request that is signed as AWS Signature Version 4 wants it."""
        host = f"{box.unit('minio/0')['address']}:{account['port']}"
        now = datetime.datetime.now(datetime.UTC)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        lines = "".join(f"{key}:{value}\n" for key, value in headers.items())
        names = ";".join(headers)
        request = f"{method}\n{path}\n\n{lines}\n{names}\n{digest}"
        scope = f"{day}/us-east-1/s3/aws4_request"
        hashed = hashlib.sha256(request.encode()).hexdigest()
        key = f"AWS4{account['secret-key']}".encode()
        for part in (day, "us-east-1", "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={account['access-key']}/{scope},"
            f"SignedHeaders={names},Signature={hmac.digest(key, text.encode(), 'sha256').hex()}"
        )
        return request_(host, method, path, body, headers)

    def test_the_account_opens_the_store(self, box: boxes.Box) -> None:
        with related(box, "minio:object-storage", "one:object-storage") as relation:
            # GIVEN a requirer that has said its versions
            assert "data" not in relation.heard()
            relation.say(_supported_versions="- v1\n")
            # WHEN MinIO has answered
            answer = relation.heard()
            # THEN its account makes a bucket and keeps an object
            account = yaml.safe_load(answer["data"])
            assert answer["_supported_versions"] == "- v1\n"
            known = ("access-key", "namespace", "port", "secure", "service")
            assert [account[key] for key in known] == ["minio", "m", 9000, False, "minio"]
            assert self.s3(box, account, "PUT", "/bucket")[0] == 200
            assert self.s3(box, account, "PUT", "/bucket/a", b"kept")[0] == 200
            wrong = {**account, "secret-key": "wrong-secret"}
            assert self.s3(box, wrong, "GET", "/bucket/a")[0] == 403
            # AND the secret key is in no argument, plan or environment
            secret = account["secret-key"]
            plan = box.inside("minio/0", "minio", "/charm/bin/pebble", "plan")
            assert "MINIO_ROOT_PASSWORD_FILE" in plan
            assert secret not in plan
            assert not seen_in_processes(box, "minio/0", "minio", secret)
            # AND another key is taken over while the object stays
            box.call("config_set", application="minio", values={"secret-key": "0123456789"})
            box.settle()
            changed = yaml.safe_load(relation.heard()["data"])
            assert changed["secret-key"] == "0123456789"
            assert self.s3(box, changed, "GET", "/bucket/a") == (200, b"kept")
            assert self.s3(box, account, "GET", "/bucket/a")[0] == 403
            # AND everything is there after the container was killed
            restart_pod(box, "minio/0", "minio")
            box.until("active", lambda: status(box, "minio")[0] == "active")
            assert self.s3(box, changed, "GET", "/bucket/a") == (200, b"kept")


# Answers with the request as it came in.
ECHO = """
import http.server, sys

class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(f"{self.path}\\n{self.headers}".encode())

    def do_PUT(self):
        length = 0
        while size := int(self.rfile.readline(), 16):
            length += len(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        self.answer(str(length).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("", 5000), Echo).serve_forever()
"""


@pytest.fixture(scope="module")
def echo(box: boxes.Box) -> Iterator[None]:
    """A server in the pod of ``one``."""
    found = box.call("enter", unit="one/0", container="work")
    argv = [*found["argv"], "python3", "-c", ECHO]
    server = subprocess.Popen(argv, env=found["env"], start_new_session=True)
    yield
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


class TestTraefik:
    HOST = "one-0.one-endpoints.m.svc.cluster.local"

    @pytest.fixture
    def route(self, box: boxes.Box, echo: None) -> Iterator[Relation]:
        with related(box, "traefik-k8s:ingress", "one:ingress") as relation:
            relation.say(unit=True, host=json.dumps(self.HOST))
            yield relation

    @classmethod
    def ask(cls, relation: Relation, *, strip: bool = True) -> str:
        relation.say(model='"m"', name='"one"', port="5000", strip__prefix="true" if strip else "")
        # nginx takes up a new configuration a moment after it was told to.
        relation.box.until("routed", lambda: cls.get(relation.box, "/m-one")[0] != 404)
        return json.loads(relation.heard()["ingress"])["url"]

    @staticmethod
    def get(
        box: boxes.Box, path: str, method: str = "GET", body: typing.Any = None, **headers: str
    ) -> tuple[int, str]:
        host = f"{box.unit('traefik-k8s/0')['address']}:80"
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        code, answer = request_(host, method, path, body, named)
        return code, answer.decode()

    def test_a_path_for_a_relation(self, box: boxes.Box, route: Relation) -> None:
        # GIVEN a request
        # WHEN it is answered
        url = self.ask(route)
        # THEN the address is that of the unit, and its path leads to the application
        assert url == f"http://{box.unit('traefik-k8s/0')['address']}/m-one"
        code, answer = self.get(box, "/m-one/a%2Fb//c?q=%2F&r", X_Forwarded_For="6.6.6.6")
        assert code == 200
        path, _, headers = answer.partition("\n")
        assert path == "/a%2Fb//c?q=%2F&r"
        assert "6.6.6.6" not in headers
        assert "X-Forwarded-Proto: http" in headers
        assert "X-Forwarded-Prefix: /m-one" in headers
        # AND every other path to nothing
        for other in ("/", "/m-one2/", "/x", "/m-one/../x", "/%6d-other/"):
            assert self.get(box, other)[0] in {400, 404}, other

    def test_the_host_of_the_client_is_passed_on(self, box: boxes.Box, route: Relation) -> None:
        # GIVEN an address with a port of its own
        box.call(
            "config_set",
            application="traefik-k8s",
            values={"external_hostname": "mlflow.example:8080"},
        )
        box.settle()
        assert self.ask(route) == "http://mlflow.example:8080/m-one"
        # WHEN a client asks under that name
        _, answer = self.get(box, "/m-one/", Host="mlflow.example:8080")
        # THEN the application sees it
        assert "Host: mlflow.example:8080" in answer
        assert "X-Forwarded-Host: mlflow.example:8080" in answer
        # AND a redirect stays on it
        assert self.get(box, "/m-one?a=b", Host="mlflow.example:8080")[0] == 308
        box.call("config_set", application="traefik-k8s", reset=["external_hostname"])
        box.settle()

    def test_the_prefix_stays_unless_it_is_to_go(self, box: boxes.Box, route: Relation) -> None:
        # GIVEN a request without strip-prefix
        self.ask(route, strip=False)
        # WHEN a client asks
        # THEN the path is passed on as it came
        assert self.get(box, "/m-one/a%2Fb?q")[1].startswith("/m-one/a%2Fb?q\n")
        assert self.get(box, "/m-one")[1].startswith("/m-one\n")

    def test_large_bodies_are_streamed(self, box: boxes.Box, route: Relation) -> None:
        # GIVEN a body larger than what nginx takes by default, of unknown length
        self.ask(route)
        chunk = bytes(1024 * 1024)
        # WHEN it is sent
        code, answer = self.get(box, "/m-one/", "PUT", iter([chunk] * 32))
        # THEN all of it arrives
        assert (code, answer) == (200, str(32 * len(chunk)))

    def test_a_bad_request_takes_nothing_from_others(
        self, box: boxes.Box, route: Relation
    ) -> None:
        # GIVEN a route that works
        self.ask(route)
        with related(box, "traefik-k8s:ingress", "two:ingress") as other:
            # WHEN another application asks for something that would break nginx
            other.say(unit=True, host=json.dumps("a;} server {"))
            other.say(model='"m"', name='"two"', port="5000")
            # THEN that is said, and the route still works
            message = "two: a host is neither a name nor an address"
            assert status(box, "traefik-k8s") == ("blocked", message)
            assert self.get(box, "/m-one/")[0] == 200
            # AND a unit that does not resolve costs the others nothing, either
            other.say(unit=True, host=json.dumps("nowhere.m.svc.cluster.local"))
            assert status(box, "traefik-k8s")[0] == "active"
            box.until("routed", lambda: self.get(box, "/m-two/")[0] == 502)
            assert self.get(box, "/m-one/")[0] == 200

    def test_the_path_goes_with_the_relation(self, box: boxes.Box, route: Relation) -> None:
        # GIVEN a route
        self.ask(route)
        # WHEN its relation is removed
        route.remove()
        # THEN it leads nowhere
        box.until("not found", lambda: self.get(box, "/m-one/")[0] == 404)

    def test_workers_are_not_root(self, box: boxes.Box, echo: None) -> None:
        # GIVEN nginx, whose main process opens port 80
        # WHEN one looks at its processes
        users = [user for user, command in processes(box, "traefik-k8s/0", "traefik", "nginx")]
        # THEN only that one is root
        assert users.count(0) == 1
        assert len(users) > 1


class TestResourceDispatcher:
    SECRET: typing.ClassVar = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mlflow-server-credentials"},
        "stringData": {"PASSWORD": "canary-manifest"},
    }

    @staticmethod
    def kept(box: boxes.Box, endpoint: str) -> list[typing.Any]:
        path = f"/manifests/{endpoint}.json"
        return json.loads(box.inside("resource-dispatcher/0", "resource-dispatcher", "cat", path))

    def test_both_variants(self, box: boxes.Box) -> None:
        with (
            related(box, "resource-dispatcher:secrets", "one:secrets") as secret,
            related(box, "resource-dispatcher:pod-defaults", "one:pod-defaults") as plain,
        ):
            # GIVEN a Secret in a Juju secret, and a PodDefault in the databag
            manifest = {"kind": "PodDefault", "metadata": {"name": "mlflow-server-minio"}}
            plain.say(kubernetes_manifests=json.dumps([manifest]))
            uri = box.run("one/0", "secret-add", f"manifests={json.dumps([self.SECRET])}").strip()
            secret.say(kubernetes_manifests=uri, is_secret="true")
            # WHEN it may not be read yet
            # THEN the dispatcher says what it waits for
            message = "waiting for a grant of its secret from one"
            assert status(box, "resource-dispatcher") == ("waiting", message)
            # WHEN it is granted, and something in the relation changes
            box.run("one/0", "secret-grant", "--relation", str(secret.number), uri)
            secret.say(touched="1")
            # THEN both are kept
            assert status(box, "resource-dispatcher")[0] == "active"
            assert self.kept(box, "secrets") == [self.SECRET]
            assert self.kept(box, "pod-defaults") == [manifest]
            # AND a new revision replaces the old one
            changed = {**self.SECRET, "stringData": {"PASSWORD": "other"}}
            box.run("one/0", "secret-set", uri, f"manifests={json.dumps([changed])}")
            box.settle()
            assert self.kept(box, "secrets") == [changed]
            # AND the file is for root only
            path = "/manifests/secrets.json"
            mode = ("stat", "-c", "%a %u", path)
            shown = box.inside("resource-dispatcher/0", "resource-dispatcher", *mode)
            assert shown.split() == ["600", "0"]
        # WHEN the relations are gone
        # THEN so are the objects
        assert self.kept(box, "secrets") == self.kept(box, "pod-defaults") == []

    def test_a_name_that_two_send(self, box: boxes.Box) -> None:
        with (
            related(box, "resource-dispatcher:secrets", "one:secrets") as first,
            related(box, "resource-dispatcher:secrets", "two:secrets") as second,
        ):
            # GIVEN an object of one application
            text = json.dumps([self.SECRET])
            first.say(kubernetes_manifests=text)
            # WHEN another one sends the same name
            second.say(kubernetes_manifests=text)
            # THEN the status names it, and the last good objects stay
            message = "secrets: mlflow-server-credentials was sent more than once"
            assert status(box, "resource-dispatcher") == ("blocked", message)
            assert self.kept(box, "secrets") == [self.SECRET]
        assert status(box, "resource-dispatcher")[0] == "active"


def test_services_do_not_run_as_root(box: boxes.Box) -> None:
    # GIVEN the servers that hold data
    for unit, container, program in (
        ("minio/0", "minio", "minio"),
        ("postgresql-k8s/0", "postgresql", "postgres"),
        ("mariadb-k8s/0", "mariadb", "mariadbd"),
    ):
        # WHEN one looks at their processes
        users = {user for user, _ in processes(box, unit, container, program)}
        # THEN all are of the services' user
        assert users == {584792}, unit


def test_a_second_unit_says_what_to_do_and_takes_nothing_away(box: boxes.Box) -> None:
    with related(box, "postgresql-k8s:database", "one:postgresql") as relation:
        # GIVEN a database
        relation.say(database="scaled", requested__secrets=REQUESTED)
        answer = relation.heard()
        account = relation.secret(answer["secret-user"])
        # WHEN the application gets a second unit
        box.call("add_units", application="postgresql-k8s", num_units=1)
        box.settle()
        # THEN that one is blocked, and the first one serves as before
        shown = box.unit("postgresql-k8s/1")["workload-status"]
        assert shown["message"] == "PostgreSQL serves from one unit here: scale to 1"
        assert relation.heard() == answer
        box.until("it serves", lambda: serves(box, answer, account))
        # AND goes without harm
        box.call("remove_units", application="postgresql-k8s", num_units=1)
        box.settle()
        box.until("it serves", lambda: serves(box, answer, account))


def serves(box: boxes.Box, answer: Mapping[str, str], account: Mapping[str, str]) -> bool:
    """Whether the database's name is known: not while Podman's DNS reads its list anew."""
    try:
        found = TestPostgresql.sql(box, answer, account, "SELECT 1")
    except boxes.CommandError as error:
        if "name resolution" not in str(error):
            raise
        return False
    assert found == "1"
    return True


def test_no_secret_is_in_a_log(box: boxes.Box) -> None:
    # GIVEN accounts on every endpoint, made and removed
    with (
        related(box, "postgresql-k8s:database", "one:postgresql") as first,
        related(box, "mariadb-k8s:database", "two:mysql") as second,
    ):
        first.say(database="quiet", requested__secrets=REQUESTED)
        second.say(database="quiet", requested__secrets=REQUESTED)
        secrets = [
            each.secret(each.heard()["secret-user"])["password"] for each in (first, second)
        ]
    # WHEN one searches what was written while that happened
    files = [path for path in box.home.path.rglob("*") if path.suffix in {".log", ".jsonl"}]
    assert any("postgresql" in path.name for path in files)
    # THEN no password is in it
    for path in files:
        text = path.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], path


def request_(
    host: str, method: str, path: str, body: typing.Any, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    """Send a request with a path as it is, and return the status and the body."""
    connection = http.client.HTTPConnection(host, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, dict(headers))
        with connection.getresponse() as answer:
            return answer.status, answer.read()


def processes(
    box: boxes.Box, unit: str, container: str, program: str
) -> list[tuple[int, list[str]]]:
    """Return user and command line of the processes of a program in a container."""
    found: list[tuple[int, list[str]]] = []
    for process in _processes(box, unit, container):
        command = (process / "cmdline").read_text(errors="replace").split("\0")
        if (process / "comm").read_text().strip() == program:
            found.append((process.stat().st_uid, command))
    return found


def seen_in_processes(box: boxes.Box, unit: str, container: str, secret: str) -> list[str]:
    """Return the processes of a container in whose arguments or environment a text is."""
    return [
        str(process)
        for process in _processes(box, unit, container)
        if secret.encode()
        in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    ]


def _processes(box: boxes.Box, unit: str, container: str) -> list[pathlib.Path]:
    """Return the processes that are in a container, as directories of /proc."""
    target = box.call("enter", unit=unit, container=container)["argv"][1].partition("=")[2]
    namespace = pathlib.Path(f"/proc/{target}/ns/pid").readlink()
    found: list[pathlib.Path] = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "ns" / "pid").readlink() == namespace:
                found.append(process)
    return found
