"""Statuses to an OCSPResponse (RFC 6960, section 4.2), in three steps: ResponseData, its signature, the whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

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


@dataclass(frozen=True, slots=True)
class ResponseForm:
    """What an operator may choose about the form of answers."""

    by_name: bool = False  # ResponderID byName instead of byKey
    retention: timedelta | None = None  # how long after expiry a status is kept, to be told in archiveCutoff
    mixes_generations: bool = False  # one answer for certificates of several keys of the CA, as in RFC 2560


USUAL_FORM: Final = ResponseForm()


@dataclass(frozen=True, slots=True)
class Answer:
    """An OCSPResponse with a signature, and what HTTP may do with it."""

    der: bytes
    singles: tuple[SingleResponse, ...]
    interval: ValidityInterval
    has_nonce: bool

    @property
    def public(self) -> bool:
        """May anybody be told all of it?"""
        return all(single.public for single in self.singles)


def response_data(
    singles: Sequence[SingleResponse],
    delegate: Delegate,
    interval: ValidityInterval,
    nonce: bytes | None,
    form: ResponseForm = USUAL_FORM,
) -> bytes:
    """The DER of ResponseData: what the delegate signs.

    Args:
        singles: in the order of the request.
        delegate: who will sign.
        interval: the same for all of them.
        nonce: extnValue of the request's nonce.
        form: what the operator chose.
    """
    times = _times(interval)
    cutoff = b"" if form.retention is None else _archive_cutoff(interval.this_update - form.retention)
    responses = [
        der.sequence(
            single.cert_id.der, _cert_status(single.cert_status), times, _single_extensions(single.cert_status, cutoff)
        )
        for single in singles
    ]
    return der.sequence(
        der.explicit(1, delegate.name) if form.by_name else der.explicit(2, der.octet_string(delegate.key_hash)),
        der.generalized_time(interval.this_update),
        der.sequence(*responses),
        b"" if nonce is None else der.explicit(1, der.sequence(der.extension(NONCE, nonce))),
    )


def assemble(tbs_response_data: bytes, signature: bytes, delegate: Delegate) -> bytes:
    """The DER of a successful OCSPResponse with a BasicOCSPResponse, which brings the delegate's certificate along."""
    basic = der.sequence(
        tbs_response_data,
        algorithm_identifier(delegate.signer.public_key),
        der.bit_string(signature),
        _certs(delegate.certificate),
    )
    return der.sequence(
        der.enumerated(OCSPResponseStatus.SUCCESSFUL),
        der.explicit(0, der.sequence(ID_PKIX_OCSP_BASIC, der.octet_string(basic))),
    )


@lru_cache(maxsize=256)
def _times(interval: ValidityInterval) -> bytes:
    """ThisUpdate and nextUpdate of a SingleResponse: those of one second are all alike."""
    return der.generalized_time(interval.this_update) + der.explicit(0, der.generalized_time(interval.next_update))


@lru_cache(maxsize=256)
def _certs(certificate: bytes) -> bytes:
    """The certs of a BasicOCSPResponse."""
    return der.explicit(0, der.sequence(certificate))


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
