"""Finished lists are read strictly: every octet counts, and nothing is read that was not written so."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from issuer.profiles.crl import ListOrder, certificate_list
from issuer.profiles.profile import MAX_SERIAL, MIN_SERIAL
from issuer.profiles.scan import ScanError, Scanned, revocations, scan, take_apart
from pkix.distribution import Scope, issuing_distribution_point
from pkix.revocation import CRLReason, Revoked, revoked_entry
from pkix.validity import UpdateWindow
from tests.support.ca import NOW, software_ca

CA = software_ca()
IDP = issuing_distribution_point(CA.issuer.authority.name, Scope.USER).public_bytes()
WINDOW = UpdateWindow.starting(NOW, period=timedelta(hours=24), validity=timedelta(hours=72))
STATUS = Revoked(NOW, CRLReason.SUPERSEDED)
PLAIN = revoked_entry(MIN_SERIAL + 5, STATUS)
BEFORE = revoked_entry(MIN_SERIAL + 4, STATUS)
FULL = revoked_entry(MIN_SERIAL + 5, Revoked(datetime(2050, 1, 1, tzinfo=UTC), CRLReason.KEY_COMPROMISE, NOW))

SECONDS = st.integers(0, 99 * 366 * 86_400).map(lambda s: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
STATUSES = st.builds(Revoked, SECONDS, st.sampled_from(CRLReason), st.none() | SECONDS)
REVOKED = st.dictionaries(st.integers(MIN_SERIAL, MAX_SERIAL), STATUSES)


def list_with(*blocks: bytes) -> bytes:
    return certificate_list(CA.issuer, ListOrder(IDP, 7, WINDOW, blocks), CA.signer)


@given(REVOKED, st.integers(1, 5))
def test_entries_are_read_as_they_were_written(revoked: dict[int, Revoked], size: int) -> None:
    """With any dates and reasons, with and without invalidityDate, cut into blocks of any size."""
    entries = [revoked_entry(serial, status) for serial, status in sorted(revoked.items())]
    blocks = [b"".join(entries[start : start + size]) for start in range(0, len(entries), size)]
    assert scan(blocks) == Scanned(len(revoked), max(revoked, default=0))
    assert dict(revocations(b"".join(blocks))) == revoked


@given(st.integers(0, len(PLAIN) - 1), st.integers(0, 255), st.sampled_from([PLAIN, FULL]))
def test_a_changed_octet_is_found_or_changes_what_is_read(position: int, octet: int, entry: bytes) -> None:
    """What is accepted is what the encoder makes of what was read: there is one way to write an entry."""
    changed = entry[:position] + bytes((octet,)) + entry[position + 1 :]
    try:
        ((serial, status),) = revocations(changed)
    except ValueError:  # no entry, or no date of the calendar
        return
    assert scan([BEFORE + changed] if serial > MIN_SERIAL + 4 else [changed]).last == serial
    assert revoked_entry(serial, status) == changed


BROKEN = {
    "no reason": PLAIN[:1] + bytes((PLAIN[1] - 14,)) + PLAIN[2:27],
    "reason 0, unspecified": PLAIN[:-1] + b"\x00",
    "reason 6, certificateHold": PLAIN[:-1] + b"\x06",
    "reason 8, removeFromCRL": PLAIN[:-1] + b"\x08",
    "reason 9, privilegeWithdrawn": PLAIN[:-1] + b"\x09",
    "another extension": PLAIN.replace(b"\x55\x1d\x15", b"\x55\x1d\x18"),
    "a critical reason": PLAIN.replace(b"\x04\x03\x0a", b"\x01\x03\x0a"),
    "a serial number of 7 octets": PLAIN[:1] + b"\x26\x02\x07" + PLAIN[5:],
    "a negative serial number": PLAIN[:4] + b"\x80" + PLAIN[5:],
    "a small serial number": PLAIN[:4] + b"\x3f" + PLAIN[5:],
    "letters in the date": PLAIN.replace(b"260401", b"26o401"),
    "a date without Z": PLAIN.replace(b"Z", b"0"),
    "a wrong length": PLAIN[:1] + b"\x28" + PLAIN[2:],
    "a long form of the length": PLAIN[:1] + b"\x81" + PLAIN[1:],
    "cut short": PLAIN[:-1],
    "an octet too many": PLAIN + b"\x00",
    "NULL behind it": PLAIN + b"\x05\x00",
    "invalidityDate without room for it": PLAIN + FULL[-26:],
}


@pytest.mark.req("R-4-4-4-2-2", "R-4-4-5")
@pytest.mark.parametrize("wrong", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("around", [(b"", b""), (BEFORE, b""), (b"", FULL)], ids=["alone", "behind one", "before one"])
def test_an_entry_that_is_not_ours_is_found_where_it_stands(wrong: bytes, around: tuple[bytes, bytes]) -> None:
    """Without a reason, with one that the rule does not have, or in other octets."""
    before, behind = around
    place = len(before) + (len(PLAIN) if wrong.startswith(PLAIN) else 0)
    for read in (lambda entries: scan([entries]), lambda entries: list(revocations(entries))):
        with pytest.raises(ScanError, match=rf"at octet {place} stands no entry"):
            read(before + wrong + behind)


@pytest.mark.parametrize(
    "order",
    [[5, 5], [6, 5], [4, 5, 6, 5], [4, 5, 7, 6, 8]],
    ids=["twice", "falling", "twice with others between", "two exchanged"],
)
@pytest.mark.parametrize("size", [1, 2, 9], ids=lambda size: f"blocks of {size}")
def test_serial_numbers_that_do_not_rise_are_found(order: list[int], size: int) -> None:
    """Inside a block and from one to the next."""
    entries = [revoked_entry(MIN_SERIAL + number, STATUS) for number in order]
    fall = next(high for low, high in pairwise(order) if high <= low)
    with pytest.raises(ScanError, match=f"{MIN_SERIAL + fall:016X} is not above"):
        scan([b"".join(entries[start : start + size]) for start in range(0, len(entries), size)])


@pytest.mark.parametrize("blocks", [(), (BEFORE,), (BEFORE, FULL)], ids=["no entry", "one", "two blocks"])
def test_a_list_is_taken_apart_without_being_read(blocks: tuple[bytes, ...]) -> None:
    """Its entries, its signature, and the rest as a list that any parser reads."""
    octets = list_with(*blocks)
    parts, whole = take_apart(octets), x509.load_der_x509_crl(octets)
    assert parts.entries.tobytes() == b"".join(blocks)
    assert parts.to_be_signed.tobytes() == whole.tbs_certlist_bytes
    assert parts.signature == whole.signature
    rest = x509.load_der_x509_crl(parts.without_entries)
    assert len(rest) == 0
    assert (list(rest.extensions), rest.next_update_utc) == (list(whole.extensions), whole.next_update_utc)


@pytest.mark.parametrize(
    "change",
    [
        lambda octets: octets[:-1],
        lambda octets: octets + b"\x00",
        lambda octets: b"",
        lambda octets: b"\x30\x00",
        lambda octets: b"\x30\x80" + octets[4:] + b"\x00\x00",
        lambda octets: CA.generation.certificate,
    ],
    ids=["cut short", "an octet too many", "nothing", "an empty SEQUENCE", "indefinite length", "a certificate"],
)
def test_what_is_no_list_is_refused(change: Callable[[bytes], bytes]) -> None:
    """Whole DER or nothing."""
    with pytest.raises(ScanError, match="no CertificateList"):
        take_apart(change(list_with(BEFORE)))
