"""`prefca scheduler`: a keeper for each CA, a collector of journals, what they tell people, and a listener.

When the settings change, keepers and collector go on by the new ones, with what they know; the address of the listener
stays.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from issuer import children
from issuer.alarm import Alarm, Channel
from issuer.errors import NotNowError
from issuer.installation import database
from issuer.watch.admin import administering
from issuer.watch.collector import Collector
from issuer.watch.current import CurrentSettings
from issuer.watch.keeper import BatchFailedError, Clock, Keeper, SharedSigner
from issuer.watch.webhook import post
from settings.load import Settings
from settings.workers import CannotListenError, bound

AFTER_A_FAULT_S: Final = 10.0
BATCH_TIMEOUT_S: Final = 900.0  # ten million entries take seconds: what runs for so long hangs
KEY_CHECK_TIMEOUT_S: Final = 60.0

log = logging.getLogger("prefca.scheduler")


async def run(current: CurrentSettings, clock: Clock) -> None:
    """Keep the schedules of all CAs until cancelled, by the settings that are current.

    Raises:
        NotNowError: the admin address is taken.
    """
    settings = current.settings
    scheduler = _Scheduler(settings, clock)
    try:
        async with contextlib.AsyncExitStack() as stack:
            (sockets,) = stack.enter_context(bound("scheduler", {"admin_listen": settings.scheduler.admin_listen}))
            for one in sockets.values():
                await stack.enter_async_context(administering(one, scheduler.keepers.values(), scheduler.collector))
            await stack.enter_async_context(database(settings))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_for_ever(scheduler.collector.keep))
                while True:
                    await scheduler.keep_until(current.changed)
                    scheduler.take_up(current.settings)
    except CannotListenError as e:
        raise NotNowError(str(e)) from e


class _Scheduler:
    """The parts, which know what they have seen and told also when the settings change."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._channels = functools.cache(_channels)
        self.keepers: dict[str, Keeper] = {}  # by prefecture; the same dict for ever, which the listener looks at
        self.collector = Collector(settings, clock, ())
        self.take_up(settings)

    def take_up(self, settings: Settings) -> None:
        """Go by these, while nothing is kept."""
        self.collector.take_up(settings, self._channels("journal", settings.scheduler.webhook))
        signers = {one.signer: SharedSigner(one) for one in settings.each() if one.signer.kind == "pkcs11"}
        for name in self.keepers.keys() - set(settings.prefectures):
            del self.keepers[name]
        for one in settings.each():
            name, signer = one.ca.prefecture, signers.get(one.signer)
            channels = self._channels(name, one.scheduler.webhook)
            if name in self.keepers:
                self.keepers[name].take_up(one, channels, signer)
            else:
                self.keepers[name] = Keeper(one, self._clock, channels, run_batch, signer)

    async def keep_until(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Keep the schedules until `changed` returns. A batch that runs then is stopped, and run anew."""
        async with asyncio.TaskGroup() as tasks:
            kept = [
                tasks.create_task(_for_ever(work))
                for keeper in self.keepers.values()
                for work in (keeper.keep, keeper.watch, partial(keeper.check_key, run_key_check))
            ]
            await changed()
            for task in kept:
                task.cancel()


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """Begin anew after a fault of ours: it must not stop what else the scheduler does."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("unexpected_error")
        await asyncio.sleep(AFTER_A_FAULT_S)


async def run_batch(settings: Settings, *options: str) -> dict[str, Any]:
    """`prefca batch` in a process of its own; what it says as JSON.

    Raises:
        BatchFailedError: it failed, or did not end.
    """
    return await _prefca(settings, BATCH_TIMEOUT_S, "batch", "--json", *options)


async def run_key_check(settings: Settings) -> dict[str, Any]:
    """`prefca key check` in a process of its own, because a token may hang.

    Raises:
        BatchFailedError: the key cannot be used.
    """
    return await _prefca(settings, KEY_CHECK_TIMEOUT_S, "key", "check", "--json")


async def _prefca(settings: Settings, timeout_s: float, *words: str) -> dict[str, Any]:
    of_ca = ("--instance", str(settings.instance), "--ca", settings.ca.prefecture)
    try:
        return await children.command(*of_ca, *words, timeout_s=timeout_s)
    except children.FailedError as e:
        raise BatchFailedError(str(e), e.status) from e


def _channels(name: str, webhook: str | None) -> Sequence[Channel]:
    return [
        Channel(partial(_log, name)),
        *([Channel(partial(post, webhook, name))] if webhook is not None else []),
    ]


async def _log(ca: str, standing: Sequence[Alarm]) -> None:
    for alarm in standing:
        log.error("alarm", extra={"ca": ca, "alarm": alarm.name, "say": alarm.message})
    if not standing:
        log.info("alarms_ended", extra={"ca": ca})
