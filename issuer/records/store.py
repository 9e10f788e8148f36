"""The SQL of issuing, revoking and publishing. A row becomes a value at once; transactions are the caller's."""

import json
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import asyncpg
from asyncpg.transaction import Transaction

from issuer.errors import KeyReplacedError, RefusedError
from issuer.profiles.authority import Authority, Kind, Partition
from issuer.profiles.generation import State
from issuer.profiles.municipality import PREFECTURES
from issuer.records import binary_copy
from issuer.records.rows import (
    CertificateRow,
    DelegateRow,
    Entries,
    Generation,
    HistoryRow,
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


class AlreadyThereError(Exception):
    """What would be recorded is unique, and exists."""


class Store:
    """The database, as role prefca_issuer."""

    def __init__(self, connection: asyncpg.Connection, origin: str) -> None:
        self._connection = connection
        self._origin = origin

    def transaction(self) -> Transaction:
        """What is done inside is done together or not at all."""
        return self._connection.transaction()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[None]:
        """What is read inside is of one moment, however long what is read is worked on."""
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            await self._connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield

    async def record(self, kind: str, at: datetime, target: str, detail: dict[str, Any] | None = None) -> None:
        """Record an act in the transaction of the act (R-4-11-2-2)."""
        await self.record_many(kind, at, [(target, detail or {})])

    async def record_failure(
        self, kind: str, at: datetime, target: str, result: str = "refused", detail: dict[str, Any] | None = None
    ) -> None:
        """Record an act that was refused, or failed."""
        await self._record(at, kind, [(target, json.dumps(detail or {}))], result=result)

    async def record_many(self, kind: str, at: datetime, acts: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Record several acts of one kind."""
        await self._record(at, kind, ((target, json.dumps(detail)) for target, detail in acts))

    async def record_alike(self, kind: str, at: datetime, targets: Iterable[str], detail: dict[str, Any]) -> None:
        """Record acts of one kind that differ in their targets only."""
        encoded = json.dumps(detail)
        await self._record(at, kind, ((target, encoded) for target in targets))

    async def _record(self, at: datetime, kind: str, acts: Iterable[tuple[str, str]], result: str = "done") -> None:
        # So that whoever reads on from a number waits for those that have taken a lower one and are not committed.
        await self._connection.execute("SELECT pg_advisory_xact_lock_shared(5, 0)")
        rows = [(at, kind, result, self._origin, target, detail) for target, detail in acts]
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

    async def has_key(self, authority_id: int) -> bool:
        """Whether the authority has or ever had a key."""
        found: bool = await self._connection.fetchval(
            "SELECT EXISTS (SELECT FROM ca_generation WHERE authority_id = $1)", authority_id
        )
        return found

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

    async def expect_many_lookups(self) -> None:
        """From now on, look things up by their indexes.

        A plan made while a table is nearly empty reads it whole, and stays while the table grows. And a plan for each
        list of hundreds of values costs more than the look-up.
        """
        await self._connection.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")

    async def registrations(self, authority_id: int) -> int:
        """How many transactions have registered residents: what was read since is true while this does not change."""
        number: int = await self._connection.fetchval(
            "SELECT registrations FROM authority WHERE authority_id = $1", authority_id
        )
        return number

    async def begin_registration(self, authority_id: int) -> int:
        """Be the only one that registers until the transaction ends; how many have done so before."""
        before: int = await self._connection.fetchval(
            "UPDATE authority SET registrations = registrations + 1 WHERE authority_id = $1"
            " RETURNING registrations - 1",
            authority_id,
        )
        return before

    async def require_active(self, generation_id: int) -> None:
        """Until the transaction ends the key stays the one that signs.

        A statement of its own, after `begin_registration`: one that had to wait for a lock sees of other rows what they
        were before it waited.

        Raises:
            KeyReplacedError: another one took over meanwhile.
            RefusedError: it was compromised meanwhile.
        """
        state = await self._connection.fetchval(
            "SELECT state FROM ca_generation WHERE generation_id = $1 FOR SHARE", generation_id
        )
        if state == State.RETIRED:
            raise KeyReplacedError(
                "another key of the CA took over meanwhile; what was not reported as done is not done: run it again"
            )
        if state != State.ACTIVE:
            raise RefusedError("the key that signed is no longer active; `prefca status` tells what to do")

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

    async def certified_keys(self, hashes: Collection[bytes]) -> set[bytes]:
        """Which of these SHA-256 of a SubjectPublicKeyInfo a resident's certificate has already."""
        rows = await self._connection.fetch(
            "SELECT spki_sha256 FROM certificate WHERE kind = 'resident' AND spki_sha256 = ANY($1)", hashes
        )
        return {row["spki_sha256"] for row in rows}

    async def subject_numbers(self, count: int) -> list[int]:
        """Numbers that make subjects unique inside the CA (R-3-1-4): 0 .. 999,999,999, each handed out once."""
        rows = await self._connection.fetch("SELECT nextval('subject_number') AS n FROM generate_series(1, $1)", count)
        return [row["n"] for row in rows]

    async def add_certificates(self, certificates: Iterable[NewCertificate], now: datetime) -> None:
        """Record certificates.

        Raises:
            AlreadyThereError: a serial number or a resident's key exists already.
        """
        rows = [
            (
                c.serial,
                c.generation_id,
                c.partition_id,
                c.kind,
                c.validity.not_before,
                c.validity.not_after,
                c.spki_sha256,
                c.der,
                now,
            )
            for c in certificates
        ]
        columns = [
            *("serial", "generation_id", "partition_id", "kind", "not_before", "not_after"),
            *("spki_sha256", "der", "issued_at"),
        ]
        try:
            await self._connection.copy_records_to_table("certificate", records=rows, columns=columns)
        except asyncpg.UniqueViolationError as e:
            raise AlreadyThereError from e

    async def add_holders(self, holders: Iterable[NewHolder]) -> None:
        """Record who holds certificates that were just added."""
        await self._connection.copy_records_to_table("holder", records=holders, columns=NewHolder._fields)

    async def certificates(self, authority_id: int, serials: Collection[int]) -> dict[int, CertificateRow]:
        """Those of the serial numbers that this authority issued."""
        rows = await self._connection.fetch(
            f"{_CERTIFICATE} FROM certificate c LEFT JOIN revocation r USING (serial)"
            " JOIN partition p ON p.partition_id = c.partition_id WHERE c.serial = ANY($1) AND p.authority_id = $2",
            serials,
            authority_id,
        )
        return {row["serial"]: _certificate(row) for row in rows}

    async def issuers(self, serials: Collection[int]) -> dict[int, Authority]:
        """Who issued those of the serial numbers that exist."""
        rows = await self._connection.fetch(
            "SELECT c.serial, a.prefecture, a.hierarchy FROM certificate c JOIN ca_generation g USING (generation_id)"
            " JOIN authority a USING (authority_id) WHERE c.serial = ANY($1)",
            serials,
        )
        return {row["serial"]: Authority(PREFECTURES[row["prefecture"]], row["hierarchy"]) for row in rows}

    async def newest_certificates(self, authority_id: int, kind: Kind, limit: int) -> list[CertificateRow]:
        """The newest certificates of a kind."""
        # The newest of each key, so that each look-up is by an index, and of all these the newest.
        rows = await self._connection.fetch(
            f"{_CERTIFICATE} FROM ca_generation g CROSS JOIN LATERAL"  # noqa: S608 - a constant
            " (SELECT * FROM certificate WHERE kind = $1 AND generation_id = g.generation_id"
            " ORDER BY issued_at DESC, serial LIMIT $3) c LEFT JOIN revocation r USING (serial)"
            " WHERE g.authority_id = $2 ORDER BY c.issued_at DESC, c.serial LIMIT $3",
            kind,
            authority_id,
            limit,
        )
        return [_certificate(row) for row in rows]

    async def serials_of_notice(self, notice_number: str) -> list[int]:
        """What was issued for the notices with this number of their municipality's. Looks at every holder."""
        rows = await self._connection.fetch("SELECT serial FROM holder WHERE notice_number = $1", notice_number)
        return [row["serial"] for row in rows]

    async def history(self, authority_id: int, serials: Collection[int]) -> list[HistoryRow]:
        """Those that this authority issued, and all others of the same persons, the oldest first."""
        rows = await self._connection.fetch(
            "WITH sought AS (SELECT unnest($2::bigint[]) AS serial UNION SELECT other.serial"  # noqa: S608 - a constant
            " FROM holder one JOIN holder other USING (person) WHERE one.serial = ANY($2))"
            f" {_CERTIFICATE}, c.issued_at, p.code, h.notice_number, r.received_at"
            " FROM sought JOIN certificate c USING (serial) JOIN partition p USING (partition_id)"
            " LEFT JOIN holder h USING (serial) LEFT JOIN revocation r USING (serial)"
            " WHERE p.authority_id = $1 ORDER BY c.issued_at, r.revoked_at NULLS LAST, c.serial",
            authority_id,
            serials,
        )
        return [
            HistoryRow(_certificate(row), row["issued_at"], row["code"], row["notice_number"], row["received_at"])
            for row in rows
        ]

    async def delegates(self, authority_id: int) -> list[DelegateRow]:
        """All OCSP delegates, the newest first."""
        rows = await self._connection.fetch(
            f"{_CERTIFICATE}, g.number, c.not_before"
            " FROM certificate c LEFT JOIN revocation r USING (serial)"
            " JOIN ca_generation g ON g.generation_id = c.generation_id"
            " WHERE c.kind = 'ocsp' AND g.authority_id = $1 ORDER BY c.issued_at DESC, c.serial",
            authority_id,
        )
        return [DelegateRow(row["number"], row["not_before"], _certificate(row)) for row in rows]

    async def counts(self, authority_id: int, now: datetime) -> tuple[int, int, int]:
        """Residents' certificates: issued, revoked, and valid at `now`."""
        # Counted apart, each in an index alone. Municipalities' lists are those of residents.
        ((issued, unexpired),) = await self._connection.fetch(
            "SELECT count(*), count(*) FILTER (WHERE c.not_after >= $2) FROM certificate c"
            " JOIN ca_generation g USING (generation_id) WHERE c.kind = 'resident' AND g.authority_id = $1",
            authority_id,
            now,
        )
        ((revoked, revoked_unexpired),) = await self._connection.fetch(
            "SELECT count(*), count(*) FILTER (WHERE r.not_after >= $2) FROM revocation r"
            " JOIN partition p USING (partition_id) WHERE p.kind = 'municipality' AND p.authority_id = $1",
            authority_id,
            now,
        )
        return issued, revoked, unexpired - revoked_unexpired

    # ---------------------------------------------------------------- revocation

    async def lock_certificates(self, serials: Iterable[int]) -> None:
        """Until the transaction ends nobody else revokes these. In order, so that two cannot wait for each other."""
        # Locks of buckets: those of single serial numbers would fill the server's table of locks (some 10,000).
        await self._connection.execute(
            "SELECT pg_advisory_xact_lock(6, bucket)"
            " FROM (SELECT DISTINCT (serial % 1024)::int AS bucket FROM unnest($1::bigint[]) AS serial ORDER BY 1) b",
            list(serials),
        )

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

    async def revoke_generation(self, generation_id: int, status: Revoked, entry: tuple[bytes, bytes]) -> int:
        """Revoke at once every certificate that a key signed and that has neither expired nor been revoked.

        Links of the key that another one signed, too: they lead to what it signed, and to what a thief signs with it.

        Args:
            generation_id: the key.
            status: what is said of all of them; its time is also that of reception.
            entry: the octets of each list entry in front of the 8 of the serial number, and behind.

        Returns:
            How many they were.
        """
        tag: str = await self._connection.execute(
            "INSERT INTO revocation (serial, partition_id, reason, received_at, revoked_at, not_after, entry)"
            " SELECT serial, partition_id, $2, $3, $3, not_after, $4 || int8send(serial) || $5 FROM certificate"
            " WHERE not_after >= $3 AND (generation_id = $1 OR kind = 'link' AND spki_sha256 ="
            " (SELECT spki_sha256 FROM certificate WHERE kind = 'self-signed' AND generation_id = $1))"
            " ORDER BY partition_id, serial ON CONFLICT (serial) DO NOTHING",
            *(generation_id, status.reason, status.at, *entry),
        )
        return int(tag.rsplit(" ", 1)[1])

    # ---------------------------------------------------------------- lists and publications

    async def reserve_crl_numbers(self, authority_id: int) -> dict[int, int]:
        """The next CRLNumber of every partition, never handed out again: commit before signing."""
        rows = await self._connection.fetch(
            "UPDATE partition SET next_crl_number = next_crl_number + 1 WHERE authority_id = $1"
            " RETURNING partition_id, next_crl_number - 1 AS crl_number",
            authority_id,
        )
        return {row["partition_id"]: row["crl_number"] for row in rows}

    async def next_crl_numbers(self, authority_id: int) -> dict[int, int]:
        """What `reserve_crl_numbers` would give."""
        rows = await self._connection.fetch(
            "SELECT partition_id, next_crl_number FROM partition WHERE authority_id = $1", authority_id
        )
        return {row["partition_id"]: row["next_crl_number"] for row in rows}

    async def lock_publication(self, authority_id: int) -> bool:
        """Be the only batch of this authority while the connection lives; False: another one runs."""
        taken: bool = await self._connection.fetchval("SELECT pg_try_advisory_lock(2, $1)", authority_id)
        return taken

    async def unlock_publication(self, authority_id: int) -> None:
        """Let the next batch run."""
        await self._connection.execute("SELECT pg_advisory_unlock(2, $1)", authority_id)

    async def lock_making(self) -> bool:
        """Be the only one that makes a key of a CA while the connection lives; False: somebody else does.

        It is one for all CAs: their first key is made before they have a number.
        """
        taken: bool = await self._connection.fetchval("SELECT pg_try_advisory_lock(13, 0)")
        return taken

    async def unlock_making(self) -> None:
        """Let the next one make a key."""
        await self._connection.execute("SELECT pg_advisory_unlock(13, 0)")

    async def lock_schedule(self, authority_id: int) -> bool:
        """Be the only scheduler of this authority while the connection lives; False: there is another one.

        The server asks an idle connection every few seconds whether its other end is still there: a machine that lost
        its power cannot say good-bye.
        """
        await self._connection.execute(
            "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4"
        )
        taken: bool = await self._connection.fetchval("SELECT pg_try_advisory_lock(3, $1)", authority_id)
        return taken

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

    async def entries(
        self, partition_id: int, cut_off: datetime, previous: Publication | None, now: datetime | None = None
    ) -> Entries:
        """What belongs on the list of a partition.

        All whose reception ended by the cut-off (R-4-4-3-1), without those that were on a list issued after their
        certificate's expiry (RFC 5280, section 3.3). Read in blocks, so that neither side holds a large list twice.

        Args:
            partition_id: whose list.
            cut_off: when reception had to end.
            previous: what was published before.
            now: what was received later than this was dated by a clock that was ahead, and belongs there, too.
        """
        rows = [row async for row in self._blocks_of_entries(partition_id, cut_off, previous, now)]
        return Entries(
            tuple(row["entries"] for row in rows if row["count"]),
            sum(row["count"] for row in rows),
            *(
                max((row[column] for row in rows if row[column] is not None), default=None)
                for column in ("last", "left_out_expiry", "left_out_received")
            ),
        )

    async def _blocks_of_entries(
        self, partition_id: int, cut_off: datetime, previous: Publication | None, now: datetime | None
    ) -> AsyncIterator[asyncpg.Record]:
        stays_from = previous.window.this_update - LATE_REVOCATION if previous else None
        received_after = previous.cut_off if previous else None
        position = 0
        while True:
            row = await self._connection.fetchrow(
                _BLOCK_OF_ENTRIES, partition_id, position, cut_off, stays_from, received_after, now
            )
            if row is None or row["position"] is None:
                return
            yield row
            if row["read"] < BLOCK_ENTRIES:
                return
            position = row["position"]

    async def add_publication(self, authority_id: int, cut_off: datetime, window: UpdateWindow, now: datetime) -> int:
        """A publication, in force with all its objects when the caller's transaction ends."""
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
        return publication_id

    async def add_object(self, publication_id: int, position: int, new: NewObject) -> None:
        """One value of a publication; `position` orders the values of one attribute."""
        columns = {
            "publication_id": publication_id.to_bytes(8, "big"),
            "position": position.to_bytes(4, "big"),
            "entry_dn": new.entry_dn.encode(),
            "attribute": new.attribute.encode(),
            "value": new.value,
            "sha256": sha256(new.value).digest(),
            "public": new.public.to_bytes(1, "big"),
            "partition_id": None if new.partition_id is None else new.partition_id.to_bytes(4, "big"),
            "crl_number": None if new.crl_number is None else new.crl_number.to_bytes(8, "big"),
            "entries": None if new.entries is None else new.entries.to_bytes(4, "big"),
            "generation": None if new.generation is None else new.generation.to_bytes(2, "big"),
        }

        async def pieces() -> AsyncIterator[bytes]:
            for piece in binary_copy.row(*columns.values()):
                yield piece

        await self._connection.copy_to_table(
            "published_object", source=pieces(), columns=list(columns), format="binary"
        )

    async def published_lists(self, publication_id: int) -> list[PublishedList]:
        """The lists of a publication, the CA's own first; of one that two keys signed, the newer key first."""
        rows = await self._connection.fetch(
            "SELECT p.partition_id, p.kind, p.code, o.crl_number, o.entries, octet_length(o.value), o.generation"
            " FROM published_object o JOIN partition p USING (partition_id)"
            " WHERE o.publication_id = $1 ORDER BY o.position",
            publication_id,
        )
        return [PublishedList(*row) for row in rows]


# What belongs on a list stays some time longer: a revocation may have been decided before that list, in time, and come
# into the database after it was made, by a long transaction or another machine's clock.
LATE_REVOCATION: Final = timedelta(hours=1)

BLOCK_ENTRIES: Final = 100_000
_BLOCK_OF_ENTRIES: Final = f"""
    SELECT count(*) AS read,
           max(serial) AS position,
           string_agg(entry, ''::bytea ORDER BY serial) FILTER (WHERE stays) AS entries,
           count(*) FILTER (WHERE stays) AS count,
           max(serial) FILTER (WHERE stays) AS last,
           max(not_after) FILTER (WHERE received AND NOT stays) AS left_out_expiry,
           max(received_at) FILTER (WHERE received AND NOT stays) AS left_out_received
    FROM (SELECT serial, entry, not_after, received_at, received,
                 received AND ($4::timestamptz IS NULL OR not_after >= $4 OR received_at > $5) AS stays
          FROM (SELECT serial, entry, not_after, received_at,
                       received_at <= $3 OR received_at > $6::timestamptz IS TRUE AS received
                FROM revocation WHERE partition_id = $1 AND serial > $2 ORDER BY serial LIMIT {BLOCK_ENTRIES}) dated
         ) block"""  # noqa: S608 - a constant

_CERTIFICATE = "SELECT c.serial, c.partition_id, c.kind, c.not_after, c.der, r.revoked_at, r.reason, r.invalidity_date"


def _certificate(row: asyncpg.Record) -> CertificateRow:
    revoked = None
    if row["revoked_at"] is not None:
        revoked = Revoked(row["revoked_at"], CRLReason(row["reason"]), row["invalidity_date"])
    return CertificateRow(row["serial"], row["partition_id"], Kind(row["kind"]), row["not_after"], row["der"], revoked)


def _partition_columns(partition: Partition) -> tuple[str, str | None, str, str, bytes]:
    idp = issuing_distribution_point(partition.point, partition.scope).public_bytes()
    return partition.kind, partition.code, text(partition.point), partition.attribute, idp
