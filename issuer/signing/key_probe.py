"""Whether the CA's key can be used: seen between batches, so that a token that is away is told before lists are due.

What was found is in the database, for all who watch. A probe signs a few octets that are none of a certificate or list
(`issuer.key_proof`); it is on record when what it finds has changed.
"""

from datetime import datetime

from issuer.alarm import Alarm
from issuer.errors import IssuerError
from issuer.installation import Installation, list_key
from issuer.records.recovery_store import KeyProbe
from pkix.signing import SigningError
from settings.load import ConfigurationError


async def probe(installation: Installation, now: datetime) -> None:
    """Open the key that signs lists, and write down what came of it.

    Raises:
        SigningError: token or key cannot be used.
        RefusedError: there is no such key, or it is another one.
        ConfigurationError: as of `issuer.keys.open_keys`.
    """
    try:
        async with list_key(installation):
            pass
    except (SigningError, IssuerError, ConfigurationError) as e:
        await _note(installation, KeyProbe(now, str(e)))
        raise
    await _note(installation, KeyProbe(now, None))


async def _note(installation: Installation, found: KeyProbe) -> None:
    recovery, authority_id = installation.recovery, installation.authority_id
    before = await recovery.key_sight(authority_id)
    async with installation.store.transaction():
        await recovery.see_key(authority_id, found)
        if (before.failure if before else None) != found.failure:
            kind = "key_usable" if found.failure is None else "key_unusable"
            await installation.store.record(kind, found.seen_at, installation.settings.ca.prefecture)


def alarms(found: KeyProbe | None) -> list[Alarm]:
    """Somebody has to see to the token."""
    if found is None or found.failure is None:
        return []
    return [
        Alarm("ca_key_away", f"the CA's key could not be used at {found.seen_at:%Y-%m-%dT%H:%M:%SZ}: {found.failure}")
    ]
