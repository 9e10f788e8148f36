"""The program `prefca-ocsp`: bind, run workers until told to stop, exit code.

SIGTERM and SIGINT stop it after the requests in progress are answered; SIGHUP loads keys and rights again. Exit code 0:
stopped; 1: it could not start; 2: the configuration cannot be used.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ocsp.admin import administering
from settings import log
from settings.load import INSTANCE_VARIABLE, ConfigurationError, Settings, load
from settings.workers import CannotListenError, Sockets, Workers, address_of, bound, command, count, one_per_core

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
    parser.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="processes that answer; 0 is one per core (default: `ocsp.workers` of prefca.toml)",
    )
    given = parser.parse_args()
    try:
        settings = load(given.instance)
        log.set_up(settings.log)
        wanted = settings.ocsp.workers if given.workers is None else given.workers
        return asyncio.run(_run(settings, wanted or one_per_core()))
    except ConfigurationError as e:
        print(f"prefca-ocsp: {e}", file=sys.stderr)
        return BAD_CONFIGURATION
    except CannotListenError as e:
        print(f"prefca-ocsp: {e}", file=sys.stderr)
        return CANNOT_START


async def _run(settings: Settings, number: int) -> int:
    """Keep workers running until a signal says stop; the exit code.

    Raises:
        CannotListenError: an address cannot be used.
    """
    section = settings.ocsp
    addresses = {"listen": section.listen, "tls_listen": section.tls_listen}
    with bound("ocsp", addresses, number) as sockets, bound("ocsp", {"admin_listen": section.admin_listen}) as (admin,):
        workers = Workers(command("ocsp.worker", ("--instance", str(settings.instance))), sockets)
        async with contextlib.AsyncExitStack() as listening:
            for one in admin.values():
                await listening.enter_async_context(administering(workers.states, section.max_staleness_s, one))
            return await workers.run(lambda: _announce(sockets, admin))


def _announce(sockets: Sequence[Sockets], admin: Sockets) -> None:
    where = {"endpoints": ", ".join(address_of(one) for one in sockets[0].values()), "workers": len(sockets)}
    if "admin_listen" in admin:
        where["admin"] = address_of(admin["admin_listen"])
    _logger.info("listening", extra=where)


if __name__ == "__main__":
    sys.exit(main())
