"""The batch publishes all lists at once or none, and no number twice."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from issuer.errors import NotNowError, RefusedError
from issuer.lists import batch
from issuer.lists.list_audit import open_audit
from issuer.profiles.authority import Kind
from issuer.profiles.crl import NEXT_CRL_PUBLISH
from issuer.profiles.lint import LintError
from issuer.profiles.municipality import municipalities_of, municipality
from issuer.records.list_store import Selection
from issuer.records.rows import NewObject, PublishedList
from issuer.records.store import LATE_REVOCATION
from issuer.residents.revocation import revoke_generation
from pkix import der
from pkix.revocation import CRLReason
from pkix.signing import PublicKey, Signer, SigningError
from pkix.validity import UpdateWindow
from tests.support.ca import NOW, FoundedCA, found_ca, open_ca, settings_for
from tests.support.database import Database

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
TOKYO_LISTS = 64


@dataclass
class Failing:
    """A key that works until the `last` signature."""

    signer: Signer
    last: int
    fail: Callable[[], bytes]
    count: int = 0

    @property
    def public_key(self) -> PublicKey:
        """Of the key that works."""
        return self.signer.public_key

    def sign_digest(self, digest: bytes) -> bytes:
        """A signature, as long as it works."""
        self.count += 1
        return self.fail() if self.count > self.last else self.signer.sign_digest(digest)


def token_gone() -> bytes:
    raise SigningError("the token is gone")


def with_failing_key(ca: FoundedCA, last: int, fail: Callable[[], bytes] = token_gone) -> FoundedCA:
    return replace(ca, key=replace(ca.key, signer=Failing(ca.key.signer, last, fail)))


async def numbers(ca: FoundedCA) -> set[int]:
    """The CRLNumbers of all lists in force."""
    return {
        crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for crl in (await ca.lists()).values()
    }


async def listed(ca: FoundedCA, code: str = "132217") -> set[int]:
    """The serial numbers on a list in force."""
    return {entry.serial_number for entry in (await ca.lists())[code]}


@pytest.mark.req("R-4-4-3-1", "R-4-4-4-4-2", "R-2-6-1-2", "R-1-1-4")
async def test_a_batch_publishes_every_list_at_once(ca: FoundedCA) -> None:
    """One for each municipality of Tokyo, the ARL and the list of operations certificates, each at its entry."""
    published = await ca.publish()
    lists, authority = await ca.lists(), ca.installation.authority
    assert published.lists == len(lists) == TOKYO_LISTS
    assert set(lists) == {"ca", "operations", *(m.code for m in municipalities_of("Tokyo-to"))}
    for code, crl in lists.items():
        assert crl.is_signature_valid(rsa_public_key(ca))
        assert len(crl) == 0
        (name,) = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value.full_name or []
        at_ca = code in {"ca", "operations"}
        assert name.value == (authority.name if at_ca else authority.distribution_point(municipality(code)))


def rsa_public_key(ca: FoundedCA) -> rsa.RSAPublicKey:
    key = ca.key.issuer.certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    return key


@pytest.mark.req("R-4-4-4-4-2")
async def test_toyama_has_seventeen_lists(database: Database, tmp_path: Path) -> None:
    """15 municipalities, and the two of the CA."""
    settings = settings_for(tmp_path, database, "Toyama-ken")
    await found_ca(settings)
    async with open_ca(database, settings) as toyama:
        assert (await toyama.publish()).lists == len(await toyama.lists()) == 17


@pytest.mark.req("R-2-6-3-1", "R-2-6-3-2", "R-2-6-2-1", "R-2-1-9-1")
async def test_the_repository_sees_what_a_batch_published(ca: FoundedCA) -> None:
    """In its own role: the lists and the CA's certificate, which of them are public, and that something changed."""
    await ca.publish()
    async with ca.database.connect("prefca_repository") as repository:
        rows = await repository.fetch("SELECT entry_dn, attribute, public, value FROM published_object_v1")
        assert await repository.fetchval("SELECT max(kind) FROM change_v1 WHERE kind = 'publication'") == "publication"
    entry = ca.installation.authority.name.rfc4514_string()
    public = sorted((row["entry_dn"], row["attribute"]) for row in rows if row["public"])
    attributes = ["authorityRevocationList", "cACertificate", "certificateRevocationList"]
    assert public == [(entry, attribute) for attribute in attributes]
    assert len(rows) == TOKYO_LISTS + 1
    assert ca.key.generation.certificate in [row["value"] for row in rows if row["attribute"] == "cACertificate"]


@pytest.mark.req("R-4-4-4-4-2", "R-2-8-3-1", "R-2-1-2-7")
async def test_a_revocation_is_on_the_list_of_its_municipality_only(ca: FoundedCA) -> None:
    """And one of a server's certificate on the public list."""
    (kiyose,) = await ca.issue(1)
    (chiyoda,) = await ca.issue(2, municipality="131016", address="東京都千代田区テスト町１")
    (delegate,) = await ca.installation.store.newest_certificates(ca.installation.authority_id, Kind.OCSP, 1)
    await ca.revoke(kiyose.serial, chiyoda.serial, delegate.serial)
    assert (await ca.publish()).entries == 3
    lists = {code: {entry.serial_number for entry in crl} for code, crl in (await ca.lists()).items() if len(crl)}
    assert lists == {"132217": {kiyose.serial}, "131016": {chiyoda.serial}, "operations": {delegate.serial}}


@pytest.mark.req("R-4-4-9-1", "R-7-2-1", "R-2-1-2-22")
async def test_the_dates_of_lists_are_those_of_the_rule(ca: FoundedCA) -> None:
    """Valid for 72 hours, the next one after 24, in every list and in the publication."""
    published = await ca.publish(NOW + timedelta(microseconds=999_999))
    for crl in (await ca.lists()).values():
        assert (crl.last_update_utc, crl.next_update_utc) == (NOW, NOW + 3 * DAY)
        next_publish = crl.extensions.get_extension_for_oid(NEXT_CRL_PUBLISH).value
        assert next_publish.public_bytes() == b"\x17\x0d260402030000Z"
    assert (published.window.next_publish, published.window.next_update) == (NOW + DAY, NOW + 3 * DAY)


@pytest.mark.req("R-7-2-1", "R-4-4-10", "R-4-4-9-2")
async def test_numbers_rise_by_one_with_every_publication(ca: FoundedCA) -> None:
    """Also within a second: an emergency list takes the next number, on every list."""
    for number, moment in enumerate([NOW, NOW, NOW + SECOND, NOW + DAY], 1):
        await ca.publish(moment)
        assert await numbers(ca) == {number}


@pytest.mark.req("R-4-4-3-1")
async def test_what_was_received_after_the_cut_off_is_on_the_next_list(ca: FoundedCA) -> None:
    """The end of reception decides, not the time of processing."""
    before, at, after = (issued.serial for issued in await ca.issue(1, 2, 3))
    later = NOW + timedelta(hours=1)
    await ca.revoke(before, now=later, received_at=NOW - SECOND)
    await ca.revoke(at, now=later, received_at=NOW)
    await ca.revoke(after, now=later, received_at=NOW + SECOND)
    await ca.publish(NOW)
    assert await listed(ca) == {before, at}
    await ca.publish(later)
    assert await listed(ca) == {before, at, after}


@pytest.mark.req("R-4-4-4-4-2", "R-4-12-2-2")
async def test_an_entry_stays_until_it_was_on_a_list_after_expiry(ca: FoundedCA) -> None:
    """RFC 5280, section 3.3: whatever happens around the last second, one list made after it has the entry."""
    (issued,) = await ca.issue(1)
    end = x509.load_der_x509_certificate(issued.certificate).not_valid_after_utc
    await ca.revoke(issued.serial)
    for moment in (NOW + DAY, end - DAY, end):
        await ca.publish(moment)
        assert await listed(ca) == {issued.serial}
    with pytest.raises(SigningError):
        await with_failing_key(ca, 3).publish(end + SECOND)
    await ca.publish(end + 2 * SECOND)
    assert await listed(ca) == {issued.serial}
    await ca.publish(end + 3 * SECOND + LATE_REVOCATION)
    assert await listed(ca) == {issued.serial}
    await ca.publish(end + 4 * SECOND + LATE_REVOCATION)
    assert await listed(ca) == set()


@pytest.mark.req("R-4-4-4-4-2")
async def test_a_revocation_that_comes_late_into_the_database_is_on_a_list(ca: FoundedCA) -> None:
    """Decided in the certificate's last second, by a clock that is behind, while a list is made without it."""
    (issued,) = await ca.issue(1)
    end = x509.load_der_x509_certificate(issued.certificate).not_valid_after_utc
    await ca.publish(end + 5 * SECOND)
    await ca.revoke(issued.serial, now=end)
    await ca.publish(end + DAY)
    assert await listed(ca) == {issued.serial}


@pytest.mark.req("R-4-4-4-4-2")
async def test_a_revocation_in_the_last_second_is_on_a_list(ca: FoundedCA) -> None:
    """Although no list was made between revocation and expiry."""
    (issued,) = await ca.issue(1)
    end = x509.load_der_x509_certificate(issued.certificate).not_valid_after_utc
    await ca.publish(end - DAY)
    await ca.revoke(issued.serial, now=end)
    await ca.publish(end + DAY)
    assert await listed(ca) == {issued.serial}
    await ca.publish(end + 2 * DAY)
    assert await listed(ca) == set()


def bad_signature() -> bytes:
    return bytes(256)


@pytest.mark.req("R-4-4-10")
@pytest.mark.parametrize("last", [0, 1, 40, TOKYO_LISTS - 1], ids=lambda last: f"after {last} signatures")
@pytest.mark.parametrize(
    ("fail", "error"), [(token_gone, SigningError), (bad_signature, LintError)], ids=["token gone", "wrong signature"]
)
async def test_a_batch_that_fails_leaves_the_publication_before_in_force(
    last: int, fail: Callable[[], bytes], error: type[Exception], ca: FoundedCA
) -> None:
    """Nothing of it is visible; the next one has higher numbers and everything on it."""
    (issued,) = await ca.issue(1)
    await ca.publish()
    before = await ca.lists()
    await ca.revoke(issued.serial)
    with pytest.raises(error):
        await with_failing_key(ca, last, fail).publish(NOW + DAY)
    assert await ca.lists() == before
    await ca.publish(NOW + DAY)
    assert await numbers(ca) == {3}
    assert await listed(ca) == {issued.serial}


async def test_a_batch_whose_database_goes_away_says_so(ca: FoundedCA) -> None:
    """What was in force stays so, and the batch can be run again."""
    await ca.publish()

    async def end_all_sessions() -> None:
        await ca.query(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = 'prefca_issuer'"
        )

    def database_gone() -> bytes:
        asyncio.run(end_all_sessions())  # in the thread that signs
        return ca.key.signer.sign_digest(bytes(32))

    with pytest.raises(NotNowError, match="went away"):
        async with ca.another_process() as other:
            await with_failing_key(other, 40, database_gone).publish(NOW + DAY)
    async with ca.another_process() as again:
        assert await numbers(again) == {1}
        await again.publish(NOW + DAY)
        assert await numbers(again) == {3}


async def test_a_second_batch_at_the_same_time_says_so(ca: FoundedCA) -> None:
    """It does not wait: the first one publishes the same."""
    signing, go_on = threading.Event(), threading.Event()

    def slow() -> bytes:
        signing.set()
        assert go_on.wait(20)
        return token_gone()

    first = asyncio.create_task(with_failing_key(ca, 5, slow).publish())
    assert await asyncio.to_thread(signing.wait, 20)
    async with ca.another_process() as other:
        with pytest.raises(NotNowError, match="another batch"):
            await other.publish()
        go_on.set()
        with pytest.raises(SigningError):
            await first
        assert (await other.publish()).lists == TOKYO_LISTS


@pytest.mark.req("R-7-2-1")
async def test_a_clock_that_was_set_back_stops_the_batch(ca: FoundedCA) -> None:
    """ThisUpdate never goes back; the message says what to do, and the publication stays."""
    await ca.publish(NOW + DAY)
    with pytest.raises(RefusedError, match=r"2026-04-02T03:00:00Z.*set the clock"):
        await ca.publish(NOW + DAY - SECOND)
    assert await numbers(ca) == {1}


@pytest.mark.req("R-7-2-1", "R-4-4-3-1")
async def test_lists_of_the_future_are_replaced_when_a_person_says_so(ca: FoundedCA) -> None:
    """As if they had not been made: nothing is dropped that they dropped too early, and numbers rise all the same."""
    before, during = (issued.serial for issued in await ca.issue(1, 2))
    await ca.revoke(before)
    await ca.publish(NOW)
    ahead = NOW + 11 * 365 * DAY / 2  # the certificates have ended
    await ca.revoke(during, now=NOW + 2 * 365 * DAY)
    await ca.publish(ahead)
    await ca.publish(ahead + DAY)
    assert await listed(ca) == set()
    with pytest.raises(RefusedError, match="--clock-was-ahead"):
        await ca.publish(NOW + DAY)
    published = await batch.run(ca.installation, ca.key, NOW + DAY, clock_was_ahead=True)
    assert (published.window.this_update, published.cut_off) == (NOW + DAY, NOW + DAY)
    assert await numbers(ca) == {4}
    assert await listed(ca) == {before, during}
    detail = "SELECT detail ->> 'replaced_lists_of_the_future' FROM operation_record WHERE object = '4'"
    assert await ca.query(detail) == "3"
    await ca.publish(NOW + 2 * DAY)
    assert await listed(ca) == {before, during}
    selection = Selection(since=NOW + DAY, until=NOW + 2 * DAY)
    audit = await open_audit(ca.installation, NOW + 2 * DAY)
    async with ca.installation.store.transaction():
        verified = [one async for one in audit.verify(selection)]
    assert [one.findings for one in verified] == [()] * 2 * TOKYO_LISTS


@pytest.mark.req("R-7-2-1")
async def test_lists_of_now_are_not_replaced_as_if_a_clock_had_been_ahead(ca: FoundedCA) -> None:
    """Nothing that was dropped rightly comes back."""
    await ca.publish(NOW)
    with pytest.raises(RefusedError, match="not of the future; leave --clock-was-ahead out"):
        await batch.run(ca.installation, ca.key, NOW, clock_was_ahead=True)


@pytest.mark.req("R-4-4-3-1")
async def test_a_cut_off_may_lie_before_the_batch(ca: FoundedCA) -> None:
    """What was received later waits for the next lists, also if those are made at once."""
    before, after = (issued.serial for issued in await ca.issue(1, 2))
    await ca.revoke(before)
    await ca.revoke(after, now=NOW + SECOND)
    published = await batch.run(ca.installation, ca.key, NOW + DAY, cut_off=NOW)
    assert (published.cut_off, await listed(ca)) == (NOW, {before})
    await ca.publish(NOW + DAY)
    assert await listed(ca) == {before, after}


@pytest.mark.parametrize(
    ("cut_off", "message"),
    [(NOW + DAY + SECOND, "lies in the future"), (NOW - SECOND, r"2026-04-01T03:00:00Z; take no earlier")],
    ids=["later than now", "before that of the publication in force"],
)
@pytest.mark.req("R-4-4-3-1")
async def test_a_cut_off_neither_goes_back_nor_ahead(cut_off: datetime, message: str, ca: FoundedCA) -> None:
    """What was on a list stays known as received."""
    await ca.publish()
    with pytest.raises(RefusedError, match=message):
        await batch.run(ca.installation, ca.key, NOW + DAY, cut_off=cut_off)
    assert await numbers(ca) == {1}


@pytest.mark.req("R-4-4-9-1", "R-4-4-9-2")
@pytest.mark.parametrize(
    ("asked_for", "told"),
    [(timedelta(hours=9), timedelta(hours=9)), (DAY, DAY), (2 * DAY, DAY)],
    ids=["tonight", "in a day", "no later than in a day"],
)
async def test_a_list_outside_the_schedule_tells_when_the_next_one_is_due(
    asked_for: timedelta, told: timedelta, ca: FoundedCA
) -> None:
    """Its validity is as long as any other's."""
    published = await batch.run(ca.installation, ca.key, NOW, next_publish=NOW + asked_for)
    assert published.window == UpdateWindow(NOW, NOW + told, NOW + 3 * DAY)
    expected = der.time(NOW + told)
    for crl in (await ca.lists()).values():
        assert crl.extensions.get_extension_for_oid(NEXT_CRL_PUBLISH).value.public_bytes() == expected


TAMPERING = {
    "the name of the list was changed": "UPDATE partition SET idp = other.idp FROM partition other"
    " WHERE partition.code = '132217' AND other.code = '131016'",
    "a municipality in the wrong list": "UPDATE revocation SET partition_id = other.partition_id FROM partition other"
    " WHERE other.code = '131016'",
    "an entry without reason": "UPDATE revocation SET entry = substring(entry FROM 1 FOR 12)",
    "numbers go back": "UPDATE partition SET next_crl_number = 1",
}


@pytest.mark.req("R-4-4-4-4-2")
@pytest.mark.parametrize("tampering", TAMPERING.values(), ids=TAMPERING.keys())
async def test_tampering_in_the_database_is_not_signed(tampering: str, ca: FoundedCA) -> None:
    """By somebody who may do everything there: the batch stops before the key is asked, and says why."""
    (issued,) = await ca.issue(1)
    await ca.revoke(issued.serial)
    await ca.publish()
    async with ca.database.connect("owner") as owner:
        await owner.execute("ALTER TABLE revocation DISABLE TRIGGER ALL")
        await owner.execute(tampering)
    signatures = Failing(ca.key.signer, TOKYO_LISTS, token_gone)
    with pytest.raises(LintError, match=r"^the list of \w+: "):
        await replace(ca, key=replace(ca.key, signer=signatures)).publish(NOW + DAY)
    assert signatures.count < TOKYO_LISTS
    assert await numbers(ca) == {1}


@pytest.mark.req("R-4-4-3-1")
async def test_a_rehearsal_shows_what_would_be_published(ca: FoundedCA) -> None:
    """The same lists, number by number and octet by octet long; nothing is signed, reserved, written or locked."""
    serials = [issued.serial for issued in await ca.issue(1, 2, 3)]
    await ca.revoke(*serials)
    no_key = with_failing_key(ca, 0)
    rehearsal = await batch.rehearse(no_key.installation, no_key.key, NOW)
    again = await batch.rehearse(no_key.installation, no_key.key, NOW)
    published = await ca.publish()
    in_force = await ca.installation.store.published_lists(published.publication_id)
    assert rehearsal == again
    assert (rehearsal.cut_off, rehearsal.window) == (published.cut_off, published.window)
    assert list(rehearsal.lists) == in_force
    assert {made.code: made.entries for made in in_force if made.entries} == {"132217": 3}


async def test_a_list_of_many_megabytes_is_published_octet_by_octet(ca: FoundedCA) -> None:
    """With its digest; its neighbours stay whole."""
    store, authority_id = ca.installation.store, ca.installation.authority_id
    value = bytes(range(256)) * 20_000
    (first, *_) = await store.partitions(authority_id)
    window = UpdateWindow(NOW, NOW + DAY, NOW + 3 * DAY)
    async with store.transaction():
        number = await store.add_publication(authority_id, NOW, window, NOW)
        await store.add_object(number, 0, NewObject("CN=空", "cACertificate", b"\x30\x00", public=True))
        await store.add_object(number, 1, NewObject("CN=x", "a", value, False, first.partition_id, 2**40, 10**6, 1))
    assert await ca.installation.lists.value(number, first.partition_id, 1) == value
    assert await store.published_lists(number) == [
        PublishedList(first.partition_id, "ca", None, 2**40, 10**6, len(value), 1)
    ]
    sound = "SELECT bool_and(sha256 = sha256(value)) FROM published_object WHERE publication_id = $1"
    assert await ca.query(sound, number)
    assert await ca.query("SELECT entry_dn FROM published_object WHERE position = 0") == "CN=空"


@pytest.mark.req("R-4-4-1-3", "R-4-4-9-2")
async def test_everything_that_a_key_signed_is_revoked_at_once(ca: FoundedCA) -> None:
    """After its compromise: residents, delegates, the CA itself; the lists and the responders know."""
    serials = {issued.serial for issued in await ca.issue(*range(5))}
    first = min(serials)
    await ca.revoke(first, reason=CRLReason.KEY_COMPROMISE)
    later = NOW + timedelta(hours=1)
    generation = ca.key.generation
    count = await revoke_generation(ca.installation, generation, CRLReason.CA_COMPROMISE, later)
    assert count == len(serials) - 1 + 2
    assert await revoke_generation(ca.installation, generation, CRLReason.CA_COMPROMISE, later) == 0
    await ca.publish(later)
    lists = await ca.lists()
    assert [len(lists[name]) for name in ("132217", "operations", "ca")] == [5, 1, 1]
    for entry in lists["132217"]:
        old = entry.serial_number == first
        reason = x509.ReasonFlags.key_compromise if old else x509.ReasonFlags.ca_compromise
        assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == reason
        assert entry.revocation_date_utc == (NOW if old else later)
    recorded = await ca.query("SELECT detail FROM operation_record WHERE kind = 'certificates_revoked' ORDER BY 1 DESC")
    assert json.loads(recorded) == {"reason": 2, "certificates": count}


@pytest.mark.req("R-4-11-2-1")
async def test_every_publication_is_recorded(ca: FoundedCA) -> None:
    """With what it contains."""
    published = await ca.publish()
    detail = await ca.query("SELECT detail FROM operation_record WHERE kind = 'published'")
    assert json.loads(detail) == {"lists": TOKYO_LISTS, "entries": 0}
    assert await ca.query("SELECT object FROM operation_record WHERE kind = 'published'") == str(
        published.publication_id
    )
