"""Operations on keys of the CA, asked for and done as the commands do it."""

from issuer.acts import PERFORMERS
from issuer.operations import agreement
from issuer.operations.agreement import Means, Order
from issuer.rules.operation import OperationKind, Parameters
from simulation.world import World


async def operate(world: World, kind: OperationKind, parameters: Parameters) -> None:
    """Do it at once, for it is a test CA without operators; it is recorded all the same.

    Raises:
        RefusedError, LintError, SigningError, NotNowError: as the performer.
    """
    means = Means(PERFORMERS, world.clock, world.random.randbytes)
    await agreement.perform_at_once(world.installation, Order(kind, parameters), means)
