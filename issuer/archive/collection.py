"""From the segments of all processes to the archive: checked, compressed and counted.

A segment that is sealed is read once: its chain and signatures are checked, its records counted, and a compressed copy
written (`proof` makes roots over them, and checks all of it again). One transaction records it and adds the
counts, then the original goes. Killed at any point, the next run finds either the original (and does it again) or both
(and only removes the original): nothing is lost or counted twice.

A segment that fails a check stays where it is and is told at every run, until somebody has looked at it.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import Final

import asyncpg
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from issuer.errors import NotNowError, RefusedError
from issuer.records.journal_store import JournalStore, SegmentRow
from issuer.records.store import Store
from issuer.rules.usage import Amount, UsageCounter, Use
from issuer.whole import sync_names
from journal.reading import Contents, SegmentReader, TamperedError, lines_of, open_segment
from journal.record import Record, records_in
from journal.recovery import JournalBusyError, Note, StreamPlace, lock, recover
from journal.seal import Head, NotASegmentError, is_checkpoint, spki
from journal.writing import Journal, stream_key

STREAM: Final = "issuer"  # of the operation records
COMPRESSED: Final = ".zst"
OPERATIONS_AT_A_TIME: Final = 5000
_NAME: Final = re.compile(r"[A-Za-z0-9.-]*[A-Za-z0-9][A-Za-z0-9.-]*")  # of a stream: it becomes that of a directory
_FILE: Final = re.compile(r"(?P<stream>.+)-(?P<number>[0-9]{8})\.jsonl")
_SEAL_OCTETS: Final = 4096  # more than a seal has
_ID: Final = re.compile(rb',"id":([0-9]+)\}\n')

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """Where segments come from and go to: directories, and whose processes write there."""

    segments: Path  # of this host's processes, and what was brought from others
    keys: Path  # of this host's streams
    archive: Path
    host: str = ""  # as its streams' names begin


@dataclass(frozen=True, slots=True)
class Collected:
    """What a run did."""

    segments: int
    records: int
    refused: tuple[str, ...]  # a segment that is not what was written, and why


@dataclass(frozen=True, slots=True)
class _Copy:
    """A segment that was read and written to the archive."""

    contents: Contents
    usage: Mapping[Use, Amount]
    file: str
    file_sha256: bytes
    last_operation: int | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A segment that is not collected yet, whether it is still written or not. It stays open when its file goes."""

    stream: str
    number: int
    file: BufferedReader

    @property
    def file_name(self) -> str:
        """Of the segment."""
        return f"{self.stream}-{self.number:08}.jsonl"

    def lines(self) -> Iterator[bytes]:
        """Those that are whole, from the beginning: the last may be in the middle of being written."""
        self.file.seek(0)
        return (line for line in lines_of(self.file) if line.endswith(b"\n"))

    def records(self) -> Iterator[bytes]:
        """The records in them."""
        return (record for line in self.lines() for record in records_in(line))


@contextlib.contextmanager
def waiting(directory: Path) -> Iterator[list[Waiting]]:
    """All of them, open. Ask the database afterwards which were collected meanwhile: so none is missed.

    What is none, whatever its name says, is left out; `strangers` tells of it.

    Raises:
        OSError: one cannot be read.
    """
    with contextlib.ExitStack() as stack:
        found = []
        for stream, number, file in _named(directory):
            # It was just collected, or it is a stranger.
            with contextlib.suppress(FileNotFoundError, TamperedError):
                require_name(stream)
                found.append(Waiting(stream, number, stack.enter_context(open_segment(file))))
        yield found


def strangers(directory: Path) -> list[str]:
    """What has the name of a segment, or nearly, and is none.

    Raises:
        OSError: one cannot be read.
    """
    found = []
    for stream, _, file in _named(directory):
        try:
            require_name(stream)
            with contextlib.suppress(FileNotFoundError), open_segment(file):
                pass
        except TamperedError as e:
            found.append(f"{_printable(file.name)}: {e}")
    return found


def _named(directory: Path) -> Iterator[tuple[str, int, Path]]:
    """What has the name of a segment, in order: stream, number, and the file, if it is one."""
    for file in sorted(directory.glob("**/*.jsonl")):
        named = _FILE.fullmatch(file.name)
        if named:
            yield named["stream"], int(named["number"]), file


def _printable(name: str | Path) -> str:
    return str(name).encode("utf-8", "backslashreplace").decode()


async def collect(
    store: JournalStore, operations: Store, places: Places, now: datetime, doubts: Sequence[str] = ()
) -> Collected:
    """Collect everything that is sealed.

    One host collects for all, for the issuer's acts are one stream: the first that did. Its key is recorded before it
    writes anything.

    Args:
        store: of the journals.
        operations: that are to be written.
        places: where segments are.
        now: when.
        doubts: what is wrong between segments; as long as something is, nothing is said to be complete.

    Raises:
        NotNowError: another process collects.
        RefusedError: another host collects.
        OSError: archive or segments cannot be read or written.
    """
    if not await store.lock():
        raise NotNowError("the journals are being collected by another process; wait for it to end")
    try:
        streams = await store.streams()
        key = issuer_key(places, streams)
        if STREAM not in streams:
            await asyncio.to_thread(os.sync)  # a loss of power must not take the key that is recorded now for ever
            await store.add_stream(STREAM, spki(key), now)
        newest = {row.stream: row for row in await store.segments()}
        await asyncio.to_thread(_seal_what_was_left, places, newest, now)
        await _write_operations(store, places, spki(key), now)
        begun = _begun(places.segments, known_keys(places.keys, await store.streams()))
        collected = await _collect(store, operations, places, now)
        # A segment that is refused is told with its file.
        more = [doubt for doubt in doubts if not any(refusal.endswith(doubt) for refusal in collected.refused)]
        collected = replace(collected, refused=(*collected.refused, *more))
        if not collected.refused:
            await store.are_complete_until(_complete(places.host, begun, await store.newest_seals(), now))
        return collected
    finally:
        await store.unlock()


def issuer_key(places: Places, streams: Mapping[str, bytes]) -> Ed25519PrivateKey:
    """The key that signs roots: that of the issuer's own stream.

    Args:
        places: of this host.
        streams: the key of every stream that is known.

    Raises:
        RefusedError: it is another host's.
        OSError: it cannot be read or made.
    """
    places.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = stream_key(StreamPlace(places.segments, places.keys, STREAM))
    if streams.get(STREAM, spki(key)) != spki(key):
        raise RefusedError(
            "the journals are collected on another host, whose key signs them; copy this host's sealed segments there"
            f" and run it there, or move {STREAM}.pem and {STREAM}.note from there to {places.keys}, with its archive"
        )
    return key


def known_keys(directory: Path, streams: Mapping[str, bytes]) -> dict[str, bytes]:
    """The key of every stream: as it was first collected, and of those of this host that never were, as it is here.

    Args:
        directory: of the keys of this host's streams.
        streams: those that were collected.

    Raises:
        OSError: a key cannot be read.
    """
    new = [file for file in sorted(directory.glob("*.pem")) if file.stem not in streams]
    here = {file.stem: spki(stream_key(StreamPlace(directory, directory, file.stem))) for file in new}
    return here | dict(streams)


def key_of(stream: str, keys: Mapping[str, bytes], own: str) -> bytes | None:
    """The key that has to have signed; None: whatever the first segment names, for it is of another host.

    Raises:
        TamperedError: no process of this host, `own`, has ever had this stream.
    """
    key = keys.get(stream)
    if key is None and _host(stream, own) == own:
        raise TamperedError(1, "no process of this host has the key of such a stream")
    return key


def with_its_key(segment: Waiting, keys: Mapping[str, bytes], own: str) -> bool:
    """Does it name the key of its stream? What does not is refused when it is collected, and counts for nothing."""
    try:
        key = key_of(segment.stream, keys, own)
        head = Head.parse(next(segment.lines(), b""))
    except (TamperedError, NotASegmentError):
        return False
    return key is None or head.key == key


def _complete(
    own: str, begun: Mapping[str, datetime], seals: Mapping[str, datetime], now: datetime
) -> dict[str, datetime]:
    """Until when everything of each host is counted.

    What another host has written since its last segment was brought here is unknown.

    Args:
        own: this host.
        begun: when the oldest segment of a stream began that is still written.
        seals: when the newest segment of a stream was sealed.
        now: when this began.
    """
    complete: dict[str, datetime] = {}
    for stream, sealed_at in seals.items():
        host = _host(stream, own)
        complete[host] = max(sealed_at, complete.get(host, sealed_at))
    complete[own] = now
    for stream, began in begun.items():
        host = _host(stream, own)
        complete[host] = min(began, complete.get(host, began))
    return complete


def _host(stream: str, own: str) -> str:
    """Whose stream it is (`JournalSection.stream`); the issuer's acts are those of whoever collects."""
    return own if stream == STREAM else stream.rpartition(".")[0]


async def _collect(store: JournalStore, operations: Store, places: Places, now: datetime) -> Collected:
    segments = records = 0
    refused: list[str] = []
    recorded = await store.streams()
    keys = known_keys(places.keys, recorded)
    for stream, number, file in _named(places.segments):
        try:
            require_name(stream)
            with open_segment(file) as opened:
                if not _is_sealed(opened):
                    continue
                known = await store.segment(stream, number)
                if known is not None:
                    await asyncio.to_thread(require_same, opened, known)
            if known is None:
                key = key_of(stream, keys, places.host)
                copy = await asyncio.to_thread(_copy, file, stream, number, key, places.archive)
                async with operations.transaction():
                    if stream not in recorded:
                        await store.add_stream(stream, copy.contents.head.key, now)
                        recorded[stream] = keys[stream] = copy.contents.head.key
                    await store.add_segment(_row(copy, now), copy.usage)
                    if copy.last_operation is not None:
                        await store.operations_are_written(copy.last_operation)
                segments += 1
                records += copy.contents.records
            file.unlink()
        except TamperedError as e:
            refused.append(f"{_printable(file)}: {e}")
            _logger.error("journal_tampered", extra={"file": _printable(file), "line": e.line, "why": e.why})  # noqa: TRY400 - no fault of ours
    return Collected(segments, records, tuple(refused))


def require_same(file: BufferedReader, known: SegmentRow) -> None:
    """What was collected before may go.

    Raises:
        TamperedError: it is something else.
    """
    file.seek(0)
    if hashlib.file_digest(file, "sha256").digest() != known.sha256:
        raise TamperedError(1, "another segment of this stream and number is in the archive already")


def _row(copy: _Copy, now: datetime) -> SegmentRow:
    contents = copy.contents
    if contents.sealed_at is None:
        raise TamperedError(contents.records, "the segment has no seal")
    return SegmentRow(
        stream=contents.head.stream,
        number=contents.head.segment,
        began=contents.head.began,
        sealed_at=contents.sealed_at,
        records=contents.records,
        octets=contents.octets,
        sha256=contents.sha256,
        previous=contents.head.previous,
        merkle_root=contents.merkle_root,
        file=copy.file,
        file_sha256=copy.file_sha256,
        collected_at=now,
    )


def _begun(directory: Path, keys: Mapping[str, bytes]) -> dict[str, datetime]:
    """When the oldest segment of each stream began that is still written: what it tells of is not counted yet."""
    begun: dict[str, datetime] = {}
    with waiting(directory) as segments:
        for one in segments:
            with contextlib.suppress(NotASegmentError):
                head = Head.parse(next(one.lines(), b""))
                if keys.get(one.stream) == head.key and not _is_sealed(one.file):
                    begun[one.stream] = min(head.began, begun.get(one.stream, head.began))
    return begun


def _is_sealed(file: BufferedReader) -> bool:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _SEAL_OCTETS))
    lines = file.read().splitlines()
    return bool(lines) and lines[-1].startswith(b'{"seal":')


def require_name(stream: str) -> None:
    """Raises TamperedError if no process of ours would name its stream so."""
    if not _NAME.fullmatch(stream):
        raise TamperedError(1, f"no process writes a stream {stream!r}; its name may have letters, digits, '.' and '-'")


def _make_place(archive: Path, stream: str) -> int:
    """Make a stream's directory as the archive is, which is for its owner, and a group that it was given (R-4-11-5-2).

    An archive that anybody may read was made as the umask said, and is closed. Returns the mode.
    """
    archive.mkdir(mode=0o700, parents=True, exist_ok=True)
    if archive.stat().st_mode & stat.S_IRWXO:
        archive.chmod(0o700)
    mode = stat.S_IMODE(archive.stat().st_mode)
    place = archive / stream
    if not place.exists():
        place.mkdir(mode=0o700)
        place.chmod(mode)
    return mode


def _copy(file: Path, stream: str, number: int, key: bytes | None, archive: Path) -> _Copy:
    """Check, count and compress a segment."""
    require_name(stream)
    reader, counter, last = SegmentReader(), UsageCounter(), b""
    name = f"{stream}/{file.name}{COMPRESSED}"
    target = archive / name
    new = [one for one in (target.parent, *target.parent.parents) if not one.exists()]
    mode = _make_place(archive, stream)
    partial = target.with_suffix(".partial")
    try:
        with partial.open("wb") as output, open_segment(file) as segment:
            os.fchmod(output.fileno(), mode & 0o640)
            with zstandard.ZstdCompressor(write_checksum=True).stream_writer(output, closefd=False) as compressed:
                for line in lines_of(segment):
                    for record in reader.feed(line):
                        counter.add(record)
                        last = record
                    compressed.write(line)
            output.flush()
            os.fsync(output.fileno())
        contents = reader.contents()
        if (contents.head.stream, contents.head.segment) != (stream, number):
            raise TamperedError(1, "the head is of another segment than the file's name")
        if key is not None and contents.head.key != key:
            raise TamperedError(1, "the head names another key than the stream has always had")
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    for directory in {target.parent, *(one.parent for one in new)}:
        sync_names(directory)  # the original goes next: a loss of power must not take both
    written = operation_number(last) if stream == STREAM and last else None
    with target.open("rb") as octets:
        digest = hashlib.file_digest(octets, "sha256").digest()
    return _Copy(contents, counter.totals(), name, digest, written)


def _seal_what_was_left(places: Places, newest: Mapping[str, SegmentRow], now: datetime) -> None:
    """Seal segments of processes that were killed and not started again.

    A note that is gone is made again from the archive, or the stream would go on with a number that is there already.
    """
    for file in places.keys.glob("*.pem"):
        place = StreamPlace(places.segments, places.keys, file.stem)
        try:
            held = lock(place)
        except JournalBusyError:
            continue  # it runs
        try:
            archived = newest.get(place.stream)
            if archived is not None and not place.has_note() and place.newest() <= archived.number:
                place.write_note(Note(archived.number, archived.octets, archived.sha256, is_sealed=True))
            recover(place, stream_key(place), now)
        finally:
            os.close(held)


async def _write_operations(store: JournalStore, places: Places, key: bytes, now: datetime) -> None:
    """Write the operation records that are in no segment yet: the issuer's own stream."""
    last = max(await store.operations_written(), _last_operation(places, key))
    rows = await store.operations_after(last, OPERATIONS_AT_A_TIME)
    if not rows:
        return
    journal = Journal(StreamPlace(places.segments, places.keys, STREAM), now)
    try:
        while rows:
            for row in rows:
                journal.append_line(operation_line(row))
            journal.flush()
            rows = await store.operations_after(rows[-1]["record_id"], OPERATIONS_AT_A_TIME)
    finally:
        journal.close(now)


def operation_line(row: asyncpg.Record) -> bytes:
    """An operation record as it is written to the journal."""
    record = Record(row["at"], row["kind"], row["result"], None, row["origin"], row["object"])
    return b'%b,"id":%d}\n' % (record.line()[:-2], row["record_id"])


def operation_number(line: bytes) -> int:
    """The number of the operation record that a record is of; 0 if it is of none."""
    found = _ID.search(line)
    return int(found[1]) if found else 0


def _last_operation(places: Places, key: bytes) -> int:
    """The highest number of an operation record in the segments that are not collected yet."""
    with waiting(places.segments) as segments:
        return max((_last_signed(one, key) for one in segments if one.stream == STREAM), default=0)


def _last_signed(segment: Waiting, key: bytes) -> int:
    """The highest number that the issuer signed in a segment.

    Others may write there, too: a number that one of them makes up must not keep the issuer's acts out of the journal.
    """
    reader, last, signed = SegmentReader(), 0, 0
    segment.file.seek(0)
    with contextlib.suppress(TamperedError):  # what stands before it is signed all the same
        for line in lines_of(segment.file):
            for record in reader.feed(line):
                last = max(last, operation_number(record))
            if is_checkpoint(line) and reader.contents().head.key == key:
                signed = last
    return signed
