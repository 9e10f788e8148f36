"""One certificate: encode, lint, sign, verify. Nothing leaves that did not pass all four."""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from issuer.installation import ActiveKey
from issuer.profiles.authority import Kind
from issuer.profiles.lint import check_certificate, check_link, check_signature
from issuer.profiles.profile import Issuer, link
from pkix.signing import Signer, sign, signed, tbs_certificate
from pkix.validity import Validity


@dataclass(frozen=True, slots=True)
class Joined:
    """The self-signed certificates that a link certificate is about."""

    subject: x509.Certificate  # of the key that it certifies
    old: x509.Certificate  # of the earlier of the two keys


def certify(key: ActiveKey, builder: x509.CertificateBuilder, kind: Kind) -> bytes:
    """The certificate, DER, signed by the CA. Blocks while the token signs.

    Raises:
        LintError: it breaks its profile.
        SigningError: the key cannot be used now.
    """
    return _certified(key.signer, builder, kind, key.issuer)


def certify_self(signer: Signer, builder: x509.CertificateBuilder) -> bytes:
    """A self-signed certificate, DER."""
    return _certified(signer, builder, Kind.SELF_SIGNED, None)


def certify_link(key: ActiveKey, certificates: Joined, serial: int, not_before: datetime) -> bytes:
    """A link certificate, DER: the key of one generation, signed by the other (R-7-1-4).

    Raises:
        LintError: it breaks its profile.
        SigningError: the key cannot be used now.
    """
    validity = Validity(not_before, certificates.old.not_valid_after_utc)
    builder = link(key.issuer, certificates.subject, serial, validity)
    check_link(signed(tbs_certificate(builder), key.signer.public_key, b"\x00"), certificates.subject, certificates.old)
    return certify(key, builder, Kind.LINK)


def _certified(signer: Signer, builder: x509.CertificateBuilder, kind: Kind, issuer: Issuer | None) -> bytes:
    to_be_signed = tbs_certificate(builder)
    check_certificate(signed(to_be_signed, signer.public_key, b"\x00"), kind, issuer)
    certificate = signed(to_be_signed, signer.public_key, sign(signer, to_be_signed))
    check_signature(certificate, signer.public_key)
    return certificate
