"""The persons who operate the CA (要員): who they are, in which roles, and the key by which each is known."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from issuer.errors import RefusedError
from issuer.rules.operation import Role
from pkix.signing import PublicKey

MIN_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class Operator:
    """A person who is or was registered."""

    operator_id: int
    name: str  # short, as commands take it
    full_name: str
    roles: frozenset[Role]
    key: bytes  # DER of SubjectPublicKeyInfo
    registered_at: datetime
    operation: int
    ended_at: datetime | None = None

    @property
    def public_key(self) -> PublicKey:
        """Its key, that signatures are verified with."""
        return signing_key(self.key)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key, in hexadecimal."""
        return sha256(self.key).hexdigest()

    def was_registered(self, moment: datetime) -> bool:
        """Whether the person was an operator then."""
        return self.registered_at <= moment and (self.ended_at is None or moment < self.ended_at)


def signing_key(octets: bytes) -> PublicKey:
    """A key that operators may sign with, out of a certificate or a SubjectPublicKeyInfo, PEM or DER.

    Raises:
        RefusedError: it is neither, or its key is neither RSA of 2048 bits or more nor P-256.
    """
    key = _read(octets)
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise RefusedError(f"operators sign with RSA of {MIN_RSA_BITS} bits or more, or with P-256; make such a key")


def spki(key: PublicKey) -> bytes:
    """DER of SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def parse_roles(names: Collection[str]) -> frozenset[Role]:
    """The roles of a person.

    Raises:
        RefusedError: there are none, one does not exist, or the auditor has another one (5-2-1-1 (9)).
    """
    try:
        roles = frozenset(Role(name) for name in names)
    except ValueError as e:
        raise RefusedError(f"{e}; the roles are {', '.join(Role)}") from e
    if not roles:
        raise RefusedError(f"a person has one role at least; the roles are {', '.join(Role)}")
    if Role.AUDITOR in roles and len(roles) > 1:
        raise RefusedError("the auditor holds no other role; register another person for it")
    return roles


def _read(octets: bytes) -> object:
    try:
        if b"-----BEGIN CERTIFICATE" in octets:
            return x509.load_pem_x509_certificate(octets).public_key()
        if octets.lstrip().startswith(b"-----"):
            return load_pem_public_key(octets)
    except ValueError as e:
        raise RefusedError(f"this is neither a certificate nor a public key ({e})") from e
    for load in (load_der_public_key, lambda der: x509.load_der_x509_certificate(der).public_key()):
        try:
            return load(octets)
        except ValueError:
            continue
    raise RefusedError("this is neither a certificate nor a public key; give one of them, PEM or DER")
