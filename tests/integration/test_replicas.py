"""Servers on a streaming standby: they see what the primary does, know when they do not, and outlive a failover."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import ClientSession
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from issuer.records.migrate import migrate
from pkix.validity import Validity, whole_second
from settings.sections import DatabaseSection
from tests.support.ca import FoundedCA, found_ca, open_ca, settings_for
from tests.support.database import reachable_directory
from tests.support.ocsp import around
from tests.support.ocsp_program import running as responder
from tests.support.replica import Pair, replicated
from tests.support.repository import RepositoryProcess, search_request
from tests.support.repository import running as directory

ARL = "authorityRevocationList"
DEADLINE_S = 20


def now() -> datetime:
    return whole_second(datetime.now(UTC))


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary and its standby."""
    with replicated() as pair:
        yield pair


@pytest.fixture
async def ca(pair: Pair) -> AsyncIterator[FoundedCA]:
    """A CA that knows both, founded and published at the primary; the tests are a relying party."""
    async with pair.primary.connect() as connection:
        await migrate(connection, now())
    with reachable_directory() as instance:
        settings = settings_for(instance, pair.primary.database)
        settings = settings.model_copy(update={"database": DatabaseSection(dsn=pair.dsn("any"))})
        await found_ca(settings, now())
        async with open_ca(pair.primary.database, settings) as ca:
            parties = ca.installation.parties
            party = await parties.add_relying_party(
                "verifier", "", Validity(*around(now())), may_ocsp=True, may_crl=False, now=now()
            )
            await parties.add_network(party, ip_network("127.0.0.0/8"), now())
            await ca.publish(now())
            await pair.caught_up()
            yield ca


@dataclass(frozen=True)
class Asker:
    """A relying party of one responder."""

    ca: FoundedCA
    url: str

    async def status(self, certificate: bytes) -> str:
        """The status of a certificate, or why there is none."""
        subject, issuer = x509.load_der_x509_certificate(certificate), self.ca.key.issuer.certificate
        question = ocsp.OCSPRequestBuilder().add_certificate(subject, issuer, hashes.SHA256()).build()
        headers = {"Content-Type": "application/ocsp-request"}
        async with (
            ClientSession() as session,
            session.post(self.url, data=question.public_bytes(Encoding.DER), headers=headers) as answer,
        ):
            response = ocsp.load_der_ocsp_response(await answer.read())
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return response.response_status.name
        return response.certificate_status.name

    async def until(self, status: str, certificate: bytes) -> set[str]:
        """Ask until the status is this; what was answered before."""
        before = set()
        async with asyncio.timeout(DEADLINE_S):
            while (answered := await self.status(certificate)) != status:
                before.add(answered)
                await asyncio.sleep(0.02)
        return before


def on(dsn: str, **settings: str) -> dict[str, str]:
    """The environment of a responder that reads from there and wants to be current by three seconds."""
    return {"PREFCA_DATABASE__DSN": dsn, "PREFCA_OCSP__MAX_STALENESS_S": "3"} | settings


async def issue(ca: FoundedCA, *numbers: int) -> list[tuple[int, bytes]]:
    """New certificates: serial number, DER."""
    return [(issued.serial, issued.certificate) for issued in await ca.issue(*numbers, now=now())]


def arl(server: RepositoryProcess, ca: FoundedCA) -> int:
    """The CRLNumber of the ARL that a directory shows."""
    with server.connect() as client:
        entry, _ = client.ask(search_request(ca.installation.authority.name.rfc4514_string(), 0, None, ARL))
    (octets,) = entry.attributes[f"{ARL};binary"]
    return x509.load_der_x509_crl(octets).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


async def until_shown(server: RepositoryProcess, ca: FoundedCA, number: int) -> None:
    """Wait until a directory shows the ARL of this number."""
    async with asyncio.timeout(DEADLINE_S):
        while await asyncio.to_thread(arl, server, ca) != number:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


@pytest.mark.req("R-4-4-4-2-1", "R-2-6-2-1")
async def test_servers_on_a_standby_see_what_is_done_at_the_primary(ca: FoundedCA, pair: Pair, tmp_path: Path) -> None:
    """Revocations and publications, without notifications; answers that were kept are dropped."""
    instance, dsn = ca.settings.instance, pair.standby.database.dsn
    async with responder(instance, pair.standby.database, **on(dsn)) as (_, url):
        asker = Asker(ca, url)
        for serial, certificate in await issue(ca, *range(5)):
            await asker.until("GOOD", certificate)
            await ca.revoke(serial, now=now())
            assert await asker.until("REVOKED", certificate) <= {"GOOD"}
    with directory(tmp_path, dsn) as server:
        await until_shown(server, ca, 1)
        await ca.publish(now())
        await until_shown(server, ca, 2)


@pytest.mark.req("R-4-4-4-2-1")
async def test_a_responder_whose_standby_lags_says_try_later(ca: FoundedCA, pair: Pair) -> None:
    """From when it has not had all changes for `max_staleness_s` until it has caught up; a quiet primary is no lag."""
    (serial, certificate), (_, other) = await issue(ca, 1, 2)
    async with responder(ca.settings.instance, pair.standby.database, **on(pair.standby.database.dsn)) as (_, url):
        asker = Asker(ca, url)
        await asker.until("GOOD", certificate)
        async with pair.standby.connect() as standby:
            await standby.execute("SELECT pg_wal_replay_pause()")
            await ca.revoke(serial, now=now())
            assert await asker.until("TRY_LATER", other) <= {"GOOD"}
            assert await asker.status(certificate) == "TRY_LATER"
            await standby.execute("SELECT pg_wal_replay_resume()")
        assert await asker.until("REVOKED", certificate) <= {"TRY_LATER"}
        await asyncio.sleep(4)  # the primary has nothing to tell for longer than `max_staleness_s`
        await asker.until("GOOD", other)


@pytest.mark.req("R-4-4-4-2-1")
async def test_a_standby_that_proves_nothing_is_not_believed(ca: FoundedCA, pair: Pair, tmp_path: Path) -> None:
    """Without the right to see how it receives: tryLater from the responder, an alarm from the directory."""
    ((_, certificate),) = await issue(ca, 1)
    async with pair.primary.connect() as primary:
        await primary.execute("ALTER FUNCTION replication_v1() OWNER TO prefca_ocsp")
    await pair.caught_up()
    dsn = pair.standby.database.dsn
    async with responder(ca.settings.instance, pair.standby.database, **on(dsn)) as (_, url):
        assert await Asker(ca, url).status(certificate) == "TRY_LATER"
    with directory(tmp_path, dsn) as server:
        await until_shown(server, ca, 1)
        health = f"http://{server.event('administering')['admin']}/healthz"
        async with ClientSession() as session, session.get(health) as answer:
            assert (await answer.json())["alarms"] == ["database_behind"]


@pytest.mark.req("R-4-4-4-2-1", "R-2-6-4")
async def test_a_failover_brings_no_wrong_answer(ca: FoundedCA, pair: Pair, tmp_path: Path) -> None:
    """Servers that know both hosts go on by themselves, and so does the issuer: at the host that is the primary now."""
    one, other = ca.settings.instance, shutil.copytree(ca.settings.instance, tmp_path / "other")
    (serial, revoked), (later, certificate) = await issue(ca, 1, 2)
    await ca.revoke(serial, now=now())
    async with (
        responder(one, pair.primary.database, **on(pair.dsn("any"))) as (_, at_primary),
        responder(other, pair.standby.database, **on(pair.dsn("prefer-standby"))) as (_, at_standby),
    ):
        askers = [Asker(ca, at_primary), Asker(ca, at_standby)]
        with directory(other, pair.dsn("prefer-standby")) as server:
            await until_shown(server, ca, 1)
            for asker in askers:
                await asker.until("REVOKED", revoked)
            watching = asyncio.create_task(watched(askers, revoked))
            pair.primary.stop()
            for asker in askers:
                await asker.until("TRY_LATER", certificate)
            await asyncio.to_thread(pair.standby.promote)
            for asker in askers:
                await asker.until("GOOD", certificate)
            async with open_ca(pair.standby.database, ca.settings) as again:
                await again.revoke(later, now=now())
                for asker in askers:
                    await asker.until("REVOKED", certificate)
                await again.publish(now())
            await until_shown(server, ca, 2)
            watching.cancel()
            assert await watching == {"REVOKED", "TRY_LATER"}


@pytest.mark.req("R-2-6-4")
async def test_a_standby_that_lags_takes_nothing_back(ca: FoundedCA, pair: Pair, tmp_path: Path) -> None:
    """After a failover to it the directory shows what it knows, until the standby knows that too."""
    with directory(tmp_path, pair.dsn("any")) as server:
        async with pair.standby.connect() as standby:
            await standby.execute("SELECT pg_wal_replay_pause()")
        await ca.publish(now())
        await until_shown(server, ca, 2)
        pair.primary.stop()
        assert await asyncio.to_thread(server.event, "standby_behind")
        assert await asyncio.to_thread(arl, server, ca) == 2
        await asyncio.to_thread(pair.standby.promote)
        async with open_ca(pair.standby.database, ca.settings) as again:
            await again.publish(now())
        await until_shown(server, ca, 3)


async def watched(askers: list[Asker], certificate: bytes) -> set[str]:
    """Everything that is said of a certificate until cancelled."""
    said = set()
    try:
        while True:
            said |= {await asker.status(certificate) for asker in askers}
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        return said
