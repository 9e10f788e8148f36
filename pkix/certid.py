"""CertID (RFC 6960, section 4.1.1) and ResponderID: what is hashed, and how."""

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pkix import der

HASH_ALGORITHMS: Final = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
"""The hash algorithms a CertID may use: OID to the name in hashlib."""


@dataclass(frozen=True, slots=True)
class IssuerHashes:
    """The issuer half of a CertID: the hashes of a CA's name and key under one algorithm."""

    algorithm: str  # dotted OID
    name_hash: bytes
    key_hash: bytes


def subject_public_key(key: CertificatePublicKeyTypes) -> bytes:
    """The contents of subjectPublicKey without the unused-bits octet: what a key hash is made of."""
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    *_, bits = der.elements(der.contents(spki))
    return der.contents(bits)[1:]


def issuer_hashes(certificate: x509.Certificate) -> list[IssuerHashes]:
    """How clients may name the CA whose own `certificate` this is: one value for each algorithm."""
    name, key = certificate.subject.public_bytes(), subject_public_key(certificate.public_key())
    return [
        IssuerHashes(oid, hashlib.new(algorithm, name).digest(), hashlib.new(algorithm, key).digest())
        for oid, algorithm in HASH_ALGORITHMS.items()
    ]


def key_identifier(key: CertificatePublicKeyTypes) -> bytes:
    """SHA-1 of the key bits, 20 octets: subjectKeyIdentifier (RFC 5280, section 4.2.1.2) and ResponderID byKey."""
    return hashlib.sha1(subject_public_key(key), usedforsecurity=False).digest()
