"""A bridge (個人認証BCA) to test with: its key, its certificates for others, its ARL. Made by `cryptography` alone."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, ObjectIdentifier

from pkix.names import name
from tests.support.ca import NOW, rsa_key

BRIDGE_POLICY: Final = "1.2.392.200149.8.5.1.0.1"  # of this bridge
MEMBER_POLICY: Final = "1.2.392.200149.8.5.1.0.10"  # of test CAs
BRIDGE_NAME: Final = name(
    ("C", "JP"), ("O", "JPKI Test"), ("OU", "Test Prefectural Association For JPKI"), ("OU", "Test BridgeCA")
)
PARTNER: Final = "公的個人認証サービスブリッジ認証局（テスト）"


def mapping(issuer: str, subject: str) -> x509.UnrecognizedExtension:
    """PolicyMappings of two policies, by hand."""
    pair = b"".join(_oid(policy) for policy in (issuer, subject))
    sequence = b"\x30" + bytes([len(pair)]) + pair
    return x509.UnrecognizedExtension(ExtensionOID.POLICY_MAPPINGS, b"\x30" + bytes([len(sequence)]) + sequence)


def _oid(dotted: str) -> bytes:
    builder = x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier(dotted), None)])
    return builder.public_bytes()[4:]


@dataclass(frozen=True)
class Wish:
    """A certificate that the bridge issues; the defaults are a right one. `without` names extensions to leave out."""

    subject: x509.Name
    key: CertificatePublicKeyTypes
    not_before: datetime = NOW
    not_after: datetime = NOW + timedelta(days=5 * 365)
    issuer: x509.Name = BRIDGE_NAME
    ca: bool = True
    key_identifier: bytes | None = None
    policy: str = BRIDGE_POLICY
    maps_to: str | None = MEMBER_POLICY
    hash_algorithm: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)
    without: frozenset[ObjectIdentifier] = frozenset()
    more: tuple[tuple[x509.ExtensionType, bool], ...] = ()


@dataclass(frozen=True)
class Bridge:
    """A bridge with one key."""

    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa_key("bridge"))

    @property
    def identifier(self) -> x509.SubjectKeyIdentifier:
        """Of its key."""
        return x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())

    @property
    def key_sha256(self) -> str:
        """Of its SubjectPublicKeyInfo, as its staff tell it."""
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        return digest.finalize().hex()

    def request(self, subject: x509.Name = BRIDGE_NAME) -> bytes:
        """Its PKCS #10 request, PEM."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def certify_request(self, request: bytes, **wishes: object) -> x509.Certificate:
        """A certificate for who made a PKCS #10 request (PEM), with the SubjectKeyIdentifier that it asks for."""
        csr = x509.load_pem_x509_csr(request)
        assert csr.is_signature_valid
        asked = csr.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        return self.certify(Wish(csr.subject, csr.public_key(), key_identifier=asked, **wishes))  # type: ignore[arg-type] # fields of Wish

    def certify(self, wish: Wish) -> x509.Certificate:
        """Whatever is wished."""
        policy = x509.PolicyInformation(ObjectIdentifier(wish.policy), None)
        constraints = x509.BasicConstraints(ca=wish.ca, path_length=None)
        identifier = x509.SubjectKeyIdentifier.from_public_key(wish.key)
        if wish.key_identifier is not None:
            identifier = x509.SubjectKeyIdentifier(wish.key_identifier)
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (_key_usage(), True),
            (constraints, True),
            (x509.CertificatePolicies([policy]), True),
            *([(mapping(wish.policy, wish.maps_to), False)] if wish.maps_to else []),
            (_distribution_point(), False),
            (x509.AuthorityKeyIdentifier(self.identifier.digest, None, None), False),
            (identifier, False),
            *wish.more,
        ]
        builder = (
            x509.CertificateBuilder()
            .issuer_name(wish.issuer)
            .subject_name(wish.subject)
            .public_key(wish.key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(wish.not_before)
            .not_valid_after(wish.not_after)
        )
        for extension, critical in extensions:
            if extension.oid not in wish.without:
                builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self.key, wish.hash_algorithm)  # type: ignore[arg-type] # any hash that a test wants

    def arl(self, now: datetime, *revoked: int) -> bytes:
        """Its ARL, PEM, with these serial numbers revoked."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(BRIDGE_NAME)
            .last_update(now - timedelta(hours=1))
            .next_update(now + timedelta(days=3))
            .add_extension(x509.AuthorityKeyIdentifier(self.identifier.digest, None, None), critical=False)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(_issuing_distribution_point(), critical=True)
        )
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - timedelta(hours=2))
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _key_usage() -> x509.KeyUsage:
    off = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    return x509.KeyUsage(**off, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False)


def _distribution_point() -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints([x509.DistributionPoint([x509.DirectoryName(BRIDGE_NAME)], None, None, None)])


def _issuing_distribution_point() -> x509.IssuingDistributionPoint:
    return x509.IssuingDistributionPoint(
        full_name=[x509.DirectoryName(BRIDGE_NAME)],
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=True,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
