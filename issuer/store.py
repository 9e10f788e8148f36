"""The SQL of issuing, revoking and publishing. A row becomes a value at once; transactions are the caller's."""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

import asyncpg
from asyncpg.transaction import Transaction

from issuer.authority import Authority, Kind, Partition
from issuer.rows import (
    CertificateRow,
    Generation,
    NewCertificate,
    NewHolder,
    NewObject,
    NewRevocation,
    PartitionRow,
    Publication,
    PublishedList,
)
from pkix.distribution import issuing_distribution_point
from pkix.names import text
from pkix.revocation import CRLReason, Revoked
from pkix.validity import UpdateWindow, Validity


class Store:
    """The database, as role prefca_issuer."""

    def __init__(self, connection: asyncpg.Connection, origin: str) -> None:
        self._connection = connection
        self._origin = origin

    def transaction(self) -> Transaction:
        """What is done inside is done together or not at all."""
        return self._connection.transaction()

    def snapshot(self) -> Transaction:
        """What is read inside is of one moment."""
        return self._connection.transaction(isolation="repeatable_read", readonly=True)

    async def record(self, kind: str, at: datetime, target: str, detail: dict[str, Any] | None = None) -> None:
        """Record an act in the transaction of the act (R-4-11-2-2)."""
        await self.record_many(kind, at, [(target, detail or {})])

    async def record_many(self, kind: str, at: datetime, acts: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Record several acts of one kind."""
        rows = [(at, kind, "done", self._origin, target, json.dumps(detail)) for target, detail in acts]
        await self._connection.copy_records_to_table(
            "operation_record", records=rows, columns=["at", "kind", "result", "origin", "object", "detail"]
        )

    # ---------------------------------------------------------------- authority and keys

    async def authority_id(self, authority: Authority) -> int | None:
        """The number of an authority that is set up."""
        found: int | None = await self._connection.fetchval(
            "SELECT authority_id FROM authority WHERE prefecture = $1 AND hierarchy = $2",
            authority.prefecture.name_romaji,
            authority.hierarchy,
        )
        return found

    async def add_authority(self, authority: Authority, now: datetime) -> int:
        """Record an authority and its partitions."""
        authority_id: int = await self._connection.fetchval(
            "INSERT INTO authority (prefecture, hierarchy, name, entry_dn, created_at)"
            " VALUES ($1, $2, $3, $4, $5) RETURNING authority_id",
            authority.prefecture.name_romaji,
            authority.hierarchy,
            authority.name.public_bytes(),
            text(authority.name),
            now,
        )
        await self._connection.executemany(
            "INSERT INTO partition (authority_id, kind, code, entry_dn, attribute, idp)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            [(authority_id, *_partition_columns(partition)) for partition in authority.partitions()],
        )
        return authority_id

    async def add_generation(self, authority_id: int, key_reference: str, certificate: bytes, signs: Validity) -> int:
        """Record the first key of an authority, active at once."""
        generation_id: int = await self._connection.fetchval(
            "INSERT INTO ca_generation"
            " (authority_id, number, key_reference, certificate, signs_from, signs_until, state)"
            " VALUES ($1, 1, $2, $3, $4, $5, 'active') RETURNING generation_id",
            authority_id,
            key_reference,
            certificate,
            signs.not_before,
            signs.not_after,
        )
        return generation_id

    async def active_generation(self, authority_id: int) -> Generation | None:
        """The key that signs now."""
        row = await self._connection.fetchrow(
            "SELECT generation_id, authority_id, number, key_reference, certificate, signs_until"
            " FROM ca_generation WHERE authority_id = $1 AND state = 'active'",
            authority_id,
        )
        return None if row is None else Generation(*row)

    async def partitions(self, authority_id: int) -> list[PartitionRow]:
        """All partitions, the CA's own first."""
        rows = await self._connection.fetch(
            "SELECT partition_id, kind, code, entry_dn, attribute, idp FROM partition"
            " WHERE authority_id = $1 ORDER BY partition_id",
            authority_id,
        )
        return [PartitionRow(*row) for row in rows]

    # ---------------------------------------------------------------- certificates

    async def lock_registration(self, authority_id: int) -> None:
        """Until the transaction ends nobody else registers: two notices of one person cannot pass side by side."""
        await self._connection.execute("SELECT pg_advisory_xact_lock(1, $1)", authority_id)

    async def issued_for(self, authority_id: int, notice_ids: Collection[bytes]) -> dict[bytes, CertificateRow]:
        """What this authority issued for these notices before."""
        rows = await self._connection.fetch(
            f"{_CERTIFICATE}, h.notice_id FROM holder h JOIN certificate c USING (serial)"
            " LEFT JOIN revocation r USING (serial) JOIN partition p ON p.partition_id = c.partition_id"
            " WHERE h.notice_id = ANY($1) AND p.authority_id = $2",
            notice_ids,
            authority_id,
        )
        return {row["notice_id"]: _certificate(row) for row in rows}

    async def valid_of(
        self, authority_id: int, persons: Collection[bytes], now: datetime
    ) -> dict[bytes, CertificateRow]:
        """The certificate that each of these persons holds: neither expired nor revoked (R-4-2-3-1)."""
        rows = await self._connection.fetch(
            f"{_CERTIFICATE}, h.person FROM holder h JOIN certificate c USING (serial)"
            " LEFT JOIN revocation r USING (serial) JOIN partition p ON p.partition_id = c.partition_id"
            " WHERE h.person = ANY($1) AND p.authority_id = $2 AND c.not_after >= $3 AND r.serial IS NULL",
            persons,
            authority_id,
            now,
        )
        return {row["person"]: _certificate(row) for row in rows}

    async def certified_keys(self, spkis: Collection[bytes]) -> set[bytes]:
        """Which of these SubjectPublicKeyInfos a resident's certificate has already."""
        by_hash = {sha256(spki).digest(): spki for spki in spkis}
        rows = await self._connection.fetch(
            "SELECT spki_sha256 FROM certificate WHERE kind = 'resident' AND spki_sha256 = ANY($1)", list(by_hash)
        )
        return {by_hash[row["spki_sha256"]] for row in rows}

    async def subject_numbers(self, count: int) -> list[int]:
        """Numbers that make subjects unique inside the CA (R-3-1-4): 0 .. 999,999,999, each handed out once."""
        rows = await self._connection.fetch("SELECT nextval('subject_number') AS n FROM generate_series(1, $1)", count)
        return [row["n"] for row in rows]

    async def add_certificates(self, certificates: Iterable[NewCertificate], now: datetime) -> None:
        """Record certificates.

        Raises:
            asyncpg.UniqueViolationError: a serial number or a resident's key exists already.
        """
        await self._connection.copy_records_to_table(
            "certificate",
            records=[
                (
                    c.serial,
                    c.generation_id,
                    c.partition_id,
                    c.kind,
                    c.validity.not_before,
                    c.validity.not_after,
                    sha256(c.spki).digest(),
                    c.der,
                    now,
                )
                for c in certificates
            ],
            columns=[
                *("serial", "generation_id", "partition_id", "kind", "not_before", "not_after"),
                *("spki_sha256", "der", "issued_at"),
            ],
        )

    async def add_holders(self, holders: Iterable[NewHolder]) -> None:
        """Record who holds certificates that were just added."""
        columns = [
            *("serial", "notice_id", "person", "notice_number"),
            *("common_name", "date_of_birth", "gender", "address"),
        ]
        await self._connection.copy_records_to_table(
            "holder", records=[tuple(getattr(h, column) for column in columns) for h in holders], columns=columns
        )

    async def certificates(self, authority_id: int, serials: Collection[int]) -> dict[int, CertificateRow]:
        """Those of the serial numbers that this authority issued."""
        rows = await self._connection.fetch(
            f"{_CERTIFICATE} FROM certificate c LEFT JOIN revocation r USING (serial)"
            " JOIN partition p ON p.partition_id = c.partition_id WHERE c.serial = ANY($1) AND p.authority_id = $2",
            serials,
            authority_id,
        )
        return {row["serial"]: _certificate(row) for row in rows}

    async def newest_certificates(self, authority_id: int, kind: Kind, limit: int) -> list[CertificateRow]:
        """The newest certificates of a kind."""
        rows = await self._connection.fetch(
            f"{_CERTIFICATE} FROM certificate c LEFT JOIN revocation r USING (serial)"
            " JOIN partition p ON p.partition_id = c.partition_id WHERE c.kind = $1 AND p.authority_id = $2"
            " ORDER BY c.issued_at DESC, c.serial LIMIT $3",
            kind,
            authority_id,
            limit,
        )
        return [_certificate(row) for row in rows]

    async def counts(self, authority_id: int, now: datetime) -> tuple[int, int, int]:
        """Residents' certificates: issued, revoked, and valid at `now`."""
        row = await self._connection.fetchrow(
            "SELECT count(*) AS issued, count(r.serial) AS revoked,"
            " count(*) FILTER (WHERE r.serial IS NULL AND c.not_after >= $2) AS valid"
            " FROM certificate c LEFT JOIN revocation r USING (serial)"
            " JOIN partition p ON p.partition_id = c.partition_id"
            " WHERE c.kind = 'resident' AND p.authority_id = $1",
            authority_id,
            now,
        )
        return (0, 0, 0) if row is None else (row["issued"], row["revoked"], row["valid"])

    # ---------------------------------------------------------------- revocation

    async def lock_certificates(self, serials: Iterable[int]) -> None:
        """Until the transaction ends nobody else revokes these. In order, so that two cannot wait for each other."""
        for serial in sorted(serials):
            await self._connection.execute("SELECT pg_advisory_xact_lock($1)", serial)

    async def add_revocations(self, revocations: Iterable[NewRevocation]) -> None:
        """Record revocations; responders hear of them when the transaction commits."""
        await self._connection.copy_records_to_table(
            "revocation",
            records=[
                (
                    r.serial,
                    r.partition_id,
                    r.status.reason,
                    r.received_at,
                    r.status.at,
                    r.status.invalidity_date,
                    r.not_after,
                    r.entry,
                )
                for r in revocations
            ],
            columns=[
                *("serial", "partition_id", "reason", "received_at", "revoked_at", "invalidity_date"),
                *("not_after", "entry"),
            ],
        )

    # ---------------------------------------------------------------- lists and publications

    async def reserve_crl_numbers(self, authority_id: int) -> dict[int, int]:
        """The next CRLNumber of every partition, never handed out again: commit before signing."""
        rows = await self._connection.fetch(
            "UPDATE partition SET next_crl_number = next_crl_number + 1 WHERE authority_id = $1"
            " RETURNING partition_id, next_crl_number - 1 AS crl_number",
            authority_id,
        )
        return {row["partition_id"]: row["crl_number"] for row in rows}

    async def lock_publication(self, authority_id: int) -> bool:
        """Be the only batch of this authority while the connection lives; False: another one runs."""
        taken: bool = await self._connection.fetchval("SELECT pg_try_advisory_lock(2, $1)", authority_id)
        return taken

    async def unlock_publication(self, authority_id: int) -> None:
        """Let the next batch run."""
        await self._connection.execute("SELECT pg_advisory_unlock(2, $1)", authority_id)

    async def publication_in_force(self, authority_id: int) -> Publication | None:
        """The newest publication."""
        row = await self._connection.fetchrow(
            "SELECT publication_id, cut_off, this_update, next_publish, next_update FROM publication"
            " WHERE authority_id = $1 ORDER BY publication_id DESC LIMIT 1",
            authority_id,
        )
        if row is None:
            return None
        window = UpdateWindow(row["this_update"], row["next_publish"], row["next_update"])
        return Publication(row["publication_id"], row["cut_off"], window)

    async def entries(self, partition_id: int, cut_off: datetime, previous: Publication | None) -> tuple[bytes, int]:
        """The revokedCertificates elements of a partition, joined by serial number, and how many they are.

        All whose reception ended by the cut-off (R-4-4-3-1), without those that were on a list issued after their
        certificate's expiry (RFC 5280, section 3.3).
        """
        row = await self._connection.fetchrow(
            "SELECT string_agg(entry, ''::bytea ORDER BY serial) AS joined, count(*) AS number FROM revocation"
            " WHERE partition_id = $1 AND received_at <= $2"
            " AND ($3::timestamptz IS NULL OR not_after >= $3 OR received_at > $4)",
            partition_id,
            cut_off,
            previous.window.this_update if previous else None,
            previous.cut_off if previous else None,
        )
        return (b"", 0) if row is None or row["joined"] is None else (row["joined"], row["number"])

    async def publish(
        self, authority_id: int, cut_off: datetime, window: UpdateWindow, objects: Sequence[NewObject], now: datetime
    ) -> int:
        """Make a set of objects the publication in force, in the caller's transaction."""
        publication_id: int = await self._connection.fetchval(
            "INSERT INTO publication (authority_id, cut_off, this_update, next_publish, next_update, published_at)"
            " VALUES ($1, $2, $3, $4, $5, $6) RETURNING publication_id",
            authority_id,
            cut_off,
            window.this_update,
            window.next_publish,
            window.next_update,
            now,
        )
        await self._connection.copy_records_to_table(
            "published_object",
            records=[
                (
                    publication_id,
                    position,
                    o.entry_dn,
                    o.attribute,
                    o.value,
                    sha256(o.value).digest(),
                    o.public,
                    o.partition_id,
                    o.crl_number,
                    o.entries,
                )
                for position, o in enumerate(objects)
            ],
            columns=[
                *("publication_id", "position", "entry_dn", "attribute", "value", "sha256", "public"),
                *("partition_id", "crl_number", "entries"),
            ],
        )
        return publication_id

    async def lists_in_force(self, publication_id: int) -> list[PublishedList]:
        """The lists of a publication, the CA's own first."""
        rows = await self._connection.fetch(
            "SELECT p.kind, p.code, o.crl_number, o.entries, o.value"
            " FROM published_object o JOIN partition p USING (partition_id)"
            " WHERE o.publication_id = $1 ORDER BY p.partition_id",
            publication_id,
        )
        return [PublishedList(*row) for row in rows]


_CERTIFICATE = "SELECT c.serial, c.partition_id, c.kind, c.not_after, c.der, r.revoked_at, r.reason, r.invalidity_date"


def _certificate(row: asyncpg.Record) -> CertificateRow:
    revoked = None
    if row["revoked_at"] is not None:
        revoked = Revoked(row["revoked_at"], CRLReason(row["reason"]), row["invalidity_date"])
    return CertificateRow(row["serial"], row["partition_id"], Kind(row["kind"]), row["not_after"], row["der"], revoked)


def _partition_columns(partition: Partition) -> tuple[str, str | None, str, str, bytes]:
    idp = issuing_distribution_point(partition.point, partition.scope).public_bytes()
    return partition.kind, partition.code, text(partition.point), partition.attribute, idp
