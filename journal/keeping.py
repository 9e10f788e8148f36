"""What a server does for its journal each second: a checkpoint, and a write to the disk."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from journal.writing import Journal

CHECKPOINT_S: Final = 1.0

_logger = logging.getLogger(__name__)


async def keep(journal: Journal, clock: Callable[[], datetime], sync_s: float) -> None:
    """Until it is cancelled.

    Args:
        journal: of this process.
        clock: aware UTC.
        sync_s: how often the disk is waited for, in a thread; 0: the journal does so itself.
    """
    loop = asyncio.get_running_loop()
    synced_at = loop.time()
    while True:
        await asyncio.sleep(CHECKPOINT_S)
        try:
            has_grown = journal.checkpoint(clock())
            if sync_s and has_grown and loop.time() - synced_at >= sync_s:
                await asyncio.to_thread(journal.sync)
                synced_at = loop.time()
        except OSError:
            _logger.exception("journal_failed")
