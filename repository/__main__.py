"""`prefca-repository`: the directory server as a process, or as several."""

import argparse
import asyncio
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.main import installReactor

from journal.segment import Journal
from repository.admin import administering
from repository.connection import Shared
from repository.directory import Directory
from repository.errors import StartError
from repository.health import report
from repository.parent import supervise
from repository.passwords import PasswordMemory, PasswordVerifier
from repository.search import Limits
from repository.server import Server, bound_socket
from repository.session import Service
from repository.store import Store
from repository.throttle import FailedBinds
from repository.tls import TLSContext
from repository.turns import Turns
from settings import log
from settings.database import connect_arguments
from settings.load import INSTANCE_VARIABLE, ConfigurationError, Settings, load
from settings.workers import WORKER_OPTION, Place, Report, WorkerState, answer_parent

_MEBIBYTE = 1_048_576
_KEY_BYTES = 32


def main() -> int:
    """Run until SIGTERM or SIGINT; SIGHUP reads the TLS certificate again.

    Returns:
        The exit status: 0 after a stop, 1 if the server cannot start or failed, 2 for a configuration error.
    """
    parser = argparse.ArgumentParser(
        prog="prefca-repository", description="The LDAP directory of CRLs and certificates."
    )
    default = Path(os.environ.get(INSTANCE_VARIABLE, "instance"))
    parser.add_argument(
        "--instance", type=Path, default=default, metavar="DIR", help=f"the installation (default: {default})"
    )
    parser.add_argument("--workers", type=_count, metavar="N", help="processes that answer; 0 is one per core")
    parser.add_argument(WORKER_OPTION, type=Place.parse, dest="place", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        settings = load(arguments.instance)
    except ConfigurationError as e:
        print(e, file=sys.stderr)
        return 2
    log.set_up(settings.log)
    wanted = settings.repository.workers if arguments.workers is None else arguments.workers
    count = wanted or len(os.sched_getaffinity(0))
    try:
        if arguments.place is None and count > 1:
            return asyncio.run(supervise(settings, count))
        return _serve(settings, arguments.place)
    except StartError as e:
        print(e, file=sys.stderr)
        return 1


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes; write 2, or 0 for one per core")
    return int(text)


def _serve(settings: Settings, place: Place | None) -> int:
    """Be one worker, or, without a place, the only one."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    reactor = AsyncioSelectorReactor(loop)
    installReactor(reactor)  # type: ignore[no-untyped-call]
    writes_copy = place is None or place.number == 0
    store = Store(
        connect_arguments(settings, "prefca_repository"),
        settings.path(settings.repository.copy_file),
        writes_copy=writes_copy,
    )
    with closing(_journal(settings, place)) as journal:
        shared = _shared(settings, Turns(loop, journal, _now), loop.time)
        server = Server(loop, reactor, shared)
        server.listen(is_shared=place is not None)

        def tell() -> Report:
            return report(shared, _now(), is_database_away=store.is_away)

        if place is not None:
            return server.run(store, answer_parent(place.descriptor, tell))
        if (admin_listen := settings.repository.admin_listen) is None:
            return server.run(store)
        admin = bound_socket("admin_listen", admin_listen, is_shared=False)
        return server.run(store, _administer(admin, tell))


def _shared(settings: Settings, turns: Turns, clock: Callable[[], float]) -> Shared:
    section = settings.repository
    lockout = timedelta(seconds=section.bind_lockout_s)
    service = Service(
        Directory(cache_bytes=section.cache_mib * _MEBIBYTE),
        Limits(section.search_size_limit_entries, section.search_time_limit_s, time.monotonic),
        FailedBinds(lockout_failures=section.bind_lockout_failures, lockout=lockout),
    )
    tls = TLSContext(settings.path(section.tls_certificate), settings.path(section.tls_key))
    memory = PasswordMemory(secrets.token_bytes(_KEY_BYTES), section.password_memory_s, time.monotonic)
    return Shared(section, service, tls, turns, PasswordVerifier(memory), clock)


async def _administer(bound: socket.socket, tell: Callable[[], Report]) -> None:
    """Answer for the only worker, for ever."""

    async def states() -> dict[int, WorkerState]:
        return {0: WorkerState(1, tell())}

    async with administering(bound, states):
        await asyncio.Event().wait()


def _journal(settings: Settings, place: Place | None) -> Journal:
    """The journal of this process.

    Raises:
        StartError: it cannot be written.
    """
    name = "repository" if place is None else f"repository-{place.number}"
    try:
        return Journal.open(settings.instance / "journal", name, _now())
    except OSError as e:
        raise StartError(f"cannot write the journal ({e}); make the directory writable") from e


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
