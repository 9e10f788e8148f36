"""A list from entries that exist already: TBSCertList joined, signed once, never copied entry by entry.

pyca encodes everything around the entries; they are spliced in, and a list without entries leaves revokedCertificates
out (RFC 5280, section 5.1.2.6).
"""

from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from issuer.profiles.profile import Issuer
from pkix import der
from pkix.signing import Signer, algorithm_identifier, sign, tbs_cert_list
from pkix.validity import UpdateWindow

NEXT_CRL_PUBLISH = ObjectIdentifier("1.3.6.1.4.1.311.21.4")


@dataclass(frozen=True, slots=True)
class ListOrder:
    """One list to be made: of a partition, with the number reserved for it."""

    idp: bytes  # DER of IssuingDistributionPoint, as it was fixed with the partition
    crl_number: int
    window: UpdateWindow
    entries: tuple[bytes, ...]  # DER of the revokedCertificates elements by serial number, joined to blocks


def to_be_signed(issuer: Issuer, order: ListOrder) -> tuple[bytes, ...]:
    """TBSCertList (RFC 5280, section 5.1.2) in pieces: the entries are not copied."""
    before, after = _around_entries(issuer, order)
    revoked = (der.header(der.SEQUENCE, sum(map(len, order.entries))), *order.entries) if order.entries else ()
    length = sum(map(len, (before, *revoked, after)))
    return der.header(der.SEQUENCE, length), before, *revoked, after


def certificate_list(issuer: Issuer, order: ListOrder, signer: Signer) -> bytes:
    """The signed list, DER.

    Raises:
        SigningError: the key cannot be used now.
    """
    pieces = to_be_signed(issuer, order)
    tail = algorithm_identifier(signer.public_key) + der.bit_string(sign(signer, *pieces))
    length = sum(map(len, pieces)) + len(tail)
    return b"".join((der.header(der.SEQUENCE, length), *pieces, tail))


def _around_entries(issuer: Issuer, order: ListOrder) -> tuple[bytes, bytes]:
    """What stands before revokedCertificates, and the extensions behind it."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(order.window.this_update)
        .next_update(order.window.next_update)
        .add_extension(issuer.key_alone, critical=False)
        .add_extension(x509.CRLNumber(order.crl_number), critical=False)
        .add_extension(x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.28"), order.idp), critical=True)
        .add_extension(
            x509.UnrecognizedExtension(NEXT_CRL_PUBLISH, der.time(order.window.next_publish)), critical=False
        )
    )
    *before, extensions = der.elements(der.contents(tbs_cert_list(builder)))
    return b"".join(before), extensions
