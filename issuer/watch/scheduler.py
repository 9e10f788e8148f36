"""`prefca scheduler`: a keeper for each CA, a collector of journals, what they tell people, and a listener."""

import asyncio
import contextlib
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
from issuer.watch.keeper import BatchFailedError, Clock, Keeper, SharedSigner
from issuer.watch.webhook import post
from settings.load import Settings
from settings.workers import CannotListenError, bound

AFTER_A_FAULT_S: Final = 10.0
BATCH_TIMEOUT_S: Final = 900.0  # ten million entries take seconds: what runs for so long hangs
KEY_CHECK_TIMEOUT_S: Final = 60.0

log = logging.getLogger("prefca.scheduler")


async def run(settings: Settings, clock: Clock) -> None:
    """Keep the schedules of all CAs of these settings until cancelled.

    Raises:
        NotNowError: the admin address is taken.
    """
    signers = {one.signer: SharedSigner(one) for one in settings.each() if one.signer.kind == "pkcs11"}
    keepers = [
        Keeper(one, clock, _channels(one.ca.prefecture, one), run_batch, signers.get(one.signer))
        for one in settings.each()
    ]
    collector = Collector(settings, clock, _channels("journal", settings))
    try:
        async with contextlib.AsyncExitStack() as stack:
            (sockets,) = stack.enter_context(bound("scheduler", {"admin_listen": settings.scheduler.admin_listen}))
            for one in sockets.values():
                await stack.enter_async_context(administering(one, keepers, collector))
            await stack.enter_async_context(database(settings))
            async with asyncio.TaskGroup() as tasks:
                for keeper in keepers:
                    tasks.create_task(_for_ever(keeper.keep))
                    tasks.create_task(_for_ever(keeper.watch))
                    tasks.create_task(_for_ever(partial(keeper.check_key, run_key_check)))
                tasks.create_task(_for_ever(collector.keep))
    except CannotListenError as e:
        raise NotNowError(str(e)) from e


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


def _channels(name: str, settings: Settings) -> list[Channel]:
    address = settings.scheduler.webhook
    return [
        Channel(partial(_log, name)),
        *([Channel(partial(post, address, name))] if address is not None else []),
    ]


async def _log(ca: str, standing: Sequence[Alarm]) -> None:
    for alarm in standing:
        log.error("alarm", extra={"ca": ca, "alarm": alarm.name, "say": alarm.message})
    if not standing:
        log.info("alarms_ended", extra={"ca": ca})
