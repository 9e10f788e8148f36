"""What is found wrong with lists that were published."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256

import pytest

from issuer.lists.list_check import check_entries, check_octets, check_statuses, check_succession
from issuer.profiles.authority import Partition
from issuer.profiles.crl import ListOrder, certificate_list
from issuer.profiles.profile import MIN_SERIAL
from issuer.records.list_store import KeptList
from issuer.records.rows import Publication
from pkix.distribution import issuing_distribution_point
from pkix.revocation import CRLReason, Revoked, revoked_entry
from pkix.validity import UpdateWindow
from tests.support.ca import NOW, software_ca

CA = software_ca()
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
CHIYODA, CHUO = CA.issuer.authority.partitions()[2:4]
STATUS = Revoked(NOW - DAY, CRLReason.SUPERSEDED)
LATE = Revoked(NOW, CRLReason.SUPERSEDED)


def entry(number: int, status: Revoked = STATUS) -> bytes:
    return revoked_entry(MIN_SERIAL + number, status)


ENTRIES = entry(1) + entry(2) + entry(3, Revoked(NOW - DAY, CRLReason.KEY_COMPROMISE, NOW - 2 * DAY))


def idp(partition: Partition) -> bytes:
    return issuing_distribution_point(partition.point, partition.scope).public_bytes()


def made(entries: bytes = ENTRIES, at: datetime = NOW) -> tuple[KeptList, bytes]:
    """List 5 of Chiyoda-ku, and its record."""
    window = UpdateWindow.starting(at, period=DAY, validity=3 * DAY)
    octets = certificate_list(CA.issuer, ListOrder(idp(CHIYODA), 5, window, (entries,) if entries else ()), CA.signer)
    publication = Publication(7, at, window)
    count = entries.count(b"\x02\x08\x40")
    kept = KeptList(publication, at, 3, "131016", idp(CHIYODA), 5, count, len(octets), sha256(octets).digest())
    return kept, octets


Alteration = Callable[[KeptList, bytes], tuple[KeptList, bytes]]

ALTERATIONS: dict[str, tuple[Alteration, list[str]]] = {
    "nothing": (lambda kept, octets: (kept, octets), []),
    "no entries": (lambda kept, octets: made(b""), []),
    "digest": (lambda kept, octets: (replace(kept, sha256=bytes(32)), octets), ["its SHA-256 is not the recorded one"]),
    "count": (lambda kept, octets: (replace(kept, entries=2), octets), ["it has 3 entries, and 2 are recorded"]),
    "number": (lambda kept, octets: (replace(kept, crl_number=6), octets), ["its CRLNumber differs"]),
    "place": (lambda kept, octets: (replace(kept, idp=idp(CHUO)), octets), ["its IssuingDistributionPoint moved"]),
    "key": (
        lambda kept, octets: (replace(kept, generation=2), octets),
        ["the CA's key 1 signed it, and key 2 is recorded"],
    ),
    "date": (
        lambda kept, octets: (
            replace(kept, publication=replace(kept.publication, window=made(at=NOW + DAY)[0].publication.window)),
            octets,
        ),
        ["its thisUpdate differs"],
    ),
    "before its key": (
        lambda kept, octets: made(at=NOW - DAY),
        ["the certificate of its key was not valid at its thisUpdate"],
    ),
    "order": (
        lambda kept, octets: made(entry(2) + entry(1)),
        ["the serial number 4000000000000001 is not above the one before it"],
    ),
    "signature": (
        lambda kept, octets: (kept, octets[:-1] + bytes((octets[-1] ^ 1,))),
        [
            "its SHA-256 is not the recorded one",
            "its signature does not verify with the issuer's public key; "
            "check that key and certificate belong together",
        ],
    ),
}


@pytest.mark.req("R-4-12-2-3", "R-7-2-1")
@pytest.mark.parametrize(("alter", "findings"), ALTERATIONS.values(), ids=ALTERATIONS)
def test_a_list_is_held_against_its_record_and_its_key(alter: Alteration, findings: list[str]) -> None:
    """Nothing is found of a sound one."""
    assert list(check_octets(*alter(*made()), {1: CA.issuer})) == findings


def test_a_list_of_another_ca_is_found() -> None:
    """Its key is none of ours."""
    assert list(check_octets(*made(), {})) == ["it names a key that is none of this CA"]


def test_what_is_no_list_is_found() -> None:
    """Whatever it is."""
    kept, _ = made()
    found = list(check_octets(replace(kept, sha256=sha256(b"\x30\x00").digest()), b"\x30\x00", {1: CA.issuer}))
    assert len(found) == 1
    assert found[0].startswith("it is no CertificateList")


SUCCESSIONS: dict[str, tuple[timedelta, int, list[str]]] = {
    "the next day": (DAY, 6, []),
    "an emergency in the same second": (timedelta(), 6, []),
    "a number was left out": (DAY, 9, []),
    "in the last second": (3 * DAY, 6, []),
    "number": (DAY, 5, ["its CRLNumber is not above 5, of the list before it"]),
    "time": (-SECOND, 6, ["its thisUpdate is before 2026-04-01T03:00:00Z, of the list before it"]),
    "gap": (
        3 * DAY + SECOND,
        6,
        ["the list before it ended at 2026-04-04T03:00:00Z, and it came at 2026-04-04T03:00:01Z"],
    ),
}


@pytest.mark.req("R-4-4-9-1", "R-7-2-1")
@pytest.mark.parametrize(("after", "number", "findings"), SUCCESSIONS.values(), ids=SUCCESSIONS)
def test_a_list_is_held_against_the_one_before_it(after: timedelta, number: int, findings: list[str]) -> None:
    """Numbers rise, time does not go back, and nobody was without a list."""
    before, _ = made(b"")
    kept = replace(made(b"", NOW + after)[0], crl_number=number)
    assert list(check_succession(before, kept)) == findings


DATABASES: dict[str, tuple[tuple[bytes, ...], list[str]]] = {
    "the same": ((ENTRIES,), []),
    "the same in blocks": ((entry(1), ENTRIES[len(entry(1)) :]), []),
    "one that came later": ((ENTRIES, entry(4, LATE)), []),
    "one more": ((ENTRIES, entry(4)), ["missing entries (1): 4000000000000004"]),
    "fewer": ((entry(1),), ["entries that the database does not have there (2): 4000000000000002, 4000000000000003"]),
    "another reason": (
        (entry(1, replace(STATUS, reason=CRLReason.KEY_COMPROMISE)), ENTRIES[len(entry(1)) :]),
        ["entries that the database has otherwise (1): 4000000000000001"],
    ),
    "many more": (
        (ENTRIES, *(entry(number) for number in range(4, 9))),
        ["missing entries (5): 4000000000000004, 4000000000000005, 4000000000000006, …"],
    ),
}


@pytest.mark.req("R-4-4-3-1", "R-4-4-2-4")
@pytest.mark.parametrize(("blocks", "findings"), DATABASES.values(), ids=DATABASES)
def test_entries_are_held_against_the_database(blocks: tuple[bytes, ...], findings: list[str]) -> None:
    """What came into it after the list was made may be missing."""
    _, octets = made()
    assert list(check_entries(octets, blocks, NOW - SECOND)) == findings


ANSWERS: dict[str, tuple[dict[int, Revoked | None], list[str]]] = {
    "the same, without invalidityDate": ({1: STATUS}, []),
    "not revoked": ({1: None}, ["entries that are not revoked as OCSP tells (1): 0000000000000001"]),
    "not told": ({}, ["entries that are not revoked as OCSP tells (1): 0000000000000001"]),
    "later": (
        {1: replace(STATUS, at=NOW)},
        ["entries that have another time or reason as OCSP tells (1): 0000000000000001"],
    ),
}


@pytest.mark.req("R-4-4-4-2-1")
@pytest.mark.parametrize(("told", "findings"), ANSWERS.values(), ids=ANSWERS)
def test_entries_are_held_against_ocsp(told: dict[int, Revoked | None], findings: list[str]) -> None:
    """Revoked, with the same time and reason."""
    assert list(check_statuses({1: replace(STATUS, invalidity_date=NOW)}, told)) == findings
