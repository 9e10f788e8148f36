"""What is wrong with a list that was published, if anything: held against its record, its predecessor, the database.

A finding is a sentence about the list.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from issuer.profiles.crl import ListOrder
from issuer.profiles.lint import LintError, check_list, check_signature
from issuer.profiles.profile import Issuer
from issuer.profiles.scan import ScanError, revocations, scan, take_apart
from issuer.records.list_store import KeptList
from pkix.revocation import Revoked
from pkix.signing import PublicKey
from pkix.validity import zulu

MAX_NAMED: Final = 3  # serial numbers in one finding


def check_octets(kept: KeptList, octets: bytes, issuers: Mapping[int, Issuer]) -> Iterator[str]:
    """Hold a list against what was recorded of it, and against the keys of the CA.

    Args:
        kept: its record.
        octets: the list.
        issuers: every key of the CA, by number.
    """
    if sha256(octets).digest() != kept.sha256:
        yield "its SHA-256 is not the recorded one"
    try:
        parts = take_apart(octets)
        entries = parts.entries.tobytes()
        found = scan([entries])
        number, issuer = _issuer(x509.load_der_x509_crl(parts.without_entries), issuers)
        check_signature(octets, cast("PublicKey", issuer.certificate.public_key()))
        check_list(octets, ListOrder(kept.idp, kept.crl_number, kept.publication.window, (entries,)), issuer)
    except (ScanError, LintError) as e:
        yield str(e)
        return
    if number != kept.generation:
        yield f"the CA's key {number} signed it, and key {kept.generation} is recorded"
    if found.count != kept.entries:
        yield f"it has {found.count} entries, and {kept.entries} are recorded"
    certificate = issuer.certificate
    if not certificate.not_valid_before_utc <= kept.publication.window.this_update <= certificate.not_valid_after_utc:
        yield "the certificate of its key was not valid at its thisUpdate"


def check_issuer(certificate: x509.Certificate) -> None:
    """The end of the chain: a certificate of the CA is signed by its own key.

    Raises:
        LintError: it is not.
    """
    check_signature(certificate.public_bytes(Encoding.DER), cast("PublicKey", certificate.public_key()))


def check_succession(before: KeptList, kept: KeptList, *, may_go_back: bool = False) -> Iterator[str]:
    """Hold a list against the one that it followed: CRLNumber rises, time goes on, no gap (R-4-4-9-1, R-7-2-1).

    Args:
        before: that one.
        kept: the list.
        may_go_back: a person has said that the clock of the list before was ahead.
    """
    window, earlier = kept.publication.window, before.publication.window
    if kept.crl_number <= before.crl_number:
        yield f"its CRLNumber is not above {before.crl_number}, of the list before it"
    if window.this_update < earlier.this_update and not may_go_back:
        yield f"its thisUpdate is before {zulu(earlier.this_update)}, of the list before it"
    if kept.published_at > earlier.next_update:
        yield f"the list before it ended at {zulu(earlier.next_update)}, and it came at {zulu(kept.published_at)}"


def check_entries(octets: bytes, due: Sequence[bytes], decided_by: datetime) -> Iterator[str]:
    """Hold the entries of a list against those that belong there as the database has them.

    Args:
        octets: a list that `check_octets` found sound.
        due: those entries by serial number, joined to blocks.
        decided_by: what was revoked later may be missing: it came into the database after the list was made.
    """
    entries = take_apart(octets).entries
    if _is_joined(entries, due):
        return
    listed = dict(revocations(entries.tobytes()))
    expected = {serial: status for block in due for serial, status in revocations(block)}
    yield from _named("entries that the database does not have there", listed.keys() - expected.keys())
    yield from _named("entries that the database has otherwise", _different(listed, expected))
    missing = [serial for serial in expected.keys() - listed.keys() if expected[serial].at <= decided_by]
    yield from _named("missing entries", missing)


def check_statuses(listed: Mapping[int, Revoked], told: Mapping[int, Revoked | None]) -> Iterator[str]:
    """Hold entries against what a responder says of them; None is that it does not say revoked."""
    good = [serial for serial in listed if told.get(serial) is None]
    yield from _named("entries that are not revoked as OCSP tells", good)
    # An answer does not tell invalidityDate.
    plain = {serial: replace(status, invalidity_date=None) for serial, status in listed.items()}
    yield from _named("entries that have another time or reason as OCSP tells", _different(plain, told))


def _issuer(crl: x509.CertificateRevocationList, issuers: Mapping[int, Issuer]) -> tuple[int, Issuer]:
    identifier = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    for number, issuer in issuers.items():
        if issuer.authority_key_identifier.key_identifier == identifier:
            return number, issuer
    raise LintError("it names a key that is none of this CA")


def _is_joined(entries: memoryview, blocks: Sequence[bytes]) -> bool:
    at = 0
    for block in blocks:
        if entries[at : at + len(block)] != block:
            return False
        at += len(block)
    return at == len(entries)


def _different(one: Mapping[int, Revoked], other: Mapping[int, Revoked | None]) -> list[int]:
    return [serial for serial, status in one.items() if other.get(serial) not in {None, status}]


def _named(what: str, serials: Collection[int]) -> Iterator[str]:
    if serials:
        names = ", ".join(f"{serial:016X}" for serial in sorted(serials)[:MAX_NAMED])
        yield f"{what} ({len(serials)}): {names}{', …' if len(serials) > MAX_NAMED else ''}"
