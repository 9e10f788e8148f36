"""Octets of an HTTP request to an OCSPRequest (RFC 6960, section 4.1).

DER is read strictly, and everything has a limit: any octets either parse or raise MalformedRequestError.
"""

from base64 import b64decode
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

from ocsp.errors import MalformedRequestError
from pkix import der

NONCE: Final = "1.3.6.1.5.5.7.48.1.2"
ACCEPTABLE_RESPONSES: Final = "1.3.6.1.5.5.7.48.1.4"
SERVICE_LOCATOR: Final = "1.3.6.1.5.5.7.48.1.7"
PREFERRED_SIGNATURE_ALGORITHMS: Final = "1.3.6.1.5.5.7.48.1.8"

# Each where RFC 6960, section 4.4, has it: elsewhere nobody could say what one that is critical asks for. Acceptable
# responses and service locator are hints (sections 4.4.3, 4.4.6): to answer with the basic type, from this server,
# meets them.
UNDERSTOOD: Final = frozenset({NONCE, ACCEPTABLE_RESPONSES, PREFERRED_SIGNATURE_ALGORITHMS})
UNDERSTOOD_OF_ONE: Final = frozenset({SERVICE_LOCATOR})

MAX_NONCE_OCTETS: Final = 128  # RFC 9654, section 2.1
MAX_SERIAL_BITS: Final = 160  # RFC 5280, section 4.1.2.2: 20 octets

# base64url, and the space that a form decoder on the way has made of a plus sign.
_TO_STANDARD_BASE64: Final = bytes.maketrans(b"-_ ", b"+/+")
_HEAD_DIGITS: Final = 8  # of base64: 6 octets, enough for the header of every DER element below 2**32 octets


class CertID(NamedTuple):  # a frozen dataclass takes three times as long to make
    """CertID (RFC 6960, section 4.1.1)."""

    hash_algorithm: str  # dotted OID
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int
    der: bytes  # as received: the answer repeats it


@dataclass(frozen=True, slots=True)
class RequestSignature:
    """optionalSignature (RFC 6960, section 4.1.1), which is still to be verified, and what it is about."""

    tbs_request: bytes  # the DER that is signed
    requestor_name: bytes  # DER of a GeneralName
    algorithm: str  # dotted OID
    signature: bytes
    certificates: tuple[bytes, ...]  # DER of each


class OCSPRequest(NamedTuple):
    """What is asked."""

    cert_ids: tuple[CertID, ...]  # at least one, in the order of requestList
    nonce: bytes | None = None  # extnValue as received: the answer repeats it
    preferred_algorithms: tuple[str, ...] = ()  # of signatures, dotted OIDs, the dearest first
    signature: RequestSignature | None = None


@asn1.sequence
class _HashAlgorithm:
    algorithm: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _CertID:
    hash_algorithm: _HashAlgorithm
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int


# A DEFAULT is declared OPTIONAL: clients write it out, although DER (X.690, section 11.5) leaves it away.


@asn1.sequence
class _Extension:
    extn_id: ObjectIdentifier
    critical: bool | None  # DEFAULT FALSE
    extn_value: bytes


@asn1.sequence
class _Request:
    req_cert: _CertID
    single_request_extensions: Annotated[list[_Extension] | None, asn1.Explicit(0)]


@asn1.sequence
class _TBSRequest:
    version: Annotated[int | None, asn1.Explicit(0)]  # DEFAULT v1, which is 0
    # [1] EXPLICIT GeneralName, which is a CHOICE of nine: read as a list of one element of any kind, the same octets.
    requestor_name: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    request_list: list[_Request]
    request_extensions: Annotated[list[_Extension] | None, asn1.Explicit(2)]


@asn1.sequence
class _Signature:
    signature_algorithm: asn1.TLV
    signature: asn1.BitString
    certs: Annotated[list[asn1.TLV] | None, asn1.Explicit(0)]


@asn1.sequence
class _OCSPRequest:
    tbs_request: _TBSRequest
    optional_signature: Annotated[_Signature | None, asn1.Explicit(0)]


def path_octets(path: str, prefix: str = "") -> bytes:
    """The octets that the path of a GET carries (RFC 6960, appendix A.1).

    Clients write base64 with and without URL-encoding, in both alphabets, with and without padding, and put slashes in
    front of it and behind it. In front a slash is never data (base64 of a SEQUENCE begins with M); behind, DER itself
    tells where the data ends.

    Args:
        path: raw, as in the request line: `//` inside it may be data.
        prefix: below which path the responder is, without a slash at its end; a request without it is read, too.

    Raises:
        MalformedRequestError: it is not base64 of one DER element.
    """
    try:
        text = unquote_to_bytes(path.removeprefix(prefix)).translate(_TO_STANDARD_BASE64).lstrip(b"/")
        if len(text) < _HEAD_DIGITS:
            raise MalformedRequestError("the path holds no request")
        digits = -(-_element_octets(b64decode(text[:_HEAD_DIGITS], validate=True)) * 4 // 3)
        if text[digits:].strip(b"=/"):
            raise MalformedRequestError("the path goes on after the request")
        return b64decode(text[:digits] + b"=" * (-digits % 4), validate=True)
    except ValueError as e:
        raise MalformedRequestError("the path is not base64") from e


def _element_octets(head: bytes) -> int:
    """The length of the DER element that begins with the 6 octets of `head`, its header included."""
    length = head[1]
    if length < 0x80:
        return 2 + length
    size = length & 0x7F
    return 2 + size + int.from_bytes(head[2 : 2 + size], "big")


def parse_request(octets: bytes, *, max_certificates: int) -> OCSPRequest:
    """Read the DER of an OCSPRequest.

    Raises:
        MalformedRequestError: it is not one in version v1, names no certificate or more than `max_certificates`, has a
            nonce of an unlawful length, a critical extension that is not understood here (for which RFC 6960 defines
            no status of its own), or is signed by somebody without a name.
    """
    try:
        request = asn1.decode_der(_OCSPRequest, octets)
    except ValueError as e:
        raise MalformedRequestError(str(e)) from e
    tbs = request.tbs_request
    if tbs.version:
        raise MalformedRequestError(f"version {tbs.version} is not v1")
    if tbs.requestor_name is not None and len(tbs.requestor_name) != 1:
        raise MalformedRequestError("requestorName is not one GeneralName")
    if not 1 <= len(tbs.request_list) <= max_certificates:
        raise MalformedRequestError(f"{len(tbs.request_list)} certificates are asked about at once")
    extensions = _extensions(tbs.request_extensions, UNDERSTOOD)
    return OCSPRequest(
        cert_ids=tuple(_cert_id(single) for single in tbs.request_list),
        nonce=_nonce(extensions[NONCE]) if NONCE in extensions else None,
        preferred_algorithms=_preferred_algorithms(extensions.get(PREFERRED_SIGNATURE_ALGORITHMS)),
        signature=_signature(request, octets),
    )


def _cert_id(single: _Request) -> CertID:
    _extensions(single.single_request_extensions, UNDERSTOOD_OF_ONE)
    cert = single.req_cert
    if cert.serial_number.bit_length() > MAX_SERIAL_BITS:
        raise MalformedRequestError("a serial number is longer than 20 octets")
    return CertID(
        hash_algorithm=cert.hash_algorithm.algorithm.dotted_string,
        issuer_name_hash=cert.issuer_name_hash,
        issuer_key_hash=cert.issuer_key_hash,
        serial_number=cert.serial_number,
        der=asn1.encode_der(cert),  # DER has one form only: the octets received
    )


def _extensions(received: Sequence[_Extension] | None, understood: Collection[str]) -> dict[str, bytes]:
    """From extnID to extnValue (RFC 5280, sections 4.1 and 4.2: at least one, each once)."""
    if received is None:
        return {}
    if not received:
        raise MalformedRequestError("an empty list of extensions")
    values: dict[str, bytes] = {}
    for extension in received:
        oid = extension.extn_id.dotted_string
        if oid in values:
            raise MalformedRequestError(f"extension {oid} is there twice")
        if extension.critical and oid not in understood:
            raise MalformedRequestError(f"critical extension {oid} is not understood")
        values[oid] = extension.extn_value
    return values


def _nonce(extn_value: bytes) -> bytes:
    """The nonce to repeat (RFC 9654, section 2.1), an OCTET STRING inside extnValue.

    In RFC 2560, section 4.4.1, extnValue itself was the nonce, and clients of that time send it so.
    """
    try:
        nonce = asn1.decode_der(bytes, extn_value)
    except ValueError:
        nonce = extn_value
    if not 1 <= len(nonce) <= MAX_NONCE_OCTETS:
        raise MalformedRequestError(f"a nonce of {len(nonce)} octets")
    return extn_value


def _preferred_algorithms(extn_value: bytes | None) -> tuple[str, ...]:
    """The client's choice (RFC 6960, section 4.4.7.1)."""
    if extn_value is None:
        return ()
    try:
        preferred = [der.elements(der.contents(each)) for each in der.elements(der.contents(extn_value))]
        return tuple(_algorithm(sig_identifier) for sig_identifier, *_ in preferred)
    except ValueError as e:
        raise MalformedRequestError(f"preferred signature algorithms: {e}") from e


def _algorithm(identifier: bytes) -> str:
    """The dotted OID of an AlgorithmIdentifier.

    Raises:
        ValueError: it does not begin with one.
    """
    algorithm, *_ = der.elements(der.contents(identifier))
    return asn1.decode_der(ObjectIdentifier, algorithm).dotted_string


def _signature(request: _OCSPRequest, octets: bytes) -> RequestSignature | None:
    """The signature, with the very octets that it is about."""
    if request.optional_signature is None:
        return None
    if request.tbs_request.requestor_name is None:
        raise MalformedRequestError("a signed request without requestorName")  # section 4.1.2: it SHALL be there
    signed = request.optional_signature
    try:
        algorithm = _algorithm(asn1.encode_der(signed.signature_algorithm))
    except ValueError as e:
        raise MalformedRequestError(f"signatureAlgorithm: {e}") from e
    return RequestSignature(
        tbs_request=next(der.elements(der.contents(octets))),
        requestor_name=asn1.encode_der(request.tbs_request.requestor_name[0]),
        algorithm=algorithm,
        signature=signed.signature.as_bytes(),
        certificates=tuple(asn1.encode_der(certificate) for certificate in signed.certs or ()),
    )
