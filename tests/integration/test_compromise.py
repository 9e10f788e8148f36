"""A key of the CA is compromised: what is stopped, revoked, published and told, also after a kill."""

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from issuer.acts import PERFORMERS
from issuer.alarm import Alarm
from issuer.errors import NotNowError, RefusedError
from issuer.installation import list_key
from issuer.lists import batch
from issuer.operations.act import Act, Facts
from issuer.recovery import compromise
from issuer.recovery.compromise import CompromiseOrder
from issuer.rules.operation import OperationKind
from issuer.signing.key_sight import key_sight
from issuer.watch import ca_sight
from tests.support.ca import NOW, PASSPHRASE_FILE, FoundedCA, notice_line
from tests.support.command import Prefca, select

LATER = NOW + timedelta(hours=1)
CIRCUMSTANCES = "暗号モジュールの所在を確認できません。"


def order(ca: FoundedCA, **changes: object) -> CompromiseOrder:
    """What the persons agree to, of the CA's first key."""
    fields: dict[str, object] = {
        "name": ca.installation.authority.name.rfc4514_string(),
        "number": 1,
        "fingerprint": compromise.fingerprint(ca.key.generation),
        "key_is_lost": False,
        "circumstances": CIRCUMSTANCES,
    }
    return CompromiseOrder(**(fields | changes))  # type: ignore[arg-type]


async def perform(ca: FoundedCA, asked: CompromiseOrder, clock: Callable[[], datetime] = lambda: LATER) -> Facts:
    act = Act(ca.installation, asked.parameters, clock, secrets.token_bytes)
    return await PERFORMERS[OperationKind.COMPROMISE](act)


async def alarms(ca: FoundedCA) -> list[Alarm]:
    """Those about compromised keys."""
    made = await ca.installation.recovery.compromises(ca.installation.authority_id)
    return compromise.alarms(made, await key_sight(ca.installation))


def notices_of(ca: FoundedCA) -> Path:
    return ca.settings.instance / "compromise" / ca.key.generation.key_reference


@pytest.mark.req("R-4-4-1-3", "R-4-4-9-2", "R-4-14-2", "R-2-1-2-10")
async def test_a_compromise_revokes_publishes_and_tells(ca: FoundedCA) -> None:
    """Lists and ARL with cACompromise for everything are in force, and notices in Japanese are written."""
    issued = {one.serial for one in await ca.issue(*range(3))}
    facts = await perform(ca, order(ca))
    assert facts["certificates_revoked"] == len(issued) + 2  # the delegate and the CA's own
    lists = await ca.lists()
    assert {entry.serial_number for entry in lists["132217"]} == issued
    (own,) = lists["ca"]
    assert own.serial_number == ca.key.issuer.certificate.serial_number
    reasons = {
        entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        for made in lists.values()
        for entry in made
    }
    assert reasons == {x509.ReasonFlags.ca_compromise}
    key = ca.key.issuer.certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert all(made.is_signature_valid(key) for made in lists.values())
    fingerprint = ca.key.issuer.certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    for name in ("web.html", "web.txt", "bca.txt"):
        text = (notices_of(ca) / name).read_text()
        assert "東京都知事（テスト）の秘密鍵の危殆化" in text
        assert all(said in text for said in (CIRCUMSTANCES, fingerprint, "2026年4月1日13時00分00秒"))
    assert "個人認証BCA" in (notices_of(ca) / "bca.txt").read_text()
    assert await ca.query("SELECT count(*) FROM operation_record WHERE kind = 'ca_key_compromised'") == 1


@pytest.mark.req("R-4-14-2")
async def test_nothing_is_issued_with_a_compromised_key(ca: FoundedCA) -> None:
    """Not by a run that had the key open before, nor by another one; the alarm stands until there is a new key."""
    await perform(ca, order(ca))
    with pytest.raises(RefusedError, match="no longer active"):
        await ca.register(notice_line(7), now=LATER)
    assert await ca.query("SELECT count(*) FROM certificate WHERE kind = 'resident'") == 0
    assert [alarm.name for alarm in await alarms(ca)] == ["ca_key_compromised"]


@pytest.mark.req("R-4-14-2")
async def test_delegates_go_on_telling_that_all_is_revoked(ca: FoundedCA) -> None:
    """Whom the responder may sign with stays; a delegate that was revoked for itself before does not."""
    of_responder = "SELECT array_agg(serial) FROM ocsp_delegate_v1"
    before = await ca.query(of_responder)
    await perform(ca, order(ca))
    assert len(before) == 1
    assert await ca.query(of_responder) == before


async def test_a_delegate_that_was_revoked_before_stays_out(ca: FoundedCA) -> None:
    """Its own key may be compromised."""
    (serial,) = await ca.query("SELECT array_agg(serial) FROM ocsp_delegate_v1")
    await ca.revoke(serial)
    await perform(ca, order(ca))
    assert await ca.query("SELECT count(*) FROM ocsp_delegate_v1") == 0


@pytest.mark.req("R-4-14-2", "R-4-4-9-2")
async def test_a_compromise_that_was_killed_is_gone_on_with(ca: FoundedCA) -> None:
    """After the decision an alarm stands, until lists are published and notices written; twice does no harm."""
    await ca.publish()
    await compromise.decide(ca.installation, ca.key.generation, order(ca), LATER)
    assert [alarm.name for alarm in await alarms(ca)] == ["compromise_unfinished", "ca_key_compromised"]
    first, again = [await compromise.follow(ca.installation, ca.key.generation, lambda: LATER) for _ in range(2)]
    assert first == again
    assert [alarm.name for alarm in await alarms(ca)] == ["ca_key_compromised"]
    assert len((await ca.lists())["ca"]) == 1
    assert first["publication"] == await ca.query("SELECT max(publication_id) FROM publication")
    assert await ca.query("SELECT count(*) FROM publication") == 2


@pytest.mark.req("R-4-14-2")
async def test_two_may_go_on_with_it_at_once(ca: FoundedCA) -> None:
    """Somebody resumes what another one waits for: both come to the end, which is recorded once."""
    await compromise.decide(ca.installation, ca.key.generation, order(ca), LATER)
    async with ca.another_process() as other:
        both = [compromise.follow(one.installation, ca.key.generation, lambda: LATER) for one in (ca, other)]
        first, second = await asyncio.gather(*both)
    assert first == second
    assert await ca.query("SELECT count(*) FROM operation_record WHERE kind = 'compromise_finished'") == 1


async def test_lists_that_were_read_just_before_do_not_do(ca: FoundedCA) -> None:
    """A batch that began in the same second and read the database before: its lists say nothing of it."""
    await ca.publish(LATER + timedelta(milliseconds=900))
    await compromise.decide(ca.installation, ca.key.generation, order(ca), LATER + timedelta(milliseconds=950))
    await compromise.follow(ca.installation, ca.key.generation, lambda: LATER + timedelta(seconds=1))
    assert len((await ca.lists())["ca"]) == 1


@pytest.mark.req("R-4-14-2")
async def test_the_scheduler_publishes_what_a_killed_compromise_did_not(ca: FoundedCA) -> None:
    """At once, whatever the schedule says."""
    await ca.publish()
    await compromise.decide(ca.installation, ca.key.generation, order(ca), LATER)
    recovery, authority_id = ca.installation.recovery, ca.installation.authority_id
    made = await recovery.compromises(authority_id)
    in_force = await ca.installation.store.publication_in_force(authority_id)
    assert compromise.waits_for_lists(made, in_force)
    async with list_key(ca.installation) as key:
        await batch.run(ca.installation, key, LATER)
    in_force = await ca.installation.store.publication_in_force(authority_id)
    assert not compromise.waits_for_lists(made, in_force)


@pytest.mark.req("R-4-14-2")
async def test_a_key_that_is_away_delays_the_lists_alone(ca: FoundedCA, tmp_path: Path) -> None:
    """All is revoked and told; the message says how to go on, and it goes on from there."""
    passphrase = ca.settings.path(PASSPHRASE_FILE)
    away = passphrase.rename(passphrase.with_name("away"))
    try:
        with pytest.raises(NotNowError, match=r"OCSP tells so, but the lists .*`prefca compromise --resume`"):
            await perform(ca, order(ca))
    finally:
        away.rename(passphrase)
    assert await ca.query("SELECT bool_and(reason = 2) FROM certificate_status_v1")
    assert "新しい秘密鍵により発行します" in (notices_of(ca) / "web.txt").read_text()
    await perform(ca, order(ca))
    assert "に発行しました" in (notices_of(ca) / "web.txt").read_text()


async def test_a_lost_key_needs_no_lists_to_be_finished(ca: FoundedCA) -> None:
    """Nothing can sign them before there is a new key; OCSP tells."""
    facts = await perform(ca, order(ca, key_is_lost=True))
    assert facts["publication"] is None
    assert [alarm.name for alarm in await alarms(ca)] == ["ca_key_compromised"]
    with pytest.raises(RefusedError, match="no key of this CA is active or can sign lists"):
        async with list_key(ca.installation):
            pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"name": "C=JP"}, "the name that was typed is not that of this CA", id="another name"),
        pytest.param({"fingerprint": "00" * 32}, "the fingerprint that was typed is not that of key", id="another key"),
        pytest.param({"number": 2}, "this CA has no key number 2", id="no such key"),
    ],
)
async def test_an_order_of_another_key_does_nothing(change: dict[str, object], message: str, ca: FoundedCA) -> None:
    """What was signed is looked at again when it is performed."""
    with pytest.raises(RefusedError, match=message):
        await perform(ca, order(ca, **change))
    assert await ca.query("SELECT count(*) FROM revocation") == 0


async def test_a_compromise_is_final(ca: FoundedCA) -> None:
    """Not even the owner of the database takes it back."""
    await perform(ca, order(ca))
    for change in ("UPDATE compromise SET certificates = 0", "DELETE FROM compromise"):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await ca.query(change)


async def test_it_is_an_alarm(ca: FoundedCA) -> None:
    """Until it is finished and there is another key; nobody wants a delegate of a key that can make none."""
    await compromise.decide(ca.installation, ca.key.generation, order(ca), LATER)
    standing = ca_sight.alarms(await ca_sight.ca_sight(ca.installation), ca.settings, LATER)
    assert [alarm.name for alarm in standing] == ["compromise_unfinished", "ca_key_compromised"]


@pytest.mark.req("R-4-14-2")
def test_the_command_asks_for_name_and_fingerprint(instance: Path, prefca: Prefca) -> None:
    """A wrong one does nothing; the right ones end the key, and status tells."""
    status = prefca("status", "--json").json
    name, fingerprint = status["authority"]["name"], status["ca_certificate"]["sha256"]
    refused = prefca("compromise", "--name", name, "--fingerprint", "00" * 32)
    assert (refused.status, select("SELECT state FROM ca_generation")) == (3, [("active",)])
    done = prefca("compromise", "--name", name, "--fingerprint", fingerprint, "--circumstances", "紛失")
    assert done.status == 0, done
    kept = "SELECT detail::jsonb->>'circumstances' FROM operation_record WHERE kind = 'ca_key_compromised'"
    assert select(kept) == [("紛失",)]  # for ten years, with the acts: without operators there is no operation
    assert select("SELECT state FROM ca_generation") == [("compromised",)]
    check = prefca("status", "--check")
    assert (check.status, "ca_key_compromised" in check.stdout) == (5, True)
    assert prefca("batch", "--now").status == 0
    issued = prefca("issue", Path(__file__))
    assert issued.status == 3
    resumed = prefca("compromise", "--resume")
    assert (resumed.status, resumed.complaint) == (3, "no compromise waits to be gone on with")
    assert "紛失" in next((instance / "compromise").glob("*/web.html")).read_text()
