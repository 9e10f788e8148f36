"""The batch publishes all lists at once or none, and no number twice."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from issuer.authority import Kind
from issuer.crl import NEXT_CRL_PUBLISH
from issuer.errors import NotNowError, RefusedError
from issuer.lint import LintError
from issuer.municipality import municipalities_of, municipality
from pkix.signing import PublicKey, Signer, SigningError
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
    await ca.publish(end + 3 * SECOND)
    assert await listed(ca) == set()


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


@pytest.mark.req("R-4-11-2-1")
async def test_every_publication_is_recorded(ca: FoundedCA) -> None:
    """With what it contains."""
    published = await ca.publish()
    detail = await ca.query("SELECT detail FROM operation_record WHERE kind = 'published'")
    assert json.loads(detail) == {"lists": TOKYO_LISTS, "entries": 0}
    assert await ca.query("SELECT object FROM operation_record WHERE kind = 'published'") == str(
        published.publication_id
    )
