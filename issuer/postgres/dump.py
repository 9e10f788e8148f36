"""pg_dump and pg_restore, of the server's own version: of another one, one of them may not read what the other wrote.

A password goes to them by the environment, which nobody else can read; their arguments are everybody's.
"""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from issuer.errors import NotNowError, RefusedError
from issuer.postgres import cluster
from settings.database import connect_arguments
from settings.load import Settings

DEBIAN: Final = Path("/usr/lib/postgresql")
TIMEOUT_S: Final = 6 * 3600.0


async def dump(settings: Settings, file: Path, snapshot: str, server_major: int) -> None:
    """Write everything that is in the database, as of a snapshot, which somebody holds meanwhile.

    Raises:
        NotNowError: it failed, or there is no pg_dump.
    """
    await _run(
        settings,
        server_major,
        *("pg_dump", "--format=custom", "--compress=1", "--no-owner"),
        *(f"--snapshot={snapshot}", f"--file={file}"),
    )


async def load(settings: Settings, file: Path, server_major: int) -> None:
    """Put all of it into an empty database, in one transaction.

    Raises:
        NotNowError: it failed; the database is as it was.
    """
    options = ("--single-transaction", "--exit-on-error", "--no-owner")
    await _run(settings, server_major, "pg_restore", *options, str(file))


async def _run(settings: Settings, server_major: int, program: str, *arguments: str) -> None:
    arguments_of_owner = connect_arguments(settings, "owner")
    dsn, password = without_password(arguments_of_owner["dsn"])
    environment = {**os.environ, "PGTARGETSESSIONATTRS": "primary", "PGAPPNAME": "prefca backup"}
    if "user" in arguments_of_owner:
        environment["PGUSER"] = arguments_of_owner["user"]
    if password is not None:
        environment["PGPASSWORD"] = password
    tool = programs(server_major) / program
    process = await asyncio.create_subprocess_exec(
        tool,
        *(f"--dbname={dsn}", "--no-password", *arguments),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, said = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise NotNowError(f"{program} failed: {lines[0]}; mend that and run it again")


def programs(server_major: int) -> Path:
    """The directory of PostgreSQL's programs that fit a server.

    Raises:
        NotNowError: there are none.
    """
    wheel, own = cluster.wheel_programs(), DEBIAN / str(server_major) / "bin"
    if wheel is not None and server_major == cluster.WHEEL_MAJOR:
        return wheel
    if (own / "pg_dump").exists():
        return own
    found = shutil.which("pg_dump")
    if found is None:
        raise NotNowError(
            f"there is no pg_dump for PostgreSQL {server_major}; install postgresql-client-{server_major}"
        )
    return Path(found).parent


def without_password(dsn: str) -> tuple[str, str | None]:
    """A DSN without its password, and that.

    Raises:
        RefusedError: the password is where it cannot be taken out.
    """
    parts = urlsplit(dsn)
    if "password=" in parts.query:
        raise RefusedError("`database.dsn` has its password in the query; put it in ~/.pgpass")
    if parts.password is None:
        return dsn, None
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}@{host}"
    return urlunsplit(parts._replace(netloc=netloc)), unquote(parts.password)
