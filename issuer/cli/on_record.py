"""That a command was refused, or failed, is on record like what was done (R-4-11-2-1, R-4-11-2-2).

It holds which command it was, by whom and when, and what kind of error ended it: neither arguments nor messages, which
may name persons. Where PostgreSQL does not answer no ledger was reached either, and nothing is recorded.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import asyncpg
import click

from issuer.errors import IssuerError, RecordedRefusalError, RefusedError
from issuer.installation import connected, origin
from issuer.profiles.lint import LintError
from issuer.records.store import Store
from pkix.signing import SigningError
from settings.load import Settings

FAILED: Final = (IssuerError, LintError, SigningError)  # what ends a command that went as it should
REFUSED: Final = (RefusedError, LintError)


@contextlib.contextmanager
def on_record(context: click.Context, now: Callable[[], datetime]) -> Iterator[None]:
    """Record how a command ends that is refused or fails; it ends so all the same."""
    try:
        yield
    except RecordedRefusalError:
        raise
    except FAILED as e:
        if __name__ in context.meta:
            settings, command = context.meta[__name__]
            with contextlib.suppress(IssuerError, asyncpg.PostgresError):  # no ledger, or none of this version
                asyncio.run(_record(settings, command, now(), e))
        raise


def works_on(context: click.Context, settings: Settings) -> None:
    """Tell which instance the command works on."""
    context.meta[__name__] = settings, context.command_path.partition(" ")[2]


async def _record(settings: Settings, command: str, at: datetime, error: Exception) -> None:
    result = "refused" if isinstance(error, REFUSED) else "failed"
    async with connected(settings) as connection:
        store = Store(connection, origin())
        async with store.transaction():
            await store.record_failure("command", at, command, result, {"error": type(error).__name__})
