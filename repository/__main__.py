"""`prefca-repository`: the directory server as a process."""

import argparse
import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.main import installReactor

from journal.segment import Journal
from repository.errors import StartError
from repository.server import Server
from repository.store import Store
from repository.tls import TLSContext
from settings import log
from settings.database import connect_arguments
from settings.load import INSTANCE_VARIABLE, ConfigurationError, Settings, load


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
    try:
        settings = load(parser.parse_args().instance)
    except ConfigurationError as e:
        print(e, file=sys.stderr)
        return 2
    log.set_up(settings.log)
    try:
        return _serve(settings)
    except StartError as e:
        print(e, file=sys.stderr)
        return 1


def _serve(settings: Settings) -> int:
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    reactor = AsyncioSelectorReactor(loop)
    installReactor(reactor)  # type: ignore[no-untyped-call]
    section = settings.repository
    tls = TLSContext(settings.path(section.tls_certificate), settings.path(section.tls_key))
    try:
        journal = Journal.open(settings.instance / "journal", "repository", datetime.now(UTC))
    except OSError as e:
        raise StartError(f"cannot write the journal ({e}); make the directory writable") from e
    try:
        server = Server(reactor, section, tls, journal)
        server.listen()
        return server.run(loop, Store(connect_arguments(settings, "prefca_repository")))
    finally:
        journal.close()


if __name__ == "__main__":
    sys.exit(main())
