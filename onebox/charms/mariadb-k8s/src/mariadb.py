"""What MariaDB needs to run, and the SQL that makes it what the relations ask for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Collection, Mapping

from mlflow_kit import plan as plans

SERVICE = "mariadb"
PORT = 3306

# Rocks run their services as _daemon_ with this id; by number it works on every image.
USER_ID = 584792

STORAGE = "/var/lib/mysql"
# The storage itself belongs to root, so the data directory lies one level below.
DATA = f"{STORAGE}/data"
_RUN = "/run/mariadb-k8s"
SOCKET = f"{_RUN}/mariadbd.sock"
_CONFIG = "/etc/mariadb-k8s"

# NAME_CHAR_LEN in MariaDB's include/mysql_com.h.
_NAME_CHARACTERS = 64
_SYSTEM_DATABASES = frozenset({"information_schema", "mysql", "performance_schema", "sys"})
_SYSTEM_ACCOUNTS = frozenset({"root", "mariadb.sys", "public"})

# The comment of a database that belongs to a relation: in which model, and the relation's id. A
# storage may come from elsewhere, and nothing of others is ever dropped.
_COMMENT = re.compile(r"onebox (?P<model>[0-9a-f-]+) relation (?P<id>[0-9]+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Account:
    """An account that may log in from anywhere.

    Attributes:
        name: of the account.
        database: the one database that it may use; empty for all of them.
        password: what the server keeps in place of the password, see `password_hash`.
    """

    name: str
    database: str
    password: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the relations ask for.

    Attributes:
        model: UUID of the model.
        requests: database and account by relation id, for the endpoint ``database``; both have
            the same name.
        relation_ids: all relations of that endpoint, also those that have not asked yet.
        shared: accounts of the endpoint ``mysql``, and root; empty without a relation.
    """

    model: str
    requests: Mapping[int, Account] = dataclasses.field(default_factory=dict[int, Account])
    relation_ids: Collection[int] = ()
    shared: tuple[Account, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What the server holds.

    Attributes:
        version: for example ``10.11.19-MariaDB-0+deb12u1``.
        databases: comment of each database, by its name.
        accounts: accounts that may log in from anywhere, by name; without the database.
        grants: pairs of database and account.
    """

    version: str
    databases: Mapping[str, str]
    accounts: Mapping[str, str] = dataclasses.field(repr=False)
    grants: frozenset[tuple[str, str]]


def check_database(name: str) -> None:
    """Check the name of a database.

    Raises:
        ValueError: the server could not have a database of that name.
    """
    # Names are not case-sensitive on every file system, and compared so here to be safe.
    if name.lower() in _SYSTEM_DATABASES:
        raise ValueError(f"the database name {name} is reserved")
    _check_characters("a database name", name)


def check_account(name: str) -> None:
    """Check the name of an account.

    Raises:
        ValueError: the server could not have an account of that name, or has it for itself.
    """
    if name.lower() in _SYSTEM_ACCOUNTS:
        raise ValueError(f"the account name {name} is reserved")
    _check_characters("an account name", name)


def _check_characters(what: str, name: str) -> None:
    if not 0 < len(name) <= _NAME_CHARACTERS:
        raise ValueError(f"{what} has 1 to {_NAME_CHARACTERS} characters")
    if name != name.strip() or not name.isprintable() or any(ord(char) > 0xFFFF for char in name):
        raise ValueError(f"{what} has no control characters, emoji, or spaces around it")


def password_hash(password: str) -> str:
    """Return what mysql_native_password keeps of a password.

    The server takes it in place of the password, which so appears in no statement and no log.
    """
    # The algorithm is the server's choice (sql/password.c), not ours.
    inner = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()


def plan() -> plans.Plan:
    """Return the plan of the container."""
    config = f"{_CONFIG}/my.cnf"
    return plans.Plan(
        directories=(
            plans.Directory(path=_RUN, user_id=USER_ID, group_id=USER_ID),
            plans.Directory(path=_CONFIG),
        ),
        files=(
            plans.File(
                path=config,
                content=(
                    "# Written by the charm.\n"
                    "[mariadbd]\n"
                    f"datadir = {DATA}\n"
                    f"socket = {SOCKET}\n"
                    f"pid-file = {_RUN}/mariadbd.pid\n"
                    "bind-address = *\n"
                    f"port = {PORT}\n"
                    "skip-name-resolve\n"
                    "character-set-server = utf8mb4\n"
                    "collation-server = utf8mb4_general_ci\n"
                ),
            ),
        ),
        services=(
            plans.Service(
                name=SERVICE,
                argv=("mariadbd", f"--defaults-file={config}"),
                user_id=USER_ID,
                group_id=USER_ID,
                restart_on=(config,),
                kill_delay=30,
            ),
        ),
        checks=(
            plans.Check(
                name=SERVICE,
                argv=("mariadb-admin", "--no-defaults", f"--socket={SOCKET}", "ping"),
                period=2,
                timeout=2,
            ),
        ),
    )


# What `changes` compares with, as one JSON object.
FIND = """
SELECT JSON_OBJECT(
  'version', VERSION(),
  'databases', (
    SELECT JSON_OBJECTAGG(schema_name, schema_comment)
    FROM information_schema.schemata),
  'accounts', (
    SELECT JSON_OBJECTAGG(user, JSON_VALUE(priv, '$.authentication_string'))
    FROM mysql.global_priv WHERE host = '%'),
  'grants', (
    SELECT JSON_ARRAYAGG(JSON_ARRAY(db, user))
    FROM mysql.db WHERE host = '%'));
"""


def found(answer: str) -> Found:
    """Turn the answer to `FIND` into a value."""
    content = json.loads(answer)
    # The server aggregates no rows to null.
    accounts: dict[str, str] = content["accounts"] or {}
    grants: list[tuple[str, str]] = content["grants"] or []
    return Found(
        version=content["version"],
        databases=content["databases"],
        accounts=accounts,
        grants=frozenset((database, account) for database, account in grants),
    )


def conflicts(held: Found, wanted: Wanted) -> dict[int, str]:
    """Return why a request cannot be met, by relation id.

    A database belongs to one relation, since it is dropped with it.
    """
    result: dict[int, str] = {}
    taken = {name for account in wanted.shared for name in (account.name, account.database)}
    for relation_id, account in sorted(wanted.requests.items()):
        owner = _owner(held, account.database, wanted.model)
        elsewhere = owner is not None and owner != relation_id and owner in wanted.relation_ids
        if account.database in taken or elsewhere:
            result[relation_id] = "is taken by another relation"
        elif account.database in held.databases and owner is None:
            result[relation_id] = "is there already and not of this model"
        else:
            taken.add(account.database)
    return result


def changes(held: Found, wanted: Wanted) -> list[str]:
    """Return the statements that make the server hold what the relations ask for.

    Args:
        held: what the server holds.
        wanted: what shall be there, without the requests that have a conflict.
    """
    owners = {name: _owner(held, name, wanted.model) for name in sorted(held.databases)}
    dropped = [name for name, owner in owners.items() if owner not in {None, *wanted.relation_ids}]
    kept = owners.keys() - dropped
    accounts = [account for _, account in sorted(wanted.requests.items())] + [*wanted.shared]
    # The account of a relation that is there stays, also while its request is unreadable.
    staying = {account.name for account in accounts} | {
        name for name in kept if owners[name] is not None
    }
    comments = {
        account.database: f"onebox {wanted.model} relation {relation_id}"
        for relation_id, account in sorted(wanted.requests.items())
    }
    databases = {account.database for account in accounts if account.database}
    return [
        *(f"DROP DATABASE {identifier(name)};" for name in dropped),
        *(f"DROP USER {identifier(name)}@'%';" for name in sorted(held.accounts.keys() - staying)),
        *(_create_database(name, comments.get(name, "")) for name in sorted(databases - kept)),
        *(_grant(account) for account in accounts if not _has(held, account)),
    ]


def _owner(held: Found, database: str, model: str) -> int | None:
    """Return the id of the relation of this model that a database belongs to."""
    comment = _COMMENT.fullmatch(held.databases.get(database, ""))
    return int(comment["id"]) if comment and comment["model"] == model else None


def _has(held: Found, account: Account) -> bool:
    """Whether the server has an account with its password and its rights."""
    granted = not account.database or (pattern(account.database), account.name) in held.grants
    return granted and held.accounts.get(account.name) == account.password


def identifier(name: str) -> str:
    """Return a name as SQL takes it whatever its characters are."""
    return "`" + name.replace("`", "``") + "`"


def pattern(database: str) -> str:
    r"""Return the name of a database as GRANT takes it, in which ``_`` and ``%`` are wildcards."""
    return re.sub(r"([_%\\])", r"\\\1", database)


def _create_database(database: str, comment: str) -> str:
    return f"CREATE DATABASE {identifier(database)} CHARACTER SET utf8mb4 COMMENT '{comment}';"


def _grant(account: Account) -> str:
    """Make an account, or give it its password and rights, in one statement."""
    where = f"{identifier(pattern(account.database))}.*" if account.database else "*.*"
    options = "" if account.database else " WITH GRANT OPTION"
    return (
        f"GRANT ALL PRIVILEGES ON {where} TO {identifier(account.name)}@'%' "
        f"IDENTIFIED VIA mysql_native_password USING '{account.password}'{options};"
    )
