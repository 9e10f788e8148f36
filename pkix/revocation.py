"""What can be said of a certificate's status, and a revoked one's entry in its list."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

from pkix import der


class CRLReason(IntEnum):
    """The reasons of the rule (R-4-4-4-2-2), numbered as in RFC 5280, section 5.3.1. No others, no hold (R-4-4-5)."""

    KEY_COMPROMISE = 1  # the user's key
    CA_COMPROMISE = 2  # the Governor's key
    AFFILIATION_CHANGED = 3  # recorded contents changed
    SUPERSEDED = 4  # renewed
    CESSATION_OF_OPERATION = 5  # no longer needed

    @property
    def label(self) -> str:
        """Its identifier in RFC 5280, such as keyCompromise."""
        return _LABELS[self]


_LABELS: Final = {
    CRLReason.KEY_COMPROMISE: "keyCompromise",
    CRLReason.CA_COMPROMISE: "cACompromise",
    CRLReason.AFFILIATION_CHANGED: "affiliationChanged",
    CRLReason.SUPERSEDED: "superseded",
    CRLReason.CESSATION_OF_OPERATION: "cessationOfOperation",
}


@dataclass(frozen=True, slots=True)
class Good:
    """Issued, not revoked."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """Revoked, for good (R-4-4-2-4)."""

    at: datetime
    reason: CRLReason
    invalidity_date: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Not issued here (R-4-4-4-2-1)."""


CertStatus = Good | Revoked | Unknown


def revoked_entry(serial_number: int, status: Revoked) -> bytes:
    """The DER of one element of revokedCertificates (RFC 5280, section 5.1.2.6): 41 octets for our 8-octet serials.

    Stored: a change of its form needs a migration.
    """
    extensions = der.extension("2.5.29.21", der.enumerated(status.reason))
    if status.invalidity_date is not None:
        extensions += der.extension("2.5.29.24", der.generalized_time(status.invalidity_date))
    return der.sequence(der.integer(serial_number), der.time(status.at), der.sequence(extensions))
