"""One certificate: encode, lint, sign, verify. Nothing leaves that did not pass all four."""

from cryptography import x509

from issuer.authority import Kind
from issuer.installation import ActiveKey
from issuer.lint import check_certificate, check_signature
from issuer.profile import Issuer
from pkix.signing import Signer, sign, signed, tbs_certificate


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


def _certified(signer: Signer, builder: x509.CertificateBuilder, kind: Kind, issuer: Issuer | None) -> bytes:
    to_be_signed = tbs_certificate(builder)
    check_certificate(signed(to_be_signed, signer.public_key, b"\x00"), kind, issuer)
    certificate = signed(to_be_signed, signer.public_key, sign(signer, to_be_signed))
    check_signature(certificate, signer.public_key)
    return certificate
