"""Revocation: for one of five reasons, at once, and for good."""

import asyncio
from datetime import datetime, timedelta

import asyncpg
import pytest
from cryptography import x509

from issuer.errors import RefusedError
from issuer.profiles.authority import Kind
from issuer.profiles.profile import MAX_SERIAL
from issuer.residents.revocation import (
    NotRevoked,
    RevocationOrder,
    RevokedNow,
    parse_moment,
    parse_reason,
    parse_serial,
    revoke,
)
from pkix.revocation import CRLReason
from tests.support.ca import NOW, FoundedCA

HOUR = timedelta(hours=1)


@pytest.mark.req("R-4-4-4-2-2", "R-7-2-1")
@pytest.mark.parametrize(
    ("number", "name"),
    [
        ("1", "keyCompromise"),
        ("2", "cACompromise"),
        ("3", "affiliationChanged"),
        ("4", "superseded"),
        ("5", "cessationOfOperation"),
    ],
)
def test_a_reason_has_a_number_and_a_name(number: str, name: str) -> None:
    """Either will do, in any case of letters."""
    assert parse_reason(number) is parse_reason(name) is parse_reason(name.upper()) is CRLReason(int(number))


@pytest.mark.req("R-4-4-5", "R-4-4-4-2-2")
@pytest.mark.parametrize(
    "reason", ["0", "6", "7", "8", "unspecified", "certificateHold", "hold", "removeFromCRL", "", "1 "]
)
def test_no_other_reason_is_accepted(reason: str) -> None:
    """No suspension, nothing unspecified; the message lists the five."""
    with pytest.raises(RefusedError, match=r"1 keyCompromise, 2 .* 5 cessationOfOperation"):
        parse_reason(reason)


@pytest.mark.parametrize(
    "written",
    [
        "5A00000000000001",
        "5a:00:00:00:00:00:00:01",
        "00:5a:00:00:00:00:00:00:01",
        "5a00 0000 0000 0001",
        "0x5a00000000000001",
        "0X5A00000000000001",
        "6485183463413514241",
    ],
)
def test_a_serial_number_may_be_written_as_programs_print_it(written: str) -> None:
    """As prefca does, or openssl, or a certificate viewer."""
    assert parse_serial(written) == 0x5A00000000000001


@pytest.mark.parametrize(
    "written",
    ["", "xyz", "-5", "+5", "5_A", "0x", "１２", "5A000000000000010", "0x5A00000000000000010", "1" * 20, "F" * 40],
    ids=lambda text: text or "nothing",
)
def test_what_is_no_serial_number_is_refused(written: str) -> None:
    """The message says how to write one."""
    with pytest.raises(RefusedError, match="hexadecimal"):
        parse_serial(written)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-04-01T03:00:00Z", NOW),
        ("2026-04-01T12:00:00+09:00", NOW),
        ("2026-04-01", NOW - 12 * HOUR),
    ],
)
def test_a_day_is_one_of_japan(written: str, moment: datetime) -> None:
    """Whoever died today is not said to have died in the future, before nine o'clock."""
    assert parse_moment(written) == moment


@pytest.mark.parametrize(
    "written", ["", "today", "2026-02-30", "2026-04-01T03:00:00", "0026-04-01", "0001-01-01", "20260401"]
)
def test_what_is_no_moment_is_refused(written: str) -> None:
    """So is a year of the antiquity: a slip, whose date no list could say."""
    with pytest.raises(RefusedError, match="write a day of Japan like 2026-04-01, or"):
        parse_moment(written)


@pytest.mark.req("R-2-1-2-7", "R-4-4-2-1", "R-4-4-4-2-1")
@pytest.mark.parametrize("reason", CRLReason)
async def test_a_revocation_is_known_at_once(reason: CRLReason, ca: FoundedCA) -> None:
    """The responder's view has it with its reason, and the change feed tells of it."""
    (issued,) = await ca.issue(1)
    outcomes = await ca.revoke(issued.serial, reason=reason, now=NOW + HOUR)
    assert [type(outcome) for outcome in outcomes] == [RevokedNow]
    status = "SELECT (reason, revoked_at) FROM certificate_status_v1 WHERE serial = $1"
    async with ca.database.connect("prefca_ocsp") as responder:
        assert await responder.fetchval(status, issued.serial) == (reason, NOW + HOUR)
        assert await responder.fetchval("SELECT key FROM change_v1 WHERE kind = 'revocation'") == issued.serial


@pytest.mark.req("R-4-11-2-1", "R-4-11-2-2")
async def test_every_revocation_is_recorded(ca: FoundedCA) -> None:
    """In the transaction of the act."""
    (issued,) = await ca.issue(1)
    await ca.revoke(issued.serial, reason=CRLReason.KEY_COMPROMISE)
    kinds = await ca.query("SELECT array_agg(kind) FROM operation_record WHERE object = $1", f"{issued.serial:016X}")
    assert kinds == ["certificate_issued", "certificate_revoked"]


@pytest.mark.req("R-4-4-2-4")
async def test_a_revocation_is_final(ca: FoundedCA) -> None:
    """A second one is refused and tells of the first; not even the database owner's SQL undoes it."""
    (issued,) = await ca.issue(1)
    await ca.revoke(issued.serial, reason=CRLReason.KEY_COMPROMISE)
    (second,) = await ca.revoke(issued.serial, reason=CRLReason.SUPERSEDED, now=NOW + HOUR)
    assert isinstance(second, NotRevoked)
    assert "2026-04-01T03:00:00Z (keyCompromise)" in second.message
    for statement in ("DELETE FROM revocation RETURNING 1", "UPDATE revocation SET reason = 5 RETURNING 1"):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="final"):
            await ca.query(statement)
    assert await ca.query("SELECT array_agg(reason) FROM revocation") == [CRLReason.KEY_COMPROMISE]


@pytest.mark.req("R-4-4-2-4")
async def test_two_revocations_at_once_are_one(ca: FoundedCA) -> None:
    """Whoever comes second hears of the first."""
    serials = [issued.serial for issued in await ca.issue(*range(20))]
    async with ca.another_process() as other:
        runs = await asyncio.gather(ca.revoke(*serials), other.revoke(*reversed(serials)))
    outcomes = [type(outcome) for run in runs for outcome in run]
    assert (outcomes.count(RevokedNow), outcomes.count(NotRevoked)) == (20, 20)
    assert await ca.query("SELECT count(*) FROM revocation") == 20


@pytest.mark.req("R-4-4-4-2-2")
async def test_an_order_may_have_very_many_numbers(ca: FoundedCA) -> None:
    """More than a server has single locks for."""
    (issued,) = await ca.issue(1)
    outcomes = await ca.revoke(*range(2**62, 2**62 + 30_000), issued.serial)
    assert [type(outcome) for outcome in outcomes] == [NotRevoked] * 30_000 + [RevokedNow]


@pytest.mark.req("R-2-1-3-3")
@pytest.mark.parametrize("serial", [0, 1, 2**62, MAX_SERIAL, MAX_SERIAL + 1, 2**64 - 1], ids=hex)
async def test_a_certificate_that_was_never_issued_cannot_be_revoked(serial: int, ca: FoundedCA) -> None:
    """Whatever the number; the others of the order are revoked all the same."""
    (issued,) = await ca.issue(1)
    unknown, known = await ca.revoke(serial, issued.serial)
    assert isinstance(unknown, NotRevoked)
    assert "never issued" in unknown.message
    assert isinstance(known, RevokedNow)


@pytest.mark.req("R-2-1-3-3")
async def test_an_expired_certificate_needs_no_revocation(ca: FoundedCA) -> None:
    """In its last second it can still be revoked."""
    first, second = await ca.issue(1, 2)
    end = x509.load_der_x509_certificate(first.certificate).not_valid_after_utc
    (at_the_end,) = await ca.revoke(first.serial, now=end)
    assert isinstance(at_the_end, RevokedNow)
    (after,) = await ca.revoke(second.serial, now=end + timedelta(seconds=1))
    assert isinstance(after, NotRevoked)
    assert "expired" in after.message


async def test_the_certificate_of_the_ca_cannot_be_revoked_like_others(ca: FoundedCA) -> None:
    """That is a matter of its key."""
    (outcome,) = await ca.revoke(ca.key.issuer.certificate.serial_number)
    assert isinstance(outcome, NotRevoked)
    assert "CA's own" in outcome.message


async def test_a_delegate_that_is_revoked_is_gone_from_the_responders_view(ca: FoundedCA) -> None:
    """The responder stops using it although its certificate has nocheck."""
    store, authority_id = ca.installation.store, ca.installation.authority_id
    (delegate,) = await store.newest_certificates(authority_id, Kind.OCSP, 1)
    (outcome,) = await ca.revoke(delegate.serial, reason=CRLReason.KEY_COMPROMISE)
    assert isinstance(outcome, RevokedNow)
    async with ca.database.connect("prefca_ocsp") as responder:
        assert await responder.fetchval("SELECT count(*) FROM ocsp_delegate_v1") == 0


@pytest.mark.parametrize(
    ("received_after", "invalid_after"), [(HOUR, None), (-HOUR, HOUR)], ids=["received", "invalidity date"]
)
async def test_nothing_comes_from_the_future(
    received_after: timedelta, invalid_after: timedelta | None, ca: FoundedCA
) -> None:
    """Neither the request nor the event that it tells of."""
    (issued,) = await ca.issue(1)
    invalidity_date = None if invalid_after is None else NOW + invalid_after
    order = RevocationOrder([issued.serial], CRLReason.SUPERSEDED, NOW + received_after, invalidity_date)
    with pytest.raises(RefusedError, match="future"):
        await revoke(ca.installation, order, NOW)
    assert await ca.query("SELECT count(*) FROM revocation") == 0


@pytest.mark.req("R-4-4-1-1")
async def test_an_event_before_the_request_is_the_invalidity_date(ca: FoundedCA) -> None:
    """A move or a death is known later; the revocation date is the time of processing."""
    (issued,) = await ca.issue(1)
    moved = NOW - 24 * HOUR
    order = RevocationOrder([issued.serial], CRLReason.AFFILIATION_CHANGED, NOW - HOUR, moved)
    await revoke(ca.installation, order, NOW)
    await ca.publish(NOW)
    (entry,) = (await ca.lists())["132217"]
    assert entry.revocation_date_utc == NOW
    assert entry.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc == moved
