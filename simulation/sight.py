"""What is seen at a moment: the database, the directory as a relying party reads it, the responder's answers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from issuer.profiles.authority import Kind
from pkix.revocation import CertStatus, Revoked
from pkix.validity import Validity

SERVING_STATES = frozenset({"active", "retired"})  # of keys whose certificates are still answered for


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the CA, as the database has it."""

    generation_id: int
    number: int
    state: str
    validity: Validity  # of its self-signed certificate
    signs: Validity  # when it is used for certificates


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, as the database has it."""

    serial: int
    generation_id: int
    kind: Kind
    label: str  # of the list that would tell of its revocation
    validity: Validity
    issued_at: datetime
    received_at: datetime | None = None  # when the reception of its revocation ended
    revoked: Revoked | None = None


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A CRL or the ARL, taken out of the directory."""

    label: str  # code of a municipality, `ca` or `operations`
    crl_number: int
    window: Validity  # thisUpdate, nextUpdate
    idp: bytes  # DER of IssuingDistributionPoint
    signer: int | None  # generation whose key verifies it; None: nobody's
    entries: Mapping[int, Revoked]
    is_restricted: bool  # hidden from whoever has no right to it


@dataclass(frozen=True, slots=True)
class CrossPair:
    """A pair of cross certificates in the directory."""

    ours: int  # serial number of the certificate for the other CA
    theirs_ends: datetime  # what the other CA issued to this one
    certified: int | None  # generation whose key it is of; None: none of ours


@dataclass(frozen=True, slots=True)
class Told:
    """What the responder said of one certificate, in an answer that verifies."""

    serial: int
    generation_id: int  # that was named as the issuer
    status: CertStatus
    window: Validity  # thisUpdate, nextUpdate
    delegate: int  # serial number of the certificate of who signed
    signer: int | None  # generation that certified him; None: none of ours


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer without a signature."""

    generation_id: int  # that was named as the issuer
    status: str  # OCSPResponseStatus


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything at one moment."""

    at: datetime
    cut_off: datetime  # of the publication in force
    keys: Mapping[int, Key]  # by generation_id
    certificates: Mapping[int, Certificate]  # by serial number: all that have not long expired
    lists: Mapping[str, RevocationList]  # by label
    published: frozenset[int]  # generations whose own certificates are in the directory
    linked: frozenset[tuple[int, int]]  # generations: the second one's key is certified by the first, in the directory
    pairs: tuple[CrossPair, ...]
    told: tuple[Told, ...]
    refusals: tuple[Refusal, ...]

    def spoken_for(self) -> set[int]:
        """Generations that have a delegate now."""
        return spoken_for(self.certificates.values(), self.at)

    def valid(self) -> Iterator[Certificate]:
        """Those that have not expired, revoked or not."""
        return (one for one in self.certificates.values() if one.validity.not_after >= self.at)


def spoken_for(certificates: Iterable[Certificate], at: datetime) -> set[int]:
    """Generations that have a delegate at a moment: certified by the same key, and not revoked."""
    return {
        one.generation_id
        for one in certificates
        if one.kind is Kind.OCSP and one.revoked is None and at in one.validity
    }
