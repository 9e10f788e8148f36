"""All SQL about what is kept in the archive besides the journals (R-4-12-2-1), as lines of JSON, oldest first."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, NamedTuple

import asyncpg

YEARS: Final = 10  # R-4-12-2-2
RESIDENTS_YEARS: Final = 13


@dataclass(frozen=True, slots=True)
class ArchiveKind:
    """What is kept alike."""

    name: str
    years: int  # that it is kept; 0: until the certificates concerned have expired
    first: str  # SQL: when the oldest item was made
    items: str  # SQL: those from $1 to before $2, as `Item`


class Item(NamedTuple):
    """One thing that is kept."""

    at: datetime  # when it was made: its time stamp (R-4-12-2-5)
    not_after: datetime | None  # of a certificate that it is or concerns
    line: str  # JSON


_CERTIFICATE = (
    "SELECT issued_at, not_after, json_build_object('at', issued_at, 'kind', kind, 'serial', upper(to_hex(serial)),"
    " 'not_after', not_after, 'der', translate(encode(der, 'base64'), E'\\n', ''))::text FROM certificate"
    " WHERE issued_at >= $1 AND issued_at < $2 AND"
)
_PUBLISHED = (
    "SELECT n.published_at, NULL::timestamptz, json_build_object('at', n.published_at, 'entry', o.entry_dn,"
    " 'attribute', o.attribute, 'crl_number', o.crl_number, 'entries', o.entries, 'sha256', encode(o.sha256, 'hex'),"
    " 'der', translate(encode(o.value, 'base64'), E'\\n', ''))::text"
    " FROM published_object o JOIN publication n USING (publication_id)"
    " WHERE n.published_at >= $1 AND n.published_at < $2 AND"
)
_FIRST_PUBLICATION = "SELECT min(published_at) FROM publication"
_OPERATIONS = (  # each step with its time: what was asked for names that in its content
    "WITH e AS (SELECT (convert_from(content, 'UTF8')::json->>'requested_at')::timestamptz AS at, 1 AS place,"
    " authority_id, number,"
    " jsonb_build_object('step', 'requested', 'origin', origin, 'sha256', encode(sha256, 'hex'),"
    " 'content', translate(encode(content, 'base64'), E'\\n', '')) AS told FROM operation"
    " UNION ALL SELECT approved_at, 2, a.authority_id, a.number,"
    " jsonb_build_object('step', 'approved', 'origin', a.origin, 'operator', o.name, 'full_name', o.full_name,"
    " 'role', a.role, 'roles', o.roles, 'key', translate(encode(o.key, 'base64'), E'\\n', ''),"
    " 'signature', translate(encode(a.signature, 'base64'), E'\\n', ''))"
    " FROM operation_approval a JOIN operator o USING (operator_id)"
    " UNION ALL SELECT at, 2 + position, authority_id, number,"
    " jsonb_build_object('step', event, 'origin', origin, 'detail', detail::jsonb) FROM operation_event)"
)
_CROSS = (  # steps of cases, the first one with what the case is about, and the CA's own requests
    "WITH e AS (SELECT s.at, c.authority_id, s.case_id, s.number, jsonb_build_object('case', s.case_id, 'step', s.step,"
    " 'state', s.state, 'person', s.person, 'role', s.role, 'detail', s.detail, 'serial', upper(to_hex(s.serial)),"
    " 'document', translate(encode(s.document, 'base64'), E'\\n', ''), 'partner', c.partner, 'policy', c.policy,"
    " 'renews', c.renews, 'trigger', c.trigger, 'request', CASE s.number WHEN 1 THEN"
    " translate(encode(c.request, 'base64'), E'\\n', '') END) AS told"
    " FROM cross_step s JOIN cross_case c USING (case_id)"
    " UNION ALL SELECT made_at, authority_id, 0, request_id, jsonb_build_object('step', 'request',"
    " 'request', translate(encode(der, 'base64'), E'\\n', ''))"
    " FROM cross_request JOIN ca_generation USING (generation_id))"
)
_TOLD = "SELECT at, NULL::timestamptz, (told || jsonb_build_object('at', at, 'authority', authority_id"
_OLDEST = "SELECT min(at) FROM e"
_STEPS_OF_A_MONTH = "FROM e WHERE at >= $1 AND at < $2 ORDER BY at, authority_id"

KINDS: Final = (
    ArchiveKind(
        "residents-certificates",
        RESIDENTS_YEARS,
        "SELECT min(issued_at) FROM certificate WHERE kind = 'resident'",
        f"{_CERTIFICATE} kind = 'resident' ORDER BY issued_at, serial",
    ),
    ArchiveKind(  # of the CA and its servers
        "other-certificates",
        YEARS,
        "SELECT min(issued_at) FROM certificate WHERE kind <> 'resident'",
        f"{_CERTIFICATE} kind <> 'resident' ORDER BY issued_at, serial",
    ),
    ArchiveKind(  # self-signed, link and cross certificates: each when it was first published
        "published-certificates",
        YEARS,
        _FIRST_PUBLICATION,
        f"{_PUBLISHED} o.partition_id IS NULL AND NOT EXISTS (SELECT FROM published_object e"
        " WHERE e.publication_id < o.publication_id AND e.partition_id IS NULL"
        " AND (e.sha256, e.entry_dn, e.attribute) = (o.sha256, o.entry_dn, o.attribute))"
        " ORDER BY o.publication_id, o.position",
    ),
    ArchiveKind(  # 失効情報
        "revocations",
        0,
        "SELECT min(received_at) FROM revocation",
        "SELECT received_at, not_after, json_build_object('at', received_at, 'serial', upper(to_hex(serial)),"
        " 'reason', reason, 'revoked_at', revoked_at, 'invalidity_date', invalidity_date, 'not_after', not_after)::text"
        " FROM revocation WHERE received_at >= $1 AND received_at < $2 ORDER BY received_at, serial",
    ),
    ArchiveKind(  # CRL, ARL, 失効情報ファイル
        "lists",
        YEARS,
        _FIRST_PUBLICATION,
        f"{_PUBLISHED} o.partition_id IS NOT NULL ORDER BY o.publication_id, o.position",
    ),
    ArchiveKind(  # 操作ログ, with what the journal leaves out; compromises, and splits of a PIN but not what was sealed
        "acts",
        YEARS,
        "SELECT min(at) FROM operation_record",
        "SELECT at, NULL::timestamptz, json_build_object('at', at, 'id', record_id, 'kind', kind, 'result', result,"
        " 'origin', origin, 'object', object, 'detail', detail)::text"
        " FROM operation_record WHERE at >= $1 AND at < $2 ORDER BY record_id",
    ),
    ArchiveKind(  # who asked for what on a key of the CA, who agreed with which signature, and what came of it
        "operations",
        YEARS,
        f"{_OPERATIONS} {_OLDEST}",
        f"{_OPERATIONS} {_TOLD}, 'operation', number))::text {_STEPS_OF_A_MONTH}, number, place",
    ),
    ArchiveKind(  # 相互認証: requests, findings, the other CA's certificates and receipts
        "cross-certification",
        YEARS,
        f"{_CROSS} {_OLDEST}",
        f"{_CROSS} {_TOLD}))::text {_STEPS_OF_A_MONTH}, case_id, number",
    ),
)


class Amount(NamedTuple):
    """How much there is of a month."""

    items: int
    first: datetime
    last: datetime


class ArchiveStore:
    """What is kept, as role prefca_issuer; transactions are the caller's."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def first(self, kind: ArchiveKind) -> datetime | None:
        """The time of the oldest item; None: there is none."""
        found: datetime | None = await self._connection.fetchval(kind.first)
        return found

    async def amounts(self, kind: ArchiveKind, begin: datetime, end: datetime) -> dict[date, Amount]:
        """How much there is of each month of Japan, of those from one moment to before another."""
        rows = await self._connection.fetch(
            "SELECT date_trunc('month', at AT TIME ZONE INTERVAL '9 hours')::date, count(*), min(at), max(at)"  # noqa: S608 - of KINDS
            f" FROM ({kind.items}) AS i (at, not_after, line) GROUP BY 1",
            begin,
            end,
        )
        return {month: Amount(*amount) for month, *amount in rows}

    async def items(self, kind: ArchiveKind, begin: datetime, end: datetime) -> AsyncIterator[Item]:
        """Those from one moment to before another, oldest first. Inside a transaction, whose times are UTC then."""
        await self._connection.execute("SET LOCAL TimeZone = 'UTC'")
        async for row in self._connection.cursor(kind.items, begin, end, prefetch=100):
            yield Item(*row)
