"""The journal that servers append to."""

import asyncio
import errno
import itertools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from journal import writing
from journal.keeping import PORTION_OCTETS, keep
from journal.reading import Contents, TamperedError, read_segment
from journal.record import Record, records_in
from journal.recovery import JournalBusyError, Note, StreamPlace
from journal.seal import Head, is_checkpoint, signed_line, spki
from journal.writing import Journal
from tests.support.journal import full_disk
from tests.support.ocsp import eventually
from tests.support.segments import together

pytestmark = pytest.mark.req("R-4-11-2-1", "R-4-11-2-2")
NOW = datetime(2014, 4, 1, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def record(name: str, at: datetime = NOW) -> Record:
    return Record(at, "ldap_search", "success", "tester", "192.0.2.1", name, 48)


def objects(path: Path) -> list[str]:
    """What the records of a segment are about."""
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(record)["object"] for line in lines for record in records_in(line)]


def contents(path: Path) -> Contents:
    """What a segment holds, after all checks."""
    with path.open("rb") as lines:
        return read_segment(lines)


@pytest.fixture
def place(tmp_path: Path) -> StreamPlace:
    return StreamPlace(tmp_path / "journal", tmp_path / "keys", "ocsp-0")


@pytest.fixture
def journal(place: StreamPlace) -> Journal:
    return Journal(place, NOW)


def write(journal: Journal, *names: str) -> None:
    for name in names:
        journal.append(record(name))
    journal.flush()


class TestRecords:
    """What one line says."""

    def test_a_record_tells_time_kind_result_origin_and_object(self) -> None:
        """Each line is one JSON object with all that the rule asks for."""
        assert json.loads(record("OU=富山県").line()) == {
            "at": "2014-04-01T09:30:00.000Z",
            "kind": "ldap_search",
            "result": "success",
            "party": "tester",
            "origin": "192.0.2.1",
            "object": "OU=富山県",
            "size": 48,
        }

    @pytest.mark.parametrize("text", ["a\nb", '"', "\udc80", "\x00"], ids=["line-feed", "quote", "not-utf-8", "nul"])
    def test_a_record_is_one_line_whatever_a_peer_wrote(self, text: str) -> None:
        """A peer cannot forge a second record, nor make the first one unreadable."""
        line = record(text).line()
        assert line.count(b"\n") == 1
        assert json.loads(line)["object"] == text
        assert records_in(line) == (line,)

    @pytest.mark.parametrize("by", [None, "network"])
    @pytest.mark.parametrize("party", [None, "tester", 'a "party"', "県"])
    def test_several_records_on_a_line_are_those_that_would_stand_alone(
        self, party: str | None, by: str | None
    ) -> None:
        """Octet for octet: who counts, reviews or proves records sees no difference."""
        alone = [
            Record(NOW, "ocsp_request", result, party, "192.0.2.1", name, size, by)
            for result, name, size in (
                *(("good", "5A00000000000001", 1500), ("revoked", "", 0)),
                *(("good", '],["x","y",1],["', 1), ("good", '"records":[', 2), ("good", "\\", 3)),
                *(("good", "a\nb", 4), ("unknown", "\udc80", 5), ("good", "OU=富山県", 6)),
            )
        ]
        line = together(*alone)
        assert json.loads(line)["records"] == [[one.result, one.object, one.size] for one in alone]
        assert list(records_in(line)) == [one.line() for one in alone]
        assert list(records_in(together(alone[0]))) == [alone[0].line()]

    @pytest.mark.parametrize(
        "line",
        [
            b'{"checkpoint":1,"at":"2014"}\n',
            b'{"seal":1,"at":"2014"}\n',
            b'{"segment":1}\n',
            b"\n",
            b"",
            b'"records":[]',
        ],
    )
    def test_other_lines_hold_no_record(self, line: bytes) -> None:
        """Heads, checkpoints and seals are not counted."""
        assert not records_in(line)

    @pytest.mark.parametrize(
        ("changed", "to"),
        [
            (b'"records":[[', b'"records":[],['),
            (b"],[", b"] ["),
            (b"48]", b"-1]"),
            (b"]}", b"],[]}"),
            (b'"good"', b"1"),
        ],
    )
    def test_what_no_process_writes_holds_no_record(self, changed: bytes, to: bytes) -> None:
        """Nor is it counted; a segment with it is refused."""
        line = together(*[replace(record(name), result="good") for name in "ab"]).replace(changed, to)
        assert not records_in(line)

    @pytest.mark.parametrize(
        ("changed", "to"),
        [
            (b"2014-04-01T09", b"9999999999T99"),
            (b"2014-04-01T09", b"2014-02-31T09"),
            (b".000Z", b".000"),
            (b'"size":48', b'"size":' + b"9" * 5000),
            (b'"size":48', b'"size":"48"'),
            (b"tester", b"te\x01ster"),
            (b"tester", b"te\xffster"),
            (b"tester", b"te\\u0000ster"),
            (b"tester", b"te\\udc80ster"),
            (b"ldap_search", b"ldap\\nsearch"),
            (b'"kind"', b'"Kind"'),
            (b'"size":48', b'"size":48,"id":1,"more":1'),
        ],
    )
    def test_a_record_has_the_form_in_which_it_is_written_and_no_other(
        self, journal: Journal, changed: bytes, to: bytes
    ) -> None:
        """Who may write to segments cannot lead readers into a date, a number or a text that they cannot bear."""
        line = record("a").line().replace(changed, to)
        assert not records_in(line)
        write(journal, "a")
        lines = journal.path.read_bytes().splitlines(keepends=True)
        with pytest.raises(TamperedError, match="line 3: neither a record nor a checkpoint"):
            read_segment([*lines[:2], line])


class TestWriting:
    """One process that appends."""

    def test_a_batch_is_in_the_file_after_flush(self, journal: Journal) -> None:
        """Killing the process then loses nothing."""
        write(journal, "a", "b")
        write(journal, "c")
        assert objects(journal.path) == ["a", "b", "c"]

    def test_only_the_owner_may_read_the_journal(self, journal: Journal, place: StreamPlace) -> None:
        """The usage history of relying parties is nobody else's business."""
        for file in (place.segments, place.keys, journal.path, place.keys / "ocsp-0.pem"):
            assert file.stat().st_mode & 0o077 == 0

    def test_records_of_withheld_answers_are_never_written(self, journal: Journal) -> None:
        """A full disk is told to the caller; what it took is taken back, and nothing that was answered is lost."""
        write(journal, "a")
        with full_disk(journal.path.stat().st_size + 20):
            for _ in range(2):
                journal.append(record("b"))
                with pytest.raises(OSError, match="too large"):
                    journal.flush()
                journal.discard()
                with pytest.raises(OSError, match="too large"):
                    journal.checkpoint(NOW)
        assert journal.checkpoint(NOW)
        journal.append(record("c"))
        journal.close(NOW)
        assert objects(journal.path) == ["a", "c"]
        assert contents(journal.path).records == 2

    def test_a_full_disk_is_logged_once_until_something_can_be_written(
        self, journal: Journal, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The checkpoint of each second tries, also if there is nothing to record."""
        with full_disk(journal.path.stat().st_size + 20):
            for _ in range(2):
                journal.append(record("withheld"))
                with pytest.raises(OSError, match="too large"):
                    journal.flush()
                journal.discard()
                with pytest.raises(OSError, match="too large"):
                    journal.checkpoint(NOW)
            was_failing = journal.is_failing
        journal.checkpoint(NOW)
        assert (was_failing, journal.is_failing) == (True, False)
        assert caplog.messages == ["journal_failed", "journal_available"]

    def test_a_disk_that_takes_records_but_does_not_keep_them_is_failing(
        self, journal: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever is written meanwhile."""
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", _fail)
            for _ in range(2):
                write(journal, "a")
                journal.checkpoint(NOW)
                with pytest.raises(OSError, match="failed"):
                    journal.sync()
                assert journal.is_failing
        journal.sync()
        assert not journal.is_failing
        assert caplog.messages == ["journal_failed", "journal_available"]

    def test_several_records_of_withheld_answers_are_never_written(self, journal: Journal) -> None:
        """All of a line or nothing."""
        with full_disk(journal.path.stat().st_size + 20):
            journal.append_line(together(record("a"), record("b")))
            with pytest.raises(OSError, match="too large"):
                journal.flush()
            journal.discard()
        journal.append_line(together(record("c"), record("d")))
        journal.close(NOW)
        assert objects(journal.path) == ["c", "d"]
        assert contents(journal.path).records == 2

    @pytest.mark.parametrize("failing", ["seal", "note", "open", "head", "note of the next"])
    def test_a_segment_that_could_not_be_followed_is_followed_later(
        self, journal: Journal, place: StreamPlace, failing: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is written behind a seal or before a head; until then callers are told to withhold their answers."""
        write(journal, "a")
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        with monkeypatch.context() as patch:
            FAILURES[failing](patch)
            for _ in range(2):
                with pytest.raises(OSError, match="failed"):
                    journal.checkpoint(NOW + DAY)
                if failing != "seal":
                    journal.append(record("withheld"))
                    with pytest.raises(OSError, match="failed"):
                        journal.flush()
                    journal.discard()
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
        write(journal, "b")
        journal.checkpoint(NOW + DAY)
        journal.close(NOW + DAY)
        files = sorted(place.segments.iterdir())
        assert [name for file in files for name in objects(file)] == ["a", "b"]
        assert all(contents(file).sealed_at == NOW + DAY for file in files)
        assert chained(files)

    def test_a_segment_without_room_for_its_seal_goes_on(self, journal: Journal, place: StreamPlace) -> None:
        """Until there is room: nothing is lost."""
        write(journal, "a")
        with full_disk(journal.path.stat().st_size + 20), pytest.raises(OSError, match="too large"):
            journal.checkpoint(NOW + DAY)
        write(journal, "b")
        journal.close(NOW + DAY)
        assert [name for file in sorted(place.segments.iterdir()) for name in objects(file)] == ["a", "b"]
        assert chained(sorted(place.segments.iterdir()))

    def test_a_stream_that_could_not_be_opened_can_be_opened_later(
        self, place: StreamPlace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its lock is given back."""
        with monkeypatch.context() as patch:
            FAILURES["head"](patch)
            with pytest.raises(OSError, match="failed"):
                Journal(place, NOW)
        Journal(place, NOW).close(NOW)

    def test_two_processes_cannot_write_one_stream(self, journal: Journal, place: StreamPlace) -> None:
        """The second one is told to wait for the first."""
        with pytest.raises(JournalBusyError, match="stop it first"):
            Journal(place, NOW)
        journal.close(NOW)
        Journal(place, NOW).close(NOW)

    @pytest.mark.parametrize(
        ("later", "segments"),
        [(timedelta(hours=5, minutes=29), 1), (timedelta(hours=5, minutes=30), 2)],
        ids=["before-midnight-in-japan", "midnight-in-japan"],
    )
    def test_a_segment_holds_one_day_of_japan(
        self, journal: Journal, place: StreamPlace, later: timedelta, segments: int
    ) -> None:
        """Reports are by month of Japan, so no segment may lie in two."""
        write(journal, "a")
        journal.checkpoint(NOW + later)
        assert place.newest() == segments

    def test_a_large_segment_is_followed_by_the_next(
        self, journal: Journal, place: StreamPlace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Files stay of a size that can be copied and read."""
        monkeypatch.setattr(writing, "MAX_SEGMENT_OCTETS", 1000)
        for name in "abcdefghijklmnopqrst":
            write(journal, name)
            journal.checkpoint(NOW)
        journal.close(NOW)
        files = [place.segment(number) for number in range(1, place.newest() + 1)]
        assert len(files) > 2
        assert "".join(name for file in files for name in objects(file)) == "abcdefghijklmnopqrst"
        assert chained(files)

    def test_nothing_is_signed_while_nothing_is_written(self, journal: Journal) -> None:
        """An idle night costs no disk."""
        size = journal.path.stat().st_size
        for second in range(3):
            journal.checkpoint(NOW + second * SECOND)
        assert journal.path.stat().st_size == size


class TestRecovery:
    """The next start after a kill."""

    @pytest.mark.parametrize(
        "tail",
        [b"", b'{"at":"2014', together(record("x"), record("y"))[:-10]],
        ids=["between-writes", "in-the-middle-of-a-write", "in-the-middle-of-several"],
    )
    def test_every_record_that_was_flushed_is_sealed(self, journal: Journal, place: StreamPlace, tail: bytes) -> None:
        """With and without a checkpoint after it; half a line belonged to no answer."""
        write(journal, "a")
        journal.checkpoint(NOW)
        journal.append_line(together(record("b"), record("c")))
        journal.flush()
        journal.abandon()
        with place.segment(1).open("ab") as file:
            file.write(tail)
        Journal(place, NOW + SECOND).close(NOW)
        assert objects(place.segment(1)) == ["a", "b", "c"]
        assert contents(place.segment(1)).sealed_at == NOW + SECOND
        assert chained([place.segment(1), place.segment(2)])

    @pytest.mark.parametrize("octets", [0, 10], ids=["empty", "half-a-head"])
    def test_a_segment_that_had_not_begun_is_begun_again(
        self, journal: Journal, place: StreamPlace, octets: int
    ) -> None:
        """A kill between making a file and its first line."""
        write(journal, "a")
        journal.close(NOW)
        place.segment(2).write_bytes(place.segment(1).read_bytes()[:octets])
        Journal(place, NOW).close(NOW)
        assert chained([place.segment(1), place.segment(2)])

    def test_sealed_segments_may_have_been_collected(self, journal: Journal, place: StreamPlace) -> None:
        """The stream goes on where it was, although its files are elsewhere now."""
        write(journal, "a")
        journal.close(NOW)
        before = contents(place.segment(1))
        place.segment(1).unlink()
        Journal(place, NOW).close(NOW)
        assert contents(place.segment(2)).head.previous == before.sha256

    @pytest.mark.parametrize(
        "damage", [b"", b"\0" * 80, b"\0" * 40 + b"\n" + b"\0" * 9], ids=["lost", "zeros", "lines"]
    )
    def test_losing_power_is_no_attack(
        self, journal: Journal, place: StreamPlace, damage: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What had not reached the disk is gone, and a checkpoint with it; what had is sealed."""
        write(journal, "a")
        journal.checkpoint(NOW)
        journal.sync()
        on_disk = journal.path.read_bytes()
        write(journal, "b")
        journal.checkpoint(NOW)
        journal.abandon()
        place.segment(1).write_bytes(on_disk + damage)
        Journal(place, NOW).close(NOW)
        assert "journal_tampered" not in caplog.messages
        assert objects(place.segment(1)) == ["a"]
        assert chained([place.segment(1), place.segment(2)])

    @pytest.mark.parametrize("ends", ["sealed", "killed", "just-begun"])
    @pytest.mark.parametrize("note", [b"", b"{}", b"\0\xff"], ids=["empty", "incomplete", "binary"])
    def test_without_a_readable_note_the_stream_goes_on_after_its_last_signature(
        self, journal: Journal, place: StreamPlace, note: bytes, ends: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """That is told, but it is no attack."""
        write(journal, "a")
        journal.checkpoint(NOW + DAY)
        write(journal, "b")
        if ends == "sealed":
            journal.close(NOW + DAY)
        else:
            journal.abandon()
        if ends == "just-begun":
            place.segment(2).write_bytes(b"")
        (place.keys / "ocsp-0.note").write_bytes(note)
        Journal(place, NOW + DAY).close(NOW + DAY)
        assert caplog.messages == ["journal_note_unreadable"]
        assert chained(sorted(place.segments.iterdir()))

    @pytest.mark.req("R-4-11-5-1")
    def test_without_a_readable_note_a_foreign_segment_is_still_found(
        self, journal: Journal, place: StreamPlace, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its signatures are by another key."""
        write(journal, "a")
        journal.abandon()
        _forge(place)
        (place.keys / "ocsp-0.note").write_bytes(b"")
        Journal(place, NOW).close(NOW)
        assert "journal_tampered" in caplog.messages

    @pytest.mark.req("R-4-11-5-1")
    @pytest.mark.parametrize("attack", ["truncated", "removed", "edited", "forged", "added"])
    def test_what_somebody_did_to_the_files_meanwhile_is_found(
        self, journal: Journal, place: StreamPlace, attack: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An alarm in the log; and the next segment's head never fits what is there."""
        write(journal, "a", "b")
        journal.checkpoint(NOW)
        journal.sync()
        journal.abandon()
        ATTACKS[attack](place)
        Journal(place, NOW).close(NOW)
        assert "journal_tampered" in caplog.messages
        files = sorted(place.segments.iterdir())
        assert not chained(files)


def _fail(*_: object) -> None:
    raise OSError(errno.EIO, "failed")


def _fail_to_open(patch: pytest.MonkeyPatch) -> None:
    def opened(file: Path, flags: int, *mode: int, original: Callable[..., int] = os.open) -> int:
        if Path(file).suffix == ".jsonl":
            _fail()
        return original(file, flags, *mode)

    patch.setattr(os, "open", opened)


def _fail_to_write(patch: pytest.MonkeyPatch, start: bytes) -> None:
    def write(file: int, octets: bytes, *, original: Callable[[int, bytes], int] = os.write) -> int:
        if octets.startswith(start):
            _fail()
        return original(file, octets)

    patch.setattr(os, "write", write)


def _fail_to_note(patch: pytest.MonkeyPatch, *, is_sealed: bool) -> None:
    def write_note(place: StreamPlace, note: Note, *, original: Callable[..., None] = StreamPlace.write_note) -> None:
        if note.is_sealed == is_sealed:
            _fail()
        original(place, note)

    patch.setattr(StreamPlace, "write_note", write_note)


FAILURES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "seal": lambda patch: _fail_to_write(patch, b'{"seal"'),
    "note": lambda patch: _fail_to_note(patch, is_sealed=True),
    "open": _fail_to_open,
    "head": lambda patch: _fail_to_write(patch, b'{"segment"'),
    "note of the next": lambda patch: _fail_to_note(patch, is_sealed=False),
}


def _truncate(place: StreamPlace) -> None:
    file = place.segment(1)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:3]))


def _edit(place: StreamPlace) -> None:
    file = place.segment(1)
    file.write_bytes(file.read_bytes().replace(b'"object":"a"', b'"object":"x"'))


def _forge(place: StreamPlace) -> None:
    """All new, well-formed, and signed by a key of the attacker's."""
    place.segment(1).unlink()
    other = StreamPlace(place.segments, place.keys.with_name("attacker"), place.stream)
    Journal(other, NOW).close(NOW)


def _add(place: StreamPlace) -> None:
    for number in (2, 3):
        place.segment(number).write_bytes(place.segment(1).read_bytes())


ATTACKS: dict[str, Callable[[StreamPlace], None]] = {
    "truncated": _truncate,
    "removed": lambda place: place.segment(1).unlink(),
    "edited": _edit,
    "forged": _forge,
    "added": _add,
}


@pytest.mark.req("R-4-11-5-1")
class TestReading:
    """A segment on its own."""

    KEY = Ed25519PrivateKey.generate()

    @pytest.mark.parametrize(
        ("change", "line", "why"),
        [
            (lambda lines: lines[:2] + lines[3:], 4, "not what was signed"),
            (lambda lines: [*lines[:5], lines[5].replace(b',["success","d",48]', b""), lines[6]], 7, "what was signed"),
            (lambda lines: [*lines[:5], lines[5].replace(b'"c"', b'"x"'), lines[6]], 7, "what was signed"),
            (lambda lines: [*lines[:5], *records_in(lines[5]), lines[6]], 8, "what was signed"),
            (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], 5, "not what was signed"),
            (lambda lines: [*lines[:3], lines[2], *lines[3:]], 6, "not what was signed"),
            (lambda lines: [*lines[:2], lines[2].replace(b"48", b"47"), *lines[3:]], 5, "not what was signed"),
            (lambda lines: lines[1:], 1, "does not begin with a head"),
            (lambda lines: [*lines, lines[2]], 8, "after the seal"),
            (lambda lines: [*lines[:-1], lines[-1][:-1]], 7, "cut off"),
            (lambda lines: [*lines[:4], b"{}\n", *lines[4:]], 5, "neither a record"),
            (lambda lines: [*lines[:4], signed_line(TestReading.KEY, 2, NOW, b"", is_seal=False)], 5, "signature"),
            (lambda lines: [*lines[:4], lines[4].replace(b"2014", b"2015")], 5, "signature"),
            (lambda lines: [], 1, "empty"),
        ],
        ids=[
            *("removed", "removed-of-several", "changed-of-several", "several-taken-apart"),
            *("reordered", "inserted", "changed", "beheaded", "continued", "cut-off", "foreign-line"),
            *("foreign-signature", "changed-checkpoint", "emptied"),
        ],
    )
    def test_the_first_bad_line_is_named(
        self, journal: Journal, change: Callable[[list[bytes]], list[bytes]], line: int, why: str
    ) -> None:
        """Whatever was changed, removed, inserted or reordered."""
        write(journal, "a", "b")  # lines 3 and 4
        journal.checkpoint(NOW)
        journal.append_line(together(record("c"), record("d")))  # line 6
        journal.close(NOW)
        lines = journal.path.read_bytes().splitlines(keepends=True)
        assert read_segment(lines).records == 4
        with pytest.raises(TamperedError, match=why) as error:
            read_segment(change(lines))
        assert error.value.line == line

    def test_records_after_the_last_checkpoint_are_counted_as_unsigned(self, journal: Journal) -> None:
        """They are all that could be forged unnoticed while a process is dead."""
        write(journal, "a")
        journal.checkpoint(NOW)
        write(journal, "b")
        journal.append_line(together(record("c"), record("d")))
        journal.flush()
        assert contents(journal.path).unsigned_records == 3

    def test_a_clock_that_was_set_back_is_told(self, journal: Journal) -> None:
        """Its line is named; the small steps of time synchronisation are not."""
        for seconds in (10, 9, 11, 3, 4):
            journal.append(record("a", NOW + seconds * SECOND))
        journal.flush()
        assert contents(journal.path).clock_set_back == (6,)

    @pytest.mark.parametrize(
        "head",
        [b"[]\n", b"{}\n", b"\xff\n", Head(1, "a", NOW, b"", b"no key").line()],
        ids=["list", "empty", "not-utf-8", "no-key"],
    )
    def test_what_is_no_head_is_refused(self, head: bytes) -> None:
        """Without an exception of another kind."""
        with pytest.raises(TamperedError, match="head"):
            read_segment([head])

    def test_a_checkpoint_is_told_from_a_record_by_how_it_begins(self) -> None:
        """No peer's text can stand at the beginning of a line."""
        assert is_checkpoint(signed_line(self.KEY, 0, NOW, b"", is_seal=True))
        assert not is_checkpoint(record('{"seal":1').line())
        assert len(spki(self.KEY)) == 44


def chained(files: list[Path]) -> bool:
    """Do the segments follow each other, each without fault?"""
    try:
        read = [contents(file) for file in files]
    except TamperedError:
        return False
    return read[0].head.segment == 1 and all(
        later.head.previous == earlier.sha256 and later.head.segment == earlier.head.segment + 1
        for earlier, later in itertools.pairwise(read)
    )


async def test_a_flood_of_records_does_not_wait_for_the_interval(journal: Journal) -> None:
    """It reaches the disk in portions as it comes, however long little may wait."""
    keeping = asyncio.create_task(keep(journal, lambda: NOW, sync_s=3600))
    try:
        journal.append_line(together(*[record("a")] * (PORTION_OCTETS // 10)))
        journal.flush()
        assert journal.unsynced_octets >= PORTION_OCTETS
        await eventually(lambda: not journal.unsynced_octets)
    finally:
        keeping.cancel()
