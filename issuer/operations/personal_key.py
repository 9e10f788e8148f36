"""The key of a person, to agree to operations with: an encrypted file or a card. It is opened for one signature."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pkix import pkcs11, software
from pkix.signing import Signer


@dataclass(frozen=True, slots=True)
class Card:
    """A key in a PKCS#11 token, as IC cards are."""

    module: Path
    token: str  # its label
    key: str  # its label


@contextmanager
def opened_key(place: Path | Card, secret: str) -> Iterator[Signer]:
    """The key, opened with passphrase or PIN.

    Raises:
        SigningError: it is not there, the secret is wrong, or it is neither RSA nor P-256.
    """
    if isinstance(place, Path):
        yield software.load(place, secret.encode())
        return
    with pkcs11.open_token(place.module, place.token, secret) as token:
        yield token.signer(place.key)
