"""All SQL about operations, and about the persons who agree to them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import asyncpg

from issuer.rules.operation import Role
from issuer.rules.person import Operator

Event = Literal["begun", "done", "failed", "withdrawn"]
ORDER_LOCK = 11  # of pg_advisory_xact_lock: what is written about the operations of a CA comes one after the other
RUN_LOCK = 12  # of pg_advisory_lock


class TwiceError(Exception):
    """This person has agreed already, or is another one, or the operation has its end."""


@dataclass(frozen=True, slots=True)
class Approval:
    """That a person agreed."""

    operator_id: int
    role: Role | None  # None: in any that the person has
    signature: bytes
    approved_at: datetime
    origin: str


@dataclass(frozen=True, slots=True)
class Happening:
    """A step of an operation."""

    event: Event
    at: datetime
    origin: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OperationRow:
    """An operation with all that is known of it."""

    number: int
    content: bytes
    sha256: bytes
    origin: str
    approvals: tuple[Approval, ...]
    events: tuple[Happening, ...]


class OperationStore:
    """Operations and operators of all authorities, as role prefca_issuer."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def clock(self) -> datetime:
        """What time it is for the database."""
        moment: datetime = await self._connection.fetchval("SELECT clock_timestamp()")
        return moment

    async def lock(self, authority_id: int) -> None:
        """Until the transaction ends nobody else writes about the operations of this authority."""
        await self._connection.execute("SELECT pg_advisory_xact_lock($1, $2)", ORDER_LOCK, authority_id)

    async def lock_run(self, number: int) -> bool:
        """Be the only one that runs this operation while the connection lives."""
        taken: bool = await self._connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", RUN_LOCK, number)
        return taken

    async def unlock_run(self, number: int) -> None:
        """Let others run it."""
        await self._connection.execute("SELECT pg_advisory_unlock($1, $2)", RUN_LOCK, number)

    # ---------------------------------------------------------------- persons

    async def operators(self, authority_id: int) -> list[Operator]:
        """All who are or were registered."""
        rows = await self._connection.fetch(
            "SELECT o.operator_id, o.name, o.full_name, o.roles, o.key, o.registered_at, o.operation, e.ended_at"
            " FROM operator o LEFT JOIN operator_end e USING (operator_id)"
            " WHERE o.authority_id = $1 ORDER BY o.operator_id",
            authority_id,
        )
        return [
            Operator(
                *(row["operator_id"], row["name"], row["full_name"], frozenset(map(Role, row["roles"])), row["key"]),
                *(row["registered_at"], row["operation"], row["ended_at"]),
            )
            for row in rows
        ]

    async def add_operator(self, authority_id: int, new: Operator) -> None:
        """Register a person; the number is given by the database.

        Raises:
            TwiceError: somebody of that name is registered, or the key is another person's.
        """
        try:
            await self._connection.execute(
                "INSERT INTO operator (authority_id, name, full_name, roles, key, registered_at, operation)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7)",
                *(authority_id, new.name, new.full_name, sorted(new.roles), new.key, new.registered_at, new.operation),
            )
        except asyncpg.UniqueViolationError as e:
            raise TwiceError from e

    async def end_operator(self, authority_id: int, operator_id: int, now: datetime, operation: int) -> None:
        """End a registration.

        Raises:
            TwiceError: it has ended.
        """
        try:
            await self._connection.execute(
                "INSERT INTO operator_end (operator_id, ended_at, authority_id, operation) VALUES ($1, $2, $3, $4)",
                *(operator_id, now, authority_id, operation),
            )
        except asyncpg.UniqueViolationError as e:
            raise TwiceError from e

    # ---------------------------------------------------------------- operations

    async def last(self, authority_id: int) -> tuple[int, bytes] | None:
        """Number and SHA-256 of the newest operation."""
        row = await self._connection.fetchrow(
            "SELECT number, sha256 FROM operation WHERE authority_id = $1 ORDER BY number DESC LIMIT 1", authority_id
        )
        return None if row is None else (row["number"], row["sha256"])

    async def add(self, authority_id: int, new: OperationRow) -> None:
        """Record what is asked for."""
        await self._connection.execute(
            "INSERT INTO operation (authority_id, number, content, sha256, origin) VALUES ($1, $2, $3, $4, $5)",
            *(authority_id, new.number, new.content, new.sha256, new.origin),
        )

    async def operations(self, authority_id: int, number: int | None = None) -> list[OperationRow]:
        """All operations in their order, or the one of a number."""
        which = (authority_id, number)
        rows = await self._connection.fetch(
            "SELECT number, content, sha256, origin FROM operation"
            " WHERE authority_id = $1 AND ($2::integer IS NULL OR number = $2) ORDER BY number",
            *which,
        )
        approvals = await self._approvals(*which)
        events = await self._events(*which)
        return [
            OperationRow(
                **row, approvals=tuple(approvals.get(row["number"], ())), events=tuple(events.get(row["number"], ()))
            )
            for row in rows
        ]

    async def add_approval(self, authority_id: int, number: int, new: Approval) -> None:
        """Record that a person agreed.

        Raises:
            TwiceError: the person has done so.
        """
        try:
            await self._connection.execute(
                "INSERT INTO operation_approval"
                " (authority_id, number, operator_id, role, signature, approved_at, origin)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7)",
                *(authority_id, number, new.operator_id, new.role, new.signature, new.approved_at, new.origin),
            )
        except asyncpg.UniqueViolationError as e:
            raise TwiceError from e

    async def add_event(self, authority_id: int, number: int, new: Happening) -> None:
        """Record a step.

        Raises:
            TwiceError: the operation has its end.
        """
        try:
            await self._connection.execute(
                "INSERT INTO operation_event (authority_id, number, position, event, at, origin, detail)"
                " SELECT $1, $2, count(*) + 1, $3, $4, $5, $6 FROM operation_event"
                " WHERE authority_id = $1 AND number = $2",
                *(
                    authority_id,
                    number,
                    new.event,
                    new.at,
                    new.origin,
                    json.dumps(dict(new.detail), ensure_ascii=False),
                ),
            )
        except asyncpg.UniqueViolationError as e:
            raise TwiceError from e

    async def _approvals(self, authority_id: int, number: int | None) -> dict[int, list[Approval]]:
        found: dict[int, list[Approval]] = {}
        rows = await self._connection.fetch(
            "SELECT number, operator_id, role, signature, approved_at, origin FROM operation_approval"
            " WHERE authority_id = $1 AND ($2::integer IS NULL OR number = $2) ORDER BY approved_at, operator_id",
            *(authority_id, number),
        )
        for row in rows:
            role = None if row["role"] is None else Role(row["role"])
            found.setdefault(row["number"], []).append(
                Approval(row["operator_id"], role, row["signature"], row["approved_at"], row["origin"])
            )
        return found

    async def _events(self, authority_id: int, number: int | None) -> dict[int, list[Happening]]:
        found: dict[int, list[Happening]] = {}
        rows = await self._connection.fetch(
            "SELECT number, event, at, origin, detail FROM operation_event"
            " WHERE authority_id = $1 AND ($2::integer IS NULL OR number = $2) ORDER BY number, position",
            *(authority_id, number),
        )
        for row in rows:
            detail = json.loads(row["detail"])
            found.setdefault(row["number"], []).append(Happening(row["event"], row["at"], row["origin"], detail))
        return found
