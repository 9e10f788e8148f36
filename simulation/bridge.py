"""The bridge (個人認証BCA) on the other side of a cross-certification: its request, and what it certifies."""

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ObjectIdentifier

from issuer.profiles.profile import key_usage
from pkix.names import name

PARTNER: Final = "公的個人認証サービスブリッジ認証局（模擬）"
YEARS: Final = timedelta(days=5 * 365)  # of its certificates (R-1-3-2-2)
_NAME: Final = name(("C", "JP"), ("O", "JPKI Test"), ("OU", "Simulated BridgeCA"))


class Bridge:
    """A bridge with one key."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())

    @property
    def key_sha256(self) -> str:
        """Of its SubjectPublicKeyInfo, as its staff tell it."""
        octets = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return sha256(octets).hexdigest()

    def request(self) -> bytes:
        """Its PKCS #10 request, DER."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(_NAME)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)

    def certify(self, request: bytes, policy: str, now: datetime) -> bytes:
        """A certificate, DER, for the CA that made a PKCS #10 request, DER, with a policy that both use."""
        csr = x509.load_der_x509_csr(request)
        asked = csr.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        policies = x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier(policy), None)])
        builder = (
            x509.CertificateBuilder(_NAME, csr.subject, csr.public_key(), x509.random_serial_number(), now, now + YEARS)
            .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(policies, critical=True)
            .add_extension(x509.AuthorityKeyIdentifier(self._identifier.digest, None, None), critical=False)
            .add_extension(asked, critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)
