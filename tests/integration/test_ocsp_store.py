"""The responder's view of a real database."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import asyncpg
import pytest

import ocsp.store
from ocsp.access import (
    ClientCertificate,
    Credential,
    Grant,
    Network,
    Password,
    SigningCertificate,
    Token,
)
from ocsp.errors import StoreUnavailableError
from ocsp.store import Store
from pkix.revocation import CRLReason, Good, Revoked
from settings.database import socket_directory
from tests.support.database import Database
from tests.support.ocsp import CA, DAY, SERIAL, Records, around, out_of_reach, rsa_key
from tests.support.parties import Identity

PARTY = Identity.new("verifier")
NOW = datetime(2026, 4, 1, 12, 0, 0, tzinfo=UTC)
CA_1 = CA(NOW)
DELEGATE = CA_1.delegate(SERIAL - 1, rsa_key("delegate"))


@pytest.fixture
async def records(database: Database) -> AsyncIterator[Records]:
    """A CA with one delegate."""
    async with database.connect("owner") as connection:
        records = Records(connection)
        await records.add_ca(CA_1, DELEGATE)
        yield records


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """The store as the responder has it."""
    store = Store(database.arguments("prefca_ocsp"), 60)
    yield store
    store.close()


@pytest.mark.req("R-4-4-4-2-1", "R-2-8-2")
async def test_statuses_are_those_of_this_moment(store: Store, records: Records) -> None:
    """All of a request in one query; what was never issued is not there."""
    await records.add(SERIAL)
    await records.add(SERIAL + 1)
    revoked = Revoked(NOW, CRLReason.KEY_COMPROMISE, NOW - DAY)
    await records.revoke(SERIAL + 1, revoked)
    statuses = await store.statuses([SERIAL, SERIAL + 1, SERIAL + 2, SERIAL - 1])
    assert {serial: (one.status, one.public, one.generation_id) for serial, one in statuses.items()} == {
        SERIAL: (Good(), False, 1),
        SERIAL + 1: (revoked, False, 1),
        SERIAL - 1: (Good(), True, 1),
    }
    await records.revoke(SERIAL, Revoked(NOW, CRLReason.SUPERSEDED))
    assert (await store.statuses([SERIAL]))[SERIAL].status == Revoked(NOW, CRLReason.SUPERSEDED)


async def test_keys_and_delegates(store: Store, records: Records) -> None:
    """A revoked delegate is not there; one key is the present one."""
    assert await store.generations() == [replace(CA_1.generation, is_active=True)]
    assert await store.delegate_certificates() == [DELEGATE]
    await records.revoke(DELEGATE.serial, Revoked(NOW, CRLReason.KEY_COMPROMISE))
    assert await store.delegate_certificates() == []


@pytest.mark.req("R-4-4-4-3")
async def test_a_suspended_party_has_no_grant(store: Store, records: Records) -> None:
    """Rights that ended are simply not there."""
    await records.grant("verifier", "192.0.2.0/24", around(NOW))
    assert await store.grants() == [Grant("verifier", Network(ip_network("192.0.2.0/24")), *around(NOW))]
    await records.suspend("verifier")
    assert await store.grants() == []


@pytest.mark.req("R-4-4-4-3")
@pytest.mark.parametrize(
    "credential",
    [
        Network(ip_network("2001:db8::/32")),
        Password("$argon2id$"),
        Token(bytes(32)),
        ClientCertificate(PARTY.der),
        SigningCertificate(PARTY.der),
    ],
    ids=lambda credential: credential.kind,
)
async def test_every_kind_of_credential_is_read(store: Store, records: Records, credential: Credential) -> None:
    """As it was registered; a certificate is worth nothing outside its validity."""
    begin, end = PARTY.certificate.not_valid_before_utc, PARTY.certificate.not_valid_after_utc
    agreement = (begin - DAY, end + DAY)
    await records.grant("verifier", credential, agreement)
    (grant,) = await store.grants()
    assert (grant.party, grant.credential) == ("verifier", credential)
    certified = isinstance(credential, ClientCertificate | SigningCertificate)
    assert (grant.agreed_from, grant.agreed_until) == ((begin, end) if certified else agreement)


async def test_the_change_feed_tells_what_happened_since(store: Store, records: Records) -> None:
    """In the order in which it happened, and it wakes whoever waits."""
    before = await store.last_change()
    assert before is not None
    await records.add(SERIAL)
    await records.revoke(SERIAL, Revoked(NOW, CRLReason.SUPERSEDED))
    await records.suspend("nobody")
    same, *changes = await store.changes(since=before.number)
    assert same == before
    assert [(change.kind, change.key) for change in changes] == [("revocation", SERIAL), ("access", None)]
    assert await store.last_change() == changes[-1]
    assert await store.changes(since=changes[-1].number) == changes[-1:]


async def test_what_a_primary_has_is_complete(store: Store) -> None:
    """Up to the moment of the question."""
    assert await store.complete_until(NOW) == NOW


async def test_a_notification_ends_the_wait(store: Store, records: Records) -> None:
    """Long before the next poll."""
    await store.last_change()
    waiting = asyncio.create_task(store.wait_for_change())
    await records.suspend("nobody")
    async with asyncio.timeout(10):
        await waiting


@pytest.mark.usefixtures("records")
async def test_the_wait_ends_without_a_notification(database: Database) -> None:
    """A standby sends none, a pooler loses them."""
    store = Store(database.arguments("prefca_ocsp"), 0.01)
    await store.last_change()
    async with asyncio.timeout(10):
        await store.wait_for_change()
    store.close()


@pytest.mark.usefixtures("records")
async def test_a_database_that_comes_back_is_used_again(
    store: Store, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Each change of state is logged, not each try."""
    with caplog.at_level(logging.INFO, "ocsp.store"):
        assert SERIAL - 1 in await store.statuses([SERIAL - 1])
        async with out_of_reach(database):
            for _ in range(3):
                with pytest.raises(StoreUnavailableError):
                    await store.statuses([SERIAL - 1])
        assert SERIAL - 1 in await store.statuses([SERIAL - 1])
    assert [record.getMessage() for record in caplog.records] == [
        "database_reachable",
        "database_unreachable",
        "database_reachable",
    ]


async def test_nobody_waits_for_a_database_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and says nothing; also those who come second do not wait longer."""
    monkeypatch.setattr(ocsp.store, "TIME_LIMIT_S", 0.2)
    connected = []
    silent = await asyncio.start_server(lambda _, writer: connected.append(writer), "127.0.0.1", 0)
    host, port = silent.sockets[0].getsockname()
    store = Store({"dsn": f"postgresql://somebody@{host}:{port}/prefca?sslmode=disable"}, 60)
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*(store.statuses([n]) for n in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailableError}
    assert connected
    store.close()
    silent.close()
    for writer in connected:
        writer.close()


@pytest.mark.usefixtures("records")
async def test_a_host_that_takes_long_to_refuse_does_not_hide_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions meanwhile wait no longer than always."""
    monkeypatch.setattr(ocsp.store, "TIME_LIMIT_S", 0.2)

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        fields = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"
        writer.write(b"E" + (4 + len(fields)).to_bytes(4, "big") + fields)
        writer.close()

    first = await asyncio.start_server(refuse, "127.0.0.1", 0)
    hosts = f"127.0.0.1,{socket_directory(database.instance)}&port={first.sockets[0].getsockname()[1]},5432"
    arguments = database.arguments("prefca_ocsp")
    arguments["dsn"] = f"postgresql:///{database.name}?sslmode=disable&host={hosts}"
    store = Store(arguments, 60)
    with pytest.raises(StoreUnavailableError):
        await store.statuses([SERIAL - 1])
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(StoreUnavailableError):
                assert SERIAL - 1 in await store.statuses([SERIAL - 1])
                break
    store.close()
    first.close()


@pytest.mark.usefixtures("records")
async def test_a_query_that_hangs_is_cut_off(store: Store, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one is answered on a new connection."""
    await store.statuses([SERIAL])
    monkeypatch.setattr(ocsp.store, "TIME_LIMIT_S", 0.2)
    async with database.connect("owner") as connection, connection.transaction():
        await connection.execute("LOCK TABLE certificate IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailableError):
            await store.statuses([SERIAL - 1])
    monkeypatch.undo()
    assert SERIAL - 1 in await store.statuses([SERIAL - 1])


async def test_a_database_without_schema_is_not_ready(postgres_instance: object, database: Database) -> None:
    """The issuer sets it up; until then: try later."""
    store = Store(Database(database.instance, "postgres").arguments("prefca_ocsp"), 60)
    with pytest.raises(StoreUnavailableError, match="change_v1"):
        await store.last_change()
    store.close()


async def test_the_clock_of_the_database_is_utc_to_us(store: Store, records: Records) -> None:
    """Times are aware: they are compared with ours."""
    await records.add(SERIAL)
    await records.revoke(SERIAL, Revoked(NOW, CRLReason.SUPERSEDED))
    status = (await store.statuses([SERIAL]))[SERIAL].status
    assert isinstance(status, Revoked)
    assert status.at.utcoffset() == timedelta(0)


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("failure", ["silence", "error"])
async def test_a_connection_that_cannot_be_prepared_is_cut_off(
    store: Store, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    """Whether the server falls silent or refuses: the next query makes a new one."""
    original = asyncpg.Connection.add_listener
    failed: list[asyncpg.Connection] = []

    async def add_listener(connection: asyncpg.Connection, *arguments: Any) -> None:
        if failed:
            await original(connection, *arguments)
            return
        failed.append(connection)
        if failure == "error":
            raise asyncpg.InternalServerError("no")
        await asyncio.Event().wait()

    monkeypatch.setattr(ocsp.store, "CONNECT_LIMIT_S", 0.1)
    monkeypatch.setattr(asyncpg.Connection, "add_listener", add_listener)
    with pytest.raises(StoreUnavailableError):
        await store.last_change()
    assert failed[0].is_closed()
    monkeypatch.setattr(ocsp.store, "CONNECT_LIMIT_S", 10)
    assert await store.last_change() is not None
