"""What is hashed of an issuer is what OCSP clients hash."""

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp

from pkix import names
from pkix.certid import issuer_hashes, key_identifier, subject_public_key
from pkix.software import PrivateKey

OIDS = {
    "1.3.14.3.2.26": hashes.SHA1(),
    "2.16.840.1.101.3.4.2.1": hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}
KEYS = ["rsa", "p256"]


@cache
def key(kind: str) -> PrivateKey:
    return rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())


def ca_certificate(kind: str) -> x509.Certificate:
    """A self-signed certificate with a Japanese name."""
    ca = names.name(("C", "JP"), ("O", "JPKI"), ("OU", "東京都知事"))
    start = datetime(2026, 4, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(ca, ca, key(kind).public_key(), 1, start, start + timedelta(days=3650))
    return builder.sign(key(kind), hashes.SHA256())


@pytest.mark.parametrize("kind", KEYS)
def test_hashes_are_those_of_a_request(kind: str) -> None:
    """For every hash algorithm, issuerNameHash and issuerKeyHash equal a client's (RFC 6960, section 4.1.1)."""
    issuer = ca_certificate(kind)
    ours = {hashed.algorithm: (hashed.name_hash, hashed.key_hash) for hashed in issuer_hashes(issuer)}
    theirs = {}
    for oid, algorithm in OIDS.items():
        request = ocsp.OCSPRequestBuilder().add_certificate(issuer, issuer, algorithm).build()
        theirs[oid] = (request.issuer_name_hash, request.issuer_key_hash)
    assert ours == theirs


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_identifier_is_the_common_one(kind: str) -> None:
    """SHA-1 of the key bits: method (1) of RFC 5280, section 4.2.1.2."""
    public_key = key(kind).public_key()
    assert key_identifier(public_key) == x509.SubjectKeyIdentifier.from_public_key(public_key).digest


def test_the_key_bits_have_no_unused_bits_octet() -> None:
    """The bits of an RSA key are the RSAPublicKey itself, a SEQUENCE; those of P-256 the uncompressed point."""
    assert subject_public_key(key("rsa").public_key())[0] == 0x30
    point = subject_public_key(key("p256").public_key())
    assert (point[0], len(point)) == (0x04, 65)


def test_a_key_identifier_is_the_key_hash_by_sha_1() -> None:
    """ResponderID byKey and a CertID with SHA-1 hash the same octets."""
    issuer = ca_certificate("p256")
    (sha1,) = (hashed for hashed in issuer_hashes(issuer) if hashed.algorithm == "1.3.14.3.2.26")
    assert key_identifier(issuer.public_key()) == sha1.key_hash
    assert sha1.name_hash == hashlib.sha1(issuer.subject.public_bytes()).digest()
