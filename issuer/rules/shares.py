"""A secret of which several persons each have a share: k of n open it, fewer learn nothing (R-6-2-1-2).

The secret, a PIN or passphrase, is sealed by a key that is used once, and that key is split: Shamir's scheme over
GF(2^128), of PyCryptodome. So a secret may be of any length, wrong shares are told before any token hears of them (a
token locks itself after a few wrong PINs), and shares are short enough to be typed.
"""

# Stored: a change of form needs another length or prefix.

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from issuer.errors import RefusedError

_KEY_OCTETS: Final = 16
_NONCE_OCTETS: Final = 12
_SET_OCTETS: Final = 2
_CHECK_OCTETS: Final = 4
_SHARE_OCTETS: Final = _SET_OCTETS + 2 + _KEY_OCTETS + _CHECK_OCTETS
_GROUP: Final = 4
_LIKE_LETTERS: Final = str.maketrans("018", "OIB", " -\t")  # Base32 has no such digits: what was meant is clear
MAX_SHARES: Final = 20


@dataclass(frozen=True, slots=True)
class Share:
    """What one person has."""

    of: bytes  # which secret: the beginning of the hash of what is sealed
    needed: int  # how many open it
    number: int  # from 1
    value: bytes

    def __repr__(self) -> str:
        """Without the value: this may be logged."""
        return f"Share(number={self.number}, needed={self.needed})"

    def __str__(self) -> str:
        """For people, in groups of four, with a check sum: `K5QX-…`."""
        octets = self.of + bytes([self.needed, self.number]) + self.value
        text = base64.b32encode(octets + _check(octets)).decode().rstrip("=")
        return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))


def split(secret: str, needed: int, count: int, random_octets: Callable[[int], bytes]) -> tuple[bytes, list[Share]]:
    """What is kept, and what each person gets.

    Raises:
        RefusedError: `needed` of `count` is no way to share.
    """
    if not 2 <= needed <= count <= MAX_SHARES:
        raise RefusedError(f"2 shares are needed at least, no more than there are, and there are {MAX_SHARES} at most")
    key, nonce = random_octets(_KEY_OCTETS), random_octets(_NONCE_OCTETS)
    sealed = nonce + AESGCM(key).encrypt(nonce, secret.encode(), None)
    return sealed, [Share(name(sealed), needed, number, value) for number, value in Shamir.split(needed, count, key)]


def joined(sealed: bytes, shares: Sequence[Share]) -> str:
    """The secret.

    Raises:
        RefusedError: the shares are of another secret, too few, one of them twice, or wrong.
    """
    if any(share.of != name(sealed) for share in shares):
        raise RefusedError("a share is of another secret, such as one that was split before; look at its paper")
    different = {share.number: share for share in shares}
    if len(different) < len(shares):
        raise RefusedError("one share was given twice; each person enters their own")
    needed = shares[0].needed if shares else 2
    if len(shares) < needed:
        raise RefusedError(f"{needed} shares are needed, and {len(shares)} given; another person has to enter theirs")
    key = Shamir.combine([(share.number, share.value) for share in shares[:needed]])
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_OCTETS], sealed[_NONCE_OCTETS:], None).decode()
    except InvalidTag as e:
        raise RefusedError("the shares do not open the secret; one of them is wrong") from e


def parse(text: str) -> Share:
    """A share as it was typed, or the file that has it in its last line.

    Raises:
        RefusedError: it is none, or was mistyped. The message does not repeat it.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    letters = (lines[-1] if lines else "").upper().translate(_LIKE_LETTERS)
    try:
        octets = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except (binascii.Error, ValueError):
        octets = b""
    body, check = octets[:-_CHECK_OCTETS], octets[-_CHECK_OCTETS:]
    is_whole = base64.b32encode(octets).decode().rstrip("=") == letters  # the last letter has bits to spare
    if len(octets) != _SHARE_OCTETS or _check(body) != check or not is_whole:
        raise RefusedError("this is no share, or it was mistyped; compare it with its paper, group by group")
    return Share(body[:_SET_OCTETS], body[_SET_OCTETS], body[_SET_OCTETS + 1], body[_SET_OCTETS + 2 :])


def name(sealed: bytes) -> bytes:
    """How shares name the secret that they are of."""
    return sha256(sealed).digest()[:_SET_OCTETS]


def _check(octets: bytes) -> bytes:
    return sha256(b"prefca share" + octets).digest()[:_CHECK_OCTETS]
