"""Keeps the schedule of one CA: of all machines that do so one publishes, and each of them watches.

    look -> due? -> `prefca batch` in a process of its own -> look …        the runner
    look …                                                                  those who wait for its place
    alarms of what was seen -> log, webhook                                 both

The runner holds an advisory lock of the database, on the connection on which it looks: when the connection is gone,
with its process, its machine or the network, another one has the lock. Two that both believed to be the runner would
still do no harm, for a batch excludes another one and asks itself whether lists are due.

The batch is another process, so that a token that hangs or crashes takes neither alarms nor schedule with it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from issuer.alarm import Alarm, Channel, NotToldError, Sight, alarms
from issuer.errors import IssuerError
from issuer.installation import Installation, opened
from issuer.lists.batch import newest_not_of_the_future
from issuer.operations import activation
from issuer.records.recovery_store import Compromise
from issuer.records.rows import Publication
from issuer.recovery import compromise
from issuer.schedule import Schedule, is_of_the_future
from issuer.watch import ca_sight
from issuer.watch.ca_sight import CASight
from settings.load import FILE_NAME, Settings

LOOK_TIMEOUT_S: Final = 30.0  # then the connection is given up, and another one made
SIGHT_TIMEOUT_S: Final = 5.0  # for alarms only: lists must not be late for it
_CONFIGURATION_STATUS: Final = 2  # of `prefca`: a person has to mend something first

log = logging.getLogger("prefca.scheduler")

Clock = Callable[[], datetime]


class BatchFailedError(Exception):
    """A batch published nothing; the message is what it said."""

    def __init__(self, reason: str, status: int | None) -> None:
        super().__init__(reason)
        self.status = status  # None: it did not end


Batch = Callable[..., Awaitable[dict[str, Any]]]


class SharedSigner:
    """What all CAs with one signer know of it: a PIN that was refused for one of them is not sent for another.

    To send it again may lock the token. So one batch uses the signer at a time, and the next one knows what came of it.
    """

    def __init__(self, settings: Settings) -> None:
        """Make one; the settings are those of any of its CAs."""
        signer = settings.signer
        files = (Path(FILE_NAME), signer.pin_file, signer.passphrase_file, signer.activation_file)
        self._files = [settings.path(file) for file in files if file is not None]
        self._is_in_use = False
        self._broken: list[int | None] | None = None  # ages of the files that a person has to change first

    def may_be_used(self) -> bool:
        """Nobody uses it, and it was not refused with the files as they are."""
        if self._broken != self._ages():
            self._broken = None
        return self._broken is None and not self._is_in_use

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """For a batch, which says by BatchFailedError that a person has to mend something first."""
        self._is_in_use = True
        ages = self._ages()  # a file that is mended while the batch runs is tried
        try:
            yield
        except BatchFailedError as e:
            if e.status == _CONFIGURATION_STATUS:
                self._broken = ages
            raise
        finally:
            self._is_in_use = False

    def _ages(self) -> list[int | None]:
        return [file.stat().st_mtime_ns if file.exists() else None for file in self._files]


class _Attempts:
    """When a batch may be tried. Pauses are on the loop's clock, which nobody sets."""

    def __init__(self, settings: Settings) -> None:
        self._section = settings.scheduler
        self._failures_in_a_row = 0
        self._not_before_s = 0.0

    def pause_s(self) -> float:
        """What remains of a pause."""
        return max(self._not_before_s - asyncio.get_running_loop().time(), 0)

    def succeeded(self) -> None:
        """Should lists be due all the same, they are not made in a tight loop."""
        self._failures_in_a_row = 0
        self._wait(self._section.retry_s)

    def failed(self) -> float:
        """Count it; the pause, in seconds."""
        pause_s: float = min(self._section.retry_s * 2**self._failures_in_a_row, self._section.retry_max_s)
        self._failures_in_a_row += 1
        self._wait(pause_s)
        return pause_s

    def _wait(self, pause_s: float) -> None:
        self._not_before_s = asyncio.get_running_loop().time() + pause_s


class Keeper:
    """Keeps the schedule of one CA."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        channels: Iterable[Channel],
        batch: Batch,
        signer: SharedSigner | None = None,
    ) -> None:
        """Make one.

        Args:
            settings: of this CA.
            clock: tells the time.
            channels: who is told of alarms.
            batch: runs `prefca batch` for the settings, with the options that follow them, and returns what it says
                as JSON; it raises BatchFailedError.
            signer: which other CAs use, too; None: this one has its own.
        """
        self.take_up(settings, channels, signer)
        self.sight = Sight(clock(), has_answered=False)
        self.is_runner = False
        self.publications = 0
        self.failures = 0
        self._clock = clock
        self._batch = batch
        self._compromises: list[Compromise] = []  # as last seen
        self._seen: CASight | None = None  # likewise
        self._of_the_future: int | None = None  # a publication that is replaced as soon as its time has come

    def take_up(self, settings: Settings, channels: Iterable[Channel], signer: SharedSigner | None) -> None:
        """Go by these when `keep`, `watch` and `check_key` are called next; what is known of the CA stays."""
        self.settings = settings
        self.schedule = Schedule.of(settings)
        self._channels = tuple(channels)
        self._look_every_s = settings.scheduler.look_every_s
        self._attempts = _Attempts(settings)
        self._signer = signer or SharedSigner(settings)

    @property
    def name(self) -> str:
        """Whose CA it is."""
        return self.settings.ca.prefecture

    def alarms(self) -> list[Alarm]:
        """Those that stand now, those of the lists first."""
        now = self._clock()
        of_lists = alarms(self.schedule, self.sight, now)
        return of_lists if self._seen is None else [*of_lists, *ca_sight.alarms(self._seen, self.settings, now)]

    async def keep(self) -> NoReturn:
        """Publish whenever lists are due; a database that is away is waited for."""
        while True:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    async with asyncio.timeout(LOOK_TIMEOUT_S):
                        installation = await stack.enter_async_context(opened(self.settings))
                    await self._keep(installation)
            except (IssuerError, TimeoutError) as e:
                reason = str(e) or "it does not answer in time"
                self.sight = replace(self.sight, obstacle=reason)
                log.warning("cannot_look", extra={"ca": self.name, "reason": reason})
            finally:
                self.is_runner = False
            await asyncio.sleep(self._look_every_s)

    async def watch(self) -> NoReturn:
        """Tell of alarms, whoever is the runner."""
        while True:
            await asyncio.sleep(self._look_every_s)
            standing, now = self.alarms(), self._clock()
            for channel in self._channels:
                try:
                    await channel.tell(standing, now)
                except NotToldError as e:
                    log.warning("alarm_not_told", extra={"ca": self.name, "reason": str(e)})

    async def check_key(self, check: Batch) -> NoReturn:
        """See from time to time whether the key can be used: a token that is away is told before lists are due.

        `check` does so for the settings that it is given, as `Batch` works, and writes down what it found.
        """
        section, signer = self.settings.scheduler, self.settings.signer
        # Without a file a person types the secret, for each batch.
        has_secret = (signer.passphrase_file or signer.pin_file or signer.activation_file) is not None
        pause_s = float(section.key_check_s)
        while True:
            await asyncio.sleep(pause_s)
            if not (self.is_runner and has_secret and self._signer.may_be_used()):
                continue
            try:
                with self._signer.used():
                    await check(self.settings)
                pause_s = float(section.key_check_s)
            except BatchFailedError as e:
                pause_s = float(min(section.retry_s, section.key_check_s))
                log.warning("key_cannot_be_used", extra={"ca": self.name, "reason": str(e)})

    async def _keep(self, installation: Installation) -> NoReturn:
        store, authority_id = installation.store, installation.authority_id
        while True:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                if not self.is_runner and await store.lock_schedule(authority_id):
                    self.is_runner = True
                    log.info("runner", extra={"ca": self.name, "next": self.schedule.next(self._clock()).isoformat()})
                in_force = await store.publication_in_force(authority_id)
                in_time = await newest_not_of_the_future(installation, self._clock())
                self._compromises = await installation.recovery.compromises(authority_id)
            failure = self.sight.failure if in_force == self.sight.in_force else None
            self.sight = Sight(self._clock(), in_force=in_force, in_time=in_time, failure=failure)
            has_published = self.is_runner and await self._publish_if_due(in_force)
            await self._look_around(installation)
            if not has_published:
                await asyncio.sleep(self._pause_s())

    async def _look_around(self, installation: Installation) -> None:
        """See whether keys and certificates will end. If that cannot be seen in time, what was seen last stands."""
        try:
            async with asyncio.timeout(SIGHT_TIMEOUT_S):
                await activation.tidy(installation)
                self._seen = await ca_sight.ca_sight(installation)
        except TimeoutError:
            log.warning("cannot_look_at_keys", extra={"ca": self.name, "timeout_s": SIGHT_TIMEOUT_S})

    async def _publish_if_due(self, in_force: Publication | None) -> bool:
        """Whether something was published."""
        now = self._clock()
        if in_force is not None and is_of_the_future(in_force, now):
            self._of_the_future = in_force.publication_id
            return False
        at_once = compromise.waits_for_lists(self._compromises, in_force) or (
            in_force is not None and in_force.publication_id == self._of_the_future
        )
        if not (at_once or self.schedule.due(in_force, now)):
            return False
        if self._attempts.pause_s() > 0 or not self._signer.may_be_used():
            return False
        try:
            with self._signer.used():
                published = await self._batch(self.settings, *(["--now"] if at_once else []))
        except BatchFailedError as e:
            self._failed(e)
            return False
        self._attempts.succeeded()
        if published["publication"] is not None:  # else somebody ran `prefca batch` meanwhile
            self.publications += 1
            log.info("published", extra={"ca": self.name} | published)
        return True

    def _failed(self, error: BatchFailedError) -> None:
        self.failures += 1
        self.sight = replace(self.sight, failure=str(error))
        pause_s = self._attempts.failed()
        extra = {"ca": self.name, "reason": str(error), "status": error.status, "again_in_s": pause_s}
        log.error("batch_failed", extra=extra)

    def _pause_s(self) -> float:
        """Until the next look."""
        now = self._clock()
        until_next_s = (self.schedule.next(now) - now).total_seconds()
        return max(min(self._look_every_s, until_next_s, self._attempts.pause_s() or self._look_every_s), 0.01)
