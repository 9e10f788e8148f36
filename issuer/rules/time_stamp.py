"""Time stamps of RFC 3161: what is asked of an authority, and whether its answer proves anything.

What an authority has stamped existed at its time, whatever our clocks said and whoever holds our keys since.
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography.x509 import Certificate
from rfc3161_client import (
    HashAlgorithm,
    TimeStampRequest,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

GRANTED = (0, 1)  # PKIStatus, section 2.4.2: granted, with modifications or without


class NoTimeStampError(Exception):
    """An answer proves nothing; the message says why."""


def request(statement: bytes) -> TimeStampRequest:
    """What is asked for a statement: its SHA-256, a nonce, and the authority's certificate in the answer."""
    return TimestampRequestBuilder().data(statement).hash_algorithm(HashAlgorithm.SHA256).build()


def stamped_at(response: bytes, statement: bytes, roots: Sequence[Certificate], nonce: int | None = None) -> datetime:
    """When the authority saw a statement, after all checks.

    Args:
        response: DER of the TimeStampResp.
        statement: that must have been stamped.
        roots: who may have certified the authority; it must have been valid at the time of the stamp.
        nonce: that was sent; None: that is not known any more.

    Raises:
        NoTimeStampError: it is refused, forged, of something else, or by somebody else.
    """
    found = _decoded(response)
    builder = VerifierBuilder(roots=list(roots), nonce=nonce)
    try:
        builder.build().verify_message(found, statement)
    except VerificationError as e:
        raise NoTimeStampError(_first_words(str(e))) from e
    return found.tst_info.gen_time


def _decoded(response: bytes) -> TimeStampResponse:
    try:
        found = decode_timestamp_response(response)
    except ValueError as e:
        raise NoTimeStampError("the answer is no TimeStampResp") from e
    if found.status not in GRANTED:
        why = "; ".join(found.status_string) or f"status {found.status}"
        raise NoTimeStampError(f"the authority refused: {why}")
    return found


def _first_words(why: str) -> str:
    """Without the stack of OpenSSL."""
    return why.partition(": ErrorStack")[0]
