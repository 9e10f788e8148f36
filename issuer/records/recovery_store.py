"""All SQL about keys that are compromised, away or destroyed."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from issuer.errors import RefusedError
from issuer.records.rows import Generation


@dataclass(frozen=True, slots=True)
class Compromise:
    """The compromise of a key, as it was decided."""

    generation_id: int
    key_reference: str
    decided_at: datetime
    circumstances: str
    key_is_lost: bool
    certificates: int  # revoked with it
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeyProbe:
    """Whether the key that signs can be used."""

    seen_at: datetime
    failure: str | None


@dataclass(frozen=True, slots=True)
class NotRevoked:
    """A certificate that is not revoked."""

    serial: int
    partition_id: int
    not_after: datetime


class RecoveryStore:
    """The database, as role prefca_issuer. Transactions are the caller's."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def list_signer(self, authority_id: int) -> Generation | None:
        """The key that signs lists: the active one, else the last that was compromised and is not lost."""
        row = await self._connection.fetchrow(
            "SELECT g.generation_id, g.authority_id, g.number, g.key_reference, g.certificate, g.signs_until"
            " FROM ca_generation g LEFT JOIN compromise k USING (generation_id)"
            " WHERE g.authority_id = $1 AND (g.state = 'active' OR g.state = 'compromised' AND NOT k.key_is_lost)"
            " ORDER BY g.state = 'active' DESC, g.number DESC LIMIT 1",
            authority_id,
        )
        return None if row is None else Generation(*row)

    async def require_list_signer(self, authority_id: int, generation_id: int) -> None:
        """Until the transaction ends, the key stays the one that signs lists.

        Raises:
            RefusedError: another one has taken its place.
        """
        await self._connection.execute(
            "SELECT FROM ca_generation WHERE authority_id = $1 AND state IN ('active', 'compromised') FOR SHARE",
            authority_id,
        )
        signer = await self.list_signer(authority_id)
        if signer is None or signer.generation_id != generation_id:
            raise RefusedError("the key that signed is no longer active; run it again with the CA's present key")

    # ---------------------------------------------------------------- compromise

    async def add_compromise(self, new: Compromise) -> None:
        """Record that a key is compromised."""
        await self._connection.execute(
            "INSERT INTO compromise (generation_id, decided_at, circumstances, key_is_lost, certificates)"
            " VALUES ($1, $2, $3, $4, $5)",
            new.generation_id,
            new.decided_at,
            new.circumstances,
            new.key_is_lost,
            new.certificates,
        )

    async def compromises(self, authority_id: int) -> list[Compromise]:
        """Every compromise of an authority's keys, the latest last."""
        rows = await self._connection.fetch(
            "SELECT k.generation_id, g.key_reference, k.decided_at, k.circumstances, k.key_is_lost, k.certificates,"
            " k.finished_at FROM compromise k JOIN ca_generation g USING (generation_id)"
            " WHERE g.authority_id = $1 ORDER BY k.decided_at, g.number",
            authority_id,
        )
        return [Compromise(*row) for row in rows]

    async def finish_compromise(self, generation_id: int, now: datetime) -> bool:
        """Record that everything that follows from it is done; False: it was recorded already."""
        tag: str = await self._connection.execute(
            "UPDATE compromise SET finished_at = $2 WHERE generation_id = $1 AND finished_at IS NULL",
            *(generation_id, now),
        )
        return tag == "UPDATE 1"

    # ---------------------------------------------------------------- keys that are away

    async def see_key(self, authority_id: int, sight: KeyProbe) -> None:
        """Record whether the key that signs can be used."""
        await self._connection.execute(
            "INSERT INTO key_sight (authority_id, seen_at, failure) VALUES ($1, $2, $3)"
            " ON CONFLICT (authority_id) DO UPDATE SET seen_at = excluded.seen_at, failure = excluded.failure",
            authority_id,
            sight.seen_at,
            sight.failure,
        )

    async def key_sight(self, authority_id: int) -> KeyProbe | None:
        """What was found last."""
        row = await self._connection.fetchrow(
            "SELECT seen_at, failure FROM key_sight WHERE authority_id = $1", authority_id
        )
        return None if row is None else KeyProbe(*row)

    # ---------------------------------------------------------------- lists of elsewhere

    async def not_revoked(self, authority_id: int, serials: Collection[int]) -> list[NotRevoked | int]:
        """Which of these are not revoked here; a bare serial number is of no certificate that this authority knows."""
        rows = await self._connection.fetch(
            "SELECT s.serial, c.partition_id, c.not_after FROM unnest($2::bigint[]) AS s (serial)"
            " LEFT JOIN (certificate c JOIN partition p ON p.partition_id = c.partition_id AND p.authority_id = $1)"
            " ON c.serial = s.serial"
            " WHERE NOT EXISTS (SELECT FROM revocation r WHERE r.serial = s.serial) ORDER BY s.serial",
            authority_id,
            serials,
        )
        return [row["serial"] if row["partition_id"] is None else NotRevoked(*row) for row in rows]

    async def raise_crl_number(self, partition_id: int, published: int) -> None:
        """The next list has a number above one that was published."""
        await self._connection.execute(
            "UPDATE partition SET next_crl_number = greatest(next_crl_number, $2 + 1) WHERE partition_id = $1",
            partition_id,
            published,
        )

    async def numbers_behind(self, authority_id: int) -> list[str]:
        """The lists whose next CRLNumber is not above every one that was published."""
        rows = await self._connection.fetch(
            "SELECT coalesce(p.code, p.kind) AS label FROM partition p JOIN published_object o USING (partition_id)"
            " WHERE p.authority_id = $1 GROUP BY p.partition_id"
            " HAVING p.next_crl_number <= max(o.crl_number) ORDER BY 1",
            authority_id,
        )
        return [row["label"] for row in rows]
