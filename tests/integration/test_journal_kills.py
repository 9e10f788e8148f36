"""Whatever kills a responder, every answer that left is in its journal."""

import asyncio
import os
import random
import signal
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout

from journal.reading import read_segment
from tests.support import journal
from tests.support.database import Database
from tests.support.ocsp_program import ASKED, running

CLIENTS = 4
KILLS = int(os.environ.get("PREFCA_TEST_KILLS", "4"))
HEADERS = {"Content-Type": "application/ocsp-request"}


async def ask(url: str, answered: Counter[str]) -> None:
    """Ask again and again, whatever happens to the server."""
    while True:
        async with ClientSession(timeout=ClientTimeout(5)) as session:
            try:
                while True:
                    async with session.post(url, data=ASKED, headers=HEADERS) as response:
                        answered["other" if len(await response.read()) < 100 else "signed"] += 1
            except (ClientError, TimeoutError):
                await asyncio.sleep(0.05)


async def more(answered: Counter[str]) -> None:
    """Wait for some answers."""
    enough = answered["signed"] + 50
    while answered["signed"] < enough:  # noqa: ASYNC110 - the counter is a plain one
        await asyncio.sleep(random.uniform(0.01, 0.3))


@pytest.mark.req("R-4-11-2-1", "R-4-11-9", "R-4-4-4-2-1")
@pytest.mark.usefixtures("ocsp_records")
async def test_every_answer_that_left_is_in_the_journal_after_kills(ocsp_instance: Path, database: Database) -> None:
    """Killed at random moments under load; each segment is whole and follows the one before."""
    answered: Counter[str] = Counter()
    async with running(ocsp_instance, database) as (program, url):
        clients = [asyncio.create_task(ask(url, answered)) for _ in range(CLIENTS)]
        for _ in range(KILLS):
            await more(answered)
            (worker,) = program.workers()
            os.kill(worker, signal.SIGKILL)
            await program.event("worker_ended")
        await more(answered)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        assert await program.stop() == 0
    recorded = sum(record["result"] == "good" for record in journal.records(ocsp_instance, "ocsp-0"))
    assert answered["other"] == 0
    assert answered["signed"] <= recorded <= answered["signed"] + CLIENTS * (KILLS + 1)
    segments = [
        read_segment(file.read_bytes().splitlines(keepends=True))
        for file in sorted((ocsp_instance / "journal").iterdir())
    ]
    assert len(segments) == KILLS + 1
    assert all(segment.sealed_at for segment in segments)
    for earlier, later in pairwise(segments):
        assert later.head.previous == earlier.sha256
