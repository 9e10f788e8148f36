"""What an operation does: each kind is performed by one function, which is given an Act."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from issuer.installation import Installation
from issuer.rules.operation import Parameters

Facts = Mapping[str, object]  # what came of it: recorded, and shown to people
Settle = Callable[[Facts], Awaitable[None]]


async def _later(_: Facts) -> None:
    """The outcome is recorded after the performer has returned."""


@dataclass(frozen=True, slots=True)
class Act:
    """An operation that is being done: agreed to by those who must, and exactly this."""

    installation: Installation
    parameters: Parameters
    clock: Callable[[], datetime]  # aware UTC
    random_octets: Callable[[int], bytes]  # so many
    number: int = 0  # of the operation
    # Awaited in the transaction of the act, it records the outcome with it: whatever kills the process, an operation
    # without outcome was not done, and can be run again.
    settle: Settle = _later
    secrets: tuple[str, ...] = field(default=(), repr=False)  # what people typed in for it, never recorded


Performer = Callable[[Act], Awaitable[Facts]]
