"""What goes into the database and comes out of it, as frozen values."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer.profiles.authority import Kind
from issuer.profiles.generation import State
from pkix.revocation import Revoked
from pkix.validity import UpdateWindow, Validity


@dataclass(frozen=True, slots=True)
class Generation:
    """One key of an authority."""

    generation_id: int
    authority_id: int
    number: int
    key_reference: str
    certificate: bytes  # DER, self-signed
    signs_until: datetime


@dataclass(frozen=True, slots=True)
class KeyRow:
    """What is recorded of a key of an authority, whatever has become of it."""

    generation: Generation
    state: State
    signs_from: datetime  # when the key was made
    not_after: datetime  # of its self-signed certificate
    residents_until: datetime | None  # the last resident's certificate that it signed ends; None: none lives


@dataclass(frozen=True, slots=True)
class SelfIssued:
    """A self-signed or link certificate."""

    generation: int  # number of the key that signed it
    certificate: bytes  # DER


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """A partition as it was fixed when the authority was set up."""

    partition_id: int
    kind: str
    code: str | None
    entry_dn: str
    attribute: str
    idp: bytes


class NewCertificate(NamedTuple):
    """A certificate that was signed and checked, to be recorded. A tuple, because there are millions."""

    serial: int
    generation_id: int
    partition_id: int
    kind: Kind
    validity: Validity
    spki_sha256: bytes
    der: bytes


class NewHolder(NamedTuple):
    """Who holds a resident's certificate: 基本4情報. The names are those of the columns."""

    serial: int
    notice_id: bytes
    person: bytes
    notice_number: str | None
    common_name: str
    date_of_birth: str
    gender: str
    address: str


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """A certificate and its status."""

    serial: int
    partition_id: int
    kind: Kind
    not_after: datetime
    der: bytes
    revoked: Revoked | None


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A certificate, with what tells where it came from and what became of it."""

    certificate: CertificateRow
    issued_at: datetime
    municipality: str | None  # code; None: it is no resident's
    notice_number: str | None
    received_at: datetime | None  # when the reception of the request for its revocation ended


@dataclass(frozen=True, slots=True)
class DelegateRow:
    """An OCSP delegate."""

    generation: int  # number of the CA's key that signed it
    not_before: datetime
    certificate: CertificateRow


@dataclass(frozen=True, slots=True)
class NewRevocation:
    """A revocation to be recorded, with its entry ready for the list."""

    serial: int
    partition_id: int
    received_at: datetime
    status: Revoked
    not_after: datetime
    entry: bytes


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication that is or was in force."""

    publication_id: int
    cut_off: datetime
    window: UpdateWindow


@dataclass(frozen=True, slots=True)
class NewObject:
    """One value of the repository: a list (with its partition and number) or a certificate."""

    entry_dn: str
    attribute: str
    value: bytes
    public: bool
    partition_id: int | None = None
    crl_number: int | None = None
    entries: int | None = None
    generation: int | None = None  # number of the CA's key that signed it


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries that belong on a list, as the database has them."""

    blocks: tuple[bytes, ...]  # DER of revokedCertificates elements by serial number, joined
    count: int
    last: int | None  # serial number of the last one
    # Of those that belong there no more: the latest expiry and the latest reception.
    left_out_expiry: datetime | None
    left_out_received: datetime | None


@dataclass(frozen=True, slots=True)
class PublishedList:
    """A list of a publication, without its octets."""

    partition_id: int
    kind: str
    code: str | None  # of a municipality
    crl_number: int
    entries: int
    size: int  # octets
    generation: int  # number of the CA's key that signed it


def new_certificate(der: bytes, generation_id: int, partition_id: int, kind: Kind) -> NewCertificate:
    """What is recorded of a certificate that was just made."""
    certificate = x509.load_der_x509_certificate(der)
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return NewCertificate(
        certificate.serial_number,
        generation_id,
        partition_id,
        kind,
        Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc),
        sha256(spki).digest(),
        der,
    )
