"""Verification of passwords, off the event loop: one takes tens of milliseconds and 64 MiB.

A flood of binds delays binds, and neither searches nor memory: one password is verified at a time, and of those who
wait, each host has one turn, however many connections it has. Who is locked out when the turn comes costs no work. A
password that was right is remembered for a moment, as a keyed hash, so that a client which binds again and again costs
that work once.
"""

import asyncio
import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from weakref import WeakValueDictionary

from repository.authentication import VerifyPassword
from settings.passwords import NOBODY, has_hash

_MAX_REMEMBERED: Final = 4096


class PasswordMemory:
    """Passwords that were right a short time ago. Neither they nor their Argon2id hashes are kept."""

    def __init__(self, key: bytes, keep_s: float, clock: Callable[[], float]) -> None:
        """Begin with nothing.

        Args:
            key: random octets, of this process only.
            keep_s: how long a password is remembered from its verification on; 0: not at all.
            clock: seconds, from any moment on.
        """
        self._key = key
        self._keep_s = keep_s
        self._clock = clock
        self._until: dict[bytes, float] = {}  # in the order of time, for all are kept equally long

    def add(self, password: bytes, secret_hash: str) -> None:
        """Remember that the password has this hash."""
        now = self._clock()
        for digest in [each for each, until in self._until.items() if until <= now]:
            del self._until[digest]
        if self._keep_s and len(self._until) < _MAX_REMEMBERED:
            self._until[self._digest(password, secret_hash)] = now + self._keep_s

    def matching(self, password: bytes, hashes: tuple[str, ...]) -> str | None:
        """That of the hashes which the password is remembered to have."""
        if not self._until:
            return None
        now = self._clock()
        return next((each for each in hashes if self._until.get(self._digest(password, each), now) > now), None)

    def _digest(self, password: bytes, secret_hash: str) -> bytes:
        return hmac.digest(self._key, secret_hash.encode() + b"\0" + password, "sha256")


class PasswordVerifier:
    """Verifies one password at a time."""

    def __init__(self, memory: PasswordMemory) -> None:
        self._memory = memory
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="argon2")
        self._turn = asyncio.Lock()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by host

    async def verify(
        self, asked: VerifyPassword, is_refused: Callable[[], bool], end: Callable[[str | None], None]
    ) -> None:
        """Find that of the hashes which the password has.

        Args:
            asked: the password, and the hashes: Argon2id, in their own text form.
            is_refused: asked when the turn has come: then nobody looks at the password.
            end: told the hash, or None if none is found; within the turn, so that the next bind from that host
                knows how this one ended.
        """
        if found := self._memory.matching(asked.password, asked.hashes):
            end(found)
            return
        async with self._turns.setdefault(asked.host, asyncio.Lock()), self._turn:
            end(None if is_refused() else await self._matching(asked.password, asked.hashes))

    async def _matching(self, password: bytes, hashes: tuple[str, ...]) -> str | None:
        # Who waited behind a bind with the same password needs no further work.
        if found := self._memory.matching(password, hashes):
            return found
        found = await asyncio.get_running_loop().run_in_executor(self._thread, matching, password, hashes)
        if found is not None:
            self._memory.add(password, found)
        return found

    def close(self) -> None:
        """Forget what has not begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def matching(password: bytes, hashes: tuple[str, ...]) -> str | None:
    """That of the hashes which the password has; None if none has. Takes its time for no hash, too."""
    return next((each for each in hashes or (NOBODY,) if has_hash(password, each)), None)
