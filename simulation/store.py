"""All SQL of the simulation: what the database has, beside what the programs show of it."""

from collections.abc import Collection
from datetime import datetime

import asyncpg

from issuer.profiles.authority import Kind
from pkix.revocation import CRLReason, Revoked
from pkix.validity import Validity
from repository.snapshot import PublishedObject
from simulation.sight import Certificate, Key


async def hurry(owner: asyncpg.Connection) -> None:
    """Let commits from now on not wait for the disk: this database lives as long as the command that made it."""
    database = await owner.fetchval("SELECT quote_ident(current_database())")
    await owner.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")


async def leave_out(owner: asyncpg.Connection, codes: Collection[str]) -> None:
    """Let a new CA be one of fewer municipalities: without those of these codes."""
    await owner.execute("DELETE FROM partition WHERE code = ANY($1)", codes)


class Records:
    """The record of truth of one CA, as role prefca_issuer."""

    def __init__(self, connection: asyncpg.Connection, authority_id: int) -> None:
        self._connection = connection
        self._authority_id = authority_id

    async def keys(self) -> dict[int, tuple[Key, bytes]]:
        """Every key and its certificate, by generation."""
        rows = await self._connection.fetch(
            "SELECT g.generation_id, g.number, g.state, c.not_before, c.not_after, g.signs_from, g.signs_until,"
            " g.certificate FROM ca_generation g JOIN certificate c ON c.der = g.certificate"
            " WHERE g.authority_id = $1 AND c.kind = 'self-signed' ORDER BY g.number",
            self._authority_id,
        )
        return {row["generation_id"]: (_key(row), row["certificate"]) for row in rows}

    async def certificates(self, not_expired_at: datetime) -> dict[int, Certificate]:
        """The certificates that end then or later, by serial number."""
        rows = await self._connection.fetch(
            "SELECT c.serial, c.generation_id, c.kind, coalesce(p.code, p.kind) AS label, c.not_before, c.not_after,"
            " c.issued_at, r.received_at, r.revoked_at, r.reason, r.invalidity_date"
            " FROM certificate c JOIN partition p USING (partition_id) LEFT JOIN revocation r USING (serial)"
            " WHERE p.authority_id = $1 AND c.not_after >= $2",
            self._authority_id,
            not_expired_at,
        )
        return {row["serial"]: _certificate(row) for row in rows}


class Shown:
    """What the directory reads, as role prefca_repository."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def objects(self) -> list[PublishedObject]:
        """Everything that is published, in order."""
        rows = await self._connection.fetch(
            "SELECT entry_dn, attribute, value, sha256, public, published_at, first_published_at"
            " FROM published_object_v1 ORDER BY authority_id, position"
        )
        return [PublishedObject(**row) for row in rows]


def _key(row: asyncpg.Record) -> Key:
    return Key(
        *(row["generation_id"], row["number"], row["state"]),
        Validity(row["not_before"], row["not_after"]),
        Validity(row["signs_from"], row["signs_until"]),
    )


def _certificate(row: asyncpg.Record) -> Certificate:
    revoked = None
    if row["revoked_at"] is not None:
        revoked = Revoked(row["revoked_at"], CRLReason(row["reason"]), row["invalidity_date"])
    return Certificate(
        *(row["serial"], row["generation_id"], Kind(row["kind"]), row["label"]),
        Validity(row["not_before"], row["not_after"]),
        *(row["issued_at"], row["received_at"], revoked),
    )
