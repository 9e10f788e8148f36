"""The journal that servers append to."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from journal.record import Record
from journal.segment import Journal

pytestmark = pytest.mark.req("R-4-11-2-1", "R-4-11-2-2")
NOW = datetime(2014, 4, 1, 9, 30, tzinfo=UTC)


def record(name: str) -> Record:
    return Record(NOW, "ldap_search", "success", "tester", "192.0.2.1", name, 48)


def test_a_record_tells_time_kind_result_origin_and_object() -> None:
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
def test_a_record_is_one_line_whatever_a_peer_wrote(text: str) -> None:
    """A peer cannot forge a second record, nor make the first one unreadable."""
    line = record(text).line()
    assert line.count(b"\n") == 1
    assert json.loads(line)["object"] == text


def test_a_batch_is_in_the_file_after_flush_and_earlier_batches_stay(tmp_path: Path) -> None:
    """Appending never replaces what is there, not even when the process starts again in the same second."""
    for names in (["a", "b"], ["c"]):
        journal = Journal.open(tmp_path / "journal", "repository", NOW)
        for name in names:
            journal.append(record(name))
        journal.flush()
        journal.close()
    lines = (tmp_path / "journal" / "repository-20140401T093000Z.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["object"] for line in lines] == ["a", "b", "c"]


def test_records_are_kept_for_another_try_when_the_disk_refuses_them(tmp_path: Path) -> None:
    """A full disk is told to the caller and loses no record."""
    full = Journal(Path("/dev/full"))
    full.append(record("a"))
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            full.flush()
    with pytest.raises(OSError, match="No space left"):
        full.close()


def test_only_the_owner_may_read_the_journal(tmp_path: Path) -> None:
    """The usage history of relying parties is nobody else's business."""
    journal = Journal.open(tmp_path / "journal", "ocsp", NOW)
    journal.close()
    assert journal.path.stat().st_mode & 0o077 == 0
    assert journal.path.parent.stat().st_mode & 0o077 == 0
