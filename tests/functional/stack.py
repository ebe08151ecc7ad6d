"""Pods with the real servers, and the tracking server as its charm runs it, without Juju."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import importlib
import json
import os
import pathlib
import secrets
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import ops

from mlflow_kit import container as kit
from mlflow_kit import plan as plans
from mlflow_kit import uris, workload
from mlflow_kit.interfaces import database, object_storage
from onebox import pods
from tests.functional import names

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHARM = ROOT / "charms" / "mlflow-server"
USER = 584792
BASE = "localhost/onebox/base:latest"

T = TypeVar("T")


def _charm_modules(*names: str) -> list[types.ModuleType]:
    """Import modules of the charm, and leave no trace of their everyday names."""
    sys.path.insert(0, str(CHARM / "src"))
    before = set(sys.modules)
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(CHARM / "src"))
        for name in set(sys.modules) - before:
            if pathlib.Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(
                CHARM
            ):
                del sys.modules[name]


config, server, state, reports = _charm_modules("config", "server", "state", "reports")


def programs() -> dict[str, str]:
    return kit.programs(CHARM / "workload", server.PROGRAMS)


def eventually(probe: Callable[[], T], seconds: float = 60, what: object = "it") -> T:
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.2)


class Container(ops.Container):
    """A container of a pod, reached at its socket on this machine."""

    def __init__(self, name: str, socket: pathlib.Path) -> None:
        self.name = name
        self._pebble = ops.pebble.Client(socket_path=str(socket))
        # Asked whether commands may be run.
        self._juju_version = ops.JujuVersion("3.6.4")


class Pods:
    """Pods of a network of their own."""

    def __init__(self, home: pathlib.Path) -> None:
        self.prefix = f"onebox-{names.fresh()}"
        self.podman = pods.Podman(self.prefix, None, home)
        self._specs: dict[str, pods.Pod] = {}
        self._begins: dict[str, int] = {}

    def start(self, name: str, image: str) -> Container:
        """Make a pod with one container; both are called ``name``."""
        self.podman.ensure_network()
        self._specs[name] = pods.Pod(
            name=f"t.{name}-0",
            aliases=(name, f"{name}.t.svc.cluster.local"),
            containers=(pods.Container(name, f"localhost/onebox/{image}:latest"),),
            charm_image=BASE,
        )
        log = self._log(name)
        # Another test may have had a pod of this name.
        self._begins[name] = log.stat().st_size if log.exists() else 0
        return self.ensure(name)

    def ensure(self, name: str) -> Container:
        spec = self._specs[name]
        self.podman.ensure(spec)
        container = Container(name, self.podman.socket(spec.name, name))
        eventually(container.can_connect)
        return container

    def address(self, name: str) -> str:
        return self.podman.address(self._specs[name].name)

    def log(self, name: str) -> str:
        """Return what a container has printed since `start`."""
        return self._log(name).read_bytes()[self._begins[name] :].decode(errors="replace")

    def _log(self, name: str) -> pathlib.Path:
        return self.podman.log(self._specs[name].name, name)

    def kill(self, name: str) -> None:
        """Kill everything in a container at once, as when a node dies."""
        pid = self.podman.init_pid(self._specs[name].name, name)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not self.podman.alive(self._specs[name].name, name))

    def remove(self, name: str) -> None:
        self.podman.remove(self._specs[name].name, grace=0)

    def destroy(self) -> None:
        self.podman.destroy()


def run(container: ops.Container, *argv: str, stdin: str = "") -> str:
    """Run a program in a container as its user, and return what it printed."""
    process = container.pebble.exec(
        list(argv), stdin=stdin, user_id=USER, group_id=USER, timeout=60, encoding="utf-8"
    )
    return process.wait_output()[0]


def serve(container: ops.Container, *argv: str, environment: Mapping[str, str] | None = None):
    """Have Pebble run one service."""
    service = plans.Service(
        name="server",
        argv=argv,
        environment=environment or {},
        user_id=USER,
        group_id=USER,
    )
    assert workload.apply(container, plans.Plan(services=(service,))).ok


@dataclasses.dataclass
class Database:
    """A database server and how to talk to it as its administrator."""

    container: ops.Container
    name: str
    dialect: str
    port: int

    def sql(self, text: str, database: str = "") -> str:
        """Run statements as the administrator; return rows as lines with tabs."""
        if self.dialect == "postgresql":
            argv = ["psql", "-h", "/tmp", "-AqtX", "-v", "ON_ERROR_STOP=1", database or "postgres"]
        else:
            argv = [
                "mariadb",
                "-u",
                "root",
                "-S",
                "/tmp/db.sock",
                "-N",
                *([database] if database else []),
            ]
        return run(self.container, *argv, stdin=text).strip()

    def create(
        self,
        user: str | None = None,
        password: str = "secret",
        charset: str = "utf8mb4",
        rights: str = "",
    ) -> database.Database:
        """Make a database with an account that may do everything in it."""
        name = f"db{secrets.token_hex(4)}"
        user = user or f"u{secrets.token_hex(4)}"
        if self.dialect == "postgresql":
            quoted = user.replace('"', '""')
            self.sql(f"""CREATE ROLE "{quoted}" LOGIN PASSWORD {_pg(password)};""")
            self.sql(f"""CREATE DATABASE {name} OWNER "{quoted}";""")
        else:
            self.sql(
                f"CREATE DATABASE {name} CHARACTER SET {charset};"
                f"CREATE USER {_my(user)}@'%' IDENTIFIED BY {_my(password)};"
                f"GRANT ALL PRIVILEGES ON {name}.* TO {_my(user)}@'%'; {rights}"
            )
        return database.Database(
            endpoints=(uris.Endpoint(self.name, self.port),),
            name=name,
            username=user,
            password=password,
        )

    def set_password(self, user: str, password: str) -> None:
        if self.dialect == "postgresql":
            self.sql(f"""ALTER ROLE "{user}" PASSWORD {_pg(password)};""")
        else:
            self.sql(f"ALTER USER {_my(user)}@'%' IDENTIFIED BY {_my(password)};")

    def disconnect(self, user: str) -> None:
        """End all connections of a user."""
        if self.dialect == "postgresql":
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {};"
            self.sql(ended.format(_pg(user)))
        else:
            self.sql(f"KILL USER {_my(user)};")

    def revision(self, name: str) -> str:
        return self.sql("SELECT version_num FROM alembic_version;", name)

    def set_revision(self, name: str, revision: str) -> None:
        self.sql("DELETE FROM alembic_version;", name)
        statement = "INSERT INTO alembic_version VALUES ('{}');"
        self.sql(statement.format(revision), name)

    def tables(self, name: str) -> list[str]:
        schema = "public" if self.dialect == "postgresql" else name
        listed = "SELECT table_name FROM information_schema.tables WHERE table_schema = {};"
        return self.sql(listed.format(_pg(schema)), name).split()


def _pg(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _my(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def postgresql(all_pods: Pods) -> Database:
    container = all_pods.start("postgresql", "postgresql")
    run(container, "initdb", "-D", "/tmp/data", "--auth-host=scram-sha-256", "-E", "UTF8")
    with_all = "host all all all scram-sha-256\nlocal all all trust\n"
    container.push("/tmp/data/pg_hba.conf", with_all, user_id=USER, group_id=USER)
    # What a power cut would lose is lost with the test.
    serve(
        container,
        *("postgres", "-D", "/tmp/data", "-k", "/tmp", "-h", "0.0.0.0", "-c", "fsync=off"),
    )
    found = Database(container, "postgresql", "postgresql", 5432)
    eventually(lambda: _answers(found))
    return found


def mariadb(all_pods: Pods) -> Database:
    container = all_pods.start("mariadb", "mariadb")
    run(
        container,
        "mariadb-install-db",
        "--datadir=/tmp/data",
        "--auth-root-authentication-method=normal",
    )
    # With a binary log, as servers have it that are replicated or backed up.
    serve(
        container,
        *("mariadbd", "--datadir=/tmp/data", "--socket=/tmp/db.sock", "--bind-address=0.0.0.0"),
        *("--log-bin=/tmp/data/binlog", "--log-bin-trust-function-creators=1"),
        *("--innodb-flush-log-at-trx-commit=0", "--sync-binlog=0"),
    )
    found = Database(container, "mariadb", "mysql", 3306)
    eventually(lambda: _answers(found))
    return found


def _answers(found: Database) -> bool:
    try:
        return found.sql("SELECT 1;") == "1"
    except ops.pebble.ExecError:
        return False


ACCESS_KEY = "storageadmin"
SECRET_KEY = "storage secret/+=:'\"%"


def minio(all_pods: Pods) -> object_storage.ObjectStorage:
    container = all_pods.start("minio", "minio")
    serve(
        container,
        *("minio", "server", "/tmp/data"),
        environment={"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY},
    )
    address = all_pods.address("minio")

    def ready() -> bool:
        with contextlib.suppress(OSError):
            return get(address, 9000, "/minio/health/ready")[0] == 200
        return False

    eventually(ready)
    return object_storage.ObjectStorage(
        url="http://minio:9000", access_key=ACCESS_KEY, secret_key=SECRET_KEY
    )


def get(
    address: str, port: int, path: str, method: str = "GET", body: Any = None
) -> tuple[int, str]:
    """Send a request and return status and body."""
    connection = http.client.HTTPConnection(address, port, timeout=30)
    with contextlib.closing(connection):
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")


class Server:
    """A unit of mlflow-server: its pod, and the charm's plan applied to it."""

    def __init__(self, all_pods: Pods, name: str, image: str = "mlflow") -> None:
        self.pods = all_pods
        self.name = name
        self.container: ops.Container = all_pods.start(name, image)

    def state(
        self,
        db: Database,
        account: database.Database,
        storage: object_storage.ObjectStorage,
        *,
        leader: bool = True,
        workers: int = 1,
        **options: Any,
    ) -> Any:
        """Return what the charm knows; each worker more takes seconds to import MLflow."""
        return state.State(
            identity=state.Identity(
                application=self.name,
                model="t",
                unit=f"{self.name}/0",
                leader=leader,
                address=self.pods.address(self.name),
            ),
            config=config.Config(workers=workers, **options),
            dialect=db.dialect,
            database=account,
            storage=storage,
        )

    def apply(self, found: Any) -> workload.Health:
        return workload.apply(self.container, server.plan(found, programs()))

    def said(self, program: str) -> str:
        """Return the state that ``serve`` or ``migrate`` wrote."""
        path = {"serve": server.SERVE_STATE, "migrate": server.MIGRATE_STATE}[program]
        text = workload.read_text(self.container, path)
        return json.loads(text)["state"] if text else ""

    def status(self, program: str) -> list[str]:
        """Return what the charm makes of it."""
        path = {"serve": server.SERVE_STATE, "migrate": server.MIGRATE_STATE}[program]
        text = workload.read_text(self.container, path)
        return [f"{p.kind.value}: {p.message}" for p in reports.problem(text)]

    def head(self) -> str:
        """Return the revision of the schema that this MLflow needs."""
        script = (
            "import sys; sys.path.append('/opt/mlflow-charm'); import stores;"
            "print(stores.revisions().head)"
        )
        return run(self.container, "python3", "-c", script).strip()

    def wait_for(self, program: str, *states: str, seconds: float = 90) -> None:
        eventually(lambda: self.said(program) in states, seconds, f"{program}: {states}")

    def get(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, str]:
        return get(self.pods.address(self.name), 5000, path, method, body)

    def wait_until_up(self, seconds: float = 90) -> None:
        def answers() -> bool:
            with contextlib.suppress(OSError):
                return self.get("/health")[0] == 200
            return False

        eventually(answers, seconds, "health")


@contextlib.contextmanager
def server_pod(all_pods: Pods, name: str, image: str = "mlflow") -> Iterator[Server]:
    found = Server(all_pods, name, image)
    try:
        yield found
    finally:
        all_pods.remove(name)
