"""The settings of a program that runs for long: those of its start, until prefca.toml says something else."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from settings import log
from settings.load import FILE_NAME, ConfigurationError, Settings

_logger: Final = logging.getLogger("prefca.settings")


class CurrentSettings:
    """What holds now."""

    def __init__(self, read: Callable[[], Settings]) -> None:
        """Make them.

        Args:
            read: tells what the configuration says, or raises ConfigurationError.

        Raises:
            ConfigurationError: the configuration cannot be used.
        """
        self.settings = read()
        self._read = read
        self._seen: Settings | str = self.settings  # at the last look; text: why it cannot be used
        self._judged: Settings | str = self.settings  # what was taken up or refused last
        self._told = asyncio.Event()

    def reload(self) -> None:
        """Look now, as at SIGHUP."""
        self._told.set()

    async def changed(self) -> None:
        """Wait until there are other settings: `settings` are those then. What cannot be used is logged and left."""
        while not self._takes_up(is_told=await self._is_told()):
            pass

    async def _is_told(self) -> bool:
        """Whether somebody asks for a look; else one is due by itself."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.scheduler.look_every_s):
                await self._told.wait()
        is_told = self._told.is_set()
        self._told.clear()
        return is_told

    def _takes_up(self, *, is_told: bool) -> bool:
        """Whether there are other settings now."""
        before, self._seen = self._seen, self._look()
        # If nobody asks, it must say the same at two looks: an editor may just be writing the file.
        if not is_told and (self._seen != before or self._seen == self._judged):
            return False
        self._judged = self._seen
        if isinstance(self._seen, str):
            _logger.error("settings_refused", extra={"reason": f"{self._seen}; the settings before stay"})
            return False
        if self._seen == self.settings:
            _logger.info("settings_unchanged")
            return False
        self.settings = self._seen
        log.set_up(self.settings.log)
        _logger.info("settings_changed")
        return True

    def _look(self) -> Settings | str:
        try:
            if not (self.settings.instance / FILE_NAME).exists():  # without it everything would have its default
                return self.settings
            return self._read()
        except (ConfigurationError, OSError) as e:
            return str(e)
