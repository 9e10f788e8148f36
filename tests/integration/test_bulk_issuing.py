"""Many notices, worked on by clerks in processes of their own: what is issued is what one clerk would issue."""

import asyncio
import base64
import gc
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from issuer.cli.issuing import BULK_LINES
from issuer.errors import NotNowError, RefusedError
from issuer.keys import secret_of
from issuer.residents.clerk import Order
from issuer.residents.clerks import ClerkProcesses, Clerks, Employment, OneClerk, clerk_processes
from issuer.residents.lines import Line, Refused
from issuer.residents.registration import Issued, Outcome, open_desk, register
from pkix.signing import SigningError
from settings.load import INSTANCE_VARIABLE
from tests.support.ca import NOW, FoundedCA, notice_line, public_key
from tests.support.command import DSN_VARIABLE, Prefca, select, start
from tests.support.database import Database
from tests.support.running import eventually
from tests.support.softhsm import SoftHSM

SMALL_BATCH = 8
SERIALS = "SELECT count(*) FROM certificate WHERE kind = 'resident'"


def codes(outcomes: Sequence[Outcome]) -> list[str]:
    """Of each outcome its code, or how it was issued."""
    return [
        outcome.code if isinstance(outcome, Refused) else "issued before" if outcome.again else "issued"
        for outcome in outcomes
    ]


def with_key(person: int, key: int, **changes: object) -> bytes:
    """A notice of this person with that key."""
    return notice_line(person, public_key=base64.b64encode(public_key(key)).decode(), **changes)


def employment(ca: FoundedCA) -> Employment:
    """What `prefca issue` tells its clerks."""
    generation = ca.key.generation
    return Employment(
        ca.settings, secret_of(ca.settings), generation.key_reference, ca.installation.authority, generation.certificate
    )


async def outcomes_of(ca: FoundedCA, clerks: Clerks, *lines: bytes) -> list[Outcome]:
    """What these clerks make of the lines."""
    desk = await open_desk(ca.installation, ca.key, lambda: NOW, os.urandom, clerks)
    return [outcome async for outcomes in register(desk, lines) for outcome in outcomes]


@pytest.fixture
async def processes(ca: FoundedCA, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClerkProcesses]:
    """Two clerks, who get small batches."""
    monkeypatch.setattr(ClerkProcesses, "batch_lines", SMALL_BATCH)
    async with clerk_processes(employment(ca), 2) as processes:
        yield processes


@pytest.mark.req("R-4-2-1")
async def test_every_line_has_its_outcome_in_the_order_of_the_file(ca: FoundedCA, processes: ClerkProcesses) -> None:
    """Of many batches, with lines between them that are no notices."""
    lines = [b"nonsense\n" if number % 10 == 3 else notice_line(number) for number in range(100)]
    outcomes = await outcomes_of(ca, processes, *lines)
    assert [outcome.line for outcome in outcomes] == list(range(1, 101))
    assert codes(outcomes) == ["not-json" if number % 10 == 3 else "issued" for number in range(100)]
    recorded = {row[0]: row[1] for row in await rows(ca, "SELECT serial, der FROM certificate WHERE kind = 'resident'")}
    assert {o.serial: o.certificate for o in outcomes if isinstance(o, Issued)} == recorded


async def rows(ca: FoundedCA, sql: str) -> list[tuple[object, ...]]:
    """What the database has."""
    async with ca.database.connect("owner") as connection:
        return [tuple(row) for row in await connection.fetch(sql)]


@pytest.mark.req("R-4-2-3-1", "R-3-2-2", "R-6-3-2")
@pytest.mark.parametrize("distance", [1, SMALL_BATCH, 3 * SMALL_BATCH], ids=["neighbours", "next batch", "underway"])
async def test_notices_of_one_person_are_decided_in_their_order(
    ca: FoundedCA, processes: ClerkProcesses, distance: int
) -> None:
    """However near they are to each other: a second application, a renewal, the same notice, the same key."""
    others = iter(range(1000, 2000))

    def between() -> list[bytes]:
        return [notice_line(next(others)) for _ in range(distance - 1)]

    interesting = [
        (with_key(1, 1), "issued"),
        (with_key(1, 2), "valid-certificate-exists"),
        (with_key(1, 3, renewal=True), "issued"),
        (with_key(1, 3, renewal=True), "issued before"),
        (with_key(1, 1), "issued-and-revoked"),
        (with_key(2, 3), "key-already-certified"),
        (with_key(2, 4, renewal=True), "nothing-to-renew"),
        (with_key(2, 5), "issued"),
    ]
    lines = [line for notice, _ in interesting for line in (notice, *between())]
    outcomes = await outcomes_of(ca, processes, *lines)
    assert codes(outcomes)[::distance] == [code for _, code in interesting]
    assert await ca.query("SELECT count(*) FROM revocation") == 1


class Overtaken(OneClerk):
    """Somebody else acts while certificates are made."""

    def __init__(self, ca: FoundedCA, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(ca.key)
        self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile

    async def certify(self, orders: Sequence[Order], now: datetime) -> list[bytes]:
        """The first time, let them act."""
        if meanwhile := self._meanwhile:
            self._meanwhile = None
            await meanwhile()
        return await super().certify(orders, now)


@pytest.mark.req("R-4-2-3-1", "R-3-2-2")
@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        (with_key(1, 9), with_key(1, 1), ["valid-certificate-exists", "issued"]),
        (with_key(1, 1), with_key(1, 1), ["issued before", "issued"]),
        (with_key(3, 1), with_key(1, 1), ["key-already-certified", "issued"]),
        (with_key(3, 3), with_key(1, 1), ["issued", "issued"]),
    ],
    ids=["the same person", "the same notice", "the same key", "somebody else"],
)
async def test_what_others_register_meanwhile_counts(
    ca: FoundedCA, theirs: bytes, ours: bytes, expected: list[str]
) -> None:
    """A decision that was overtaken is made anew before anything is recorded."""
    async with ca.another_process() as other:
        outcomes = await outcomes_of(ca, Overtaken(ca, lambda: other.register(theirs)), ours, with_key(2, 2))
    assert codes(outcomes) == expected
    assert await ca.query(SERIALS) == 1 + expected.count("issued")


@pytest.mark.req("R-3-2-2", "R-4-4-2-4")
async def test_a_certificate_revoked_meanwhile_is_not_renewed(ca: FoundedCA) -> None:
    """There is nothing to renew any more."""
    (old,) = await ca.issue(1)
    async with ca.another_process() as other:
        renewal = with_key(1, 9, renewal=True)
        outcomes = await outcomes_of(ca, Overtaken(ca, lambda: other.revoke(old.serial)), renewal)
    assert codes(outcomes) == ["nothing-to-renew"]


@pytest.mark.req("R-4-4-1-3")
async def test_a_key_that_was_compromised_meanwhile_issues_nothing_more(ca: FoundedCA) -> None:
    """What was signed with it is not recorded, and so never handed out."""
    compromise = "UPDATE ca_generation SET state = 'compromised'"
    with pytest.raises(RefusedError, match="the key that signed is no longer active"):
        await outcomes_of(ca, Overtaken(ca, lambda: ca.query(compromise)), notice_line(1))
    assert await ca.query(SERIALS) == 0


@pytest.mark.req("R-7-1-1")
async def test_a_serial_number_that_exists_is_drawn_again(ca: FoundedCA) -> None:
    """However improbable."""
    draws = iter([b"\x01" * 8, b"\x01" * 8, b"\x02" * 8])
    desk = await open_desk(ca.installation, ca.key, lambda: NOW, lambda _: next(draws))
    issued = [outcome for line in (notice_line(1), notice_line(2)) async for (outcome,) in register(desk, [line])]
    assert [outcome.serial & 0xFF for outcome in issued if isinstance(outcome, Issued)] == [1, 2]


@pytest.mark.req("R-4-2-1")
def test_a_line_without_end_is_refused_and_stops_nobody_else(instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Whatever its length; the lines are numbered as in the file."""
    notices, results = tmp_path / "notices.jsonl", tmp_path / "results.jsonl"
    notices.write_bytes(notice_line(1) + b"x" * 5_000_000 + b"\n\n" + notice_line(2).rstrip())
    assert prefca("issue", notices, "--results", results).status == 3
    outcomes = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(outcome["line"], outcome.get("code")) for outcome in outcomes] == [
        (1, None),
        (2, "line-too-long"),
        (4, None),
    ]


@pytest.mark.req("R-4-2-1")
async def test_after_a_clerk_died_the_run_is_repeated(ca: FoundedCA, processes: ClerkProcesses) -> None:
    """What was reported stays; nothing is there twice."""
    lines = [notice_line(number) for number in range(100)]
    desk = await open_desk(ca.installation, ca.key, lambda: NOW, os.urandom, processes)
    reported: list[Outcome] = []

    async def run() -> None:
        async for outcomes in register(desk, lines):
            reported.extend(outcomes)
            if len(reported) == 3 * SMALL_BATCH:
                kill_a_child()

    with pytest.raises(NotNowError, match="run it again"):
        await run()
    again = await ca.register(*lines)
    assert codes(again)[: len(reported)] == ["issued before"] * len(reported)
    assert [o.certificate for o in reported if isinstance(o, Issued)] == [
        o.certificate for o in again[: len(reported)] if isinstance(o, Issued)
    ]
    assert await ca.query(SERIALS) == len(lines)


async def test_a_clerk_who_dies_with_work_before_him_leaves_no_noise(
    ca: FoundedCA, caplog: pytest.LogCaptureFixture
) -> None:
    """One error says that he is gone; asyncio has nothing to add."""

    async def work() -> None:
        lines = [Line(number, notice_line(number)) for number in range(500)]
        async with clerk_processes(employment(ca), 1) as processes:
            asked = [asyncio.create_task(processes.read(lines, NOW)) for _ in range(4)]
            await asyncio.sleep(0)  # more than a pipe holds is on its way
            kill_a_child()
            answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(answer) for answer in answers} == {NotNowError}

    await work()
    gc.collect()  # what nobody asked for complains when it goes
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_a_clerk_who_cannot_use_the_key_says_why(ca: FoundedCA) -> None:
    """In one line, before anything is issued."""
    with pytest.raises(SigningError, match="wrong passphrase"):
        async with clerk_processes(replace(employment(ca), secret="wrong"), 2):
            pytest.fail("nobody should work")


@pytest.mark.req("R-6-1-1-3", "R-4-2-1")
def test_a_long_file_is_issued_by_processes_with_sessions_of_their_own(
    hsm: SoftHSM, database: Database, tmp_path: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the token of the CA; each certificate is recorded and reported once."""
    pin, notices, results = (tmp_path / name for name in ("pin", "notices.jsonl", "results.jsonl"))
    pin.write_text(hsm.pin)
    notices.write_bytes(b"".join(notice_line(number) for number in range(BULK_LINES + 5)))
    options = ("--signer", "pkcs11", "--module", hsm.module, "--token", hsm.label, "--pin-file", pin)
    monkeypatch.setenv(INSTANCE_VARIABLE, str(tmp_path / "instance"))
    monkeypatch.setenv(DSN_VARIABLE, database.dsn)
    assert prefca("init", *options).status == 0
    ended = prefca("issue", notices, "--results", results, "--processes", "3", "--json")
    assert ended.json == {"issued": BULK_LINES + 5, "issued_before": 0, "refused": 0, "results": str(results)}
    reported = [json.loads(line) for line in results.read_text().splitlines()]
    assert [outcome["line"] for outcome in reported] == list(range(1, BULK_LINES + 6))
    assert len({outcome["serial"] for outcome in reported}) == BULK_LINES + 5


def test_no_clerk_outlives_who_employed_him(instance: Path, tmp_path: Path) -> None:
    """Not even when that is killed."""
    notices = tmp_path / "notices.jsonl"
    notices.write_bytes(b"".join(notice_line(number) for number in range(2 * BULK_LINES)))
    process = start("issue", str(notices), "--results", str(tmp_path / "results"), instance=instance)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    eventually(lambda: select("SELECT FROM holder"), "the first batch is recorded")
    clerks = [Path("/proc") / child for child in children.read_text().split()]
    assert clerks
    process.kill()
    process.communicate()
    eventually(lambda: not any(is_running(clerk) for clerk in clerks), "the clerks are gone")


def kill_a_child() -> None:
    """Kill one of the clerks of this process."""
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        if b"issuer.residents.clerk_process" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
            return
    pytest.fail("there is no clerk")


def is_running(process: Path) -> bool:
    """Whether a process of that directory lives."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
