"""A CA of its own with a clock that is set: founded in a directory that nobody else uses."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from issuer.generations.founding import Founding, found
from issuer.installation import ActiveKey, Installation, configured_authority, connected, database, list_key, opened
from issuer.keys import open_keys
from issuer.profiles.municipality import PrefectureName, municipalities_of
from issuer.records.migrate import migrate
from issuer.records.store import Store
from pkix.software import write_secret
from settings.load import Settings
from settings.sections import CASection, DatabaseSection, SignerSection
from simulation import store
from simulation.bridge import Bridge
from simulation.population import Population
from simulation.timetable import Plan, Random

PASSPHRASE_FILE: Final = Path("secrets/ca-key.passphrase")
PASSPHRASE_OCTETS: Final = 16
PREFECTURE: Final[PrefectureName] = "Toyama-ken"
MUNICIPALITIES: Final = 3  # its first ones; each has a list every day, which takes half of the time of a simulation
ORIGIN: Final = "simulation"


class Clock:
    """Shows what it is set to."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The moment."""
        return self.now

    def seconds(self) -> float:
        """Since the epoch."""
        return self.now.timestamp()


@dataclass(slots=True)
class World:
    """A founded CA, as one process has it open, and its residents."""

    settings: Settings
    installation: Installation
    clock: Clock
    random: Random
    population: Population
    bridge: Bridge
    reader: Store  # of the batch, which would open a connection every day
    _key: tuple[contextlib.AsyncExitStack, ActiveKey] | None = None

    async def key(self) -> ActiveKey:
        """The key that signs lists now; to decrypt its file for every use would take longer than all else.

        Raises:
            RefusedError: there is none.
        """
        signer = await self.installation.recovery.list_signer(self.installation.authority_id)
        if self._key is not None and self._key[1].generation == signer:
            return self._key[1]
        await self.close()
        stack = contextlib.AsyncExitStack()
        self._key = stack, await stack.enter_async_context(list_key(self.installation))
        return self._key[1]

    async def issues(self) -> bool:
        """Whether a key signs certificates; after a compromise none does until there is a new one."""
        return await self.installation.store.active_generation(self.installation.authority_id) is not None

    async def close(self) -> None:
        """Give the key back."""
        if self._key is not None:
            await self._key[0].aclose()
            self._key = None


def settings_for(instance: Path, dsn: str | None = None) -> Settings:
    """A CA with a software key and, without a DSN, an embedded PostgreSQL."""
    return Settings(
        instance=instance,
        ca=CASection(prefecture=PREFECTURE),
        signer=SignerSection(passphrase_file=PASSPHRASE_FILE),
        database=DatabaseSection(dsn=dsn),
    )


@contextlib.asynccontextmanager
async def world(settings: Settings, plan: Plan, random: Random) -> AsyncIterator[World]:
    """The CA of these settings, founded when the plan says."""
    clock = Clock(plan.founded_at)
    async with database(settings):
        async with connected(settings, "owner") as connection:
            await migrate(connection, clock.now)
            await store.hurry(connection)
        await _found(settings, clock.now, random)
        codes = [one.code for one in municipalities_of(settings.ca.prefecture)]
        async with connected(settings, "owner") as connection:
            await store.leave_out(connection, codes[MUNICIPALITIES:])
        population = Population(settings.ca.prefecture, codes[:MUNICIPALITIES], random)
        async with opened(settings) as installation, connected(settings) as connection:
            made = World(settings, installation, clock, random, population, Bridge(), Store(connection, ORIGIN))
            try:
                yield made
            finally:
                await made.close()


async def _found(settings: Settings, now: datetime, random: Random) -> None:
    write_secret(settings.path(PASSPHRASE_FILE), random.randbytes(PASSPHRASE_OCTETS).hex().encode() + b"\n")
    async with connected(settings) as connection:
        founding = Founding(settings, configured_authority(settings), Store(connection, ORIGIN), now, random.randbytes)
        keys = open_keys(settings)
        try:
            await found(founding, keys)
        finally:
            keys.close()
