"""What the settings of an installation provide: the delegates' keys, how callers are recognised, TLS."""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cryptography import x509

from ocsp.access import AccessList, Recognition
from ocsp.credentials import PasswordVerifier
from ocsp.delegates import Keys, KeyStore
from ocsp.errors import StartError
from ocsp.limits import RateLimits
from ocsp.recognition import Proxies, Recogniser
from ocsp.signature import path_to, registered_is_enough
from ocsp.tls import ServerTLS, TLSFiles
from ocsp.token import TokenKeys
from pkix import pkcs11
from pkix.signing import SigningError
from settings.load import Settings

MEMORY_KEY_OCTETS: Final = 32


@contextlib.contextmanager
def delegate_keys(settings: Settings) -> Iterator[Keys]:
    """Where the delegates' keys are.

    Raises:
        StartError: passphrase or PIN cannot be read, or the token not be used.
    """
    section = settings.ocsp
    if section.pkcs11_module is None or section.pkcs11_token is None:
        passphrase = _secret(settings, section.passphrase_file, "passphrase of the responder's keys", "passphrase_file")
        yield KeyStore(settings.path(section.key_directory), passphrase)
        return
    pin = _secret(settings, section.pkcs11_pin_file, f"PIN of token {section.pkcs11_token}", "pkcs11_pin_file")
    try:
        token = pkcs11.open_token(section.pkcs11_module, section.pkcs11_token, pin.decode())
    except (SigningError, UnicodeDecodeError) as e:
        raise StartError(str(e)) from e
    with token:
        yield TokenKeys(token)


def recogniser(settings: Settings, passwords: PasswordVerifier) -> Recogniser:
    """How callers are recognised.

    Raises:
        StartError: the CAs of their certificates cannot be read.
    """
    section = settings.ocsp
    proxies = Proxies(section.trusted_proxies, section.proxy_certificate_header)
    if section.client_ca is None:
        return Recogniser(proxies, passwords, registered_is_enough)
    file = settings.path(section.client_ca)
    try:
        anchors = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as e:
        raise StartError(f"{file}: {e}; put certificates in PEM there, or change `ocsp.client_ca`") from e
    return Recogniser(proxies, passwords, path_to(anchors))


def password_verifier() -> PasswordVerifier:
    """With a key that nobody else knows."""
    return PasswordVerifier(secrets.token_bytes(MEMORY_KEY_OCTETS), time.monotonic)


def rate_limits(settings: Settings) -> RateLimits:
    """As configured."""
    return RateLimits(settings.ocsp.address_requests_per_s, settings.ocsp.party_requests_per_s)


def server_tls(settings: Settings, access: Callable[[], AccessList]) -> ServerTLS:
    """TLS of the HTTPS listener; `access` tells whose client certificates are registered.

    Raises:
        StartError: a file cannot be used.
    """
    section = settings.ocsp
    asks = Recognition.CLIENT_CERTIFICATE in section.recognition
    client_ca = None if section.client_ca is None else settings.path(section.client_ca)
    files = TLSFiles(settings.path(section.tls_certificate), settings.path(section.tls_key), client_ca)
    return ServerTLS(files, lambda: access().client_certificates if asks else None)


def _secret(settings: Settings, file: Path, what: str, key: str) -> bytes:
    try:
        return settings.path(file).read_bytes().rstrip(b"\r\n")
    except OSError as e:
        raise StartError(
            f"{settings.path(file)}: {e.strerror}; put the {what} there, or change `ocsp.{key}` in prefca.toml"
        ) from e
