"""That the archive of the journals is whole: signed roots over it, proofs that a record is in it, and the check of all.

A root is a Merkle tree (RFC 9162) over segments, and a segment states the root of the tree over its records: so a proof
of one record is two audit paths. Each root names the one before, and its key is that of the issuer's own stream.
"""

import hashlib
import itertools
import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import zstandard
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from issuer.archive.collection import STREAM
from issuer.errors import RefusedError
from issuer.records.journal_store import JournalStore, RootRow, SegmentRow
from issuer.records.store import Store
from issuer.rules.usage import UsageCounter
from journal.merkle import Tree, inclusion_proof, leaf_hash
from journal.reading import CLOCK_TOLERANCE, Contents, SegmentReader, TamperedError
from journal.record import begins_as_record, records_in
from journal.seal import FIRST, public_key, spki


async def make_root(store: JournalStore, operations: Store, key: Ed25519PrivateKey, now: datetime) -> int | None:
    """Sign a Merkle root over all segments that have none yet; its number, or None if there are none.

    Raises:
        RefusedError: the key is not the one that signs the issuer's acts.
    """
    async with operations.transaction():
        if (await store.streams()).get(STREAM) != spki(key):
            raise RefusedError("roots are signed by the key of the host that collects the journals; collect them there")
        leaves = await store.without_root()
        if not leaves:
            return None
        roots = await store.roots()
        previous = roots[-1].statement if roots else b""
        statement = json.dumps(
            {
                "root": len(roots) + 1,
                "at": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
                "segments": len(leaves),
                "merkle_root": Tree(map(segment_leaf, leaves)).root().hex(),
                "previous": hashlib.sha256(previous).hexdigest(),
                "key": b64encode(spki(key)).decode(),
            },
            separators=(",", ":"),
        ).encode()
        root = RootRow(len(roots) + 1, statement, key.sign(statement))
        await store.add_root(root, leaves, now)
        return root.number


def made_at(root: RootRow) -> datetime:
    """When a root was made, as it says itself."""
    return datetime.fromisoformat(json.loads(root.statement)["at"])


def segment_leaf(row: SegmentRow) -> bytes:
    """The hash of a segment in the tree under a root."""
    return leaf_hash(segment_statement(row))


def segment_statement(row: SegmentRow) -> bytes:
    """What the tree under a root says of a segment. Stored in proofs."""
    return json.dumps(
        {
            "stream": row.stream,
            "segment": row.number,
            "records": row.records,
            "sha256": row.sha256.hex(),
            "merkle_root": row.merkle_root.hex(),
        },
        separators=(",", ":"),
    ).encode()


async def check_roots(store: JournalStore, key: bytes | None) -> list[str]:
    """What is wrong with the roots, and with the segments under them as the database knows them.

    Args:
        store: of the journals.
        key: SubjectPublicKeyInfo that must have signed; None if the issuer's stream was never collected.
    """
    findings, previous = [], b""
    for number, root in enumerate(await store.roots(), 1):
        leaves = await store.leaves(root.number)
        finding = _wrong_with(root, number, previous, leaves, key)
        if finding:
            findings.append(f"root {root.number}: {finding}")
        previous = root.statement
    return findings


def _wrong_with(
    root: RootRow, number: int, previous: bytes, leaves: Sequence[SegmentRow], key: bytes | None
) -> str | None:
    if key is None:
        return "the issuer's own journal was never collected, so nobody can have signed it"
    try:
        public_key(key).verify(root.signature, root.statement)
    except InvalidSignature:
        return "the signature is not by the issuer's journal key"
    said = json.loads(root.statement)
    if (said["root"], root.number) != (number, number):
        return "the one before is missing"
    if said["previous"] != hashlib.sha256(previous).hexdigest():
        return "it does not follow the one before"
    if said["merkle_root"] != Tree(map(segment_leaf, leaves)).root().hex():
        return "segments under it are missing or changed"
    return None


async def prove(store: JournalStore, archive: Path, stream: str, segment: int, record: int) -> dict[str, object]:
    """A proof that the archive has held a record since a root was signed; scripts/check-journal-proof checks it.

    Args:
        store: of the journals.
        archive: its directory.
        stream: of the record.
        segment: the number of the segment.
        record: which of its records, from 1.

    Raises:
        RefusedError: there is no such record, or no root above it yet.
    """
    row, number = await store.segment(stream, segment), await store.root_of(stream, segment)
    if row is None or not 1 <= record <= row.records:
        raise RefusedError(
            f"{stream} has no record {record} in a collected segment {segment}; see `prefca journal list`"
        )
    if number is None:
        raise RefusedError(f"no root covers segment {segment} of {stream} yet; `prefca journal collect` makes one")
    line, path = _among(archived_records(archive, row), record - 1)
    leaves = await store.leaves(number)
    position = next(at for at, leaf in enumerate(leaves) if (leaf.stream, leaf.number) == (stream, segment))
    roots, stamps = await store.roots(), await store.stamps()
    root, *following = roots[number - 1 :]
    stamped = min((stamp for stamp in stamps if stamp >= number), default=None)
    stamp = None if stamped is None else b64encode(stamps[stamped].response).decode()
    return {
        "record": line.decode(),
        "record_index": record - 1,
        "record_path": _hex(path),
        "segment": segment_statement(row).decode(),
        "segment_index": position,
        "segment_path": _hex(inclusion_proof([segment_leaf(leaf) for leaf in leaves], position)),
        "root": root.statement.decode(),
        "signature": b64encode(root.signature).decode(),
        "following_roots": [] if stamped is None else [one.statement.decode() for one in following[: stamped - number]],
        "time_stamp": stamp,  # of the last of them
    }


def _among(records: Iterable[bytes], index: int) -> tuple[bytes, list[bytes]]:
    """One of the records of a segment without its line feed, and its audit path. There may be millions of them."""
    hashes, wanted = [], b""
    for number, line in enumerate(records):
        hashes.append(leaf_hash(line[:-1]))
        if number == index:
            wanted = line[:-1]
    return wanted, inclusion_proof(hashes, index)


def _hex(hashes: Iterable[bytes]) -> list[str]:
    return [one.hex() for one in hashes]


def archived_records(archive: Path, row: SegmentRow) -> Iterator[bytes]:
    """The records of a segment in the archive.

    Raises:
        ValueError: a line that was not there when it was collected.
        OSError: the file cannot be read.
        zstandard.ZstdError: it is damaged.
    """
    for line in archived_lines(archive, row):
        records = records_in(line)
        if not records and begins_as_record(line):
            raise ValueError(f"{row.file}: not what was collected")
        yield from records


def archived_lines(archive: Path, row: SegmentRow) -> Iterator[bytes]:
    """The lines of a segment in the archive.

    Raises:
        OSError: the file cannot be read.
        zstandard.ZstdError: it is damaged.
    """
    with (archive / row.file).open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as octets:
        rest = b""
        while block := octets.read(1 << 20):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield line + b"\n"
        if rest:
            yield rest


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check of a segment found."""

    finding: str | None = None  # what is wrong, and where
    notes: tuple[str, ...] = ()  # what somebody may want to ask about


def check_archived(archive: Path, row: SegmentRow, key: bytes, counter: UsageCounter | None = None) -> Checked:
    """Is a segment in the archive as it was collected?

    Args:
        archive: its directory.
        row: what the database knows of the segment.
        key: SubjectPublicKeyInfo of its stream.
        counter: is to count its records.
    """
    try:
        contents = _read(archive, row, counter)
    except TamperedError as e:
        return Checked(f"{row.file}: {e}")
    except (OSError, zstandard.ZstdError) as e:
        return Checked(f"{row.file}: {e}")
    found = (contents.sha256, contents.merkle_root, contents.records, contents.head.previous)
    if contents.head.key != key:
        return Checked(f"{row.file}: line 1: the head names another key than the stream has always had")
    if found != (row.sha256, row.merkle_root, row.records, row.previous):
        return Checked(f"{row.file}: well-formed, but not the segment that was collected")
    return Checked(notes=tuple(f"{row.file}: line {line}: the clock was set back" for line in contents.clock_set_back))


def holds_another(archive: Path, row: SegmentRow) -> bool:
    """Is a file a whole segment, signed to its end, and another one than was collected? Else it is right or damaged."""
    try:
        contents = _read(archive, row)
    except (TamperedError, OSError, zstandard.ZstdError):
        return False
    return contents.sealed_at is not None and contents.sha256 != row.sha256


def _read(archive: Path, row: SegmentRow, counter: UsageCounter | None = None) -> Contents:
    reader = SegmentReader()
    for line in archived_lines(archive, row):
        for record in reader.feed(line):
            if counter is not None:
                counter.add(record)
    return reader.contents()


def check_chain(segments: Sequence[SegmentRow]) -> list[str]:
    """What is missing or wrong between the segments of a stream, in their order."""
    findings = []
    if segments and (segments[0].number, segments[0].previous) != (1, FIRST):
        findings.append(f"{segments[0].stream}: what came before segment {segments[0].number} is missing")
    for earlier, later in itertools.pairwise(segments):
        if later.number != earlier.number + 1:
            findings.append(f"{later.stream}: segments {earlier.number + 1} to {later.number - 1} are missing")
        elif later.previous != earlier.sha256:
            findings.append(f"{later.stream}: segment {later.number} does not follow segment {earlier.number}")
    return findings


def times(segments: Sequence[SegmentRow]) -> Iterator[str]:
    """Where a clock was set back between two segments of a stream."""
    for earlier, later in itertools.pairwise(segments):
        if later.stream == earlier.stream and earlier.sealed_at - later.began > CLOCK_TOLERANCE:
            yield set_back(later.stream, later.number)


def set_back(stream: str, number: int) -> str:
    """What is told of a segment that began before the one before it ended."""
    return f"{stream}: segment {number} began before segment {number - 1} was sealed: the clock was set back"
