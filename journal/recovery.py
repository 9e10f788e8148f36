"""Where a stream goes on after its process has ended, however it ended."""

import fcntl
import json
import logging
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from journal.reading import SegmentReader, TamperedError
from journal.seal import FIRST, signed_line, spki

SUFFIX: Final = ".jsonl"
NUMBER_DIGITS: Final = 8

_logger = logging.getLogger(__name__)


class JournalBusyError(OSError):
    """Another process writes this stream."""


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """Where a stream lives."""

    segments: Path  # directory
    keys: Path  # directory, for the process alone
    stream: str  # unique among those that share the directories, such as ocsp-0

    def segment(self, number: int) -> Path:
        """The file of a segment."""
        return self.segments / f"{self.stream}-{number:0{NUMBER_DIGITS}}{SUFFIX}"

    def newest(self) -> int:
        """The highest number of a segment that is there; 0 if there is none."""
        files = self.segments.glob(f"{self.stream}-{'[0-9]' * NUMBER_DIGITS}{SUFFIX}")
        return max((int(file.name.removesuffix(SUFFIX)[-NUMBER_DIGITS:]) for file in files), default=0)

    @property
    def _note(self) -> Path:
        return self.keys / f"{self.stream}.note"

    def note(self) -> "Note | None":
        """What was noted last; None at the first start.

        Raises:
            OSError: it cannot be read.
        """
        try:
            match json.loads(self._note.read_text()):
                case {"segment": int(segment), "octets": int(octets), "sha256": str(digest), "sealed": bool(sealed)}:
                    return Note(segment, octets, bytes.fromhex(digest), is_sealed=sealed)
                case _:
                    pass
        except FileNotFoundError:
            return None
        except ValueError:
            pass
        _logger.error("journal_note_unreadable", extra={"stream": self.stream})
        return None

    def write_note(self, note: "Note") -> None:
        """Replace what was noted.

        Raises:
            OSError: it cannot be written.
        """
        content = {
            "segment": note.segment,
            "octets": note.octets,
            "sha256": note.sha256.hex(),
            "sealed": note.is_sealed,
        }
        partial = self._note.with_suffix(".new")
        partial.write_text(json.dumps(content))
        partial.rename(self._note)


@dataclass(frozen=True, slots=True)
class Note:
    """Where a stream stood at its last checkpoint. Stored."""

    segment: int
    octets: int
    sha256: bytes  # of so many octets
    is_sealed: bool


def recover(place: StreamPlace, key: Ed25519PrivateKey, now: datetime) -> tuple[int, bytes]:
    """Seal what was left unsealed, if nothing but its process wrote there.

    Returns:
        The number of the stream's last segment, and its SHA-256 as this process knows it. If the files tell something
        else, that is logged as an alarm, and the head of the next segment contradicts them for ever.

    Raises:
        OSError: a segment cannot be read or written.
    """
    note, newest = place.note(), place.newest()
    if note is None:
        note = Note(0, 0, FIRST, is_sealed=True)
    try:
        return _recover(place, note, newest, key, now)
    except (_ForeignError, TamperedError) as e:
        _logger.error("journal_tampered", extra={"stream": place.stream, "segment": newest, "why": str(e)})  # noqa: TRY400 - no fault of ours
        return max(newest, note.segment), note.sha256


def lock(place: StreamPlace) -> int:
    """The right to write a stream, as long as the descriptor is open.

    Raises:
        JournalBusyError: another process has it.
        OSError: the file cannot be made.
    """
    file = place.keys / f"{place.stream}.lock"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(descriptor)
        raise JournalBusyError(e.errno, "another process writes this journal; stop it first", str(file)) from e
    return descriptor


class _ForeignError(Exception):
    """Somebody else was there."""


def _recover(place: StreamPlace, note: Note, newest: int, key: Ed25519PrivateKey, now: datetime) -> tuple[int, bytes]:
    if newest > note.segment + 1:
        raise _ForeignError("segments that this process did not write")
    if newest == note.segment + 1 and note.is_sealed:  # killed before the first checkpoint
        return _seal(place, Note(newest, 0, note.sha256, is_sealed=False), key, now)
    if note.is_sealed:
        return note.segment, note.sha256
    return _seal(place, note, key, now)


def _seal(place: StreamPlace, note: Note, key: Ed25519PrivateKey, now: datetime) -> tuple[int, bytes]:
    """Seal a segment whose process was killed, after a comparison with what was noted.

    Args:
        place: of the stream.
        note: of the segment; of one without a checkpoint, 0 octets and the digest of the segment before.
        key: of the stream.
        now: when.
    """
    file, reader = place.segment(note.segment), SegmentReader()
    is_noted = note.octets == 0
    if not file.exists():
        raise _ForeignError("the segment is gone")
    with file.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break  # no answer leaves before its line is whole
            reader.feed(line)
            is_noted = is_noted or (reader.octets, reader.sha256()) == (note.octets, note.sha256)
    if not is_noted:
        raise _ForeignError("not what was written until the last checkpoint")
    if reader.octets == 0:
        file.unlink()
        return note.segment - 1, note.sha256
    contents = reader.contents()
    if contents.head.key != spki(key) or (note.octets == 0 and contents.head.previous != note.sha256):
        raise _ForeignError("a head that this process did not write")
    if contents.sealed_at is None:
        _append(file, contents.octets, signed_line(key, contents.records, now, contents.sha256, is_seal=True), reader)
    place.write_note(Note(note.segment, reader.octets, reader.sha256(), is_sealed=True))
    return note.segment, reader.sha256()


def _append(file: Path, octets: int, line: bytes, reader: SegmentReader) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, octets)
        os.write(descriptor, line)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    reader.feed(line)
