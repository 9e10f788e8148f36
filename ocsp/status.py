"""What is known of the certificates asked about."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from ocsp.issuers import Generation
from ocsp.request import CertID
from pkix.revocation import CertStatus, Good, Revoked, Unknown

SERIALS: Final = range(1, 2**63)  # what the database can hold: 8 octets, positive


class IssuedCertificate(NamedTuple):  # a frozen dataclass takes three times as long to make
    """What is recorded of a certificate."""

    serial: int
    generation_id: int  # whose key signed it
    public: bool  # its status may be told to anybody (R-2-8-2)
    status: Good | Revoked


class SingleResponse(NamedTuple):
    """What is said of one certificate (RFC 6960, section 4.2.1)."""

    cert_id: CertID
    cert_status: CertStatus
    public: bool  # may be told to anybody


def single_response(
    cert_id: CertID, generation: Generation | None, issued: Mapping[int, IssuedCertificate]
) -> SingleResponse:
    """What to say of `cert_id`.

    Unknown is whatever was not issued under the name and key that it names (R-4-4-4-2-1), also a serial number of
    another generation. That a serial number is unknown here is no public knowledge, or anybody could find out which
    ones exist; that an issuer is none of ours is.

    Args:
        cert_id: one of the request.
        generation: its issuer; None is none of ours.
        issued: what is recorded of the serial numbers of the request.
    """
    if generation is None:
        return SingleResponse(cert_id, Unknown(), public=True)
    certificate = issued.get(cert_id.serial_number)
    if certificate is None or certificate.generation_id != generation.generation_id:
        return SingleResponse(cert_id, Unknown(), public=False)
    return SingleResponse(cert_id, certificate.status, certificate.public)
