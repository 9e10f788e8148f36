"""Who is at the other end of a connection: the bind operation without I/O (RFC 4511, section 4.2; RFC 4513).

A simple bind takes two steps, since verifying a password takes long: `begin` says what is to be verified, `end` what
became of it. Binds of one name may have begun before the first of them failed, so failures count against those that
wait, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final

from repository import names
from repository.access import AccessTable, Credential
from repository.directory import Directory
from repository.messages import SASL, BindRequest, Result, ResultCode, Simple
from repository.names import NameKey
from settings.failed_logins import FailedLogins

_VERSION: Final = 3
_NOT_LOADED: Final = Result(ResultCode.UNAVAILABLE, "access rights are not loaded yet; try again soon")


@dataclass(frozen=True, slots=True)
class VerifyPassword:
    """Find which of these Argon2id hashes (there may be none) is of the password, and tell `Session.verified`."""

    password: bytes = field(repr=False)
    hashes: tuple[str, ...] = field(repr=False)
    host: str  # of the peer (`settings.peer`): passwords from one host are verified one after the other


@dataclass(frozen=True, slots=True)
class _Pending:
    name_hash: bytes
    credentials: Mapping[str, Credential]  # by the hash of the password


class Authentication:
    """Who is bound on one connection; nobody at first, and nobody again from the beginning of every bind."""

    def __init__(self, directory: Directory, failed_binds: FailedLogins, host: str) -> None:
        self._directory = directory
        self._failed_binds = failed_binds
        self._host = host
        self._bound: Credential | None = None
        self._access: AccessTable | None = None  # in which `_still` was found
        self._still: tuple[Credential, ...] = ()
        self._pending: _Pending | None = None

    @property
    def is_bound(self) -> bool:
        """Whether somebody is bound, with a right or without it now."""
        return self._bound is not None

    def party(self, now: datetime) -> Credential | None:
        """Who is bound and has the right at this moment; the right may have ended since the bind."""
        bound, access = self._bound, self._directory.access
        if bound is None or access is None:
            return None
        if access is not self._access:
            self._access, self._still = access, access.still(bound)
        return bound if any(each.is_agreed(now) for each in self._still) else None

    def forget(self) -> None:
        """Whatever becomes of the bind that begins now, nobody is bound: RFC 4511, section 4.2.1."""
        self._bound = self._access = None

    def begin(
        self, request: BindRequest, now: datetime, *, is_encrypted: bool, fingerprint: bytes | None
    ) -> Result | VerifyPassword:
        """React to a bind.

        Args:
            request: the bind.
            now: decides which agreements are in force.
            is_encrypted: by TLS.
            fingerprint: SHA-256 of the certificate that the client showed in TLS; None if there is none.
        """
        if request.version != _VERSION:
            return Result(ResultCode.PROTOCOL_ERROR, "only LDAPv3 is spoken here")
        match request.authentication:
            case Simple(password):
                return self._simple(request.name, password, now, is_encrypted=is_encrypted)
            case SASL("EXTERNAL", credentials):
                return self._external(fingerprint, credentials, now)
            case _:
                message = "use simple authentication or SASL EXTERNAL"
                return Result(ResultCode.AUTH_METHOD_NOT_SUPPORTED, message)

    def _simple(self, name: str, password: bytes, now: datetime, *, is_encrypted: bool) -> Result | VerifyPassword:
        if not password and not name:
            return Result(ResultCode.SUCCESS)
        if not password:
            # A name with an empty password is no login: RFC 4513, section 5.1.2.
            return Result(ResultCode.UNWILLING_TO_PERFORM, "a name needs a password")
        if not is_encrypted:
            message = "use StartTLS or ldaps before you send a password"
            return Result(ResultCode.CONFIDENTIALITY_REQUIRED, message)
        access = self._directory.access
        if access is None:
            return _NOT_LOADED
        key = _key(name)
        name_hash = _hash(key or name)
        if refusal := self._refusal(name_hash, now):
            return refusal
        credentials = {each.secret_hash: each for each in access.credentials(key, now) if each.secret_hash is not None}
        self._pending = _Pending(name_hash, credentials)
        return VerifyPassword(password, tuple(credentials), self._host)

    def is_locked_out(self, now: datetime) -> bool:
        """Whether the bind that waits is refused whatever its password: others of its name failed since it began."""
        return self._pending is not None and self._refusal(self._pending.name_hash, now) is not None

    def _refusal(self, name_hash: bytes, now: datetime) -> Result | None:
        """Known names and unknown ones alike, and without a look at the password."""
        pause_s = self._failed_binds.pause_s(name_hash, self._host, now)
        message = f"too many failed binds; try again in {pause_s} s"
        return Result(ResultCode.INVALID_CREDENTIALS, message) if pause_s else None

    def end(self, matching_hash: str | None, now: datetime) -> Result:
        """Go on with the bind that waited; `matching_hash` is that of the hashes which the password has."""
        pending = self._pending
        if pending is None:
            raise RuntimeError("no bind waits for its password")
        self._pending = None
        if refusal := self._refusal(pending.name_hash, now):
            return refusal
        self._bound = pending.credentials[matching_hash] if matching_hash is not None else None
        if self._bound is None:
            # The same for a wrong password and an unknown name (RFC 4513, section 5.1.3), also in time.
            self._failed_binds.failed(pending.name_hash, self._host, now)
            return Result(ResultCode.INVALID_CREDENTIALS)
        self._failed_binds.succeeded(pending.name_hash, self._host)
        return Result(ResultCode.SUCCESS)

    def _external(self, fingerprint: bytes | None, credentials: bytes | None, now: datetime) -> Result:
        """SASL EXTERNAL (RFC 4422, appendix A; RFC 4513, section 5.2.3)."""
        if fingerprint is None:
            message = "EXTERNAL needs TLS with a client certificate"
            return Result(ResultCode.INAPPROPRIATE_AUTHENTICATION, message)
        if credentials is None:
            return Result(ResultCode.SASL_BIND_IN_PROGRESS, "send the identity to act as; empty for your own")
        access = self._directory.access
        if access is None:
            return _NOT_LOADED
        found = access.certified(fingerprint, now)
        if found is None or (credentials and not _is_identity(credentials, found)):
            return Result(ResultCode.INVALID_CREDENTIALS)
        self._bound = found
        return Result(ResultCode.SUCCESS)


def _is_identity(authorization: bytes, party: Credential) -> bool:
    """Whether an authzId (RFC 4513, section 5.2.1.8) names this party: nobody acts for somebody else."""
    kind, _, name = authorization.decode(errors="surrogateescape").partition(":")
    return kind == "dn" and _key(name) == _key(party.dn)


def _key(name: str) -> NameKey | None:
    try:
        return names.parse(name).key
    except ValueError:
        return None


def _hash(name: NameKey | str) -> bytes:
    """What failures are remembered by: a name may be as long as a message, and its key is larger than the name."""
    return sha256(repr(name).encode()).digest()
