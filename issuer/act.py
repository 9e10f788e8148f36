"""What an operation does: each kind is performed by one function, which is given an Act."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from issuer.installation import Installation
from issuer.operation import Parameters

Facts = Mapping[str, object]  # what came of it: recorded, and shown to people


@dataclass(frozen=True, slots=True)
class Act:
    """An operation that is being done: agreed to by those who must, and exactly this."""

    installation: Installation
    parameters: Parameters
    clock: Callable[[], datetime]  # aware UTC
    random_octets: Callable[[int], bytes]  # so many


Performer = Callable[[Act], Awaitable[Facts]]
