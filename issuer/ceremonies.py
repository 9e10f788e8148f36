"""Ceremonies by name: of which operations each consists, and what has to be so before persons begin.

    found     the first key                          [activate] found [operations-certificate]
    renew     the next one is made and published     [activate] prepare-key, delegates-ahead; lists
    switch    it takes over, a week later            [activate] switch-key; lists
    cross     the bridge's key is certified          [activate] cross-certificate
    destroy   a key that was replaced                [activate] destroy-key

Nothing of a ceremony is kept but its operations. One that was interrupted finds those that were asked for and those
that were done, for as long as an operation is valid, and goes on with what is left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final

from issuer.cross.cross_operation import issue_parameters
from issuer.cross.cross_register import find
from issuer.errors import IssuerError, RefusedError
from issuer.generations import delegates_ahead, key_end, renewal
from issuer.generations.first_key import foundation
from issuer.generations.founding import makes_no_delegate
from issuer.installation import Installation, list_key
from issuer.keys import KeyAlgorithm
from issuer.operations import agreement, consent
from issuer.operations.activation import beginning, is_opened
from issuer.operations.ceremony import Step
from issuer.operations.consent import Case
from issuer.rules import cross_case
from issuer.rules.operation import OperationKind, Parameters
from issuer.rules.request import Place
from issuer.servers import delegate
from issuer.signing.key_sight import key_sight
from pkix.signing import SigningError
from pkix.validity import whole_second
from settings.load import ConfigurationError

ACTIVE_DAYS: Final = 31  # for which a key is activated that is not active


@dataclass(frozen=True, slots=True)
class Plan:
    """A ceremony as it stands now."""

    steps: Sequence[Step]
    obstacles: Sequence[str] = ()  # besides those of the room
    publishes: bool = False  # lists, at its end


@dataclass(frozen=True, slots=True)
class _Book:
    """The operations of a CA, in which those of this ceremony are found."""

    cases: Sequence[Case]
    place: Place
    now: datetime
    since: datetime  # what was done before is of another ceremony

    def to_do(self, kind: OperationKind, parameters: Parameters) -> Step:
        """An operation that waits, or is to be asked for."""
        return Step(kind, parameters, self._last(kind, parameters, self._waits))

    def done(self, kind: OperationKind, parameters: Parameters) -> list[Step]:
        """An operation that was done a moment ago, in this ceremony; or none, for what was done long before."""
        case = self._last(kind, parameters, self._was_done)
        return [] if case is None else [Step(kind, case.request.parameters, case)]

    def _last(self, kind: OperationKind, parameters: Parameters, fits: Callable[[Case], bool]) -> Case | None:
        asked = {name: value for name, value in parameters.items() if name != "until"}  # it moves with the clock
        for case in reversed(self.cases):
            if case.request.kind is kind and asked.items() <= case.request.parameters.items() and fits(case):
                return case
        return None

    def _waits(self, case: Case) -> bool:
        try:
            consent.require_open(case, self.now)
            consent.require_place(case, self.place)
        except RefusedError:
            return False
        return True

    def _was_done(self, case: Case) -> bool:
        return case.is_done and case.row.events[-1].at >= self.since


async def found(installation: Installation, now: datetime) -> Plan:
    """The first key, its certificate, the first lists, and the OCSP responder's first certificate (R-6-1-1-1).

    Raises:
        RefusedError: the CA was founded before.
    """
    book = await _book(installation, now)
    founding = book.to_do(OperationKind.FOUND, foundation(installation))
    steps = [founding]
    # One that made the key and was stopped before the first lists goes on.
    if founding.case is None and await installation.store.has_key(installation.authority_id):
        steps = book.done(OperationKind.FOUND, {})
    if makes_no_delegate(installation.settings):
        asked = delegate.asked_for(KeyAlgorithm.RSA_2048)
        is_there = bool(await installation.store.delegates(installation.authority_id))
        kind = OperationKind.OPERATIONS_CERTIFICATE
        steps += book.done(kind, asked) if is_there else [book.to_do(kind, asked)]
    return await _plan(installation, book, steps, "this CA was founded; `prefca key list` shows its keys")


async def renew(installation: Installation, now: datetime) -> Plan:
    """The next key with its certificates, the delegates of the years to come, and lists that show them (R-4-13-1).

    Raises:
        RefusedError: no key is active, or everything was done.
    """
    book, sight = await _book(installation, now), await key_sight(installation)
    if sight.active is None:
        raise RefusedError(
            "no key of this CA is active; after a compromise prepare and switch as docs/recovery.md says"
        )
    asked = await renewal.next_key(installation)
    kind = OperationKind.PREPARE_KEY
    steps = [book.to_do(kind, asked)] if sight.planned is None else book.done(kind, asked)
    waits = await _waits(installation, now)
    asked = await delegates_ahead.asked_for(installation, None, KeyAlgorithm.RSA_2048.value, now)
    kind = OperationKind.DELEGATES_AHEAD
    is_missing = sight.planned is None or any(is_delegate for is_delegate, _ in waits)
    steps += [book.to_do(kind, asked)] if is_missing else book.done(kind, asked)
    nothing = "the next key is prepared, with its delegates; `prefca ceremony switch` lets it take over"
    return replace(await _plan(installation, book, steps, nothing), publishes=True)


async def switch(installation: Installation, now: datetime) -> Plan:
    """The prepared key takes over, with the first lists of its own (R-4-13-2).

    Raises:
        RefusedError: no key is prepared.
    """
    book, sight, kind = await _book(installation, now), await key_sight(installation), OperationKind.SWITCH_KEY
    steps = [book.to_do(kind, await renewal.turn(installation))] if sight.planned else book.done(kind, {})
    plan = await _plan(installation, book, steps, "no key is prepared; `prefca ceremony renew` prepares one")
    waits = [what for _, what in await _waits(installation, now)]
    return replace(plan, obstacles=[*plan.obstacles, *waits], publishes=True)


async def cross(installation: Installation, now: datetime, case_id: int, by: tuple[str, date | None]) -> Plan:
    """The key of the bridge in that case is certified (R-4-7-1).

    Args:
        installation: of the CA.
        now: aware UTC.
        case_id: of `prefca cross`, approved and tested.
        by: who issues, and the day from which it is valid, in Japan; None: when it is signed.

    Raises:
        RefusedError: the case is not so far, or further.
    """
    case, book = await find(installation, case_id), await _book(installation, now)
    asked, kind = issue_parameters(case, *by), OperationKind.CROSS_CERTIFICATE
    steps = book.done(kind, asked)
    if not steps:
        cross_case.moved(case, cross_case.Step.ISSUE, by[0])
        steps = [book.to_do(kind, asked)]
    return await _plan(installation, book, steps, "")


async def destroy(installation: Installation, now: datetime, number: int) -> Plan:
    """The private key of that number, which was replaced or compromised, is deleted (R-6-2-1-9).

    Raises:
        RefusedError: there is none, or it is still needed.
    """
    book, kind = await _book(installation, now), OperationKind.DESTROY_KEY
    asked = await key_end.destruction(installation, number)
    steps = book.done(kind, asked)
    if not steps:
        await key_end.replaced(installation, asked)
        steps = [book.to_do(kind, asked)]
    return await _plan(installation, book, steps, "")


async def walk(installation: Installation, numbers: Sequence[int]) -> Plan:
    """Operations that were asked for before.

    Raises:
        RefusedError: there is no such operation, or the content of one was changed.
    """
    cases = [await agreement.find(installation, number) for number in numbers]
    return Plan([Step(case.request.kind, case.request.parameters, case) for case in cases])


async def _book(installation: Installation, now: datetime) -> _Book:
    since = now - timedelta(hours=installation.settings.operations.valid_h)
    return _Book(await agreement.cases(installation), await agreement.place(installation), now, since)


async def _waits(installation: Installation, now: datetime) -> list[tuple[bool, str]]:
    """What a prepared key waits for."""
    delegates = await installation.store.delegates(installation.authority_id)
    lead = timedelta(hours=installation.settings.ca.link_lead_h)
    return list(renewal.obstacles(await key_sight(installation), delegates, lead, now))


async def _plan(installation: Installation, book: _Book, steps: Sequence[Step], nothing: str) -> Plan:
    """The plan with these steps, before which the key is activated if it is not.

    Raises:
        RefusedError: there are none; `nothing` says why.
    """
    if not steps:
        raise RefusedError(nothing)
    kind = OperationKind.ACTIVATE
    is_over = all(one.is_over for one in steps)
    if is_over or await is_opened(installation):
        needs_no_key = is_over or steps[0].kind is OperationKind.FOUND
        return Plan([*book.done(kind, {}), *steps], [] if needs_no_key else await _key(installation))
    until = whole_second(book.now + timedelta(days=ACTIVE_DAYS))
    return Plan([book.to_do(kind, beginning(installation.settings, until)), *steps], await _shares(installation))


async def _key(installation: Installation) -> list[str]:
    """Whether the key can be used: told before persons gather, not when they have agreed."""
    try:
        async with list_key(installation):
            return []
    except (SigningError, IssuerError, ConfigurationError) as e:
        return [f"the CA's key cannot be used: {e}"]


async def _shares(installation: Installation) -> list[str]:
    if await installation.activations.data(installation.authority_id) is not None:
        return []
    return ["the key is not active, and its PIN was not split: run `prefca activation split` first"]
