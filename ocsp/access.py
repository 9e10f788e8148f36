"""Who asks, how that is known, and what he may be told (R-4-4-4-3).

An AccessList holds what relying parties with the right `ocsp` are recognised by. It is a value of one moment; whether
an agreement is in force is looked at when somebody asks. What a caller shows, `recognition` checks.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network
from typing import ClassVar, Final

from settings.peer import address_of


class Right(StrEnum):
    """What a relying party may be granted here."""

    OCSP = "ocsp"  # statuses that are not public

    __hash__ = str.__hash__  # Enum's own one is no C, and rights are looked at for every answer


class Recognition(StrEnum):
    """How a caller is recognised: the kinds of credentials in the database, and the values of `ocsp.recognition`."""

    NETWORK = "network"
    CLIENT_CERTIFICATE = "client-certificate"
    SIGNING_CERTIFICATE = "signing-certificate"
    PASSWORD = "password"  # noqa: S105 - a kind of credential
    TOKEN = "token"  # noqa: S105 - a kind of credential


class Failure(StrEnum):
    """Why what somebody showed was worth nothing: for the log, without what he showed."""

    UNKNOWN_SIGNER = "the signer is not registered"
    BAD_SIGNATURE = "the signature is not one of the registered signer"
    NO_SIGNER_PATH = "the certificate of the signer has no path"
    PLAIN = "credentials count over TLS only"
    UNREADABLE = "neither a password nor a token can be read"
    UNKNOWN_TOKEN = "nobody has this token"  # noqa: S105 - a sentence
    WRONG_PASSWORD = "unknown name or wrong password"  # noqa: S105 - a sentence
    LOCKED_OUT = "too many wrong passwords from this address"
    UNKNOWN_CERTIFICATE = "the client certificate is not registered"
    NO_CLIENT_PATH = "the client certificate has no path"


ALL_WAYS: Final = frozenset(Recognition)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    origin: str  # address
    party: str | None = None  # name of the relying party; None is nobody we know
    recognition: Recognition | None = None
    rights: frozenset[Right] = frozenset()
    until: datetime | None = None  # the first moment outside the agreement: whoever asks then is to be recognised anew
    signature_expected: bool = False  # nobody we know, who shows nothing: signing the request could help
    failure: Failure | None = None  # of what he showed


@dataclass(frozen=True, slots=True)
class Network:
    """Addresses that are a party's own."""

    kind: ClassVar[Recognition] = Recognition.NETWORK
    network: IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What a party authenticates itself with in TLS."""

    kind: ClassVar[Recognition] = Recognition.CLIENT_CERTIFICATE
    certificate: bytes  # DER, as it was registered


@dataclass(frozen=True, slots=True)
class SigningCertificate:
    """What a party signs its requests with."""

    kind: ClassVar[Recognition] = Recognition.SIGNING_CERTIFICATE
    certificate: bytes  # DER, as it was registered


@dataclass(frozen=True, slots=True)
class Password:
    """What a party sends with its name (RFC 7617)."""

    kind: ClassVar[Recognition] = Recognition.PASSWORD
    secret_hash: str = field(repr=False)  # Argon2id, in its own text form


@dataclass(frozen=True, slots=True)
class Token:
    """What a party sends instead (RFC 6750): 256 random bits, which a plain hash is enough to hide."""

    kind: ClassVar[Recognition] = Recognition.TOKEN
    digest: bytes  # SHA-256


Credential = Network | ClientCertificate | SigningCertificate | Password | Token


@dataclass(frozen=True, slots=True)
class Grant:
    """A relying party with the right `ocsp`, and something that it is recognised by."""

    party: str
    credential: Credential
    agreed_from: datetime
    agreed_until: datetime  # the first moment outside the agreement

    @property
    def certificate(self) -> bytes | None:
        """The DER of the certificate that it is recognised by."""
        match self.credential:
            case ClientCertificate(certificate=certificate) | SigningCertificate(certificate=certificate):
                return certificate
            case _:
                return None

    def is_agreed(self, now: datetime) -> bool:
        """Is the agreement in force?"""
        return self.agreed_from <= now < self.agreed_until

    def caller(self, origin: str) -> Caller:
        """The party, asking from `origin`."""
        return Caller(origin, self.party, self.credential.kind, frozenset({Right.OCSP}), self.agreed_until)


class AccessList:
    """The grants, at any moment of their agreements."""

    def __init__(self, grants: Iterable[Grant], ways: Collection[Recognition] = ALL_WAYS) -> None:
        """Index `grants`; those of a way of recognition that is switched off are left out."""
        networks: list[tuple[IPv4Network | IPv6Network, Grant]] = []
        self._clients: dict[bytes, list[Grant]] = {}
        self._signers: dict[bytes, list[Grant]] = {}
        self._tokens: dict[bytes, list[Grant]] = {}
        self._passwords: dict[str, list[tuple[str, Grant]]] = {}
        self.client_certificates: set[bytes] = set()  # DER of all that are registered
        for grant in sorted(grants, key=lambda grant: grant.party):
            if grant.credential.kind not in ways:
                continue
            match grant.credential:
                case Network(network=network):
                    networks.append((network, grant))
                case ClientCertificate(certificate=certificate):
                    self._clients.setdefault(sha256(certificate).digest(), []).append(grant)
                    self.client_certificates.add(certificate)
                case SigningCertificate(certificate=certificate):
                    self._signers.setdefault(certificate, []).append(grant)
                case Token(digest=digest):
                    self._tokens.setdefault(digest, []).append(grant)
                case Password(secret_hash=secret_hash):
                    self._passwords.setdefault(grant.party, []).append((secret_hash, grant))
        self._narrowest_first = sorted(networks, key=lambda each: -each[0].prefixlen)

    def caller(self, origin: str, now: datetime, fingerprint: bytes | None = None) -> Caller:
        """Who asks on a connection.

        Args:
            origin: its address.
            now: an agreement must be in force then.
            fingerprint: SHA-256 of its client certificate, if there is one.

        Returns:
            The party whose client certificate it is; else the one with the narrowest network around the address.
        """
        if fingerprint is not None and (grant := _agreed(self._clients.get(fingerprint, ()), now)):
            return grant.caller(origin)
        address = address_of(origin)
        if grant := _agreed((grant for network, grant in self._narrowest_first if address in network), now):
            return grant.caller(origin)
        if fingerprint is not None:
            return Caller(origin, failure=Failure.UNKNOWN_CERTIFICATE)
        expected = any(_agreed(grants, now) for grants in self._signers.values())
        return Caller(origin, signature_expected=expected)

    def bearer(self, token: str, now: datetime) -> Grant | None:
        """Whose token it is."""
        digest = sha256(token.encode("utf-8", "surrogateescape")).digest()  # any octets may be in a header
        return _agreed(self._tokens.get(digest, ()), now)

    def passwords(self, name: str, now: datetime) -> dict[str, Grant]:
        """The hashes of the passwords that the party `name` has."""
        return {secret_hash: grant for secret_hash, grant in self._passwords.get(name, ()) if grant.is_agreed(now)}

    def signing_certificates(self, now: datetime) -> dict[bytes, Grant]:
        """The certificates, in DER, that somebody signs requests with."""
        each = ((certificate, _agreed(grants, now)) for certificate, grants in self._signers.items())
        return {certificate: grant for certificate, grant in each if grant}


def _agreed(grants: Iterable[Grant], now: datetime) -> Grant | None:
    """The first one with an agreement now."""
    return next((grant for grant in grants if grant.is_agreed(now)), None)
