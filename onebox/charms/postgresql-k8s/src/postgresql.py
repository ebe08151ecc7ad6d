"""What PostgreSQL needs to run, and the SQL that makes it what the relations ask for."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import urllib.parse
from collections.abc import Collection, Mapping, Sequence

from mlflow_kit import plan as plans

SERVICE = "postgresql"
PORT = 5432

# Rocks run their services as _daemon_ with this id.
USER_ID = 584792

STORAGE = "/var/lib/postgresql/data"
# The storage itself belongs to root, so the data directory lies one level below.
DATA = f"{STORAGE}/pgdata"
SOCKETS = "/run/postgresql"
_CONFIG = "/etc/postgresql/onebox"
_LAUNCHER = f"{_CONFIG}/fast-shutdown.sh"

# The server's own limits: NAMEDATALEN is 64 with the closing zero.
_NAME_BYTES = 63
# CREATE ROLE refuses these words and this prefix; the others are taken.
_RESERVED_NAMES = frozenset({"public", "none", "postgres", "template0", "template1"})
_RESERVED_PREFIXES = ("pg_", "relation_id_")

# RFC 5802 and src/common/scram-common.h.
_SCRAM_ITERATIONS = 4096
_SCRAM_SALT_BYTES = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Account:
    """The account of one relation.

    Attributes:
        name: of the role.
        database: the one database that it may use.
        verifier: what the server keeps in place of the password, see `verifier`.
    """

    name: str
    database: str
    verifier: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What the server holds.

    Attributes:
        version: for example ``15.18``.
        roles: names of all roles.
        databases: names of all databases; the value says whether every role may connect.
        accounts: accounts of relations, by name.
    """

    version: str
    roles: frozenset[str]
    databases: Mapping[str, bool]
    accounts: Mapping[str, Account]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """SQL to run as the superuser.

    Attributes:
        database: where to run it.
        sql: one or more statements; without passwords.
    """

    database: str
    sql: str


def account_name(relation_id: int) -> str:
    """Return the name of a relation's role, as postgresql-k8s forms it."""
    return f"relation_id_{relation_id}"


def check_name(name: str) -> None:
    """Check the name of a database.

    Raises:
        ValueError: the server could not have a database, and a role, of that name.
    """
    if len(name.encode()) > _NAME_BYTES:
        raise ValueError(f"a database name has at most {_NAME_BYTES} bytes")
    if name.lower() in _RESERVED_NAMES or name.lower().startswith(_RESERVED_PREFIXES):
        raise ValueError(f"the database name {name} is reserved")


def verifier(account: str, password: str) -> str:
    """Return the SCRAM-SHA-256 verifier of a password, in the form of ``pg_authid``.

    The server takes it in place of the password, which so appears in no statement and no log.
    The salt follows from both texts: the passwords are long and random, so that it protects
    nothing here, and the same password always gives the same verifier, which tells whether the
    server still has it.
    """
    salt = hashlib.sha256(f"{account}:{password}".encode()).digest()[:_SCRAM_SALT_BYTES]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{parts[0]}${parts[1]}:{parts[2]}"


def uri(account: Account, password: str, endpoint: str) -> str:
    """Return the connection URI of an account."""
    login = f"{account.name}:{urllib.parse.quote(password, safe='')}"
    return f"postgresql://{login}@{endpoint}/{urllib.parse.quote(account.database, safe='')}"


def plan(programs: str, launcher: str, *, max_connections: int) -> plans.Plan:
    """Return the plan of the container.

    Args:
        programs: the folder that holds ``postgres``.
        launcher: content of workload/fast-shutdown.sh.
        max_connections: how many clients may be connected at a time.
    """
    config = f"{_CONFIG}/postgresql.conf"
    hba = f"{_CONFIG}/pg_hba.conf"
    ident = f"{_CONFIG}/pg_ident.conf"
    return plans.Plan(
        directories=(
            plans.Directory(path=SOCKETS, user_id=USER_ID, group_id=USER_ID),
            plans.Directory(path=_CONFIG),
        ),
        files=(
            plans.File(
                path=config,
                content=(
                    "# Written by the charm.\n"
                    "listen_addresses = '*'\n"
                    f"port = {PORT}\n"
                    f"max_connections = {max_connections}\n"
                    f"unix_socket_directories = '{SOCKETS}'\n"
                    f"hba_file = '{hba}'\n"
                    f"ident_file = '{ident}'\n"
                    "password_encryption = 'scram-sha-256'\n"
                    "timezone = 'UTC'\n"
                    "log_timezone = 'UTC'\n"
                ),
            ),
            plans.File(
                path=hba,
                content=(
                    "# Written by the charm, which comes in as root over the socket.\n"
                    "local all postgres peer map=charm\n"
                    "host all all 0.0.0.0/0 scram-sha-256\n"
                    "host all all ::/0 scram-sha-256\n"
                ),
            ),
            plans.File(path=ident, content="# Written by the charm.\ncharm root postgres\n"),
            plans.File(path=_LAUNCHER, content=launcher, mode=0o755),
        ),
        services=(
            plans.Service(
                name=SERVICE,
                argv=(
                    _LAUNCHER,
                    f"{programs}/postgres",
                    "-D",
                    DATA,
                    "-c",
                    f"config_file={config}",
                ),
                user_id=USER_ID,
                group_id=USER_ID,
                restart_on=(config, _LAUNCHER),
                reload_on=(hba, ident),
                kill_delay=30,
            ),
        ),
        checks=(
            plans.Check(
                name=SERVICE,
                argv=(f"{programs}/pg_isready", "-q", "-h", SOCKETS, "-p", str(PORT)),
                period=2,
                timeout=2,
            ),
        ),
    )


# What `changes` compares with, as one JSON object. An account belongs to the database whose
# owner it acts as, which is what its setting "role" says.
FIND = r"""
SELECT json_build_object(
  'version', current_setting('server_version'),
  'roles', (SELECT json_agg(rolname) FROM pg_roles),
  'databases', (
    SELECT json_object_agg(datname, has_database_privilege('public', oid, 'CONNECT'))
    FROM pg_database WHERE NOT datistemplate),
  'accounts', (
    SELECT coalesce(json_agg(json_build_object(
      'name', role.rolname, 'verifier', role.rolpassword, 'database', database.datname)), '[]')
    FROM pg_authid role
    LEFT JOIN pg_db_role_setting setting ON setting.setrole = role.oid
    LEFT JOIN pg_database database ON database.oid = setting.setdatabase
    WHERE role.rolname ~ '^relation_id_[0-9]+$'));
"""

_END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :'account';"
)


def found(answer: str) -> Found:
    """Turn the answer to `FIND` into a value."""
    content = json.loads(answer)
    return Found(
        # The distribution follows, as in "15.18 (Debian 15.18-0+deb12u1)".
        version=content["version"].split()[0],
        roles=frozenset(content["roles"]),
        databases=content["databases"],
        accounts={
            account["name"]: Account(
                name=account["name"],
                database=account["database"] or "",
                verifier=account["verifier"] or "",
            )
            for account in content["accounts"]
        },
    )


def changes(
    held: Found, wanted: Sequence[Account], *, relation_ids: Collection[int]
) -> list[Change]:
    """Return what makes the server hold the accounts and databases that are wanted.

    Each database belongs to a role of its own name that nobody can log in as. An account acts
    as that role, so what it creates stays when the account goes, and the next account of the
    database can use it.

    Args:
        held: what the server holds.
        wanted: the accounts of the relations that have asked.
        relation_ids: all relations; the account of any other is removed, its database stays.
    """
    result: list[Change] = []
    present = {account_name(relation_id) for relation_id in relation_ids}
    databases = {account.name: account.database for account in wanted}
    dropped: set[str] = set()
    for name, account in sorted(held.accounts.items()):
        if name not in present or databases.get(name, account.database) != account.database:
            result.extend(_drop_account(account))
            dropped.add(name)
    for database in sorted(set(databases.values())):
        result.extend(_create_database(held, database))
    for account in sorted(wanted, key=lambda account: account.name):
        old = None if account.name in dropped else held.accounts.get(account.name)
        if old is None:
            result.append(_create_account(account))
        elif old.verifier != account.verifier:
            password = f"PASSWORD {literal(account.verifier)}"
            result.append(_change(f"ALTER ROLE {identifier(account.name)} {password};"))
    return result


def identifier(name: str) -> str:
    """Return a name as SQL takes it whatever its characters are."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL string; ``standard_conforming_strings`` is on by default."""
    return "'" + text.replace("'", "''") + "'"


def _change(*statements: str, database: str = "postgres") -> Change:
    return Change(database=database, sql="\n".join(statements))


def _drop_account(account: Account) -> list[Change]:
    name = identifier(account.name)
    result = [
        _change(
            f"ALTER ROLE {name} NOLOGIN;",
            f"\\set account {account.name}",
            _END_SESSIONS,
        )
    ]
    if account.database:
        # What it made while it did not act as the owner would keep the role from going.
        result.append(
            _change(
                f"REASSIGN OWNED BY {name} TO {identifier(account.database)};",
                f"DROP OWNED BY {name};",
                database=account.database,
            )
        )
    return [*result, _change(f"DROP ROLE {name};")]


def _create_database(held: Found, database: str) -> list[Change]:
    name = identifier(database)
    statements: list[str] = []
    if database not in held.roles:
        statements.append(f"CREATE ROLE {name} NOLOGIN;")
    if database not in held.databases:
        statements.append(f"CREATE DATABASE {name} OWNER {name};")
    if held.databases.get(database, True):
        statements.append(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;")
    return [_change(*statements)] if statements else []


def _create_account(account: Account) -> Change:
    name = identifier(account.name)
    owner = identifier(account.database)
    return _change(
        "BEGIN;",
        f"CREATE ROLE {name} LOGIN PASSWORD {literal(account.verifier)} IN ROLE {owner};",
        f"ALTER ROLE {name} IN DATABASE {owner} SET role TO {literal(account.database)};",
        "COMMIT;",
    )
