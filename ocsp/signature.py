"""Who signed a request (RFC 6960, section 4.1.2)."""

import logging
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from ocsp.access import Failure
from ocsp.request import RequestSignature
from pkix import der

# SHA-1 is not among them: whoever could forge it would be told statuses.
RSA: Final[dict[str, hashes.HashAlgorithm]] = {
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
}
ECDSA: Final[dict[str, hashes.HashAlgorithm]] = {
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
    "1.2.840.10045.4.3.4": hashes.SHA512(),
}

_logger = logging.getLogger(__name__)

PathCheck = Callable[[x509.Certificate, Sequence[bytes], datetime], bool]
"""Is there a path from a certificate, over those in DER that came with it, to somebody who is trusted?"""


def signing_certificate(
    signed: RequestSignature, registered: Collection[bytes], has_path: PathCheck, now: datetime
) -> bytes | Failure:
    """The DER of the registered certificate whose key signed the request.

    Args:
        signed: the signature.
        registered: DER of the certificates that may sign.
        has_path: decides whether one that is registered is good for that.
        now: the moment at which it must be.

    Returns:
        Why there is none, if so.
    """
    failure = Failure.UNKNOWN_SIGNER
    for certificate in _candidates(signed, registered):
        parsed = x509.load_der_x509_certificate(certificate)
        if not _is_signed_by(parsed, signed):
            failure = Failure.BAD_SIGNATURE
        elif not has_path(parsed, signed.certificates, now):
            failure = Failure.NO_SIGNER_PATH
        else:
            return certificate
    return failure


def registered_is_enough(_certificate: x509.Certificate, _brought: Sequence[bytes], _now: datetime) -> bool:
    """Whoever registered the certificate has checked whose it is."""
    return True


def path_to(anchors: Sequence[x509.Certificate]) -> PathCheck:
    """There must be a path to one of `anchors` (RFC 5280, section 6)."""
    # What the certificate of a verifier is for besides, how he is named in it, and under which policy it was issued, is
    # nothing to us; policies are critical in certificates of residents, and an extension that is must be named here.
    anything = ExtensionPolicy.permit_all().may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None)
    of_cas = anything.require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None).may_be_present(
        x509.KeyUsage, Criticality.AGNOSTIC, _signs_certificates
    )
    builder = PolicyBuilder().store(Store(list(anchors))).extension_policies(ca_policy=of_cas, ee_policy=anything)

    def has_path(certificate: x509.Certificate, brought: Sequence[bytes], now: datetime) -> bool:
        verifier = builder.time(now).build_client_verifier()
        try:
            verifier.verify(certificate, [x509.load_der_x509_certificate(each) for each in brought])
        except (VerificationError, ValueError, x509.InvalidVersion) as e:  # the latter two: it brought no certificates
            _logger.info("no_path", extra={"serial": f"{certificate.serial_number:X}", "reason": str(e)})
            return False
        return True

    return has_path


def _signs_certificates(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("this key does not sign certificates")


def _candidates(signed: RequestSignature, registered: Collection[bytes]) -> list[bytes]:
    """Registered certificates that the request brings along; if it brings none, those with the requestor's name."""
    if signed.certificates:
        return [certificate for certificate in signed.certificates if certificate in registered]
    return [certificate for certificate in registered if _directory_name(certificate) == signed.requestor_name]


@lru_cache(maxsize=4096)
def _directory_name(certificate: bytes) -> bytes:
    """The subject as a GeneralName. Anybody may ask for a search among all of them: it must cost little."""
    return der.explicit(4, x509.load_der_x509_certificate(certificate).subject.public_bytes())


def _is_signed_by(certificate: x509.Certificate, signed: RequestSignature) -> bool:
    key = certificate.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey) and signed.algorithm in RSA:
            key.verify(signed.signature, signed.tbs_request, padding.PKCS1v15(), RSA[signed.algorithm])
        elif isinstance(key, ec.EllipticCurvePublicKey) and signed.algorithm in ECDSA:
            key.verify(signed.signature, signed.tbs_request, ec.ECDSA(ECDSA[signed.algorithm]))
        else:
            return False
    except InvalidSignature:
        return False
    return True
