"""From a municipality's notices to certificates: what is issued, what is refused, and that both happen once."""

import asyncio
import base64
import os
from collections import Counter
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer.errors import RefusedError
from issuer.operations.act import Act
from issuer.records.rows import PartitionRow
from issuer.residents.clerks import OneClerk
from issuer.residents.lines import Refused
from issuer.residents.registration import Issued, Outcome
from issuer.residents.revocation import NotRevoked
from issuer.servers import delegate
from pkix.revocation import CRLReason
from tests.support.ca import NOW, FoundedCA, notice_line, public_key, rsa_key

BATCH_LINES = OneClerk.batch_lines


def codes(outcomes: list[Outcome]) -> list[str]:
    """Of each outcome its code, or how it was issued."""
    return [
        outcome.code if isinstance(outcome, Refused) else "issued before" if outcome.again else "issued"
        for outcome in outcomes
    ]


def key_field(number: int) -> str:
    """A public key as a notice has it."""
    return base64.b64encode(public_key(number)).decode()


@pytest.mark.req("R-2-1-2-1", "R-4-2-1", "R-1-1-2")
async def test_a_notice_becomes_a_certificate(ca: FoundedCA) -> None:
    """It is signed by the CA, of the notice's person and key, and recorded."""
    (issued,) = await ca.issue(1)
    certificate = x509.load_der_x509_certificate(issued.certificate)
    certificate.verify_directly_issued_by(ca.key.issuer.certificate)
    assert certificate.serial_number == issued.serial
    assert certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == public_key(1)
    assert issued.notice_number == "N-1"
    assert await ca.query("SELECT der FROM certificate WHERE serial = $1", issued.serial) == issued.certificate
    assert await ca.query("SELECT common_name FROM holder WHERE serial = $1", issued.serial) == "黒桐　幹也"


@pytest.mark.req("R-4-11-2-1", "R-4-11-2-2")
async def test_every_issue_is_recorded_with_time_result_and_origin(ca: FoundedCA) -> None:
    """In the transaction of the act."""
    (issued,) = await ca.issue(1)
    found = await ca.query(
        "SELECT (at, kind, result, origin <> '', detail) FROM operation_record WHERE object = $1",
        f"{issued.serial:016X}",
    )
    assert found == (NOW, "certificate_issued", "done", True, '{"kind": "resident"}')


@pytest.mark.req("R-4-2-1")
async def test_a_broken_line_is_reported_and_stops_nobody_else(ca: FoundedCA) -> None:
    """With its number and a code; empty lines are nobody's."""
    lines = [
        notice_line(1),
        b"not json\n",
        b"\n",
        notice_line(2, gender="other"),
        notice_line(3, address="東京都港区テスト町１"),
        b"\xff\xfe\n",
        notice_line(4),
        notice_line(5, public_key=base64.b64encode(b"\x30\x00").decode()),
    ]
    outcomes = await ca.register(*lines)
    assert [(outcome.line, code) for outcome, code in zip(outcomes, codes(outcomes), strict=True)] == [
        (1, "issued"),
        (2, "not-json"),
        (4, "wrong-value"),
        (5, "other-municipality"),
        (6, "not-utf-8"),
        (7, "issued"),
        (8, "key-unreadable"),
    ]
    assert all(outcome.message for outcome in outcomes if isinstance(outcome, Refused))


def certify_responder(ca: FoundedCA, now: datetime) -> Act:
    """To certify a key for a responder."""
    asked = delegate.asked_for(rsa_key("responder").public_key())
    return Act(ca.installation, asked, lambda: now, os.urandom)


@pytest.mark.req("R-4-13-1", "R-6-3-1-2")
async def test_a_key_issues_for_five_years_and_publishes_longer(ca: FoundedCA) -> None:
    """Neither residents nor delegates get a certificate afterwards."""
    end = ca.key.generation.signs_until
    assert (end.year, end.month, end.day) == (NOW.year + 5, NOW.month - 1, 31)
    assert codes(await ca.register(notice_line(1), now=end)) == ["issued"]
    later = end + timedelta(seconds=1)
    with pytest.raises(RefusedError, match="the CA needs a new key"):
        await ca.register(notice_line(2), now=later)
    assert codes(await ca.register(notice_line(1), now=later)) == ["issued before"]
    with pytest.raises(RefusedError, match="the CA needs a new key"):
        await delegate.perform(certify_responder(ca, later))
    assert (await ca.publish(later)).window.this_update == later


@pytest.mark.req("R-4-4-1-3")
async def test_a_delegate_is_not_recorded_for_a_key_that_was_compromised_meanwhile(
    ca: FoundedCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Responders never hear of it."""
    before = await ca.query("SELECT count(*) FROM certificate")
    partitions = ca.installation.store.partitions

    async def compromised(authority_id: int) -> list[PartitionRow]:
        await ca.query("UPDATE ca_generation SET state = 'compromised'")
        return await partitions(authority_id)

    monkeypatch.setattr(ca.installation.store, "partitions", compromised)
    with pytest.raises(RefusedError, match="the key that signed is no longer active"):
        await delegate.perform(certify_responder(ca, NOW))
    assert await ca.query("SELECT count(*) FROM certificate") == before


@pytest.mark.req("R-1-1-1")
async def test_residents_of_another_prefecture_are_refused(ca: FoundedCA) -> None:
    """Toyama has a CA of its own."""
    (refused,) = await ca.register(notice_line(1, municipality="162019", address="富山県富山市テスト町１"))
    assert isinstance(refused, Refused)
    assert (refused.code, refused.notice_number) == ("other-prefecture", "N-1")


@pytest.mark.req("R-4-2-3-1")
async def test_a_second_application_is_refused_while_a_certificate_is_valid(ca: FoundedCA) -> None:
    """The same person with another key, in the same file or on another day."""
    (first,) = await ca.issue(1)
    another_key = key_field(100)
    (refused,) = await ca.register(notice_line(1, public_key=another_key))
    assert isinstance(refused, Refused)
    assert refused.code == "valid-certificate-exists"
    assert f"{first.serial:016X}" in refused.message
    twice = await ca.register(notice_line(2), notice_line(2, public_key=another_key))
    assert codes(twice) == ["issued", "valid-certificate-exists"]


@pytest.mark.req("R-4-2-3-1", "R-1-3-2-1")
async def test_after_expiry_a_new_application_is_accepted(ca: FoundedCA) -> None:
    """The last second of the old certificate still counts."""
    (first,) = await ca.issue(1)
    end = x509.load_der_x509_certificate(first.certificate).not_valid_after_utc
    again = notice_line(1, public_key=key_field(100))
    assert codes(await ca.register(again, now=end)) == ["valid-certificate-exists"]
    assert codes(await ca.register(again, now=end.replace(hour=15, minute=0, second=0))) == ["issued"]


@pytest.mark.req("R-3-3", "R-4-2-3-1")
async def test_after_revocation_a_new_application_is_accepted(ca: FoundedCA) -> None:
    """At once, although the old certificate is on no list yet."""
    (first,) = await ca.issue(1)
    await ca.revoke(first.serial)
    outcomes = await ca.register(notice_line(1, public_key=key_field(100)))
    assert codes(outcomes) == ["issued"]


@pytest.mark.req("R-4-2-1")
async def test_the_same_notice_again_gives_the_same_certificate(ca: FoundedCA) -> None:
    """A run that was interrupted is simply repeated."""
    (first,) = await ca.issue(1)
    (again,) = await ca.register(notice_line(1))
    assert again == Issued(1, "N-1", first.serial, first.certificate, again=True)
    assert await ca.query("SELECT count(*) FROM certificate WHERE kind = 'resident'") == 1


@pytest.mark.req("R-4-2-1", "R-3-3")
async def test_a_revoked_certificate_is_not_handed_out_again(ca: FoundedCA) -> None:
    """It would come onto a card: whoever gives the same notice again needs a new key and a new notice."""
    (first,) = await ca.issue(1)
    await ca.revoke(first.serial)
    (refused,) = await ca.register(notice_line(1))
    assert isinstance(refused, Refused)
    assert (refused.code, refused.notice_number) == ("issued-and-revoked", "N-1")
    assert f"{first.serial:016X}" in refused.message
    assert "新しい鍵ペアを生成し、新しい通知で新規として" in refused.message
    assert codes(await ca.register(notice_line(1, public_key=key_field(100)))) == ["issued"]


@pytest.mark.req("R-4-2-1", "R-3-2-2")
async def test_a_certificate_that_was_renewed_is_not_handed_out_again(ca: FoundedCA) -> None:
    """The refusal names the valid one."""
    await ca.issue(1)
    (new,) = await ca.register(notice_line(1, renewal=True, public_key=key_field(100)))
    (refused,) = await ca.register(notice_line(1))
    assert isinstance(new, Issued)
    assert isinstance(refused, Refused)
    assert refused.code == "issued-and-revoked"
    assert f"有効な電子証明書は{new.serial:016X}です。" in refused.message
    assert "新しい通知で更新として" in refused.message


@pytest.mark.req("R-4-2-1", "R-1-3-2-1")
async def test_an_expired_certificate_is_not_handed_out_again(ca: FoundedCA) -> None:
    """In its last second it is."""
    (first,) = await ca.issue(1)
    end = x509.load_der_x509_certificate(first.certificate).not_valid_after_utc
    assert codes(await ca.register(notice_line(1), now=end)) == ["issued before"]
    assert codes(await ca.register(notice_line(1), now=end + timedelta(seconds=1))) == ["issued-and-expired"]


@pytest.mark.req("R-3-2-2", "R-6-3-2")
async def test_a_key_is_certified_once(ca: FoundedCA) -> None:
    """Not for another person, not after revocation, not for a renewal."""
    (first,) = await ca.issue(1)
    key = key_field(1)
    assert codes(await ca.register(notice_line(2, public_key=key))) == ["key-already-certified"]
    assert codes(await ca.register(notice_line(1, renewal=True))) == ["key-already-certified"]
    await ca.revoke(first.serial)
    assert codes(await ca.register(notice_line(1, notice_number="another"))) == ["key-already-certified"]
    assert codes(await ca.register(notice_line(7), notice_line(8, public_key=key_field(7)))) == [
        "issued",
        "key-already-certified",
    ]


@pytest.mark.req("R-3-2-2")
async def test_a_renewal_revokes_the_old_certificate_and_issues_the_new_one(ca: FoundedCA) -> None:
    """Both in one transaction, the old one as superseded."""
    (old,) = await ca.issue(1)
    (new,) = await ca.register(notice_line(1, renewal=True, public_key=key_field(100)))
    assert isinstance(new, Issued)
    assert new.serial != old.serial
    assert await ca.query("SELECT (reason, revoked_at) FROM revocation WHERE serial = $1", old.serial) == (
        CRLReason.SUPERSEDED,
        NOW,
    )
    both = "SELECT count(DISTINCT xmin) FROM (SELECT xmin::text FROM certificate WHERE serial = $1 UNION ALL"
    both += " SELECT xmin::text FROM revocation) AS rows"
    assert await ca.query(both, new.serial) == 1


@pytest.mark.req("R-3-2-1")
async def test_there_must_be_something_to_renew(ca: FoundedCA) -> None:
    """A person without a valid certificate applies anew."""
    renewal = notice_line(1, renewal=True, public_key=key_field(100))
    assert codes(await ca.register(renewal)) == ["nothing-to-renew"]
    (old,) = await ca.issue(1)
    await ca.revoke(old.serial)
    assert codes(await ca.register(renewal)) == ["nothing-to-renew"]


@pytest.mark.req("R-3-1-4")
async def test_many_lines_are_issued_in_their_order_with_subjects_of_their_own(ca: FoundedCA) -> None:
    """More than one batch; every line has its outcome, every subject is unique."""
    issued = await ca.issue(*range(2 * BATCH_LINES + 5))
    assert [outcome.line for outcome in issued] == list(range(1, 2 * BATCH_LINES + 6))
    subjects = {x509.load_der_x509_certificate(outcome.certificate).subject for outcome in issued}
    assert len(subjects) == len({outcome.serial for outcome in issued}) == len(issued)


@pytest.mark.req("R-4-2-3-1")
async def test_two_runs_on_the_same_notices_issue_once(ca: FoundedCA) -> None:
    """Side by side they share the work, and give the same certificates."""
    lines = [notice_line(number) for number in range(2 * BATCH_LINES)]
    async with ca.another_process() as other:
        runs = await asyncio.gather(ca.register(*lines), other.register(*lines))
    assert Counter(codes(runs[0] + runs[1])) == {"issued": len(lines), "issued before": len(lines)}
    certificates = [[outcome.serial for outcome in run if isinstance(outcome, Issued)] for run in runs]
    assert certificates[0] == certificates[1]
    assert await ca.query("SELECT count(*) FROM certificate WHERE kind = 'resident'") == len(lines)


@pytest.mark.req("R-4-2-3-1")
async def test_two_runs_with_two_applications_of_one_person_issue_one(ca: FoundedCA) -> None:
    """Whoever comes second is refused."""
    async with ca.another_process() as other:
        runs = await asyncio.gather(
            ca.register(notice_line(1)),
            other.register(notice_line(1, public_key=key_field(100))),
        )
    assert sorted(codes(runs[0] + runs[1])) == ["issued", "valid-certificate-exists"]


@pytest.mark.req("R-3-2-2", "R-4-4-2-4")
async def test_a_renewal_waits_for_a_revocation_that_came_first(ca: FoundedCA) -> None:
    """And then hears that there is nothing to renew any more."""
    (old,) = await ca.issue(1)
    async with ca.another_process() as other:
        async with ca.installation.store.transaction():
            await ca.revoke(old.serial)
            renewal = asyncio.create_task(other.register(notice_line(1, renewal=True, public_key=key_field(100))))
            await somebody_waits(ca)
        assert codes(await renewal) == ["nothing-to-renew"]


@pytest.mark.req("R-3-2-2", "R-4-4-2-4")
async def test_a_revocation_waits_for_a_renewal_that_came_first(ca: FoundedCA) -> None:
    """And then hears that the certificate is superseded."""
    (old,) = await ca.issue(1)
    async with ca.another_process() as other:
        async with ca.installation.store.transaction():
            await ca.register(notice_line(1, renewal=True, public_key=key_field(100)))
            revocation = asyncio.create_task(other.revoke(old.serial))
            await somebody_waits(ca)
        (outcome,) = await revocation
    assert isinstance(outcome, NotRevoked)
    assert "superseded" in outcome.message


async def somebody_waits(ca: FoundedCA) -> None:
    """Return as soon as a session of the database waits for a lock."""
    async with asyncio.timeout(20):
        while not await ca.query("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
