"""The daily work with the journals of this machine: collect them, have their root stamped, run the backup.

It is done when the scheduler starts and at the beginning of every day in Japan, each part by `prefca` in a process of
its own, so that what goes wrong there does no harm to the lists. A part that fails is tried again and stops none of the
others; but nothing is stamped or backed up before journals are collected, as far as they can be, and on a host that
does not collect.
The host that collects tells what `installation_sight` sees, too: one host only, whatever there are.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from issuer import children
from issuer.alarm import Alarm, Channel, NotToldError
from issuer.errors import IssuerError, NotNowError, RefusedError
from issuer.installation import connected, records
from issuer.records.backup_store import BackupStore
from issuer.watch import installation_sight
from issuer.watch.installation_sight import InstallationSight
from pkix.validity import day_in_japan
from settings.load import Settings

LOOK_EVERY_S: Final = 60.0
AFTER_MIDNIGHT: Final = timedelta(minutes=1)  # segments of the day before are sealed then
TIMEOUT_S: Final = 3600.0
AGAIN_AFTER: Final = timedelta(minutes=10)
AGAIN_AFTER_TAMPERING: Final = timedelta(hours=1)  # each time reads everything again, until somebody has looked at it
BACKUP_AGAIN_AFTER: Final = timedelta(hours=1)
PATIENCE: Final = timedelta(hours=1)  # with another one that collects, or a database or authority that is away
SIGHT_TIMEOUT_S: Final = 10.0
NAMES: Final = ("journal_tampered", "backup_failed", *installation_sight.NAMES)

log = logging.getLogger("prefca.collector")


class _FailedError(Exception):
    """A part of the work was not done."""

    def __init__(
        self, name: str, message: str, again_after: timedelta, *, may_pass: bool = False, stops_others: bool = True
    ) -> None:
        super().__init__(message)
        self.alarm = Alarm(name, message)
        self.again_after = again_after
        self.may_pass = may_pass  # by itself, so that nobody has to look yet
        self.stops_others = stops_others


class _Chore:
    """A part of the work, and whether it is done today."""

    def __init__(self, do: Callable[[datetime], Awaitable[None]]) -> None:
        self._do = do
        self._done: date | None = None
        self._over: date | None = None  # at least so far that others may follow
        self._not_before: datetime | None = None
        self._failing_since: datetime | None = None
        self.alarms: list[Alarm] = []

    def is_done(self, day: date) -> bool:
        """Is it, on this day?"""
        return self._done == day

    def is_over(self, day: date) -> bool:
        """May what comes after it be done, on this day?"""
        return day in {self._done, self._over}

    async def attend(self, now: datetime, day: date) -> None:
        """Do it, if it is due."""
        if self.is_done(day) or (self._not_before is not None and now < self._not_before):
            return
        try:
            await self._do(now)
        except _FailedError as e:
            self._not_before = now + e.again_after
            self._over = None if e.stops_others else day
            self._failing_since = self._failing_since or now
            self.alarms = [] if e.may_pass and now - self._failing_since < PATIENCE else [e.alarm]
            extra = {"reason": str(e), "again": self._not_before.isoformat()}
            log.warning(_PUT_OFF[e.alarm.name], extra=extra)
        else:
            self._done, self._not_before, self._failing_since, self.alarms = day, None, None, []


_PUT_OFF: Final = {
    "journal_tampered": "journal_not_collected",
    "journal_not_collected": "journal_not_collected",
    "journal_not_stamped": "journal_not_stamped",
    "backup_failed": "backup_failed",
}


class Collector:
    """What is done each day, and what is known of it."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime], channels: Sequence[Channel]) -> None:
        self.take_up(settings, channels)
        self._clock = clock
        self._is_ours = False  # this host collects
        self._seen: InstallationSight | None = None  # as last seen
        self._looked_at: datetime | None = None
        self.backed_up_at: datetime | None = None
        self.collected_at: datetime | None = None
        self.stamped_at: datetime | None = None
        self.segments = self.records = 0
        self._collecting = _Chore(self._collect)
        self._stamping = _Chore(self._stamp)
        self._backup = _Chore(self._back_up)

    def take_up(self, settings: Settings, channels: Sequence[Channel]) -> None:
        """Go by these from now on."""
        self._settings = settings
        self._channels = channels

    async def keep(self) -> None:
        """Until it is cancelled."""
        while True:
            now = self._clock()
            day = day_in_japan(now - AFTER_MIDNIGHT)
            await self._collecting.attend(now, day)
            if self._is_ours and self._collecting.is_over(day):
                for chore in self._others():
                    await chore.attend(now, day)
            if self._is_ours:
                await self._look()
            self._looked_at = self._clock()
            await self._tell(self.alarms(), self._looked_at)
            await asyncio.sleep(LOOK_EVERY_S)

    def alarms(self) -> list[Alarm]:
        """What somebody should look at, as of the last look."""
        standing = [*self._collecting.alarms, *(alarm for chore in self._others() for alarm in chore.alarms)]
        if not (self._is_ours and self._seen and self._looked_at):
            return standing
        told = {alarm.name for alarm in standing}
        seen = installation_sight.alarms(self._seen, self._settings, self._looked_at)
        return [*standing, *(alarm for alarm in seen if alarm.name not in told)]

    def _others(self) -> list[_Chore]:
        """What is to be done besides, as it is configured."""
        section = self._settings.archive
        wanted = (
            (section.time_stamp_authority is not None, self._stamping),
            (bool(section.backup_command), self._backup),
        )
        return [chore for is_wanted, chore in wanted if is_wanted]

    async def _collect(self, now: datetime) -> None:
        try:
            said = await self._prefca("journal", "collect")
        except children.FailedError as e:
            if e.status != RefusedError.exit_status:
                may_pass = e.status == NotNowError.exit_status
                raise _FailedError("journal_not_collected", str(e), AGAIN_AFTER, may_pass=may_pass) from e
            if not e.said:
                self._is_ours = False
                log.info("journal_not_ours", extra={"reason": str(e)})  # another host collects
                return
            self._is_ours = True
            refused = "; ".join(json.loads(e.said)["refused"])
            message = f"not what was written: {refused}"
            raise _FailedError("journal_tampered", message, AGAIN_AFTER_TAMPERING, stops_others=False) from e
        self._is_ours, self.collected_at = True, now
        self.segments += said["segments"]
        self.records += said["records"]
        log.info("journal_collected", extra={key: said[key] for key in ("segments", "records")})

    async def _stamp(self, now: datetime) -> None:
        try:
            said = await self._prefca("journal", "stamp")
        except children.FailedError as e:
            may_pass = e.status == NotNowError.exit_status
            raise _FailedError("journal_not_stamped", str(e), AGAIN_AFTER, may_pass=may_pass) from e
        self.stamped_at = now
        log.info("journal_stamped", extra={"root": said["root"]})

    async def _back_up(self, now: datetime) -> None:
        self.backed_up_at = self.backed_up_at or await self._last_backup()
        if self.backed_up_at is not None and day_in_japan(self.backed_up_at) == day_in_japan(now):
            return  # before this process began, or by hand
        timeout_s = self._settings.archive.backup_timeout_min * 60.0
        try:
            said = await self._prefca("archive", "backup", timeout_s=timeout_s + TIMEOUT_S)
        except children.FailedError as e:
            raise _FailedError("backup_failed", str(e), BACKUP_AGAIN_AFTER) from e
        self.backed_up_at = datetime.fromisoformat(said["done_at"])
        log.info("backup_done", extra={"done_at": said["done_at"]})

    async def _look(self) -> None:
        """See what there is to tell. If that cannot be seen, what was seen last stands."""
        try:
            async with asyncio.timeout(SIGHT_TIMEOUT_S), records(self._settings) as shared:
                self._seen = await installation_sight.installation_sight(shared)
        except (IssuerError, TimeoutError) as e:
            log.warning("cannot_look_at_archive", extra={"reason": str(e) or "it does not answer in time"})

    async def _last_backup(self) -> datetime | None:
        try:
            async with connected(self._settings) as connection:
                return await BackupStore(connection).last()
        except NotNowError as e:
            raise _FailedError("backup_failed", str(e), AGAIN_AFTER, may_pass=True) from e

    async def _prefca(self, *arguments: str, timeout_s: float = TIMEOUT_S) -> Mapping[str, Any]:
        words = ("--instance", str(self._settings.instance), *arguments, "--json")
        return await children.command(*words, timeout_s=timeout_s)

    async def _tell(self, alarms: Sequence[Alarm], now: datetime) -> None:
        for channel in self._channels:
            try:
                await channel.tell(alarms, now)
            except NotToldError as e:
                log.warning("alarm_not_told", extra={"reason": str(e)})
