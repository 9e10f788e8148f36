"""Collects the journals of this machine: when it starts, and at the beginning of every day in Japan.

It is done by `prefca journal collect` in a process of its own, so that what goes wrong there does no harm to the lists.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from issuer import children
from issuer.alarm import Alarm, Channel, NotToldError
from issuer.errors import NotNowError, RefusedError
from pkix.validity import JST
from settings.load import Settings

LOOK_EVERY_S: Final = 60.0
AFTER_MIDNIGHT: Final = timedelta(minutes=1)  # segments of the day before are sealed then
TIMEOUT_S: Final = 3600.0
AGAIN_AFTER: Final = timedelta(minutes=10)
AGAIN_AFTER_TAMPERING: Final = timedelta(hours=1)  # each time reads everything again, until somebody has looked at it
PATIENCE: Final = timedelta(hours=1)  # with another one that collects, or a database that is away

log = logging.getLogger("prefca.collector")


async def collect_daily(settings: Settings, clock: Callable[[], datetime], channels: Sequence[Channel]) -> None:
    """Until it is cancelled."""
    collected: date | None = None
    not_before = failing_since = None
    alarms: list[Alarm] = []
    while True:
        now = clock()
        day = (now - AFTER_MIDNIGHT).astimezone(JST).date()
        if day != collected and (not_before is None or now >= not_before):
            try:
                await _collect(settings)
                collected, alarms, not_before, failing_since = day, [], None, None
            except _FailedError as e:
                not_before = now + e.again_after
                failing_since = failing_since or now
                alarms = [] if e.may_pass and now - failing_since < PATIENCE else [e.alarm]
                log.warning("journal_not_collected", extra={"reason": str(e), "again": not_before.isoformat()})
        await _tell(channels, alarms, clock())
        await asyncio.sleep(LOOK_EVERY_S)


class _FailedError(Exception):
    """Not everything was collected."""

    def __init__(self, name: str, message: str, again_after: timedelta, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.alarm = Alarm(name, message)
        self.again_after = again_after
        self.may_pass = may_pass  # by itself, so that nobody has to look yet


async def _collect(settings: Settings) -> None:
    arguments = ("--instance", str(settings.instance), "journal", "collect", "--json")
    try:
        said = await children.command(*arguments, timeout_s=TIMEOUT_S)
    except children.FailedError as e:
        if e.status != RefusedError.exit_status:
            may_pass = e.status == NotNowError.exit_status
            raise _FailedError("journal_not_collected", str(e), AGAIN_AFTER, may_pass=may_pass) from e
        if not e.said:
            log.info("journal_not_ours", extra={"reason": str(e)})  # another host collects
            return
        refused = "; ".join(json.loads(e.said)["refused"])
        raise _FailedError("journal_tampered", f"not what was written: {refused}", AGAIN_AFTER_TAMPERING) from e
    log.info("journal_collected", extra={key: said[key] for key in ("segments", "records")})


async def _tell(channels: Sequence[Channel], alarms: Sequence[Alarm], now: datetime) -> None:
    for channel in channels:
        try:
            await channel.tell(alarms, now)
        except NotToldError as e:
            log.warning("alarm_not_told", extra={"reason": str(e)})
