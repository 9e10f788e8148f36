"""Asking an OCSP responder about certificates of this CA, as a relying party does (RFC 6960)."""

from collections.abc import Sequence
from typing import Final, cast

import aiohttp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509 import ocsp

from issuer.errors import NotNowError, RefusedError
from pkix import der
from pkix.certid import issuer_hashes
from pkix.revocation import CRLReason, Revoked
from pkix.signing import PublicKey, verify

AT_ONCE: Final = 50  # CertIDs in one request
TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
SHA_256: Final = "2.16.840.1.101.3.4.2.1"
_HEADERS: Final = {"Content-Type": "application/ocsp-request"}


class Responder:
    """An OCSP responder at a URL."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def revoked(self, issuer: x509.Certificate, serials: Sequence[int]) -> dict[int, Revoked | None]:
        """What it says of certificates that `issuer` signed: revoked and how, or None.

        Raises:
            NotNowError: it cannot be reached, or does not answer now.
            RefusedError: it refuses to tell, or its answer is not signed by a delegate of `issuer`.
        """
        told: dict[int, Revoked | None] = {}
        for begin in range(0, len(serials), AT_ONCE):
            response = await self._ask(request(issuer, serials[begin : begin + AT_ONCE]))
            _check_signature(response, issuer)
            told |= {single.serial_number: _status(single) for single in response.responses}
        return told

    async def _ask(self, octets: bytes) -> ocsp.OCSPResponse:
        try:
            async with self._session.post(self._url, data=octets, headers=_HEADERS, timeout=TIMEOUT) as answer:
                answer.raise_for_status()
                response = ocsp.load_der_ocsp_response(await answer.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as e:
            raise NotNowError(f"no OCSP answer from {self._url} ({e}); start the responder, or correct the URL") from e
        match response.response_status:
            case ocsp.OCSPResponseStatus.SUCCESSFUL:
                return response
            case ocsp.OCSPResponseStatus.UNAUTHORIZED | ocsp.OCSPResponseStatus.SIG_REQUIRED:
                raise RefusedError(
                    f"{self._url} tells this machine nothing; register its address:"
                    " prefca relying-party credential add network"
                )
            case status:
                raise NotNowError(f"{self._url} answers {status.name}; run it again later")


def request(issuer: x509.Certificate, serials: Sequence[int]) -> bytes:
    """The DER of an OCSPRequest about certificates that `issuer` signed (RFC 6960, section 4.1.1)."""
    hashes = next(hashes for hashes in issuer_hashes(issuer) if hashes.algorithm == SHA_256)
    names = (
        der.sequence(der.object_identifier(SHA_256), der.NULL),
        *map(der.octet_string, (hashes.name_hash, hashes.key_hash)),
    )
    requests = (der.sequence(der.sequence(*names, der.integer(serial))) for serial in serials)
    return der.sequence(der.sequence(der.sequence(*requests)))


def _check_signature(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> None:
    """RFC 6960, section 3.2: the answer is signed by the delegate that it brings, and that one by the issuer.

    Raises:
        RefusedError: it is not.
    """
    try:
        delegate = response.certificates[0]
        delegate.verify_directly_issued_by(issuer)
        is_right = verify(cast("PublicKey", delegate.public_key()), response.signature, [response.tbs_response_bytes])
    except (IndexError, ValueError, TypeError, InvalidSignature):
        is_right = False
    if not is_right:
        raise RefusedError("the answer is not signed by a delegate of this CA; check the URL")


def _status(single: ocsp.OCSPSingleResponse) -> Revoked | None:
    """Without invalidityDate, which an answer does not tell."""
    if single.certificate_status is not ocsp.OCSPCertStatus.REVOKED or single.revocation_time_utc is None:
        return None
    label = None if single.revocation_reason is None else single.revocation_reason.value
    reason = next((reason for reason in CRLReason if reason.label == label), None)
    return None if reason is None else Revoked(single.revocation_time_utc, reason)
