"""The stream of segments that one process writes.

Theory of operation. Records gather in memory and reach the kernel with one write per batch, before the answers they
tell of leave: killing the process loses nothing. A running SHA-256 over all octets of the segment chains each batch to
all before it. Each second in which something was written a checkpoint signs that digest; at the end of a day (JST), or
of a size, a seal does, and the next segment begins with the digest of this one. Where the stream stands is noted
beside the key, out of reach of whoever may write to the segments only: so a segment that was cut, replaced or removed
while the process did not run is found at its next start. Noted is what has reached the disk, and durably: losing power
must not look like an attack.

Nothing is written behind a seal. If something fails between it and the next segment, whoever writes next does first
what is missing; as long as that cannot be done, nothing is recorded, and so nobody is answered.

A failure is logged when it begins and when it is over, not each time. After one, the checkpoint of each second writes
something even if there is no record: so it ends as soon as there is room, also if nobody asks.

A process that was killed leaves a segment without a seal. The next one checks it against what was noted and seals it; a
last line that is not whole belonged to no answer that left, and is cut off.
"""

import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from journal.record import Record
from journal.recovery import Note, StreamPlace, lock, recover, replace_durably, sync_directory
from journal.seal import Head, signed_line, spki

MAX_SEGMENT_OCTETS: Final = 64 << 20
JST: Final = timezone(timedelta(hours=9))
_WRITE: Final = "write"
_SYNC: Final = "sync"

_logger = logging.getLogger(__name__)


class Journal:
    """A stream that is being written."""

    def __init__(self, place: StreamPlace, now: datetime, *, syncs_always: bool = False) -> None:
        """Open the stream, and go on where it ended.

        Args:
            place: where.
            now: aware UTC.
            syncs_always: each batch waits for the disk, so that losing the machine loses nothing either.

        Raises:
            JournalBusyError: another process writes it.
            OSError: the directories cannot be made or written.
        """
        for directory in (place.segments, place.keys):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._place = place
        self._syncs_always = syncs_always
        self._batch: list[bytes] = []
        self.append_line = self._batch.append  # what is a line already, joined from fragments of records
        self._noted: Note | None = None
        self._failing: set[str] = set()  # which of _WRITE and _SYNC
        self._syncing = threading.Lock()  # of files that must stay open, and of the note
        self._lock = lock(place)
        try:
            self._key = stream_key(place)
            number, previous = recover(place, self._key, now)
            self._segment = self._begin(number + 1, previous, now)
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def path(self) -> Path:
        """The segment that is being written."""
        return self._segment.path

    @property
    def unsynced_octets(self) -> int:
        """How much of it is perhaps not on the disk yet."""
        return self._segment.octets - self._segment.synced_octets

    @property
    def is_failing(self) -> bool:
        """Was the disk full or gone when it was last tried?"""
        return bool(self._failing)

    def append(self, record: Record) -> None:
        """Add a record to the batch; it is safe only after `flush`."""
        self._batch.append(record.line())

    def flush(self) -> None:
        """Hand the batch to the kernel, all of it or nothing.

        Raises:
            OSError: the disk is full or gone. The batch stays: flush again, or withhold the answers and `discard`.
        """
        batch = self._batch
        if batch:
            try:
                sealed_at = self._segment.sealed_at
                if sealed_at is not None:
                    self._go_on(sealed_at)
                segment = self._segment
                segment.write(b"".join(batch))
            except OSError as e:
                self._fail(_WRITE, e)
                raise
            segment.lines += len(batch)
            batch.clear()

    def discard(self) -> None:
        """Forget the batch, which could not be written: what it tells of has not happened."""
        self._batch.clear()

    def sync(self) -> None:
        """Wait until everything is on the disk, and note that. This may take long: it is made for a thread.

        Raises:
            OSError: the disk is gone.
        """
        with self._trying(_SYNC), self._syncing:
            self._note(self._segment)

    def checkpoint(self, now: datetime) -> bool:
        """Sign what was written since the last checkpoint; begin the next segment when this one is old or large.

        After a failure something is written in any case, so that it tells whether that is possible again.

        Returns:
            Was anything written since?

        Raises:
            OSError: the disk is full or gone.
        """
        self.flush()
        segment = self._segment
        has_grown = _WRITE in self._failing or segment.octets != segment.signed.octets
        with self._trying(_WRITE):
            if segment.sealed_at is not None or segment.octets >= MAX_SEGMENT_OCTETS or _day(now) > _day(segment.began):
                self._go_on(now)
            elif has_grown:
                segment.sign(self._key, now, is_seal=False)
        return has_grown

    def close(self, now: datetime) -> None:
        """Seal and close.

        Raises:
            OSError: the disk is full or gone.
        """
        try:
            self.flush()
            with self._syncing:
                self._seal(now)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close as it is, as if the process were killed: the next start seals."""
        with self._syncing:
            os.close(self._segment.file)
            os.close(self._lock)

    @contextlib.contextmanager
    def _trying(self, what: str) -> Iterator[None]:
        """Notice whether something fails, or does so no longer."""
        try:
            yield
        except OSError as e:
            self._fail(what, e)
            raise
        if what in self._failing:
            self._failing.remove(what)
            if not self._failing:
                _logger.warning("journal_available")

    def _fail(self, what: str, why: OSError) -> None:
        if not self._failing:
            _logger.error("journal_failed", extra={"error": str(why)})
        self._failing.add(what)

    def _go_on(self, now: datetime) -> None:
        """Seal the segment and begin the next; after a failure, do what is missing of it."""
        with self._syncing:
            finished = self._segment
            self._seal(now)
            taken = self._place.taken_from(finished.number)
            if taken > finished.number:  # who puts something there must not end the stream
                why = "segments that this process did not write"
                _logger.error("journal_tampered", extra={"stream": self._place.stream, "segment": taken, "why": why})
            self._segment = self._begin(taken + 1, finished.digest.digest(), now)
            os.close(finished.file)

    def _seal(self, now: datetime) -> None:
        if self._segment.sealed_at is None:
            self._segment.sign(self._key, now, is_seal=True)
        self._note(self._segment)

    def _begin(self, number: int, previous: bytes, now: datetime) -> "_Segment":
        segment = _Segment(self._place.segment(number), number, now, syncs_always=self._syncs_always)
        try:
            segment.write(Head(number, self._place.stream, now, previous, spki(self._key)).line())
            segment.sign(self._key, now, is_seal=False)
            sync_directory(self._place.segments)
            self._note(segment)
        except BaseException:
            os.close(segment.file)
            segment.path.unlink()
            raise
        return segment

    def _note(self, segment: "_Segment") -> None:
        """Note where the last signature stands, when all until there is on the disk."""
        signed, octets = segment.signed, segment.octets
        os.fdatasync(segment.file)
        segment.synced_octets = octets
        if signed != self._noted:
            self._place.write_note(signed)
            self._noted = signed


class _Segment:
    """A file that is being written."""

    def __init__(self, path: Path, number: int, now: datetime, *, syncs_always: bool) -> None:
        self.path = path
        self.number = number
        self.began = now
        self.sealed_at: datetime | None = None
        self.lines = self.octets = self.synced_octets = 0  # lines: of records
        self.digest = hashlib.sha256()  # of so many octets
        self.signed = Note(number, 0, self.digest.digest(), is_sealed=False)  # where the last signature ends
        self._syncs_always = syncs_always
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, octets: bytes) -> None:
        """Add octets, all or none; raises OSError."""
        try:
            written = os.write(self.file, octets)
            while written < len(octets):
                written += os.write(self.file, octets[written:])  # says why it was not all
            if self._syncs_always:
                os.fdatasync(self.file)
        except OSError:
            os.ftruncate(self.file, self.octets)
            raise
        self.digest.update(octets)
        self.octets += written

    def sign(self, key: Ed25519PrivateKey, now: datetime, *, is_seal: bool) -> None:
        """Add a checkpoint or the seal; raises OSError."""
        self.write(signed_line(key, self.lines, now, self.digest.digest(), is_seal=is_seal))
        self.signed = Note(self.number, self.octets, self.digest.digest(), is_seal)
        if is_seal:
            self.sealed_at = now


def _day(moment: datetime) -> date:
    return moment.astimezone(JST).date()


def stream_key(place: StreamPlace) -> Ed25519PrivateKey:
    """The key of a stream, made when it is first needed.

    Raises:
        OSError: it cannot be read or made.
    """
    file = place.key
    if not file.exists():
        place.note_that_it_begins()
        made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        replace_durably(file, made)
    key = load_pem_private_key(file.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise OSError(f"{file}: not an Ed25519 key; restore it from its backup")
    return key
