"""`prefca-repository`: the directory server as a process, or as several."""

import argparse
import asyncio
import os
import secrets
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.main import installReactor

from journal.keeping import NotSealedError, keep, opened, why_not_opened
from journal.recovery import StreamPlace
from journal.writing import Journal
from repository.admin import administering
from repository.connection import Shared
from repository.directory import Directory
from repository.errors import StartError
from repository.health import report
from repository.parent import supervise
from repository.passwords import PasswordMemory, PasswordVerifier
from repository.search import Limits
from repository.server import Server
from repository.session import Service
from repository.store import Store
from repository.tls import TLSContext
from repository.turns import Turns
from settings import log
from settings.database import connect_arguments
from settings.failed_logins import FailedLogins
from settings.load import INSTANCE_VARIABLE, ConfigurationError, Settings, load
from settings.workers import (
    WORKER_OPTION,
    CannotListenError,
    Place,
    Report,
    Sockets,
    WorkerState,
    answer_parent,
    bound,
    count,
    one_per_core,
)

_MEBIBYTE = 1_048_576
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Process:
    """What distinguishes this process from its like."""

    name: str  # of its journal
    sockets: Sockets
    writes_copy: bool  # it keeps the local copy; of several one does


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
    parser.add_argument("--workers", type=count, metavar="N", help="processes that answer; 0 is one per core")
    parser.add_argument(WORKER_OPTION, type=Place.parse, dest="place", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        settings = load(arguments.instance)
    except ConfigurationError as e:
        print(f"prefca-repository: {e}", file=sys.stderr)
        return 2
    log.set_up(settings.log)
    wanted = settings.repository.workers if arguments.workers is None else arguments.workers
    number = wanted or one_per_core()
    try:
        if arguments.place is not None:
            return _work(settings, arguments.place)
        if number > 1:
            return asyncio.run(supervise(settings, number))
        return _work_alone(settings)
    except (StartError, CannotListenError) as e:
        print(f"prefca-repository: {e}", file=sys.stderr)
        return 1
    except NotSealedError:
        return 1


def _work(settings: Settings, place: Place) -> int:
    """Be one of several workers."""
    process = Process(f"repository-{place.number}", place.sockets(), writes_copy=place.number == 0)
    return _serve(settings, process, lambda tell: answer_parent(place.control, tell))


def _work_alone(settings: Settings) -> int:
    """Be the only worker, without a parent."""
    section = settings.repository
    addresses = {"listen": section.listen, "tls_listen": section.tls_listen}
    with (
        bound("repository", addresses) as (sockets,),
        bound("repository", {"admin_listen": section.admin_listen}) as (admin,),
    ):
        process = Process("repository", sockets, writes_copy=True)
        return _serve(settings, process, lambda tell: _administer(admin, tell))


def _serve(
    settings: Settings, process: Process, meanwhile: Callable[[Callable[[], Report]], Coroutine[Any, Any, None]]
) -> int:
    """Serve until told to stop; the exit status.

    Args:
        settings: of the installation.
        process: this one.
        meanwhile: what else is to run, given what tells how this process is.

    Raises:
        StartError: certificate or journal cannot be used.
    """
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    reactor = AsyncioSelectorReactor(loop)
    installReactor(reactor)  # type: ignore[no-untyped-call]
    store = Store(
        connect_arguments(settings, "prefca_repository"),
        settings.database.poll_ms / 1000,
        _now,
        settings.path(settings.repository.copy_file),
        writes_copy=process.writes_copy,
    )
    with _journal(settings, process.name) as journal:
        shared = _shared(settings, Turns(loop, journal, time.time), loop.time)

        def tell() -> Report:
            return report(shared, _now(), is_database_away=store.is_away, confirmed_at=store.confirmed_at)

        return Server(loop, reactor, shared, process.sockets).run(
            store, lambda: _with_journal(journal, settings.journal.sync_s, meanwhile(tell))
        )


def _shared(settings: Settings, turns: Turns, clock: Callable[[], float]) -> Shared:
    section = settings.repository
    lockout = timedelta(seconds=section.bind_lockout_s)
    service = Service(
        Directory(cache_bytes=section.cache_mib * _MEBIBYTE),
        Limits(section.search_size_limit_entries, section.search_time_limit_s, time.monotonic),
        FailedLogins(lockout_failures=section.bind_lockout_failures, lockout=lockout),
    )
    tls = TLSContext(settings.path(section.tls_certificate), settings.path(section.tls_key))
    memory = PasswordMemory(secrets.token_bytes(_KEY_BYTES), section.password_memory_s, time.monotonic)
    return Shared(section, service, tls, turns, PasswordVerifier(memory), clock)


async def _administer(admin: Sockets, tell: Callable[[], Report]) -> None:
    """Answer for the only worker, for ever."""

    async def states() -> dict[int, WorkerState]:
        return {0: WorkerState(1, tell())}

    async with AsyncExitStack() as listening:
        for one in admin.values():
            await listening.enter_async_context(administering(one, states))
        await asyncio.Event().wait()


@contextmanager
def _journal(settings: Settings, name: str) -> Iterator[Journal]:
    """The journal of this process.

    Raises:
        StartError: it cannot be written.
    """
    section = settings.journal
    place = StreamPlace(settings.path(section.directory), settings.path(section.key_directory), section.stream(name))
    with ExitStack() as stack:
        try:
            journal = stack.enter_context(opened(place, "repository", _now, section.sync_s))
        except OSError as e:
            raise StartError(why_not_opened(e, place)) from e
        yield journal


async def _with_journal(journal: Journal, sync_s: float, meanwhile: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep(journal, _now, sync_s))
        tasks.create_task(meanwhile)


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
