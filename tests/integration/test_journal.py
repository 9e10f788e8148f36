"""What servers wrote down is collected once, proved, and reported."""

import asyncio
import base64
import contextlib
import csv
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import zstandard
from pypdf import PdfReader

from issuer import children
from issuer.alarm import Alarm, Channel
from issuer.children import FailedError
from issuer.errors import NotNowError
from issuer.records import journal_store
from issuer.records.journal_store import JournalStore
from issuer.records.store import Store
from issuer.watch import collector
from issuer.watch.collector import Collector
from journal.record import Record
from journal.recovery import StreamPlace
from journal.writing import Journal
from settings.load import Settings, load
from tests.support.command import DSN_VARIABLE, ROOT, Prefca, finished, select, start
from tests.support.database import Database
from tests.support.segments import together

NOW = datetime(2026, 10, 15, 3, tzinfo=UTC)
LIST = "CN=Chiyoda-ku CRLDP,OU=CRL Distribution Points certificateRevocationList"
CHECK = ROOT / "scripts" / "check-journal-proof"


def answered(party: str | None, result: str = "good", at: datetime = NOW) -> Record:
    return Record(at, "ocsp_request", result, party, "192.0.2.1", "5A00000000000001", 1500)


def list_given(party: str | None, at: datetime = NOW) -> Record:
    return Record(at, "ldap_search", "success", party, "192.0.2.1", LIST, 100_000)


def started(instance: Path, stream: str, now: datetime) -> Journal:
    """A process that writes."""
    return Journal(StreamPlace(instance / "journal", instance / "keys" / "journal", stream), now)


def written(instance: Path, stream: str, *records: Record) -> None:
    """A process ran, wrote these and ended."""
    journal = started(instance, stream, NOW)
    for number, record in enumerate(records, 1):
        journal.append(record)
        if number % 10 == 0:
            journal.checkpoint(NOW)
    journal.close(NOW + timedelta(seconds=1))


@pytest.mark.req("R-4-11-2-1", "R-4-12-2-1")
def test_collected_segments_are_in_the_archive_and_gone_from_the_servers(instance: Path, prefca: Prefca) -> None:
    """Compressed, and listed with their times; a segment that is still written is left alone."""
    written(instance, "ocsp-0", *[answered("tester")] * 25)
    running = started(instance, "ocsp-1", NOW)
    running.append(answered("tester"))
    running.flush()
    assert prefca("journal", "collect", "--json").json["refused"] == []
    assert [file.name for file in (instance / "journal").iterdir()] == ["ocsp-1-00000001.jsonl"]
    (row,) = (one for one in prefca("journal", "list", "--json").json if one["stream"] == "ocsp-0")
    assert (row["segment"], row["records"]) == (1, 25)
    lines = zstandard.decompress((instance / "archive" / "journal" / row["file"]).read_bytes(), 1 << 20).splitlines()
    assert lines.count(answered("tester").line()[:-1]) == 25
    running.close(NOW)


@pytest.mark.req("R-4-11-2-1", "R-4-11-2-2")
def test_operations_of_the_issuer_are_in_the_journal_once(instance: Path, prefca: Prefca) -> None:
    """Every act that was recorded with its transaction, and no act twice, however often journals are collected."""
    for _ in range(2):
        assert prefca("batch", "--now").status == 0
        for _ in range(2):
            assert prefca("journal", "collect").status == 0
    files = sorted((instance / "archive" / "journal" / "issuer").iterdir())
    lines = b"".join(zstandard.decompress(file.read_bytes(), 1 << 20) for file in files).splitlines()
    records = [json.loads(line) for line in lines if line.startswith(b'{"at":')]
    recorded = select("SELECT record_id, kind, object FROM operation_record ORDER BY record_id")
    assert [(one["id"], one["kind"], one["object"]) for one in records] == recorded


@pytest.mark.req("R-4-11-9")
def test_a_process_that_was_killed_and_not_started_again_is_collected(instance: Path, prefca: Prefca) -> None:
    """Its segment is sealed by the collector."""
    journal = started(instance, "ocsp-7", NOW)
    journal.append(answered("tester"))
    journal.flush()
    journal.abandon()
    assert prefca("journal", "collect").status == 0
    assert {(one["stream"], one["records"]) for one in prefca("journal", "list", "--json").json} >= {("ocsp-7", 1)}
    written(instance, "ocsp-7", answered("tester"))
    assert prefca("journal", "collect").status == 0
    assert prefca("journal", "verify").status == 0


@pytest.mark.req("R-4-11-5-1", "R-4-12-2-3")
class TestVerify:
    """`prefca journal verify`."""

    @pytest.fixture
    def collected(self, instance: Path, prefca: Prefca) -> Path:
        """The directory of a stream in the archive, with two segments under two roots."""
        for _ in range(2):
            written(instance, "ocsp-0", *[answered("tester")] * 15)
            assert prefca("journal", "collect").status == 0
        return instance / "archive" / "journal" / "ocsp-0"

    def test_nothing_is_wrong_with_what_nobody_touched(self, collected: Path, prefca: Prefca) -> None:
        """Exit status 0, and the number of segments."""
        ended = prefca("journal", "verify", "--json")
        assert (ended.json["findings"], len(list(collected.iterdir()))) == ([], 2)
        assert ended.json["segments"] > 2

    @pytest.mark.parametrize(
        ("attack", "told"),
        [
            (lambda first, _: rewrite(first, lambda lines: lines[:4] + lines[5:]), "00000001.jsonl.zst: line 12: what"),
            (lambda first, _: rewrite(first, lambda lines: [*lines[:4], forged(), *lines[5:]]), "line 13: what stands"),
            (lambda first, _: rewrite(first, lambda lines: lines[:-1]), "not the segment that was collected"),
            (lambda first, _: first.unlink(), "No such file"),
            (lambda first, _: first.write_bytes(first.read_bytes()[:-20]), "00000001.jsonl.zst: "),
            (lambda first, second: shutil.copy(second, first), "not the segment that was collected"),
        ],
        ids=["record-removed", "record-replaced", "truncated", "file-removed", "file-damaged", "file-replaced"],
    )
    def test_what_was_done_to_the_archive_is_told_with_its_place(
        self, collected: Path, prefca: Prefca, attack: Callable[[Path, Path], object], told: str
    ) -> None:
        """Exit status 3 and the first bad line of the file."""
        attack(*sorted(collected.iterdir()))
        ended = prefca("journal", "verify")
        assert ended.status == 3
        assert told in ended.stderr

    @pytest.mark.parametrize(
        ("sql", "told"),
        [
            ("DELETE FROM journal_root_leaf WHERE number = 2", "root 2: segments under it are missing or changed"),
            (
                "UPDATE journal_segment SET records = 14 WHERE stream = 'ocsp-0' AND number = 2",
                "root 2: segments under",
            ),
            ("UPDATE journal_root SET statement = statement || ' '::bytea WHERE number = 1", "root 1: the signature"),
            (
                "DELETE FROM journal_root_leaf WHERE number = 1; DELETE FROM journal_root WHERE number = 1",
                "root 2: the one before is missing",
            ),
        ],
        ids=["segment-forgotten", "segment-changed", "root-changed", "day-removed"],
    )
    def test_what_was_done_to_the_database_is_told(self, collected: Path, prefca: Prefca, sql: str, told: str) -> None:
        """Even by somebody who can switch triggers off."""
        assert collected.exists()
        change(f"SET session_replication_role = replica; {sql}")
        ended = prefca("journal", "verify")
        assert ended.status == 3
        assert told in ended.stderr

    def test_a_clock_that_was_set_back_is_told(self, instance: Path, prefca: Prefca) -> None:
        """With its place; it may have had to be, so the status is 0."""
        written(instance, "ocsp-0", answered("tester"), answered("tester", at=NOW - timedelta(hours=1)))
        assert prefca("journal", "collect").status == 0
        ended = prefca("journal", "verify", "--json")
        assert ended.json["notes"] == ["ocsp-0/ocsp-0-00000001.jsonl.zst: line 4: the clock was set back"]

    def test_a_segment_that_was_changed_before_it_was_collected_stays_and_is_told(
        self, instance: Path, prefca: Prefca
    ) -> None:
        """By collect and by verify; the rest is collected."""
        written(instance, "ocsp-0", *[answered("tester")] * 3)
        written(instance, "ocsp-1", answered("tester"))
        file = instance / "journal" / "ocsp-0-00000001.jsonl"
        file.write_bytes(file.read_bytes().replace(b'"good"', b'"evil"', 1))
        for command in ("collect", "verify"):
            ended = prefca("journal", command)
            assert ended.status == 3
            assert "ocsp-0-00000001.jsonl: line 6: what stands before" in ended.stderr
        assert [one.name for one in (instance / "journal").iterdir()] == [file.name]


@pytest.mark.req("R-4-11-5-1")
@pytest.mark.usefixtures("auditor")
class TestProve:
    """`prefca journal prove`, checked by a program that knows nothing of prefca."""

    def test_a_proof_convinces_a_stand_alone_script_and_a_forged_one_does_not(
        self, instance: Path, prefca: Prefca, tmp_path: Path
    ) -> None:
        """It prints the record and when it was there; whatever part of the proof was changed, it does not."""
        written(instance, "ocsp-0", *[answered("tester", at=NOW + timedelta(seconds=number)) for number in range(21)])
        assert prefca("journal", "collect").status == 0
        key, file = prefca("journal", "key").stdout.strip(), tmp_path / "proof.json"
        file.write_text(prefca("journal", "prove", "ocsp-0", "1", "12").stdout)
        checked = check(file, key)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert '"at":"2026-10-15T03:00:11.000Z"' in checked.stdout
        proof = json.loads(file.read_text())
        for part in ("record", "segment", "root", "signature"):
            replaced = base64.b64encode(bytes(64)).decode() if part == "signature" else proof[part].replace("1", "2", 1)
            file.write_text(json.dumps(proof | {part: replaced}))
            assert check(file, key).returncode == 1, part

    def test_records_that_share_a_line_are_collected_counted_and_proved_one_by_one(
        self, instance: Path, prefca: Prefca, tmp_path: Path
    ) -> None:
        """A proof shows one of them, and nothing of the others."""
        journal = started(instance, "ocsp-0", NOW)
        of_one_turn = [answered("tester", result) for result in ("good", "revoked", "unauthorized", "good")]
        for line in (answered("first").line(), together(*of_one_turn), answered("last").line()):
            journal.append_line(line)
        journal.close(NOW)
        assert prefca("journal", "collect").status == 0
        assert prefca("journal", "verify").status == 0
        assert {(one["stream"], one["records"]) for one in prefca("journal", "list", "--json").json} >= {("ocsp-0", 6)}
        items = prefca("usage", "--month", "2026-10", "--json").json["items"]
        assert {one["recipient"]: one["items"] for one in items} == {"first": 1, "tester": 3, "last": 1}
        key, file = prefca("journal", "key").stdout.strip(), tmp_path / "proof.json"
        expected = [answered("first"), *of_one_turn, answered("last")]
        for number, record in enumerate(expected, 1):
            file.write_text(prefca("journal", "prove", "ocsp-0", "1", str(number)).stdout)
            checked = check(file, key)
            assert (checked.returncode, checked.stderr) == (0, "")
            assert checked.stdout.partition("\n")[2] == record.line().decode()

    def test_what_is_not_there_cannot_be_proved(self, instance: Path, prefca: Prefca) -> None:
        """In a sentence."""
        assert instance.exists()
        assert "has no record 1" in prefca("journal", "prove", "ocsp-0", "1", "1").complaint

    @pytest.mark.parametrize("content", [None, "", "{", "\x00"], ids=["no file", "empty", "cut off", "no JSON"])
    def test_what_is_no_proof_is_told_as_that(self, tmp_path: Path, content: str | None) -> None:
        """By the check that stands alone, in one line."""
        file = tmp_path / "proof.json"
        if content is not None:
            file.write_text(content)
        checked = check(file, "AAAA")
        assert (checked.returncode, checked.stdout, checked.stderr.count("\n")) == (1, "", 1)
        assert checked.stderr.startswith("check-journal-proof: neither a proof nor a key: ")


@pytest.mark.parametrize("command", ["list", "verify"])
def test_days_in_the_wrong_order_are_told(instance: Path, prefca: Prefca, command: str) -> None:
    """Instead of that nothing was found wrong."""
    assert instance.exists()
    ended = prefca("journal", command, "--from", "2026-10-02", "--to", "2026-10-01")
    assert ended.status == 2
    assert "the day of --to is before that of --from" in ended.complaint


@pytest.mark.req("R-4-11-5-1", "R-4-5-1")
def test_one_host_collects_for_all(instance: Path, prefca: Prefca, tmp_path: Path) -> None:
    """Another one refuses before it writes anything; reports wait for the segments of all, or for their retirement."""
    assert prefca("journal", "collect").status == 0
    other = tmp_path / "other"
    shutil.copytree(instance, other, ignore=shutil.ignore_patterns("journal", "archive"))
    for directory in ("journal", "keys/journal"):
        (other / directory).mkdir(parents=True)
    written(other, "b.ocsp-0", answered("tester"))
    refused = finished(start("journal", "collect", instance=other))
    assert (refused.status, refused.stdout) == (3, "")
    assert "collected on another host" in refused.stderr
    assert not (other / "archive").exists()
    shutil.copy(other / "journal" / "b.ocsp-0-00000001.jsonl", instance / "journal")
    collected = prefca("journal", "collect", "--json").json
    assert collected["complete_until"]["b"] == "2026-10-15T03:00:01Z"
    assert prefca("journal", "verify").status == 0
    late = prefca("report", "provision", "--month", "2026-10")  # of October; this host knows until now
    assert "not everything of the month is collected: of b until 2026-10-15T03:00:01Z" in late.stderr
    assert "no-such" in prefca("journal", "collect", "--retired", "no-such").complaint
    assert list(prefca("journal", "collect", "--retired", "b", "--json").json["complete_until"]) == [""]
    assert list(prefca("journal", "collect", "--json").json["complete_until"]) == [""]


@pytest.mark.req("R-4-5-1", "R-2-1-4-10")
class TestProvisionReport:
    """`prefca report provision`."""

    RECORDS = (
        *[answered("alpha")] * 30,
        *[answered("alpha", "revoked")] * 4,
        *[answered("alpha", "unknown"), answered("alpha", "unauthorized")],
        *[list_given("alpha")] * 3,
        *[answered("beta")] * 7,
        *[answered("beta", at=datetime(2026, 9, 30, 14, 59, tzinfo=UTC))] * 100,  # still September in Japan
        *[answered("beta", at=datetime(2026, 9, 30, 15, tzinfo=UTC))] * 2,
        answered(None, "good"),
    )

    def test_it_tells_recipient_month_number_and_method(self, instance: Path, prefca: Prefca, tmp_path: Path) -> None:
        """Two streams count once each, however often they are collected; refusals and other months do not count."""
        for stream in ("ocsp-0", "ocsp-1"):
            written(instance, stream, *self.RECORDS)
            for _ in range(2):
                assert prefca("journal", "collect").status == 0
        rows = list(csv.DictReader(io.StringIO(prefca("report", "provision", "--month", "2026-10").stdout)))
        assert [(row["提供先"], row["提供年月"], row["提供方法"], row["提供件数"]) for row in rows] == [
            ("", "2026-10", "OCSP", "2"),
            ("alpha", "2026-10", "OCSP", "68"),
            ("alpha", "2026-10", "CRL", "6"),
            ("beta", "2026-10", "OCSP", "18"),
        ]
        report = prefca("report", "provision", "--month", "2026-10", "--format", "json").stdout
        kinds = {"OCSP": "ocsp_request", "CRL": "ldap_search"}
        told = {(one["recipient"], kinds[one["method"]]): one["items"] for one in json.loads(report)["provisions"]}
        assert told == counted_otherwise(instance / "archive" / "journal")
        page = tmp_path / "report.html"
        assert prefca("report", "provision", "--month", "2026-10", "--format", "html", "-o", page).status == 0
        assert "<h1>失効情報等の提供状況（2026年10月）</h1>" in page.read_text()
        assert "<td class=n>68</td><td>OCSP</td>" in page.read_text()
        assert page.read_text().count("<rect") == 4
        document = tmp_path / "report.pdf"
        assert prefca("report", "provision", "--month", "2026-10", "--format", "pdf", "-o", document).status == 0
        assert {"alpha", "68", "beta", "18"} <= set(PdfReader(document).pages[0].extract_text().split())

    def test_a_month_that_is_not_over_is_told(self, instance: Path, prefca: Prefca) -> None:
        """On standard error, and in the JSON."""
        assert instance.exists()
        ended = prefca("report", "provision", "--month", "2099-01", "--format", "json")
        assert json.loads(ended.stdout)["complete"] is False
        assert "not over" in ended.stderr


def counted_otherwise(archive: Path) -> Counter[tuple[str | None, str]]:
    """What was provided in October, line by line by another reader of JSON."""
    counts: Counter[tuple[str | None, str]] = Counter()
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for file in archive.glob("ocsp-*/*.zst"):
            for line in zstandard.decompress(file.read_bytes(), 1 << 20).decode().splitlines():
                counts.update(
                    connection.execute(
                        "SELECT json_extract(?1, '$.party'), json_extract(?1, '$.kind') WHERE"
                        " json_extract(?1, '$.at') BETWEEN '2026-09-30T15' AND '2026-10-31T15'"
                        " AND json_extract(?1, '$.result') IN ('good', 'revoked', 'success')",
                        (line,),
                    )
                )
    return counts


@pytest.mark.req("R-4-11-9", "R-4-12-2-1")
def test_killed_at_any_moment_a_collector_loses_and_doubles_nothing(instance: Path, prefca: Prefca) -> None:
    """The counts are those of one run."""
    for number in range(6):
        written(instance, f"ocsp-{number}", *[answered("alpha")] * 2000)
    for pause_s in (0.45, 0.5, 0.55, 0.6, 0.65, 0.7):
        process = start("journal", "collect", instance=instance)
        try:
            process.wait(pause_s)
        except subprocess.TimeoutExpired:
            process.kill()
        finished(process)
    assert prefca("journal", "collect").status == 0
    assert prefca("journal", "verify").status == 0
    assert select("SELECT sum(items)::int FROM usage WHERE kind = 'ocsp_request'") == [(12_000,)]
    assert not list((instance / "journal").iterdir())


def change(sql: str) -> None:
    """Change the database as its superuser."""

    async def execute() -> None:
        connection = await asyncpg.connect(os.environ[DSN_VARIABLE], user="prefca")
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(execute())


def rewrite(file: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a segment in the archive."""
    lines = zstandard.decompress(file.read_bytes(), 1 << 20).splitlines(keepends=True)
    file.write_bytes(zstandard.compress(b"".join(change(lines))))


def forged() -> bytes:
    """A record that nobody wrote."""
    return answered("somebody-else").line()


def check(proof: Path, key: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-E", str(CHECK), str(proof), key]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.req("R-4-12-2-4", "R-4-11-9")
async def test_the_scheduler_collects_every_day_and_tells_what_is_wrong(
    instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once when it starts, then with each day of Japan; a segment that was changed is an alarm until it is gone."""
    monkeypatch.setattr(collector, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(collector, "AGAIN_AFTER_TAMPERING", timedelta())
    days, told = [NOW], asyncio.Queue[list[str]]()

    async def tell(alarms: Sequence[Alarm]) -> None:
        told.put_nowait([alarm.name for alarm in alarms])

    written(instance, "ocsp-0", answered("tester"))
    collecting = asyncio.create_task(Collector(load(instance), lambda: days[-1], [Channel(tell)]).keep())
    async with asyncio.timeout(30):
        while list((instance / "journal").iterdir()):  # noqa: ASYNC110 - made by another process
            await asyncio.sleep(0.05)
        written(instance, "ocsp-0", answered("tester"))
        (file,) = (instance / "journal").iterdir()
        whole = file.read_bytes()
        file.write_bytes(whole.replace(b'"good"', b'"evil"'))
        days.append(NOW + timedelta(days=1))
        assert await told.get() == ["journal_tampered"]
        file.write_bytes(whole)
        assert await told.get() == []
    assert not file.exists()
    collecting.cancel()


@pytest.mark.parametrize(
    ("failure", "told", "runs"),
    [
        (FailedError("PostgreSQL cannot be reached", 4), [0, 0, 0, 1], 3),
        (FailedError("no room on the disk", 1), [1, 1, 1, 1], 3),
        (FailedError("", 3, b'{"refused": ["ocsp-0-00000001.jsonl: line 6"]}'), [1, 1, 1, 1], 2),
        (FailedError("the journals are collected on another host", 3), [0, 0, 0, 0], 1),
    ],
    ids=["may pass", "fails", "tampered", "another host"],
)
async def test_the_scheduler_tries_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: FailedError, told: list[int], runs: int
) -> None:
    """Not each minute; and it tells at once of what will not pass by itself, but not that another host collects."""
    monkeypatch.setattr(collector, "LOOK_EVERY_S", 0)
    commands, alarms = [], []
    times = iter(minutes for minute in (0, 9, 50, 61) for minutes in (minute, minute))  # before and after each look

    async def command(*arguments: str, timeout_s: float) -> None:
        commands.append(arguments)
        raise failure

    class Told(Channel):
        async def tell(self, standing: Sequence[Alarm], now: datetime) -> None:
            alarms.append(len(standing))

    monkeypatch.setattr(children, "command", command)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await Collector(
            Settings(instance=tmp_path),
            lambda: NOW + timedelta(minutes=next(times)),
            [Told(lambda _: asyncio.sleep(0))],
        ).keep()
    assert (alarms, len(commands)) == (told, runs)


async def test_an_act_that_does_not_end_stops_nobody_but_the_collector(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others go on recording while the collector waits for it, and in the end it gives up."""
    monkeypatch.setattr(journal_store, "WRITERS_TRIES", 5)
    async with (
        database.connect("prefca_issuer") as hanging,
        database.connect("prefca_issuer") as collecting,
        database.connect("prefca_issuer") as working,
    ):
        async with hanging.transaction():
            await Store(hanging, "hanging").record("test", NOW, "1")
            waiting = asyncio.create_task(JournalStore(collecting).operations_after(0, 10))
            await asyncio.sleep(0.1)
            async with asyncio.timeout(10), working.transaction():
                await Store(working, "working").record("test", NOW, "2")
            with pytest.raises(NotNowError, match="under way"):
                await waiting
        assert [row["object"] for row in await JournalStore(collecting).operations_after(0, 10)] == ["1", "2"]
