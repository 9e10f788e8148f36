"""Segments that are not collected yet, held against the archive and against what their processes noted.

Whoever may write to the directory of the segments has not the keys, and does not reach the notes beside them. So he
cannot sign what he puts there, and what he takes away is missed: a segment was cut if the note knows more of it, it is
gone if only the note knows it, and it was exchanged if it does not follow the one before.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from io import BufferedReader
from itertools import groupby
from pathlib import Path

from issuer.archive.collection import Waiting, key_of
from issuer.archive.proof import set_back
from issuer.records.journal_store import SegmentRow
from journal.reading import CLOCK_TOLERANCE, Contents, TamperedError, read_segment
from journal.recovery import Note, NoteUnreadableError, StreamPlace
from journal.seal import FIRST


@dataclass(frozen=True, slots=True)
class Notes:
    """What the processes of this host noted last; to be read before their segments."""

    by_stream: Mapping[str, Note]
    unreadable: Mapping[str, str]  # streams, and whether theirs is damaged or gone


def notes(segments: Path, keys: Path) -> Notes:
    """Those that are there.

    Raises:
        OSError: they cannot be read.
    """
    found: dict[str, Note] = {}
    unreadable = {}
    for stream in sorted({file.stem for suffix in ("note", "pem") for file in keys.glob(f"*.{suffix}")}):
        try:
            found[stream] = StreamPlace(segments, keys, stream).note()
        except NoteUnreadableError as e:
            unreadable[stream] = str(e)
    return Notes(found, unreadable)


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found."""

    findings: list[str] = field(default_factory=list)  # what is wrong
    notes: list[str] = field(default_factory=list)  # clocks that were set back


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a stream stands before a segment."""

    number: int = 0
    sha256: bytes | None = FIRST  # None: nobody can tell any more
    sealed_at: datetime | None = None


def check_waiting(
    segments: Sequence[Waiting], archived: Sequence[SegmentRow], keys: Mapping[str, bytes], own: str
) -> Found:
    """What is wrong with segments, and between them and those before them in the archive.

    Args:
        segments: that are not in the archive.
        archived: all that are, stream by stream in their order.
        keys: SubjectPublicKeyInfo of every stream that is known.
        own: this host, whose streams have their keys here.
    """
    newest = {row.stream: _Place(row.number, row.sha256, row.sealed_at) for row in archived}
    found = Found()
    for stream, its in groupby(sorted(segments, key=_name), key=lambda one: one.stream):
        place = newest.get(stream, _Place())
        try:
            key = key_of(stream, keys, own)
        except TamperedError as e:
            found.findings.extend(f"{one.file_name}: {e}" for one in its)
            continue
        for one in its:
            if one.number != place.number + 1:
                found.findings.append(f"{stream}: segments {place.number + 1} to {one.number - 1} are missing")
                place = _Place(one.number - 1, None)
            try:
                contents = _contents(one, place, key)
            except TamperedError as e:
                found.findings.append(f"{one.file_name}: {e}")
                place = _Place(one.number, None)
                continue
            found.notes.extend(_set_back(one, contents, place))
            key, place = contents.head.key, _Place(one.number, contents.sha256, contents.sealed_at)
    return found


def _name(one: Waiting) -> tuple[str, int]:
    return one.stream, one.number


def _contents(one: Waiting, before: _Place, key: bytes | None) -> Contents:
    """A segment, after all checks, as far as its lines are whole: the last may be in the middle of being written."""
    contents = read_segment(one.lines())
    if (contents.head.stream, contents.head.segment) != _name(one):
        raise TamperedError(1, "the head is of another segment than the file's name")
    if key is not None and contents.head.key != key:
        raise TamperedError(1, "the head names another key than the stream has always had")
    if before.sha256 is not None and contents.head.previous != before.sha256:
        raise TamperedError(1, f"it does not follow segment {before.number}")
    return contents


def _set_back(one: Waiting, contents: Contents, before: _Place) -> Iterator[str]:
    if before.sealed_at is not None and before.sealed_at - contents.head.began > CLOCK_TOLERANCE:
        yield set_back(one.stream, one.number)
    for line in contents.clock_set_back:
        yield f"{one.file_name}: line {line}: the clock was set back"


def check_notes(noted: Notes, segments: Sequence[Waiting], archived: Sequence[SegmentRow]) -> Iterator[str]:
    """Is everything there that the processes of this host have written and noted?

    Args:
        noted: read before the others were.
        segments: that are not in the archive.
        archived: those that are.
    """
    for stream, why in noted.unreadable.items():
        yield f"{stream}: the note of where it stands is {why}"
    waiting = {_name(one): one.file for one in segments}
    rows = {(row.stream, row.number): row for row in archived}
    for stream, note in noted.by_stream.items():
        if note.segment == 0:
            continue  # nothing was written yet
        place = (stream, note.segment)
        wrong = None
        if place in waiting:
            wrong = _not_as_noted(waiting[place], note)
        elif place not in rows:
            wrong = "it is gone"
        elif note.is_sealed and rows[place].sha256 != note.sha256:
            wrong = "the one in the archive is another one"
        if wrong is not None:
            yield f"{stream}-{note.segment:08}.jsonl: not as its process left it: {wrong}"


def _not_as_noted(file: BufferedReader, note: Note) -> str | None:
    file.seek(0)
    octets = file.read(note.octets)
    if len(octets) < note.octets:
        return f"cut to {len(octets)} of {note.octets} octets"
    if hashlib.sha256(octets).digest() != note.sha256:
        return "what stood there at the last checkpoint was changed"
    return None
