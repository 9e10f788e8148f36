"""The plaintext connections and listening sockets of one event loop, in an epoll of their own below the loop's.

The loop wakes once for all of them that have something to say. A turn serves each, one after the other, and then ends
for all together (`turns`). With transports of the loop each connection would cost calls of the loop to be made, to be
read, to be written and to be closed: for a client that asks once, more than everything else.
"""

import asyncio
import logging
import select
from collections.abc import Callable
from typing import Final

from repository.turns import Turns

logger = logging.getLogger(__name__)

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
_EVENTS_A_TURN: Final = 256  # then the loop looks after its other work


class Poller:
    """Calls whoever has registered a descriptor when it is ready."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turns: Turns) -> None:
        self.loop = loop
        self._turns = turns
        self._epoll = select.epoll()
        self._called: dict[int, Callable[[int], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._turn)

    def register(self, descriptor: int, events: int, called: Callable[[int], None]) -> None:
        """Call this with what is ready, as long as it is ready; errors and the end are told in any case."""
        self._called[descriptor] = called
        self._epoll.register(descriptor, events)

    def modify(self, descriptor: int, events: int) -> None:
        """Wait for these events from now on."""
        self._epoll.modify(descriptor, events)

    def unregister(self, descriptor: int) -> None:
        """Forget a descriptor, before it is closed."""
        del self._called[descriptor]
        self._epoll.unregister(descriptor)

    def _turn(self) -> None:
        called = self._called
        self._turns.begin()
        try:
            for descriptor, events in self._epoll.poll(0, _EVENTS_A_TURN):
                # It may have been closed in this turn, and its number may even be that of a new one: then this is
                # a false alarm, which nobody minds.
                call = called.get(descriptor)
                if call is not None:
                    call(events)
        finally:
            self._turns.end()
