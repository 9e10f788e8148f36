"""A key of the CA is compromised (秘密鍵の危殆化): what is done about it, at once (R-4-4-1-3, R-4-4-9-2, R-4-14-2).

    decide   one transaction: the key is `compromised`, so nothing more is issued; all that it signed is revoked
    follow   lists and ARL that say so are published; the notices are written; then it is finished

Responders know when `decide` commits. Killed after that, an alarm stands until `follow` was run to its end, and the
scheduler publishes the lists. Lists are signed by the key that took over, if there is one; else by the compromised key
itself, for nothing else can, until a new key of the CA takes over.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from issuer.alarm import Alarm
from issuer.errors import IssuerError, NotNowError, RefusedError
from issuer.installation import Installation
from issuer.lists import batch
from issuer.operations.act import Act, Facts, Settle
from issuer.profiles.generation import State
from issuer.profiles.lint import LintError
from issuer.profiles.scan import revocations, take_apart
from issuer.records.recovery_store import Compromise
from issuer.records.rows import Generation, KeyRow, Publication
from issuer.recovery.compromise_notice import CompromiseFacts, notices
from issuer.residents.revocation import revoke_generation
from issuer.rules.operation import Parameters
from issuer.schedule import Schedule
from issuer.signing.ca_key import KeySight
from issuer.signing.key_use import used_list_key
from issuer.whole import write_whole
from pkix.revocation import CRLReason
from pkix.signing import SigningError
from pkix.validity import whole_second
from settings.load import ConfigurationError

WAIT_FOR_A_BATCH_S: Final = 60
_POLL_S: Final = 0.2

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class CompromiseOrder:
    """What the persons agree to."""

    name: str  # of the CA, RFC 4514
    number: int  # of the key
    fingerprint: str  # SHA-256 of its self-signed certificate, hexadecimal
    key_is_lost: bool  # nothing more can be signed with it
    circumstances: str

    @property
    def parameters(self) -> Parameters:
        """As they are signed."""
        return {
            "name": self.name,
            "number": self.number,
            "fingerprint": self.fingerprint,
            "key_is_lost": "yes" if self.key_is_lost else "no",
            "circumstances": self.circumstances,
        }

    @classmethod
    def of(cls, parameters: Parameters) -> Self:
        """The order that these parameters say.

        Raises:
            RefusedError: they are none.
        """
        try:
            return cls(
                str(parameters["name"]),
                int(parameters["number"] or 0),
                str(parameters["fingerprint"]),
                {"yes": True, "no": False}[str(parameters["key_is_lost"])],
                str(parameters["circumstances"]),
            )
        except (KeyError, ValueError) as e:
            raise RefusedError(f"these are no parameters of a compromise ({e}); ask for it anew") from e


async def perform(act: Act) -> Facts:
    """Do all of it.

    Raises:
        RefusedError: the order is not of a key of this CA.
        NotNowError: everything is revoked, but what follows has to be gone on with (`follow`).
    """
    installation = act.installation
    order = CompromiseOrder.of(act.parameters)
    key = await key_of(installation, order)
    if key.state is not State.COMPROMISED:
        await decide(installation, key.generation, order, act.clock(), act.settle)
    return await follow(installation, key.generation, act.clock)


async def key_of(installation: Installation, order: CompromiseOrder) -> KeyRow:
    """The key that an order is of.

    Raises:
        RefusedError: name, number or fingerprint are not those of a key of this CA, or it is destroyed.
    """
    name = installation.authority.name.rfc4514_string()
    if order.name != name:
        raise RefusedError(f"the name that was typed is not that of this CA, {name}; nothing was done")
    keys = await installation.generations.keys(installation.authority_id)
    key = next((one for one in keys if one.generation.number == order.number), None)
    if key is None:
        raise RefusedError(f"this CA has no key number {order.number}; `prefca key list` shows its keys")
    if order.fingerprint.replace(":", "").lower() != fingerprint(key.generation):
        raise RefusedError(
            f"the fingerprint that was typed is not that of key {key.generation.key_reference}; nothing was done"
        )
    if key.state is State.DESTROYED:
        raise RefusedError(f"key {key.generation.key_reference} is destroyed; it can sign nothing any more")
    return key


def fingerprint(generation: Generation) -> str:
    """SHA-256 of the self-signed certificate of a key, hexadecimal."""
    return x509.load_der_x509_certificate(generation.certificate).fingerprint(hashes.SHA256()).hex()


async def decide(
    installation: Installation,
    generation: Generation,
    order: CompromiseOrder,
    now: datetime,
    settle: Settle | None = None,
) -> int:
    """Stop issuing and revoke all that the key signed, at once or not at all; how many certificates were revoked."""
    store, recovery, now = installation.store, installation.recovery, whole_second(now)
    async with store.transaction():
        await store.begin_registration(installation.authority_id)
        # First, for whoever issues now is waited for.
        await installation.generations.move(generation.generation_id, State.COMPROMISED)
        count = await revoke_generation(installation, generation, CRLReason.CA_COMPROMISE, now)
        await recovery.add_compromise(
            Compromise(
                generation.generation_id,
                generation.key_reference,
                now,
                order.circumstances,
                order.key_is_lost,
                count,
                None,
            )
        )
        detail = {"certificates": count, "key_is_lost": order.key_is_lost, "circumstances": order.circumstances}
        await store.record("ca_key_compromised", now, generation.key_reference, detail)
        if settle is not None:
            await settle({"key": generation.key_reference, "certificates_revoked": count, "revoked_at": now})
    return count


async def follow(installation: Installation, generation: Generation, clock: Clock) -> Facts:
    """Publish the lists, write the notices, and finish; what was done already is not done again.

    Raises:
        RefusedError: that key is not compromised.
        NotNowError: the lists cannot be published now; notices are written.
    """
    made = await installation.recovery.compromises(installation.authority_id)
    compromise = next((one for one in made if one.generation_id == generation.generation_id), None)
    if compromise is None:
        raise RefusedError(f"key {generation.key_reference} is not compromised; run `prefca compromise`")
    directory = installation.settings.instance / "compromise" / generation.key_reference
    published = await _published(installation, generation, compromise)
    try:
        if published is None and await installation.recovery.list_signer(installation.authority_id) is not None:
            published = await _publish(installation, generation, compromise, clock)
    except (IssuerError, SigningError, LintError, ConfigurationError) as e:
        _write(directory, _facts(installation, generation, compromise, None))
        raise NotNowError(
            f"everything is revoked and OCSP tells so, but the lists cannot be published: {e}; mend that and run"
            " `prefca compromise --resume`"
        ) from e
    files = _write(directory, _facts(installation, generation, compromise, published))
    async with installation.store.transaction():
        if await installation.recovery.finish_compromise(generation.generation_id, clock()):
            await installation.store.record("compromise_finished", clock(), generation.key_reference, {"files": files})
    return {
        "key": generation.key_reference,
        "certificates_revoked": compromise.certificates,
        "revoked_at": compromise.decided_at,
        "publication": published and published.publication_id,
        "notices": str(directory),
    }


async def _published(installation: Installation, generation: Generation, compromise: Compromise) -> Publication | None:
    """The lists in force, if they have what was revoked."""
    in_force = await installation.store.publication_in_force(installation.authority_id)
    if in_force is None or in_force.cut_off < compromise.decided_at:
        return None
    # They may have been read a moment before the revocations were committed. All lists are of one snapshot, so the
    # shortest one tells: the ARL, which has the key's own certificate.
    (arl, *_) = await installation.store.published_lists(in_force.publication_id)
    octets = await installation.lists.value(in_force.publication_id, arl.partition_id, arl.generation)
    listed = dict(revocations(take_apart(octets).entries.tobytes()))
    own = x509.load_der_x509_certificate(generation.certificate)
    is_listed = own.serial_number in listed or own.not_valid_after_utc < compromise.decided_at
    return in_force if is_listed else None


async def _publish(
    installation: Installation, generation: Generation, compromise: Compromise, clock: Clock
) -> Publication | None:
    async with used_list_key(installation, "compromise", clock) as key:
        deadline = asyncio.get_running_loop().time() + WAIT_FOR_A_BATCH_S
        while (published := await _published(installation, generation, compromise)) is None:
            now = clock()
            try:
                await batch.run(installation, key, now, next_publish=Schedule.of(installation.settings).next(now))
            except NotNowError:  # the regular one runs, and began before
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_POLL_S)
        return published


def _facts(
    installation: Installation, generation: Generation, compromise: Compromise, published: Publication | None
) -> CompromiseFacts:
    return CompromiseFacts(
        installation.authority,
        x509.load_der_x509_certificate(generation.certificate),
        compromise.decided_at,
        compromise.circumstances,
        compromise.certificates,
        published.window.this_update if published else None,
    )


def _write(directory: Path, facts: CompromiseFacts) -> dict[str, str]:
    """Write the notices; the SHA-256 of each."""
    directory.mkdir(parents=True, exist_ok=True)
    sums = {}
    for name, text in notices(facts).items():
        write_whole(directory / name, text.encode())
        sums[name] = hashlib.sha256(text.encode()).hexdigest()
    return sums


def alarms(compromises: Sequence[Compromise], sight: KeySight) -> list[Alarm]:
    """What has to be done about compromised keys: go on with what was begun; have a new key of the CA."""
    found = [
        Alarm(
            "compromise_unfinished",
            f"key {one.key_reference} was compromised at {one.decided_at:%Y-%m-%dT%H:%M:%SZ}, and lists or notices are"
            " still to be made; run `prefca compromise --resume`",
        )
        for one in compromises
        if one.finished_at is None
    ]
    if compromises and sight.active is None:
        key = compromises[-1].key_reference
        remedy = "make a new key with `prefca key prepare`"
        if sight.planned is not None:
            remedy = "let the prepared key take over with `prefca key switch`"
        found.append(Alarm("ca_key_compromised", f"nothing is issued, for key {key} is compromised; {remedy}"))
    return found


def waits_for_lists(compromises: Sequence[Compromise], in_force: Publication | None) -> bool:
    """Is something revoked with a key that the lists in force do not have?"""
    return any(
        one.finished_at is None and not one.key_is_lost and (in_force is None or in_force.cut_off < one.decided_at)
        for one in compromises
    )
