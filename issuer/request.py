"""What people sign when they agree to an operation: one JSON text, that says exactly what will be done.

It has the form of RFC 8785 (members sorted, no white space, UTF-8), so that anybody can write it again; but what counts
are its octets, which are kept. It names the request before it by its hash.
"""

# Stored: a change of members needs another TYPE, and old ones must stay readable.

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

from issuer.errors import RefusedError
from issuer.operation import OperationKind, Parameters, Role
from issuer.quorum import text

TYPE: Final = "prefca operation 1"  # first of all: a signature over something else is none over this
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
            members["number"],
            OperationKind(members["kind"]),
            {Role(role): count for role, count in members["needs"].items()},
            MappingProxyType(members["parameters"]),
            members["nonce"],
            _moment(members["requested_at"]),
            members["requested_by"],
            _moment(members["expires_at"]),
            members["previous"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise RefusedError("the content is no request for an operation; it was changed: ask for it anew") from e
    if content(request) != octets:
        raise RefusedError("the content is not in the form in which requests are written; it was changed: ask anew")
    return request


def digest(octets: bytes) -> str:
    """How a content is named in short."""
    return sha256(octets).hexdigest()


def words(request: Request) -> list[str]:
    """For people, a line each: all that they sign."""
    place = request.place
    return [
        f"operation {request.number}: {request.kind}",
        f"of the {place.hierarchy} CA of {place.prefecture}: {place.ca}",
        f"key: {place.key or 'none yet'}",
        f"CA certificate (SHA-256): {place.certificate_sha256 or 'none yet'}",
        *(f"  {name} = {_value(value)}" for name, value in sorted(request.parameters.items())),
        f"needs {text(request.needs)}" if request.needs else "needs nobody's agreement",
        f"asked for by {request.requested_by} at {request.requested_at:{_MOMENT}}",
        f"may be run until {request.expires_at:{_MOMENT}}",
    ]


def _value(value: str | int | None) -> str:
    """A value can neither end its line nor turn its direction, and so look like another one."""
    is_plain = str(value).replace("\u3000", "").isprintable()
    return json.dumps(value, ensure_ascii=not is_plain)


def _moment(written: str) -> datetime:
    return datetime.strptime(written, _MOMENT).replace(tzinfo=UTC)
