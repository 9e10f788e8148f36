"""`prefca-repository` as a process: who is slowed down, locked out or turned away, and what can be canceled."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest
from ldaptor.protocols import pureldap

from repository.messages import ResultCode
from repository.snapshot import CANCEL
from tests.support.database import Database
from tests.support.repository import (
    CA,
    LIST,
    OBJECTS,
    PARTY_DN,
    PASSWORD,
    Answer,
    Client,
    add_authority,
    add_party,
    bind_request,
    message,
    publish,
    published,
    running,
    search_request,
)
from tests.support.running import eventually

LARGE = os.urandom(10_000_000)


@pytest.fixture
async def issuer(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The issuer, with a publication and a relying party."""
    async with database.connect("prefca_issuer") as connection:
        await publish(connection, await add_authority(connection), OBJECTS)
        await add_party(connection)
        yield connection


def bind(client: Client, password: bytes = PASSWORD, name: str = PARTY_DN) -> int:
    (answer,) = client.ask(bind_request(name, password))
    return answer.code


@pytest.mark.req("R-4-4-4-5", "R-5-2-3-2")
def test_a_guesser_is_locked_out_and_the_others_are_not(
    issuer: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    """One name from one address, on every connection; the right password does not help then."""
    with running(tmp_path, database.dsn, bind_lockout_failures=3, bind_lockout_s=600) as server, ExitStack() as stack:
        server.event("snapshot_loaded")
        bound, guesser, other = (stack.enter_context(server.connect(tls=True)) for _ in range(3))
        assert bind(bound) == ResultCode.SUCCESS
        assert {bind(guesser, b"a guess") for _ in range(3)} == {ResultCode.INVALID_CREDENTIALS}
        (refused,) = other.ask(bind_request(PARTY_DN, PASSWORD))
        assert refused.code == ResultCode.INVALID_CREDENTIALS
        assert b"too many failed binds" in refused.operation.errorMessage
        entry, _ = bound.ask(search_request("CN=Chiyoda-ku CRLDP,OU=CRL Distribution Points,OU=Tokyo-to,O=JPKI,C=JP"))
        assert f"{LIST};binary" in entry.attributes
        assert bind(guesser, b"a guess", "uid=another,ou=Relying Parties,o=JPKI,c=JP") == ResultCode.INVALID_CREDENTIALS
        binds = [record["result"] for record in server.records() if record["kind"] == "ldap_bind"]
        assert binds == ["success", *["invalidCredentials"] * 5]


@pytest.mark.req("R-4-4-4-5", "R-5-2-3-2")
def test_guesses_that_are_sent_at_once_are_locked_out(
    issuer: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    """As if they came one after the other; also the right password, which is the last."""
    with running(tmp_path, database.dsn, bind_lockout_failures=3, bind_lockout_s=600) as server, ExitStack() as stack:
        server.event("snapshot_loaded")
        guessers = [stack.enter_context(server.connect(tls=True)) for _ in range(20)]
        for guesser, password in zip(guessers, [b"a guess"] * 19 + [PASSWORD], strict=True):
            guesser.send(message(bind_request(PARTY_DN, password)))
        answers = [answer for guesser in guessers if (answer := guesser.receive())]
        assert [answer.code for answer in answers] == [ResultCode.INVALID_CREDENTIALS] * 20
        assert sum(b"too many failed binds" in answer.operation.errorMessage for answer in answers) == 17


def test_one_address_cannot_take_all_connections(
    issuer: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    """What is beyond its share is closed at once; a connection that ends makes room."""
    with running(tmp_path, database.dsn, max_connections_per_address=2) as server:
        with server.connect() as first, server.connect() as second, server.connect() as third:
            assert first.ask(search_request())
            assert second.ask(search_request())
            assert _is_turned_away(third)

        def has_room() -> bool:
            with server.connect() as client:
                return not _is_turned_away(client)

        eventually(has_room, "there is room again")


def test_an_ipv4_client_of_an_ipv6_socket_is_told_as_ipv4(
    issuer: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    """In the journal, and where connections are counted."""
    with running(tmp_path, database.dsn, listen="[::]:0", max_connections_per_address=1) as server:
        with (
            server.connect() as client,
            server.connect() as second,
            socket.create_connection(("::1", server.port("ldap"))) as v6,
        ):
            assert client.ask(bind_request())
            assert _is_turned_away(second)
            v6.sendall(message(bind_request()))
            assert v6.recv(1)
        binds = [record["origin"] for record in server.records() if record["kind"] == "ldap_bind"]
        assert binds == ["127.0.0.1", "::1"]


def _is_turned_away(client: Client) -> bool:
    try:
        return client.ask(search_request()) == []
    except ConnectionError:
        return True


async def test_a_search_is_canceled_while_its_answer_is_sent(
    issuer: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    """RFC 3909: what is begun is completed, then the search ends as canceled, then the Cancel succeeds."""
    entries = [f"OU=Part {i},O=JPKI,C=JP" for i in range(5)]
    await publish(issuer, await add_authority(issuer, "Toyama-ken"), [published(each, LIST, LARGE) for each in entries])
    with running(tmp_path, database.dsn) as server, server.connect() as client:
        server.event("snapshot_loaded")
        client.send(message(search_request("O=JPKI,C=JP", 1), 7))
        client.await_octets()
        client.send(message(pureldap.LDAPExtendedRequest(CANCEL, b"\x30\x03\x02\x01\x07"), 8))
        answers: list[Answer] = []
        while not answers or answers[-1].message_id != 8:
            answer = client.receive()
            assert answer is not None
            answers.append(answer)
        *found, done, canceled = answers
        assert len(found) < len(entries)
        assert (done.message_id, done.code) == (7, ResultCode.CANCELED)
        assert canceled.code == ResultCode.SUCCESS
        client.send(message(pureldap.LDAPExtendedRequest(CANCEL, b"\x30\x03\x02\x01\x07"), 9))
        late = client.receive()
        assert late is not None
        assert late.code == ResultCode.NO_SUCH_OPERATION
        assert client.ask(search_request(CA), 10)[-1].code == ResultCode.SUCCESS
