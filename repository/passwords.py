"""Verification of passwords, off the event loop: one takes tens of milliseconds and 64 MiB."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

logger = logging.getLogger(__name__)

# Of no password. Verified in place of the hash of an unknown name, so that both take the same time.
_NOBODY: Final = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
_HASHER: Final = PasswordHasher()


class PasswordVerifier:
    """Verifies one password at a time: a flood of binds delays binds, and neither searches nor memory."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="argon2")

    async def matching(self, password: bytes, hashes: tuple[str, ...]) -> str | None:
        """That of the hashes which the password has; None if none has."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, matching, password, hashes)

    def close(self) -> None:
        """Forget what has not begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def matching(password: bytes, hashes: tuple[str, ...]) -> str | None:
    """That of the hashes which the password has; None if none has. Takes its time for no hash, too."""
    return next((each for each in hashes or (_NOBODY,) if _is_of(each, password)), None)


def _is_of(secret_hash: str, password: bytes) -> bool:
    try:
        return _HASHER.verify(secret_hash, password)
    except InvalidHashError:
        logger.exception("credential_unreadable")
        return False
    except VerificationError:
        return False
