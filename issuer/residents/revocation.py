"""Revocation: for one of five reasons, and for good (R-4-4-4-2-2, R-4-4-2-4)."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from issuer.errors import RefusedError
from issuer.installation import Installation
from issuer.profiles.authority import Kind
from issuer.profiles.profile import MAX_SERIAL
from issuer.records.rows import CertificateRow, Generation, NewRevocation
from issuer.records.store import Store
from pkix.revocation import CRLReason, Revoked, revoked_entry
from pkix.validity import whole_second

_HEXADECIMAL: Final = re.compile("(?:0[xX])?0*([0-9A-Fa-f]{1,16})")  # 8 octets (issuer.profiles.profile)
_DECIMAL: Final = re.compile("[1-9][0-9]{18}")  # all of ours have 19 digits, too many for a hexadecimal number
_DAY: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
FIRST_YEAR: Final = 1900  # a year before is a slip; one of fewer than four digits would spoil a list


@dataclass(frozen=True, slots=True)
class RevocationOrder:
    """What is asked for. `received_at` is when the reception of the request ended: it decides the list (R-4-4-3-1)."""

    serials: Sequence[int]
    reason: CRLReason
    received_at: datetime
    invalidity_date: datetime | None = None


@dataclass(frozen=True, slots=True)
class RevokedNow:
    """Done and committed."""

    serial: int
    status: Revoked


@dataclass(frozen=True, slots=True)
class NotRevoked:
    """Refused, and why."""

    serial: int
    message: str


def parse_reason(value: str) -> CRLReason:
    """A reason by its number or its name in RFC 5280.

    Raises:
        RefusedError: none of the five.
    """
    for reason in CRLReason:
        if value.lower() in {str(reason.value), reason.label.lower()}:
            return reason
    known = ", ".join(f"{reason.value} {reason.label}" for reason in CRLReason)
    raise RefusedError(f"{value!r} is not a reason of the rule; take one of {known}")


def parse_serial(value: str) -> int:
    """A serial number in hexadecimal, as every command prints it, or in the forms of other programs.

    These have spaces or colons between octets, a 0x or zeros in front, or write it in decimal.

    Raises:
        RefusedError: no such number.
    """
    digits = value.replace(":", "").replace(" ", "")
    if _DECIMAL.fullmatch(digits):
        return int(digits)
    hexadecimal = _HEXADECIMAL.fullmatch(digits)
    if hexadecimal is None:
        raise RefusedError(f"{value!r} is not a serial number; write its hexadecimal digits, 16 of them")
    return int(hexadecimal[1], 16)


def parse_moment(value: str) -> datetime:
    """A moment such as 2026-04-01T03:00:00Z or 2026-04-01T12:00:00+09:00; of a mere day its beginning in Japan.

    Raises:
        RefusedError: no such moment.
    """
    whole = f"{value}T00:00:00+09:00" if _DAY.fullmatch(value) else value
    with suppress(ValueError, OverflowError):  # the latter: the year 1
        moment = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S%z").astimezone(UTC)
        if moment.year >= FIRST_YEAR:
            return moment
    raise RefusedError(f"{value!r} is no moment; write a day of Japan like 2026-04-01, or 2026-04-01T03:00:00Z")


def entry_for(
    certificate: CertificateRow,
    reason: CRLReason,
    *,
    received_at: datetime,
    revoked_at: datetime,
    invalidity_date: datetime | None = None,
) -> NewRevocation:
    """The revocation of a certificate, its list entry encoded once and for all."""
    status = Revoked(revoked_at, reason, invalidity_date)
    entry = revoked_entry(certificate.serial, status)
    return NewRevocation(
        certificate.serial, certificate.partition_id, received_at, status, certificate.not_after, entry
    )


async def revoke(installation: Installation, order: RevocationOrder, now: datetime) -> list[RevokedNow | NotRevoked]:
    """Revoke every certificate of the order that can be, in one transaction; say of the others why not."""
    now = whole_second(now)
    if order.received_at > now:
        raise RefusedError("the request would have been received in the future; correct its time")
    if order.invalidity_date is not None and order.invalidity_date > now:
        raise RefusedError("the invalidity date lies in the future; correct it")
    store = installation.store
    async with store.transaction():
        possible = [serial for serial in order.serials if serial <= MAX_SERIAL]
        await store.lock_certificates(possible)
        found = await store.certificates(installation.authority_id, possible)
        refusals = {serial: _refusal(found.get(serial), now) for serial in order.serials}
        new = [
            entry_for(
                found[serial],
                order.reason,
                received_at=order.received_at,
                revoked_at=now,
                invalidity_date=order.invalidity_date,
            )
            for serial, refusal in refusals.items()
            if refusal is None
        ]
        await record_revocations(store, new, now)
    done = {r.serial: r.status for r in new}
    return [
        RevokedNow(serial, done[serial]) if refusal is None else NotRevoked(serial, refusal)
        for serial, refusal in refusals.items()
    ]


async def record_revocations(
    store: Store,
    revocations: Sequence[NewRevocation],
    now: datetime,
    notice_numbers: Mapping[int, str] = MappingProxyType({}),
) -> None:
    """Record revocations, and that they were done; `notice_numbers`: by serial number, of those that have one."""
    if not revocations:
        return
    acts: list[tuple[str, dict[str, object]]] = []
    for one in revocations:
        number = notice_numbers.get(one.serial)
        detail = {} if number is None else {"notice_number": number}
        acts.append((f"{one.serial:016X}", {"reason": one.status.reason, **detail}))
    await store.add_revocations(revocations)
    await store.record_many("certificate_revoked", now, acts)


async def revoke_generation(
    installation: Installation, generation: Generation, reason: CRLReason, now: datetime
) -> int:
    """Revoke everything that a key of the CA signed, its own certificate too: after its compromise (R-4-4-1-3).

    So are the links by which another key of the CA certified it.

    One statement, without a look at single certificates: a million takes seconds. The key stays active, to sign the
    lists that say so; whoever ends it too changes its state in one transaction with this, and nothing more is issued.

    Returns:
        How many certificates were neither expired nor revoked before.
    """
    status = Revoked(whole_second(now), reason)
    entry = revoked_entry(MAX_SERIAL, status)
    before, after = entry.split(MAX_SERIAL.to_bytes(8, "big"))
    store = installation.store
    async with store.transaction():
        await store.begin_registration(installation.authority_id)  # nothing is issued meanwhile
        count = await store.revoke_generation(generation.generation_id, status, (before, after))
        await store.record(
            "certificates_revoked", now, generation.key_reference, {"reason": reason, "certificates": count}
        )
    return count


def _refusal(certificate: CertificateRow | None, now: datetime) -> str | None:
    if certificate is None:
        return "was never issued by this CA; check the serial number"
    if certificate.revoked is not None:
        at, reason = certificate.revoked.at, certificate.revoked.reason
        return f"was revoked at {at:%Y-%m-%dT%H:%M:%SZ} ({reason.label}) and stays so; a revocation is final"
    if certificate.not_after < now:
        return f"expired at {certificate.not_after:%Y-%m-%dT%H:%M:%SZ}; it needs no revocation"
    if certificate.kind is Kind.SELF_SIGNED:
        return "is the CA's own; it is revoked only with its key, when that is compromised"
    return None
