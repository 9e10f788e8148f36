"""A private key in an encrypted file, PKCS#8 or PKCS#12."""

import os
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

from pkix.multi_buffer import LANES, Lanes, lanes_of
from pkix.signing import DIGEST, NoSuchKeyError, PublicKey, SigningError

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
FEW: Final = 2  # signatures that are sooner made one by one than side by side


class SoftwareSigner:
    """Signs in this process. pyca releases the GIL while it signs, so threads scale over the cores."""

    def __init__(self, key: PrivateKey) -> None:
        self.public_key: PublicKey = key.public_key()
        # What stays the same is made once: beside a P-256 signature it would be seen.
        self._sign: Callable[[bytes], bytes]
        if isinstance(key, rsa.RSAPrivateKey):
            self._sign = partial(key.sign, padding=padding.PKCS1v15(), algorithm=DIGEST)
        else:
            self._sign = partial(key.sign, signature_algorithm=ec.ECDSA(DIGEST))
        self._key = key

    @cached_property
    def _lanes(self) -> Lanes | None:
        """Made when several are to be signed: most commands sign few, and the library takes its time to load."""
        return lanes_of(self._key)

    def sign_digest(self, digest: bytes) -> bytes:
        """The signature over a SHA-256 digest of 32 octets."""
        return self._sign(digest)

    def sign_digests(self, digests: Sequence[bytes]) -> list[bytes]:
        """The signatures over several of them, in their order: side by side where the machine can."""
        groups = (digests[begin : begin + LANES] for begin in range(0, len(digests), LANES))
        return [signature for group in groups for signature in self._sign_group(group)]

    def _sign_group(self, digests: Sequence[bytes]) -> list[bytes]:
        made = self._lanes.sign(digests) if len(digests) > FEW and self._lanes is not None else None
        return [self.sign_digest(digest) for digest in digests] if made is None else made


def load(file: Path, passphrase: bytes) -> SoftwareSigner:
    """The key in `file`.

    Raises:
        NoSuchKeyError: no such file.
        SigningError: a wrong passphrase, or a kind of key that does not sign here (RSA and P-256 do).
    """
    try:
        key = _read(file.read_bytes(), passphrase)
    except OSError as e:
        kind = NoSuchKeyError if isinstance(e, FileNotFoundError) else SigningError
        raise kind(f"{file}: {e.strerror}; restore the key file from its backup") from e
    except (TypeError, ValueError) as e:
        raise SigningError(
            f"{file}: wrong passphrase or not an encrypted PKCS#8 key (or PKCS#12 file); check the passphrase file"
        ) from e
    if isinstance(key, rsa.RSAPrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    ):
        return SoftwareSigner(key)
    raise SigningError(f"{file}: neither an RSA nor a P-256 key; use one of these")


def _read(octets: bytes, passphrase: bytes) -> object:
    if octets.lstrip().startswith(b"-----"):
        return load_pem_private_key(octets, passphrase)
    return load_key_and_certificates(octets, passphrase)[0]


def store(file: Path, key: PrivateKey, passphrase: bytes) -> None:
    """Write `key` encrypted, readable by its owner only, in one step: a crash leaves the whole file or none.

    Raises:
        FileExistsError: a key is never overwritten.
    """
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))
    write_secret(file, pem)


def write_secret(file: Path, content: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all.

    Raises:
        FileExistsError: `file` exists.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(partial, file)  # unlike rename, this refuses to overwrite
    finally:
        partial.unlink()
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the name outlives a power cut: what is recorded next may rely on the key
    finally:
        os.close(directory)


def erase(file: Path) -> None:
    """Overwrite a key file and remove it. Copies of the file system or of backups are not reached; raises OSError."""
    with file.open("r+b") as stream:
        stream.write(bytes(file.stat().st_size))
        stream.flush()
        os.fsync(stream.fileno())
    file.unlink()
