"""One worker, `python -m ocsp.worker`: a process that answers, started by `prefca-ocsp` and never by hand.

It serves on sockets that its parent has bound (`settings.workers`). SIGTERM stops it after the requests in progress are
answered; SIGHUP loads keys and rights again.
"""

import argparse
import asyncio
import contextlib
import gc
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from journal.keeping import NotSealedError, keep, opened, why_not_opened
from journal.recovery import StreamPlace
from journal.writing import Journal
from ocsp import provision
from ocsp.access import Recognition
from ocsp.answering import Means
from ocsp.cache import AnswerCache
from ocsp.connection import HTTPServer
from ocsp.errors import StartError, StoreUnavailableError
from ocsp.metrics import Metrics
from ocsp.refresh import Refresh
from ocsp.server import Listener, listening
from ocsp.signing import Signatures
from ocsp.store import Store
from ocsp.turn import Turn
from settings import log
from settings.database import connect_arguments
from settings.load import Settings, load
from settings.workers import WORKER_OPTION, Place, Report, answer_parent

CANNOT_START: Final = 1
NOT_SEALED: Final = 1
MEBIBYTE: Final = 2**20
GC_ALLOCATIONS: Final = 20_000  # between collections; kept answers are many objects, and none of them is garbage soon


def main() -> int:
    """Run one worker; its exit code."""
    parser = argparse.ArgumentParser(prog="ocsp.worker", description="Started by prefca-ocsp.")
    parser.add_argument("--instance", type=Path, required=True)
    parser.add_argument(WORKER_OPTION, type=Place.parse, required=True, dest="place")
    given = parser.parse_args()
    settings = load(given.instance)
    log.set_up(settings.log)
    try:
        uvloop.run(_serve(settings, given.place))
    except StartError as e:
        print(f"prefca-ocsp: {e}", file=sys.stderr)
        return CANNOT_START
    except NotSealedError:
        return NOT_SEALED
    return 0


async def _serve(settings: Settings, place: Place) -> None:
    """Serve until told to stop.

    Raises:
        StartError: keys or journal cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    section, metrics = settings.ocsp, Metrics()
    cache = AnswerCache(section.cache_mib * MEBIBYTE, section.max_staleness_s)
    with contextlib.ExitStack() as stack:
        database = Store(connect_arguments(settings, "prefca_ocsp"), settings.database.poll_ms / 1000)
        store = stack.enter_context(contextlib.closing(database))
        keys = stack.enter_context(provision.delegate_keys(settings))
        refresh = Refresh(store, keys, _now, cache, tuple(map(Recognition, section.recognition)))
        loop.add_signal_handler(signal.SIGHUP, refresh.reload)
        await _first_load(refresh)
        journal = stack.enter_context(_journal(settings, place.number))
        turn = Turn(journal, metrics, refresh, time.time)
        signing = stack.enter_context(contextlib.closing(Signatures(metrics, turn.end)))
        recogniser = stack.enter_context(provision.recogniser(settings, secrets.token_bytes(32)))
        means = Means(
            knowledge=refresh,
            statuses=store,
            recogniser=recogniser,
            limits=provision.rate_limits(section),
            responder=provision.responder(section),
            signing=signing,
            cache=cache,
            metrics=metrics,
            clock=time.time,
        )
        sockets = place.sockets()
        listeners = [Listener(sockets["listen"])]
        if "tls_listen" in sockets:
            tls = provision.server_tls(settings, lambda: refresh.access)
            listeners.append(Listener(sockets["tls_listen"], tls.context))
        gc.freeze()  # what is there now stays: the collector need not look at it again and again
        gc.set_threshold(GC_ALLOCATIONS, 50, 50)
        async with (
            listening(section, means, turn, listeners) as server,
            asyncio.TaskGroup() as tasks,
        ):
            working = [
                tasks.create_task(refresh.follow()),
                tasks.create_task(keep(journal, _now, settings.journal.sync_s)),
                tasks.create_task(answer_parent(place.control, lambda: _report(means, refresh, server, journal))),
            ]
            await stop.wait()
            for task in working:
                task.cancel()


def _report(means: Means, refresh: Refresh, server: HTTPServer, journal: Journal) -> Report:
    """What the parent is told when it asks."""
    now, confirmed_at = _now(), refresh.confirmed_at
    gauges: dict[str, float] = {
        "cache_answers": len(means.cache),
        "cache_bytes": means.cache.size_bytes,
        "feed_position": refresh.position,
        "feed_lag_seconds": refresh.lag_s,
        "connections": len(server.connections),
        "journal_up": int(not journal.is_failing),
    }
    if confirmed_at is not None:
        gauges["staleness_seconds"] = (now - confirmed_at).total_seconds()
    delegates, can_sign = {}, False
    if refresh.known is not None:
        issuers = refresh.known.issuers
        delegates = {
            f"{one.serial:016X}": (one.generation_id, one.validity.not_after.timestamp()) for one in issuers.delegates
        }
        can_sign = issuers.have_delegates(now)
    return {"can_sign": can_sign, "gauges": gauges, "delegates": delegates, **means.metrics.counts()}


async def _first_load(refresh: Refresh) -> None:
    """Load what is served from; without a database that waits until it is there.

    Raises:
        StartError: nothing could be signed.
    """
    try:
        await refresh.load()
    except StoreUnavailableError:
        return
    if refresh.known is not None and not refresh.known.issuers.has_delegate(_now()):
        reasons = "; ".join(refresh.refusals) or "no delegate is valid now; run `prefca ocsp-delegate create`"
        raise StartError(f"no answer could be signed: {reasons}")


@contextlib.contextmanager
def _journal(settings: Settings, number: int) -> Iterator[Journal]:
    """The journal of this process.

    Raises:
        StartError: it cannot be written.
    """
    section = settings.journal
    place = StreamPlace(
        settings.path(section.directory), settings.path(section.key_directory), section.stream(f"ocsp-{number}")
    )
    with contextlib.ExitStack() as stack:
        try:
            journal = stack.enter_context(opened(place, "ocsp", _now, section.sync_s))
        except OSError as e:
            raise StartError(why_not_opened(e, place)) from e
        yield journal


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
