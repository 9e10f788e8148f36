"""The program `prefca-ocsp`: assemble, run until told to stop, exit code.

SIGTERM and SIGINT stop it after the requests in progress are answered; SIGHUP loads keys and rights again. Exit code 0:
stopped; 1: it could not start; 2: the configuration cannot be used.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import uvloop

from journal.segment import Journal
from ocsp.delegates import KeyStore
from ocsp.errors import StartError, StoreUnavailableError
from ocsp.refresh import Refresh
from ocsp.responder import Responder
from ocsp.server import OCSPService, listening
from ocsp.store import Store
from settings import log
from settings.database import connect_arguments
from settings.load import INSTANCE_VARIABLE, ConfigurationError, Settings, load

CANNOT_START: Final = 1
BAD_CONFIGURATION: Final = 2

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
    try:
        settings = load(parser.parse_args().instance)
        log.set_up(settings.log)
        uvloop.run(_serve(settings))
    except ConfigurationError as e:
        print(f"prefca-ocsp: {e}", file=sys.stderr)
        return BAD_CONFIGURATION
    except StartError as e:
        print(f"prefca-ocsp: {e}", file=sys.stderr)
        return CANNOT_START
    return 0


async def _serve(settings: Settings) -> None:
    """Serve until a signal says stop.

    Raises:
        StartError: keys, journal or address cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    store = Store(connect_arguments(settings, "prefca_ocsp"))
    refresh = Refresh(store, _key_store(settings), _now)
    loop.add_signal_handler(signal.SIGHUP, refresh.reload)
    validity = timedelta(seconds=settings.ocsp.response_validity_s)
    with contextlib.closing(store), ThreadPoolExecutor(os.cpu_count(), "signing") as signing:
        await _first_load(refresh)
        with contextlib.closing(_journal(settings)) as journal:
            service = OCSPService(settings.ocsp, refresh, Responder(store, validity, signing), journal)
            async with listening(service, settings.ocsp) as endpoints, asyncio.TaskGroup() as tasks:
                following = tasks.create_task(refresh.follow())
                _logger.info("listening", extra={"endpoints": ", ".join(map(str, endpoints))})
                await stop.wait()
                _logger.info("stopping")
                following.cancel()


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


def _key_store(settings: Settings) -> KeyStore:
    """Where the delegates' keys are.

    Raises:
        StartError: the passphrase cannot be read.
    """
    file = settings.path(settings.ocsp.passphrase_file)
    try:
        passphrase = file.read_bytes().rstrip(b"\r\n")
    except OSError as e:
        raise StartError(
            f"{file}: {e.strerror}; put the passphrase of the responder's keys there, "
            "or change `ocsp.passphrase_file` in prefca.toml"
        ) from e
    return KeyStore(settings.path(settings.ocsp.key_directory), passphrase)


def _journal(settings: Settings) -> Journal:
    """The journal of this process.

    Raises:
        StartError: it cannot be written.
    """
    directory = settings.instance / "journal"
    try:
        return Journal.open(directory, "ocsp", _now())
    except OSError as e:
        raise StartError(f"{directory}: {e.strerror}; let this account write there") from e


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
