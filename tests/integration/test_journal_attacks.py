"""Whoever may write to the directory of the segments, but has not the keys, is found by `prefca journal verify`."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from issuer.installation import account
from journal.recovery import StreamPlace
from journal.writing import Journal
from tests.support.command import Prefca, select
from tests.support.segments import NOW, answered, started, written

pytestmark = pytest.mark.req("R-4-11-5-1", "R-4-12-2-3")
DAY = timedelta(days=1)


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path, Path], None]:
    """Change the lines of the newest segment."""

    def attack(segments: Path, _: Path) -> None:
        file = newest(segments)
        file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))

    return attack


def newest(segments: Path) -> Path:
    return max(segments.glob("ocsp-0-*.jsonl"))


def forged(segments: Path, elsewhere: Path) -> None:
    """A whole segment, well-formed and signed, by a key of the attacker."""
    journal = Journal(StreamPlace(elsewhere, elsewhere / "keys", "ocsp-0"), NOW)
    journal.append(answered("nobody"))
    journal.close(NOW)
    made = (elsewhere / "ocsp-0-00000001.jsonl").read_bytes()
    newest(segments).write_bytes(made.replace(b'{"segment":1', b'{"segment":3', 1))


def added(segments: Path, elsewhere: Path) -> None:
    """One more segment than the process wrote."""
    shutil.copy(newest(segments), segments / "ocsp-0-00000004.jsonl")


def reordered(segments: Path, _: Path) -> None:
    """The last two days change places."""
    two, three = segments / "ocsp-0-00000002.jsonl", segments / "ocsp-0-00000003.jsonl"
    octets = two.read_bytes(), three.read_bytes()
    two.write_bytes(octets[1])
    three.write_bytes(octets[0])


def of_another_day(segments: Path, _: Path) -> None:
    shutil.copy(segments / "ocsp-0-00000002.jsonl", newest(segments))


def last_removed(segments: Path, _: Path) -> None:
    newest(segments).unlink()


def middle_removed(segments: Path, _: Path) -> None:
    (segments / "ocsp-0-00000002.jsonl").unlink()


ATTACKS = {
    "record changed": (
        lines(lambda all_: [one.replace(b"good", b"bad!") for one in all_]),
        "line 6: what stands before",
    ),
    "record removed": (lines(lambda all_: all_[:3] + all_[4:]), "line 5: what stands before the checkpoint is not"),
    "record inserted": (lines(lambda all_: [*all_[:3], answered("x").line(), *all_[3:]]), "line 7: what stands before"),
    "records reordered": (lines(lambda all_: [*all_[:2], all_[3], all_[2], *all_[4:]]), "line 6: what stands before"),
    "truncated": (lines(lambda all_: all_[:4]), "not as its process left it: cut to"),
    "truncated to nothing": (lines(lambda _: []), "line 1: the segment is empty"),
    "last segment removed": (last_removed, "00000003.jsonl: not as its process left it: it is gone"),
    "middle segment removed": (middle_removed, "ocsp-0: segments 2 to 2 are missing"),
    "day replaced by another day": (of_another_day, "line 1: the head is of another segment than the file's name"),
    "day replaced by a forged one": (forged, "line 2: what stands before the checkpoint"),
    "days exchanged": (reordered, "ocsp-0-00000002.jsonl: line 1: the head is of another segment"),
    "segment added": (added, "ocsp-0-00000004.jsonl: line 1: the head is of another segment"),
}


def three_days(instance: Path, after_the_first: Callable[[], None] = lambda: None, *, stream: str = "ocsp-0") -> Path:
    """Two segments that are sealed; today's was left by a process that was killed."""
    place = StreamPlace(instance / "journal", instance / "keys" / "journal", stream)
    journal = Journal(place, NOW)
    for day in (0, 1, 2):
        for number in (1, 2, 3):
            journal.append(answered(f"party-{day}-{number}", at=NOW + day * DAY))
        assert journal.checkpoint(NOW + day * DAY)
        if day < 2:
            journal.checkpoint(NOW + (day + 1) * DAY)
        if day == 0:
            after_the_first()
    journal.sync()
    journal.abandon()
    return instance / "journal"


@pytest.mark.parametrize(("attack", "told"), ATTACKS.values(), ids=ATTACKS.keys())
@pytest.mark.parametrize("is_archived", [False, True], ids=["nothing collected", "first day collected"])
def test_it_is_told_with_its_place(
    instance: Path,
    prefca: Prefca,
    tmp_path: Path,
    attack: Callable[[Path, Path], None],
    told: str,
    is_archived: bool,
) -> None:
    """With exit status 3, whether the days before are in the archive or still beside it; untouched, all is well."""

    def collect() -> None:
        assert prefca("journal", "collect").status == 0

    segments = three_days(instance, *([collect] if is_archived else []))
    assert (segments / "ocsp-0-00000001.jsonl").exists() != is_archived
    ended = prefca("journal", "verify")
    assert (ended.status, ended.stderr) == (0, "")
    attack(segments, tmp_path / "elsewhere")
    ended = prefca("journal", "verify")
    assert ended.status == 3, ended
    assert told in ended.stderr, ended.stderr


def test_a_forged_day_with_the_right_number_is_told_by_its_key(instance: Path, prefca: Prefca, tmp_path: Path) -> None:
    """Signed well, by a key that is not the stream's."""
    written(instance, "ocsp-0", answered("tester"))
    assert prefca("journal", "collect").status == 0
    started(instance, "ocsp-0", answered("tester")).close(NOW)
    forging = tmp_path / "forged"
    for _ in range(2):
        journal = Journal(StreamPlace(forging, forging / "keys", "ocsp-0"), NOW)
        journal.append(answered("nobody"))
        journal.close(NOW)
    name = "ocsp-0-00000002.jsonl"
    shutil.copy(forging / name, instance / "journal" / name)
    for command in ("verify", "collect"):
        ended = prefca("journal", command)
        assert (ended.status, f"{name}: line 1: the head names another key" in ended.stderr) == (3, True)


def test_removing_the_newest_segment_stays_visible_after_a_restart(instance: Path, prefca: Prefca) -> None:
    """The next segment contradicts what is there, for ever, also in the archive."""
    segments = three_days(instance)
    newest(segments).unlink()
    started(instance, "ocsp-0", answered("tester"), now=NOW + 3 * DAY).close(NOW + 3 * DAY)
    told = "ocsp-0: segments 3 to 3 are missing"
    for _ in range(2):
        collected = prefca("journal", "collect", "--json")
        said = json.loads(collected.stdout)
        assert (collected.status, said["refused"], said["complete_until"]) == (3, [told], {})
    assert (prefca("journal", "verify").status, told in prefca("journal", "verify").stderr) == (3, True)


@pytest.mark.req("R-4-11-2-1")
def test_collecting_misses_what_was_removed_while_its_process_runs(instance: Path, prefca: Prefca) -> None:
    """Nothing is said to be complete until the auditor has looked into it."""
    journal = started(instance, "ocsp-0", answered("tester"))
    journal.sync()
    journal.path.unlink()
    for _ in range(2):
        ended = prefca("journal", "collect")
        assert (ended.status, "ocsp-0-00000001.jsonl: not as its process left it: it is gone" in ended.stderr) == (
            3,
            True,
        )
    assert select("SELECT * FROM journal_host") == []
    journal.close(NOW)


def test_a_stream_without_its_key_counts_for_nothing(instance: Path, prefca: Prefca, tmp_path: Path) -> None:
    """Before a stream was ever collected, its key is the one that this host has; and there is no stream without one."""
    written(instance, "ocsp-0", answered("tester"))
    for stream in ("ocsp-0", "ocsp-1", "ocsp-2"):
        forging = tmp_path / stream
        journal = Journal(StreamPlace(forging, forging / "keys", stream), NOW)
        journal.append(answered("nobody"))
        journal.flush()
        if stream != "ocsp-2":
            journal.close(NOW)
        shutil.copy(forging / f"{stream}-00000001.jsonl", instance / "journal")
    assert prefca("usage", "--month", "2026-10", "--json").json["items"] == []
    for command in ("verify", "collect"):
        told = prefca("journal", command).stderr
        assert "ocsp-0-00000001.jsonl: line 1: the head names another key than the stream has always had" in told
        for stream in ("ocsp-1", "ocsp-2"):
            assert f"{stream}-00000001.jsonl: line 1: no process of this host has the key of such a stream" in told
    assert select("SELECT party FROM usage WHERE kind = 'ocsp_request'") == []


@pytest.mark.req("R-4-11-5-2")
@pytest.mark.parametrize(("given", "directory", "file"), [(0o755, 0o700, 0o600), (0o2770, 0o2770, 0o640)])
def test_the_archive_is_for_its_owner_and_the_group_it_was_given(
    instance: Path, prefca: Prefca, given: int, directory: int, file: int
) -> None:
    """What anybody might read is closed; new streams are as the archive itself."""
    archive = instance / "archive" / "journal"
    archive.mkdir(parents=True, exist_ok=True)
    archive.chmod(given)
    written(instance, "ocsp-0", answered("tester"))
    assert prefca("journal", "collect").status == 0
    places = (archive, archive / "ocsp-0", archive / "ocsp-0" / "ocsp-0-00000001.jsonl.zst")
    assert [stat.S_IMODE(one.stat().st_mode) for one in places] == [directory, directory, file]


STRANGERS = {
    "pipe": os.mkfifo,
    "directory": lambda file: file.mkdir(),
    "link": lambda file: file.symlink_to("/dev/zero"),
    "dangling link": lambda file: file.symlink_to("nowhere"),
    "nested": lambda file: file.write_bytes(b"[" * 200_000 + b"\n"),
    "no line feed": lambda file: file.write_bytes(b"x"),
    "no time zone": lambda file: file.write_bytes(
        b'{"segment":1,"stream":"zz","began":"2020-01-01T00:00:00.000","previous":"","key":""}\n'
    ),
}


@pytest.mark.parametrize("put", STRANGERS.values(), ids=STRANGERS.keys())
def test_what_is_no_segment_keeps_nothing_else_out(
    instance: Path, prefca: Prefca, put: Callable[[Path], object]
) -> None:
    """It is told, and everything else is collected and counted."""
    written(instance, "ocsp-0", answered("tester"))
    put(instance / "journal" / "b.zz-00000001.jsonl")
    assert prefca("usage", "--json", "--month", "2026-10").status == 0
    for command in ("verify", "collect"):
        ended = prefca("journal", command)
        assert (ended.status, "b.zz-00000001.jsonl: line 1: " in ended.stderr) == (3, True), ended
    assert select("SELECT party, items FROM usage WHERE kind = 'ocsp_request'") == [("tester", 1)]


@pytest.mark.parametrize("is_collected", [False, True])
def test_a_note_that_was_removed_is_told_for_ever(instance: Path, prefca: Prefca, is_collected: bool) -> None:
    """With the segment that it told of: the next one follows nothing that anybody knows."""
    written(instance, "ocsp-0", answered("tester"))
    if is_collected:
        assert prefca("journal", "collect").status == 0
    else:
        newest(instance / "journal").unlink()
    (instance / "keys" / "journal" / "ocsp-0.note").unlink()
    for command in ("verify", "collect"):
        ended = prefca("journal", command)
        assert (ended.status, "ocsp-0: the note of where it stands is gone" in ended.stderr) == (3, True), ended
    written(instance, "ocsp-0", answered("tester"))
    for command in ("verify", "collect", "verify"):
        ended = prefca("journal", command)
        if is_collected:  # the archive knows where the stream goes on
            assert ended.status == 0, ended
        else:
            assert ended.status == 3, ended


@pytest.mark.req("R-4-11-2-1")
def test_acts_that_the_database_leaves_out_are_told(instance: Path, prefca: Prefca) -> None:
    """Whoever raises the number from which acts are written keeps them out of the journal."""
    assert prefca("journal", "collect").status == 0
    assert prefca("sample", "--count", "2").status == 0
    assert prefca("journal", "collect").status == 0
    select("UPDATE journal_progress SET operations = 1000000000 RETURNING 1")
    for command in ("verify", "collect"):
        ended = prefca("journal", command)
        assert (ended.status, "issuer: acts until 1000000000 are said to be in the archive" in ended.stderr) == (
            3,
            True,
        )


@pytest.mark.req("R-2-1-4-10", "R-4-5-1")
def test_counts_that_the_archive_does_not_bear_out_are_told(instance: Path, prefca: Prefca) -> None:
    """Reports and fees go by them."""
    written(instance, "ocsp-0", answered("tester"), answered("tax"))
    assert prefca("journal", "collect").status == 0
    assert prefca("journal", "verify").status == 0
    select("UPDATE usage SET items = items * 100 WHERE party = 'tester' RETURNING 1")
    ended = prefca("journal", "verify")
    assert ended.status == 3
    assert "usage of 2026-10-15: ocsp_request good of tester is counted 100 times" in ended.stderr
    assert "; the archive has 1 with 1500\n" in ended.stderr


def test_the_auditor_accepts_what_is_lost(
    instance: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From then on it is a note, and what comes later is complete again; who accepted what, and why, is on record."""
    monkeypatch.setenv("PREFCA_JOURNAL__AUDITOR", account())
    segments = three_days(instance)
    (segments / "ocsp-0-00000002.jsonl").unlink()
    told = "ocsp-0: segments 2 to 2 are missing"
    assert told in prefca("journal", "collect").stderr
    assert "copy a line" in prefca("audit", "accept", "ocsp-0", "--note", "x").complaint
    assert prefca("audit", "accept", told, "--note", "disk failed").status == 0
    ended = prefca("journal", "verify")
    assert (ended.status, f"{told}: looked into by {account()}@" in ended.stderr) == (0, True)
    assert prefca("journal", "collect").status == 0
    assert select("SELECT count(*) FROM journal_host") == [(1,)]
    assert select("SELECT object, detail ->> 'note' FROM operation_record WHERE kind = 'audit_accept'") == [
        (told, "disk failed")
    ]


def test_what_another_host_sent_is_missed_when_later_segments_come(
    instance: Path, prefca: Prefca, tmp_path: Path
) -> None:
    """Its notes are not here, but its segments name each other."""
    other = tmp_path / "other"
    three_days(other, stream="b.ocsp-0")
    started(other, "b.ocsp-0").close(NOW + 3 * DAY)
    (instance / "journal").mkdir()
    for number in (1, 3, 4):
        shutil.copy(other / "journal" / f"b.ocsp-0-{number:08}.jsonl", instance / "journal")
    ended = prefca("journal", "verify")
    assert (ended.status, "b.ocsp-0: segments 2 to 2 are missing" in ended.stderr) == (3, True)


def test_a_clock_that_was_set_back_between_segments_is_told(instance: Path, prefca: Prefca) -> None:
    """A process that was started with an earlier clock; it may have had to be, so the status is 0."""
    written(instance, "ocsp-0", answered("tester"))
    started(instance, "ocsp-0", answered("tester", at=NOW - DAY), now=NOW - DAY).close(NOW - DAY)
    for collect in (False, True):
        if collect:
            assert prefca("journal", "collect").status == 0
        ended = prefca("journal", "verify")
        assert (ended.status, "ocsp-0: segment 2 began before segment 1 was sealed: the clock was set back") == (
            0,
            ended.stderr.strip().removeprefix("prefca: "),
        )


@pytest.mark.parametrize("number", [2, 99_999_999])
def test_a_planted_number_does_not_keep_the_issuers_acts_out_of_the_journal(
    instance: Path, prefca: Prefca, number: int
) -> None:
    """Whoever writes to the directory says that acts are recorded which are not; it is told, and they are recorded."""
    assert prefca("journal", "collect").status == 0
    planted = instance / "journal" / f"issuer-{number:08}.jsonl"
    act = b'{"at":"2026-10-15T03:00:00.000Z","kind":"x","result":"done","party":null,"origin":"","object":"","size":0'
    planted.write_bytes(act + b',"id":999999999}\n')
    assert prefca("sample", "--count", "2").status == 0
    assert prefca("journal", "verify").status == 3
    for _ in range(2):
        assert prefca("journal", "collect").status == 3
        newest = select("SELECT max(record_id) FROM operation_record")
        assert select("SELECT operations FROM journal_progress") == newest
    planted.unlink()
    for command in ("collect", "verify"):
        ended = prefca("journal", command)
        assert ended.status == (0 if number > 2 else 3), ended  # else the chain tells of it for ever


@pytest.mark.parametrize("name", ["..", ".", "a b", "a\\b", "千代田"])
def test_a_stream_with_a_name_that_no_process_has_is_refused(
    instance: Path, prefca: Prefca, tmp_path: Path, name: str
) -> None:
    """Its name would be that of a directory; nothing is written, and its records count for nothing."""
    written(instance, "ocsp-0", answered("tester"))
    place = StreamPlace(instance / "journal", tmp_path / "keys", name)
    Journal(place, NOW).close(NOW)
    for command in ("verify", "collect"):
        ended = prefca("journal", command)
        assert (ended.status, f"line 1: no process writes a stream {name!r}" in ended.stderr) == (3, True), ended
    assert select("SELECT stream FROM journal_stream ORDER BY stream") == [("issuer",), ("ocsp-0",)]
    archive = instance / "archive"
    assert sorted(one.name for one in (*archive.iterdir(), *(archive / "journal").iterdir())) == [
        "issuer",
        "journal",
        "ocsp-0",
    ]
    assert place.segment(1).exists()
