"""The archive on external media (R-4-12-2-3, R-4-12-2-4), and the yearly reading of it (R-4-12-2-6).

    DIRECTORY/<kind>/2026-10.jsonl.zst   what came into being in a month of Japan, a line of JSON each, oldest first
    DIRECTORY/journal/                   segments of the journals (`journal_media`): usage history and logs
    DIRECTORY/manifest.jsonl             of each file what it is, since when it is here, and until when it is kept
    DIRECTORY/SHA256SUMS                 of all these files, for `sha256sum -c`
    DIRECTORY/statement.json             the digest of SHA256SUMS, signed with the issuer's journal key and time-stamped

Reading needs neither database nor instance.
"""

import hashlib
import json
import os
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

import zstandard
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509 import Certificate

from issuer.archive import journal_media
from issuer.errors import RefusedError
from issuer.records.archive_store import ArchiveKind, Item
from issuer.rules.provision_report import month_after
from issuer.rules.time_stamp import NoTimeStampError, stamped_at
from issuer.whole import write_whole
from journal.seal import NotASegmentError, public_key
from pkix.validity import JST, zulu

JOURNAL: Final = "journal"
MANIFEST: Final = "manifest.jsonl"
SUMS: Final = journal_media.SUMS
STATEMENT: Final = "statement.json"
STAMP_TOLERANCE: Final = timedelta(hours=1)  # media are stamped when they are made; clocks may differ
_JOURNAL_FILES: Final = (journal_media.SUMS, journal_media.SEGMENTS, journal_media.ROOTS, journal_media.STAMPS)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A file with what came into being in one month. Stored: a line of the manifest."""

    file: str
    kind: str
    month: str
    items: int
    first: str  # time of the oldest item
    last: str
    sha256: str
    archived_at: str
    keep_until: str  # a day in Japan; it may be destroyed afterwards


def file_of(kind: ArchiveKind, month: date) -> str:
    """Its name below the directory."""
    return f"{kind.name}/{month:%Y-%m}.jsonl.zst"


def keep_until(kind: ArchiveKind, month: date, not_after: datetime | None) -> date:
    """The last day of retention (R-4-12-2-2), counted from the end of the month."""
    expiry = date.min if not_after is None else not_after.astimezone(JST).date()
    end = month_after(month)
    return max(expiry, end.replace(year=end.year + kind.years)) if kind.years else expiry


async def write_bundle(
    directory: Path, kind: ArchiveKind, month: date, items: AsyncIterator[Item], now: datetime
) -> Bundle | None:
    """Write the items of a month; None if there are none.

    Raises:
        OSError: the media cannot be written.
    """
    target = directory / file_of(kind, month)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            written = await _write(file, items)
            file.flush()
            os.fsync(file.fileno())
        if written.first is None or written.last is None:
            return None
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return Bundle(
        file=file_of(kind, month),
        kind=kind.name,
        month=f"{month:%Y-%m}",
        items=written.items,
        first=zulu(written.first),
        last=zulu(written.last),
        sha256=_sha256(target),
        archived_at=zulu(now),
        keep_until=str(keep_until(kind, month, written.not_after)),
    )


@dataclass(slots=True)
class _Written:
    items: int = 0
    first: datetime | None = None
    last: datetime | None = None
    not_after: datetime | None = None


async def _write(file: BinaryIO, items: AsyncIterator[Item]) -> _Written:
    written = _Written()
    with zstandard.ZstdCompressor(write_checksum=True).stream_writer(file, closefd=False) as compressed:
        async for item in items:
            compressed.write(item.line.encode() + b"\n")
            written.items += 1
            written.first, written.last = min(written.first or item.at, item.at), max(written.last or item.at, item.at)
            if item.not_after is not None:
                written.not_after = max(item.not_after, written.not_after or item.not_after)
    return written


@dataclass(frozen=True, slots=True)
class Signed:
    """What media say over our own signature: an export believes nothing else that it finds there."""

    medium: str | None = None  # its name
    bundles: Mapping[str, Bundle] = field(default_factory=dict)  # by file
    doubt: str | None = None  # why the manifest is not believed; None: it is, or there is none


def signed(directory: Path, key: bytes) -> Signed:
    """What of media may be signed again.

    Args:
        directory: on the media.
        key: SubjectPublicKeyInfo of the issuer's journal key.

    Raises:
        OSError: a file cannot be read.
    """
    if not (directory / STATEMENT).exists():
        found = (directory / MANIFEST).exists() or (directory / JOURNAL).exists()
        return Signed(doubt=f"there is no {STATEMENT}" if found else None)
    try:
        said = _statement(directory / STATEMENT)
        public_key(key).verify(said.signature, said.octets)
    except (InvalidSignature, ValueError, LookupError, TypeError, AttributeError):
        return Signed(doubt=f"{STATEMENT} is not signed with this instance's key")
    try:
        sums, manifest = (directory / SUMS).read_bytes(), (directory / MANIFEST).read_bytes()
    except FileNotFoundError as e:
        return Signed(said.medium, doubt=f"{e.filename} is missing")
    if hashlib.sha256(sums).hexdigest() != said.archive:
        return Signed(said.medium, doubt=f"{SUMS} is not what was signed")
    if f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}".encode() not in sums.splitlines():
        return Signed(said.medium, doubt=f"{MANIFEST} is not what was signed")
    return Signed(said.medium, _bundles(manifest))


def listed(directory: Path) -> dict[str, Bundle]:
    """What the manifest names, by file, whoever wrote it.

    Raises:
        RefusedError: it is damaged.
    """
    file = directory / MANIFEST
    try:
        return _bundles(file.read_bytes()) if file.exists() else {}
    except (ValueError, TypeError) as e:
        raise RefusedError(f"{file} is damaged; make the media again with `prefca archive export`") from e


def _bundles(manifest: bytes) -> dict[str, Bundle]:
    bundles = [Bundle(**json.loads(line)) for line in manifest.decode().splitlines()]
    return {bundle.file: bundle for bundle in bundles}


def digests(file: Path) -> set[bytes]:
    """Of each item in a file; none, if it is damaged or not there."""
    try:
        return {digest(line) for line in _lines(file)}
    except (OSError, ValueError, zstandard.ZstdError):
        return set()


def digest(line: bytes) -> bytes:
    """Of an item, as its line without line feed."""
    return hashlib.sha256(line).digest()


def is_whole(directory: Path, bundle: Bundle) -> bool:
    """Is its file there, and what was written?"""
    try:
        return _sha256(directory / bundle.file) == bundle.sha256
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Lists:
    """What names everything that is there. Written together at the end: a killed export leaves those of before."""

    manifest: bytes
    sums: bytes
    statement: str  # that is to be signed and stamped


def lists(directory: Path, bundles: Iterable[Bundle], key: bytes, medium: str, now: datetime) -> Lists:
    """Name everything that is there.

    Args:
        directory: on the media.
        bundles: all that are there.
        key: SubjectPublicKeyInfo of the issuer's journal key.
        medium: its name.
        now: the time.

    Raises:
        OSError: the media cannot be read.
    """
    ordered = sorted(bundles, key=lambda bundle: bundle.file)
    manifest = "".join(json.dumps(asdict(bundle), ensure_ascii=False) + "\n" for bundle in ordered).encode()
    files = [(bundle.sha256, bundle.file) for bundle in ordered]
    files += [(hashlib.sha256(manifest).hexdigest(), MANIFEST)]
    files += [(_sha256(directory / name), name) for name in (f"{JOURNAL}/{name}" for name in _JOURNAL_FILES)]
    sums = "".join(f"{sha256}  {name}\n" for sha256, name in files).encode()
    content = {
        "archive": hashlib.sha256(sums).hexdigest(),
        "at": zulu(now),
        "key": b64encode(key).decode(),
        "medium": medium,
    }
    return Lists(manifest, sums, json.dumps(content, separators=(",", ":")))


def write_lists(directory: Path, written: Lists, key: Ed25519PrivateKey, time_stamp: bytes | None) -> None:
    """Sign and write the lists of everything; raises OSError."""
    content = {
        "statement": written.statement,
        "signature": b64encode(key.sign(written.statement.encode())).decode(),
        "time_stamp": None if time_stamp is None else b64encode(time_stamp).decode(),
    }
    write_whole(directory / MANIFEST, written.manifest)
    write_whole(directory / SUMS, written.sums)
    write_whole(directory / STATEMENT, json.dumps(content, indent=1).encode())
    os.sync()


# ---------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom the reader believes; nothing: what the media say of themselves."""

    key: bytes | None  # SubjectPublicKeyInfo of the issuer's journal key
    roots: Sequence[Certificate]  # who may have certified the authority for time stamps


def check(directory: Path, trust: Trust) -> Iterator[str]:
    """Read everything again; what is wrong.

    Raises:
        OSError: the manifest cannot be read.
        RefusedError: it is damaged.
    """
    yield from _as_far_as_readable(SUMS, journal_media.not_as_listed(directory))
    yield from _as_far_as_readable(STATEMENT, _statement_findings(directory, trust))
    for bundle in listed(directory).values():
        try:
            found = _count(directory / bundle.file)
        except (OSError, ValueError, zstandard.ZstdError) as e:
            yield f"{bundle.file}: it cannot be read: {e}"
            continue
        if found != bundle.items:
            yield f"{bundle.file}: {found} items, and not {bundle.items}"
    for finding in _as_far_as_readable("its lists", journal_media.check(directory / JOURNAL, trust.roots)):
        yield f"{JOURNAL}/{finding}"


def _as_far_as_readable(what: str, findings: Iterator[str]) -> Iterator[str]:
    """Findings; a bad medium may hold anything, and what of it cannot be read is one, too."""
    try:
        yield from findings
    except OSError as e:
        yield f"{Path(e.filename).name if e.filename else what}: {e.strerror}"
    except (ValueError, LookupError, TypeError, AttributeError) as e:
        yield f"{what}: not what was written: {e!r}"


@dataclass(frozen=True, slots=True)
class _Statement:
    """What is signed and stamped, as far as it can be read."""

    octets: bytes
    archive: str  # digest of SHA256SUMS
    medium: str | None  # its name; None: it was made when media had none
    at: datetime
    key: bytes
    signature: bytes
    time_stamp: bytes | None


def _statement(file: Path) -> _Statement:
    said = json.loads(file.read_text(encoding="utf-8"))
    content = json.loads(said["statement"])
    return _Statement(
        octets=said["statement"].encode(),
        archive=content["archive"],
        medium=str(content["medium"]) if "medium" in content else None,
        at=datetime.fromisoformat(content["at"]).astimezone(UTC),
        key=b64decode(content["key"]),
        signature=b64decode(said["signature"]),
        time_stamp=None if said["time_stamp"] is None else b64decode(said["time_stamp"]),
    )


def named(directory: Path) -> tuple[str | None, datetime | None]:
    """The name of a medium, and when its statement was made, as far as they can be read."""
    try:
        said = _statement(directory / STATEMENT)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None, None
    return said.medium, said.at


def _statement_findings(directory: Path, trust: Trust) -> Iterator[str]:
    said = _statement(directory / STATEMENT)
    if said.archive != _sha256(directory / SUMS):
        yield f"{STATEMENT}: it is of other files"
    if trust.key is not None and trust.key != said.key:
        yield f"{STATEMENT}: signed with another key than the issuer's"
    try:
        public_key(said.key).verify(said.signature, said.octets)
    except (InvalidSignature, NotASegmentError):
        yield f"{STATEMENT}: the signature is wrong"
    if trust.roots:
        yield from _time_stamp_findings(said, trust.roots)


def _time_stamp_findings(said: _Statement, roots: Sequence[Certificate]) -> Iterator[str]:
    """Whoever holds the key could sign other media today; that he did it then, only the authority can say."""
    if said.time_stamp is None:
        yield f"{STATEMENT}: it has no time stamp"
        return
    try:
        stamped = stamped_at(said.time_stamp, said.octets, roots)
    except NoTimeStampError as e:
        yield f"{STATEMENT}: its time stamp proves nothing: {e}"
        return
    if abs(stamped - said.at) > STAMP_TOLERANCE:
        yield f"{STATEMENT}: made {zulu(said.at)} by its own account, and stamped {zulu(stamped)}"


def _count(file: Path) -> int:
    """How many items there are, each of which can be read."""
    count = 0
    for line in _lines(file):
        json.loads(line)
        count += 1
    return count


def _lines(file: Path) -> Iterator[bytes]:
    """Items, each without its line feed; what cuts off the last one raises ValueError."""
    rest = b""
    with file.open("rb") as octets, zstandard.ZstdDecompressor().stream_reader(octets) as stream:
        while block := stream.read(1 << 20):
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
    if rest:
        raise ValueError("the last line is cut off")


def last_day(directory: Path) -> date:
    """When nothing on these media has to be kept any more."""
    segments = journal_media.last_sealed(directory / JOURNAL)
    days = (date.fromisoformat(bundle.keep_until) for bundle in listed(directory).values())
    usage = [] if segments is None else [segments.astimezone(JST).date() + timedelta(days=3653)]
    return max(chain(days, usage), default=date.min)


def _sha256(file: Path) -> str:
    with file.open("rb") as octets:
        return hashlib.file_digest(octets, "sha256").hexdigest()
