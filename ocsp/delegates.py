"""The delegates whose keys are here: certificates from the database, keys from files or a token.

A delegate that does not pass every check is left out, with a reason. Another host may well have its key.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from ocsp.issuers import Delegate, Generation
from pkix import software
from pkix.certid import key_identifier
from pkix.signing import Signer, SigningError
from pkix.validity import Validity


@dataclass(frozen=True, slots=True)
class DelegateCertificate:
    """A delegate as the issuer recorded it."""

    serial: int
    generation_id: int
    der: bytes


class Keys(Protocol):
    """Where the keys of delegates are."""

    def signer(self, serial: int) -> Signer:
        """The key of one delegate; raises SigningError: it is not there, or cannot be used."""

    def place(self, serial: int) -> str:
        """Where that is, for people."""


def key_name(serial: int) -> str:
    """What the key of a delegate is called, wherever it is."""
    return f"{serial:016X}"


@dataclass(frozen=True, slots=True)
class KeyStore:
    """One encrypted PKCS#8 file per delegate."""

    directory: Path
    passphrase: Callable[[], bytes]  # as it is now: the keys may have been encrypted anew; raises SigningError

    def file(self, serial: int) -> Path:
        """The key file of one delegate."""
        return self.directory / f"{key_name(serial)}.pem"

    def signer(self, serial: int) -> Signer:
        """The key in that file. Decrypting it takes about 50 ms."""
        return software.load(self.file(serial), self.passphrase())

    def place(self, serial: int) -> str:
        """The name of that file."""
        return str(self.file(serial))


@dataclass(frozen=True, slots=True)
class Loaded:
    """The delegates that can be used, and for each of the others a line that says why not."""

    delegates: tuple[Delegate, ...]
    refusals: tuple[str, ...]
    again_at: datetime | None = None  # when the time of one comes whose key is not here yet: look again then


class _RefusedError(Exception):
    """This delegate cannot be used; the message says why, and what to do."""


def load(
    certificates: Iterable[DelegateCertificate], generations: Iterable[Generation], keys: Keys, now: datetime
) -> Loaded:
    """Load every delegate whose validity has not ended, also before it begins. Keys take their time: use a thread."""
    by_id = {generation.generation_id: generation for generation in generations}
    delegates: list[Delegate] = []
    refusals: list[str] = []
    later: list[datetime] = []
    for recorded in certificates:
        try:
            certificate = _authorized(recorded, by_id)
            if now > certificate.not_valid_after_utc:
                continue
            if now < certificate.not_valid_before_utc:
                later.append(certificate.not_valid_before_utc)
            delegates.append(_delegate(recorded, certificate, keys))
        except (_RefusedError, SigningError) as e:
            refusals.append(str(e))
    return Loaded(tuple(delegates), tuple(refusals), min(later, default=None) if refusals else None)


def _authorized(recorded: DelegateCertificate, generations: Mapping[int, Generation]) -> x509.Certificate:
    """The certificate, if it makes its holder an Authorized Responder (RFC 6960, section 4.2.2.2).

    Raises:
        _RefusedError: it is not signed by the key of its generation, or not for OCSP signing.
    """
    certificate = x509.load_der_x509_certificate(recorded.der)
    try:
        certificate.verify_directly_issued_by(generations[recorded.generation_id].certificate)
    except (KeyError, TypeError, ValueError, InvalidSignature) as e:
        raise _RefusedError(f"delegate {recorded.serial:016X}: not signed by its CA's key; issue another one") from e
    if not any(
        isinstance(extension.value, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.OCSP_SIGNING in extension.value
        for extension in certificate.extensions
    ):
        raise _RefusedError(f"delegate {recorded.serial:016X}: not for OCSP signing; issue another one")
    return certificate


def _delegate(recorded: DelegateCertificate, certificate: x509.Certificate, keys: Keys) -> Delegate:
    """The delegate with its key.

    Raises:
        SigningError: the key is missing or cannot be used.
        _RefusedError: it is another key than the certificate's.
    """
    signer = keys.signer(recorded.serial)
    if signer.public_key != certificate.public_key():
        place, name = keys.place(recorded.serial), key_name(recorded.serial)
        raise _RefusedError(f"{place}: not the key of delegate {name}; restore it from its backup")
    return Delegate(
        serial=recorded.serial,
        generation_id=recorded.generation_id,
        validity=Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc),
        certificate=recorded.der,
        name=certificate.subject.public_bytes(),
        key_hash=key_identifier(signer.public_key),
        signer=signer,
    )
