"""Answers of one turn of the event loop, which leave together.

Theory of operation. Replies gather until the end of the turn; then their records are written to the journal at once,
and only then they leave (R-4-11-2-1). One line tells of all that one peer is given; what is particular to a record is
ready beside its reply. If the records cannot be written, everybody is told to try later, and they are forgotten; nor is
there one of an answer to a peer that has gone.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from journal.record import kind, several, stamp_ms
from ocsp.errors import OCSPResponseStatus, StoreUnavailableError
from ocsp.metrics import Metrics
from ocsp.reply import Reply, refusal

KIND: Final = kind("ocsp_request")
NOT_RECORDED: Final = refusal(OCSPResponseStatus.TRY_LATER, "POST", None)


class Journal(Protocol):
    """Where records go."""

    def append_line(self, line: bytes) -> None:
        """Add records to the batch."""

    def flush(self) -> None:
        """Hand the batch to the kernel; raises OSError if it cannot be written."""

    def discard(self) -> None:
        """Forget a batch that could not be written."""


class Knowledge(Protocol):
    """What callers are recognised from."""

    def at(self, moment: float) -> object:
        """Another object when it has changed; raises StoreUnavailableError as long as nothing current is known."""


class Receiver(Protocol):
    """Where a reply goes: a transport."""

    def is_closing(self) -> bool:
        """Has the peer gone?"""

    def write(self, data: bytes) -> None:
        """Send it the octets."""


Leaving = tuple[Receiver, Reply, bytes]  # the octets are the fragment of records that says who asked


class Turn:
    """What waits for the end of this turn."""

    def __init__(self, journal: Journal, metrics: Metrics, knowledge: Knowledge, clock: Callable[[], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._knowledge = knowledge
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._waiting: list[Leaving] = []
        self.add = self._waiting.append
        self.has_begun = False
        self.now = 0.0  # when it began, in seconds since the epoch
        self.loop_time = 0.0  # the same on the event loop's clock
        self.knowledge: object = None  # of now
        self.made = 0  # how many of the replies are new

    def begin(self) -> None:
        """Look at the clocks."""
        self.has_begun = True
        self.now = self._clock()
        try:
            self.knowledge = self._knowledge.at(self.now)
        except StoreUnavailableError:
            self.knowledge = None
        self.loop_time = self._loop.time()
        self._loop.call_soon(self.end)

    def end(self) -> None:
        """Write the records, then let the replies out; if that cannot be done, tell everybody to try later."""
        self.has_begun = False
        if not self._waiting:
            return
        leaving = [one for one in self._waiting if not one[0].is_closing()]
        kept, self.made = len(self._waiting) - self.made, 0
        self._waiting.clear()
        is_recorded = self.record(leaving, self.now, kept)
        second = int(self.now)
        for receiver, reply, _ in leaving:
            sent = reply if is_recorded else NOT_RECORDED
            if sent.second != second:
                sent.date(second)
            receiver.write(sent.octets)

    def record(self, leaving: Sequence[tuple[object, Reply, bytes]], now: float, kept: int = 0) -> bool:
        """Write the records and count; False: that cannot be done, so the replies must not leave.

        Args:
            leaving: the replies, and the fragments that say who asked.
            now: the moment, in seconds since the epoch.
            kept: how many of the replies were made before.
        """
        results: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for _, reply, who in leaving:
            results[who].append(reply.records)
        what = stamp_ms(int(now * 1000)) + KIND
        try:
            for who, its in results.items():
                self._journal.append_line(several(what + who, its))
            self._journal.flush()
        except OSError:
            self._journal.discard()  # nobody gets what these records tell of
            self._metrics.answered([NOT_RECORDED.outcome] * len(leaving))
            return False
        self._metrics.answered([reply.outcome for _, reply, _ in leaving])
        self._metrics.cache_hits += kept
        return True
