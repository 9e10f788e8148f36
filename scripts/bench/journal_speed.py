"""What `scripts/bench/journal` runs."""

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from responder import Load, Row, Site, free_ports, prefca, run_program, show, site, weighed, wrk

from journal.record import kind, peer, result, several, stamp
from journal.recovery import StreamPlace
from journal.writing import Journal

REPEATED = 1000  # different certificates that are asked about again and again
BATCH, PEERS = 30, 3  # records that leave in one turn of a busy responder, and to how many
CHECKPOINT_EVERY = 100_000  # about a second of them
DAY_RECORDS, DAY_S = 10_000_000, 600  # a day of a large prefecture is to be collected, and verified, in ten minutes
MONTH_RECORDS, PARTIES, MONTH_S = 100_000_000, 300, 5
NOW = datetime(2026, 10, 15, 3, tzinfo=UTC)

# Read by the interpreter when it starts: the responder answers as ever, and writes nothing down.
WITHOUT_JOURNAL = """
from ocsp.turn import Turn

def record(self, leaving, now, kept=0):
    self._metrics.answered([reply.outcome for _, reply, _ in leaving])
    self._metrics.cache_hits += kept
    return True

Turn.record = record
"""


@dataclass(frozen=True)
class Times:
    """How long, how often, how many."""

    seconds: float
    rounds: int
    records: int


QUICK = Times(seconds=1, rounds=25, records=300_000)
FULL = Times(seconds=5, rounds=11, records=2_000_000)


async def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench/journal")
    parser.add_argument("--quick", action="store_true", help="shorter rounds, fewer records")
    parser.add_argument("--json", type=Path, help="write the table to this file too")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("missing: apt-get install --no-install-recommends wrk")
    if (os.cpu_count() or 1) < 2:
        sys.exit("one core for the server and one for the load are needed; this machine has one core")
    times = QUICK if given.quick else FULL
    async with site(REPEATED) as ca:
        rows = await on_the_hot_path(ca, times)
        rows += await asyncio.to_thread(kept, ca, times)
        rows += await reported(ca)
    show(rows, given.json)


# ---------------------------------------------------------------- the hot path


async def on_the_hot_path(ca: Site, times: Times) -> list[Row]:
    """Kept answers a second, with and without the journal, in turns on one core."""
    questions = ca.write_questions("post", range(REPEATED))
    port, tls_port, admin_port = free_ports(3)
    bare = replace(ca, port=port, tls_port=tls_port, admin_port=admin_port)
    async with contextlib.AsyncExitStack() as stack:
        recorded = await stack.enter_async_context(ca.running(1))
        with environment_without_journal():
            unrecorded = await stack.enter_async_context(bare.running(1))
        runs = [
            partial(weighed, process.pid, partial(wrk, one.port, "post", questions, times.seconds))
            for one, process in ((ca, recorded), (bare, unrecorded))
        ]
        for run in runs:
            await asyncio.to_thread(run)  # all answers are kept from then on
        pairs = [[await asyncio.to_thread(run) for run in runs] for _ in range(times.rounds)]
    return [
        compared("OCSP, warm cache, with the journal", pairs, "per_s", "/s", ">= 0.95"),
        compared("the same, CPU for an answer", pairs, "cpu_us", "us", "<= 1.05"),
    ]


def compared(case: str, pairs: list[list[Load]], what: str, unit: str, goal: str) -> Row:
    """The median of the ratios of each pair: both of a pair had the same machine."""
    ratios = [getattr(one, what) / getattr(other, what) for one, other in pairs]
    ours, bare = (statistics.median(getattr(pair[side], what) for pair in pairs) for side in (0, 1))
    return Row(case, ours, bare, "without journal", unit, statistics.median(ratios), goal)


@contextlib.contextmanager
def environment_without_journal() -> Iterator[None]:
    """Responders that are started in it write nothing down; their streams have names of their own."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "sitecustomize.py").write_text(WITHOUT_JOURNAL)
        os.environ["PYTHONPATH"] = f"{directory}:{before.get('PYTHONPATH', '')}"
        os.environ["PREFCA_JOURNAL__HOST"] = "bare"
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


# ---------------------------------------------------------------- written, collected, verified


def kept(ca: Site, times: Times) -> list[Row]:
    """What a process writes down, and what becomes of it."""
    results = [result("good", f"{number:016X}", 1500) for number in range(BATCH // PEERS)]
    common = stamp(NOW) + kind("ocsp_request")
    lines = [several(common + peer(f"party-{number}", "192.0.2.1"), results) for number in range(PEERS)]
    written_s, plain_s = written(ca.instance, lines, times.records), plain(ca.instance, lines, times.records)
    per_s, plain_per_s = times.records / written_s, times.records / plain_s
    rows = [
        Row(
            "records written, chained and signed",
            per_s,
            plain_per_s,
            "write(2) alone",
            "/s",
            per_s / plain_per_s,
            "0.3",
        )
    ]
    wanted = DAY_RECORDS / DAY_S
    for command in ("collect", "verify"):
        begin_s = time.monotonic()
        prefca(ca.instance, "journal", command)
        rate = times.records / (time.monotonic() - begin_s)
        rows.append(Row(f"records, {command}", rate, wanted, "10 M in 10 min", "/s", rate / wanted, ">= 1"))
    return rows


def written(instance: Path, lines: list[bytes], records: int) -> float:
    """Seconds for so many records, as a responder writes them."""
    journal = Journal(StreamPlace(instance / "journal", instance / "keys" / "journal", "bench"), NOW)
    begin_s = time.monotonic()
    for number in range(0, records, BATCH):
        for line in lines:
            journal.append_line(line)
        journal.flush()
        if number % CHECKPOINT_EVERY < BATCH:
            journal.checkpoint(NOW)
    seconds = time.monotonic() - begin_s
    journal.close(NOW)
    return seconds


def plain(instance: Path, lines: list[bytes], records: int) -> float:
    """Seconds for the same octets without chain, signatures and segments."""
    file = os.open(instance / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    begin_s = time.monotonic()
    for _ in range(0, records, BATCH):
        os.write(file, b"".join(lines))
    seconds = time.monotonic() - begin_s
    os.close(file)
    (instance / "plain").unlink()
    return seconds


# ---------------------------------------------------------------- reported


async def reported(ca: Site) -> list[Row]:
    """The report of a month with 100 million records, of which the counts are kept."""
    async with ca.owner() as connection:
        await connection.execute(
            "INSERT INTO usage (day, kind, result, attribute, party, items, octets)"
            " SELECT date '2026-09-01' + day, 'ocsp_request', result, '', 'party-' || party,"
            " $1::bigint / (30 * 2 * $2::bigint), 1500"
            " FROM generate_series(0, 29) day, generate_series(1, $2::bigint) party,"
            " (VALUES ('good'), ('revoked')) results (result)",
            *(MONTH_RECORDS, PARTIES),
        )
    rows = []
    for form in ("json", "pdf"):
        begin_s = time.monotonic()
        await asyncio.to_thread(
            prefca,
            ca.instance,
            *("report", "provision", "--month", "2026-09", "--format", form, "-o", str(ca.instance / form)),
        )
        seconds = time.monotonic() - begin_s
        case = f"report of a month of 100 M records, {form.upper()}"
        rows.append(Row(case, seconds, MONTH_S, "the goal", "s", seconds / MONTH_S, "<= 1"))
    return rows


if __name__ == "__main__":
    run_program(main())
