"""`prefca scheduler`: publish the lists for ever."""

import asyncio

import click

from issuer.cli.root import current_settings, now, run
from issuer.installation import require_database
from issuer.watch import scheduler, signals
from issuer.watch.current import CurrentSettings


@click.command("scheduler")
@click.pass_context
def scheduler_command(context: click.Context) -> None:
    """Publish the lists whenever they are due, of all CAs or of --ca, and tell of alarms, until SIGTERM or Ctrl-C.

    Run it on several machines with one database: one of them publishes, and another takes its place when it is gone.
    Changes of prefca.toml take effect by themselves, and at once at SIGHUP.
    """
    current = current_settings(context)
    require_database(current.settings)
    run(_until_told(current))


async def _until_told(current: CurrentSettings) -> None:
    keeping = asyncio.ensure_future(scheduler.run(current, now))
    signals.handle(keeping.cancel, current.reload)
    await asyncio.wait([keeping])
    if not keeping.cancelled():
        keeping.result()


COMMANDS = (scheduler_command,)
