"""What people sign when they agree to an operation: one JSON text, that says exactly what will be done.

It has the form of RFC 8785 (members sorted, no white space, UTF-8), so that anybody can write it again; but what counts
are its octets, which are kept. It names the request before it by its hash.
"""

# Stored: a change of members needs another TYPE, and old ones must stay readable.

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from issuer.errors import RefusedError
from issuer.rules.operation import OperationKind, Parameters, Role
from issuer.rules.quorum import text

TYPE: Final = "prefca operation 1"  # first of all: a signature over something else is none over this
_NAME: Final = re.compile("[a-z][a-z0-9_]*")  # of a parameter: it cannot look like a line that is said of one
_MOMENT: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Place:
    """Of which CA, and of which of its keys."""

    prefecture: str
    hierarchy: str
    ca: str  # RFC 4514 text of the CA's name
    key: str | None  # reference; None: there is none yet
    certificate_sha256: str | None  # of the CA's certificate, in hexadecimal


@dataclass(frozen=True, slots=True)
class Request:
    """An operation that is asked for."""

    place: Place
    number: int
    kind: OperationKind
    needs: Mapping[Role, int]  # who has to agree; nobody: it was done at once
    parameters: Parameters
    nonce: str
    requested_at: datetime
    requested_by: str  # account and host
    expires_at: datetime
    previous: str | None  # SHA-256 of the content of the request before, in hexadecimal


def content(request: Request) -> bytes:
    """The octets that people sign."""
    place = request.place
    members: dict[str, Any] = {
        "type": TYPE,
        "prefecture": place.prefecture,
        "hierarchy": place.hierarchy,
        "ca": place.ca,
        "key": place.key,
        "ca_certificate_sha256": place.certificate_sha256,
        "number": request.number,
        "kind": request.kind.value,
        "needs": dict(request.needs),
        "parameters": dict(request.parameters),
        "nonce": request.nonce,
        "requested_at": f"{request.requested_at:{_MOMENT}}",
        "requested_by": request.requested_by,
        "expires_at": f"{request.expires_at:{_MOMENT}}",
        "previous": request.previous,
    }
    return json.dumps(members, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parse(octets: bytes) -> Request:
    """What the octets say.

    Raises:
        RefusedError: they are no request, or not in the form in which `content` writes it.
    """
    try:
        members = json.loads(octets)
        if members.pop("type") != TYPE:
            raise RefusedError("this is not a request for an operation of this version")
        request = Request(
            Place(
                *(members["prefecture"], members["hierarchy"], members["ca"], members["key"]),
                members["ca_certificate_sha256"],
            ),
            _whole(members["number"]),
            OperationKind(members["kind"]),
            {Role(role): _whole(count) for role, count in members["needs"].items()},
            _parameters(members["parameters"]),
            members["nonce"],
            _moment(members["requested_at"]),
            members["requested_by"],
            _moment(members["expires_at"]),
            members["previous"],
        )
        again = content(request)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise RefusedError("the content is no request for an operation; it was changed: ask for it anew") from e
    if again != octets:
        raise RefusedError("the content is not in the form in which requests are written; it was changed: ask anew")
    return request


def digest(octets: bytes) -> str:
    """How a content is named in short."""
    return sha256(octets).hexdigest()


def words(request: Request) -> list[str]:
    """For people, a line each: all that they sign. Whoever wrote the content, it cannot look like another one."""
    place = request.place
    lines = [
        f"operation {request.number}: {request.kind}",
        f"of the {place.hierarchy} CA of {place.prefecture}: {place.ca}",
        f"key: {place.key or 'none yet'}",
        f"CA certificate (SHA-256): {place.certificate_sha256 or 'none yet'}",
        *(line for name, value in sorted(request.parameters.items()) for line in _parameter(name, value)),
        f"needs {text(request.needs)}" if request.needs else "needs nobody's agreement",
        f"asked for by {request.requested_by} at {request.requested_at:{_MOMENT}}",
        f"may be run until {request.expires_at:{_MOMENT}}",
    ]
    return [escaped(line) for line in lines]


def escaped(line: str) -> str:
    """As it is, or with escapes for all that a terminal would not show as a character of this line."""
    return line if is_plain(line) else json.dumps(line)[1:-1]


def is_plain(text: str) -> bool:
    """It neither ends its line, turns its direction, nor speaks to a terminal."""
    return text.replace("\u3000", "").isprintable()


def _parameter(name: str, value: str | int | None) -> Iterator[str]:
    yield f"  {name} = {_value(value)}"
    for whose, octets in _keys(str(value)):
        yield f"    SHA-256 of {whose}: {digest(octets)}"


def _keys(value: str) -> list[tuple[str, bytes]]:
    """What nobody reads as it is, keys and certificates, to be compared by their hashes."""
    try:
        if value.startswith("-----BEGIN CERTIFICATE"):
            found = x509.load_pem_x509_certificates(value.encode())
            return [(f"certificate {one.subject.rfc4514_string()}", one.public_bytes(Encoding.DER)) for one in found]
        octets = base64.b64decode(value, validate=True)
        load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        return []
    return [("this key", octets)]


def _value(value: str | int | None) -> str:
    return json.dumps(value, ensure_ascii=not is_plain(str(value)))


def _parameters(members: Mapping[str, Any]) -> Parameters:
    for name, value in members.items():
        if _NAME.fullmatch(name) is None or not (value is None or isinstance(value, str | int)):
            raise ValueError("a parameter that no operation has")
    return MappingProxyType(members)


def _whole(number: object) -> int:
    if type(number) is not int:  # neither 2.0 nor true
        raise ValueError("no whole number")
    return number


def _moment(written: str) -> datetime:
    return datetime.strptime(written, _MOMENT).replace(tzinfo=UTC)
