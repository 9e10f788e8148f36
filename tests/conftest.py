"""Fixtures that several kinds of tests share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.database import Database, embedded_server, fresh_database, reachable_directory

pytest_plugins = ["tests.requirements", "tests.support.ca", "tests.support.command", "tests.support.softhsm"]


@pytest.fixture(scope="session")
def postgres_instance() -> Iterator[Path]:
    """The instance directory of the one PostgreSQL of this run."""
    with reachable_directory() as instance, embedded_server(instance):
        yield instance


@pytest.fixture
async def database(postgres_instance: Path) -> AsyncIterator[Database]:
    """A database with the whole schema and no rows, for this test alone."""
    async with fresh_database(postgres_instance) as database:
        yield database
