"""Nonsense, in quantity: the server answers or closes, and stays as it was."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.database import Database
from tests.support.mutation import mutations
from tests.support.repository import (
    OBJECTS,
    RepositoryProcess,
    add_authority,
    publish,
    read_answers,
    running,
    search_request,
)
from tests.support.running import eventually

BATCH = 1500
MEGABYTE = 1_000_000
TIMEOUT_S = 10


@pytest.fixture
async def published_tree(database: Database) -> None:
    """Something to ask for."""
    async with database.connect("prefca_issuer") as issuer:
        await publish(issuer, await add_authority(issuer), OBJECTS)


@pytest.fixture
def server(published_tree: None, database: Database, tmp_path: Path) -> Iterator[RepositoryProcess]:
    """A server that keeps few ready answers, so that memory tells of other things."""
    with running(tmp_path, database.dsn, cache_mib=1) as process:
        process.event("snapshot_loaded")
        yield process


def answered(port: int, octets: bytes) -> bytes:
    """All that the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(octets)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while part := connection.recv(65_536):
                received += part
        except ConnectionResetError:  # it closed with something unread
            pass
        return received


def descriptors(server: RepositoryProcess) -> int:
    """How many the server has open."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def memory_bytes(server: RepositoryProcess) -> int:
    """Resident set of the server."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_nonsense_is_answered_or_ends_the_connection_and_leaves_no_trace(server: RepositoryProcess) -> None:
    """No hang, no traceback, no memory and no descriptor that stays; whatever comes back is well-formed."""
    port = server.port("ldap")
    for octets in mutations(seed=1, number=BATCH):
        answered(port, octets)
    memory, open_before = memory_bytes(server), descriptors(server)
    notices = 0
    for octets in mutations(seed=2, number=BATCH):
        answers = read_answers(answered(port, octets))
        notices += any(answer.message_id == 0 for answer in answers)
    assert notices > BATCH / 10
    eventually(lambda: descriptors(server) <= open_before, "all connections are closed")
    assert memory_bytes(server) - memory < 8 * MEGABYTE
    with server.connect() as client:
        assert client.ask(search_request())[-1].code == 0
    assert {event["level"] for event in server.events()} == {"info"}
    assert "Traceback" not in server.log()
