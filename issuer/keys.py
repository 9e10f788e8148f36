"""Where keys live, the CA's and those of its OCSP delegates: encrypted files or a token, behind one interface."""

import contextlib
import getpass
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from issuer.errors import RefusedError
from pkix import cryptoki, pkcs11, software
from pkix.signing import NoSuchKeyError, Signer, SigningError
from pkix.software import PrivateKey
from settings.load import ConfigurationError, Settings

CA_KEY_BITS = 2048  # R-6-1-1-2


class RefusedPinError(ConfigurationError):
    """A person has to mend it first: to send the same PIN again may lock the token."""


class KeyAlgorithm(StrEnum):
    """A kind of key pair."""

    RSA_2048 = "rsa2048"
    P256 = "p256"


class CAKeys(Protocol):
    """Keys, by label."""

    def signer(self, label: str) -> Signer:
        """The key with that label.

        Raises:
            SigningError: there is none, or it cannot be used now.
        """

    def get_or_create(self, label: str, algorithm: KeyAlgorithm = KeyAlgorithm.RSA_2048) -> Signer:
        """The key with that label, made now if there is none: a set-up that was interrupted goes on with its key."""

    def destroy(self, label: str) -> None:
        """Delete the key with that label, for good. One that is not there any more is not missed.

        Raises:
            SigningError: the token cannot be used now.
        """

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

    def get_or_create(self, label: str, algorithm: KeyAlgorithm = KeyAlgorithm.RSA_2048) -> Signer:
        """The key in `<label>.pem`, made now if there is none."""
        file = self._directory / f"{label}.pem"
        if not file.exists():
            software.store(file, _new_key(algorithm), self._passphrase)
        return self.signer(label)

    def destroy(self, label: str) -> None:
        """Overwrite and remove `<label>.pem`."""
        file = self._directory / f"{label}.pem"
        if file.exists():
            software.erase(file)

    def close(self) -> None:
        """Nothing to give back."""


class TokenKeys:
    """Keys inside a PKCS#11 token (R-6-1-1-3)."""

    def __init__(self, token: pkcs11.Token, *, are_confined: bool = False) -> None:
        self._token = token
        self._are_confined = are_confined  # only a key that was made in the token and cannot leave it is used

    def signer(self, label: str) -> Signer:
        """The key with that label.

        Raises:
            RefusedError: it was not made in the token, or may leave it.
        """
        signer = self._token.signer(label)
        wrong = self._token.unconfined(label) if self._are_confined else []
        if wrong:
            raise RefusedError(
                f"key {label} is not one that was made in the token and never leaves it ({', '.join(wrong)});"
                " a key of the CA has to be (R-6-2-1-3): restore the token from its backup, or make a new key"
            )
        return signer

    def get_or_create(self, label: str, algorithm: KeyAlgorithm = KeyAlgorithm.RSA_2048) -> Signer:
        """The key with that label, generated inside the token if there is none."""
        try:
            return self.signer(label)
        except NoSuchKeyError:
            generate = self._token.generate_p256 if algorithm is KeyAlgorithm.P256 else self._token.generate_rsa
            return generate(label)

    def destroy(self, label: str) -> None:
        """Delete both halves of the key pair."""
        self._token.destroy(label)

    def close(self) -> None:
        """Log out."""
        self._token.close()


def secret_of(settings: Settings) -> str:
    """PIN or passphrase of the CA's keys, from its file, else asked on the terminal.

    Where several persons activate the key, ask `issuer.installation.secret_for`: it knows whether they have.

    Raises:
        SigningError: the file cannot be used.
        ConfigurationError: no place to take it from.
    """
    signer = settings.signer
    if signer.activation_file is not None:
        return _secret_in(settings.path(signer.activation_file), "signer.activation_file")
    if signer.kind == "software":
        return _secret(settings, signer.passphrase_file, "Passphrase of the CA key", "signer.passphrase_file")
    return _secret(settings, signer.pin_file, f"PIN of token {signer.token}", "signer.pin_file")


def open_keys(settings: Settings, secret: str | None = None) -> CAKeys:
    """The keys as the configuration places them; without `secret`, `secret_of` gives it.

    Raises:
        SigningError: token or key cannot be used; the message says what to do.
        ConfigurationError: no place to take PIN or passphrase from.
        RefusedPinError: the token refused the PIN.
    """
    signer = settings.signer
    secret = secret_of(settings) if secret is None else secret
    if signer.kind == "software":
        return SoftwareKeys(settings.instance / "keys" / "ca", secret.encode())
    if signer.module is None or signer.token is None:
        raise ConfigurationError('signer.kind = "pkcs11" needs `signer.module` and `signer.token`')
    try:
        return TokenKeys(pkcs11.open_token(signer.module, signer.token, secret), are_confined=True)
    except cryptoki.PinRefusedError as e:
        raise RefusedPinError(str(e)) from e


def check_secret(settings: Settings, secret: str) -> None:
    """See that a PIN opens the token. Of files nothing is known before there is a key.

    Raises:
        SigningError: the token cannot be used now.
        RefusedPinError: it refused the PIN.
    """
    open_keys(settings, secret).close()


def change_pin(settings: Settings, old: str, new: str) -> None:
    """Set another PIN of the CA's token.

    Raises:
        SigningError: the token cannot be used, or takes no such PIN.
        RefusedPinError: it refused the old one.
        ConfigurationError: keys are in files.
    """
    signer = settings.signer
    if signer.module is None or signer.token is None:
        raise ConfigurationError("only a token has a PIN that can be changed")
    try:
        with pkcs11.open_token(signer.module, signer.token, old) as token:
            token.change_pin(new)
    except cryptoki.PinRefusedError as e:
        raise RefusedPinError(str(e)) from e


@contextlib.contextmanager
def quiet_token(settings: Settings) -> Iterator[None]:
    """No process logs in to the token of the CA's keys meanwhile: its files, if it has some, are not being written.

    Raises:
        SigningError: its module is missing.
    """
    with contextlib.ExitStack() as stack:
        if settings.signer.module is not None:
            stack.enter_context(cryptoki.alone(settings.signer.module))
        yield


def open_delegate_keys(settings: Settings) -> CAKeys:
    """The keys of the OCSP delegates, where the responder looks for them; each is labelled by `delegate_label`.

    A process has one token of a module open at a time: close these before the CA's keys are opened.

    Raises:
        SigningError: token or passphrase cannot be used; the message says what to do.
    """
    section = settings.ocsp
    if section.pkcs11_module is None or section.pkcs11_token is None:
        passphrase = _secret_in(settings.path(section.passphrase_file), "ocsp.passphrase_file")
        return SoftwareKeys(settings.path(section.key_directory), passphrase.encode())
    pin = _secret_in(settings.path(section.pkcs11_pin_file), "ocsp.pkcs11_pin_file")
    return TokenKeys(pkcs11.open_token(section.pkcs11_module, section.pkcs11_token, pin))


def delegate_label(serial: int) -> str:
    """What the key of a delegate is called: by the serial number of its certificate."""
    return f"{serial:016X}"


def _secret(settings: Settings, file: Path | None, prompt: str, key: str) -> str:
    if file is not None:
        return _secret_in(settings.path(file), key)
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{prompt}: set `{key}`, or run the command on a terminal to be asked")
    return getpass.getpass(f"{prompt}: ")


def _secret_in(file: Path, key: str) -> str:
    try:
        secret = file.read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise SigningError(f"{file}: {e}; put the secret there, or correct `{key}`") from e
    if not secret:
        raise SigningError(f"{file}: is empty; put the secret there, or correct `{key}`")
    return secret


def _new_key(algorithm: KeyAlgorithm) -> PrivateKey:
    if algorithm is KeyAlgorithm.P256:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, CA_KEY_BITS)
