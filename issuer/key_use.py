"""Every use of the CA's key on record (R-4-11-2-1): that it was opened, before anything is signed, and what came of it.

A process that was killed leaves the first record without the second, which the auditor's review tells of.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from issuer.installation import ActiveKey, Installation, active_key
from pkix.signing import PublicKey, Signer


class CountingSigner:
    """A key that counts its signatures; whoever has it sign elsewhere adds those."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self.signatures = 0

    @property
    def public_key(self) -> PublicKey:
        """Its public half."""
        return self._signer.public_key

    def sign_digest(self, digest: bytes) -> bytes:
        """See `Signer.sign_digest`."""
        signature = self._signer.sign_digest(digest)
        self.signatures += 1
        return signature


@dataclass(frozen=True, slots=True)
class UsedKey(ActiveKey):
    """The key that signs now, whose use is recorded."""

    signer: CountingSigner


@contextlib.asynccontextmanager
async def used_key(
    installation: Installation, purpose: str, clock: Callable[[], datetime], secret: str | None = None
) -> AsyncIterator[UsedKey]:
    """The key that signs now; two operation records tell of its use.

    Args:
        installation: of the CA.
        purpose: one word; with the key's reference it is the object of the records.
        clock: aware UTC.
        secret: that opens the key (`issuer.keys.secret_of`).

    Raises:
        SigningError: token or key cannot be used.
        RefusedError: there is no active key, or it does not belong to its certificate.
    """
    store = installation.store
    async with active_key(installation, secret) as key:
        target = f"{key.generation.key_reference} {purpose}"
        await store.record("key_opened", clock(), target)
        used = UsedKey(key.generation, key.issuer, CountingSigner(key.signer))
        try:
            yield used
        finally:
            # Whatever ended the work is told; a database that is gone cannot be.
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await store.record("key_used", clock(), target, {"signatures": used.signer.signatures})
