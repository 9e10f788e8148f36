"""How the password of a relying party is kept: as an Argon2id hash (RFC 9106) in its own text form.

The issuer makes it and the servers verify with it, all with the same parameters: else the time of a refusal would tell
which names exist. Either takes tens of milliseconds and 64 MiB.
"""

import logging
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# Of no password. Verified in place of the hash of an unknown name, so that both take the same time.
NOBODY: Final = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=4)

_logger = logging.getLogger(__name__)


def hash_of(password: str) -> str:
    """What is kept of a password."""
    return _HASHER.hash(password)


def has_hash(password: bytes, secret_hash: str) -> bool:
    """Is it the password that this was kept of?"""
    try:
        return _HASHER.verify(secret_hash, password)
    except InvalidHashError:
        _logger.exception("credential_unreadable")
        return False
    except VerificationError:
        return False
