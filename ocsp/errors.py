"""What can go wrong, and how it is said on the wire (RFC 6960, section 2.3).

    OCSPError
    ├── MalformedRequestError       malformedRequest   the peer sent nonsense
    ├── NotOurIssuerError           unauthorized       no certificate asked about was issued here
    ├── SeveralIssuersError         unauthorized       no delegate may speak for two keys of the CA
    ├── AccessDeniedError           unauthorized       the right `ocsp` is missing (R-4-4-4-3)
    ├── SignatureRequiredError      sigRequired        the same, but signing the request could help
    ├── TooManyRequestsError        tryLater           more of them than this party or address may send
    ├── StoreUnavailableError       tryLater           the database is out of reach
    ├── KeyUnavailableError         tryLater           the token of the delegate's key is away
    └── NoDelegateError             tryLater           no usable key for this generation
    StartError                                         the program cannot start; a line for the operator

Anything else is our bug: internalError, and a traceback in the log.
"""

from enum import IntEnum
from typing import ClassVar, Final


class OCSPResponseStatus(IntEnum):
    """OCSPResponseStatus (RFC 6960, section 4.2.1)."""

    SUCCESSFUL = 0
    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    SIG_REQUIRED = 5
    UNAUTHORIZED = 6

    @property
    def label(self) -> str:
        """Its identifier in RFC 6960, such as tryLater."""
        return _LABELS[self]


_LABELS: Final = {
    OCSPResponseStatus.SUCCESSFUL: "successful",
    OCSPResponseStatus.MALFORMED_REQUEST: "malformedRequest",
    OCSPResponseStatus.INTERNAL_ERROR: "internalError",
    OCSPResponseStatus.TRY_LATER: "tryLater",
    OCSPResponseStatus.SIG_REQUIRED: "sigRequired",
    OCSPResponseStatus.UNAUTHORIZED: "unauthorized",
}


class OCSPError(Exception):
    """A request that gets an unsigned answer."""

    status: ClassVar[OCSPResponseStatus]


class MalformedRequestError(OCSPError):
    """The octets are no OCSPRequest that is served here."""

    status = OCSPResponseStatus.MALFORMED_REQUEST


class NotOurIssuerError(OCSPError):
    """No certificate asked about has an issuer of ours: RFC 6960, section 2.3; RFC 9919, section 3.2.3."""

    status = OCSPResponseStatus.UNAUTHORIZED


class SeveralIssuersError(OCSPError):
    """Certificates signed by different keys of the CA are asked about at once.

    A delegate speaks for the one key that signed it (RFC 6960, section 4.2.2.2), so whatever it signed, the client
    would have to reject a part of it. The request is well formed; we cannot answer it authoritatively.
    """

    status = OCSPResponseStatus.UNAUTHORIZED


class AccessDeniedError(OCSPError):
    """The caller has no right to one of the statuses (R-4-4-4-3)."""

    status = OCSPResponseStatus.UNAUTHORIZED


class SignatureRequiredError(OCSPError):
    """Nobody knows who asks, and a signed request could tell: RFC 6960, section 2.3."""

    status = OCSPResponseStatus.SIG_REQUIRED


class TooManyRequestsError(OCSPError):
    """Sooner than `ocsp.address_requests_per_s` and the like allow."""

    status = OCSPResponseStatus.TRY_LATER


class StoreUnavailableError(OCSPError):
    """The database does not answer now."""

    status = OCSPResponseStatus.TRY_LATER


class KeyUnavailableError(OCSPError):
    """The key of the delegate cannot sign now; a token that comes back is used again."""

    status = OCSPResponseStatus.TRY_LATER


class RightsChangedError(OCSPError):
    """Access rights have changed while the question waited."""

    status = OCSPResponseStatus.TRY_LATER


class NoDelegateError(OCSPError):
    """No delegate of the generation asked about can be used now."""

    status = OCSPResponseStatus.TRY_LATER


class StartError(Exception):
    """The program cannot start; the message is one line that says what to change."""
