"""The stream of segments that one process writes.

Theory of operation. Records gather in memory and reach the kernel with one write per batch, before the answers they
tell of leave: killing the process loses nothing. A running SHA-256 over all octets of the segment chains each batch to
all before it. Each second in which something was written a checkpoint signs that digest; at the end of a day (JST), or
of a size, a seal does, and the next segment begins with the digest of this one. Where the stream stands is noted
beside the key, out of reach of whoever may write to the segments only: so a segment that was cut, replaced or removed
while the process did not run is found at its next start.

A process that was killed leaves a segment without a seal. The next one checks it against what was noted and seals it; a
last line that is not whole belonged to no answer that left, and is cut off.
"""

import hashlib
import os
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from journal.record import Record
from journal.recovery import Note, StreamPlace, lock, recover
from journal.seal import Head, signed_line, spki

MAX_SEGMENT_OCTETS: Final = 64 << 20
JST: Final = timezone(timedelta(hours=9))


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
        self._lock = lock(place)
        self._key = stream_key(place)
        self._batch: list[bytes] = []
        self.append_line = self._batch.append  # a record that is a line already, joined from fragments
        self.append_lines = self._batch.extend  # several of them
        number, previous = recover(place, self._key, now)
        self._begin(number + 1, previous, now)

    @property
    def path(self) -> Path:
        """The segment that is being written."""
        return self._place.segment(self._number)

    def append(self, record: Record) -> None:
        """Add a record to the batch; it is safe only after `flush`."""
        self._batch.append(record.line())

    def flush(self) -> None:
        """Hand the batch to the kernel, all of it or nothing.

        Raises:
            OSError: the disk is full or gone. The batch stays, so the caller withholds its answers and may flush again.
        """
        batch = self._batch
        if batch:
            self._write(b"".join(batch))
            self._records += len(batch)
            batch.clear()

    def sync(self) -> None:
        """Wait until everything is on the disk. This may take long: it is made for a thread.

        Raises:
            OSError: the disk is gone.
        """
        os.fdatasync(self._file)

    def checkpoint(self, now: datetime) -> bool:
        """Sign what was written since the last checkpoint; begin the next segment when this one is old or large.

        Returns:
            Was anything written since?

        Raises:
            OSError: the disk is full or gone.
        """
        self.flush()
        has_grown = self._octets != self._signed_octets
        if self._octets >= MAX_SEGMENT_OCTETS or _day(now) > _day(self._began):
            finished = self._file
            self._seal(now)
            self._begin(self._number + 1, self._digest.digest(), now)
            os.close(finished)
        elif has_grown:
            self._sign(now, is_seal=False)
        return has_grown

    def close(self, now: datetime) -> None:
        """Seal and close.

        Raises:
            OSError: the disk is full or gone.
        """
        try:
            self.flush()
            self._seal(now)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close as it is, as if the process were killed: the next start seals."""
        os.close(self._file)
        os.close(self._lock)

    def _begin(self, number: int, previous: bytes, now: datetime) -> None:
        path = self._place.segment(number)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._number = number
        self._began = now
        self._records = self._octets = 0
        self._digest = hashlib.sha256()
        self._write(Head(number, self._place.stream, now, previous, spki(self._key)).line())
        self._sign(now, is_seal=False)

    def _seal(self, now: datetime) -> None:
        self._sign(now, is_seal=True)
        self.sync()

    def _sign(self, now: datetime, *, is_seal: bool) -> None:
        self._write(signed_line(self._key, self._records, now, self._digest.digest(), is_seal=is_seal))
        self._signed_octets = self._octets
        self._place.write_note(Note(self._number, self._octets, self._digest.digest(), is_seal))

    def _write(self, octets: bytes) -> None:
        try:
            written = os.write(self._file, octets)
            while written < len(octets):
                written += os.write(self._file, octets[written:])  # says why it was not all
            if self._syncs_always:
                os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self._octets)
            raise
        self._digest.update(octets)
        self._octets += written


def _day(moment: datetime) -> date:
    return moment.astimezone(JST).date()


def stream_key(place: StreamPlace) -> Ed25519PrivateKey:
    """The key of a stream, made when it is first needed.

    Raises:
        OSError: it cannot be read or made.
    """
    file = place.keys / f"{place.stream}.pem"
    if not file.exists():
        made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        partial = file.with_suffix(".new")
        partial.touch(mode=0o600)
        partial.write_bytes(made)
        partial.rename(file)
    key = load_pem_private_key(file.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise OSError(f"{file}: not an Ed25519 key; restore it from its backup")
    return key
