"""What the settings of an installation provide: the delegates' keys, how callers are recognised, TLS."""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from ocsp.access import AccessList, Recognition
from ocsp.credentials import PasswordVerifier
from ocsp.delegates import Keys, KeyStore
from ocsp.errors import StartError
from ocsp.limits import RateLimits
from ocsp.recognition import Proxies, Recogniser
from ocsp.responder import Responder
from ocsp.response import ResponseForm
from ocsp.signature import PathCheck, path_to, registered_is_enough
from ocsp.tls import ServerTLS, TLSFiles
from ocsp.token import TokenKeys
from pkix import pkcs11
from pkix.signing import SigningError
from settings.failed_logins import FailedLogins
from settings.load import Settings, place_of
from settings.sections import OCSPSection


@contextlib.contextmanager
def delegate_keys(settings: Settings) -> Iterator[Keys]:
    """Where the delegates' keys are.

    Raises:
        StartError: passphrase or PIN cannot be read, or the token not be used.
    """
    section = settings.ocsp
    if section.pkcs11_module is None or section.pkcs11_token is None:
        what, file = "passphrase of the responder's keys", section.passphrase_file
        keys = KeyStore(settings.path(section.key_directory), lambda: _secret(settings, file, what, "passphrase_file"))
        with _starting():
            keys.passphrase()
        yield keys
        return
    with _starting():
        pin = _secret(settings, section.pkcs11_pin_file, f"PIN of token {section.pkcs11_token}", "pkcs11_pin_file")
        token = pkcs11.open_token(section.pkcs11_module, section.pkcs11_token, pin.decode("ascii", "replace"))
    with token:
        yield TokenKeys(token)


@contextlib.contextmanager
def recogniser(settings: Settings, memory_key: bytes) -> Iterator[Recogniser]:
    """How callers are recognised; `memory_key` are 32 random octets, under which verified passwords are remembered.

    Raises:
        StartError: the CAs of their certificates cannot be read.
    """
    section = settings.ocsp
    proxies = Proxies(section.trusted_proxies, section.proxy_certificate_header)
    lockout = timedelta(seconds=section.password_lockout_s)
    failed_logins = FailedLogins(lockout_failures=section.password_lockout_failures, lockout=lockout)
    has_path = registered_is_enough if section.client_ca is None else _path_to(settings.path(section.client_ca))
    with contextlib.closing(PasswordVerifier(memory_key, time.monotonic)) as passwords:
        yield Recogniser(proxies, passwords, failed_logins, has_path)


def responder(section: OCSPSection) -> Responder:
    """What drafts answers, in the form that is configured."""
    days = section.archive_cutoff_days
    form = ResponseForm(
        by_name=section.responder_id == "name",
        retention=None if days is None else timedelta(days=days),
        mixes_generations=section.mixed_generations,
    )
    return Responder(timedelta(seconds=section.response_validity_s), form)


def rate_limits(section: OCSPSection) -> RateLimits:
    """As configured."""
    return RateLimits(section.address_requests_per_s, section.party_requests_per_s)


def server_tls(settings: Settings, access: Callable[[], AccessList | None]) -> ServerTLS:
    """TLS of the HTTPS listener.

    Raises:
        StartError: a file cannot be used.
    """
    section = settings.ocsp
    files = TLSFiles(
        settings.path(section.tls_certificate),
        settings.path(section.tls_key),
        None if section.client_ca is None else settings.path(section.client_ca),
        asks_clients=Recognition.CLIENT_CERTIFICATE in section.recognition,
    )
    return ServerTLS(files, access)


def _path_to(file: Path) -> PathCheck:
    try:
        return path_to(x509.load_pem_x509_certificates(file.read_bytes()))
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else e
        place = place_of("ocsp.client_ca")
        raise StartError(f"{file}: {reason}; put certificates in PEM there, or change {place}") from e


def _secret(settings: Settings, file: Path, what: str, key: str) -> bytes:
    try:
        return settings.path(file).read_bytes().rstrip(b"\r\n")
    except OSError as e:
        place = place_of(f"ocsp.{key}")
        raise SigningError(f"{settings.path(file)}: {e.strerror}; put the {what} there, or change {place}") from e


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """What makes a delegate useless later keeps the program from starting."""
    try:
        yield
    except SigningError as e:
        raise StartError(str(e)) from e
