"""Statuses to an OCSPResponse (RFC 6960, section 4.2), in three steps: ResponseData, its signature, the whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from ocsp.errors import OCSPResponseStatus
from ocsp.issuers import Delegate
from ocsp.request import NONCE
from ocsp.status import SingleResponse
from pkix import der
from pkix.revocation import CertStatus, Good, Revoked, Unknown
from pkix.signing import algorithm_identifier

ID_PKIX_OCSP_BASIC: Final = der.object_identifier("1.3.6.1.5.5.7.48.1.1")
INVALIDITY_DATE: Final = "2.5.29.24"
ARCHIVE_CUTOFF: Final = "1.3.6.1.5.5.7.48.1.6"

GOOD: Final = b"\x80\x00"  # [0] IMPLICIT NULL
UNKNOWN: Final = b"\x82\x00"  # [2] IMPLICIT NULL
REVOKED: Final = 0xA1  # [1] IMPLICIT RevokedInfo
OCTET_STRING: Final = 0x04

ERROR_RESPONSES: Final[Mapping[OCSPResponseStatus, bytes]] = {
    status: der.sequence(der.enumerated(status))
    for status in OCSPResponseStatus
    if status is not OCSPResponseStatus.SUCCESSFUL
}
"""Unsigned and without responseBytes: section 2.3."""


@dataclass(frozen=True, slots=True)
class ValidityInterval:
    """From when and until when an answer holds (section 4.2.2.1), in whole seconds."""

    this_update: datetime  # also producedAt: statuses are as of the query (R-4-4-4-2-1)
    next_update: datetime
    fresh_until: float = field(init=False)  # its middle, in seconds since the epoch
    valid_until: float = field(init=False)  # its end

    def __post_init__(self) -> None:
        begin, end = self.this_update.timestamp(), self.next_update.timestamp()
        object.__setattr__(self, "fresh_until", (begin + end) / 2)
        object.__setattr__(self, "valid_until", end)


@dataclass(frozen=True, slots=True)
class ResponseForm:
    """What an operator may choose about the form of answers."""

    by_name: bool = False  # ResponderID byName instead of byKey
    retention: timedelta | None = None  # how long after expiry a status is kept, to be told in archiveCutoff
    mixes_generations: bool = False  # one answer for certificates of several keys of the CA, as in RFC 2560


USUAL_FORM: Final = ResponseForm()


class Answer(NamedTuple):  # a frozen dataclass takes three times as long to make
    """What a signed OCSPResponse says, and what HTTP may do with it."""

    singles: tuple[SingleResponse, ...]
    interval: ValidityInterval
    has_nonce: bool
    public: bool  # may anybody be told all of it?


class Voice:
    """A delegate at one moment: what all its answers of that moment have in common."""

    def __init__(self, delegate: Delegate, interval: ValidityInterval, form: ResponseForm = USUAL_FORM) -> None:
        responder_id = (
            der.explicit(1, delegate.name) if form.by_name else der.explicit(2, der.octet_string(delegate.key_hash))
        )
        this_update = der.generalized_time(interval.this_update)
        self.signer = delegate.signer
        self.interval = interval
        self.before_responses = responder_id + this_update
        self.times = this_update + der.explicit(0, der.generalized_time(interval.next_update))
        self.archive_cutoff = b"" if form.retention is None else _archive_cutoff(interval.this_update - form.retention)
        self.good = GOOD + self.times + _single_extensions(Good(), self.archive_cutoff)  # what most answers say
        self.algorithm = algorithm_identifier(delegate.signer.public_key)
        self.certs = der.explicit(0, der.sequence(delegate.certificate))


def response_data(singles: Sequence[SingleResponse], voice: Voice, nonce: bytes | None) -> bytes:
    """The DER of ResponseData: what the delegate signs.

    Args:
        singles: in the order of the request.
        voice: who will sign, and when.
        nonce: extnValue of the request's nonce.
    """
    responses = [der.sequence(cert_id.der, _after_cert_id(status, voice)) for cert_id, status, _ in singles]
    nonce_extension = () if nonce is None else (_before_nonce(len(nonce)), nonce)
    return der.sequence(voice.before_responses, der.sequence(*responses), *nonce_extension)


def _after_cert_id(status: CertStatus, voice: Voice) -> bytes:
    """What follows certID in a SingleResponse."""
    if isinstance(status, Good):
        return voice.good
    return _cert_status(status) + voice.times + _single_extensions(status, voice.archive_cutoff)


@lru_cache(maxsize=256)
def _before_nonce(octets: int) -> bytes:
    """What stands in responseExtensions in front of an extnValue of so many octets: the nonce, and nothing else."""
    extensions = der.explicit(1, der.sequence(der.extension(NONCE, bytes(octets))))
    return extensions[:-octets]


def assemble(tbs_response_data: bytes, signature: bytes, voice: Voice) -> bytes:
    """The DER of a successful OCSPResponse with a BasicOCSPResponse, which brings the delegate's certificate along."""
    contents = b"".join((tbs_response_data, voice.algorithm, der.bit_string(signature), voice.certs))
    return _before_basic_contents(len(contents)) + contents


@lru_cache(maxsize=1024)
def _before_basic_contents(octets: int) -> bytes:
    """What stands in a successful OCSPResponse in front of the contents of its BasicOCSPResponse, of so many octets."""
    basic = der.header(der.SEQUENCE, octets)
    response = der.header(OCTET_STRING, len(basic) + octets) + basic
    response_bytes = ID_PKIX_OCSP_BASIC + response
    before = der.header(der.SEQUENCE, len(response_bytes) + octets) + response_bytes
    before = der.enumerated(OCSPResponseStatus.SUCCESSFUL) + der.header(0xA0, len(before) + octets) + before
    return der.header(der.SEQUENCE, len(before) + octets) + before


def _cert_status(status: CertStatus) -> bytes:
    match status:
        case Good():
            return GOOD
        case Revoked(at=at, reason=reason):
            return der.element(REVOKED, der.generalized_time(at), der.explicit(0, der.enumerated(reason)))
        case Unknown():
            return UNKNOWN


def _archive_cutoff(moment: datetime) -> bytes:
    """The extension that says how long ago a certificate may have expired whose status is still told (4.4.4)."""
    return der.extension(ARCHIVE_CUTOFF, der.generalized_time(moment))


def _single_extensions(status: CertStatus, archive_cutoff: bytes) -> bytes:
    """singleExtensions: those of the entry in the list are allowed there (section 4.4.5), and archiveCutoff."""
    match status:
        case Unknown():
            return b""
        case Revoked(invalidity_date=datetime() as moment):
            extensions = der.extension(INVALIDITY_DATE, der.generalized_time(moment)) + archive_cutoff
        case _:
            extensions = archive_cutoff
    return der.explicit(1, der.sequence(extensions)) if extensions else b""
