"""A segment read line by line, and everything about it checked that can be checked from the segment alone."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from journal.merkle import Tree, leaf_hash
from journal.record import records_in
from journal.seal import Checkpoint, Head, NotASegmentError, is_checkpoint, is_signed_by, public_key

CLOCK_TOLERANCE: Final = timedelta(seconds=2)  # clocks are corrected by small steps
MAX_LINE_OCTETS: Final = 16 << 20  # far more than a turn of a server brings
_AT: Final = slice(7, 31)  # of a record's line: its time, YYYY-MM-DDTHH:MM:SS.mmmZ


class TamperedError(Exception):
    """A segment does not hold what was written; `line` is the first bad one, from 1."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line
        self.why = why


@dataclass(frozen=True, slots=True)
class Contents:
    """What a segment holds, after all checks."""

    head: Head
    records: int
    lines: int  # that hold them
    octets: int
    sha256: bytes  # of all octets: the next segment names it
    merkle_root: bytes  # over its records, each as a line without line feed
    sealed_at: datetime | None  # None: it is still written, or its process was killed
    unsigned_records: int  # after the last checkpoint: at most what a second brings
    clock_set_back: tuple[int, ...]  # lines whose time is well before that of a line above


class SegmentReader:
    """Takes a segment's lines in order; each with its line feed."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._tree = Tree()
        self._head: Head | None = None
        self._key: Ed25519PublicKey | None = None
        self._lines = self._lines_of_records = self._signed_records = 0
        self.octets = 0
        self._sealed: datetime | None = None
        self._latest = b""
        self._set_back: list[int] = []

    def feed(self, line: bytes) -> Sequence[bytes]:
        """Check the next line; the records that it holds.

        Raises:
            TamperedError: it cannot stand there.
        """
        self._lines += 1
        if self._sealed is not None:
            raise TamperedError(self._lines, "something comes after the seal")
        if not line.endswith(b"\n"):
            raise TamperedError(self._lines, "the line is cut off")
        records = records_in(line)
        if self._head is None:
            self._read_head(line)
        elif records:
            self._lines_of_records += 1
            for record in records:
                self._tree.add(leaf_hash(record[:-1]))
            self._watch_clock(line[_AT])
        elif is_checkpoint(line):
            self._check(line)
        else:
            raise TamperedError(self._lines, "neither a record nor a checkpoint")
        self._digest.update(line)
        self.octets += len(line)
        return records

    def sha256(self) -> bytes:
        """Of all octets so far."""
        return self._digest.digest()

    def contents(self) -> Contents:
        """What was read.

        Raises:
            TamperedError: not even a head.
        """
        if self._head is None:
            raise TamperedError(1, "the segment is empty")
        return Contents(
            head=self._head,
            records=self._tree.size,
            lines=self._lines_of_records,
            octets=self.octets,
            sha256=self.sha256(),
            merkle_root=self._tree.root(),
            sealed_at=self._sealed,
            unsigned_records=self._tree.size - self._signed_records,
            clock_set_back=tuple(self._set_back),
        )

    def _read_head(self, line: bytes) -> None:
        try:
            self._head = Head.parse(line)
            self._key = public_key(self._head.key)
        except NotASegmentError as e:
            raise TamperedError(1, str(e)) from e

    def _check(self, line: bytes) -> None:
        try:
            found = Checkpoint.parse(line)
        except NotASegmentError as e:
            raise TamperedError(self._lines, str(e)) from e
        if self._key is None or not is_signed_by(self._key, line):
            raise TamperedError(self._lines, "the signature of the checkpoint is not the process's")
        if found.sha256 != self.sha256() or found.lines != self._lines_of_records:
            raise TamperedError(self._lines, "what stands before the checkpoint is not what was signed")
        self._signed_records = self._tree.size
        if found.is_seal:
            self._sealed = found.at

    def _watch_clock(self, at: bytes) -> None:
        if at >= self._latest:  # the same form and length each time: as text they are in order
            self._latest = at
        elif _moment(self._latest) - _moment(at) > CLOCK_TOLERANCE:
            self._set_back.append(self._lines)
            self._latest = at


def open_segment(path: Path) -> BufferedReader:
    """Open a file in the directory of segments, where others may have put something else.

    Raises:
        TamperedError: it is no file.
        OSError: it cannot be read; FileNotFoundError: it is gone.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        if e.errno in {errno.ELOOP, errno.ENXIO}:  # a link, a socket
            raise TamperedError(1, "it is no file") from e
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise TamperedError(1, "it is no file")
    return os.fdopen(descriptor, "rb")


def lines_of(file: BufferedReader) -> Iterator[bytes]:
    """The lines from here on, none longer than `MAX_LINE_OCTETS`: what is longer comes in pieces without line feed."""
    return iter(partial(file.readline, MAX_LINE_OCTETS), b"")


def read_segment(lines: Iterable[bytes]) -> Contents:
    """Read a whole segment.

    Raises:
        TamperedError: the first line that is wrong.
    """
    reader = SegmentReader()
    for line in lines:
        reader.feed(line)
    return reader.contents()


def _moment(at: bytes) -> datetime:
    return datetime.fromisoformat(at.decode())
