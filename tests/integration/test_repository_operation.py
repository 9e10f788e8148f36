"""`prefca-repository` in operation: ready answers, several workers, the admin listener, the local copy."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography import x509

from repository.messages import ResultCode
from tests.support.database import Database
from tests.support.repository import (
    CA,
    CHIYODA,
    LIST,
    PARTY_DN,
    PASSWORD,
    Client,
    RepositoryProcess,
    add_party,
    alarms,
    asked,
    bind_request,
    metric,
    publish,
    published,
    running,
    search_request,
)

BIND = bind_request(PARTY_DN, PASSWORD)
ASK_CHIYODA = search_request(CHIYODA, 0, None, LIST)
NO_DATABASE = "postgresql:///none?host=/nonexistent"
TIMES = pytest.mark.parametrize("times", [1, 3], ids=["first-touch", "ready-answer"])


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def codes(client: Client, operation: object) -> list[int]:
    return [each.code for each in client.ask(operation) if each.is_result]


def lists(client: Client, operation: Any = ASK_CHIYODA, message_id: int = 1) -> list[bytes]:
    entry, _ = client.ask(operation, message_id)
    return entry.attributes.get(f"{LIST};binary", [])


# ---------------------------------------------------------------- ready answers


@TIMES
@pytest.mark.req("R-4-11-2-1")
def test_every_answer_is_recorded_also_one_that_was_ready(server: RepositoryProcess, times: int) -> None:
    """The same record each time, but for the moment."""
    with server.connect() as client:
        answers = [str(client.ask(search_request(CA), 5)) for _ in range(times)]
    assert len(set(answers)) == 1
    records = [{**each, "at": ""} for each in server.records()]
    assert [each["object"] for each in records] == [f"{CA} authorityRevocationList", f"{CA} {LIST}"] * times
    assert records[:2] * times == records
    assert metric(server, "ready_answers_total") == times - 1


@TIMES
@pytest.mark.req("R-4-4-4-5", "R-2-6-3-2")
async def test_a_ready_answer_is_given_only_to_readers_with_the_right(
    server: RepositoryProcess, writer: asyncpg.Connection, times: int
) -> None:
    """The same octets from a stranger, from a party, and from the party whose right has ended."""
    party = await add_party(writer)
    with server.connect(tls=True) as client, server.connect() as stranger:
        eventually(lambda: codes(client, BIND) == [0])
        for number in range(1, times + 1):
            assert lists(client, message_id=number) == [b"chiyoda crl"]
            assert lists(stranger, message_id=number) == []
        by = [(each["party"], each["result"]) for each in server.records() if each["kind"] == "ldap_search"]
        assert by == [("verifier", "success"), (None, "withheld")] * times
        await writer.execute("UPDATE relying_party SET state = 'suspended' WHERE relying_party_id = $1", party)
        eventually(lambda: lists(client) == [])
        assert server.records()[-1]["party"] is None


@TIMES
async def test_an_agreement_that_ends_ends_ready_answers(
    server: RepositoryProcess, writer: asyncpg.Connection, times: int
) -> None:
    """By the clock, without any change in the database."""
    party = await add_party(writer)
    with server.connect(tls=True) as client:
        eventually(lambda: codes(client, BIND) == [0])
        assert [lists(client) for _ in range(times)] == [[b"chiyoda crl"]] * times
        end = datetime.now(UTC) + timedelta(seconds=1)
        await writer.execute("UPDATE relying_party SET agreed_until = $2 WHERE relying_party_id = $1", party, end)
        eventually(lambda: lists(client) == [])
        assert datetime.now(UTC) >= end


@TIMES
@pytest.mark.req("R-2-6-2-1")
async def test_a_ready_answer_ends_with_its_publication(
    server: RepositoryProcess, writer: asyncpg.Connection, authority: int, times: int
) -> None:
    """On open connections, too."""
    question = search_request(CA, 0, None, LIST)
    with server.connect() as client:
        assert [lists(client, question) for _ in range(times)] == [[b"operations crl"]] * times
        await publish(writer, authority, [published(CA, LIST, b"tomorrow")])
        server.event("snapshot_loaded", 2)
        assert lists(client, question) == [b"tomorrow"]


# ---------------------------------------------------------------- workers


def workers_of(process: RepositoryProcess) -> list[int]:
    pid = process.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_ready(process: RepositoryProcess) -> bool:
    return asked(process, "/readyz")[0] == 200


@pytest.fixture
def two_workers(authority: int, database: Database, tmp_path: Path) -> Iterator[RepositoryProcess]:
    """A server of two processes, both of which have loaded the publication."""
    with running(tmp_path, database.dsn, workers=2) as process:
        process.event("workers_ready")
        eventually(lambda: is_ready(process))
        yield process


def connections_to_both(server: RepositoryProcess, stack: ExitStack) -> list[Client]:
    """Connections until each worker has one."""
    clients = []
    for _ in range(64):
        clients.append(stack.enter_context(server.connect()))
        assert codes(clients[-1], search_request()) == [0]
        if all(metric(server, "connections", worker) for worker in (0, 1)):
            return clients
    raise AssertionError("one worker gets no connections")


async def test_a_new_publication_is_served_by_every_worker(
    two_workers: RepositoryProcess, writer: asyncpg.Connection, authority: int
) -> None:
    """On connections that are open already."""
    question = search_request(CA, 0, None, LIST)
    with ExitStack() as stack:
        clients = connections_to_both(two_workers, stack)
        assert all(lists(client, question) == [b"operations crl"] for client in clients)
        await publish(writer, authority, [published(CA, LIST, b"tomorrow")])
        two_workers.event("snapshot_loaded", 4)
        assert all(lists(client, question) == [b"tomorrow"] for client in clients)
    files = {each.name.rpartition("-")[0] for each in (two_workers.instance / "journal").iterdir()}
    assert files == {"repository-0", "repository-1"}


def test_a_worker_that_dies_is_started_again(two_workers: RepositoryProcess) -> None:
    """Meanwhile the other one answers, and health tells."""
    first, other = workers_of(two_workers)
    os.kill(first, signal.SIGKILL)
    assert two_workers.event("worker_ended")["status"] == -signal.SIGKILL
    eventually(lambda: is_ready(two_workers))
    successors = workers_of(two_workers)
    assert other in successors
    assert first not in successors
    assert len(successors) == 2
    assert metric(two_workers, "worker_starts_total") + metric(two_workers, "worker_starts_total", 1) == 3


def test_workers_stop_when_their_parent_is_killed(two_workers: RepositoryProcess) -> None:
    """None is left behind with the ports."""
    workers = workers_of(two_workers)
    two_workers.process.kill()
    two_workers.process.wait()
    eventually(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers))
    two_workers.process.returncode = 0


def test_signals_reach_every_worker(two_workers: RepositoryProcess) -> None:
    """SIGHUP reads the certificate again; SIGTERM, with which the fixture ends, stops both."""
    two_workers.process.send_signal(signal.SIGHUP)
    two_workers.event("tls_reloaded", 2)


# ---------------------------------------------------------------- health, and the local copy


def test_health_and_metrics_are_told_on_a_port_of_their_own(server: RepositoryProcess) -> None:
    """All is well, and what Prometheus collects."""
    assert asked(server, "/healthz") == (200, '{"status": "ok", "alarms": []}')
    assert asked(server, "/readyz") == (200, '{"ready": true, "alarms": []}')
    with server.connect() as client:
        assert codes(client, search_request(CA)) == [0]
        assert metric(server, "connections") == 1
    assert metric(server, "records_total") == 2
    assert metric(server, "next_update_timestamp_seconds") > time.time()
    certificate = x509.load_pem_x509_certificate((server.instance / "tls" / "ldap.pem").read_bytes())
    assert metric(server, "tls_expiry_timestamp_seconds") == certificate.not_valid_after_utc.timestamp()


@pytest.mark.req("R-4-11-2-1")
def test_that_nothing_can_be_recorded_raises_an_alarm_that_ends_by_itself(server: RepositoryProcess) -> None:
    """Told once, and over as soon as there is room again, though nobody connects."""
    with server.full_disk():
        assert asked(server, "/readyz") == (503, '{"ready": false, "alarms": ["journal_failed"]}')
        assert metric(server, "journal_up") == 0
        time.sleep(2.5)  # it tries again meanwhile, in vain
    server.event("journal_available")
    assert asked(server, "/healthz") == (200, '{"status": "ok", "alarms": []}')
    assert metric(server, "journal_up") == 1
    assert [each["event"] for each in server.events()].count("journal_failed") == 1


def test_it_listens_once_it_has_something_to_serve(server: RepositoryProcess) -> None:
    """Nobody is told `unavailable` by a server that only needs a moment more."""
    server.event("listening")
    events = [each["event"] for each in server.events()]
    assert events.index("snapshot_loaded") < events.index("listening")


@pytest.mark.req("R-2-6-4")
async def test_after_a_restart_without_database_the_last_publication_is_served(
    authority: int, writer: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    """From the local copy. Nobody can bind: rights may have ended since."""
    await add_party(writer)
    with running(tmp_path, database.dsn) as server:
        server.event("snapshot_loaded")
        copy = tmp_path / "repository" / "publication"
        eventually(copy.exists)
        assert copy.stat().st_mode & 0o077 == 0
    with running(tmp_path, NO_DATABASE) as server:
        server.event("snapshot_loaded")
        with server.connect(tls=True) as client:
            assert lists(client, search_request(CA, 0, None, LIST)) == [b"operations crl"]
            assert lists(client) == []
            assert codes(client, BIND) == [ResultCode.UNAVAILABLE]
        assert asked(server, "/readyz")[0] == 200
        assert alarms(server) == ["database_away"]


@pytest.mark.parametrize("damage", ["digest", "index", "value", "cut-off", "foreign"])
def test_a_damaged_copy_is_not_served(authority: int, database: Database, tmp_path: Path, damage: str) -> None:
    """Nothing is better than something wrong."""
    copy = tmp_path / "repository" / "publication"
    with running(tmp_path, database.dsn) as server:
        server.event("snapshot_loaded")
        eventually(copy.exists)
    octets = copy.read_bytes()
    copy.write_bytes({
        "digest": octets[:30] + b"\xff" + octets[31:],
        "index": octets.replace(b"false", b"true "),
        "value": octets.replace(b"chiyoda crl", b"chiyoda CRL"),
        "cut-off": octets[:-1],
        "foreign": b"something else",
    }[damage])  # fmt: skip
    with running(tmp_path, NO_DATABASE) as server:
        refused = "snapshot_refused" if damage in {"value", "cut-off"} else "copy_refused"
        assert server.event(refused)["level"] == "error"
        with server.connect() as client:
            assert codes(client, search_request(CA)) == [ResultCode.UNAVAILABLE]
        assert asked(server, "/readyz")[0] == 503
        assert alarms(server) == ["database_away", "nothing_loaded"]


async def test_a_publication_that_is_refused_is_an_alarm(
    server: RepositoryProcess, writer: asyncpg.Connection, authority: int
) -> None:
    """Until a good one comes; what was in force before is served."""
    assert metric(server, "publication_refused") == 0
    await publish(writer, authority, [replace(published(CA, LIST, b"damaged"), sha256=bytes(32))])
    assert server.event("snapshot_refused")["level"] == "error"
    eventually(lambda: alarms(server) == ["publication_refused"])
    assert metric(server, "publication_refused") == 1
    assert asked(server, "/readyz")[0] == 200
    with server.connect() as client:
        assert lists(client, search_request(CA, 0, None, LIST)) == [b"operations crl"]
    await publish(writer, authority, [published(CA, LIST, b"good")])
    eventually(lambda: alarms(server) == [])


async def test_lists_that_are_out_of_date_are_served_with_an_alarm(
    server: RepositoryProcess, writer: asyncpg.Connection, authority: int
) -> None:
    """Relying parties see for themselves what nextUpdate says; operators are told."""
    assert alarms(server) == []
    async with writer.transaction():
        publication = await writer.fetchval(
            "INSERT INTO publication (authority_id, cut_off, this_update, next_publish, next_update, published_at)"
            " SELECT $1, t, t, t + interval '1 h', t + interval '2 h', t FROM (SELECT now() - interval '1 day') x (t)"
            " RETURNING publication_id",
            authority,
        )
        value = published(CA, LIST, b"yesterday")
        await writer.execute(
            "INSERT INTO published_object (publication_id, position, entry_dn, attribute, value, sha256, public)"
            " VALUES ($1, 0, $2, $3, $4, $5, true)",
            *(publication, value.entry_dn, value.attribute, value.value, value.sha256),
        )
    assert server.event("publication_out_of_date")["level"] == "error"
    assert alarms(server) == ["publication_out_of_date"]
    with server.connect() as client:
        assert lists(client, search_request(CA, 0, None, LIST)) == [b"yesterday"]
