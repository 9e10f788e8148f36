"""The plaintext connections and listening sockets of one event loop, in an epoll of their own below the loop's.

The loop wakes once for all of them that have something to say. A turn serves each, one after the other, and then ends
for all together (`turns`); some turns follow at once, if others are ready by then. With transports of the loop each
connection would cost calls of the loop to be made, to be read, to be written and to be closed: for a client that asks
once, more than everything else.
"""

import asyncio
import logging
import select
from collections.abc import Callable, Iterable
from typing import Final

from repository.turns import Turns

logger = logging.getLogger(__name__)

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
_TURNS_A_WAKE: Final = 4  # then the loop looks after its other work
_EVENTS_A_TURN: Final = 256


class Poller:
    """Calls whoever has registered a descriptor when it is ready."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turns: Turns) -> None:
        self.loop = loop
        self._turns = turns
        self._epoll = select.epoll()
        self._called: dict[int, Callable[[int], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._wake)

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

    def _wake(self) -> None:
        """A few turns, as long as somebody is ready: clients that wait for their answers ask again meanwhile."""
        for _ in range(_TURNS_A_WAKE):
            ready = self._epoll.poll(0, _EVENTS_A_TURN)
            if not ready:
                return
            self._turn(ready)

    def _turn(self, ready: Iterable[tuple[int, int]]) -> None:
        called = self._called
        self._turns.begin()
        try:
            for descriptor, events in ready:
                # It may have been closed in this turn, and its number may even be that of a new one: then this is
                # a false alarm, which nobody minds.
                call = called.get(descriptor)
                if call is not None:
                    call(events)
        finally:
            self._turns.end()
