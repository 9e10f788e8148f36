"""What a server does for its journal: open it, say that it runs, sign and write to the disk each second, close it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from journal.record import Record
from journal.recovery import JournalBusyError, StreamPlace
from journal.writing import Journal

CHECKPOINT_S: Final = 1.0
LOOK_S: Final = 0.05  # between looks at how much waits for the disk
PORTION_OCTETS: Final = 1 << 20  # of it are synced without waiting longer

_logger: Final = logging.getLogger(__name__)


class NotSealedError(Exception):
    """The journal could not be closed as it should be, which was logged; the next start seals it."""


@contextlib.contextmanager
def opened(place: StreamPlace, kind: str, clock: Callable[[], datetime], sync_s: float) -> Iterator[Journal]:
    """The journal of a process, with records of its start and stop (R-4-12-2-1).

    Args:
        place: where.
        kind: of program: its records are <kind>_started and <kind>_stopped.
        clock: aware UTC.
        sync_s: how much a machine that loses power may lose; 0: each batch waits for the disk.

    Raises:
        OSError: it cannot be read or written, or another process writes it.
        NotSealedError: at the end, the disk was full or gone.
    """
    journal = Journal(place, clock(), syncs_always=sync_s == 0)
    try:
        journal.append(Record(clock(), f"{kind}_started", "success", None, "", place.stream))
        journal.flush()
        yield journal
    except BaseException:
        with contextlib.suppress(OSError):  # what has happened says more
            journal.close(clock())
        raise
    journal.append(Record(clock(), f"{kind}_stopped", "success", None, "", place.stream))
    try:
        journal.close(clock())
    except OSError as e:
        say = "make room on the disk; the next start seals the segment, and no answer was given that it does not have"
        _logger.error("journal_not_sealed", extra={"error": str(e), "say": say})  # noqa: TRY400 - the disk
        raise NotSealedError from e


def why_not_opened(error: OSError, place: StreamPlace) -> str:
    """What `opened` raised, in one line that says what to do."""
    if error.strerror is None:  # one of ours, which says what to do
        return str(error)
    advice = "" if isinstance(error, JournalBusyError) else "; let this account write there"
    return f"{error.filename or place.segments}: {error.strerror}{advice}"


async def keep(journal: Journal, clock: Callable[[], datetime], sync_s: float) -> None:
    """Sign what was written, and see that it reaches the disk, until this is cancelled.

    Where much is written it goes to the disk more often than each second, in smaller portions: the kernel takes a large
    one for tens of milliseconds, in which nobody on that core is answered.
    """
    loop = asyncio.get_running_loop()
    signed_at = synced_at = loop.time()
    is_unsynced = False
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            if loop.time() - signed_at >= CHECKPOINT_S:
                signed_at = loop.time()
                is_unsynced = journal.checkpoint(clock()) or is_unsynced
            is_due = is_unsynced and loop.time() - synced_at >= sync_s
            if is_due or journal.unsynced_octets >= PORTION_OCTETS:
                await asyncio.to_thread(journal.sync)
                synced_at, is_unsynced = loop.time(), False
        except OSError:  # the journal has said so
            await asyncio.sleep(CHECKPOINT_S)
