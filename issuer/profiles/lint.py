"""What is refused before it is signed, and what is checked after: the profile, held against the finished octets.

To lint before signing, assemble with a dummy signature: the checks read octets, not builders.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from issuer.profiles.authority import Kind
from issuer.profiles.crl import NEXT_CRL_PUBLISH, ListOrder
from issuer.profiles.profile import MAX_SERIAL, MIN_SERIAL, Issuer, key_usage
from issuer.profiles.scan import ScanError, scan, take_apart
from pkix import der
from pkix.signing import PublicKey, verify
from pkix.validity import UpdateWindow

_EXTENSIONS: Final = {
    Kind.RESIDENT: [
        (ExtensionOID.KEY_USAGE, True),
        (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, False),
        (ExtensionOID.CERTIFICATE_POLICIES, True),
        (ExtensionOID.ISSUER_ALTERNATIVE_NAME, False),
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, False),
        (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False),
        (ExtensionOID.SUBJECT_KEY_IDENTIFIER, False),
    ],
    Kind.OCSP: [
        (ExtensionOID.KEY_USAGE, True),
        (ExtensionOID.EXTENDED_KEY_USAGE, False),
        (ExtensionOID.OCSP_NO_CHECK, False),
        (ExtensionOID.CERTIFICATE_POLICIES, True),
        (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False),
        (ExtensionOID.SUBJECT_KEY_IDENTIFIER, False),
    ],
    Kind.LINK: [
        (ExtensionOID.KEY_USAGE, True),
        (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, False),
        (ExtensionOID.CERTIFICATE_POLICIES, False),
        (ExtensionOID.BASIC_CONSTRAINTS, True),
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, False),
        (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False),
        (ExtensionOID.SUBJECT_KEY_IDENTIFIER, False),
    ],
    Kind.CVS: [
        (ExtensionOID.KEY_USAGE, True),
        (ExtensionOID.EXTENDED_KEY_USAGE, False),
        (ExtensionOID.CERTIFICATE_POLICIES, True),
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, False),
        (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False),
        (ExtensionOID.SUBJECT_KEY_IDENTIFIER, False),
    ],
    Kind.CROSS: [
        (ExtensionOID.KEY_USAGE, True),
        (ExtensionOID.BASIC_CONSTRAINTS, True),
        (ExtensionOID.CERTIFICATE_POLICIES, True),
        (ExtensionOID.POLICY_MAPPINGS, False),
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, False),
        (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False),
        (ExtensionOID.SUBJECT_KEY_IDENTIFIER, False),
    ],
    Kind.SELF_SIGNED: [
        (ExtensionOID.KEY_USAGE, True),
        (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, False),
        (ExtensionOID.BASIC_CONSTRAINTS, True),
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, False),
        (ExtensionOID.SUBJECT_KEY_IDENTIFIER, False),
    ],
}
_MAY_BE_ABSENT: Final = {Kind.CROSS: (ExtensionOID.POLICY_MAPPINGS, False)}  # the other CA may use our policy
_LIST_EXTENSIONS: Final = [
    (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False),
    (ExtensionOID.CRL_NUMBER, False),
    (ExtensionOID.ISSUING_DISTRIBUTION_POINT, True),
    (NEXT_CRL_PUBLISH, False),
]
_ONLY_CA_CERTS: Final = b"\x82\x01\xff"  # onlyContainsCACerts, in the IssuingDistributionPoint of an ARL


class LintError(Exception):
    """What was about to be signed, or came back signed, breaks its profile. Nothing of it may leave."""


@dataclass(frozen=True, slots=True)
class Covered:
    """What the publication in force covers."""

    this_update: datetime
    cut_off: datetime


@dataclass(frozen=True, slots=True)
class ListRecord:
    """What the database says of a list that is to be made."""

    count: int
    certificate: bytes | None  # DER of the certificate of the last entry
    number_before: int  # CRLNumber of the list in force, 0 if there is none
    published: Covered | None
    # Of revocations that were on lists before and are not on this one: the latest expiry, the latest reception.
    left_out_expiry: datetime | None
    left_out_received: datetime | None


def check_certificate(octets: bytes, kind: Kind, issuer: Issuer | None) -> None:
    """Hold a certificate against its profile. `issuer` None: it is its own.

    Raises:
        LintError: naming the first thing that is wrong.
    """
    certificate = x509.load_der_x509_certificate(octets)
    _require(MIN_SERIAL <= certificate.serial_number <= MAX_SERIAL, "the serial number is not of 8 octets")
    _require(certificate.not_valid_before_utc < certificate.not_valid_after_utc, "it ends before it begins")
    found = [(extension.oid, extension.critical) for extension in certificate.extensions]
    expected = [each for each in _EXTENSIONS[kind] if each in found or each != _MAY_BE_ABSENT.get(kind)]
    _require(found == expected, f"its extensions are not those of a {kind} certificate, in their order")
    if issuer is None:
        _require(certificate.issuer == certificate.subject, "a self-signed certificate names another issuer")
        return
    _require(certificate.issuer.public_bytes() == issuer.certificate.subject.public_bytes(), "it names another issuer")
    # OldWithNew begins when the old key was made, which is before the certificate of the new one begins (R-7-1-4).
    begins_later = certificate.not_valid_before_utc >= issuer.certificate.not_valid_before_utc or kind is Kind.LINK
    _require(
        begins_later and certificate.not_valid_after_utc <= issuer.certificate.not_valid_after_utc,
        "it outlives its issuer's certificate; renew the key of the CA first",
    )
    if kind is Kind.CROSS:
        _check_cross(certificate, issuer)


def _check_cross(certificate: x509.Certificate, issuer: Issuer) -> None:
    """What a path through a cross certificate needs (RFC 5280, sections 3.2 and 6.1.4)."""
    _require(certificate.issuer != certificate.subject, "a cross certificate names its issuer as its subject")
    _require(certificate.public_key() != issuer.certificate.public_key(), "a cross certificate has its issuer's key")
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    _require(constraints == x509.BasicConstraints(ca=True, path_length=None), "a cross certificate is not for any CA")
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    _require(usage == key_usage(key_cert_sign=True, crl_sign=True), "a cross certificate is for other uses of its key")
    policies = certificate.extensions.get_extension_for_class(x509.CertificatePolicies).value
    asserted = [policy.policy_identifier.dotted_string for policy in policies]
    _require(asserted == [issuer.authority.policy(Kind.CROSS)], "a cross certificate is of another policy")


def check_link(octets: bytes, subject: x509.Certificate, old: x509.Certificate) -> None:
    """Hold a link certificate against the self-signed ones that it joins (R-7-1-4).

    Args:
        octets: DER of the link certificate.
        subject: the self-signed certificate of the key that it certifies.
        old: the self-signed certificate of the earlier of the two keys.

    Raises:
        LintError: naming the first thing that is wrong.
    """
    certificate = x509.load_der_x509_certificate(octets)
    _require(certificate.public_key() == subject.public_key(), "a link certificate has another key")
    _require(
        certificate.subject.public_bytes() == subject.subject.public_bytes(), "a link certificate has another name"
    )
    _require(certificate.not_valid_after_utc == old.not_valid_after_utc, "a link certificate ends on another day")
    found, own = (each.extensions.get_extension_for_class(x509.SubjectKeyIdentifier) for each in (certificate, subject))
    _require(found == own, "a link certificate has another SubjectKeyIdentifier")


def check_order(order: ListOrder, record: ListRecord) -> None:
    """Hold a list that is about to be signed against what the database says of it.

    Raises:
        LintError: naming the first thing that is wrong.
    """
    try:
        found = scan(order.entries)
    except ScanError as e:
        raise LintError(f"{e}; the table revocation was altered: restore it from the backup") from e
    _require(found.count == record.count, f"it has {found.count} entries, the database {record.count}")
    _require(order.crl_number > record.number_before, f"CRLNumber {order.crl_number} is not above the one before it")
    _check_dates(order.window, record.published)
    _check_left_out(record)
    if found.count > 0:
        _check_point(order.idp, record.certificate, found.last)


def _check_dates(window: UpdateWindow, published: Covered | None) -> None:
    _require(window.this_update < window.next_publish, "the next list would be due before this one is made")
    _require(window.next_publish < window.next_update, "its validity would end before the next list is due")
    if published is not None:
        _require(window.this_update >= published.this_update, "its thisUpdate is before that of the list in force")


def _check_left_out(record: ListRecord) -> None:
    """An entry stays until it was on a list issued after its certificate's expiry (RFC 5280, section 3.3)."""
    if record.left_out_expiry is None or record.left_out_received is None:
        return
    published = record.published
    _require(
        published is not None
        and record.left_out_expiry < published.this_update
        and record.left_out_received <= published.cut_off,
        "an entry would go before it was on a list issued after its certificate's expiry",
    )


def _check_point(idp: bytes, octets: bytes | None, serial: int) -> None:
    """A certificate on the list must find the list: RFC 5280, sections 5.2.5 and 6.3.3 (b)."""
    if octets is None:
        raise LintError(f"entry {serial:016X} is of no certificate of this CA")
    certificate = x509.load_der_x509_certificate(octets)
    name = f"the certificate of entry {serial:016X}"
    _require(certificate.serial_number == serial, f"{name} has another serial number")
    point, scope = der.elements(der.contents(idp))
    is_ca = certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    _require((scope == _ONLY_CA_CERTS) == is_ca, f"{name} is not of the kind that the list is about")
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return  # of an OCSP delegate
    _require(
        der.contents(points.public_bytes()) == der.sequence(point),
        f"{name} names another distribution point, in its CRLDistributionPoints",
    )


def check_list(octets: bytes, order: ListOrder, issuer: Issuer) -> None:
    """Hold a finished list against the order it was made from.

    Raises:
        LintError: naming the first thing that is wrong.
    """
    try:
        parts = take_apart(octets)
    except ScanError as e:
        raise LintError(str(e)) from e
    at = 0
    for block in order.entries:
        _require(parts.entries[at : at + len(block)].tobytes() == block, "its entries differ")
        at += len(block)
    _require(at == len(parts.entries), "its entries differ")
    crl = x509.load_der_x509_crl(parts.without_entries)
    _require(crl.issuer.public_bytes() == issuer.certificate.subject.public_bytes(), "it names another issuer")
    _require(crl.last_update_utc == order.window.this_update, "its thisUpdate differs")
    _require(crl.next_update_utc == order.window.next_update, "its nextUpdate differs")
    found = [(extension.oid, extension.critical) for extension in crl.extensions]
    _require(found == _LIST_EXTENSIONS, "its extensions are not those of a list, in their order")
    number, point = (crl.extensions.get_extension_for_oid(oid).value for oid, _ in _LIST_EXTENSIONS[1:3])
    _require(number == x509.CRLNumber(order.crl_number), "its CRLNumber differs")
    _require(point.public_bytes() == order.idp, "its IssuingDistributionPoint moved")


def check_signature(octets: bytes, key: PublicKey) -> None:
    """Verify the signature of a Certificate or CertificateList with the issuer's public key.

    Raises:
        LintError: it does not verify.
    """
    to_be_signed, _, signature = der.elements(der.contents(memoryview(octets)))
    _require(
        verify(key, der.contents(signature)[1:].tobytes(), [to_be_signed]),
        "its signature does not verify with the issuer's public key; check that key and certificate belong together",
    )


def _require(condition: bool, finding: str) -> None:  # noqa: FBT001 - a condition is what it is about
    if not condition:
        raise LintError(finding)
