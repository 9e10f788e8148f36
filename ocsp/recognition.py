"""From what a connection and a request show to the Caller.

Ways of recognition are tried from the one that says most to the one that says least: a signature, what the
Authorization header holds, the client certificate of TLS, the network. The first that names a party counts; whoever
shows something that is worth nothing is still known by the network he asks from, as if he had not shown it.

A proxy in front that ends TLS is believed what it says of the client, if it is one of `ocsp.trusted_proxies`; it must
replace the headers of that kind that clients send. It is nobody itself: without such headers no party is recognised.
"""

import hashlib
import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Protocol
from urllib.parse import unquote

from cryptography import x509

from ocsp.access import AccessList, Caller, Failure, Grant, Recognition
from ocsp.credentials import BearerToken, NameAndPassword, PasswordVerifier, parse_authorization
from ocsp.request import RequestSignature
from ocsp.signature import PathCheck, signing_certificate
from settings.failed_logins import FailedLogins
from settings.peer import address_of, host

FORWARDED_FOR: Final = "X-Forwarded-For"
FORWARDED_PROTO: Final = "X-Forwarded-Proto"
PATH_REMEMBERED: Final = timedelta(minutes=5)


class Headers(Protocol):
    """The headers of a request; upper and lower case are the same."""

    def getall(self, key: str, default: list[str], /) -> list[str]:
        """The values of all lines with that name."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as far as the connection tells."""

    origin: str  # address
    fingerprint: bytes | None = None  # SHA-256 of the client certificate
    is_private: bool = False  # nobody on the way can read what is sent: TLS
    is_proxy: bool = False  # trusted, and has not said whom it speaks for
    forwarded: bytes | None = None  # DER of the client certificate, if a proxy showed it: no handshake has looked at it


@dataclass(frozen=True, slots=True)
class Proxies:
    """Those that are believed, and where they put the client certificate."""

    networks: Sequence[IPv4Network | IPv6Network]
    certificate_header: str

    def trusts(self, origin: str) -> bool:
        """Is it one of them?"""
        address = address_of(origin)
        return any(address in network for network in self.networks)

    def client(self, proxy: Peer, headers: Headers) -> Peer:
        """Whom `proxy` speaks for: the last address in X-Forwarded-For that is no proxy's, or else the first."""
        # Several lines are one list (RFC 9110, section 5.3): a proxy may add its own line behind that of a client.
        forwarded_for = ",".join(headers.getall(FORWARDED_FOR, []))
        try:
            hops = [str(address_of(hop.strip())) for hop in forwarded_for.split(",")]
        except ValueError:
            return proxy
        origin = next((hop for hop in reversed(hops) if not self.trusts(hop)), hops[0])
        certificate = _certificate(_only(headers, self.certificate_header))
        is_private = _only(headers, FORWARDED_PROTO).lower() == "https"
        return Peer(origin, _fingerprint(certificate), is_private=is_private, forwarded=certificate)


class Paths:
    """Which certificates that come without others have a path. That is not looked at for each request."""

    def __init__(self, has_path: PathCheck) -> None:
        self._has_path = has_path
        self._known: dict[bytes, tuple[bool, datetime]] = {}  # until when; no more of them than are registered

    def have(self, certificate: bytes, now: datetime) -> bool:
        """Has it one, a registered certificate in DER?"""
        has_path, until = self._known.get(certificate, (False, now))
        if now >= until:
            has_path = self._has_path(x509.load_der_x509_certificate(certificate), (), now)
            self._known[certificate] = has_path, now + PATH_REMEMBERED
        return has_path


class Recogniser:
    """Finds out who asks."""

    def __init__(
        self, proxies: Proxies, passwords: PasswordVerifier, failed_logins: FailedLogins, has_path: PathCheck
    ) -> None:
        self._proxies = proxies
        self._passwords = passwords
        self._failed_logins = failed_logins
        self._has_path = has_path
        self._paths = Paths(has_path)

    def peer(self, origin: str, certificate: bytes | None, *, is_tls: bool) -> Peer:
        """Who is at the other end of a connection, and the DER of his client certificate."""
        if self._proxies.trusts(origin):
            return Peer(origin, is_proxy=True)
        return Peer(origin, _fingerprint(certificate), is_private=is_tls)

    def client(self, peer: Peer, headers: Headers) -> Peer:
        """Who sends a request with these headers."""
        return self._proxies.client(peer, headers) if peer.is_proxy else peer

    def by_connection(self, peer: Peer, access: AccessList, now: datetime) -> Caller:
        """Who asks, if a request shows nothing of its own."""
        if peer.is_proxy:
            return Caller(peer.origin)
        caller = access.caller(peer.origin, now, peer.fingerprint)
        if caller.recognition is not Recognition.CLIENT_CERTIFICATE or peer.forwarded is None:
            return caller
        if self._paths.have(peer.forwarded, now):
            return caller
        return _failed(access.caller(peer.origin, now), Failure.NO_CLIENT_PATH)

    async def caller(self, peer: Peer, authorization: str | None, access: AccessList, now: datetime) -> Caller:
        """Who sends a request with this Authorization header, which is worth nothing where others can read it.

        Raises:
            TooManyRequestsError: a password cannot be verified now.
        """
        otherwise = self.by_connection(peer, access, now)
        if authorization is None:
            return otherwise
        if not peer.is_private:
            return replace(otherwise, failure=Failure.PLAIN)
        found = await self._authorized(authorization, peer.origin, access, now)
        return _failed(otherwise, found) if isinstance(found, Failure) else found.caller(peer.origin)

    def signer(self, signature: RequestSignature, otherwise: Caller, access: AccessList, now: datetime) -> Caller:
        """Who signed a request; if that is nobody we know, who asks `otherwise`."""
        registered = access.signing_certificates(now)
        found = signing_certificate(signature, registered, self._has_path, now)
        return _failed(otherwise, found) if isinstance(found, Failure) else registered[found].caller(otherwise.origin)

    async def _authorized(self, authorization: str, origin: str, access: AccessList, now: datetime) -> Grant | Failure:
        match parse_authorization(authorization):
            case BearerToken(token=token):
                return access.bearer(token, now) or Failure.UNKNOWN_TOKEN
            case NameAndPassword() as shown:
                return await self._logged_in(shown, host(origin), access, now)
            case None:
                return Failure.UNREADABLE

    async def _logged_in(
        self, shown: NameAndPassword, from_host: str, access: AccessList, now: datetime
    ) -> Grant | Failure:
        """Whose name and password these are. Guesses that are verified side by side count against each other."""
        failed, name_hash = self._failed_logins, hashlib.sha256(shown.name.encode()).digest()
        if failed.pause_s(name_hash, from_host, now):
            return Failure.LOCKED_OUT
        passwords = access.passwords(shown.name, now)
        verified = await self._passwords.matching(shown.password, passwords)
        if failed.pause_s(name_hash, from_host, now):
            return Failure.LOCKED_OUT
        if verified is None:
            failed.failed(name_hash, from_host, now)
            return Failure.WRONG_PASSWORD
        failed.succeeded(name_hash, from_host)
        return passwords[verified]


def _failed(otherwise: Caller, failure: Failure) -> Caller:
    """Who asks `otherwise`: he has shown something, so that a signature is not asked for."""
    return replace(otherwise, signature_expected=False, failure=failure)


def _only(headers: Headers, name: str) -> str:
    """The value of a header; of several lines, one may be the client's own, and none counts."""
    values = headers.getall(name, [])
    return values[0] if len(values) == 1 else ""


def _fingerprint(certificate: bytes | None) -> bytes | None:
    return None if certificate is None else hashlib.sha256(certificate).digest()


def _certificate(value: str) -> bytes | None:
    """The DER in a proxy's header: between colons (RFC 9440), as PEM with or without URL-encoding, or bare base64."""
    base64 = re.sub(r"-----(BEGIN|END) CERTIFICATE-----|[\s:]", "", unquote(value))
    try:
        return b64decode(base64, validate=True) or None
    except ValueError:
        return None
