"""One worker, `python -m ocsp.worker`: a process that answers, started by `prefca-ocsp` and never by hand.

It serves on sockets that its parent has bound, and talks to it over a socket: it says once that it serves, and then
answers each line with a line of JSON, the numbers it has counted. When that socket closes, the parent is gone, and the
worker stops; also at SIGTERM, after the requests in progress are answered. SIGHUP loads keys and rights again.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import secrets
import signal
import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvloop

from journal.segment import Journal
from ocsp import provision
from ocsp.access import Recognition
from ocsp.cache import AnswerCache
from ocsp.connection import HTTPServer
from ocsp.errors import StartError, StoreUnavailableError
from ocsp.metrics import Metrics
from ocsp.refresh import Refresh
from ocsp.server import Listener, Means, OCSPService, listening
from ocsp.signing import Signatures
from ocsp.store import Store
from settings import log
from settings.database import connect_arguments
from settings.load import Settings, load

CANNOT_START: Final = 1
MEBIBYTE: Final = 2**20
GC_ALLOCATIONS: Final = 20_000  # between collections; kept answers are many objects, and none of them is garbage soon

_logger = logging.getLogger("ocsp")


@dataclass(frozen=True, slots=True)
class _Arguments:
    instance: Path
    number: int
    control: socket.socket  # to the parent
    listen: socket.socket
    tls_listen: socket.socket | None


def main() -> int:
    """Run one worker; its exit code."""
    arguments = _arguments()
    settings = load(arguments.instance)
    log.set_up(settings.log)
    try:
        uvloop.run(_serve(settings, arguments))
    except StartError as e:
        print(f"prefca-ocsp: {e}", file=sys.stderr)
        return CANNOT_START
    return 0


def _arguments() -> _Arguments:
    parser = argparse.ArgumentParser(prog="ocsp.worker", description="Started by prefca-ocsp.")
    parser.add_argument("--instance", type=Path, required=True)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--control", type=int, required=True, help="descriptor of the socket to the parent")
    parser.add_argument("--listen", type=int, required=True, help="descriptor of a bound socket, for HTTP")
    parser.add_argument("--tls-listen", type=int, help="the same for HTTPS")
    given = parser.parse_args()
    tls_listen = None if given.tls_listen is None else socket.socket(fileno=given.tls_listen)
    control, listen = socket.socket(fileno=given.control), socket.socket(fileno=given.listen)
    return _Arguments(given.instance, given.number, control, listen, tls_listen)


async def _serve(settings: Settings, arguments: _Arguments) -> None:
    """Serve until told to stop.

    Raises:
        StartError: keys or journal cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent as well, which says SIGTERM
    section, metrics = settings.ocsp, Metrics()
    cache = AnswerCache(section.cache_mib * MEBIBYTE, section.max_staleness_s)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(contextlib.closing(Store(connect_arguments(settings, "prefca_ocsp"))))
        signing = stack.enter_context(contextlib.closing(Signatures(metrics)))
        keys = stack.enter_context(provision.delegate_keys(settings))
        refresh = Refresh(store, keys, _now, cache, tuple(map(Recognition, section.recognition)))
        loop.add_signal_handler(signal.SIGHUP, refresh.reload)
        await _first_load(refresh)
        journal = stack.enter_context(contextlib.closing(_journal(settings, arguments.number)))
        responder = provision.responder(section, store, signing)
        recogniser = stack.enter_context(provision.recogniser(settings, secrets.token_bytes(32)))
        means = Means(refresh, recogniser, provision.rate_limits(section), responder, cache, journal, metrics)
        listeners = [Listener(arguments.listen)]
        if arguments.tls_listen is not None:
            tls = provision.server_tls(settings, lambda: refresh.access)
            listeners.append(Listener(arguments.tls_listen, tls.context))
        gc.freeze()  # what is there now stays: the collector need not look at it again and again
        gc.set_threshold(GC_ALLOCATIONS, 50, 50)
        async with (
            listening(OCSPService(section, means), section, means, listeners) as server,
            asyncio.TaskGroup() as tasks,
        ):
            working = [
                tasks.create_task(refresh.follow()),
                tasks.create_task(_obey(arguments.control, _Report(means, refresh, server), stop)),
            ]
            await stop.wait()
            for task in working:
                task.cancel()


class _Report:
    """What the parent is told when it asks."""

    def __init__(self, means: Means, refresh: Refresh, server: HTTPServer) -> None:
        self._means = means
        self._refresh = refresh
        self._server = server

    def line(self, asked: bytes) -> bytes:
        """An answer, which repeats what was asked."""
        return json.dumps({"asked": asked.decode().strip()} | self._content()).encode() + b"\n"

    def _content(self) -> dict[str, Any]:
        now, confirmed_at = _now(), self._refresh.confirmed_at
        gauges: dict[str, float] = {
            "cache_answers": len(self._means.cache),
            "cache_bytes": self._means.cache.size_bytes,
            "feed_position": self._refresh.position,
            "feed_lag_seconds": self._refresh.lag_s,
            "connections": len(self._server.connections),
        }
        if confirmed_at is not None:
            gauges["staleness_seconds"] = (now - confirmed_at).total_seconds()
        try:
            issuers = self._refresh.snapshot.issuers
        except StoreUnavailableError:
            delegates, can_sign = {}, False
        else:
            delegates = {f"{one.serial:016X}": one.validity.not_after.timestamp() for one in issuers.delegates}
            can_sign = issuers.has_delegate(now)
        return {"ready": can_sign, "gauges": gauges, "delegates": delegates, **self._means.metrics.counts()}


async def _obey(control: socket.socket, report: _Report, stop: asyncio.Event) -> None:
    """Tell the parent that all is ready, then what it asks, until it is gone."""
    reader, writer = await asyncio.open_connection(sock=control)
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        writer.write(report.line(b"ready"))
        async for line in reader:
            writer.write(report.line(line))
            await writer.drain()
    stop.set()


async def _first_load(refresh: Refresh) -> None:
    """Load what is served from; without a database that waits until it is there.

    Raises:
        StartError: nothing could be signed.
    """
    try:
        await refresh.load()
    except StoreUnavailableError:
        return
    if not refresh.snapshot.issuers.has_delegate(_now()):
        reasons = "; ".join(refresh.refusals) or "the CA has issued no delegate that is valid now; issue one"
        raise StartError(f"no answer could be signed: {reasons}")


def _journal(settings: Settings, number: int) -> Journal:
    """The journal of this process.

    Raises:
        StartError: it cannot be written.
    """
    directory = settings.instance / "journal"
    try:
        return Journal.open(directory, f"ocsp-{number}", _now())
    except OSError as e:
        raise StartError(f"{directory}: {e.strerror}; let this account write there") from e


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
