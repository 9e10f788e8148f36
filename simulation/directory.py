"""The directory as a relying party reads it: everything that is published, searched for and taken apart."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from issuer.records.rows import PartitionRow
from pkix import der
from pkix.revocation import CRLReason, Revoked
from pkix.validity import Validity
from repository import names
from repository.controls import NONE
from repository.dit import DIT
from repository.messages import Or, Present, Scope, SearchRequest
from repository.names import NameKey
from repository.search import Limits, find
from repository.snapshot import PublishedObject, build
from simulation.sight import CrossPair, RevocationList

LISTS: Final = ("certificateRevocationList", "authorityRevocationList")
CERTIFICATES: Final = "cACertificate"
PAIRS: Final = "crossCertificatePair"
_LIMITS: Final = Limits(entries=10_000, time_s=60, clock=lambda: 0.0)
_EVERYTHING: Final = SearchRequest(
    base_object="",
    scope=Scope.WHOLE_SUBTREE,
    size_limit=0,
    time_limit=0,
    types_only=False,
    filter=Or(tuple(Present(name) for name in (*LISTS, CERTIFICATES, PAIRS))),
    attributes=(),
)
_REASONS: Final = {reason.label: reason for reason in CRLReason}

Place = tuple[NameKey, str]  # an entry and the name of an attribute


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found."""

    lists: Mapping[str, RevocationList]  # by label
    published: frozenset[int]  # generations whose own certificates are there
    linked: frozenset[tuple[int, int]]  # generations: the first certified the key of the second
    pairs: tuple[CrossPair, ...]


class Searcher:
    """Reads the directory of one CA."""

    def __init__(self, partitions: Iterable[PartitionRow]) -> None:
        self._labels = {(names.parse(one.entry_dn).key, one.attribute): one.code or one.kind for one in partitions}

    def found(self, objects: Iterable[PublishedObject], issuers: Mapping[int, x509.Certificate]) -> Found:
        """What is in the directory, and who of the CA's keys signed it.

        Raises:
            ValueError: a list is nowhere where one belongs, or there twice.
        """
        dit = build(objects)
        public = {place for place, _ in _values(dit, may_read_restricted=False)}
        lists: dict[str, RevocationList] = {}
        certificates, pairs = [], []
        own = {_key(issuer): number for number, issuer in issuers.items()}
        for place, value in _values(dit, may_read_restricted=True):
            if place[1] == CERTIFICATES:
                certificates.append(x509.load_der_x509_certificate(value))
                continue
            if place[1] == PAIRS:
                pairs.append(_pair(value, own))
                continue
            label = self._labels.get(place)
            if label is None or label in lists:
                raise ValueError(f"a list that does not belong into the directory, or twice: {place} {label}")
            lists[label] = _list(label, value, issuers, is_restricted=place not in public)
        signed = [(_signer(one, issuers), own.get(_key(one))) for one in certificates]
        return Found(
            lists,
            frozenset(of for by, of in signed if of is not None and by == of),
            frozenset((by, of) for by, of in signed if by is not None and of is not None and by != of),
            tuple(pairs),
        )


def _values(dit: DIT, *, may_read_restricted: bool) -> Iterator[tuple[Place, bytes]]:
    found = find(dit, _EVERYTHING, NONE, may_read_restricted=may_read_restricted, limits=_LIMITS)
    for entry in found.entries:
        for attribute, values in entry.attributes(may_read_restricted=may_read_restricted).items():
            name = attribute.names[0]
            if name in {*LISTS, CERTIFICATES, PAIRS}:
                for value in values:
                    yield (entry.name.key, name), value


def _list(label: str, value: bytes, issuers: Mapping[int, x509.Certificate], *, is_restricted: bool) -> RevocationList:
    crl = x509.load_der_x509_crl(value)
    point = crl.extensions.get_extension_for_oid(ExtensionOID.ISSUING_DISTRIBUTION_POINT).value
    ends = crl.next_update_utc
    return RevocationList(
        label,
        crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
        Validity(crl.last_update_utc, crl.last_update_utc if ends is None else ends),
        point.public_bytes(),
        _list_signer(crl, issuers),
        {entry.serial_number: _revoked(entry) for entry in crl},
        is_restricted,
    )


def _pair(value: bytes, own: Mapping[bytes, int]) -> CrossPair:
    theirs, ours = (x509.load_der_x509_certificate(der.contents(half)) for half in der.elements(der.contents(value)))
    return CrossPair(ours.serial_number, theirs.not_valid_after_utc, own.get(_key(theirs)))


def _revoked(entry: x509.RevokedCertificate) -> Revoked:
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    return Revoked(entry.revocation_date_utc, _REASONS[reason.value])


def _list_signer(crl: x509.CertificateRevocationList, issuers: Mapping[int, x509.Certificate]) -> int | None:
    for number, issuer in reversed(list(issuers.items())):  # the newest keys sign most of them
        key = issuer.public_key()
        if crl.is_signature_valid(key):  # type: ignore[arg-type]
            return number
    return None


def _signer(certificate: x509.Certificate, issuers: Mapping[int, x509.Certificate]) -> int | None:
    for number, issuer in issuers.items():
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return number
    return None


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
