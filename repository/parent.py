"""The parent of several workers: binds for them, keeps them running, and answers for all of them."""

import contextlib
import logging

from repository.admin import administering
from settings.load import Settings
from settings.workers import Workers, bound, command

logger = logging.getLogger(__name__)


async def supervise(settings: Settings, count: int) -> int:
    """Run `count` workers until SIGTERM or SIGINT.

    Returns:
        The exit status: 0 after a stop, or that of a worker that could not start.

    Raises:
        CannotListenError: an address cannot be used.
    """
    section = settings.repository
    addresses = {"listen": section.listen, "tls_listen": section.tls_listen}
    with (
        bound("repository", addresses, count) as sockets,
        bound("repository", {"admin_listen": section.admin_listen}) as (admin,),
    ):
        workers = Workers(command("repository", ("--instance", str(settings.instance))), sockets)
        async with contextlib.AsyncExitStack() as listening:
            for one in admin.values():
                await listening.enter_async_context(administering(one, workers.states))
            return await workers.run(lambda: logger.info("workers_ready", extra={"workers": count}))
