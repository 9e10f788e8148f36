"""Who may read restricted values (R-2-6-3-2): the parties with the right `crl`, their passwords and agreements."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from repository import names
from repository.names import NameKey


@dataclass(frozen=True, slots=True)
class Credential:
    """A password of a relying party with the right, as the view repository_access_v1 has it."""

    relying_party_id: int
    name: str  # letters, digits, `.`, `_` and `-`: nothing that a DN would escape
    secret_hash: str = field(repr=False)  # Argon2id, in its own text form
    agreed_from: datetime
    agreed_until: datetime  # the first moment at which the right is gone

    @property
    def dn(self) -> str:
        """The name that the party binds with."""
        return f"uid={self.name},ou=Relying Parties,o=JPKI,c=JP"

    def is_agreed(self, now: datetime) -> bool:
        """Whether the agreement is in force."""
        return self.agreed_from <= now < self.agreed_until


@dataclass(frozen=True, slots=True, eq=False)
class AccessTable:
    """Everybody's rights at one moment."""

    by_name: Mapping[NameKey, tuple[Credential, ...]]

    @classmethod
    def of(cls, credentials: Iterable[Credential]) -> Self:
        """Index credentials by bind name."""
        by_name: dict[NameKey, list[Credential]] = defaultdict(list)
        for credential in credentials:
            by_name[names.parse(credential.dn).key].append(credential)
        return cls({key: tuple(its) for key, its in by_name.items()})

    def credentials(self, bind_name: str, now: datetime) -> tuple[Credential, ...]:
        """What may be shown to bind with this name; nothing for a name that is unknown, or no DN."""
        try:
            key = names.parse(bind_name).key
        except ValueError:
            return ()
        return tuple(credential for credential in self.by_name.get(key, ()) if credential.is_agreed(now))

    def holds(self, bound: Credential, now: datetime) -> bool:
        """Whether a party that once bound with this credential has the right now.

        The credential itself must still be there: one that was ended, because it became known to others, ends the
        connections that were made with it. The period of agreement may have changed.
        """
        return any(
            (each.relying_party_id, each.secret_hash) == (bound.relying_party_id, bound.secret_hash)
            for each in self.credentials(bound.dn, now)
        )
