"""OCSP delegates in advance: a key of the CA that is about to be replaced certifies those of the years to come.

Who speaks of a certificate is certified by the key that signed it (RFC 6960, section 4.2.2.2). A key signs for five
years (R-6-3-1-2), its last residents' certificates live three years longer (R-1-3-2-1), and a delegate lives for one
(R-1-3-2-4). So it certifies several, one after the other: each begins a month before the one before it ends.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from issuer.errors import RefusedError
from issuer.installation import Installation, key_of, opened_keys
from issuer.keys import KeyAlgorithm, delegate_label
from issuer.operations.act import Act, Facts
from issuer.profiles.authority import Kind
from issuer.profiles.generation import State
from issuer.profiles.profile import OPERATIONS_YEARS, RESIDENT_YEARS, serial_number
from issuer.records.rows import DelegateRow, KeyRow, NewCertificate, new_certificate
from issuer.rules.operation import Parameters
from issuer.servers import delegate
from issuer.servers.delegate import OVERLAP, covered_until
from issuer.signing.ca_key import TELL_BEFORE, require_in_use
from issuer.signing.key_use import recorded
from pkix.signing import PublicKey
from pkix.validity import counting_first_day, whole_second, zulu

MAX_AHEAD: Final = 12  # more than ten years of them are a mistake


@dataclass(frozen=True, slots=True)
class Planned:
    """A delegate to be made."""

    key: KeyRow  # of the CA, which certifies it
    begins: datetime
    serial: int


def beginnings(covered: datetime, until: datetime, now: datetime) -> list[datetime]:
    """When delegates begin, so that there is always one, from the end of those that exist to a moment.

    Args:
        covered: until when those that exist are enough.
        until: the moment.
        now: none begins before it.
    """
    found: list[datetime] = []
    while covered < until and len(found) < MAX_AHEAD:
        found.append(max(covered + delegate.SECOND - OVERLAP, now))
        covered = counting_first_day(found[-1], OPERATIONS_YEARS).not_after
    return found


def until(key: KeyRow, now: datetime) -> datetime:
    """Until when a key needs delegates: the end of certificates that it may sign until somebody could be late.

    Of a key that signs now, of certificates of its last day, or of the next half year if that is sooner.
    """
    if key.state is State.ACTIVE:
        last = min(key.generation.signs_until, now + TELL_BEFORE)
        return min(counting_first_day(last, RESIDENT_YEARS).not_after, key.not_after)
    return min(key.residents_until or now, key.not_after)


async def asked_for(installation: Installation, number: int | None, algorithm: str, now: datetime) -> Parameters:
    """What is signed to make the delegates of the key with that number, or of the one that signs now.

    Raises:
        RefusedError: there is no such key.
    """
    for key in await installation.generations.keys(installation.authority_id):
        if key.generation.number == number or (number is None and key.state is State.ACTIVE):
            return {"generation": key.generation.number, "until": zulu(until(key, now)), "algorithm": algorithm}
    raise RefusedError("there is no such key of the CA; `prefca key list` shows all keys")


async def perform(act: Act) -> Facts:
    """Make the delegates of a key up to a moment, and the first one of the key that is to follow it.

    Parameters: `generation`, `until` (2034-03-31T14:59:59Z), `algorithm`. What exists is not made again.

    Raises:
        RefusedError: there is no such key, it may not sign any more, or no such time.
        SigningError: a key cannot be made or used now.
        LintError: a certificate breaks its profile.
    """
    installation, now = act.installation, whole_second(act.clock())
    asked = _asked(act)
    keys = await installation.generations.keys(installation.authority_id)
    planned = _planned(act, keys, await installation.store.delegates(installation.authority_id), now)
    delegate.make_passphrase(installation.settings, act.random_octets)
    # First all keys, in their token, then the CA's: a process has one token of a module open at a time.
    public_keys = [delegate.new_key(installation.settings, one.serial, asked) for one in planned]
    made = await _certified(act, planned, public_keys)
    async with installation.store.transaction():
        await _require_states(installation, planned)
        await installation.store.add_certificates(made, now)
        detail = {"kind": Kind.OCSP}
        labels = [delegate_label(one.serial) for one in planned]
        await installation.store.record_many("certificate_issued", now, [(label, detail) for label in labels])
        told = {_name(one): _told(one, new) for one, new in zip(planned, made, strict=True)}
        await act.settle(facts := {"delegates": len(made), **told})
    return facts


def _asked(act: Act) -> KeyAlgorithm:
    try:
        return KeyAlgorithm(str(act.parameters["algorithm"]))
    except ValueError as e:
        raise RefusedError(f"{e}; take rsa2048 or p256") from e


def _until(act: Act) -> datetime:
    try:
        return datetime.strptime(str(act.parameters["until"]), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as e:
        raise RefusedError(f"{e}; write a moment like 2034-03-31T14:59:59Z") from e


def _planned(act: Act, keys: Sequence[KeyRow], delegates: Iterable[DelegateRow], now: datetime) -> list[Planned]:
    by_number = {key.generation.number: key for key in keys}
    key = by_number.get(int(act.parameters["generation"] or 0))
    if key is None or key.state not in {State.ACTIVE, State.RETIRED}:
        raise RefusedError("that is no key of this CA that signs or has signed; `prefca key list` shows all keys")
    require_in_use(key.generation, now)
    until = min(_until(act), key.not_after)
    delegates = list(delegates)
    begins = [(key, begin) for begin in beginnings(covered_until(key, delegates, now), until, now)]
    following = [one for one in keys if one.state is State.PLANNED and covered_until(one, delegates, now) <= now]
    return [
        Planned(one, begin, serial_number(act.random_octets(8)))
        for one, begin in [*begins, *((one, now) for one in following)]
    ]


async def _certified(act: Act, planned: Sequence[Planned], public_keys: Sequence[PublicKey]) -> list[NewCertificate]:
    installation, made = act.installation, []
    partitions = await installation.store.partitions(installation.authority_id)
    (operations,) = (one.partition_id for one in partitions if one.kind == "operations")
    async with opened_keys(installation) as keys:
        for one, public_key in zip(planned, public_keys, strict=True):
            key = key_of(installation, one.key.generation, keys)
            async with recorded(installation, key, "delegate", act.clock) as used:
                der = delegate.certified(used, public_key, one.serial, one.begins)
            made.append(new_certificate(der, one.key.generation.generation_id, operations, Kind.OCSP))
    return made


async def _require_states(installation: Installation, planned: Sequence[Planned]) -> None:
    """No key was compromised or destroyed meanwhile, and none is until the transaction ends.

    Else a delegate would not be among all that is revoked with the key that signed it.

    Raises:
        RefusedError: one was.
    """
    states = await installation.generations.held_states({one.key.generation.generation_id for one in planned})
    if any(states[one.key.generation.generation_id] != one.key.state for one in planned):
        raise RefusedError("the state of a key of the CA changed meanwhile; run it again")


def _name(one: Planned) -> str:
    return f"delegate_{delegate_label(one.serial)}"


def _told(one: Planned, made: NewCertificate) -> str:
    validity = made.validity
    return f"of key {one.key.generation.number}, from {zulu(validity.not_before)} until {zulu(validity.not_after)}"
