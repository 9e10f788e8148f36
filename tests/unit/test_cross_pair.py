"""What the bridge issues to us is accepted only if a path can go through it; a pair is of two halves that fit."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID
from pyasn1.codec.der import decoder

from issuer.errors import RefusedError
from issuer.profiles.authority import Kind
from issuer.profiles.certification_request import cross_request, signed_request
from issuer.profiles.profile import MIN_SERIAL, cross
from issuer.rules.cross_pair import certificate_pair, check_issued_to_this_ca, load_certificate
from issuer.signing.certification import certify
from pkix import der
from pkix.names import name
from tests.support.bridge import BRIDGE_POLICY, MEMBER_POLICY, Bridge, Wish
from tests.support.ca import NOW, rsa_key, software_ca

CA, BRIDGE = software_ca(), Bridge()
OWN = CA.issuer.certificate
OURS = x509.load_der_x509_certificate(
    certify(CA, cross(CA.issuer, cross_request(BRIDGE.request()).subject(BRIDGE_POLICY), MIN_SERIAL, NOW), Kind.CROSS)
)
OTHER = name(("C", "JP"), ("O", "Somebody else"))


def issued(bridge: Bridge = BRIDGE, **changes: Any) -> x509.Certificate:
    """What the bridge issues to us, or something near it."""
    wish = {"subject": OWN.subject, "key": CA.signer.public_key} | changes
    return bridge.certify(Wish(**wish))


def check(theirs: x509.Certificate) -> None:
    check_issued_to_this_ca(theirs, OURS, OWN, MEMBER_POLICY, NOW)


@pytest.mark.req("R-4-8-1")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"policy": MEMBER_POLICY, "maps_to": None},
        {"not_before": NOW + timedelta(days=3)},
        {"hash_algorithm": hashes.SHA512()},
        {"without": frozenset({ExtensionOID.KEY_USAGE})},
        {"without": frozenset({ExtensionOID.AUTHORITY_KEY_IDENTIFIER})},
        {"more": ((x509.PolicyConstraints(0, None), True),)},
    ],
    ids=[
        "mapped",
        "our policy",
        "begins later",
        "SHA-512",
        "no KeyUsage",
        "no AuthorityKeyIdentifier",
        "explicit policy",
    ],
)
def test_what_a_path_can_go_through_is_accepted(changes: dict[str, Any]) -> None:
    """A bridge has its own profile."""
    check(issued(**changes))


@pytest.mark.req("R-4-8-1")
@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"key": rsa_key("somebody").public_key()}, "not this CA's key"),
        ({"subject": OTHER}, "names us otherwise"),
        ({"issuer": OTHER}, "its issuer is not the CA"),
        ({"bridge": Bridge(rsa_key("somebody"))}, "not by the key that we certified"),
        ({"not_before": NOW - timedelta(days=9), "not_after": NOW - timedelta(days=1)}, "it expired at"),
        ({"ca": False}, "not for a CA"),
        ({"key_identifier": b"x" * 20}, "SubjectKeyIdentifier"),
        ({"without": frozenset({ExtensionOID.SUBJECT_KEY_IDENTIFIER})}, "SubjectKeyIdentifier"),
        ({"without": frozenset({ExtensionOID.BASIC_CONSTRAINTS})}, "not for a CA"),
        ({"without": frozenset({ExtensionOID.CERTIFICATE_POLICIES})}, "no policy of it leads to ours"),
        ({"maps_to": None}, "no policy of it leads to ours"),
        ({"policy": MEMBER_POLICY, "maps_to": BRIDGE_POLICY}, "no policy of it leads to ours"),
        ({"more": ((x509.PrecertPoison(), True),)}, "critical and not one of"),
    ],
    ids=[
        "another key",
        "another name",
        "another issuer",
        "signed by another key",
        "expired",
        "for no CA",
        "another SubjectKeyIdentifier",
        "no SubjectKeyIdentifier",
        "no BasicConstraints",
        "no policies",
        "a policy that is not ours",
        "our policy mapped away",
        "an unknown critical extension",
    ],
)
def test_what_no_path_can_go_through_is_refused(changes: dict[str, Any], finding: str) -> None:
    """One thing is wrong, and the refusal names it and says what to do."""
    with pytest.raises(RefusedError, match=rf"{finding}.*have the other CA issue another one"):
        check(issued(**changes))


@pytest.mark.req("R-4-8-1")
def test_a_signature_over_sha1_is_refused() -> None:
    """As certificates were signed in 2004; pyca makes none, so it is put together here."""
    sha256_with_rsa, sha1_with_rsa = (bytes.fromhex(f"06092a864886f70d0101{last}") for last in ("0b", "05"))
    to_be_signed = issued().tbs_certificate_bytes.replace(sha256_with_rsa, sha1_with_rsa)
    signature = BRIDGE.key.sign(to_be_signed, padding.PKCS1v15(), hashes.SHA1())
    algorithm = der.sequence(sha1_with_rsa, der.NULL)
    with pytest.raises(RefusedError, match="not over SHA-256"):
        check(load_certificate(der.sequence(to_be_signed, algorithm, der.bit_string(signature))))


@pytest.mark.req("R-4-8-2")
def test_a_pair_has_explicit_tags() -> None:
    """[0] EXPLICIT issuedToThisCA, [1] EXPLICIT issuedByThisCA, as another ASN.1 library reads it."""
    theirs = issued()
    halves = [each.public_bytes(Encoding.DER) for each in (theirs, OURS)]
    pair, rest = decoder.decode(certificate_pair(*halves))
    assert not rest
    assert [each.tagSet.superTags[-1].tagId for each in pair.values()] == [0, 1]


@pytest.mark.req("R-4-8-2")
@pytest.mark.parametrize(
    "halves",
    [(issued(), issued()), (issued(subject=OTHER), OURS), (OWN, OURS)],
    ids=["twice the same", "of another CA", "our own certificate"],
)
def test_halves_that_do_not_match_make_no_pair(halves: tuple[x509.Certificate, x509.Certificate]) -> None:
    """Issuer and subject cross, and each key verifies the other's signature (RFC 2587, section 3.2)."""
    with pytest.raises(RefusedError):
        certificate_pair(*(each.public_bytes(Encoding.DER) for each in halves))


@pytest.mark.parametrize("octets", [b"", b"\x30\x00", b"-----BEGIN CERTIFICATE-----\n", b"%PDF-1.4"])
def test_what_is_no_certificate_is_refused(octets: bytes) -> None:
    """In one line."""
    with pytest.raises(RefusedError, match="this is no certificate"):
        load_certificate(octets)


@pytest.mark.req("R-4-6", "R-6-1-1-4")
def test_our_request_is_one_that_others_read() -> None:
    """PKCS #10 with our name and key, signed by it, and the SubjectKeyIdentifier that we use."""
    request = x509.load_der_x509_csr(signed_request(OWN.subject, CA.signer))
    assert request.is_signature_valid
    assert (request.subject, request.public_key()) == (OWN.subject, OWN.public_key())
    asked = request.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert asked == OWN.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)


@pytest.mark.req("R-7-1-2")
def test_a_request_says_how_its_ca_names_its_key() -> None:
    """Else a path would be lost: RFC 5280, section 4.2.1.2."""
    named = x509.SubjectKeyIdentifier(b"my own way of naming")
    builder = x509.CertificateSigningRequestBuilder().subject_name(OTHER).add_extension(named, critical=False)
    request = builder.sign(rsa_key("bridge"), hashes.SHA256())
    assert cross_request(request.public_bytes(Encoding.PEM)).key_identifier == b"my own way of naming"


@pytest.mark.req("R-6-1-1-5")
@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP521R1())], ids=["RSA-1024", "P-521"]
)
def test_a_weak_or_strange_key_is_refused(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    """Before anything is recorded."""
    request = x509.CertificateSigningRequestBuilder().subject_name(OTHER).sign(key, hashes.SHA256())
    with pytest.raises(RefusedError, match="too weak"):
        cross_request(request.public_bytes(Encoding.DER))
