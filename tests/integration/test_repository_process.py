"""`prefca-repository` as a process: over sockets, on a real database."""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest
from ldaptor.protocols import pureldap

from repository.messages import ResultCode
from repository.snapshot import START_TLS
from tests.support.database import Database
from tests.support.repository import (
    CA,
    CHIYODA,
    LIST,
    OBJECTS,
    PARTY_DN,
    PASSWORD,
    Client,
    RepositoryProcess,
    add_authority,
    add_party,
    alarms,
    bind_request,
    message,
    publish,
    published,
    running,
    search_request,
    start,
    write_tls,
)

MEGABYTE = 1_000_000
LARGE = os.urandom(10 * MEGABYTE)
BIND = bind_request(PARTY_DN, PASSWORD)


def sees_list(client: Client, entry: str = CHIYODA) -> bool:
    found, _ = client.ask(search_request(entry, 0, None, LIST))
    return f"{LIST};binary" in found.attributes


def codes(client: Client, operation: object) -> list[int]:
    return [each.code for each in client.ask(operation) if each.is_result]


def bind_when_known(client: Client) -> None:
    """Bind as a party that was added just now: the server is told of it in a moment."""
    deadline = time.monotonic() + 10
    while codes(client, BIND) != [0]:
        assert time.monotonic() < deadline


@pytest.mark.req("R-4-4-4-1-2", "R-2-6-3-1")
def test_a_thousand_messages_get_the_same_answers_in_one_segment_and_octet_by_octet(server: RepositoryProcess) -> None:
    """Pipelined requests are answered in order, however they arrive."""
    requests = [message(search_request(CA if i % 2 else "C=FR"), i) for i in range(1, 1001)]
    with server.connect() as at_once, server.connect() as slowly:
        threading.Thread(target=at_once.send, args=(b"".join(requests),)).start()
        answers = [at_once.receive() for _ in range(1500)]
        for octet in b"".join(requests[:6]):
            slowly.send(bytes((octet,)))
        few = [slowly.receive() for _ in range(9)]
    finished = [each.message_id for each in answers if each and each.is_result]
    assert finished == list(range(1, 1001))
    assert [str(each) for each in few] == [str(each) for each in answers[:9]]


@pytest.mark.parametrize(
    "octets",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x30\x80", b"\x30\x84\x7f\xff\xff\xff", b"\x30\x05\x02\x01\x01\x63\x7f"],
    ids=["http", "indefinite", "two-gigabytes", "inner-length"],
)
def test_nonsense_is_told_and_ends_the_connection_without_a_traceback(server: RepositoryProcess, octets: bytes) -> None:
    """A Notice of Disconnection, then the end; the server and its log stay as they were."""
    with server.connect() as client:
        client.send(octets)
        notice = client.receive()
        assert notice is not None
        assert (notice.message_id, notice.code) == (0, ResultCode.PROTOCOL_ERROR)
        assert client.receive() is None
    with server.connect() as another:
        assert codes(another, search_request()) == [0]
    assert [event for event in server.events() if event["level"] != "info"] == []
    assert server.records()[-1]["kind"] == "ldap_disconnect"


@pytest.mark.req("R-4-4-4-5", "R-2-6-3-2", "R-4-11-2-1")
async def test_a_right_is_needed_recorded_and_ends_at_once(
    server: RepositoryProcess, writer: asyncpg.Connection
) -> None:
    """Over TLS, a party reads a municipal list until its right is withdrawn, on the same connection."""
    party = await add_party(writer)
    with server.connect(tls=True) as client:
        assert not sees_list(client)
        bind_when_known(client)
        assert sees_list(client)
        assert server.records()[-1] | {"at": ""} == {
            "at": "",
            "kind": "ldap_search",
            "result": "success",
            "party": "verifier",
            "origin": "127.0.0.1",
            "object": f"{CHIYODA} {LIST}",
            "size": 11,
        }
        await writer.execute("UPDATE relying_party SET state = 'suspended' WHERE relying_party_id = $1", party)
        deadline = time.monotonic() + 10
        while sees_list(client):
            assert time.monotonic() < deadline
        assert codes(client, BIND) == [ResultCode.INVALID_CREDENTIALS]


async def test_start_tls_protects_a_bind_and_what_was_pipelined_behind_it_is_dropped(
    server: RepositoryProcess, writer: asyncpg.Connection
) -> None:
    """Nobody on the way can put a request into the encrypted session."""
    await add_party(writer)
    with server.connect() as client:
        assert codes(client, BIND) == [ResultCode.CONFIDENTIALITY_REQUIRED]
        client.send(message(pureldap.LDAPExtendedRequest(START_TLS), 7) + message(search_request(CA), 8))
        answer = client.receive()
        assert answer is not None
        assert (answer.message_id, answer.code) == (7, 0)
        client.encrypt()
        answers = client.ask(search_request(CHIYODA), 9)
        assert {each.message_id for each in answers} == {9}
        bind_when_known(client)
        assert sees_list(client)


async def test_messages_behind_a_bind_wait_for_it(server: RepositoryProcess, writer: asyncpg.Connection) -> None:
    """They are answered in order, and with the rights of the bind."""
    await add_party(writer)
    with server.connect(tls=True) as client:
        bind_when_known(client)
        search = search_request(CHIYODA, 0, None, LIST)
        client.send(message(bind_request(), 1) + message(search, 2) + message(BIND, 3) + message(search, 4))
        answers = [client.receive() for _ in range(6)]
    assert [each.message_id for each in answers if each] == [1, 2, 2, 3, 4, 4]
    assert [bool(each.attributes) for each in answers if each and not each.is_result] == [False, True]


@pytest.mark.req("R-2-6-2-1", "R-4-4-3-1")
async def test_a_new_publication_is_served_and_a_damaged_one_refused(
    server: RepositoryProcess, writer: asyncpg.Connection, authority: int, database: Database
) -> None:
    """On open connections, all lists together; what is damaged leaves the old one in force."""
    with server.connect() as client:
        await publish(writer, authority, [published(CA, LIST, b"tomorrow")])
        server.event("snapshot_loaded", 2)
        entry, _ = client.ask(search_request(CA, 0, None, LIST, "cACertificate"))
        assert entry.attributes == {f"{LIST};binary": [b"tomorrow"]}
        assert codes(client, search_request(CHIYODA)) == [ResultCode.NO_SUCH_OBJECT]

        damaged = published(CA, LIST, b"right")
        object.__setattr__(damaged, "value", b"wrong")
        await publish(writer, authority, [damaged])
        assert server.event("snapshot_refused")["level"] == "error"
        entry, _ = client.ask(search_request(CA, 0, None, LIST))
        assert entry.attributes == {f"{LIST};binary": [b"tomorrow"]}


def memory_bytes(process: RepositoryProcess) -> int:
    """Resident set of the server."""
    pages = Path(f"/proc/{process.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_slow_readers_of_a_large_list_cost_neither_memory_nor_other_readers_time(
    server: RepositoryProcess, writer: asyncpg.Connection, authority: int, tls: bool
) -> None:
    """Forty clients ask for ten megabytes and read nothing: the list is not copied for them."""
    await publish(writer, authority, [published(CA, LIST, LARGE)])
    server.event("snapshot_loaded", 2)
    large = message(search_request(CA, 0, None, LIST))
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect(tls=tls)) for _ in range(40)]
        slow[0].send(large)
        quick = stack.enter_context(server.connect(tls=tls))
        assert codes(quick, search_request()) == [0]
        before = memory_bytes(server)
        for client in slow[1:]:
            client.send(large * 3)
        assert codes(quick, search_request(CA, 0, None, "ou")) == [0]
        assert memory_bytes(server) - before < 60 * MEGABYTE  # copies would be 390
        answer = slow[0].receive()
        assert answer is not None
        assert answer.attributes == {f"{LIST};binary": [LARGE]}


async def test_an_abandoned_search_is_not_continued(
    server: RepositoryProcess, writer: asyncpg.Connection, authority: int
) -> None:
    """The message that was begun is completed, the rest of the answer never comes."""
    entries = [f"OU=Part {i},O=JPKI,C=JP" for i in range(5)]
    await publish(writer, authority, [published(name, LIST, LARGE) for name in entries])
    server.event("snapshot_loaded", 2)
    with server.connect() as client:
        client.send(message(search_request("O=JPKI,C=JP", 1), 1))
        assert client.receive() is not None
        client.send(message(pureldap.LDAPAbandonRequest(id=1), 2) + message(search_request(), 3))
        answers: list[int] = []
        while answers[-2:] != [3, 3]:
            answer = client.receive()
            assert answer is not None
            answers.append(answer.message_id)
    assert 1 <= answers.count(1) <= 3


@pytest.mark.req("R-2-6-4", "R-4-4-3-2")
async def test_without_a_database_the_server_says_so_and_goes_on_when_it_is_there(
    authority: int, database: Database, tmp_path: Path
) -> None:
    """Unavailable until the first snapshot; later, the last snapshot stays. States are logged once."""
    with running(tmp_path, database.dsn.replace(database.name, "later_test")) as server, server.connect() as client:
        server.event("database_away")
        assert codes(client, search_request(CA)) == [ResultCode.UNAVAILABLE]
        assert codes(client, search_request()) == [0]
        async with database.connect("owner") as owner:
            await owner.execute("CREATE DATABASE later_test TEMPLATE migrated_template")
            async with Database(database.instance, "later_test").connect("prefca_issuer") as connection:
                await publish(connection, await add_authority(connection), OBJECTS)
            server.event("database_back")
            deadline = time.monotonic() + 10
            while codes(client, search_request(CA)) != [0]:  # it may have come back before the publication
                assert time.monotonic() < deadline
            await owner.execute("DROP DATABASE later_test WITH (FORCE)")
        server.event("database_away", 2)
        assert codes(client, search_request(CA)) == [0]
        events = [each["event"] for each in server.events() if each["logger"] == "repository.store"]
        assert "snapshot_loaded" in events  # twice, if it came back before the publication
        states = [event for event in events if event != "snapshot_loaded"]
        assert states == ["database_away", "database_back", "database_away"]


def test_an_idle_connection_is_closed(authority: int, database: Database, tmp_path: Path) -> None:
    """In order, unless it never begins TLS."""
    with running(tmp_path, database.dsn, idle_timeout_s=1) as server, ExitStack() as stack:
        idle = stack.enter_context(server.connect())
        silent = stack.enter_context(socket.create_connection(("127.0.0.1", server.port("ldaps"))))
        assert codes(idle, search_request()) == [0]
        assert idle.receive() is None
        with pytest.raises(ConnectionResetError):
            silent.recv(1)


def test_who_never_ends_his_message_is_idle(authority: int, database: Database, tmp_path: Path) -> None:
    """However often he sends an octet of it; who ends each message in time is served."""
    halves = message(search_request())[:9], message(search_request())[9:]
    with (
        running(tmp_path, database.dsn, idle_timeout_s=2) as server,
        server.connect() as slow,
        server.connect() as never,
    ):
        never.send(b"\x30\x84\x00\x00\x80\x00")
        until = time.monotonic() + 10
        with pytest.raises(ConnectionError):  # noqa: PT012 - when he is cut off, at whichever octet
            while time.monotonic() < until:
                for half in halves:
                    slow.send(half)
                    never.send(b"\x02")
                    time.sleep(0.3)
                assert slow.receive() is not None


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_client_that_leaves_in_the_middle_is_no_event(
    server: RepositoryProcess, writer: asyncpg.Connection, authority: int, tls: bool
) -> None:
    """While its password is verified, in the middle of a message, or of a large answer."""
    await publish(writer, authority, [published(CA, LIST, LARGE)])
    server.event("snapshot_loaded", 2)
    for octets in (message(BIND), message(search_request())[:5], message(search_request(CA)) * 3):
        with server.connect(tls=tls) as client:
            client.send(octets)
    with server.connect(tls=True) as client:
        assert codes(client, BIND) == [ResultCode.INVALID_CREDENTIALS]  # behind the bind of the client that left
    assert [event for event in server.events() if event["level"] != "info"] == []


def test_a_new_certificate_is_taken_without_a_restart(server: RepositoryProcess) -> None:
    """SIGHUP reads it again; one that is not usable leaves the old one in use."""
    old = server.connect(tls=True)
    key = server.instance / "tls" / "ldap.key.pem"
    key.write_text("")
    server.process.send_signal(signal.SIGHUP)
    assert "repository.tls_certificate" in server.event("tls_reload_refused")["error"]
    assert alarms(server) == ["tls_reload_refused"]
    with server.connect(tls=True) as client:
        assert codes(client, search_request()) == [0]
    write_tls(server.instance)
    server.process.send_signal(signal.SIGHUP)
    server.event("tls_reloaded")
    assert alarms(server) == []
    with old, server.connect(tls=True) as new:
        assert codes(old, search_request()) == codes(new, search_request()) == [0]
        assert new.certificate() != old.certificate()


async def test_what_is_being_sent_when_the_server_stops_is_completed(
    server: RepositoryProcess, authority: int, writer: asyncpg.Connection
) -> None:
    """A stop loses no answer that has begun, takes no new connection, and ends in success."""
    await publish(writer, authority, [published(CA, LIST, LARGE)])
    server.event("snapshot_loaded", 2)
    with server.connect() as client:
        client.send(message(search_request(CA), 1))
        client.await_octets()
        server.process.send_signal(signal.SIGTERM)
        server.event("stopping")
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        entry, done, end = client.receive(), client.receive(), client.receive()
    assert entry is not None
    assert entry.attributes[f"{LIST};binary"] == [LARGE]
    assert done is not None
    assert end is None
    assert server.process.wait(10) == 0


@pytest.mark.req("R-4-11-2-1")
def test_what_cannot_be_recorded_is_not_given(server: RepositoryProcess) -> None:
    """While the disk takes no record, nobody gets an answer; afterwards everything goes on by itself."""
    with server.connect() as client:
        assert len(client.ask(search_request(CA))) == 2
    for_one = len(server.records())
    with server.full_disk():
        given = len(server.records())
        with server.connect() as client, contextlib.suppress(ConnectionResetError):
            assert client.ask(search_request()) == []
        assert server.event("journal_failed")["level"] == "error"
    with server.connect() as client:
        assert len(client.ask(search_request(CA))) == 2
    assert {each["kind"] for each in server.records()} == {"ldap_search"}
    assert len(server.records()) == given + for_one  # and none of what was withheld


@pytest.mark.req("R-4-11-2-1")
@pytest.mark.usefixtures("authority")
def test_a_server_that_stops_on_a_full_disk_says_so(database: Database, tmp_path: Path) -> None:
    """In its log, without a traceback, and by its exit status."""
    write_tls(tmp_path)
    with start(tmp_path, database.dsn) as process:
        server = RepositoryProcess(tmp_path, process)
        try:
            with server.full_disk():
                process.terminate()
                assert process.wait(20) == 1
        finally:
            process.kill()
    assert "make room on the disk" in server.events()[-1]["say"]
    assert "Traceback" not in server.log()


FAILURES = {
    "port": ({"listen": "127.0.0.1:{port}"}, 1, "PREFCA_REPOSITORY__LISTEN"),
    "tls": ({"tls_certificate": "tls/missing.pem"}, 1, "PREFCA_REPOSITORY__TLS_CERTIFICATE"),
    "configuration": ({"max_message_bytes": 1}, 2, "PREFCA_REPOSITORY__MAX_MESSAGE_BYTES"),
}


@pytest.mark.parametrize(("keys", "status", "named"), FAILURES.values(), ids=FAILURES)
def test_a_server_that_cannot_start_says_in_one_line_what_to_change(
    tmp_path: Path, keys: dict[str, str], status: int, named: str
) -> None:
    """With an exit status of its own for the configuration."""
    write_tls(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {key: str(value).format(port=taken.getsockname()[1]) for key, value in keys.items()}
        with start(tmp_path, "postgresql:///none", **settings) as process:
            assert process.wait(20) == status
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith("prefca-repository: ")
    assert named in line


def test_a_second_server_of_one_installation_says_so(tmp_path: Path) -> None:
    """One journal has one writer."""
    write_tls(tmp_path)
    keys = tmp_path / "keys" / "journal"
    keys.mkdir(parents=True)
    with (keys / "repository.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with start(tmp_path, "postgresql:///none") as process:
            assert process.wait(20) == 1
    said = f"prefca-repository: {keys}/repository.lock: another process writes this journal; stop it first\n"
    assert (tmp_path / "log").read_text() == said


def ldapsearch(server: RepositoryProcess, *arguments: str) -> str:
    """What OpenLDAP's client prints, over StartTLS that must succeed."""
    command = ["ldapsearch", "-x", "-ZZ", "-LLL", "-H", f"ldap://127.0.0.1:{server.port('ldap')}", *arguments]
    environment = {"LDAPTLS_CACERT": str(server.instance / "tls" / "ldap.pem"), "PATH": os.environ["PATH"]}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True, timeout=20).stdout


@pytest.mark.skipif(shutil.which("ldapsearch") is None, reason="needs ldapsearch (Debian: ldap-utils)")
async def test_ldapsearch_reads_a_municipal_list(server: RepositoryProcess, writer: asyncpg.Connection) -> None:
    """Asked for without its option, returned with it."""
    await add_party(writer)
    with server.connect(tls=True) as client:
        bind_when_known(client)
    found = ldapsearch(server, "-D", PARTY_DN, "-w", PASSWORD.decode(), "-b", CHIYODA, "-s", "base", LIST)
    assert f"{LIST};binary:: Y2hpeW9kYSBjcmw=" in found
