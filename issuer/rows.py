"""What goes into the database and comes out of it, as frozen values."""

from dataclasses import dataclass
from datetime import datetime

from issuer.authority import Kind
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
class PartitionRow:
    """A partition as it was fixed when the authority was set up."""

    partition_id: int
    kind: str
    code: str | None
    entry_dn: str
    attribute: str
    idp: bytes


@dataclass(frozen=True, slots=True)
class NewCertificate:
    """A certificate that was signed and checked, to be recorded."""

    serial: int
    generation_id: int
    partition_id: int
    kind: Kind
    validity: Validity
    spki: bytes
    der: bytes


@dataclass(frozen=True, slots=True)
class NewHolder:
    """Who holds a resident's certificate: 基本4情報."""

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


@dataclass(frozen=True, slots=True)
class PublishedList:
    """A list in force."""

    kind: str
    code: str | None
    crl_number: int
    entries: int
    value: bytes
