"""The internal auditor, and nobody else, reviews the audit log, marks it and deletes what is old."""

import hashlib
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import zstandard

from issuer.cli import archive, audit, journal, publishing
from issuer.installation import account
from journal.record import Record
from journal.recovery import StreamPlace
from journal.writing import Journal
from pkix.validity import JST
from tests.support.command import Prefca, select
from tests.support.segments import together

NOW = datetime(2026, 10, 15, 3, tzinfo=UTC)
AUDITOR = "PREFCA_JOURNAL__AUDITOR"
REVIEW = ("audit", "review", "--from", "2026-10-15", "--to", "2026-10-15", "--json")


@pytest.fixture
def audited(instance: Path, auditor: None) -> Path:
    """An instance whose auditor runs the tests."""
    return instance


class Clock:
    """What the commands take for the time."""

    def __init__(self) -> None:
        self.moment = NOW

    def __call__(self) -> datetime:  # noqa: D102 - the time
        return self.moment

    def after(self, days: int) -> None:
        """So many days after the records."""
        self.moment = NOW + timedelta(days=days)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that tests set."""
    made = Clock()
    for module in (audit, journal, archive, publishing):
        monkeypatch.setattr(module, "now", made)
    return made


def asked(result: str = "good", party: str | None = "tax") -> Record:
    return Record(NOW, "ocsp_request", result, party, "192.0.2.1", "5A00000000000001", 1500)


def started(instance: Path, stream: str, *records: Record) -> Journal:
    """A process that has written these and goes on."""
    journal = Journal(StreamPlace(instance / "journal", instance / "keys" / "journal", stream), NOW)
    for record in records:
        journal.append(record)
    journal.flush()
    return journal


def counted(shown: dict[str, list[dict[str, object]]]) -> dict[tuple[object, ...], object]:
    """What a review says of the responder."""
    return {(one["result"], one["party"]): one["number"] for one in shown["counts"] if one["kind"] == "ocsp_request"}


@pytest.mark.req("R-4-11-5-2")
class TestNobodyElse:
    """All commands refuse."""

    COMMANDS = (
        ["audit", "review"],
        ["audit", "review", "--records"],
        ["audit", "mark-reviewed", "--to", "2026-01-01"],
        ["audit", "delete", "--before", "2026-01-01"],
        ["journal", "prove", "ocsp-0", "1", "1"],
    )

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_as_long_as_no_auditor_is_named(self, shared_instance: Path, prefca: Prefca, command: list[str]) -> None:
        """And say what to set."""
        assert shared_instance.exists()
        assert "set `journal.auditor`" in prefca(*command).complaint

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_to_another_account(
        self, instance: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch, command: list[str]
    ) -> None:
        """Whatever its environment says; that it was tried is on record, for the auditor's next review."""
        for variable, value in ((AUDITOR, "kansa"), ("LOGNAME", "kansa"), ("USER", "kansa")):
            monkeypatch.setenv(variable, value)
        ended = prefca(*command)
        assert (ended.status, "log in as kansa" in ended.complaint) == (3, True)
        tried = select("SELECT kind, result, split_part(origin, '@', 1) FROM operation_record WHERE kind LIKE 'audit%'")
        assert tried == [(f"audit_{command[1].replace('-', '_')}", "refused", account())]
        assert list((instance / "archive").glob("**/*.zst")) == []


@pytest.mark.req("R-4-11-5-2")
def test_a_proof_shows_one_record_and_that_it_was_made_is_on_record(audited: Path, prefca: Prefca) -> None:
    """As an act of the auditor."""
    started(audited, "ocsp-0", asked()).close(NOW)
    assert prefca("journal", "collect").status == 0
    assert '\\"party\\":\\"tax\\"' in prefca("journal", "prove", "ocsp-0", "1", "1").stdout
    acts = select("SELECT result, object FROM operation_record WHERE kind = 'audit_prove'")
    assert acts == [("done", "record 1 of segment 1 of ocsp-0")]


@pytest.mark.req("R-4-11-1", "R-4-11-2-1")
def test_a_review_shows_everything_once_wherever_it_is(audited: Path, prefca: Prefca) -> None:
    """In the archive, in segments that wait or are still written, and acts that are in the database only."""
    collected = started(audited, "ocsp-0", asked())
    collected.append_line(together(asked(), asked()))
    collected.close(NOW)
    assert prefca("journal", "collect").status == 0
    started(audited, "ocsp-1", asked(), asked("unauthorized", None)).close(NOW)
    running = started(audited, "ocsp-2")
    running.append_line(together(asked(party="pension")))
    running.flush()
    expected = {("good", "tax"): 4, ("unauthorized", ""): 1, ("good", "pension"): 1}
    today = datetime.now(JST).date()
    days = ("--from", str(today - timedelta(days=1)), "--to", str(today))
    for _ in range(2):
        shown = prefca(*REVIEW).json
        assert counted(shown) == expected
        assert [(one["rule"], one["number"]) for one in shown["findings"]] == [("refused", 1)]
        acts = prefca("audit", "review", *days, "--kind", "published", "--json").json
        assert [one["number"] for one in acts["counts"]] == [1]
        assert prefca("journal", "collect").status == 0
    records = prefca(*REVIEW[:-1], "--records", "--party", "tax").stdout.splitlines()
    assert [json.loads(line) for line in records] == [json.loads(asked().line())] * 4
    table = prefca(*REVIEW[:-1], "--result", "unauthorized").stdout
    assert "1 findings, 2026-10-15 to 2026-10-15" in table
    assert "pension" not in table
    running.close(NOW)


@pytest.mark.req("R-4-11-5-1")
@pytest.mark.parametrize("octets", [b"nonsense", zstandard.compress(b'{"at":"2026-10-15T03:00:00.000Z","kind":1\n')])
def test_a_review_of_what_was_tampered_with_says_how_to_find_it(audited: Path, prefca: Prefca, octets: bytes) -> None:
    """In a sentence."""
    started(audited, "ocsp-0", asked()).close(NOW)
    assert prefca("journal", "collect").status == 0
    (audited / "archive" / "journal" / "ocsp-0" / "ocsp-0-00000001.jsonl.zst").write_bytes(octets)
    for form in ("--json", "--records"):
        ended = prefca(*REVIEW[:-1], form)
        assert (ended.status, "`prefca journal verify` names the place" in ended.complaint) == (3, True)


@pytest.mark.req("R-4-11-1", "R-4-11-5-1")
def test_a_new_stream_is_told_until_it_was_reviewed(audited: Path, prefca: Prefca, clock: Clock) -> None:
    """With what the auditor compares with the key of the process; a review of something else leaves it out."""
    started(audited, "ocsp-0", asked()).close(NOW)
    clock.after(70)
    assert prefca("journal", "collect").status == 0

    def told(*options: str) -> dict[str, str]:
        shown = prefca("audit", "review", "--json", *options).json
        return {one["who"]: one["what"] for one in shown["findings"] if one["rule"] == "new stream"}

    clock.after(80)
    assert prefca("journal", "collect").status == 0
    new = told()  # a week later, for it was in no review
    assert set(new) == {"issuer", "ocsp-0"}
    public = ["openssl", "pkey", "-in", str(audited / "keys" / "journal" / "ocsp-0.pem"), "-pubout", "-outform", "DER"]
    key = subprocess.run(public, check=True, capture_output=True).stdout
    assert new["ocsp-0"] == (
        "host without a name; from segment 1, begun 2026-10-15T03:00:00Z;"
        f" see that its process has the key with SHA-256 {hashlib.sha256(key).hexdigest()}"
    )
    assert told("--party", "tax") == {}
    assert prefca("audit", "mark-reviewed", "--to", "2026-12-31").status == 0
    clock.after(90)
    assert told() == {}
    assert set(told("--from", "2026-12-24", "--to", "2026-12-24")) == {"issuer", "ocsp-0"}


@pytest.mark.req("R-4-11-3", "R-4-11-7")
@pytest.mark.usefixtures("audited")
def test_reviews_leave_no_day_out(prefca: Prefca, clock: Clock) -> None:
    """The next begins where the last one ended; what is not over or not collected cannot be marked; all is recorded."""
    clock.after(70)
    mark = ("audit", "mark-reviewed", "--note", "nothing", "--to")

    def reviewed() -> tuple[str, str]:
        shown = prefca("audit", "review", "--json").json
        return shown["from"], shown["to"]

    assert "not all of 2026-12-20 is collected" in prefca(*mark, "2026-12-20").complaint
    assert prefca("journal", "collect").status == 0
    assert "is not over" in prefca(*mark, "2026-12-24").complaint
    assert reviewed() == ("2026-12-17", "2026-12-23")
    assert prefca(*mark, "2026-12-20").status == 0
    assert "reviewed already" in prefca(*mark, "2026-12-20").complaint
    assert reviewed() == ("2026-12-21", "2026-12-23")
    assert prefca(*mark, "2026-12-23").status == 0
    assert "everything until 2026-12-23 was reviewed" in prefca("audit", "review").complaint
    acts = select("SELECT kind, object FROM operation_record WHERE kind LIKE 'audit%' ORDER BY record_id")
    assert acts == [
        ("audit_review", "2026-12-17 to 2026-12-23"),
        ("audit_mark_reviewed", "to 2026-12-20"),
        ("audit_review", "2026-12-21 to 2026-12-23"),
        ("audit_mark_reviewed", "to 2026-12-23"),
    ]
    assert select("SELECT number, note FROM audit_review ORDER BY number") == [(1, "nothing"), (2, "nothing")]


@pytest.mark.req("R-4-11-3", "R-4-11-7")
def test_status_reminds_of_a_review_that_is_late(audited: Path, prefca: Prefca, clock: Clock) -> None:
    """It tells nothing of what would be reviewed, and ends with the review."""

    def told() -> list[str]:
        standing = json.loads(prefca("status", "--check", "--json").stdout)
        return [one["message"] for one in standing if one["name"] == "audit_review_late"]

    started(audited, "ocsp-0", asked()).close(NOW)
    clock.after(70)
    assert told() == []  # nothing was ever collected
    assert prefca("journal", "collect").status == 0
    assert told() == [
        "2026-10-15 and later days wait for the internal auditor's weekly review; run `prefca audit review`"
    ]
    assert prefca("audit", "mark-reviewed", "--to", "2026-12-23").status == 0
    assert told() == []
    clock.after(77)
    assert prefca("journal", "collect").status == 0
    assert told() == []
    clock.after(78)
    assert len(told()) == 1


@pytest.mark.req("R-4-11-4", "R-4-11-5-2", "R-4-12-2-2")
def test_only_what_is_old_reviewed_and_exported_is_deleted_and_stays_proved(
    audited: Path, prefca: Prefca, clock: Clock, tmp_path: Path
) -> None:
    """Acts after a year, usage history after ten; media keep both; who deleted what is told."""
    started(audited, "ocsp-0", asked()).close(NOW)
    assert prefca("journal", "collect").status == 0
    archive, media = audited / "archive" / "journal", tmp_path / "media"

    def deleted() -> tuple[list[str], list[int]]:
        said = prefca("audit", "delete", "--before", "2026-10-17", "--json").json
        return [one["stream"] for one in said["deleted"]], list(said["kept"].values())

    clock.after(400)
    assert deleted() == ([], [1, 1])  # not reviewed, too young
    assert prefca("journal", "collect").status == 0
    assert prefca("audit", "mark-reviewed", "--to", "2026-10-16").status == 0
    assert "not on external media" in prefca("audit", "delete", "--before", "2026-10-17").stdout
    assert prefca("archive", "export", media).status == 0
    assert "no media with them were read again" in prefca("audit", "delete", "--before", "2026-10-17").stdout
    clock.after(401)
    assert prefca("archive", "check", media, "--record").status == 0
    assert deleted() == (["issuer"], [1])
    assert sorted(file.name for file in archive.glob("*/*00000001*")) == ["ocsp-0-00000001.jsonl.zst"]
    clock.after(3700)
    assert deleted() == (["ocsp-0"], [])
    verified = prefca("journal", "verify", "--json").json
    assert verified["findings"] == []
    assert [note.split(" by ")[1].split("@")[0] for note in verified["notes"] if "deleted" in note] == [account()] * 2
    assert "look for it on exported media" in prefca("journal", "prove", "ocsp-0", "1", "1").complaint
    assert prefca(*REVIEW).json["deleted_segments"] == 2
    for target in (media, tmp_path / "new"):
        assert prefca("archive", "export", target).status == 0
        assert prefca("archive", "check", target).status == 0
    assert (media / "journal" / "ocsp-0" / "ocsp-0-00000001.jsonl.zst").exists()
    acts = select("SELECT object FROM operation_record WHERE kind = 'audit_delete' ORDER BY record_id")
    assert acts == [("before 2026-10-17: 1 segments",)] * 2


@pytest.fixture
def reviewed(audited: Path, prefca: Prefca, clock: Clock) -> Path:
    """An instance with a segment that may be deleted as soon as it is on good media."""
    started(audited, "ocsp-0", asked()).close(NOW)
    clock.after(4000)
    assert prefca("journal", "collect").status == 0
    assert prefca("audit", "mark-reviewed", "--to", "2026-10-20").status == 0
    return audited


DELETE = ("audit", "delete", "--before", "2026-10-20", "--json")
SEGMENT = "journal/ocsp-0/ocsp-0-00000001.jsonl.zst"


@pytest.mark.req("R-4-11-5-2", "R-4-12-2-6")
@pytest.mark.usefixtures("reviewed")
def test_nothing_is_deleted_whose_media_were_found_damaged_or_are_of_before(
    prefca: Prefca, clock: Clock, tmp_path: Path
) -> None:
    """The newest reading of each medium counts, and only for what its statement says was there."""
    media, before, copy = tmp_path / "media", tmp_path / "before", tmp_path / "copy"
    days = iter(range(4001, 4100))

    def is_kept_after(*commands: tuple[str, Path]) -> bool:
        for command, directory in commands:
            clock.after(next(days))
            prefca("archive", command, directory, *(["--record"] if command == "check" else []))
        return bool(prefca(*DELETE).json["kept"])

    assert prefca("archive", "export", media, "--to", "2020-01").status == 0
    shutil.copytree(media, before)
    assert is_kept_after(("export", media), ("check", before))
    shutil.copytree(media, copy)
    (copy / SEGMENT).write_bytes(b"damaged")
    assert is_kept_after(("check", media), ("check", copy))
    (copy / "statement.json").write_bytes(b"damaged")
    ended = prefca("archive", "check", copy, "--record")
    assert (ended.status, "nobody can tell which media these are" in ended.stderr) == (3, True)
    (media / "statement.json").rename(media / "elsewhere")
    assert is_kept_after(("check", media))
    (media / "elsewhere").rename(media / "statement.json")
    assert not is_kept_after(("check", media))


@pytest.mark.req("R-4-11-5-2", "R-4-12-2-3")
def test_a_damaged_copy_of_what_was_deleted_is_told_with_what_to_do(
    reviewed: Path, prefca: Prefca, clock: Clock, tmp_path: Path
) -> None:
    """It is the only one that this command cannot make again; other media have it."""
    media, copy = tmp_path / "media", tmp_path / "copy"
    assert prefca("archive", "export", media).status == 0
    assert prefca("archive", "check", media, "--record").status == 0
    shutil.copytree(media, copy)
    assert not prefca(*DELETE).json["kept"]
    assert not (reviewed / "archive" / SEGMENT).exists()
    (copy / SEGMENT).write_bytes(b"damaged")
    clock.after(4001)
    ended = prefca("archive", "export", copy)
    told = f"{copy / SEGMENT} is damaged or missing, and the archive does not have it any more; copy it there from"
    assert (ended.status, told in ended.complaint) == (3, True)
    shutil.copy(media / SEGMENT, copy / SEGMENT)
    assert prefca("archive", "export", copy).status == 0
    assert prefca("archive", "check", copy).status == 0


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.req("R-4-11-5-2")
def test_a_deletion_that_was_killed_is_completed_by_the_next(
    audited: Path, prefca: Prefca, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was on record before the first file went."""
    started(audited, "ocsp-0", asked()).close(NOW)
    clock.after(4000)
    assert prefca("journal", "collect").status == 0
    assert prefca("audit", "mark-reviewed", "--to", "2026-12-31").status == 0
    assert prefca("archive", "export", audited / "media").status == 0
    assert prefca("archive", "check", audited / "media", "--record").status == 0
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", interrupted)
        assert prefca("audit", "delete", "--before", "2026-10-20").status == 130
    (file,) = (audited / "archive" / "journal" / "ocsp-0").iterdir()
    assert select("SELECT stream FROM journal_deletion") == [("ocsp-0",)]
    assert prefca("audit", "delete", "--before", "2026-10-20").status == 0
    assert not file.exists()
