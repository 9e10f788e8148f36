"""Operations on a key of the CA: asked for, agreed to by several persons, done once, for everybody to see (R-5-2-2-1).

    request -> approve … approve -> run: begun -> performer -> done | failed
    at once, while a test CA has no operators: begun -> performer -> done | failed

What people sign is the content of the request, octet for octet; nothing else is looked at when it is run. That it
begins is recorded before anything is done. A process that is killed leaves it begun: `operation.REPEATABLE`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from issuer.errors import IssuerError, NotNowError, RefusedError
from issuer.installation import Installation, account, origin
from issuer.operations import consent
from issuer.operations.act import Act, Facts, Performer
from issuer.operations.consent import Case
from issuer.profiles.lint import LintError
from issuer.records.operation_store import Approval, Event, Happening, OperationRow, TwiceError
from issuer.rules.operation import QUORUM, OperationKind, Parameters, Role
from issuer.rules.person import Operator
from issuer.rules.request import Place, Request, content, digest, is_plain
from pkix.names import text
from pkix.signing import SigningError, verify
from pkix.validity import whole_second
from settings.load import ConfigurationError

_NONCE_OCTETS = 16
_EXPECTED = (IssuerError, SigningError, LintError, ConfigurationError)  # whoever raises them has done nothing


@dataclass(frozen=True, slots=True)
class Means:
    """What operations are done with."""

    performers: Mapping[OperationKind, Performer]
    clock: Callable[[], datetime]
    random_octets: Callable[[int], bytes]
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for."""

    kind: OperationKind
    parameters: Parameters


async def operators(installation: Installation) -> list[Operator]:
    """All who are or were operators of this CA."""
    return await installation.operations.operators(installation.authority_id)


async def needs_agreement(installation: Installation) -> bool:
    """A test CA without operators is one person's to play with; for every other CA several persons agree."""
    return installation.authority.hierarchy != "test" or bool(await operators(installation))


async def place(installation: Installation) -> Place:
    """Which CA this is, with which key."""
    authority = installation.authority
    generation = await installation.store.active_generation(installation.authority_id)
    key, fingerprint = None, None
    if generation is not None:
        key = generation.key_reference
        fingerprint = x509.load_der_x509_certificate(generation.certificate).fingerprint(hashes.SHA256()).hex()
    return Place(authority.prefecture.name_romaji, authority.hierarchy, text(authority.name), key, fingerprint)


async def find(installation: Installation, number: int) -> Case:
    """The operation of a number.

    Raises:
        RefusedError: there is none, or its content was changed.
    """
    rows = await installation.operations.operations(installation.authority_id, number)
    if not rows:
        raise RefusedError(f"there is no operation {number} of this CA; `prefca operation list` shows those there are")
    return consent.opened_case(rows[0], await operators(installation))


async def cases(installation: Installation) -> list[Case]:
    """All operations of this CA, in their order.

    Raises:
        RefusedError: the content of one was changed.
    """
    everybody = await operators(installation)
    rows = await installation.operations.operations(installation.authority_id)
    return [consent.opened_case(row, everybody) for row in rows]


async def request(installation: Installation, order: Order, means: Means) -> Case:
    """Ask for an operation, which several persons have to agree to.

    Raises:
        RefusedError: the auditor asks.
    """
    _require_no_auditor(installation)
    async with installation.store.transaction():
        return await _add(installation, order, means, at_once=False)


async def perform_at_once(installation: Installation, order: Order, means: Means) -> Facts:
    """Do what nobody has to agree to; it is recorded all the same.

    Raises:
        RefusedError: several persons have to; it breaks a rule; or whatever else the performer raises.
    """
    _require_no_auditor(installation)
    async with installation.store.transaction():
        await installation.operations.lock(installation.authority_id)
        if await needs_agreement(installation):  # also of operators who were registered a moment ago
            raise RefusedError("several persons have to agree to this; ask for it, and they will be named")
        case = await _add(installation, order, means, at_once=True)
        await _record(installation, case, "begun", means.clock(), {})
    return await _perform(installation, case, means)


async def first_operators(installation: Installation, orders: list[Order], means: Means) -> None:
    """Register the first operators of a CA, all together, before anybody could agree to it.

    Raises:
        RefusedError: there are operators; or one cannot be registered, and so none is.
    """
    _require_no_auditor(installation)
    moment = means.clock()
    means = replace(means, clock=lambda: moment)  # all are of one moment, or the first would count as there before
    async with installation.store.transaction():
        await installation.operations.lock(installation.authority_id)  # else two could be the first at the same time
        if await operators(installation):
            raise RefusedError("this CA has operators, who have to agree to others; use `prefca operator register`")
        for order in orders:
            case = await _add(installation, order, means, at_once=True)
            await _record(installation, case, "begun", means.clock(), {})
            await _perform(installation, case, means)


async def approve(
    installation: Installation, number: int, signature: bytes, by: tuple[Operator, Role | None], now: datetime
) -> Case:
    """Record that a person agrees.

    Args:
        installation: of the CA.
        number: of the operation.
        signature: over its content.
        by: who it is, in which role; None: in any that the person has.
        now: aware UTC.

    Returns:
        The operation with this agreement.

    Raises:
        RefusedError: it cannot be agreed to any more, not by this person, or the signature is not theirs over it.
    """
    operator, role = by
    now = whole_second(now)
    store = installation.operations
    async with installation.store.transaction():
        await store.lock(installation.authority_id)
        case = await find(installation, number)
        consent.require_open(case, now)
        consent.require_place(case, await place(installation))
        consent.require_may_agree(case, operator, role, now)
        if not verify(operator.public_key, signature, [case.row.content]):
            raise RefusedError(
                f"the signature is not one of {operator.name} over the content of {case.name};"
                " sign the octets of that content with the registered key"
            )
        try:
            await store.add_approval(
                installation.authority_id, number, Approval(operator.operator_id, role, signature, now, origin())
            )
        except TwiceError as e:
            raise RefusedError(f"{operator.name} has agreed to {case.name} already; each person counts once") from e
        told = {"role": role, "key": operator.fingerprint}
        await installation.store.record("operation_approved", now, f"{_object(case)} by {operator.name}", told)
        return await find(installation, number)


async def withdraw(installation: Installation, number: int, reason: str, now: datetime) -> None:
    """End an operation that was not done.

    Raises:
        RefusedError: it has its end, or no reason is given.
        NotNowError: it is being done.
    """
    _require_no_auditor(installation)
    if not reason.strip() or not is_plain(reason):
        raise RefusedError("say why, in one line of text")
    store = installation.operations
    if not await store.lock_run(number):
        raise NotNowError(f"operation {number} is being run by another process; wait for its end")
    try:
        async with installation.store.transaction():
            await store.lock(installation.authority_id)
            case = await find(installation, number)
            if case.state(now) in {consent.State.DONE, consent.State.WITHDRAWN}:
                raise RefusedError(f"{case.name} is {case.state(now)}; that is its end")
            await _record(installation, case, "withdrawn", now, {"reason": reason})
    finally:
        await store.unlock_run(number)


async def run(installation: Installation, number: int, means: Means) -> Facts:
    """Do what was agreed to. Everything is looked at again: what was true when people signed may not be so now.

    Raises:
        RefusedError: too few persons agreed, or it may not be done any more; or the performer refuses it.
        NotNowError: another process does it now.
        SigningError: a key cannot be used; it may be run again.
    """
    _require_no_auditor(installation)
    store = installation.operations
    if not await store.lock_run(number):
        raise NotNowError(f"operation {number} is being run by another process; wait for its end")
    try:
        case = await _begin(installation, number, whole_second(means.clock()))
        return await _perform(installation, case, means)
    finally:
        await store.unlock_run(number)


async def _begin(installation: Installation, number: int, now: datetime) -> Case:
    async with installation.store.transaction():
        await installation.operations.lock(installation.authority_id)
        case = await find(installation, number)
        consent.require_open(case, now)
        consent.require_place(case, await place(installation))
        consent.require_agreed(case, now)
        await _record(installation, case, "begun", now, {})
    return case


async def _perform(installation: Installation, case: Case, means: Means) -> Facts:
    settled: list[Facts] = []

    async def settle(facts: Facts) -> None:
        await _record(installation, case, "done", means.clock(), _plain(facts))
        settled.append(facts)

    act = Act(
        *(installation, case.request.parameters, means.clock, means.random_octets),
        *(case.request.number, settle, means.secrets),
    )
    try:
        facts = await means.performers[case.request.kind](act)
    except _EXPECTED as e:
        if (await find(installation, case.request.number)).row.events[-1].event != "done":
            async with installation.store.transaction():
                await _record(installation, case, "failed", means.clock(), {"reason": str(e)})
        raise
    if not settled:
        async with installation.store.transaction():
            await _record(installation, case, "done", means.clock(), _plain(facts))
    return facts


async def _add(installation: Installation, order: Order, means: Means, *, at_once: bool) -> Case:
    store, now = installation.operations, whole_second(means.clock())
    await store.lock(installation.authority_id)
    last = await store.last(installation.authority_id)
    new = Request(
        place=await place(installation),
        number=1 if last is None else last[0] + 1,
        kind=order.kind,
        needs={} if at_once else QUORUM[order.kind],
        parameters=order.parameters,
        nonce=means.random_octets(_NONCE_OCTETS).hex(),
        requested_at=now,
        requested_by=origin(),
        expires_at=now + timedelta(hours=installation.settings.operations.valid_h),
        previous=None if last is None else last[1].hex(),
    )
    try:
        octets = content(new)
    except UnicodeEncodeError as e:
        raise RefusedError(
            "what was typed is not text in UTF-8; see to the terminal's encoding, and type it anew"
        ) from e
    row = OperationRow(new.number, octets, bytes.fromhex(digest(octets)), new.requested_by, (), ())
    await store.add(installation.authority_id, row)
    case = consent.opened_case(row, await operators(installation))
    # The journal takes the object over, and is sealed: so the hash is, too.
    told = {"sha256": digest(octets), "at_once": at_once}
    await installation.store.record("operation_requested", now, f"{_object(case)} {digest(octets)}", told)
    return case


async def _record(
    installation: Installation, case: Case, event: Event, now: datetime, detail: Mapping[str, object]
) -> None:
    now = whole_second(now)
    await installation.operations.add_event(
        installation.authority_id, case.request.number, Happening(event, now, origin(), detail)
    )
    await installation.store.record(f"operation_{event}", now, _object(case), dict(detail))


def _object(case: Case) -> str:
    return f"{case.request.number} {case.request.kind}"


def _require_no_auditor(installation: Installation) -> None:
    """5-2-1-1 (9): who judges the operations takes no part in them."""
    if installation.settings.journal.auditor == account():
        raise RefusedError("this is the account of the internal auditor, who takes no part in operations; use another")


def _plain(facts: Facts) -> dict[str, object]:
    """As JSON can say it."""
    plain: dict[str, object] = json.loads(json.dumps(dict(facts), default=_said))
    return plain


def _said(value: object) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else str(value)
