"""The CA's next key: prepared and published by the one before it, then it takes over (R-4-13-1, R-4-13-2).

    prepare -> next lists: in the directory -> delegates in advance -> switch           old: retired, new: active

Whoever meets a certificate of the new key can find a path to it from then on, because links were published before the
key's first use: else the failure would be the operator's fault (RFC 4210, sections 4.4.2.4 and 4.4.2.5).

Prepared is all at once or not at all. A key that was made and not recorded is used when it is prepared again; when it
was made is written down before it is, for certificates tell that day (R-7-1-4).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from issuer.errors import RefusedError
from issuer.generations.founding import key_label, making
from issuer.installation import ActiveKey, Installation, key_of, opened_keys
from issuer.keys import CAKeys
from issuer.lists import batch
from issuer.operations.act import Act, Facts
from issuer.profiles.authority import Kind
from issuer.profiles.generation import State
from issuer.profiles.profile import CA_SIGNING_YEARS, Issuer, self_signed, serial_number
from issuer.records.rows import DelegateRow, Generation, KeyRow, NewCertificate, new_certificate
from issuer.rules.operation import Parameters
from issuer.servers.delegate import covered_until
from issuer.signing.ca_key import KeySight
from issuer.signing.certification import Joined, certify_link, certify_self
from issuer.signing.key_sight import key_sight
from issuer.signing.key_use import recorded
from pkix.signing import NoSuchKeyError, Signer
from pkix.validity import counting_first_day, whole_second, zulu

_NOT_RECORDED: Final = 0  # a generation_id that no row has


# ---------------------------------------------------------------- prepare


async def next_key(installation: Installation) -> Parameters:
    """What is signed to prepare the next key.

    Raises:
        RefusedError: there is no first one yet.
    """
    sight = await key_sight(installation)
    if not sight.keys:
        raise RefusedError("this CA has no key yet; `prefca init` or `prefca found` makes a first one")
    number = sight.planned.generation.number if sight.planned else sight.keys[-1].generation.number + 1
    return {"generation": number, "key": key_label(installation.authority, number)}


async def prepare(act: Act) -> Facts:
    """Make the next key with its self-signed certificate, and the links between it and the key that signs now.

    Parameters: `generation`, the number of the next key; `key`, what it is to be called. If it is prepared already,
    nothing happens. A CA whose key was compromised gets no links: nothing leads from that key to another one.

    Raises:
        NotNowError: somebody else makes a key of a CA.
        RefusedError: the parameters are not those of the next key, or another one is planned.
        SigningError: a key cannot be made or used now.
        LintError: a certificate breaks its profile.
    """
    async with making(act.installation.store):
        sight = await key_sight(act.installation)
        if sight.planned is not None and _is_planned(act, sight.planned.generation):
            return _facts(sight.planned.generation, State.PLANNED)
        number = sight.keys[-1].generation.number + 1
        if _asked(act) != (number, key_label(act.installation.authority, number)):
            raise RefusedError(f"the next key of this CA is number {number}; run `prefca key prepare` again")
        return await _prepare(act, sight)


def _asked(act: Act) -> tuple[object, object]:
    return act.parameters["generation"], act.parameters["key"]


def _is_planned(act: Act, planned: Generation) -> bool:
    """Whether it is prepared already.

    Raises:
        RefusedError: another one is.
    """
    if _asked(act) != (planned.number, planned.key_reference):
        raise RefusedError(f"key {planned.number} is prepared already; `prefca key switch` makes it the CA's key")
    return True


async def _prepare(act: Act, sight: KeySight) -> Facts:
    installation, now = act.installation, whole_second(act.clock())
    label = str(act.parameters["key"])
    async with opened_keys(installation) as keys:
        signer, made_at = await _made(installation, keys, label, now)
        serials = [serial_number(act.random_octets(8)) for _ in range(3)]
        certificate = certify_self(signer, self_signed(installation.authority, signer.public_key, serials[0], now))
        number = int(act.parameters["generation"] or 0)
        signs = counting_first_day(made_at, CA_SIGNING_YEARS)
        generation = Generation(_NOT_RECORDED, installation.authority_id, number, label, certificate, signs.not_after)
        issuer = Issuer(installation.authority, x509.load_der_x509_certificate(certificate))
        new = ActiveKey(generation, issuer, signer)
        links = await _links(act, keys, (sight.active, new), made_at, serials[1:])
    partitions = await installation.store.partitions(installation.authority_id)
    (partition_id,) = (one.partition_id for one in partitions if one.kind == "ca")
    async with installation.store.transaction():
        if sight.active is not None:
            await installation.store.require_active(sight.active.generation.generation_id)
        new_id = await installation.generations.add_planned(generation, signs)
        rows = [new_certificate(certificate, new_id, partition_id, Kind.SELF_SIGNED)]
        rows += [new_certificate(der, signed_by or new_id, partition_id, Kind.LINK) for der, signed_by in links]
        await installation.store.add_certificates(rows, now)
        await installation.store.record("key_prepared", now, label, {"generation": number})
        await installation.store.record_many("certificate_issued", now, [_issued(row) for row in rows])
        await act.settle(facts := _facts(generation, State.PLANNED))
    return facts


async def _made(installation: Installation, keys: CAKeys, label: str, now: datetime) -> tuple[Signer, datetime]:
    """The new key, and when it was made.

    Raises:
        RefusedError: there is one of which nothing says so.
        SigningError: it cannot be made or used now.
    """
    try:
        signer = keys.signer(label)
    except NoSuchKeyError:
        await installation.store.record("key_generation", now, label)
        return keys.get_or_create(label), now
    made_at = await installation.generations.key_made_at(label)
    if made_at is None:
        raise RefusedError(
            f"there is a key {label} that this CA has not made, as its records say; after a restore it may be the CA's"
            " own, in use (docs/recovery.md); remove it where it is only if it is nobody's"
        )
    return signer, made_at


async def _links(
    act: Act, keys: CAKeys, old_and_new: tuple[KeyRow | None, ActiveKey], made_at: datetime, serials: Sequence[int]
) -> list[tuple[bytes, int]]:
    """OldWithNew and NewWithOld, DER, each with the generation_id of the key that signed it."""
    row, new = old_and_new
    if row is None:
        return []
    old = key_of(act.installation, row.generation, keys)
    of_new, of_old = (Joined(subject=key.issuer.certificate, old=old.issuer.certificate) for key in (new, old))
    async with recorded(act.installation, new, "link", act.clock) as by_new:
        old_with_new = certify_link(by_new, of_old, serials[0], row.signs_from)
    async with recorded(act.installation, old, "link", act.clock) as by_old:
        new_with_old = certify_link(by_old, of_new, serials[1], made_at)
    return [(old_with_new, _NOT_RECORDED), (new_with_old, row.generation.generation_id)]


def _issued(row: NewCertificate) -> tuple[str, dict[str, object]]:
    return f"{row.serial:016X}", {"kind": row.kind}


def _facts(generation: Generation, state: State) -> Facts:
    certificate = x509.load_der_x509_certificate(generation.certificate)
    return {
        "generation": generation.number,
        "key": generation.key_reference,
        "state": state.value,
        "signs_until": zulu(generation.signs_until),
        "not_after": zulu(certificate.not_valid_after_utc),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


# ---------------------------------------------------------------- switch


async def turn(installation: Installation, *, without_delegates: bool = False) -> Parameters:
    """What is signed to let the prepared key take over.

    Raises:
        RefusedError: none is prepared.
    """
    sight = await key_sight(installation)
    if sight.planned is None:
        raise RefusedError("no key is prepared; run `prefca key prepare` first")
    old = None if sight.active is None else sight.active.generation.number
    return {"from": old, "to": sight.planned.generation.number, "without_delegates": int(without_delegates)}


async def switch(act: Act) -> Facts:
    """The prepared key takes over; from then on it signs certificates and lists.

    Parameters: `from`, the number of the key that signs now, or None; `to`, that of the prepared one;
    `without_delegates`, 1 if OCSP may end for certificates of the old key: when it can make none any more.

    Raises:
        NotNowError: a batch of this CA is running.
        RefusedError: something is missing; the message names it.
        SigningError: the new key cannot be used now.
    """
    installation = act.installation
    async with batch.alone(installation):
        sight = await key_sight(installation)
        old, new = _asked_for(act, sight)
        async with opened_keys(installation) as keys:
            key_of(installation, new.generation, keys)
        async with installation.store.transaction():
            now = whole_second(act.clock())
            await installation.store.record("key_switched", now, new.generation.key_reference)
            if old is not None:
                await installation.generations.move(old.generation.generation_id, State.RETIRED)
            await installation.generations.move(new.generation.generation_id, State.ACTIVE)
            # Only now: nobody issues under the old key any more, and what was issued meanwhile counts.
            await _require_ready(act, sight, now)
            await act.settle(facts := _facts(new.generation, State.ACTIVE))
    return facts


def obstacles(
    sight: KeySight, delegates: Sequence[DelegateRow], lead: timedelta, now: datetime
) -> Iterator[tuple[bool, str]]:
    """What the prepared key has to wait for: whether that is a delegate, and what to do.

    Args:
        sight: with a planned key.
        delegates: all of the CA.
        lead: how long its certificates have to be in the directory before (`ca.link_lead_h`).
        now: the moment.
    """
    if sight.planned is None:
        return
    if sight.active is not None:
        if sight.shown_since is None:
            yield False, "the new certificates are not in the directory; run `prefca batch --now`"
        elif (known_from := whole_second(sight.shown_since) + lead) > now:
            yield False, f"relying parties may not have the new certificates before {zulu(known_from)}"
        until = sight.active.residents_until
        if until is not None and covered_until(sight.active, delegates, now) < max(until, now):
            number = sight.active.generation.number
            yield True, f"OCSP delegates of key {number} are missing; run `prefca ocsp-delegate create --ahead`"
    if covered_until(sight.planned, delegates, now) <= now:
        number = sight.planned.generation.number
        yield True, f"key {number} has no OCSP delegate; run `prefca ocsp-delegate create --ahead`"


def _asked_for(act: Act, sight: KeySight) -> tuple[KeyRow | None, KeyRow]:
    old, new = sight.active, sight.planned
    if new is None:
        raise RefusedError("no key is prepared; run `prefca key prepare` first")
    asked = (act.parameters["from"], act.parameters["to"])
    if asked != (None if old is None else old.generation.number, new.generation.number):
        raise RefusedError("the keys of the CA are others now; `prefca key list` shows them")
    return old, new


async def _require_ready(act: Act, sight: KeySight, now: datetime) -> None:
    installation = act.installation
    keys = await installation.generations.keys(installation.authority_id)
    until = {key.generation.generation_id: key.residents_until for key in keys}
    current = KeySight(
        tuple(replace(key, residents_until=until[key.generation.generation_id]) for key in sight.keys),
        sight.shown_since,
    )
    delegates = await installation.store.delegates(installation.authority_id)
    lead = timedelta(hours=installation.settings.ca.link_lead_h)
    found = [
        what
        for is_delegate, what in obstacles(current, delegates, lead, now)
        if not (is_delegate and act.parameters["without_delegates"])
    ]
    if found:
        raise RefusedError("; ".join(found))
