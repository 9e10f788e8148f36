"""The two halves of a cross-certification, held against each other, and CertificatePair made of them.

    CertificatePair ::= SEQUENCE {
        issuedToThisCA  [0] Certificate OPTIONAL,
        issuedByThisCA  [1] Certificate OPTIONAL }

The tags are explicit (X.509, clause 11.2.3; RFC 4523, section 2.5 and appendix). One value has both halves, of which
the issuer of each is the subject of the other, and each key verifies the other's signature (RFC 2587, section 3.2).
"""

from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

from issuer.errors import RefusedError
from issuer.profiles.certification_request import strong_key
from pkix import der
from pkix.policy import leads_to, mapped_policies

MAX_CERTIFICATE_OCTETS: Final = 65_536
HASHES: Final = frozenset({"sha256", "sha384", "sha512"})
_UNDERSTOOD: Final = frozenset({  # critical ones, that a path validation of RFC 5280 works with
    ExtensionOID.KEY_USAGE,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.CERTIFICATE_POLICIES,
    ExtensionOID.POLICY_MAPPINGS,
    ExtensionOID.POLICY_CONSTRAINTS,
    ExtensionOID.INHIBIT_ANY_POLICY,
    ExtensionOID.NAME_CONSTRAINTS,
})  # fmt: skip
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def certificate_pair(issued_to_this_ca: bytes, issued_by_this_ca: bytes) -> bytes:
    """CertificatePair, DER, of two certificates, DER.

    Raises:
        RefusedError: they are not halves of one pair.
    """
    check_halves(*map(x509.load_der_x509_certificate, (issued_to_this_ca, issued_by_this_ca)))
    return der.sequence(der.explicit(0, issued_to_this_ca), der.explicit(1, issued_by_this_ca))


def load_certificate(octets: bytes) -> x509.Certificate:
    """A certificate, from DER or PEM.

    Raises:
        RefusedError: it is none.
    """
    load = x509.load_pem_x509_certificate if b"-----BEGIN" in octets[:4096] else x509.load_der_x509_certificate
    try:
        certificate = load(octets)
        _ = certificate.public_key(), certificate.signature_hash_algorithm, mapped_policies(certificate)
    except (ValueError, UnsupportedAlgorithm) as e:
        raise RefusedError(f"this is no certificate ({e}); give the file that the other CA issued") from e
    return certificate


def end_of(certificate: bytes) -> datetime:
    """The last moment of a certificate, DER."""
    return x509.load_der_x509_certificate(certificate).not_valid_after_utc


def check_halves(issued_to_this_ca: x509.Certificate, issued_by_this_ca: x509.Certificate) -> None:
    """Hold the halves of a pair against each other, names, keys and signatures, both ways.

    Raises:
        RefusedError: naming the first thing that does not fit.
    """
    theirs, ours = issued_to_this_ca, issued_by_this_ca
    _require(theirs.issuer.public_bytes() == ours.subject.public_bytes(), "its issuer is not the CA that we certified")
    _require(
        theirs.subject.public_bytes() == ours.issuer.public_bytes(), "it names us otherwise than we name ourselves"
    )
    _require(_is_signed_by(theirs, ours), "its signature is not by the key that we certified")
    _require(_is_signed_by(ours, theirs), "its key is not the one that signed our certificate for the other CA")
    for certificate in (theirs, ours):
        _require(_is_ca(certificate), "a half of a pair is not for a CA: BasicConstraints or KeyUsage")
    _require(_follows(ours, theirs), "its SubjectKeyIdentifier is not the one that this CA uses in what it signs")
    _require(_follows(theirs, ours), "its AuthorityKeyIdentifier is not the key identifier in our certificate")


def check_issued_to_this_ca(
    theirs: x509.Certificate, ours: x509.Certificate, own: x509.Certificate, policy: str, now: datetime
) -> None:
    """What the other CA issued to us, before it is accepted (R-4-8-1).

    Args:
        theirs: its certificate.
        ours: what we issued to it.
        own: this CA's self-signed one, of the key that signs now.
        policy: of our residents' certificates.
        now: aware UTC.

    Raises:
        RefusedError: naming the first thing that is wrong, and what to do.
    """
    _require(theirs.public_key() == own.public_key(), "its key is not this CA's key that signs now")
    algorithm = theirs.signature_hash_algorithm
    _require(algorithm is not None and algorithm.name in HASHES, "its signature is not over SHA-256 or longer")
    check_halves(theirs, ours)
    _require(theirs.not_valid_after_utc > now, f"it expired at {theirs.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
    _require(theirs.not_valid_before_utc < theirs.not_valid_after_utc, "it ends before it begins")
    strong_key(ours.public_key())
    unknown = [each.oid.dotted_string for each in theirs.extensions if each.critical and each.oid not in _UNDERSTOOD]
    _require(not unknown, f"its extension {', '.join(unknown)} is critical and not one of RFC 5280, section 6")
    _require(leads_to(theirs, policy), f"no policy of it leads to ours, {policy}")


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):  # the latter: of another kind than the key
        return False
    return True


def _is_ca(certificate: x509.Certificate) -> bool:
    constraints, usage = _value(certificate, x509.BasicConstraints), _value(certificate, x509.KeyUsage)
    return constraints is not None and constraints.ca and (usage is None or (usage.key_cert_sign and usage.crl_sign))


def _follows(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Does what the issuer's key signs name its key as this certificate of it does? A path is found by that."""
    named, own = _value(certificate, x509.AuthorityKeyIdentifier), _value(issuer, x509.SubjectKeyIdentifier)
    if own is None:
        return False
    return named is None or named.key_identifier in {None, own.digest}


def _value(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _require(condition: object, finding: str) -> None:
    if not condition:
        raise RefusedError(f"the certificate is not accepted: {finding}; have the other CA issue another one")
