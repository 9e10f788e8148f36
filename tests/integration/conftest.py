"""What several tests begin with: servers, and every PostgreSQL that is supported."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from issuer.installation import account
from tests.support import ocsp_program
from tests.support.database import Database, installed_server, reachable_directory
from tests.support.ocsp import Records
from tests.support.repository import OBJECTS, RepositoryProcess, add_authority, publish, running

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[:1]  # 15 with Debian 12, the oldest that is supported


@pytest.fixture(scope="module", params=["embedded", "debian"])
def supported_postgres(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The instance directory of a running PostgreSQL: the newest and the oldest that is supported."""
    if request.param == "embedded":
        yield request.getfixturevalue("postgres_instance")
    elif not DEBIAN:
        pytest.skip("needs the package postgresql")
    else:
        with reachable_directory() as instance, installed_server(instance, DEBIAN[0]):
            yield instance


@pytest.fixture
def auditor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests is the internal auditor."""
    monkeypatch.setenv("PREFCA_JOURNAL__AUDITOR", account())


@pytest.fixture
def ocsp_instance(tmp_path: Path) -> Path:
    """An instance directory with the key of one delegate."""
    ocsp_program.set_up(tmp_path)
    return tmp_path


@pytest.fixture
async def ocsp_records(database: Database) -> AsyncIterator[Records]:
    """A CA with that delegate, and a certificate; the tests are a relying party."""
    async with database.connect("owner") as connection:
        records = Records(connection)
        await ocsp_program.fill(records)
        yield records


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The issuer, who writes what the directory shows."""
    async with database.connect("prefca_issuer") as connection:
        yield connection


@pytest.fixture
async def authority(writer: asyncpg.Connection) -> int:
    """A CA with a publication."""
    made = await add_authority(writer)
    await publish(writer, made, OBJECTS)
    return made


@pytest.fixture
def server(authority: int, database: Database, tmp_path: Path) -> Iterator[RepositoryProcess]:
    """A directory server that has loaded it."""
    with running(tmp_path, database.dsn) as process:
        process.event("snapshot_loaded")
        yield process
