"""All SQL about the keys of an authority over their generations."""

from collections.abc import Collection
from datetime import datetime

import asyncpg

from issuer.profiles.generation import State, require_move
from issuer.records.rows import Generation, KeyRow, SelfIssued
from pkix.validity import Validity


class GenerationStore:
    """The keys of all authorities, as role prefca_issuer. Transactions are the caller's."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def keys(self, authority_id: int) -> list[KeyRow]:
        """Every key of an authority, the oldest first."""
        # The last resident's certificate of a key is the one that ends last: all of them are for the same time.
        # Those of a compromised key are revoked, and need nothing more, also when it is destroyed.
        rows = await self._connection.fetch(
            "SELECT g.generation_id, g.authority_id, g.number, g.key_reference, g.certificate, g.signs_until,"
            " g.state, g.signs_from, c.not_after,"
            " CASE WHEN g.generation_id NOT IN (SELECT generation_id FROM compromise) THEN"
            " (SELECT r.not_after FROM certificate r WHERE r.kind = 'resident' AND r.generation_id = g.generation_id"
            " ORDER BY r.issued_at DESC LIMIT 1) END AS residents_until"
            " FROM ca_generation g JOIN certificate c ON c.generation_id = g.generation_id AND c.kind = 'self-signed'"
            " WHERE g.authority_id = $1 ORDER BY g.number",
            authority_id,
        )
        return [
            KeyRow(
                Generation(*list(row)[:6]),
                State(row["state"]),
                row["signs_from"],
                row["not_after"],
                row["residents_until"],
            )
            for row in rows
        ]

    async def add_planned(self, generation: Generation, signs: Validity) -> int:
        """Record the next key of an authority; its `generation_id` is what this returns."""
        generation_id: int = await self._connection.fetchval(
            "INSERT INTO ca_generation"
            " (authority_id, number, key_reference, certificate, signs_from, signs_until, state)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING generation_id",
            generation.authority_id,
            generation.number,
            generation.key_reference,
            generation.certificate,
            signs.not_before,
            signs.not_after,
            State.PLANNED,
        )
        return generation_id

    async def move(self, generation_id: int, after: State) -> None:
        """Bring a key into another state. What is being recorded of its signatures is waited for.

        Raises:
            RefusedError: it cannot go there from where it is.
        """
        before = await self._connection.fetchval(
            "SELECT state FROM ca_generation WHERE generation_id = $1 FOR UPDATE", generation_id
        )
        require_move(State(before), after)
        await self._connection.execute(
            "UPDATE ca_generation SET state = $2 WHERE generation_id = $1", generation_id, after
        )

    async def held_states(self, generation_ids: Collection[int]) -> dict[int, State]:
        """The states of these keys, which stay so until the transaction ends."""
        rows = await self._connection.fetch(
            "SELECT generation_id, state FROM ca_generation WHERE generation_id = ANY($1)"
            " ORDER BY generation_id FOR SHARE",
            list(generation_ids),
        )
        return {row["generation_id"]: State(row["state"]) for row in rows}

    async def key_made_at(self, key_reference: str) -> datetime | None:
        """When a key was made that no generation has yet: what was written down before it was."""
        moment: datetime | None = await self._connection.fetchval(
            "SELECT max(at) FROM operation_record WHERE kind = 'key_generation' AND object = $1", key_reference
        )
        return moment

    async def self_issued(self, authority_id: int, now: datetime) -> list[SelfIssued]:
        """What the directory shows of the keys of an authority: self-signed and link certificates (RFC 2587).

        The key that signs now comes first, then newer before older ones. Of others neither those that ended or were
        revoked, nor what is said of a key whose own certificate was revoked.
        """
        rows = await self._connection.fetch(
            "SELECT c.der, g.number FROM certificate c JOIN ca_generation g USING (generation_id)"
            " JOIN certificate s ON s.kind = 'self-signed' AND s.spki_sha256 = c.spki_sha256"
            " WHERE g.authority_id = $1 AND c.kind IN ('self-signed', 'link') AND c.not_after >= $2"
            " AND (c.kind = 'self-signed' AND g.state = 'active'"
            " OR NOT EXISTS (SELECT FROM revocation r WHERE r.serial IN (c.serial, s.serial)))"
            " ORDER BY c.kind DESC, g.state <> 'active', g.number DESC, c.serial",
            authority_id,
            now,
        )
        return [SelfIssued(row["number"], row["der"]) for row in rows]

    async def links(self, generation_id: int) -> list[bytes]:
        """The link certificates that join a key to the one before it: signed by it, and of it."""
        rows = await self._connection.fetch(
            "SELECT l.der FROM ca_generation g"
            " JOIN certificate s ON s.generation_id = g.generation_id AND s.kind = 'self-signed'"
            " JOIN certificate l ON l.kind = 'link'"
            " AND (l.generation_id = g.generation_id OR l.spki_sha256 = s.spki_sha256)"
            " WHERE g.generation_id = $1 AND l.issued_at = s.issued_at ORDER BY l.generation_id DESC",
            generation_id,
        )
        return [row["der"] for row in rows]

    async def shown_since(self, authority_id: int, hashes: Collection[bytes], not_before: datetime) -> datetime | None:
        """Since when the directory has shown all of these values; None: the publication in force lacks one.

        Args:
            authority_id: whose publications.
            hashes: SHA-256 of the values.
            not_before: no publication before has any of them.
        """
        moment: datetime | None = await self._connection.fetchval(
            "SELECT min(published_at) FILTER (WHERE complete)"
            " FROM (SELECT p.publication_id, p.published_at, count(o.sha256) = cardinality($2::bytea[]) AS complete"
            " FROM publication p LEFT JOIN published_object o ON o.publication_id = p.publication_id"
            " AND o.attribute = 'cACertificate' AND o.sha256 = ANY($2)"
            " WHERE p.authority_id = $1 AND p.published_at >= $3"
            " GROUP BY p.publication_id, p.published_at) shown"
            " HAVING (array_agg(complete ORDER BY publication_id DESC))[1]",
            authority_id,
            list(hashes),
            not_before,
        )
        return moment
