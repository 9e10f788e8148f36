"""The lines of a segment that are not records: its head, checkpoints, and the seal that ends it.

    {"segment":7,"stream":"ocsp-0","began":"…","previous":"<sha256>","key":"<SPKI>"}        head
    {"at":"…","kind":"ocsp_request",…}                                                      records (`journal.record`)
    {"checkpoint":2,"at":"…","sha256":"…","signature":"…"}                                  after 2 lines of records
    {"seal":2,"at":"…","sha256":"…","signature":"…"}                                        nothing comes after it

The SHA-256 of a checkpoint is that of all octets before it, head and earlier checkpoints included; that of a head is of
all octets of the segment before. So each signature speaks for everything that the stream ever held.
"""

import hashlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

FIRST: Final = hashlib.sha256().digest()  # what the first segment of a stream names as the one before
_CONTEXT: Final = b"prefca journal\n"  # no other signature by the same key says the same
_KINDS: Final = (b'{"checkpoint":', b'{"seal":')
_MAX_LINE_OCTETS: Final = 1024
_TIME: Final = re.compile(r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z")
_SIGNATURE: Final = b',"signature":"'


class NotASegmentError(ValueError):
    """A line is not what its place in a segment asks for."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first line of a segment. Stored: a change of fields changes every reader."""

    segment: int  # 1, 2, … in its stream
    stream: str
    began: datetime  # aware UTC
    previous: bytes  # SHA-256 of all octets of the segment before
    key: bytes  # SubjectPublicKeyInfo of the Ed25519 key that signs (RFC 8410)

    def line(self) -> bytes:
        """With its line feed."""
        return _line(
            {
                "segment": self.segment,
                "stream": self.stream,
                "began": _text(self.began),
                "previous": self.previous.hex(),
                "key": b64encode(self.key).decode(),
            }
        )

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read a head.

        Raises:
            NotASegmentError: it is none.
        """
        try:
            match _content(line):
                case {"segment": int(number), "stream": str(stream), "began": str(began), **rest}:
                    previous, key = bytes.fromhex(str(rest["previous"])), b64decode(str(rest["key"]), validate=True)
                    return cls(number, stream, _moment(began), previous, key)
                case _:
                    pass
        except (ValueError, KeyError) as e:
            raise NotASegmentError("the segment does not begin with a head") from e
        raise NotASegmentError("the segment does not begin with a head")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signature over all that the segment holds so far. Stored, too."""

    lines: int  # of records, until here
    at: datetime  # aware UTC
    sha256: bytes  # of all octets before this line
    is_seal: bool
    signature: bytes

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read a checkpoint or seal; whether its signature is right, `is_signed_by` tells.

        Raises:
            NotASegmentError: it is neither.
        """
        try:
            match _content(line):
                case {"at": str(at), "sha256": str(digest), "signature": str(signature), **rest} if len(rest) == 1:
                    ((kind, lines),) = rest.items()
                    if kind in {"checkpoint", "seal"} and isinstance(lines, int):
                        return cls(
                            lines,
                            _moment(at),
                            bytes.fromhex(digest),
                            kind == "seal",
                            b64decode(signature, validate=True),
                        )
                case _:
                    pass
        except ValueError as e:
            raise NotASegmentError("a line that is neither a record nor a checkpoint") from e
        raise NotASegmentError("a line that is neither a record nor a checkpoint")


def is_checkpoint(line: bytes) -> bool:
    """Is a line a checkpoint or a seal, by how it begins? Records begin with their time."""
    return line.startswith(_KINDS)


def signed_line(key: Ed25519PrivateKey, lines: int, at: datetime, sha256: bytes, *, is_seal: bool) -> bytes:
    """A checkpoint or seal, with its line feed."""
    content = {"seal" if is_seal else "checkpoint": lines, "at": _text(at), "sha256": sha256.hex()}
    unsigned = _line(content)[:-2]
    return b"".join((unsigned, _SIGNATURE, b64encode(key.sign(_CONTEXT + unsigned)), b'"}\n'))


def is_signed_by(key: Ed25519PublicKey, line: bytes) -> bool:
    """Is the signature of a checkpoint's line by that key?"""
    unsigned, found, signature = line.rpartition(_SIGNATURE)
    if not found or not signature.endswith(b'"}\n'):
        return False
    try:
        key.verify(b64decode(signature[:-3], validate=True), _CONTEXT + unsigned)
    except (InvalidSignature, ValueError):
        return False
    return True


def public_key(spki: bytes) -> Ed25519PublicKey:
    """The key that a head names.

    Raises:
        NotASegmentError: it is no Ed25519 key.
    """
    try:
        key = load_der_public_key(spki)
    except ValueError as e:
        raise NotASegmentError("the head names no key") from e
    if not isinstance(key, Ed25519PublicKey):
        raise NotASegmentError("the head names a key of another kind than Ed25519")
    return key


def spki(key: Ed25519PrivateKey) -> bytes:
    """The SubjectPublicKeyInfo of its public half, 44 octets."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _line(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _content(line: bytes) -> object:
    """What a line says; raises ValueError. Another one may have written it."""
    if len(line) > _MAX_LINE_OCTETS:
        raise ValueError("a line that is too long")
    try:
        return json.loads(line)
    except RecursionError as e:
        raise ValueError("a line that is nested too deep") from e


def _moment(text: str) -> datetime:
    """A time as `_text` writes it; raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError("not a time in UTC")
    return datetime.fromisoformat(text)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
