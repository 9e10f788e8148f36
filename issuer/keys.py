"""Where the CA's keys live: encrypted files or a PKCS#11 token, behind one interface."""

import getpass
import sys
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import rsa

from pkix import pkcs11, software
from pkix.signing import NoSuchKeyError, Signer, SigningError
from settings.load import ConfigurationError, Settings

CA_KEY_BITS = 2048  # R-6-1-1-2


class CAKeys(Protocol):
    """The keys of the CA, by label."""

    def signer(self, label: str) -> Signer:
        """The key with that label.

        Raises:
            SigningError: there is none, or it cannot be used now.
        """

    def get_or_create(self, label: str) -> Signer:
        """The key with that label, made now if there is none: a set-up that was interrupted goes on with its key."""

    def close(self) -> None:
        """Give the token back."""


class SoftwareKeys:
    """Encrypted PKCS#8 files: for tests and demonstrations."""

    def __init__(self, directory: Path, passphrase: bytes) -> None:
        self._directory = directory
        self._passphrase = passphrase

    def signer(self, label: str) -> Signer:
        """The key in `<label>.pem`."""
        return software.load(self._directory / f"{label}.pem", self._passphrase)

    def get_or_create(self, label: str) -> Signer:
        """The key in `<label>.pem`, made now if there is none."""
        file = self._directory / f"{label}.pem"
        if not file.exists():
            software.store(file, rsa.generate_private_key(65537, CA_KEY_BITS), self._passphrase)
        return self.signer(label)

    def close(self) -> None:
        """Nothing to give back."""


class TokenKeys:
    """Keys inside a PKCS#11 token (R-6-1-1-3)."""

    def __init__(self, token: pkcs11.Token) -> None:
        self._token = token

    def signer(self, label: str) -> Signer:
        """The key with that label."""
        return self._token.signer(label)

    def get_or_create(self, label: str) -> Signer:
        """The key with that label, generated inside the token if there is none."""
        try:
            return self._token.signer(label)
        except NoSuchKeyError:
            return self._token.generate_rsa(label)

    def close(self) -> None:
        """Log out."""
        self._token.close()


def open_keys(settings: Settings) -> CAKeys:
    """The keys as the configuration places them; PIN or passphrase from its file, else asked on the terminal.

    Raises:
        SigningError: token or key cannot be used; the message says what to do.
        ConfigurationError: no place to take PIN or passphrase from.
    """
    signer = settings.signer
    if signer.kind == "software":
        passphrase = _secret(settings, signer.passphrase_file, "Passphrase of the CA key", "signer.passphrase_file")
        return SoftwareKeys(settings.instance / "keys" / "ca", passphrase.encode())
    if signer.module is None or signer.token is None:
        raise ConfigurationError('signer.kind = "pkcs11" needs `signer.module` and `signer.token`')
    pin = _secret(settings, signer.pin_file, f"PIN of token {signer.token}", "signer.pin_file")
    return TokenKeys(pkcs11.open_token(signer.module, signer.token, pin))


def _secret(settings: Settings, file: Path | None, prompt: str, key: str) -> str:
    if file is not None:
        try:
            secret = settings.path(file).read_text().rstrip("\n")
        except (OSError, UnicodeDecodeError) as e:
            raise SigningError(f"{settings.path(file)}: {e}; put the secret there, or correct `{key}`") from e
        if not secret:
            raise SigningError(f"{settings.path(file)}: is empty; put the secret there, or correct `{key}`")
        return secret
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{prompt}: set `{key}`, or run the command on a terminal to be asked")
    return getpass.getpass(f"{prompt}: ")
