"""What signals mean to a program that runs until it is told to stop."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final

STANDARD_INPUT: Final = 0


def handle(stop: Callable[[], object], reload: Callable[[], object]) -> None:
    """SIGINT and SIGTERM stop; SIGHUP reloads, but stops a program whose terminal is gone: it tells that, too."""
    loop = asyncio.get_running_loop()
    had_terminal = os.isatty(STANDARD_INPUT)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(
        signal.SIGHUP, lambda: stop() if had_terminal and not os.isatty(STANDARD_INPUT) else reload()
    )
