"""Who may read restricted values (R-2-6-3-2): the parties with the right `crl`, their credentials and agreements."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, Self, TypeVar

from repository import names
from repository.certificates import not_after
from repository.errors import MalformedMessageError
from repository.names import NameKey

K = TypeVar("K")

_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Credential:
    """A password or a client certificate of a relying party with the right, as repository_access_v1 has it."""

    relying_party_id: int
    name: str  # letters, digits, `.`, `_` and `-`: nothing that a DN would escape
    secret_hash: str | None = field(repr=False)  # Argon2id, in its own text form; None: no password
    agreed_from: datetime
    agreed_until: datetime  # the first moment at which the right is gone
    certificate: bytes | None = None  # DER; None: no client certificate

    @property
    def dn(self) -> str:
        """The name that the party binds with, or is given by its certificate."""
        return f"uid={self.name},ou=Relying Parties,o=JPKI,c=JP"

    def is_agreed(self, now: datetime) -> bool:
        """Whether the agreement is in force."""
        return self.agreed_from <= now < self.agreed_until

    def is_same(self, other: "Credential") -> bool:
        """Whether this is the other one, perhaps with another period of agreement."""
        mine, its = ((each.relying_party_id, each.secret_hash, each.certificate) for each in (self, other))
        return mine == its


@dataclass(frozen=True, slots=True, eq=False)
class AccessTable:
    """Everybody's rights at one moment."""

    by_name: Mapping[NameKey, tuple[Credential, ...]]
    by_party: Mapping[int, tuple[Credential, ...]]
    by_fingerprint: Mapping[bytes, tuple[Credential, ...]]  # SHA-256 of a certificate
    certificates: frozenset[bytes]  # DER: all that a client may show in TLS

    @classmethod
    def of(cls, credentials: Iterable[Credential]) -> Self:
        """Index credentials; a certificate that cannot be read is none."""
        usable = [made for credential in credentials if (made := _until_expiry(credential)) is not None]
        certified = [(each, each.certificate) for each in usable if each.certificate is not None]
        return cls(
            by_name=_indexed((names.parse(each.dn).key, each) for each in usable),
            by_party=_indexed((each.relying_party_id, each) for each in usable),
            by_fingerprint=_indexed((sha256(certificate).digest(), each) for each, certificate in certified),
            certificates=frozenset(certificate for _, certificate in certified),
        )

    def credentials(self, key: NameKey | None, now: datetime) -> tuple[Credential, ...]:
        """What may be shown to bind with this name; nothing for a name that is unknown, or None."""
        if key is None:
            return ()
        return tuple(credential for credential in self.by_name.get(key, ()) if credential.is_agreed(now))

    def certified(self, fingerprint: bytes, now: datetime) -> Credential | None:
        """Whose client certificate it is that has this SHA-256 fingerprint."""
        return next((each for each in self.by_fingerprint.get(fingerprint, ()) if each.is_agreed(now)), None)

    def still(self, bound: Credential) -> tuple[Credential, ...]:
        """What has become of a credential that a party once bound with; if one of these is agreed, it has the right.

        The credential itself must still be there: one that was ended, because it became known to others, ends the
        connections that were made with it. The period of agreement may have changed.
        """
        return tuple(each for each in self.by_party.get(bound.relying_party_id, ()) if each.is_same(bound))


def _until_expiry(credential: Credential) -> Credential | None:
    """A certificate is worth nothing after its end."""
    if credential.certificate is None:
        return credential
    try:
        expires = not_after(credential.certificate) + _SECOND  # notAfter is still in the period
    except (ValueError, MalformedMessageError):
        return None
    return replace(credential, agreed_until=min(credential.agreed_until, expires))


def _indexed(pairs: Iterable[tuple[K, Credential]]) -> Mapping[K, tuple[Credential, ...]]:
    index: dict[K, list[Credential]] = defaultdict(list)
    for key, credential in pairs:
        index[key].append(credential)
    return {key: tuple(its) for key, its in index.items()}
