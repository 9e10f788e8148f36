"""Encoding, signing and assembling apart gives what signing in one go gives."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from pkix import names
from pkix.signing import (
    algorithm_identifier,
    sign,
    signed,
    tbs_cert_list,
    tbs_certificate,
    verify,
)
from pkix.software import PrivateKey, SoftwareSigner
from tests.support.keys import p256_key, rsa_key

START = datetime(2026, 4, 1, tzinfo=UTC)
CA = names.name(("C", "JP"), ("O", "JPKI"), ("OU", "Tokyo-to"), ("OU", "東京都知事"))


KEYS: list[Callable[[], PrivateKey]] = [rsa_key, p256_key]


def certificate_builder() -> x509.CertificateBuilder:
    """A certificate long enough for lengths of two octets."""
    end = START + timedelta(days=3650)
    builder = x509.CertificateBuilder(CA, CA, rsa_key().public_key(), 2**62 + 1, START, end)
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)


def list_builder() -> x509.CertificateRevocationListBuilder:
    builder = x509.CertificateRevocationListBuilder(CA, START, START + timedelta(days=3))
    return builder.add_extension(x509.CRLNumber(1), critical=False)


def test_a_certificate_is_the_one_signed_in_one_go() -> None:
    """PKCS#1 v1.5 has no randomness: octet for octet the certificate of pyca, which verifies."""
    signer = SoftwareSigner(rsa_key())
    to_be_signed = tbs_certificate(certificate_builder())
    der = signed(to_be_signed, signer.public_key, sign(signer, to_be_signed))
    assert der == certificate_builder().sign(rsa_key(), SHA256()).public_bytes(Encoding.DER)
    certificate = x509.load_der_x509_certificate(der)
    certificate.verify_directly_issued_by(certificate)


def test_a_list_is_the_one_signed_in_one_go() -> None:
    """The same of a CertificateList."""
    signer = SoftwareSigner(rsa_key())
    to_be_signed = tbs_cert_list(list_builder())
    der = signed(to_be_signed, signer.public_key, sign(signer, to_be_signed))
    assert der == list_builder().sign(rsa_key(), SHA256()).public_bytes(Encoding.DER)
    assert x509.load_der_x509_crl(der).is_signature_valid(rsa_key().public_key())


def test_a_list_signed_with_p256_loads_and_verifies() -> None:
    """SIGNED names ECDSA with SHA-256, without parameters, as the to-be-signed part does."""
    signer = SoftwareSigner(p256_key())
    to_be_signed = list_builder().sign(p256_key(), SHA256()).tbs_certlist_bytes
    crl = x509.load_der_x509_crl(signed(to_be_signed, signer.public_key, sign(signer, to_be_signed)))
    assert crl.is_signature_valid(p256_key().public_key())


@pytest.mark.parametrize("key", KEYS)
def test_the_algorithm_is_named_as_by_the_encoder(key: Callable[[], PrivateKey]) -> None:
    """AlgorithmIdentifier in the to-be-signed part: NULL parameters for RSA, none for ECDSA (RFC 8017, RFC 5758)."""
    to_be_signed = list_builder().sign(key(), SHA256()).tbs_certlist_bytes
    assert algorithm_identifier(key().public_key()) in to_be_signed


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("parts", "valid"),
    [
        pytest.param([b"a list", b" in parts"], True, id="cut in the same places"),
        pytest.param([b"a list in", b"", b" parts"], True, id="cut elsewhere"),
        pytest.param([b"a list in parts", b"!"], False, id="octets added"),
        pytest.param([b" in parts", b"a list"], False, id="parts exchanged"),
        pytest.param([], False, id="nothing"),
    ],
)
def test_a_signature_is_over_the_joined_parts(
    key: Callable[[], PrivateKey], parts: list[bytes], *, valid: bool
) -> None:
    """Where the octets are cut does not matter, any other octets do."""
    signer = SoftwareSigner(key())
    signature = sign(signer, b"a list", b" in parts")
    assert verify(signer.public_key, signature, parts) is valid


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("signature", [b"", b"\x00", b"\x30\x06\x02\x01\x01\x02\x01\x01", b"\x01" * 256])
def test_what_is_no_signature_does_not_verify(key: Callable[[], PrivateKey], signature: bytes) -> None:
    """Any octets may stand in the place of a signature."""
    assert not verify(key().public_key(), signature, [b"a list"])
