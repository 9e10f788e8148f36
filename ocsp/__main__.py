"""The program `prefca-ocsp`: bind, run workers until told to stop, exit code.

SIGTERM and SIGINT stop it after the requests in progress are answered; SIGHUP loads keys and rights again. Exit code 0:
stopped; 1: it could not start; 2: the configuration cannot be used.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from ocsp.admin import Admin, administering
from ocsp.errors import StartError
from ocsp.workers import Worker, WorkerFailedError, bind
from settings import log
from settings.load import INSTANCE_VARIABLE, ConfigurationError, Settings, load
from settings.sections import Endpoint, OCSPSection

CANNOT_START: Final = 1
BAD_CONFIGURATION: Final = 2
ADMIN: Final = "admin"

_logger = logging.getLogger("ocsp")


def main() -> int:
    """Run the program; its exit code."""
    parser = argparse.ArgumentParser(prog="prefca-ocsp", description="The OCSP responder of prefca.")
    parser.add_argument(
        "--instance",
        type=Path,
        default=Path(os.environ.get(INSTANCE_VARIABLE, "instance")),
        help=f"directory of the installation (default: ${INSTANCE_VARIABLE}, else ./instance)",
    )
    parser.add_argument(
        "--workers", type=int, help="processes that answer; 0 is one per core (default: `ocsp.workers` of prefca.toml)"
    )
    given = parser.parse_args()
    try:
        settings = load(given.instance)
        log.set_up(settings.log)
        asyncio.run(_run(settings, settings.ocsp.workers if given.workers is None else given.workers))
    except ConfigurationError as e:
        print(f"prefca-ocsp: {e}", file=sys.stderr)
        return BAD_CONFIGURATION
    except StartError as e:
        print(f"prefca-ocsp: {e}", file=sys.stderr)
        return CANNOT_START
    except WorkerFailedError:
        return CANNOT_START
    return 0


async def _run(settings: Settings, number: int) -> None:
    """Keep workers running until a signal says stop.

    Raises:
        StartError: an address cannot be used.
        WorkerFailedError: a worker cannot start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    section = settings.ocsp
    with contextlib.ExitStack() as bound:
        sockets = _bound(section, number or len(os.sched_getaffinity(0)), bound)
        (admin,) = sockets.pop(ADMIN, [None])
        workers = [
            Worker(each, settings.instance, dict(zip(sockets, ones, strict=True)))
            for each, ones in enumerate(zip(*sockets.values(), strict=True))
        ]
        loop.add_signal_handler(signal.SIGHUP, _signal, workers, signal.SIGHUP)
        try:
            if not await _started(workers, stop):
                return
            async with _administering(workers, section, admin), asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(worker.keep_running()) for worker in workers]
                endpoints = ", ".join(_name(ones[0]) for ones in sockets.values())
                where = {"endpoints": endpoints} | ({} if admin is None else {"admin": _name(admin)})
                _logger.info("listening", extra=where | {"workers": len(workers)})
                await stop.wait()
                _logger.info("stopping")
                for task in running:
                    task.cancel()
        finally:
            bound.close()  # or connections would wait for nobody
            await asyncio.gather(*(worker.stop() for worker in workers))


def _bound(section: OCSPSection, workers: int, stack: contextlib.ExitStack) -> dict[str, list[socket.socket]]:
    """Sockets for each worker, by the option that gives it its own; and one for ADMIN.

    Raises:
        StartError: an address cannot be used.
    """
    addresses = {
        "--listen": ("ocsp.listen", section.listen, workers),
        "--tls-listen": ("ocsp.tls_listen", section.tls_listen, workers),
        ADMIN: ("ocsp.admin_listen", section.admin_listen, 1),
    }
    return {
        option: [stack.enter_context(one) for one in bind(key, endpoint, number)]
        for option, (key, endpoint, number) in addresses.items()
        if endpoint is not None
    }


def _administering(
    workers: list[Worker], section: OCSPSection, admin: socket.socket | None
) -> contextlib.AbstractAsyncContextManager[None]:
    if admin is None:
        return contextlib.nullcontext()
    return administering(Admin(workers, section.max_staleness_s), admin)


def _signal(workers: list[Worker], number: signal.Signals) -> None:
    for worker in workers:
        worker.signal(number)


async def _started(workers: list[Worker], stop: asyncio.Event) -> bool:
    """Start all workers, the first one alone: what keeps it from starting would keep them all.

    Returns:
        False: told to stop meanwhile.

    Raises:
        WorkerFailedError: one could not start.
    """
    starting = asyncio.create_task(_start(workers))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        await starting
        return True
    starting.cancel()
    return False


def _name(bound: socket.socket) -> str:
    return str(Endpoint(*bound.getsockname()[:2]))


async def _start(workers: list[Worker]) -> None:
    first, *others = workers
    await first.start()
    await asyncio.gather(*(worker.start() for worker in others))


if __name__ == "__main__":
    sys.exit(main())
