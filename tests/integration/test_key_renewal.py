"""The CA's next key: prepared, published, and then it signs; the key before it goes on being answered for."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from issuer.errors import KeyReplacedError, NotNowError, RefusedError
from issuer.generations import delegates_ahead, key_end, renewal
from issuer.installation import active_key
from issuer.keys import KeyAlgorithm
from issuer.lists import batch
from issuer.lists.list_audit import open_audit
from issuer.operations.act import Act, Facts
from issuer.profiles.generation import State
from issuer.records.list_store import Selection
from issuer.records.rows import Generation
from issuer.records.store import Store
from issuer.recovery import compromise
from issuer.recovery.compromise import CompromiseOrder
from issuer.rules.operation import OperationKind, Parameters
from issuer.servers import delegate
from issuer.servers.delegate import covered_until
from issuer.signing.ca_key import KeySight
from issuer.signing.key_sight import key_sight
from issuer.signing.key_use import used_list_key
from issuer.watch import ca_sight
from pkix.signing import SigningError
from pkix.validity import JST
from tests.support.ca import NOW, FoundedCA, notice_line, open_ca, settings_for
from tests.support.database import Database, fresh_database
from tests.support.operators import Clock, Desk, who_agree

DAY, YEAR = timedelta(days=1), timedelta(days=365)
PREPARED = NOW + 4 * YEAR
SWITCHED = PREPARED + 8 * DAY
NEXT: Parameters = {"generation": 2, "key": "test-tokyo-to-2"}
TURN: Parameters = {"from": 1, "to": 2, "without_delegates": 0}
AHEAD: Parameters = {"generation": 1, "until": "2034-03-31T14:59:59Z", "algorithm": "p256"}

pytestmark = pytest.mark.req("R-4-13-1")

Perform = Callable[[Act], Awaitable[Facts]]


@pytest.fixture
async def ca(founded_template: tuple[Path, Database], tmp_path: Path) -> AsyncIterator[FoundedCA]:
    """A test CA of Tokyo, founded at NOW, with keys of its own."""
    template_instance, template = founded_template
    instance = shutil.copytree(template_instance, tmp_path / "instance")
    async with (
        fresh_database(template.instance, template.name) as database,
        open_ca(database, settings_for(instance, database)) as ca,
    ):
        yield ca


async def perform(ca: FoundedCA, what: Perform, parameters: Mapping[str, Any], now: datetime) -> Facts:
    """Do it at that moment."""
    return await what(Act(ca.installation, parameters, lambda: now, secrets.token_bytes))


@asynccontextmanager
async def with_present_key(ca: FoundedCA) -> AsyncIterator[FoundedCA]:
    """As another process has it open now."""
    async with ca.another_process() as other, active_key(other.installation) as key:
        yield replace(other, key=key)


async def renewed(ca: FoundedCA) -> None:
    """Prepare, publish, make delegates in advance, and switch a week later."""
    await perform(ca, renewal.prepare, NEXT, PREPARED)
    await ca.publish(PREPARED)
    await perform(ca, delegates_ahead.perform, AHEAD, PREPARED)
    await perform(ca, renewal.switch, TURN, SWITCHED)


async def sight(ca: FoundedCA) -> KeySight:
    """The keys."""
    return await key_sight(ca.installation)


async def certificates(ca: FoundedCA, kind: str) -> list[x509.Certificate]:
    """Those of a kind, the oldest key first."""
    async with ca.database.connect("owner") as connection:
        rows = await connection.fetch(
            "SELECT der FROM certificate WHERE kind = $1 ORDER BY generation_id, not_before", kind
        )
    return [x509.load_der_x509_certificate(row["der"]) for row in rows]


async def shown(ca: FoundedCA) -> list[x509.Certificate]:
    """The values of cACertificate in force."""
    async with ca.database.connect("owner") as connection:
        rows = await connection.fetch(
            "SELECT value FROM published_object_v1 WHERE attribute = 'cACertificate' ORDER BY position"
        )
    return [x509.load_der_x509_certificate(row["value"]) for row in rows]


def is_by(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    """Has the key of that certificate signed it?"""
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    return crl.is_signature_valid(key)


# ---------------------------------------------------------------- prepare


@pytest.mark.req("R-4-13-2", "R-7-1-4", "R-7-1-3", "R-6-3-1-2", "R-1-1-2", "R-2-1-2-3")
async def test_the_link_certificates_have_the_dates_of_the_rule(ca: FoundedCA) -> None:
    """Each begins on the day its key was made, and both end with the old self-signed certificate."""
    await perform(ca, renewal.prepare, NEXT, PREPARED)
    old, new = await certificates(ca, "self-signed")
    new_with_old, old_with_new = await certificates(ca, "link")
    assert (old.not_valid_before_utc, new.not_valid_before_utc) == (NOW, PREPARED)
    assert old.not_valid_after_utc == datetime(2036, 3, 31, 23, 59, 59, tzinfo=JST)
    assert new.not_valid_after_utc == datetime(2040, 3, 30, 23, 59, 59, tzinfo=JST)
    assert (old_with_new.not_valid_before_utc, new_with_old.not_valid_before_utc) == (NOW, PREPARED)
    assert {old_with_new.not_valid_after_utc, new_with_old.not_valid_after_utc} == {old.not_valid_after_utc}
    assert (old_with_new.public_key(), new_with_old.public_key()) == (old.public_key(), new.public_key())
    old_with_new.verify_directly_issued_by(new)
    new_with_old.verify_directly_issued_by(old)
    planned = (await sight(ca)).planned
    assert planned is not None
    assert planned.generation.signs_until == datetime(2035, 3, 30, 23, 59, 59, tzinfo=JST)


@pytest.mark.req("R-4-13-2", "R-2-6-1-2", "R-2-6-3-1")
async def test_the_directory_shows_the_next_key_before_its_first_use(ca: FoundedCA) -> None:
    """With the next lists: both self-signed certificates, the key that signs first, and both links."""
    assert len(await shown(ca)) == 0
    await ca.publish(NOW)
    assert await shown(ca) == [ca.key.issuer.certificate]
    await perform(ca, renewal.prepare, NEXT, PREPARED)
    await ca.publish(PREPARED)
    old, new = await certificates(ca, "self-signed")
    new_with_old, old_with_new = await certificates(ca, "link")
    values = await shown(ca)
    assert values[:2] == [old, new]
    assert {*values[2:]} == {new_with_old, old_with_new}
    assert await ca.query("SELECT bool_and(public) FROM published_object_v1 WHERE attribute = 'cACertificate'")


async def test_prepared_twice_is_prepared_once(ca: FoundedCA) -> None:
    """The second time it tells the same and signs nothing."""
    first = await perform(ca, renewal.prepare, NEXT, PREPARED)
    assert await perform(ca, renewal.prepare, NEXT, PREPARED + DAY) == first
    assert len(await certificates(ca, "link")) == 2


async def test_a_key_that_was_made_before_an_interruption_is_used_with_its_day(
    ca: FoundedCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run goes on with that key, and the certificates tell when it was made."""

    def interrupt(*_: object) -> bytes:
        raise SigningError("the token was pulled out")

    with monkeypatch.context() as patch:
        patch.setattr(renewal, "certify_self", interrupt)
        with pytest.raises(SigningError):
            await perform(ca, renewal.prepare, NEXT, PREPARED)
    file = ca.settings.instance / "keys" / "ca" / "test-tokyo-to-2.pem"
    made = file.read_bytes()
    await perform(ca, renewal.prepare, NEXT, PREPARED + 3 * DAY)
    assert file.read_bytes() == made
    new_with_old, _ = await certificates(ca, "link")
    _, new = await certificates(ca, "self-signed")
    assert (new_with_old.not_valid_before_utc, new.not_valid_before_utc) == (PREPARED, PREPARED + 3 * DAY)
    planned = (await sight(ca)).planned
    assert planned is not None
    assert planned.signs_from == PREPARED


async def test_a_key_of_unknown_origin_is_not_taken(ca: FoundedCA) -> None:
    """One that lies where the next key will be, and of which nothing says that this CA made it."""
    keys = ca.settings.instance / "keys" / "ca"
    (keys / "test-tokyo-to-2.pem").write_bytes((keys / "test-tokyo-to-1.pem").read_bytes())
    with pytest.raises(RefusedError, match="has not made"):
        await perform(ca, renewal.prepare, NEXT, PREPARED)


@pytest.mark.parametrize(
    "parameters",
    [{"generation": 3, "key": "test-tokyo-to-3"}, {"generation": 2, "key": "another"}, {"generation": 1, "key": "x"}],
)
async def test_what_was_agreed_to_is_the_next_key_or_nothing(ca: FoundedCA, parameters: dict[str, object]) -> None:
    """Whoever agreed did so perhaps days ago."""
    with pytest.raises(RefusedError, match="the next key of this CA is number 2"):
        await perform(ca, renewal.prepare, parameters, PREPARED)


async def test_two_never_make_the_next_key_at_once(ca: FoundedCA) -> None:
    """A token would take both under one name, and none could be used any more; the second one comes back later."""

    async def settle(_: Facts) -> None:
        async with ca.another_process() as other:
            with pytest.raises(NotNowError, match="being made by somebody else"):
                await perform(other, renewal.prepare, NEXT, PREPARED)

    await renewal.prepare(Act(ca.installation, NEXT, lambda: PREPARED, secrets.token_bytes, settle=settle))
    async with ca.another_process() as other:
        assert (await perform(other, renewal.prepare, NEXT, PREPARED))["state"] == "planned"


# ---------------------------------------------------------------- delegates in advance


@pytest.mark.req("R-1-3-2-4", "R-6-3-1-2", "R-4-4-4-2-1")
async def test_delegates_in_advance_leave_no_gap(ca: FoundedCA) -> None:
    """Each lives for a year and is signed by the same key, and there is one at any moment until the last one ends."""
    await ca.issue(1, now=SWITCHED)
    await perform(ca, renewal.prepare, NEXT, PREPARED)
    made = await perform(ca, delegates_ahead.perform, AHEAD, PREPARED)
    (active, planned) = (await sight(ca)).keys
    delegates = await ca.installation.store.delegates(ca.installation.authority_id)
    assert made["delegates"] == len(delegates) - 1
    assert active.residents_until is not None
    assert covered_until(active, delegates, PREPARED) >= datetime(2034, 3, 31, 14, 59, 59, tzinfo=UTC)
    assert covered_until(planned, delegates, PREPARED) > PREPARED + 364 * DAY
    for certificate in (await certificates(ca, "ocsp"))[1:]:
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= YEAR + DAY  # a leap year
    assert (await perform(ca, delegates_ahead.perform, AHEAD, PREPARED + DAY))["delegates"] == 0


@pytest.mark.req("R-6-3-1-2")
async def test_after_five_years_a_key_makes_no_delegate(ca: FoundedCA) -> None:
    """Not even one of the years in which it still answers."""
    with pytest.raises(RefusedError, match="5 years"):
        await perform(ca, delegates_ahead.perform, AHEAD, NOW + 5 * YEAR + 2 * DAY)


# ---------------------------------------------------------------- switch


@pytest.mark.req("R-4-13-1", "R-4-13-2")
async def test_the_switch_waits_for_the_directory_and_for_delegates(ca: FoundedCA) -> None:
    """And says for what; then one key retires and the other one signs."""
    await ca.issue(1, now=PREPARED)
    with pytest.raises(RefusedError, match="no key is prepared"):
        await perform(ca, renewal.switch, TURN, SWITCHED)
    await perform(ca, renewal.prepare, NEXT, PREPARED)
    with pytest.raises(RefusedError, match=r"not in the directory.*of key 1 are missing.*key 2 has no OCSP delegate"):
        await perform(ca, renewal.switch, TURN, SWITCHED)
    await ca.publish(PREPARED)
    await perform(ca, delegates_ahead.perform, AHEAD, PREPARED)
    with pytest.raises(RefusedError, match="may not have the new certificates before 2030-04-07T03:00:00Z"):
        await perform(ca, renewal.switch, TURN, PREPARED + 7 * DAY - timedelta(seconds=1))
    assert [key.state for key in (await sight(ca)).keys] == [State.ACTIVE, State.PLANNED]
    await perform(ca, renewal.switch, TURN, PREPARED + 7 * DAY)
    assert [key.state for key in (await sight(ca)).keys] == [State.RETIRED, State.ACTIVE]


async def test_a_key_that_can_make_no_delegates_any_more_is_replaced_all_the_same(ca: FoundedCA) -> None:
    """If people say so."""
    late = NOW + 5 * YEAR + 2 * DAY
    await ca.issue(1, now=late - 3 * DAY)
    await perform(ca, renewal.prepare, NEXT, late)
    await ca.publish(late)
    with pytest.raises(RefusedError, match="OCSP delegates of key 1 are missing"):
        await perform(ca, renewal.switch, TURN, late + 8 * DAY)
    await perform(ca, renewal.switch, {**TURN, "without_delegates": 1}, late + 8 * DAY)
    assert [key.state for key in (await sight(ca)).keys] == [State.RETIRED, State.ACTIVE]


async def test_the_new_key_signs_certificates_and_lists(ca: FoundedCA) -> None:
    """Whoever had the old key open records nothing any more; lists have the entries of both generations."""
    (before,) = await ca.issue(1)
    await renewed(ca)
    with pytest.raises(KeyReplacedError, match="another key of the CA took over"):
        await ca.register(notice_line(2), now=SWITCHED)
    with pytest.raises(RefusedError, match="no longer active"):
        await ca.publish(SWITCHED)
    async with with_present_key(ca) as new:
        (after,) = await new.issue(2, now=SWITCHED)
        await new.revoke(before.serial, after.serial, now=SWITCHED)
        await new.publish(SWITCHED)
        lists = await new.lists()
        _, certificate = await certificates(new, "self-signed")
        x509.load_der_x509_certificate(after.certificate).verify_directly_issued_by(certificate)
        assert all(is_by(each, certificate) for each in lists.values())
        assert {each.serial_number for each in lists["132217"]} == {after.serial}, "the old one has ended by then"
        assert (await shown(new))[0] == certificate


async def test_the_list_after_a_switch_has_the_entries_of_both_keys(ca: FoundedCA) -> None:
    """And its number goes on."""
    (before,) = await ca.issue(1, now=PREPARED)
    await renewed(ca)
    async with with_present_key(ca) as new:
        (after,) = await new.issue(2, now=SWITCHED)
        await new.revoke(before.serial, after.serial, now=SWITCHED)
        await new.publish(SWITCHED)
        found = (await new.lists())["132217"]
        assert {each.serial_number for each in found} == {before.serial, after.serial}
        assert found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 2


@pytest.mark.req("R-7-2-1", "R-2-8-3-1", "R-2-6-1-2")
async def test_a_link_that_was_revoked_is_on_the_arl_and_not_in_the_directory(ca: FoundedCA) -> None:
    """The other three certificates stay."""
    await perform(ca, renewal.prepare, NEXT, PREPARED)
    link, other = await certificates(ca, "link")
    await ca.revoke(link.serial_number, now=PREPARED)
    await ca.publish(PREPARED)
    assert {each.serial_number for each in (await ca.lists())["ca"]} == {link.serial_number}
    assert {*await shown(ca)} == {*await certificates(ca, "self-signed"), other}
    await perform(ca, delegates_ahead.perform, AHEAD, PREPARED)
    with pytest.raises(RefusedError, match="not in the directory"):
        await perform(ca, renewal.switch, TURN, SWITCHED)


@pytest.mark.req("R-5-2-2-1", "R-6-1-1-1", "R-6-2-1-2")
async def test_a_renewal_is_agreed_to_by_several_persons(ca: FoundedCA) -> None:
    """Key managers and senior operators; what was agreed to is done once, and recorded with the act."""
    desk = Desk(ca, Clock(PREPARED))
    await desk.register_first()
    persons = who_agree(OperationKind.PREPARE_KEY)
    with pytest.raises(RefusedError, match="key-manager"):
        await desk.run(await desk.agreed(OperationKind.PREPARE_KEY, NEXT, "senior1", "senior2"))
    assert (await sight(ca)).planned is None
    done = await desk.run(await desk.agreed(OperationKind.PREPARE_KEY, NEXT, *persons))
    assert done["state"] == "planned"
    await ca.publish(PREPARED)
    await desk.run(await desk.agreed(OperationKind.DELEGATES_AHEAD, AHEAD, "senior1", "senior2"))
    desk.clock.now = SWITCHED
    number = await desk.agreed(OperationKind.SWITCH_KEY, TURN, *persons)
    assert (await desk.run(number))["state"] == "active"
    with pytest.raises(RefusedError, match="done already"):
        await desk.run(number)


@pytest.mark.req("R-4-4-4-4-1")
async def test_a_retired_key_may_sign_the_same_lists_beside_the_new_one(ca: FoundedCA) -> None:
    """A second value with the same number and entries, as long as its certificates live; verified like the first."""
    crl = ca.settings.crl.model_copy(update={"retired_key_signs_crl": True})
    ca = replace(ca, installation=replace(ca.installation, settings=ca.settings.model_copy(update={"crl": crl})))
    (before,) = await ca.issue(1, now=PREPARED)
    await renewed(ca)
    await ca.revoke(before.serial, now=SWITCHED)
    for moment, generations in ((SWITCHED, {1, 2}), (SWITCHED + 3 * YEAR, {2})):
        async with used_list_key(ca.installation, "lists", lambda: moment) as key:  # noqa: B023
            published = await batch.run(ca.installation, key, moment)
        kept = await ca.installation.lists.newest(
            ca.installation.authority_id, Selection("132217", publication_id=published.publication_id), 9
        )
        assert {each.generation for each in kept} == generations
        values = [x509.load_der_x509_crl(await ca.installation.lists.octets(each)) for each in kept]
        assert len({each.extensions.get_extension_for_class(x509.CRLNumber).value for each in values}) == 1
        assert {tuple(entry.serial_number for entry in each) for each in values} == {(before.serial,)}
        keys = {one.number: x509.load_der_x509_certificate(one.certificate) for one in await generations_of(ca)}
        for each, crl_value in zip(kept, values, strict=True):
            assert is_by(crl_value, keys[each.generation])
    async with ca.installation.store.snapshot():
        audit = await open_audit(ca.installation, SWITCHED)
        verified = [one async for one in audit.verify(Selection(label="132217", until=SWITCHED))]
    assert [one.kept.generation for one in verified] == [1, 1, 2]
    assert not any(finding for one in verified[:1] for finding in one.findings)
    # The lists of the switch came a week after those before them; that is all that is wrong with them.
    assert [len(one.findings) for one in verified[1:]] == [1, 1]


# ---------------------------------------------------------------- compromise


async def compromised(ca: FoundedCA, number: int, now: datetime, *, is_lost: bool = False) -> None:
    """The compromise of a key, done to its end."""
    generation = next(one for one in await generations_of(ca) if one.number == number)
    name, sha256 = ca.installation.authority.name.rfc4514_string(), compromise.fingerprint(generation)
    order = CompromiseOrder(name, number, sha256, is_lost, "")
    await perform(ca, compromise.perform, order.parameters, now)


@pytest.mark.req("R-4-14-2", "R-4-13-2")
@pytest.mark.parametrize("is_lost", [False, True])
async def test_after_a_compromise_the_next_key_has_no_links_and_waits_for_nothing(ca: FoundedCA, is_lost: bool) -> None:
    """Nothing leads from a compromised key to another one; and nobody has to have it before it signs."""
    (before,) = await ca.issue(1, now=PREPARED)
    await compromised(ca, 1, PREPARED, is_lost=is_lost)
    await perform(ca, renewal.prepare, NEXT, PREPARED)
    assert await certificates(ca, "link") == []
    await perform(ca, renewal.switch, {"from": None, "to": 2, "without_delegates": 1}, PREPARED)
    assert [key.state for key in (await sight(ca)).keys] == [State.COMPROMISED, State.ACTIVE]
    async with with_present_key(ca) as new:
        await new.issue(2, now=PREPARED)
        await new.publish(PREPARED)
        old, certificate = await certificates(new, "self-signed")
        lists = await new.lists()
        assert await shown(new) == [certificate]
    assert all(is_by(each, certificate) for each in lists.values())
    assert [each.serial_number for each in lists["132217"]] == [before.serial]
    assert [each.serial_number for each in lists["ca"]] == [old.serial_number]


@pytest.mark.req("R-4-14-2", "R-4-4-1-3")
@pytest.mark.parametrize("number", [1, 2])
async def test_no_link_leads_to_a_compromised_key(ca: FoundedCA, number: int) -> None:
    """Neither that which it signed nor that which the other key signed of it: both are on the ARL."""
    await ca.issue(1, now=PREPARED)
    await renewed(ca)
    await compromised(ca, number, SWITCHED)
    own = (await certificates(ca, "self-signed"))[number - 1]
    listed = {each.serial_number for each in (await ca.lists())["ca"]}
    assert listed == {own.serial_number, *(each.serial_number for each in await certificates(ca, "link"))}


@pytest.mark.req("R-4-14-2", "R-6-2-1-9")
async def test_a_compromised_key_that_is_destroyed_is_no_alarm(ca: FoundedCA) -> None:
    """Its certificates are revoked: nobody needs delegates for them, nor its own certificate."""
    await ca.issue(1, now=PREPARED)
    await compromised(ca, 1, PREPARED)
    await perform(ca, renewal.prepare, NEXT, PREPARED)
    standing = ca_sight.alarms(await ca_sight.ca_sight(ca.installation), ca.settings, PREPARED)
    (alarm,) = (one for one in standing if one.name == "ca_key_compromised")
    assert alarm.message.endswith("; let the prepared key take over with `prefca key switch`")
    await perform(ca, renewal.switch, {"from": None, "to": 2, "without_delegates": 1}, PREPARED)
    await perform(ca, delegate.perform, delegate.asked_for(KeyAlgorithm.P256), PREPARED)
    async with with_present_key(ca) as new:
        await new.publish(PREPARED)
    await perform(ca, key_end.destroy, {"generation": 1, "key": "test-tokyo-to-1"}, PREPARED)
    assert ca_sight.alarms(await ca_sight.ca_sight(ca.installation), ca.settings, PREPARED) == []


@pytest.mark.req("R-4-14-2")
async def test_a_delegate_made_during_a_compromise_is_revoked_with_the_key(
    ca: FoundedCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever comes first: a delegate is not recorded, or is among what is revoked."""
    (generation,) = await generations_of(ca)
    order = CompromiseOrder("", 1, "", key_is_lost=False, circumstances="")
    async with ca.another_process() as other, ca.database.connect("owner") as connection:
        deciding: list[asyncio.Task[int]] = []
        add = ca.installation.store.add_certificates

        async def meanwhile(*arguments: Any) -> None:
            deciding.append(asyncio.create_task(compromise.decide(other.installation, generation, order, PREPARED)))
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            while not (deciding[0].done() or await connection.fetchval(waiting)):
                await connection.execute("SELECT pg_sleep(0.01)")
            await add(*arguments)

        monkeypatch.setattr(Store, "add_certificates", lambda _, *arguments: meanwhile(*arguments))
        await perform(ca, delegates_ahead.perform, AHEAD, PREPARED)
        await asyncio.gather(*deciding)
    open_ones = (
        "SELECT count(*) FROM certificate c WHERE not_after >= $1"
        " AND NOT EXISTS (SELECT FROM revocation r WHERE r.serial = c.serial)"
    )
    assert await ca.query(open_ones, PREPARED) == 0


async def generations_of(ca: FoundedCA) -> list[Generation]:
    """All keys as generations."""
    return [key.generation for key in (await sight(ca)).keys]
