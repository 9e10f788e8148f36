"""`prefca-ocsp` with several workers, and its admin listener."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientSession
from cryptography.x509 import ocsp
from cryptography.x509.ocsp import OCSPResponseStatus

from pkix.revocation import CRLReason, Revoked
from tests.support.database import Database
from tests.support.journal import full_disk
from tests.support.ocsp import CA, SERIAL, Records, out_of_reach, verified
from tests.support.ocsp_program import ASKED, CA_1, NOW, Program, running, start

WORKERS = 2
OPTIONS = ("--workers", str(WORKERS))


@pytest.fixture
async def program(ocsp_instance: Path, database: Database, ocsp_records: Records) -> AsyncIterator[Program]:
    """It serves, and stops with exit code 0."""
    async with running(ocsp_instance, database, *OPTIONS) as (program, _):
        yield program
        if program.process.returncode is None:
            assert await program.stop() == 0


async def post(session: ClientSession, url: str) -> ocsp.OCSPCertStatus:
    """The status of the certificate; each session has a connection of its own."""
    return verified(await ask(session, url), CA_1).certificate_status


async def status(session: ClientSession, url: str) -> ocsp.OCSPResponseStatus:
    """The status of the response."""
    return ocsp.load_der_ocsp_response(await ask(session, url)).response_status


async def ask(session: ClientSession, url: str) -> bytes:
    async with session.post(url, data=ASKED, headers={"Content-Type": "application/ocsp-request"}) as response:
        return await response.read()


async def samples(program: Program, name: str) -> dict[str, float]:
    """The samples of one metric, by their labels."""
    _, text = await program.look("metrics")
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name + "{"))
    return {labels.removeprefix(name): float(value) for labels, value in lines}


@asynccontextmanager
async def connections_to_all(program: Program) -> AsyncIterator[list[ClientSession]]:
    """Connections that are kept open, so many that every worker has one."""
    async with AsyncExitStack() as stack:
        sessions: list[ClientSession] = []
        while not sessions or 0 in (await samples(program, "prefca_ocsp_connections")).values():
            assert len(sessions) < 100
            sessions.append(await stack.enter_async_context(ClientSession()))
            await post(sessions[-1], program.url)
        yield sessions


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds; what other processes do has no event here."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


async def is_ready(program: Program) -> bool:
    return (await program.look("readyz"))[0] == 200


async def is_not_ready(program: Program) -> bool:
    return not await is_ready(program)


async def is_revoked(session: ClientSession, program: Program) -> bool:
    return await post(session, program.url) is ocsp.OCSPCertStatus.REVOKED


async def have_ended(processes: list[int]) -> bool:
    """Gone, or waiting for nobody to notice."""
    states = await asyncio.to_thread(lambda: [_state(process) for process in processes])
    return set(states) <= {"", "Z"}


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.mark.req("R-4-4-4-2-1")
async def test_a_revocation_shows_in_every_worker(program: Program, ocsp_records: Records) -> None:
    """Each of them had kept an answer."""
    async with connections_to_all(program) as sessions:
        await ocsp_records.revoke(SERIAL, Revoked(NOW.replace(microsecond=0), CRLReason.SUPERSEDED))
        for session in sessions:
            await until(partial(is_revoked, session, program))
        assert {await post(session, program.url) for session in sessions} == {ocsp.OCSPCertStatus.REVOKED}


@pytest.mark.req("R-4-4-4-2-1")
async def test_without_notifications_the_change_feed_is_enough(program: Program, database: Database) -> None:
    """Both workers lose their connections while a certificate is revoked."""
    async with connections_to_all(program) as sessions:
        async with database.connect("owner") as connection, connection.transaction():
            await Records(connection).revoke(SERIAL, Revoked(NOW.replace(microsecond=0), CRLReason.SUPERSEDED))
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = $2",
                *(database.name, "prefca_ocsp"),
            )
        for session in sessions:
            await until(partial(is_revoked, session, program))


@pytest.mark.usefixtures("ocsp_records")
async def test_a_worker_that_dies_is_replaced(program: Program) -> None:
    """The others answer meanwhile, and its connections wait for the next one."""
    first, second = program.workers()
    os.kill(first, signal.SIGKILL)
    ended = await program.event("worker_ended")
    assert (ended["worker"], ended["status"]) == (0, -signal.SIGKILL)
    for _ in range(10):
        async with ClientSession() as session:
            assert await post(session, program.url) is ocsp.OCSPCertStatus.GOOD
    await until(lambda: is_ready(program))
    assert second in program.workers()
    assert len(program.workers()) == WORKERS
    assert await samples(program, "prefca_ocsp_worker_starts_total") == {'{worker="0"}': 2, '{worker="1"}': 1}


async def test_metrics_tell_what_happened(program: Program) -> None:
    """Answers, kept ones, signatures, the feed and the delegate, of each worker."""
    async with ClientSession() as session:
        for _ in range(5):
            await post(session, program.url)
    answers = await samples(program, "prefca_ocsp_answers_total")
    assert sum(answers.values()) == 5
    assert sum((await samples(program, "prefca_ocsp_cache_hits_total")).values()) == 4
    assert sum((await samples(program, "prefca_ocsp_sign_seconds_count")).values()) == 1
    assert len(await samples(program, "prefca_ocsp_staleness_seconds")) == WORKERS
    assert len(await samples(program, "prefca_ocsp_delegate_expiry_timestamp_seconds")) == WORKERS


@pytest.mark.req("R-4-11-2-1")
@pytest.mark.usefixtures("ocsp_records")
async def test_a_worker_that_cannot_record_raises_the_alarm(program: Program, ocsp_instance: Path) -> None:
    """Told once, and over as soon as there is room again, though nobody asks."""
    worker, _ = program.workers()
    async with connections_to_all(program) as sessions:
        (segment,) = (ocsp_instance / "journal").glob("ocsp-0-*")
        with full_disk(segment.stat().st_size, worker):
            for _ in range(3):
                statuses = {await status(session, program.url) for session in sessions}
                assert statuses == {OCSPResponseStatus.SUCCESSFUL, OCSPResponseStatus.TRY_LATER}
            assert json.loads((await program.look("healthz"))[1]) == {"status": "alarm", "alarms": ["journal_failed"]}
            assert await program.look("readyz") == (503, '{"workers": {"0": false, "1": true}}')
            assert await samples(program, "prefca_ocsp_journal_up") == {'{worker="0"}': 0, '{worker="1"}': 1}
            await asyncio.sleep(2.5)  # it tries again meanwhile, in vain
            assert not await is_ready(program)
    await program.event("journal_available")
    assert [event["event"] for event in program.events].count("journal_failed") == 1
    assert json.loads((await program.look("healthz"))[1]) == {"status": "ok", "alarms": []}
    assert await is_ready(program)
    assert set((await samples(program, "prefca_ocsp_journal_up")).values()) == {1}


@pytest.mark.req("R-4-11-2-1")
@pytest.mark.usefixtures("ocsp_records")
async def test_a_worker_that_stops_on_a_full_disk_says_so(program: Program, ocsp_instance: Path) -> None:
    """In the log, and by the exit status of the program."""
    worker, _ = program.workers()
    (segment,) = (ocsp_instance / "journal").glob("ocsp-0-*")
    with full_disk(segment.stat().st_size, worker):
        assert await program.stop() == 1
    assert "make room on the disk" in (await program.event("journal_not_sealed"))["say"]


async def test_health_and_readiness(program: Program, database: Database) -> None:
    """Healthy is whoever runs, ready is whoever can sign."""
    assert await program.look("healthz") == (200, '{"status": "ok", "alarms": []}')
    assert await program.look("readyz") == (200, '{"workers": {"0": true, "1": true}}')
    for worker in program.workers():
        os.kill(worker, signal.SIGSTOP)
    assert await program.look("healthz") == (200, '{"status": "alarm", "alarms": ["worker_down"]}')
    assert (await program.look("readyz"))[0] == 503
    for worker in program.workers():
        os.kill(worker, signal.SIGCONT)
    assert (await program.look("readyz"))[0] == 200


async def test_without_a_delegate_of_the_present_key_it_is_not_ready(program: Program, ocsp_records: Records) -> None:
    """Although it answers for the key before; a delegate whose key was put elsewhere is worth nothing here."""
    new = CA(CA_1.now, generation_id=2)
    await ocsp_records.add_ca(new)
    assert await is_ready(program), "a key that signs nothing yet needs none"
    await ocsp_records.switch_to(new)
    await until(lambda: is_not_ready(program))
    assert json.loads((await program.look("healthz"))[1])["alarms"] == ["no_delegate"]
    async with ClientSession() as session:
        assert await post(session, program.url) is ocsp.OCSPCertStatus.GOOD


@pytest.mark.usefixtures("ocsp_records")
async def test_without_a_database_it_is_not_ready(ocsp_instance: Path, database: Database) -> None:
    """Until it is there."""
    async with out_of_reach(database):
        context = running(ocsp_instance, database, *OPTIONS)
        program, _ = await context.__aenter__()
        assert (await program.look("readyz"))[0] == 503
        assert json.loads((await program.look("healthz"))[1])["alarms"] == ["no_delegate", "outdated"]
    await until(lambda: is_ready(program))
    await context.__aexit__(None, None, None)


async def test_workers_end_with_their_parent(program: Program) -> None:
    """However it ends: nobody is left behind with the port."""
    workers = program.workers()
    program.process.kill()
    await program.process.wait()
    await until(lambda: have_ended(workers))


async def test_two_programs_do_not_share_a_port(program: Program, ocsp_instance: Path, database: Database) -> None:
    """Although workers do."""
    address = program.url.removeprefix("http://").removesuffix("/")
    second = await start(ocsp_instance, database, *OPTIONS, PREFCA_OCSP__LISTEN=address)
    _, errors = await second.process.communicate()
    assert second.process.returncode == 1
    assert errors.decode().splitlines()[-1].startswith(f"prefca-ocsp: cannot listen on {address}: ")
