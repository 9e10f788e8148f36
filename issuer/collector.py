"""Collects the journals of this machine: when it starts, and at the beginning of every day in Japan.

It is done by `prefca journal collect` in a process of its own, so that what goes wrong there does no harm to the lists.
"""

import asyncio
import json
import logging
from asyncio.subprocess import PIPE
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from issuer import children
from issuer.alarm import Alarm, Channel, NotToldError
from issuer.errors import RefusedError
from pkix.validity import JST
from settings.load import Settings

LOOK_EVERY_S: Final = 60.0
AFTER_MIDNIGHT: Final = timedelta(minutes=1)  # segments of the day before are sealed then
TIMEOUT_S: Final = 3600.0

log = logging.getLogger("prefca.collector")


async def collect_daily(settings: Settings, clock: Callable[[], datetime], channels: Sequence[Channel]) -> None:
    """Until it is cancelled."""
    collected: date | None = None
    while True:
        day = (clock() - AFTER_MIDNIGHT).astimezone(JST).date()
        if day != collected:
            try:
                await _collect(settings)
                collected, alarms = day, []
            except _FailedError as e:
                alarms = [e.alarm]
            await _tell(channels, alarms, clock())
        await asyncio.sleep(LOOK_EVERY_S)


class _FailedError(Exception):
    """Not everything was collected."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.alarm = Alarm(name, message)


async def _collect(settings: Settings) -> None:
    arguments = ("--instance", str(settings.instance), "journal", "collect", "--json")
    process = await children.start("issuer", *arguments, stdout=PIPE, stderr=PIPE)
    try:
        said, complained = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except TimeoutError as e:
        reason = f"it did not end within {TIMEOUT_S:.0f} s; see whether PostgreSQL hangs"
        raise _FailedError("journal_not_collected", reason) from e
    finally:
        await children.stop(process)
    if process.returncode == 0:
        log.info("journal_collected", extra={key: json.loads(said)[key] for key in ("segments", "records")})
    elif process.returncode == RefusedError.exit_status and said:
        refused = "; ".join(json.loads(said)["refused"])
        raise _FailedError("journal_tampered", f"not what was written: {refused}")
    else:
        reason = complained.decode(errors="replace").strip().rpartition("\n")[2].removeprefix("prefca: ")
        raise _FailedError("journal_not_collected", reason or f"it ended with status {process.returncode}")


async def _tell(channels: Sequence[Channel], alarms: Sequence[Alarm], now: datetime) -> None:
    for channel in channels:
        try:
            await channel.tell(alarms, now)
        except NotToldError as e:
            log.warning("alarm_not_told", extra={"reason": str(e)})
