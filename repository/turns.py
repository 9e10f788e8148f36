"""The end of a turn of the event loop: records go to the kernel, and then the answers that they tell of may leave.

Connections only gather what they want to send and ask for a flush. So one write of the journal serves all connections
that had something to say in a turn, and nothing leaves that is not recorded (R-4-11-2-1). One line of the journal tells
of all ready answers that one peer is given.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from journal import record
from journal.record import Record
from journal.writing import Journal
from repository.cache import Records

logger = logging.getLogger(__name__)


class Sender(Protocol):
    """A connection."""

    def flush(self) -> None:
        """Send what is recorded now."""

    def abort(self) -> None:
        """Close: what waits cannot be recorded."""


class Turns:
    """What happens at the end of each turn of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, journal: Journal, clock: Callable[[], float]) -> None:
        self.records = 0  # since the process began
        self._clock = clock  # seconds since the epoch
        self._loop = loop
        self._journal = journal
        self._is_open = False  # `end` will be called
        self._moment: datetime | None = None  # of this turn
        self._again: defaultdict[bytes, list[bytes]] = defaultdict(list)  # what else lines of ready answers tell
        self._waiting: dict[Sender, None] = {}  # in the order in which they asked

    def begin(self) -> None:
        """The caller calls `end` when it has served all who have something to say."""
        self._is_open = True

    def end(self) -> None:
        """Write the records, and let the answers go."""
        self._is_open = False
        self._moment = None
        if self._again:
            stamp = record.stamp_ms(int(self._clock() * 1000))
            for common, results in self._again.items():
                self._journal.append_line(record.several(stamp + common, results))
            self._again.clear()
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        is_recorded = _succeeds(self._journal.flush)
        if not is_recorded:
            self._journal.discard()  # nobody gets what these records tell of
        for sender in waiting:
            try:
                if is_recorded:
                    sender.flush()
                else:
                    sender.abort()
            except Exception:  # the boundary of errors.py: a bug of ours costs this connection only
                logger.exception("internal_error")
                with contextlib.suppress(Exception):
                    sender.abort()

    def now(self) -> datetime:
        """The moment of this turn: one for all that happens in it."""
        if self._moment is None:
            self._open()
            self._moment = self._time()
        return self._moment

    def record(self, one: Record) -> None:
        """Add a record to those of this turn."""
        self.records += 1
        self._journal.append(one)

    def record_again(self, records: Records, peer: bytes) -> None:
        """Add the records of an answer that is given once more, to `peer` (a fragment of `record.peer`)."""
        kind, results, number = records
        if number:
            if not self._is_open:
                self._open()
            self.records += number
            self._again[kind + peer].append(results)

    def flush_soon(self, sender: Sender) -> None:
        """Call `flush` when this turn has ended, or `abort` if the records cannot be written."""
        if not self._is_open:
            self._open()
        self._waiting[sender] = None

    @property
    def is_recording(self) -> bool:
        """Could the journal be written when it was last tried?"""
        return not self._journal.is_failing

    def has_recorded(self) -> bool:
        """Write to the journal, even if no record waits; False if that fails: then nobody is answered, until it can."""
        return _succeeds(partial(self._journal.checkpoint, self._time()))

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _open(self) -> None:
        if not self._is_open:
            self._is_open = True
            self._loop.call_soon(self.end)


def _succeeds(write: Callable[[], object]) -> bool:
    try:
        write()
    except OSError:
        return False
    return True
