"""How connections of `prefca-repository` begin and end."""

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import asyncpg
import pytest
from ldaptor.protocols import pureldap

from repository.framing import MessageFramer
from repository.snapshot import START_TLS
from repository.transport import READ_BYTES
from tests.support.database import Database
from tests.support.repository import (
    CA,
    LIST,
    RepositoryProcess,
    bind_request,
    message,
    publish,
    published,
    read_answers,
    running,
    search_request,
)
from tests.support.running import eventually

UNBIND = pureldap.LDAPUnbindRequest()
LARGE = bytes(1_000_000)


def results(connection: socket.socket) -> Iterator[int]:
    """The message IDs of results as they come, until the server closes the connection."""
    framer = MessageFramer(len(LARGE) * 2)
    while part := connection.recv(1 << 20):
        framer.receive(part)
        while (one := framer.next_message()) is not None:
            yield from [each.message_id for each in read_answers(one) if len(one) < len(LARGE) and each.is_result]


def all_answers(connection: socket.socket) -> list[int]:
    """The message IDs of all results until the server closes the connection."""
    return list(results(connection))


def descriptors(server: RepositoryProcess) -> int:
    """How many the server has open."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.fixture
def connection(server: RepositoryProcess) -> Iterator[socket.socket]:
    """A bare connection."""
    with socket.create_connection(("127.0.0.1", server.port("ldap")), timeout=20) as made:
        yield made


REQUESTS = {
    "one": [message(search_request(CA), 1)],
    "repeated": [message(search_request(CA), number) for number in range(1, 201)],
    "different": [message(search_request(CA, 0, None, f"description;x-{number}"), number) for number in range(1, 101)],
    "more than is read at a time": [message(search_request(CA), number) for number in range(1, 2001)],
    "bind-first": [message(bind_request(), 1), message(search_request(CA), 2)],
}


@pytest.mark.parametrize("requests", REQUESTS.values(), ids=REQUESTS)
def test_who_sends_nothing_more_is_still_answered(connection: socket.socket, requests: list[bytes]) -> None:
    """A client may shut down its side as soon as it has asked everything."""
    connection.sendall(b"".join(requests))
    connection.shutdown(socket.SHUT_WR)
    assert all_answers(connection) == list(range(1, len(requests) + 1))


@pytest.mark.parametrize("spare", range(-1, 2))
def test_nothing_is_left_behind_whatever_the_size_of_a_segment(connection: socket.socket, spare: int) -> None:
    """Around what is read at a time, with nothing behind it, and with the end of the stream some time later."""
    one, shortest = message(search_request(CA), 1), message(search_request(CA, 0, None, ""), 2)
    count = READ_BYTES // len(one)
    filling = READ_BYTES + spare - (count - 1) * len(one) - len(shortest)
    segment = one * (count - 1) + message(search_request(CA, 0, None, "x" * filling), 2)
    assert len(segment) == READ_BYTES + spare
    connection.sendall(segment)
    connection.sendall(one)
    assert len(list(islice(results(connection), count + 1))) == count + 1
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1) == b""


async def test_who_sends_nothing_more_and_reads_late_gets_everything(
    server: RepositoryProcess, writer: asyncpg.Connection, authority: int, connection: socket.socket
) -> None:
    """Also requests that had to wait because too many answers were waiting to be sent."""
    await publish(writer, authority, [published(CA, LIST, LARGE)])
    server.event("snapshot_loaded", 2)
    connection.sendall(b"".join(message(search_request(CA), number) for number in range(1, 41)))
    connection.shutdown(socket.SHUT_WR)
    await asyncio.sleep(0.5)
    assert all_answers(connection) == list(range(1, 41))


TIMES = pytest.mark.parametrize("times", [1, 3], ids=["first", "again"])


@TIMES
@pytest.mark.req("R-4-11-2-1")
def test_each_anonymous_bind_is_answered_and_recorded(server: RepositoryProcess, times: int) -> None:
    """Whether it is the first of its kind or one whose answer is ready, and whatever follows it."""
    answers = []
    for number in range(times):
        with server.connect() as client:
            client.send(message(bind_request(), 7))
            answers.append(str(client.receive()))
            assert client.ask(search_request(CA), 8)[-1].code == 0
            client.send(message(UNBIND, 9))
            assert client.receive() is None
        assert len(server.records()) == (number + 1) * 3
    assert len(set(answers)) == 1
    binds = [{**each, "at": ""} for each in server.records() if each["kind"] == "ldap_bind"]
    assert binds == [binds[0]] * times
    assert (binds[0]["result"], binds[0]["party"], binds[0]["origin"]) == ("success", None, "127.0.0.1")


@TIMES
def test_what_is_sent_with_the_unbind_is_answered_before_it(server: RepositoryProcess, times: int) -> None:
    """Bind, search and unbind in one segment; what comes behind the unbind is nobody's business."""
    asked = [bind_request(), search_request(CA), UNBIND, search_request(CA)]
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", server.port("ldap")), timeout=20) as connection:
            connection.sendall(b"".join(message(each, number) for number, each in enumerate(asked, 1)))
            assert all_answers(connection) == [1, 2]


def test_tls_begins_behind_many_answers(server: RepositoryProcess) -> None:
    """More than may wait at a time: the server stops reading, and goes on in TLS."""
    asked = [message(search_request(CA, 0, None, f"x-{number}"), number) for number in range(1, 61)]
    with server.connect() as client:
        client.send(b"".join(asked) + message(pureldap.LDAPExtendedRequest(START_TLS), 61))
        answers = [client.receive() for _ in range(121)]
        assert [each.message_id for each in answers if each is not None and each.is_result] == list(range(1, 62))
        client.encrypt()
        assert client.ask(search_request(CA), 62)[-1].code == 0
    assert {event["level"] for event in server.events()} == {"info"}


@TIMES
async def test_answers_of_all_sizes_come_in_the_order_of_their_requests(
    server: RepositoryProcess, writer: asyncpg.Connection, authority: int, times: int
) -> None:
    """In one segment, whether they are ready or not."""
    await publish(writer, authority, [published(CA, LIST, LARGE)])
    server.event("snapshot_loaded", 2)
    kinds = [search_request(), search_request(CA), search_request(CA, 0, None, "ou"), search_request("C=FR")]
    asked = [message(kinds[number % 4], number) for number in range(1, 21)]
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", server.port("ldap")), timeout=20) as connection:
            connection.sendall(b"".join(asked))
            connection.shutdown(socket.SHUT_WR)
            assert all_answers(connection) == list(range(1, 21))


def test_a_server_without_descriptors_accepts_again_when_there_are_some(server: RepositoryProcess) -> None:
    """It says so, serves who is there, and does not spin meanwhile."""
    pid = server.process.pid
    _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with server.connect() as client, ExitStack() as stack:
        assert client.ask(search_request(CA))[-1].code == 0
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(server), most))
        waiting = stack.enter_context(server.connect())
        assert server.event("accept_failed")["level"] == "error"
        assert client.ask(search_request(CA))[-1].code == 0
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        assert waiting.ask(search_request(CA))[-1].code == 0


async def test_a_slow_reader_is_not_idle(
    authority: int, writer: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    """As long as it takes a little of its answer now and then; when it takes nothing more, it is let go."""
    await publish(writer, authority, [published(CA, LIST, LARGE)])
    with running(tmp_path, database.dsn, idle_timeout_s=1) as server, socket.socket() as slow:
        server.event("snapshot_loaded")
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(20)
        slow.connect(("127.0.0.1", server.port("ldap")))
        slow.sendall(message(search_request(CA)))
        for _ in range(12):
            assert slow.recv(4096)
            await asyncio.sleep(0.3)
        before = descriptors(server)
        eventually(lambda: descriptors(server) < before, "its connection is closed")
