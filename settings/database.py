"""How a program reaches PostgreSQL: as which role, at which address."""

import hashlib
from pathlib import Path
from typing import Final, Literal, TypedDict
from urllib.parse import quote, urlsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from settings.load import Settings

Role = Literal["prefca_issuer", "prefca_ocsp", "prefca_repository"]
DATABASE_NAME = "prefca"
MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un

FAILURES: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.TargetServerAttributeNotMatched,
)
"""What asyncpg raises when a database is away, starting, stopping, overloaded, of the wrong kind, or not set up yet."""

_ISSUER: Final = {
    # A machine that lost its power says no good-bye: after half a minute its locks are free.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
    # A process that hangs keeps no lock for ever; `Store.snapshot`, which may be long, locks nothing and has no limit.
    "idle_in_transaction_session_timeout": "5min",
}


class ConnectArguments(TypedDict, total=False):
    """Keyword arguments of `asyncpg.connect` and `asyncpg.create_pool`."""

    dsn: str
    user: str
    server_settings: dict[str, str]
    target_session_attrs: SessionAttribute


def connect_arguments(settings: Settings, role: Role | Literal["owner"]) -> ConnectArguments:
    """How to connect as `role`.

    A DSN that names a user is used as it is, and the session takes the role with SET ROLE; one that does not connects
    as the role itself (its password, if any, comes from ~/.pgpass). Of several hosts, whoever writes takes the primary.
    """
    application = {"application_name": f"prefca {role.removeprefix('prefca_')}"}
    dsn = settings.database.dsn
    if role == "prefca_issuer":
        application |= _ISSUER
    arguments = ConnectArguments(server_settings=application)
    if dsn is None:
        # With the port, which PGPORT would change otherwise.
        dsn = f"postgresql:///{DATABASE_NAME}?host={quote(bytes(socket_directory(settings.instance)))}&port=5432"
    arguments["dsn"] = dsn
    if not urlsplit(dsn).username:
        arguments["user"] = settings.database.owner if role == "owner" else role
    elif role != "owner":
        application["role"] = role
    if role in {"owner", "prefca_issuer"}:
        arguments["target_session_attrs"] = SessionAttribute.primary
    return arguments


def socket_directory(instance: Path) -> Path:
    """Where the embedded PostgreSQL has its socket: below the instance, or, if that path does not do, below /tmp.

    It does not if it is too long, or has a comma, which divides a list of hosts.
    """
    directory = instance / "database" / "run"
    if len(bytes(directory / ".s.PGSQL.5432")) <= MAX_SOCKET_PATH_BYTES and "," not in str(directory):
        return directory
    name = hashlib.sha256(bytes(instance)).hexdigest()[:16]
    return Path("/tmp") / f"prefca-{name}"  # noqa: S108 - the same for all, whatever their TMPDIR; embedded checks the owner
