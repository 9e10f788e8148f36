"""The archive of the journals on external media (R-4-11-6, R-4-12-2-3), and the yearly reading of it (R-4-12-2-6).

    DIRECTORY/<stream>/<stream>-00000001.jsonl.zst      segments, as in the archive
    DIRECTORY/segments.jsonl                            what the database knows of each, and its place under a root
    DIRECTORY/roots.jsonl                               the signed roots above them
    DIRECTORY/stamps.jsonl                              their time stamps (RFC 3161)
    DIRECTORY/SHA256SUMS                                of all these files, for `sha256sum -c`

Reading needs neither database nor instance.
"""

import contextlib
import hashlib
import json
import os
import shutil
from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.x509 import Certificate

from issuer.archive.collection import STREAM
from issuer.archive.proof import check_archived, holds_another, segment_leaf
from issuer.errors import RefusedError
from issuer.records.audit_store import SegmentKey
from issuer.records.journal_store import RootRow, SegmentRow, StampRow
from issuer.rules.time_stamp import NoTimeStampError, stamped_at
from issuer.whole import write_whole
from journal.merkle import Tree
from journal.reading import TamperedError
from journal.seal import public_key

SEGMENTS: Final = "segments.jsonl"
ROOTS: Final = "roots.jsonl"
STAMPS: Final = "stamps.jsonl"
SUMS: Final = "SHA256SUMS"
KEEP: Final = "keep these media for whoever examines them, and export everything to others"
_MOMENTS: Final = ("began", "sealed_at", "collected_at")
_HASHES: Final = ("sha256", "previous", "merkle_root", "file_sha256")


@dataclass(frozen=True, slots=True)
class Proofs:
    """What proves segments, all of it."""

    keys: Mapping[str, bytes]  # SubjectPublicKeyInfo of each stream
    roots: Sequence[RootRow]
    stamps: Sequence[StampRow]
    places: Mapping[SegmentKey, tuple[int, int]]  # of each segment: under which root, and where in its tree


def write(directory: Path, archive: Path, segments: Sequence[SegmentRow], proofs: Proofs) -> None:
    """Put segments and what proves them into a directory; what its lists say is not read.

    A copy that is there already is left as it is, unless it is damaged.

    Args:
        directory: on the media.
        archive: the directory that the segments are in.
        segments: which ones; also those that are there already.
        proofs: of these and of all others.

    Raises:
        OSError: something cannot be read or written.
        RefusedError: a copy is damaged, and there is no good one here.
    """
    for segment in segments:
        if not (directory / segment.file).exists() or _sha256(directory / segment.file) != segment.file_sha256.hex():
            _copy(directory, archive, segment)
    rows = sorted(segments, key=attrgetter("stream", "number"))
    places = (proofs.places.get((row.stream, row.number), (None, None)) for row in rows)
    _write_lines(
        directory / SEGMENTS,
        (
            _as_dict(row, proofs.keys[row.stream]) | {"root": root, "leaf": leaf}
            for row, (root, leaf) in zip(rows, places, strict=True)
        ),
    )
    _write_lines(
        directory / ROOTS,
        ({"root": r.statement.decode(), "signature": b64encode(r.signature).decode()} for r in proofs.roots),
    )
    stamps = ({"root": one.number, "response": b64encode(one.response).decode()} for one in proofs.stamps)
    _write_lines(directory / STAMPS, stamps)
    # Of segments as they were collected, not as they can be read now: else a damaged copy would be right for ever.
    digests = [(row.file_sha256.hex(), row.file) for row in rows]
    digests += [(_sha256(directory / name), name) for name in (SEGMENTS, ROOTS, STAMPS)]
    write_whole(directory / SUMS, "".join(f"{digest}  {name}\n" for digest, name in digests).encode())
    os.sync()


def _copy(directory: Path, archive: Path, segment: SegmentRow) -> None:
    target = directory / segment.file
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    try:
        shutil.copyfile(archive / segment.file, partial)
        if _sha256(partial) != segment.file_sha256.hex():
            raise RefusedError(
                f"{archive / segment.file} is not what was collected; see `prefca journal verify`,"
                " and copy it there from media that `prefca archive check` finds good"
            )
        partial.rename(target)
    except FileNotFoundError as e:
        raise RefusedError(
            f"{target} is damaged or missing, and the archive does not have it any more;"
            " copy it there from other media that `prefca archive check` finds good, or begin new media"
        ) from e
    finally:
        partial.unlink(missing_ok=True)


def require_known(directory: Path, segments: Sequence[SegmentRow], proofs: Proofs) -> None:
    """Refuse a directory with anything that is nowhere else: `write` would replace it, or leave it out.

    Args:
        directory: on the media.
        segments: all that the database knows.
        proofs: all, too.

    Raises:
        OSError: something cannot be read.
        RefusedError: there is a segment, a root or a time stamp that the database does not know.
    """
    known = {row.file: row for row in segments}
    for file in sorted(directory.glob("*/*.jsonl.zst")):
        row = known.get(f"{file.parent.name}/{file.name}")
        is_known = row is not None and (
            _sha256(file) == row.file_sha256.hex() or not holds_another(directory, row)  # it is damaged at most
        )
        if not is_known:
            raise RefusedError(f"{file} is another segment than the database knows; {KEEP}")
    roots = {root.statement for root in proofs.roots}
    if any(statement not in roots for statement in _signed_roots(directory / ROOTS, proofs.keys.get(STREAM))):
        raise RefusedError(f"{directory / ROOTS} has a root that the database does not know; {KEEP}")
    stamps = {stamp.number for stamp in proofs.stamps}
    if any(number not in stamps for number in _stamped_roots(directory / STAMPS)):
        raise RefusedError(f"{directory / STAMPS} has a time stamp of a root that the database has none of; {KEEP}")


def _signed_roots(file: Path, key: bytes | None) -> Iterator[bytes]:
    """Statements that this instance signed; what is damaged is none."""
    if key is None:
        return
    for said in _readable(file):
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, InvalidSignature):
            statement = said["root"].encode()
            public_key(key).verify(b64decode(said["signature"]), statement)
            yield statement


def _stamped_roots(file: Path) -> Iterator[int]:
    """The numbers of roots that have a time stamp there."""
    for said in _readable(file):
        with contextlib.suppress(ValueError, LookupError, TypeError):
            yield int(said["root"])


def _readable(file: Path) -> Iterator[Any]:
    """The lines of a list that are JSON."""
    for line in file.read_bytes().splitlines() if file.exists() else ():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def check(directory: Path, trusted: Sequence[Certificate]) -> Iterator[str]:
    """Read everything again; what is wrong.

    Args:
        directory: on the media.
        trusted: who may have certified the authority for time stamps; none: they are not checked.

    Raises:
        OSError: it is no such directory.
    """
    yield from not_as_listed(directory)
    for row, key, _ in _segments(directory / SEGMENTS):
        finding = check_archived(directory, row, key).finding
        if finding:
            yield finding
    yield from _root_findings(directory, trusted)
    yield from _tree_findings(directory)


def not_as_listed(directory: Path) -> Iterator[str]:
    """Files that are not what SHA256SUMS says; raises OSError if that cannot be read."""
    for line in (directory / SUMS).read_text().splitlines():
        digest, _, name = line.partition("  ")
        try:
            if _sha256(directory / name) != digest:
                yield f"{name}: not what was written"
        except OSError as e:
            yield f"{name}: {e.strerror}"


def _root_findings(directory: Path, trusted: Sequence[Certificate]) -> Iterator[str]:
    """What is wrong with roots and their time stamps."""
    roots: list[bytes] = []
    for number, line in enumerate((directory / ROOTS).read_text().splitlines(), 1):
        said = json.loads(line)
        try:
            key = b64decode(json.loads(said["root"])["key"])
            public_key(key).verify(b64decode(said["signature"]), said["root"].encode())
        except (InvalidSignature, ValueError, TamperedError):
            yield f"{ROOTS}: line {number}: the signature is wrong"
        if json.loads(said["root"])["previous"] != hashlib.sha256(roots[-1] if roots else b"").hexdigest():
            yield f"{ROOTS}: line {number}: it does not follow the one before"
        roots.append(said["root"].encode())
    for line in (directory / STAMPS).read_text().splitlines() if trusted else ():
        said = json.loads(line)
        try:
            stamped_at(b64decode(said["response"]), roots[said["root"] - 1], trusted)
        except NoTimeStampError as e:
            yield f"{STAMPS}: root {said['root']}: its time stamp proves nothing: {e}"


def _tree_findings(directory: Path) -> Iterator[str]:
    """Roots that are not those of the segments there: else their time stamps would prove nothing of these."""
    trees: dict[int | None, list[tuple[int, SegmentRow]]] = defaultdict(list)
    for row, _, (root, leaf) in _segments(directory / SEGMENTS):
        trees[root].append((leaf, row))
    for number, line in enumerate((directory / ROOTS).read_text().splitlines(), 1):
        said = json.loads(json.loads(line)["root"])
        leaves = [row for _, row in sorted(trees[number], key=itemgetter(0))]
        is_whole = len(leaves) >= said["segments"]  # else the rest is on other media, or was deleted
        if is_whole and Tree(map(segment_leaf, leaves)).root().hex() != said["merkle_root"]:
            yield f"{ROOTS}: line {number}: its tree is not that of the segments under it"


def last_sealed(directory: Path) -> datetime | None:
    """When the newest segment there was sealed."""
    return max((row.sealed_at for row, _, _ in _segments(directory / SEGMENTS)), default=None)


def _segments(file: Path) -> Iterator[tuple[SegmentRow, bytes, tuple[int | None, int]]]:
    """Each with the key of its stream, and its place under a root."""
    for line in file.read_text().splitlines():
        said = json.loads(line)
        key, place = b64decode(said.pop("key")), (said.pop("root", None), said.pop("leaf", None) or 0)
        moments = {name: datetime.fromisoformat(said[name]) for name in _MOMENTS}
        hashes = {name: bytes.fromhex(said[name]) for name in _HASHES}
        yield SegmentRow(**(said | moments | hashes)), key, place


def _as_dict(row: SegmentRow, key: bytes) -> dict[str, object]:
    plain: dict[str, object] = {name: getattr(row, name) for name in SegmentRow.__slots__}
    moments = {name: getattr(row, name).isoformat() for name in _MOMENTS}
    hashes = {name: getattr(row, name).hex() for name in _HASHES}
    return plain | moments | hashes | {"key": b64encode(key).decode()}


def _write_lines(file: Path, values: Iterable[Mapping[str, object]]) -> None:
    write_whole(file, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode())


def _sha256(file: Path) -> str:
    with file.open("rb") as octets:
        return hashlib.file_digest(octets, "sha256").hexdigest()
