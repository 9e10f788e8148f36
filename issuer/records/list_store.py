"""All SQL about lists that were published: every one is kept (失効情報ファイル: R-4-12-2-1), none is changed."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from issuer.records.rows import Publication
from pkix.validity import UpdateWindow

REPLACED: Final = "replaced_lists_of_the_future"  # in the record of a publication: which one


@dataclass(frozen=True, slots=True)
class KeptList:
    """A list that was published once, without its octets."""

    publication: Publication  # that it was a part of
    published_at: datetime
    partition_id: int
    label: str  # of its partition: the code of a municipality, `ca` or `operations`
    idp: bytes  # DER of IssuingDistributionPoint, as it was fixed with the partition
    crl_number: int
    entries: int
    size: int  # octets
    sha256: bytes
    generation: int = 1  # number of the CA's key that signed it


@dataclass(frozen=True, slots=True)
class Selection:
    """Which lists. All conditions hold together; None is none."""

    label: str | None = None
    crl_number: int | None = None
    publication_id: int | None = None
    since: datetime | None = None  # thisUpdate is then or later
    until: datetime | None = None  # thisUpdate is then or earlier
    generation: int | None = None  # number of the CA's key that signed it


class ListStore:
    """The lists of all authorities, as role prefca_issuer."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def lists(self, authority_id: int, selection: Selection) -> AsyncIterator[KeptList]:
        """Lists of an authority, partition by partition, in the order of their publication. Inside a transaction."""
        rows = self._connection.cursor(
            f"{_LISTS} ORDER BY o.partition_id, o.publication_id, o.generation", *_conditions(authority_id, selection)
        )
        async for row in rows:
            yield _kept(row)

    async def newest(self, authority_id: int, selection: Selection, limit: int) -> list[KeptList]:
        """Lists of an authority, the newest publication first; of one that two keys signed, the newer key first."""
        rows = await self._connection.fetch(
            f"{_LISTS} ORDER BY o.publication_id DESC, o.partition_id, o.generation DESC LIMIT $8",
            *_conditions(authority_id, selection),
            limit,
        )
        return [_kept(row) for row in rows]

    async def publication_at(self, authority_id: int, moment: datetime) -> Publication | None:
        """The newest publication that was published by a moment."""
        row = await self._connection.fetchrow(
            "SELECT publication_id, cut_off, this_update, next_publish, next_update FROM publication"
            " WHERE authority_id = $1 AND published_at <= $2 ORDER BY publication_id DESC LIMIT 1",
            authority_id,
            moment,
        )
        return None if row is None else _publication(row)

    async def before(self, kept: KeptList, published_by: datetime | None = None) -> KeptList | None:
        """The list that one followed, whichever key signed it; with `published_by`, the last published by then."""
        row = await self._connection.fetchrow(
            f"{_LIST} WHERE o.partition_id = $1 AND o.publication_id < $2"
            " AND ($3::timestamptz IS NULL OR n.published_at <= $3)"
            " ORDER BY o.publication_id DESC, o.generation DESC LIMIT 1",
            *(kept.partition_id, kept.publication.publication_id, published_by),
        )
        return None if row is None else _kept(row)

    async def replaced_lists_of_the_future(self, publication_id: int) -> bool:
        """Whether a person said, when lists were published, that the clock of those before was ahead."""
        said: bool = await self._connection.fetchval(
            "SELECT EXISTS (SELECT FROM operation_record WHERE kind = 'published' AND object = $1 AND detail ? $2)",
            *(str(publication_id), REPLACED),
        )
        return said

    async def octets(self, kept: KeptList) -> bytes:
        """The DER of a list."""
        return await self.value(kept.publication.publication_id, kept.partition_id, kept.generation)

    async def value(self, publication_id: int, partition_id: int, generation: int) -> bytes:
        """The DER of the list of a partition that a publication has, signed by the CA's key of that number."""
        value: bytes = await self._connection.fetchval(
            "SELECT value FROM published_object WHERE publication_id = $1 AND partition_id = $2 AND generation = $3",
            *(publication_id, partition_id, generation),
        )
        return value

    async def ca_certificates(self, authority_id: int) -> dict[int, bytes]:
        """The self-signed certificate of every key of an authority, by its number."""
        rows = await self._connection.fetch(
            "SELECT number, certificate FROM ca_generation WHERE authority_id = $1", authority_id
        )
        return {row["number"]: row["certificate"] for row in rows}

    async def key_numbers_of(self, serials: Collection[int]) -> dict[int, int]:
        """The number of the CA's key that signed each of these certificates."""
        rows = await self._connection.fetch(
            "SELECT serial, number FROM certificate JOIN ca_generation USING (generation_id) WHERE serial = ANY($1)",
            serials,
        )
        return {row["serial"]: row["number"] for row in rows}


_LIST = (
    "SELECT o.publication_id, o.partition_id, coalesce(p.code, p.kind) AS label, p.idp, o.crl_number, o.entries,"
    " octet_length(o.value) AS size, o.sha256, o.generation,"
    " n.cut_off, n.this_update, n.next_publish, n.next_update, n.published_at"
    " FROM published_object o JOIN publication n USING (publication_id) JOIN partition p USING (partition_id)"
)
_LISTS = (
    f"{_LIST} WHERE n.authority_id = $1 AND ($2::text IS NULL OR coalesce(p.code, p.kind) = $2)"
    " AND ($3::bigint IS NULL OR o.crl_number = $3) AND ($4::bigint IS NULL OR o.publication_id = $4)"
    " AND ($5::timestamptz IS NULL OR n.this_update >= $5) AND ($6::timestamptz IS NULL OR n.this_update <= $6)"
    " AND ($7::smallint IS NULL OR o.generation = $7)"
)


def _conditions(authority_id: int, selection: Selection) -> tuple[object, ...]:
    return (
        *(authority_id, selection.label, selection.crl_number, selection.publication_id),
        *(selection.since, selection.until, selection.generation),
    )


def _publication(row: asyncpg.Record) -> Publication:
    window = UpdateWindow(row["this_update"], row["next_publish"], row["next_update"])
    return Publication(row["publication_id"], row["cut_off"], window)


def _kept(row: asyncpg.Record) -> KeptList:
    return KeptList(
        _publication(row),
        *(row["published_at"], row["partition_id"], row["label"], row["idp"]),
        *(row["crl_number"], row["entries"], row["size"], row["sha256"], row["generation"]),
    )
