"""What is done with keys of the CA: renewed every five years, and replaced when one was compromised."""

from issuer.errors import RefusedError
from issuer.generations import delegates_ahead, renewal
from issuer.keys import KeyAlgorithm
from issuer.lists import batch
from issuer.recovery import compromise
from issuer.recovery.compromise import CompromiseOrder
from issuer.rules.operation import OperationKind
from issuer.schedule import Schedule
from issuer.servers import delegate
from issuer.signing.key_sight import key_sight
from simulation.operating import operate
from simulation.timetable import Compromise, KeyEvent, MakeDelegates, PrepareKey, ReplaceKey, SwitchKey
from simulation.world import World


async def perform_key_event(world: World, event: KeyEvent) -> None:
    """Do it now.

    Raises:
        RefusedError: it is refused.
        LintError, SigningError, NotNowError: as the performers.
    """
    match event:
        case PrepareKey():
            await _prepare(world)
        case MakeDelegates():
            await _make_delegates(world)
        case SwitchKey():
            await _switch(world, without_delegates=False)
        case Compromise():
            await _compromise(world)
        case ReplaceKey():
            await _replace(world)


async def _prepare(world: World) -> None:
    await operate(world, OperationKind.PREPARE_KEY, await renewal.next_key(world.installation))


async def _make_delegates(world: World) -> None:
    algorithm = KeyAlgorithm.RSA_2048.value
    parameters = await delegates_ahead.asked_for(world.installation, None, algorithm, world.clock.now)
    await operate(world, OperationKind.DELEGATES_AHEAD, parameters)


async def _switch(world: World, *, without_delegates: bool) -> None:
    parameters = await renewal.turn(world.installation, without_delegates=without_delegates)
    await operate(world, OperationKind.SWITCH_KEY, parameters)


async def _compromise(world: World) -> None:
    """The key that signs now is out of control: all that it signed is revoked, and lists say so at once (R-4-4-9-2)."""
    installation = world.installation
    key = (await key_sight(installation)).active
    if key is None:
        raise RefusedError("no key is active")
    name, generation = installation.authority.name.rfc4514_string(), key.generation
    order = CompromiseOrder(name, generation.number, compromise.fingerprint(generation), False, "暗号モジュールの紛失")
    await operate(world, OperationKind.COMPROMISE, order.parameters)
    lost = await installation.store.certificates(installation.authority_id, list(world.population.holders))
    world.population.lose(serial for serial, one in lost.items() if one.revoked is not None)


async def _replace(world: World) -> None:
    """A new key, without links, takes over at once, with a delegate and lists of its own."""
    await _prepare(world)
    await _switch(world, without_delegates=True)
    await operate(world, OperationKind.OPERATIONS_CERTIFICATE, delegate.asked_for(KeyAlgorithm.RSA_2048))
    now = world.clock.now
    next_publish = Schedule.of(world.settings).next(now)
    await batch.run(world.installation, await world.key(), now, next_publish=next_publish)
