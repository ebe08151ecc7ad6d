"""What runs in the container `mlflow`; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from mlflow_kit import plan as plans
from mlflow_kit import uris
from state import PORT, State

CONTAINER = "mlflow"
SERVICE = "mlflow"
MIGRATE = "migrate"

USER = 584792
"""User and group of the server, by number: the one that rocks call ``_daemon_``."""

PROGRAMS = (
    "application.py",
    "collector.py",
    "migrate.py",
    "orphans.py",
    "pebble_notify.py",
    "s3_credentials.py",
    "serve.py",
    "stores.py",
)
"""Programs that the charm brings along; `plan` wants their texts by these names."""

_BIN = "/opt/mlflow-charm"
_ETC = "/etc/mlflow-charm"
_SECRETS = f"{_ETC}/secrets"
_HOME = "/var/lib/mlflow-charm"
_SCRATCH = f"{_HOME}/scratch"
_RUN = "/run/mlflow-charm"

_SERVER = f"{_ETC}/server.json"
_STORES = f"{_ETC}/stores.json"
_AWS = f"{_ETC}/aws-config"
_CA = f"{_ETC}/database-ca.pem"
_PASSFILE = f"{_SECRETS}/pgpass"
_MY_CNF = f"{_SECRETS}/my.cnf"
_S3_KEYS = f"{_SECRETS}/s3.json"

SERVE_STATE = f"{_RUN}/serve.json"
MIGRATE_STATE = f"{_RUN}/migrate.json"

THRESHOLD = 8
"""Failed checks, 2 s apart, until the server counts as down: more than a slow start takes."""

_KILL_DELAY = 30
_GRACE = 25
"""Seconds for requests under way when the server stops; just less than Pebble waits."""

# MLflow takes a second connection while it holds the first, so with fewer than the 40 threads
# of a worker plus one, writers wait for each other for ever.
_POOL = 20
_OVERFLOW = 21

_ENVIRONMENT = {
    "HOME": _HOME,
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # MLflow imports NumPy and computes nothing; more threads of its would spin while they wait.
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
    "TMPDIR": _SCRATCH,
}


def plan(state: State, programs: Mapping[str, str]) -> plans.Plan:
    """Return what shall run.

    Args:
        state: the inputs.
        programs: the texts of `PROGRAMS`.
    """
    services = [
        plans.Service(
            name=SERVICE,
            argv=("python3", f"{_BIN}/serve.py", _SERVER, _STORES, SERVE_STATE),
            environment=_ENVIRONMENT,
            working_dir=_HOME,
            user_id=USER,
            group_id=USER,
            restart_on=(_SERVER, _STORES),
            kill_delay=_KILL_DELAY,
        )
    ]
    if state.identity.leader:
        migrate = plans.Service(
            name=MIGRATE,
            argv=("python3", f"{_BIN}/migrate.py", _STORES, MIGRATE_STATE),
            environment=_ENVIRONMENT,
            working_dir=_HOME,
            user_id=USER,
            group_id=USER,
            restart_on=(_STORES,),
            one_shot=True,
        )
        services.insert(0, migrate)
    return plans.Plan(
        services=tuple(services),
        directories=_directories(),
        files=(*_program_files(programs), *_store_files(state), _server_file(state)),
        checks=(
            plans.Check(
                name=SERVICE,
                url=f"http://{_loopback(state)}:{PORT}/health",
                period=2,
                threshold=THRESHOLD,
            ),
        ),
    )


def stopped() -> plans.Plan:
    """Return the plan in which nothing runs and no credentials lie about."""
    return plans.Plan(directories=_directories())


def _directories() -> tuple[plans.Directory, ...]:
    return (
        plans.Directory(path=_BIN),
        plans.Directory(path=_ETC, purge=True),
        plans.Directory(path=_SECRETS, mode=0o700, user_id=USER, group_id=USER, purge=True),
        plans.Directory(path=_HOME, mode=0o700, user_id=USER, group_id=USER),
        plans.Directory(path=_SCRATCH, mode=0o700, user_id=USER, group_id=USER),
        plans.Directory(path=_RUN, user_id=USER, group_id=USER),
    )


def _program_files(programs: Mapping[str, str]) -> tuple[plans.File, ...]:
    return tuple(plans.File(path=f"{_BIN}/{name}", content=programs[name]) for name in PROGRAMS)


def _secret_file(path: str, content: str) -> plans.File:
    return plans.File(path=path, content=content, mode=0o600, user_id=USER, group_id=USER)


def _store_files(state: State) -> list[plans.File]:
    """Return the files that lead to both stores; the passwords are in files of their own."""
    postgresql = state.dialect == "postgresql"
    uri, connect = _postgresql(state) if postgresql else _mysql(state)
    stores = {
        "dialect": state.dialect,
        "uri": uri,
        "connect": connect,
        "bucket": state.config.bucket,
        "endpoint": state.storage.url,
        "environment": {
            "AWS_CONFIG_FILE": _AWS,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            # boto3's new checksums are unknown to Ceph and to older MinIO.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
            "MLFLOW_S3_ENDPOINT_URL": state.storage.url,
        },
    }
    credentials = f"python3 {_BIN}/s3_credentials.py {_S3_KEYS}"
    keys = {
        "AccessKeyId": state.storage.access_key,
        "SecretAccessKey": state.storage.secret_key,
    }
    files = [
        plans.File(path=_STORES, content=_json(stores)),
        plans.File(path=_AWS, content=f"[default]\ncredential_process = {credentials}\n"),
        _secret_file(_S3_KEYS, _json(keys)),
        _secret_file(_PASSFILE, passfile(state.database.password))
        if postgresql
        else _secret_file(_MY_CNF, my_cnf(state)),
    ]
    if state.database.tls_ca:
        files.append(plans.File(path=_CA, content=state.database.tls_ca))
    return files


def _postgresql(state: State) -> tuple[str, dict[str, object]]:
    """Return MLflow's URL and psycopg2's parameters; libpq's names for both."""
    database = state.database
    query = {
        "host": ",".join(endpoint.host for endpoint in database.endpoints),
        "port": ",".join(str(endpoint.port) for endpoint in database.endpoints),
        "user": database.username,
        "dbname": database.name,
        # Read at each connection, so that a new password needs no restart.
        "passfile": _PASSFILE,
    }
    if len(database.endpoints) > 1:
        query["target_session_attrs"] = "read-write"
    if database.tls_ca:
        # Not verify-full: postgresql-k8s' certificates may be for other names than its Service.
        query |= {"sslmode": "verify-ca", "sslrootcert": _CA}
    elif database.tls:
        query["sslmode"] = "require"
    uri = uris.sqlalchemy("postgresql+psycopg2", {**query, "connect_timeout": "10"})
    return uri, dict(query)


def _mysql(state: State) -> tuple[str, dict[str, object]]:
    """Return MLflow's URL and PyMySQL's parameters; host, user and password are in `my_cnf`."""
    query = {"read_default_file": _MY_CNF, "charset": "utf8mb4"}
    tls: dict[str, object] = {}
    uri_tls: dict[str, str] = {}
    if state.database.tls_ca:
        tls["ca"] = uri_tls["ssl_ca"] = _CA
    if state.database.tls_ca or state.database.tls:
        tls["check_hostname"] = False
        uri_tls["ssl_check_hostname"] = "false"
    uri = uris.sqlalchemy("mysql+pymysql", {**query, **uri_tls, "connect_timeout": "10"})
    return uri, {**query, **({"ssl": tls} if tls else {})}


def passfile(password: str) -> str:
    r"""Return libpq's password file with one entry that fits every connection.

    A colon or backslash in it is escaped by a backslash (PostgreSQL's documentation, "The
    Password File").
    """
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n"


def my_cnf(state: State) -> str:
    """Return an option file for PyMySQL, which takes one pair of quotes off and unescapes nothing.

    Source: pymysql.optionfile, on top of Python's RawConfigParser.
    """
    database = state.database
    endpoint = database.endpoints[0]
    values = {
        "host": endpoint.host,
        "port": str(endpoint.port),
        "user": database.username,
        "password": database.password,
        "database": database.name,
    }
    lines = [f'{key}="{value}"' for key, value in values.items()]
    return "\n".join(["[client]", *lines, ""])


def _server_file(state: State) -> plans.File:
    uri = _postgresql(state)[0] if state.dialect == "postgresql" else _mysql(state)[0]
    environment = {
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
        "MLFLOW_ENABLE_REMOTE_ASSISTANT": "false",
        "MLFLOW_LOGGING_LEVEL": state.config.log_level.upper(),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(_allowed_hosts(state)),
        # The job runner costs 750 MB and has had more than its share of vulnerabilities.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_JOB_ENABLE_PERIODIC_TASKS": "false",
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": str(_OVERFLOW),
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(_POOL),
        # uvicorn kills a worker that does not answer for 5 s, which MLflow's imports on a busy
        # machine can take.
        "UVICORN_TIMEOUT_WORKER_HEALTHCHECK": "60",
        # What `mlflow server` gives its workers (mlflow.server.constants).
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"s3://{state.config.bucket}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_FILE_STORE": uri,
        "_MLFLOW_SERVER_REGISTRY_STORE": uri,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    origins = _origins(state)
    if origins:
        environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(origins)
    arguments = [
        "--host",
        "::" if ":" in state.identity.address else "0.0.0.0",
        "--port",
        str(PORT),
        "--workers",
        str(state.config.workers),
        "--log-level",
        state.config.log_level,
        "--timeout-graceful-shutdown",
        str(_GRACE),
        "--no-server-header",
    ]
    if state.config.log_level != "debug":
        arguments.append("--no-access-log")
    return plans.File(
        path=_SERVER, content=_json({"environment": environment, "uvicorn": arguments})
    )


def _allowed_hosts(state: State) -> tuple[str, ...]:
    """Return the patterns for all names under which clients may ask for the server."""
    identity = state.identity
    hosts = [
        identity.application,
        f"{identity.application}.{identity.model}",
        f"{identity.application}.{identity.model}.svc",
        uris.service_host(identity.application, identity.model),
        # Ingresses that balance over units ask for a unit by name or address.
        uris.unit_host(identity.unit, identity.model),
        *([identity.address] if identity.address else []),
        "localhost",
        "127.0.0.1",
        *(host for url in _public_urls(state) if (host := uris.parse_web(url).hostname)),
        *(host.lower() for host in state.config.hosts),
    ]
    return uris.allowed_hosts(hosts)


def _origins(state: State) -> list[str]:
    """Return where pages of MLflow's may come from, as browsers say it."""
    return sorted({uris.origin(url) for url in _public_urls(state)})


def _public_urls(state: State) -> list[str]:
    proxied = state.proxied
    urls = [state.ingress_url, state.config.external_url]
    if proxied is not None:
        urls += [proxied.url, proxied.external_url]
    return sorted({url for url in urls if url})


def _loopback(state: State) -> str:
    return "[::1]" if ":" in state.identity.address else "127.0.0.1"


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
