"""Every use of the CA's key on record (R-4-11-2-1): that it was opened, before anything is signed, and what came of it.

A process that was killed leaves the first record without the second, which the auditor's review tells of.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg

from issuer.installation import ActiveKey, Installation, active_key, key_of, list_key, opened_keys
from issuer.profiles.generation import State
from issuer.records.rows import Generation
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
        secret: that opens the key (`issuer.installation.secret_for`).

    Raises:
        SigningError: token or key cannot be used.
        RefusedError: there is no active key, or it does not belong to its certificate.
    """
    async with active_key(installation, secret) as key, recorded(installation, key, purpose, clock) as used:
        yield used


@contextlib.asynccontextmanager
async def used_list_key(
    installation: Installation, purpose: str, clock: Callable[[], datetime]
) -> AsyncIterator[UsedKey]:
    """The same for the key that signs lists; with the retired keys that sign them, too, if that is configured.

    Raises:
        SigningError: as `used_key`, of any of them.
        RefusedError: likewise.
    """
    generation = await installation.recovery.list_signer(installation.authority_id)
    also = await _retired_with_lists(installation, clock()) if installation.settings.crl.retired_key_signs_crl else []
    if generation is None or not also:
        async with list_key(installation) as key, recorded(installation, key, purpose, clock) as used:
            yield used
        return
    async with contextlib.AsyncExitStack() as stack:
        keys = await stack.enter_async_context(opened_keys(installation))
        active, *retired = [
            await stack.enter_async_context(recorded(installation, key_of(installation, one, keys), purpose, clock))
            for one in (generation, *also)
        ]
        yield replace(active, retired=tuple(retired))


@contextlib.asynccontextmanager
async def recorded(
    installation: Installation, key: ActiveKey, purpose: str, clock: Callable[[], datetime]
) -> AsyncIterator[UsedKey]:
    """A key that is open, for one use that two records tell of."""
    store = installation.store
    target = f"{key.generation.key_reference} {purpose}"
    await store.record("key_opened", clock(), target)
    used = UsedKey(key.generation, key.issuer, CountingSigner(key.signer))
    try:
        yield used
    finally:
        # Whatever ended the work is told; a database that is gone cannot be.
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await store.record("key_used", clock(), target, {"signatures": used.signer.signatures})


async def _retired_with_lists(installation: Installation, now: datetime) -> list[Generation]:
    """The keys that were replaced and have residents' certificates that have not ended, the newest first."""
    keys = await installation.generations.keys(installation.authority_id)
    return [
        key.generation
        for key in reversed(keys)
        if key.state is State.RETIRED and key.residents_until is not None and key.residents_until >= now
    ]
