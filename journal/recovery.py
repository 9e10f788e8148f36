"""Where a stream goes on after its process has ended, however it ended."""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import logging
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from journal.reading import SegmentReader, TamperedError, lines_of, open_segment
from journal.seal import FIRST, is_checkpoint, signed_line, spki

SUFFIX: Final = ".jsonl"
NUMBER_DIGITS: Final = 8

_logger = logging.getLogger(__name__)


class JournalBusyError(OSError):
    """Another process writes this stream."""


class NoteUnreadableError(Exception):
    """What was noted is damaged or gone; the message says which."""


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

    def taken_from(self, number: int) -> int:
        """The last of the segments without a gap from this number on; the number itself, if it is there or not."""
        return next(one for one in itertools.count(number) if not os.path.lexists(self.segment(one + 1)))

    @property
    def key(self) -> Path:
        """The file of the stream's key."""
        return self.keys / f"{self.stream}.pem"

    @property
    def _note(self) -> Path:
        return self.keys / f"{self.stream}.note"

    def has_note(self) -> bool:
        """Is something noted, be it damaged?"""
        return self._note.exists()

    def note_that_it_begins(self) -> None:
        """To be done before its key is made: so a key without a note is one whose note was removed.

        Raises:
            OSError: it cannot be written.
        """
        if not self.has_note():
            self.write_note(_NOTHING)

    def note(self) -> "Note":
        """What was noted last.

        Raises:
            NoteUnreadableError: that cannot be told any more.
            OSError: it cannot be read.
        """
        try:
            match json.loads(self._note.read_bytes()):
                case {"segment": int(segment), "octets": int(octets), "sha256": str(digest), "sealed": bool(sealed)}:
                    return Note(segment, octets, bytes.fromhex(digest), is_sealed=sealed)
                case _:
                    raise NoteUnreadableError("damaged")
        except FileNotFoundError as e:
            raise NoteUnreadableError("gone") from e
        except ValueError as e:
            raise NoteUnreadableError("damaged") from e

    def write_note(self, note: "Note") -> None:
        """Replace what was noted, durably.

        Raises:
            OSError: it cannot be written.
        """
        content = {
            "segment": note.segment,
            "octets": note.octets,
            "sha256": note.sha256.hex(),
            "sealed": note.is_sealed,
        }
        replace_durably(self._note, json.dumps(content).encode())


@dataclass(frozen=True, slots=True)
class Note:
    """Where a stream stood at the last checkpoint that has reached the disk. Stored."""

    segment: int
    octets: int
    sha256: bytes  # of so many octets
    is_sealed: bool


_NOTHING: Final = Note(0, 0, FIRST, is_sealed=True)  # of a stream that has not begun
_UNKNOWN: Final = Note(0, 0, bytes(len(FIRST)), is_sealed=True)  # of one that nobody knows: no segment follows that


def recover(place: StreamPlace, key: Ed25519PrivateKey, now: datetime) -> tuple[int, bytes]:
    """Seal what was left unsealed, if nothing but its process wrote there.

    Returns:
        The number of the stream's last segment, and its SHA-256 as this process knows it. If the files tell something
        else, that is logged as an alarm, and the head of the next segment contradicts them for ever.

    Raises:
        OSError: a segment cannot be read or written.
    """
    newest = place.newest()
    try:
        note = place.note()
    except NoteUnreadableError as e:
        note = _last_signed(place, newest, spki(key))
        extra = {"stream": place.stream, "why": str(e), "segment": note.segment}
        _logger.error("journal_note_unreadable", extra=extra)  # noqa: TRY400 - no fault of ours
    try:
        return _recover(place, note, newest, key, now)
    except (_ForeignError, TamperedError) as e:
        _logger.error("journal_tampered", extra={"stream": place.stream, "segment": newest, "why": str(e)})  # noqa: TRY400 - no fault of ours
        # Not behind the newest: who puts a segment there with the last number of all must not end the stream.
        return place.taken_from(note.segment), note.sha256


def replace_durably(file: Path, content: bytes) -> None:
    """Write a file that only the owner may read; whenever power is lost, it is the old one or the new one.

    Raises:
        OSError: it cannot be written.
    """
    partial = file.with_suffix(".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as new:
        new.write(content)
        new.flush()
        os.fsync(descriptor)
    partial.rename(file)
    sync_directory(file.parent)


def sync_directory(directory: Path) -> None:
    """Wait until the names in it are on the disk; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def _last_signed(place: StreamPlace, newest: int, key: bytes) -> Note:
    """Where the stream stands by its own last signature: all that is left to go by without a note."""
    for number in range(newest, 0, -1):
        reader, signed = SegmentReader(), _UNKNOWN
        try:
            with open_segment(place.segment(number)) as file:
                for line in lines_of(file):
                    reader.feed(line)
                    if is_checkpoint(line):
                        is_sealed = reader.contents().sealed_at is not None
                        signed = Note(number, reader.octets, reader.sha256(), is_sealed)
        except (FileNotFoundError, TamperedError):
            pass  # what stands before it is signed all the same
        if signed is not _UNKNOWN and reader.contents().head.key == key:
            return signed
    return _UNKNOWN


def _recover(place: StreamPlace, note: Note, newest: int, key: Ed25519PrivateKey, now: datetime) -> tuple[int, bytes]:
    if newest > note.segment + 1:
        raise _ForeignError("segments that this process did not write")
    if newest == note.segment + 1 and note.is_sealed:  # killed before the first checkpoint
        return _seal(place, Note(newest, 0, note.sha256, is_sealed=False), key, now)
    if note.is_sealed:
        _require_noted(place.segment(note.segment), note)
        return note.segment, note.sha256
    return _seal(place, note, key, now)


def _require_noted(file: Path, note: Note) -> None:
    """A sealed segment, if it is not collected yet, is as its process left it; raises _ForeignError if not."""
    with contextlib.suppress(FileNotFoundError), open_segment(file) as segment:
        if hashlib.file_digest(segment, "sha256").digest() != note.sha256:
            raise _ForeignError("the last segment is not what its process has sealed")


def _seal(place: StreamPlace, note: Note, key: Ed25519PrivateKey, now: datetime) -> tuple[int, bytes]:
    """Seal a segment whose process was killed, after a comparison with what was noted.

    Args:
        place: of the stream.
        note: of the segment; of one without a checkpoint, 0 octets and the digest of the segment before.
        key: of the stream.
        now: when.
    """
    file = place.segment(note.segment)
    try:
        reader = _whole_lines(file, note)
    except FileNotFoundError as e:
        raise _ForeignError("the segment is gone") from e
    if reader.octets == 0:
        file.unlink()
        return note.segment - 1, note.sha256
    contents = reader.contents()
    if contents.head.key != spki(key) or (note.octets == 0 and contents.head.previous != note.sha256):
        raise _ForeignError("a head that this process did not write")
    seal = b""
    if contents.sealed_at is None:
        seal = signed_line(key, contents.lines, now, contents.sha256, is_seal=True)
        reader.feed(seal)
    _end(file, contents.octets, seal)
    place.write_note(Note(note.segment, reader.octets, reader.sha256(), is_sealed=True))
    return note.segment, reader.sha256()


def _whole_lines(file: Path, note: Note) -> SegmentReader:
    """Read a segment as far as it is whole, which must be beyond what was noted.

    What comes after that may have been lost or damaged with the power. A record that is half a line belonged to no
    answer: none leaves before its line is whole.
    """
    reader = SegmentReader()
    is_noted = note.octets == 0
    with open_segment(file) as segment:
        for line in itertools.takewhile(lambda line: line.endswith(b"\n"), lines_of(segment)):
            try:
                reader.feed(line)
            except TamperedError as e:
                if reader.octets == 0 or not is_noted:
                    raise
                _logger.error("journal_cut", extra={"segment": file.name, "why": str(e)})  # noqa: TRY400 - no fault of ours
                break
            is_noted = is_noted or (reader.octets, reader.sha256()) == (note.octets, note.sha256)
    if not is_noted:
        raise _ForeignError("not what was written until the last checkpoint")
    return reader


def _end(file: Path, octets: int, seal: bytes) -> None:
    """Leave so many octets of a file and the seal, on the disk."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, octets)
        if os.write(descriptor, seal) < len(seal):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
