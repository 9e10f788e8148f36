"""`prefca scheduler`: publish the lists for ever."""

import asyncio
import signal

import click

from issuer.cli.root import now, run, settings_of
from issuer.installation import require_database
from issuer.watch import scheduler
from settings.load import Settings


@click.command("scheduler")
@click.pass_context
def scheduler_command(context: click.Context) -> None:
    """Publish the lists whenever they are due, of all CAs or of --ca, and tell of alarms, until SIGTERM or Ctrl-C.

    Run it on several machines with one database: one of them publishes, and another takes its place when it is gone.
    """
    settings = settings_of(context, quiet=False)
    require_database(settings)
    run(_until_told(settings))


async def _until_told(settings: Settings) -> None:
    keeping = asyncio.ensure_future(scheduler.run(settings, now))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, keeping.cancel)
    await asyncio.wait([keeping])
    if not keeping.cancelled():
        keeping.result()


COMMANDS = (scheduler_command,)
