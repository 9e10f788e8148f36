"""What a caller shows in the Authorization header: name and password (RFC 7617), or a token (RFC 6750).

A password is kept as an Argon2id hash, which takes tens of milliseconds and 64 MiB to compare with: once in a while,
not for each request. What was verified is remembered for a short time, under a key of this process, so that its memory
holds neither the password nor anything it could be found out from.
"""

import asyncio
import hmac
from base64 import b64decode
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from ocsp.errors import TooManyRequestsError
from settings import passwords

REMEMBERED_S: Final = 300.0
MAX_REMEMBERED: Final = 10_000
MAX_WAITING: Final = 32  # verifications that have not ended: about two seconds of work


@dataclass(frozen=True, slots=True)
class NameAndPassword:
    """Basic."""

    name: str
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class BearerToken:
    """Bearer."""

    token: str = field(repr=False)


def parse_authorization(value: str) -> NameAndPassword | BearerToken | None:
    """Read the value of an Authorization header; None is of another scheme, or cannot be read."""
    scheme, _, rest = value.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return BearerToken(rest.strip())
        case "basic":
            try:
                name, colon, password = b64decode(rest.strip(), validate=True).partition(b":")
                return NameAndPassword(name.decode(), password) if colon else None
            except ValueError:
                return None
        case _:
            return None


class PasswordVerifier:
    """Verifies one password at a time, in a thread: a flood of them delays logins, and neither answers nor memory."""

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        """Start without a memory.

        Args:
            key: 32 random octets.
            clock: seconds, monotonic.
        """
        self._key = key
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="argon2")
        self._remembered_until: dict[bytes, float] = {}
        self._waiting: dict[bytes, asyncio.Future[bool]] = {}

    async def matching(self, password: bytes, hashes: Collection[str]) -> str | None:
        """That of the hashes which the password has; None if none has.

        Raises:
            TooManyRequestsError: too many wait already.
        """
        for secret_hash in hashes or (passwords.NOBODY,):
            if await self._has_hash(password, secret_hash):
                return secret_hash
        return None

    def close(self) -> None:
        """Forget what has not begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _has_hash(self, password: bytes, secret_hash: str) -> bool:
        mark = hmac.digest(self._key, secret_hash.encode() + b"\x00" + password, "sha256")
        if self._remembered_until.get(mark, 0.0) > self._clock():
            return True
        waiting = self._waiting.get(mark)
        if waiting is None:  # else the same is being verified for another request
            if len(self._waiting) >= MAX_WAITING:
                raise TooManyRequestsError("too many passwords wait to be verified")
            waiting = asyncio.get_running_loop().run_in_executor(
                self._thread, passwords.has_hash, password, secret_hash
            )
            self._waiting[mark] = waiting
            waiting.add_done_callback(lambda done: self._verified(mark, done))
        return await asyncio.shield(waiting)

    def _verified(self, mark: bytes, done: asyncio.Future[bool]) -> None:
        del self._waiting[mark]
        if done.cancelled() or done.exception() is not None or not done.result():
            return
        self._remembered_until.pop(mark, None)
        self._remembered_until[mark] = self._clock() + REMEMBERED_S  # the oldest is the first
        if len(self._remembered_until) > MAX_REMEMBERED:
            del self._remembered_until[next(iter(self._remembered_until))]
