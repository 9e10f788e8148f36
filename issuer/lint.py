"""What is refused before it is signed, and what is checked after: the profile, held against the finished octets.

To lint before signing, assemble with a dummy signature: the checks read octets, not builders.
"""

from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from issuer.authority import Kind
from issuer.crl import NEXT_CRL_PUBLISH, ListOrder
from issuer.profile import MAX_SERIAL, MIN_SERIAL, Issuer
from pkix import der
from pkix.signing import PublicKey, verify

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
    Kind.SELF_SIGNED: [
        (ExtensionOID.KEY_USAGE, True),
        (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, False),
        (ExtensionOID.BASIC_CONSTRAINTS, True),
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, False),
        (ExtensionOID.SUBJECT_KEY_IDENTIFIER, False),
    ],
}
_LIST_EXTENSIONS: Final = [
    (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False),
    (ExtensionOID.CRL_NUMBER, False),
    (ExtensionOID.ISSUING_DISTRIBUTION_POINT, True),
    (NEXT_CRL_PUBLISH, False),
]


class LintError(Exception):
    """What was about to be signed, or came back signed, breaks its profile. Nothing of it may leave."""


def check_certificate(octets: bytes, kind: Kind, issuer: Issuer | None) -> None:
    """Hold a certificate against its profile. `issuer` None: it is its own.

    Raises:
        LintError: naming the first thing that is wrong.
    """
    certificate = x509.load_der_x509_certificate(octets)
    _require(MIN_SERIAL <= certificate.serial_number <= MAX_SERIAL, "the serial number is not of 8 octets")
    _require(certificate.not_valid_before_utc < certificate.not_valid_after_utc, "it ends before it begins")
    found = [(extension.oid, extension.critical) for extension in certificate.extensions]
    _require(found == _EXTENSIONS[kind], f"its extensions are not those of a {kind} certificate, in their order")
    if issuer is None:
        _require(certificate.issuer == certificate.subject, "a self-signed certificate names another issuer")
        return
    _require(certificate.issuer.public_bytes() == issuer.certificate.subject.public_bytes(), "it names another issuer")
    _require(
        certificate.not_valid_before_utc >= issuer.certificate.not_valid_before_utc
        and certificate.not_valid_after_utc <= issuer.certificate.not_valid_after_utc,
        "it outlives its issuer's certificate; renew the key of the CA first",
    )


def check_list(octets: bytes, order: ListOrder, issuer: Issuer) -> None:
    """Hold a list against the order it was made from.

    Raises:
        LintError: naming the first thing that is wrong.
    """
    crl = x509.load_der_x509_crl(octets)
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
    to_be_signed, _, signature = der.elements(der.contents(octets))
    _require(
        verify(key, der.contents(signature)[1:], [to_be_signed]),
        "its signature does not verify with the issuer's public key; check that key and certificate belong together",
    )


def _require(condition: bool, finding: str) -> None:  # noqa: FBT001 - a condition is what it is about
    if not condition:
        raise LintError(finding)
