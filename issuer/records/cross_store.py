"""All SQL about cross-certification. Transactions are the caller's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from issuer.errors import RefusedError
from issuer.rules.cross_case import Application, Case, Done, State, Step, Trigger
from issuer.rules.operation import Role
from pkix.revocation import CRLReason, Revoked


@dataclass(frozen=True, slots=True)
class Left:
    """What a step leaves."""

    detail: Mapping[str, str | int | None]
    document: bytes | None = None
    serial: int | None = None  # of the certificate that was issued


class CrossStore:
    """The register of cross-certification, as role prefca_issuer."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add_case(self, authority_id: int, application: Application) -> int:
        """Open a case."""
        case_id: int = await self._connection.fetchval(
            "INSERT INTO cross_case (authority_id, partner, request, policy, renews, trigger)"
            " VALUES ($1, $2, $3, $4, $5, $6) RETURNING case_id",
            authority_id,
            application.partner,
            application.request,
            application.policy,
            application.renews,
            application.trigger,
        )
        return case_id

    async def add_step(self, case: Case, done: Done, left: Left) -> None:
        """Record a step of a case, the one after those that the case has.

        Raises:
            RefusedError: another one was recorded since the case was read.
        """
        try:
            await self._connection.execute(
                "INSERT INTO cross_step (case_id, number, step, state, at, person, role, detail, document, serial)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                *(case.case_id, len(case.done) + 1, done.step, done.state, done.at, done.person, done.role),
                *(json.dumps(dict(done.detail), ensure_ascii=False), left.document, left.serial),
            )
        except asyncpg.UniqueViolationError as e:
            raise RefusedError(f"somebody else acted in case {case.case_id} just now; look at it again") from e

    async def cases(self, authority_id: int) -> dict[int, Case]:
        """All cases by their numbers, without receipts, which may be large."""
        steps: dict[int, list[asyncpg.Record]] = {}
        for row in await self._connection.fetch(
            "SELECT s.case_id, s.step, s.state, s.at, s.person, s.role, s.detail, c.der AS ours,"
            " CASE s.step WHEN 'accept' THEN s.document END AS theirs, r.revoked_at, r.reason, r.invalidity_date"
            " FROM cross_step s JOIN cross_case USING (case_id)"
            " LEFT JOIN certificate c USING (serial) LEFT JOIN revocation r USING (serial)"
            " WHERE authority_id = $1 ORDER BY s.case_id, s.number",
            authority_id,
        ):
            steps.setdefault(row["case_id"], []).append(row)
        rows = await self._connection.fetch(
            "SELECT case_id, partner, request, policy, renews, trigger FROM cross_case"
            " WHERE authority_id = $1 ORDER BY case_id",
            authority_id,
        )
        return {row["case_id"]: _case(row, steps.get(row["case_id"], [])) for row in rows}

    async def document(self, case_id: int, step: Step) -> bytes | None:
        """What a step of a case left, the last one of its kind."""
        found: bytes | None = await self._connection.fetchval(
            "SELECT document FROM cross_step WHERE case_id = $1 AND step = $2 ORDER BY number DESC LIMIT 1",
            case_id,
            step,
        )
        return found

    async def add_request(self, generation_id: int, made_at: datetime, der: bytes) -> int:
        """A request for a key of this CA."""
        request_id: int = await self._connection.fetchval(
            "INSERT INTO cross_request (generation_id, made_at, der) VALUES ($1, $2, $3) RETURNING request_id",
            generation_id,
            made_at,
            der,
        )
        return request_id

    async def newest_request(self, authority_id: int) -> bytes | None:
        """The newest of them, DER."""
        found: bytes | None = await self._connection.fetchval(
            "SELECT der FROM cross_request JOIN ca_generation USING (generation_id)"
            " WHERE authority_id = $1 ORDER BY request_id DESC LIMIT 1",
            authority_id,
        )
        return found


def _case(row: asyncpg.Record, steps: list[asyncpg.Record]) -> Case:
    trigger = None if row["trigger"] is None else Trigger(row["trigger"])
    application = Application(row["partner"], row["request"], row["policy"], row["renews"], trigger)
    ours = next((step for step in steps if step["ours"] is not None), None)
    theirs = next((step["theirs"] for step in steps if step["theirs"] is not None), None)
    return Case(
        row["case_id"],
        application,
        tuple(map(_done, steps)),
        None if ours is None else ours["ours"],
        theirs,
        None if ours is None else _revoked(ours),
    )


def _done(row: asyncpg.Record) -> Done:
    return Done(
        *(Step(row["step"]), State(row["state"]), row["at"], row["person"], Role(row["role"])),
        json.loads(row["detail"]),
    )


def _revoked(row: asyncpg.Record) -> Revoked | None:
    if row["revoked_at"] is None:
        return None
    return Revoked(row["revoked_at"], CRLReason(row["reason"]), row["invalidity_date"])
