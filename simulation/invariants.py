"""What is true of every moment, whatever happened: each invariant is a function that tells what breaks it.

They compare the sight of a moment with the one before it, and know nothing of how either came about.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from issuer.profiles.authority import Kind
from pkix.revocation import CertStatus, Good, Revoked, Unknown
from pkix.validity import JST, Validity
from simulation.sight import SERVING_STATES, Certificate, RevocationList, Sight

# An entry stays a little longer than it must (`store.LATE_REVOCATION`), and whoever looks a day later sees it.
STAYS_AT_MOST: Final = timedelta(days=2)
_YEARS: Final = {Kind.RESIDENT: 3, Kind.OCSP: 1}  # R-1-3-2-1, R-1-3-2-4

Invariant = Callable[[Sight | None, Sight], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Broken:
    """An invariant that did not hold."""

    at: datetime
    invariant: str
    what: str


def broken(before: Sight | None, now: Sight) -> list[Broken]:
    """What does not hold now; `before` is what was seen last, None at the beginning."""
    return [Broken(now.at, name, what) for name, invariant in INVARIANTS.items() for what in invariant(before, now)]


def lists_have_no_gap(before: Sight | None, now: Sight) -> Iterator[str]:
    """At every moment each list is in its validity, and the next one comes before it ends (R-4-4-9-1, R-7-2-1)."""
    for label, seen in now.lists.items():
        if now.at not in seen.window:
            yield f"list {label}: {seen.crl_number} is not in its validity"
    for label, old in before.lists.items() if before else ():
        new = now.lists.get(label)
        if new is None:
            yield f"list {label} is gone"
        elif new.window.not_before > old.window.not_after:
            yield f"list {label}: {new.crl_number} begins after {old.crl_number} has ended"


def list_numbers_rise(before: Sight | None, now: Sight) -> Iterator[str]:
    """A list that differs from the one before has a higher number and a later date; its place stays."""
    for label, old in before.lists.items() if before else ():
        new = now.lists.get(label)
        if new is None or new == old:
            continue
        if new.crl_number <= old.crl_number:
            yield f"list {label}: {new.crl_number} came after {old.crl_number}"
        if new.window.not_before < old.window.not_before:
            yield f"list {label}: {new.crl_number} is dated before {old.crl_number}"
        if new.idp != old.idp:
            yield f"list {label}: its issuingDistributionPoint moved"


def lists_are_signed(before: Sight | None, now: Sight) -> Iterator[str]:
    """Each list verifies with a key of the CA whose certificate is in its validity."""
    del before
    for label, seen in now.lists.items():
        if seen.signer is None or now.at not in now.keys[seen.signer].validity:
            yield f"list {label}: {seen.crl_number} verifies with no key of the CA"


def lists_agree_with_database(before: Sight | None, now: Sight) -> Iterator[str]:
    """A list has all that was revoked in time of what has not expired, as it was revoked, and nothing else."""
    del before
    for one in now.certificates.values():
        seen = now.lists.get(one.label)
        if seen is not None:
            yield from _entry_is_right(one, seen, now)
    for label, seen in now.lists.items():
        for serial in seen.entries:
            if serial not in now.certificates:
                yield f"list {label}: {serial:016X} is no certificate of the CA, or expired long ago"


def _entry_is_right(one: Certificate, seen: RevocationList, now: Sight) -> Iterator[str]:
    entry = seen.entries.get(one.serial)
    if entry is None:
        is_due = one.received_at is not None and one.received_at <= now.cut_off
        if is_due and one.validity.not_after >= seen.window.not_before:
            yield f"list {seen.label}: {one.serial:016X} is revoked and missing"
    elif one.revoked is None:
        yield f"list {seen.label}: {one.serial:016X} is not revoked"
    elif entry != one.revoked:
        yield f"list {seen.label}: {one.serial:016X} was revoked otherwise"
    elif one.validity.not_after < seen.window.not_before - STAYS_AT_MOST:
        yield f"list {seen.label}: {one.serial:016X} expired long ago"


def answers_agree_with_database(before: Sight | None, now: Sight) -> Iterator[str]:
    """The responder says what is recorded at the moment of the query (R-4-4-4-2-1)."""
    del before
    for told in now.told:
        one = now.certificates.get(told.serial)
        if told.status != _status(one, told.generation_id):
            yield f"OCSP: {told.serial:016X} is told to be {_word(told.status)}, but is recorded otherwise"


def answers_agree_with_lists(before: Sight | None, now: Sight) -> Iterator[str]:
    """What is on a list is revoked for the responder too, for the same reason and from the same moment on."""
    del before
    entries = {serial: entry for seen in now.lists.values() for serial, entry in seen.entries.items()}
    for told in now.told:
        entry = entries.get(told.serial)
        if entry is not None and told.status != entry:
            yield f"OCSP: {told.serial:016X} is on a list, but told to be {_word(told.status)}"


def answers_are_authorized(before: Sight | None, now: Sight) -> Iterator[str]:
    """Answers hold now, and are signed by a delegate of the key they are about, in his validity (RFC 6960, 4.2.2.2)."""
    del before
    for told in now.told:
        delegate = now.certificates.get(told.delegate)
        if now.at not in told.window:
            yield f"OCSP: the answer about {told.serial:016X} does not hold now"
        if told.signer != told.generation_id:
            yield f"OCSP: {told.serial:016X} is answered for by a delegate of another key"
        if delegate is None or delegate.revoked is not None or now.at not in delegate.validity:
            yield f"OCSP: {told.serial:016X} is answered for by {told.delegate:016X}, who is no delegate now"
    for refusal in now.refusals:
        if now.keys[refusal.generation_id].state in SERVING_STATES:
            yield f"OCSP: key {now.keys[refusal.generation_id].number} is answered for with {refusal.status}"


def one_key_is_active(before: Sight | None, now: Sight) -> Iterator[str]:
    """One key signs; none only from a compromise until the next key takes over."""
    del before
    used = sorted((key for key in now.keys.values() if key.state != "planned"), key=lambda key: key.number)
    numbers = [key.number for key in used if key.state == "active"]
    if len(numbers) > 1 or (not numbers and used[-1].state != "compromised"):
        yield f"active keys: {numbers}"


def compromised_keys_leave_nothing_valid(before: Sight | None, now: Sight) -> Iterator[str]:
    """All that a compromised key signed is revoked (R-4-4-1-3, R-4-14-2)."""
    del before
    for one in now.valid():
        if now.keys[one.generation_id].state == "compromised" and one.revoked is None:
            yield f"{one.kind} certificate {one.serial:016X} of compromised key {_number(now, one)} is valid"


def every_key_has_a_delegate(before: Sight | None, now: Sight) -> Iterator[str]:
    """Someone speaks for every key with certificates that have not expired, years after its last one too."""
    del before
    needed = {one.generation_id for one in now.valid() if one.kind is Kind.RESIDENT}
    needed = {generation for generation in needed if now.keys[generation].state in SERVING_STATES}
    for generation in sorted(needed - now.spoken_for()):
        yield f"key {now.keys[generation].number} has certificates and no delegate"


def nothing_outlives_its_issuer(before: Sight | None, now: Sight) -> Iterator[str]:
    """A certificate ends before that of the key that signed it; it begins after it, unless it links an older key."""
    del before
    for one in now.certificates.values():
        issuer = now.keys[one.generation_id].validity
        is_early = one.validity.not_before < issuer.not_before and one.kind is not Kind.LINK  # RFC 4210, section 4.4.2
        if is_early or one.validity.not_after > issuer.not_after:
            yield f"{one.kind} certificate {one.serial:016X} is not within that of key {_number(now, one)}"


def keys_are_used_in_their_time(before: Sight | None, now: Sight) -> Iterator[str]:
    """A key signs residents' certificates for five years at most (R-4-13-1, R-6-3-1-2), and only while it is active."""
    for one in _new(before, now):
        key = now.keys[one.generation_id]
        if one.kind is Kind.RESIDENT and one.issued_at not in key.signs:
            yield f"certificate {one.serial:016X} was issued outside the five years of key {key.number}"


def keys_are_known_before_use(before: Sight | None, now: Sight) -> Iterator[str]:
    """A key's certificates are in the directory before it signs a resident's certificate or a list.

    But the first one's, and that of the one after a compromised key: it is made known otherwise (R-6-1-1-6).
    """
    if before is None:
        return
    followed = {key.number for key in now.keys.values() if key.state != "compromised"}
    later = {generation for generation, key in now.keys.items() if key.number - 1 in followed} - before.published
    later -= {seen.signer for seen in before.lists.values()}
    for one in _new(before, now):
        if one.generation_id in later and one.kind is Kind.RESIDENT:
            yield f"certificate {one.serial:016X} is of key {_number(now, one)}, which was not published before"
    for label, seen in now.lists.items():
        if seen.signer in later:
            yield f"list {label}: {seen.crl_number} is of a key that was not published before"


def living_keys_are_published(before: Sight | None, now: Sight) -> Iterator[str]:
    """The directory has the certificate of every key that is in use or has certificates in use."""
    del before
    needed = {one.generation_id for one in now.valid() if one.kind is Kind.RESIDENT}
    for generation, key in now.keys.items():
        is_needed = key.state == "active" or (key.state == "retired" and generation in needed)
        if is_needed and generation not in now.published:
            yield f"key {key.number} is in use, and its certificate is not in the directory"


def old_and_new_keys_are_linked(before: Sight | None, now: Sight) -> Iterator[str]:
    """While certificates of a key live, the directory has the links between it and the next one, both of them."""
    del before
    needed = {one.generation_id for one in now.valid() if one.kind is Kind.RESIDENT}
    serving = sorted((key for key in now.keys.values() if key.state in SERVING_STATES), key=lambda key: key.number)
    for old, new in pairwise(serving):
        pair = (old.generation_id, new.generation_id)
        if new.number == old.number + 1 and old.generation_id in needed and not {pair, pair[::-1]} <= now.linked:
            yield f"keys {old.number} and {new.number} are not linked both ways in the directory"


def cross_pairs_are_in_force(before: Sight | None, now: Sight) -> Iterator[str]:
    """A pair of cross certificates is shown while both are in force, and of a key of the CA."""
    del before
    for pair in now.pairs:
        ours = now.certificates.get(pair.ours)
        if ours is None or ours.kind is not Kind.CROSS or ours.validity.not_after < now.cut_off:
            yield f"the pair of {pair.ours:016X} is shown, and that is no cross certificate now"
        elif ours.received_at is not None and ours.received_at <= now.cut_off:
            yield f"the pair of {pair.ours:016X} is shown, and that is revoked"
        if pair.theirs_ends < now.cut_off or pair.certified is None:
            yield f"the pair of {pair.ours:016X} is shown, and the other half has ended or is of another key"


def restricted_lists_are_hidden(before: Sight | None, now: Sight) -> Iterator[str]:
    """Residents' lists are for those with the right, the others for everybody (R-2-6-3-1, R-2-6-3-2)."""
    del before
    for label, seen in now.lists.items():
        if seen.is_restricted != label.isdigit():
            yield f"list {label} is {'restricted' if seen.is_restricted else 'shown to everybody'}"


def revocations_stay(before: Sight | None, now: Sight) -> Iterator[str]:
    """What was revoked stays so, from the same moment and for the same reason (R-4-4-2-4)."""
    for old in before.certificates.values() if before else ():
        new = now.certificates.get(old.serial)
        if old.revoked is not None and new is not None and new.revoked != old.revoked:
            yield f"{old.serial:016X} was revoked, and is so no more, or otherwise"


def validity_is_that_of_the_rule(before: Sight | None, now: Sight) -> Iterator[str]:
    """Residents' certificates are for three years, delegates' for one, counted in Japan, the first day in."""
    for one in _new(before, now):
        years = _YEARS.get(one.kind)
        if years is not None and _first_day_after(one.validity) != _anniversary(one.validity, years):
            yield f"{one.kind} certificate {one.serial:016X} does not end with the day before its {years}-year day"


def _first_day_after(validity: Validity) -> date | None:
    """The day in Japan that begins a second after the end; None: no day begins then."""
    after = (validity.not_after + timedelta(seconds=1)).astimezone(JST)
    return after.date() if after.time() == time() else None


def _anniversary(validity: Validity, years: int) -> date:
    first = validity.not_before.astimezone(JST).date()
    try:
        return first.replace(year=first.year + years)
    except ValueError:  # 29 February: its month simply ends
        return date(first.year + years, 3, 1)


INVARIANTS: Final = MappingProxyType(
    {
        function.__name__.replace("_", " "): function
        for function in (
            lists_have_no_gap,
            list_numbers_rise,
            lists_are_signed,
            lists_agree_with_database,
            answers_agree_with_database,
            answers_agree_with_lists,
            answers_are_authorized,
            one_key_is_active,
            compromised_keys_leave_nothing_valid,
            every_key_has_a_delegate,
            nothing_outlives_its_issuer,
            keys_are_used_in_their_time,
            keys_are_known_before_use,
            living_keys_are_published,
            old_and_new_keys_are_linked,
            cross_pairs_are_in_force,
            restricted_lists_are_hidden,
            revocations_stay,
            validity_is_that_of_the_rule,
        )
    }
)


def _new(before: Sight | None, now: Sight) -> Iterator[Certificate]:
    """The certificates that were not there before."""
    known = before.certificates if before else {}
    return (one for serial, one in now.certificates.items() if serial not in known)


def _status(one: Certificate | None, generation_id: int) -> CertStatus:
    if one is None or one.generation_id != generation_id:
        return Unknown()
    return one.revoked or Good()


def _word(status: CertStatus) -> str:
    match status:
        case Good():
            return "good"
        case Revoked(reason=reason):
            return f"revoked ({reason.label})"
        case Unknown():
            return "unknown"


def _number(now: Sight, one: Certificate) -> int:
    return now.keys[one.generation_id].number
