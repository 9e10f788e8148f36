"""The end of a turn of the event loop: records go to the kernel, and then the answers that they tell of may leave.

Connections only gather what they want to send and ask for a flush. So one write of the journal serves all connections
that had something to say in a turn, and nothing leaves that is not recorded (R-4-11-2-1).
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Protocol

from journal import record
from journal.record import Record
from journal.writing import Journal
from repository.cache import Answer

logger = logging.getLogger(__name__)


class Sender(Protocol):
    """A connection."""

    def flush(self) -> None:
        """Send what is recorded now."""

    def abort(self) -> None:
        """Close: what waits cannot be recorded."""


class Turns:
    """What happens at the end of each turn of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, journal: Journal, clock: Callable[[], datetime]) -> None:
        self.records = 0  # since the process began
        self.is_recording = True  # the journal can be written
        self._clock = clock
        self._loop = loop
        self._journal = journal
        self._is_open = False  # `end` will be called
        self._moment: datetime | None = None  # of this turn
        self._stamp = b""  # what its records begin with
        self._waiting: dict[Sender, None] = {}  # in the order in which they asked

    def begin(self) -> None:
        """The caller calls `end` when it has served all who have something to say."""
        self._is_open = True

    def end(self) -> None:
        """Write the records, and let the answers go."""
        self._is_open = False
        self._moment = None
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        is_recorded = self._succeeds(self._journal.flush)
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
            self._moment = self._clock()
            self._stamp = record.stamp(self._moment)
        return self._moment

    def record(self, one: Record) -> None:
        """Add a record to those of this turn."""
        self.records += 1
        self._journal.append(one)

    def record_again(self, answer: Answer, peer: bytes) -> None:
        """Add the records of an answer that is given once more, to `peer` (a fragment of `record.peer`)."""
        if self._moment is None:
            self.now()
        for event, gift in answer.records:
            self.records += 1
            self._journal.append_line(b"".join((self._stamp, event, peer, gift)))

    def flush_soon(self, sender: Sender) -> None:
        """Call `flush` when this turn has ended, or `abort` if the records cannot be written."""
        if not self._is_open:
            self._open()
        self._waiting[sender] = None

    def has_recorded(self) -> bool:
        """Write to the journal, even if no record waits; False if that fails: then nobody is answered, until it can."""
        return self._succeeds(partial(self._journal.checkpoint, self._clock()))

    def _succeeds(self, write: Callable[[], object]) -> bool:
        try:
            write()
        except OSError as e:
            if self.is_recording:
                logger.error("journal_failed", extra={"error": str(e)})  # noqa: TRY400 - the disk, not our code
            self.is_recording = False
        else:
            self.is_recording = True
        return self.is_recording

    def _open(self) -> None:
        if not self._is_open:
            self._is_open = True
            self._loop.call_soon(self.end)
