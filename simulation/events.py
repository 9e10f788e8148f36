"""What is done when an event comes: by the same functions as the commands', with the moment of the simulation."""

from collections.abc import Sequence
from typing import Any, Final

from issuer.errors import RefusedError
from issuer.keys import KeyAlgorithm
from issuer.lists import batch
from issuer.profiles.profile import RESIDENT_YEARS
from issuer.residents.registration import Issued, open_desk, register
from issuer.residents.revocation import NotRevoked, RevocationOrder, revoke
from issuer.rules.operation import OperationKind
from issuer.schedule import Schedule
from issuer.servers import delegate
from issuer.signing import ca_key
from issuer.signing.key_sight import key_sight
from pkix.revocation import CRLReason
from pkix.validity import counting_first_day
from simulation.cross_events import perform_cross_event
from simulation.key_events import perform_key_event
from simulation.operating import operate
from simulation.population import Resident, line
from simulation.timetable import (
    Compromise,
    CrossCertify,
    Event,
    Issue,
    MakeDelegates,
    PrepareKey,
    Publish,
    Renew,
    ReplaceKey,
    Revoke,
    RevokeReplaced,
    SwitchKey,
    Tend,
)
from simulation.world import World

DELEGATE_ENDING: Final = "ocsp_delegate_ending"
KEY_ENDING: Final = "ca_key_ending"  # the plan has a switch then
# Of residents' certificates: the CA's key is compromised by a plan, and renewals come by themselves.
_REASONS: Final = (CRLReason.KEY_COMPROMISE, CRLReason.AFFILIATION_CHANGED, CRLReason.CESSATION_OF_OPERATION)


async def perform(world: World, event: Event) -> None:
    """Do it now.

    Raises:
        RefusedError: something that was asked for was not done.
        LintError, SigningError, NotNowError: as the functions of the issuer.
    """
    match event:
        case Publish():
            await publish(world)
        case Tend():
            await _tend(world)
        case PrepareKey() | MakeDelegates() | SwitchKey() | Compromise() | ReplaceKey():
            await perform_key_event(world, event)
        case CrossCertify() | RevokeReplaced():
            await perform_cross_event(world, event)
        case Issue(count=count):
            await _issue(world, count)
        case Renew():
            await _renew(world)
        case Revoke(count=count):
            await _revoke(world, count)


async def publish(world: World) -> None:
    """The regular lists, as the scheduler does.

    Raises:
        RefusedError: they are not due.
    """
    installation, now = world.installation, world.clock.now
    schedule = Schedule.of(installation.settings)
    in_force = await installation.store.publication_in_force(installation.authority_id)
    cut_off = schedule.due(in_force, now)
    if cut_off is None:
        raise RefusedError("the regular lists are not due")
    await batch.run(
        installation, await world.key(), now, cut_off=cut_off, next_publish=schedule.next(now), reader=world.reader
    )


async def _tend(world: World) -> None:
    """Make a delegate when the alarm says that the last one ends; what a plan lets nobody tell is an error."""
    installation, now = world.installation, world.clock.now
    sight = await key_sight(installation)
    delegates = await installation.store.delegates(installation.authority_id)
    alarms = [*delegate.alarms(sight.keys, delegates, now), *ca_key.alarms(sight, now)]
    if DELEGATE_ENDING in {alarm.name for alarm in alarms}:
        await operate(world, OperationKind.OPERATIONS_CERTIFICATE, delegate.asked_for(KeyAlgorithm.RSA_2048))
    late = [str(alarm) for alarm in alarms if alarm.name not in {DELEGATE_ENDING, KEY_ENDING}]
    if late:
        raise RefusedError("; ".join(late))


async def _issue(world: World, count: int) -> None:
    if await world.issues():  # else the counters are closed: a key was compromised
        await _register(world, world.population.newcomers(count))


async def _renew(world: World) -> None:
    population = world.population
    coming = population.renewals(world.clock.now)
    if coming and await world.issues():
        await _register(world, [population.renewed(resident) for resident in coming])
        for resident in coming:
            del population.holders[resident.serial]


async def _register(world: World, notices: Sequence[dict[str, Any]]) -> None:
    now, holders = world.clock.now, world.population.holders
    desk = await open_desk(world.installation, await world.key(), world.clock, world.random.randbytes)
    not_after = counting_first_day(now, RESIDENT_YEARS).not_after
    async for outcomes in register(desk, map(line, notices)):
        for outcome in outcomes:
            if not isinstance(outcome, Issued):
                raise RefusedError(f"{outcome.notice_number}: {outcome.code} {outcome.message}")
            holders[outcome.serial] = Resident(notices[outcome.line - 1], outcome.serial, not_after)


async def _revoke(world: World, count: int) -> None:
    population, now = world.population, world.clock.now
    chosen = population.some(count, now)
    reason = world.random.choice(_REASONS)
    order = RevocationOrder([resident.serial for resident in chosen], reason, now)
    for done in await revoke(world.installation, order, now):
        if isinstance(done, NotRevoked):
            raise RefusedError(f"{done.serial:016X} {done.message}")
        del population.holders[done.serial]
