"""From a municipality's notices to certificates in its residents' hands (R-4-2-1).

Theory of operation. Lines are taken in batches. A batch is read, decided on with what the database has, certified, and
recorded in one transaction: what was reported as issued is committed. The same notice again gives the same certificate
again, so a run that was killed is simply repeated; unless it is of no use any more: nobody is to put it on a card.

Reading and certifying is work for clerks (`clerks`), deciding and recording is done here, in the order of the
lines. While a batch is with the clerks the next ones are decided on, so between its decision and its record others may
have registered. They are counted (`Store.registrations`): if the count has moved, or a certificate is to be superseded,
the batch is looked up again, and decided on anew if anything differs. Two notices of one person, or of one key, are
never on their way at the same time.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from issuer.installation import ActiveKey, Installation
from issuer.profiles.authority import Kind
from issuer.profiles.profile import RESIDENT_YEARS, SERIAL_OCTETS, serial_number
from issuer.records.rows import CertificateRow, NewCertificate, NewHolder
from issuer.records.store import AlreadyThereError
from issuer.residents.clerk import Application, Order, Unreadable
from issuer.residents.clerks import Clerks, OneClerk
from issuer.residents.lines import Line, Refused, numbered
from issuer.residents.revocation import entry_for, record_revocations
from issuer.signing.ca_key import require_in_use
from pkix.revocation import CRLReason
from pkix.validity import counting_first_day, whole_second


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate for the notice of a line."""

    line: int
    notice_number: str | None
    serial: int
    certificate: bytes  # DER
    again: bool  # it was issued for the same notice before


Outcome = Issued | Refused


@dataclass(frozen=True, slots=True)
class Desk:
    """What registration works with. `clock` and `random_octets` are asked once for each batch."""

    installation: Installation
    key: ActiveKey
    clerks: Clerks
    partitions: dict[str | None, int]  # municipality code to partition_id
    clock: Callable[[], datetime]
    random_octets: Callable[[int], bytes]


async def open_desk(
    installation: Installation,
    key: ActiveKey,
    clock: Callable[[], datetime],
    random_octets: Callable[[int], bytes],
    clerks: Clerks | None = None,
) -> Desk:
    """A desk that registers residents of the installation's prefecture; with one clerk, unless there are `clerks`."""
    partitions = await installation.store.partitions(installation.authority_id)
    return Desk(
        installation,
        key,
        clerks or OneClerk(key),
        {p.code: p.partition_id for p in partitions if p.kind == "municipality"},
        clock,
        random_octets,
    )


async def register(desk: Desk, lines: Iterable[bytes], *, after: int = 0) -> AsyncIterator[list[Outcome]]:
    """Issue what the lines of a notice file ask for; one list of outcomes for each batch, after its commit.

    Args:
        desk: where.
        lines: of the file.
        after: how many lines came before them.

    Raises:
        SigningError: the key cannot be used now. Batches that were yielded stay issued.
        LintError: a certificate would break its profile; likewise.
        NotNowError: the database or a clerk is gone; likewise.
        KeyReplacedError: another key of the CA took over; likewise.
        RefusedError: the key was compromised, or its time of use has ended; likewise.
    """
    await desk.installation.store.expect_many_lookups()
    ledger = _Ledger(desk)
    underway: deque[_Underway] = deque()
    try:
        async with aclosing(_batches(desk, numbered(lines, after))) as batches:
            async for batch in batches:
                while underway and (
                    len(underway) >= desk.clerks.batches or any(batch.has_to_wait_for(u.batch) for u in underway)
                ):
                    yield await ledger.finish(underway.popleft())
                underway.append(await ledger.start(batch))
        while underway:
            yield await ledger.finish(underway.popleft())
    finally:
        await _drop([u.certificates for u in underway])


class _Batch:
    """Lines that are decided on together: no two of them are of one person or one key."""

    def __init__(self) -> None:
        self.unreadable: list[Unreadable] = []
        self.applications: list[Application] = []
        self._marks: set[bytes] = set()

    def takes(self, item: Unreadable | Application) -> bool:
        """Add the item, if it fits in."""
        if isinstance(item, Unreadable):
            self.unreadable.append(item)
            return True
        if item.person in self._marks or item.spki_sha256 in self._marks:
            return False
        self._marks |= {item.person, item.spki_sha256}
        self.applications.append(item)
        return True

    def has_to_wait_for(self, other: "_Batch") -> bool:
        """Whether what becomes of the other one matters for this one."""
        return not self._marks.isdisjoint(other._marks)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the database has about the applications of a batch."""

    issued: dict[bytes, CertificateRow]  # by notice_id
    held: dict[bytes, CertificateRow]  # by person: valid certificates
    keys: set[bytes]  # of spki_sha256: certified already


@dataclass(frozen=True, slots=True)
class _Decision:
    """What is to become of a batch, from what was known at a moment."""

    now: datetime
    others: int  # registrations that were not ours, when it was looked up
    known: _Known
    settled: list[Outcome]
    wanted: list[Application]
    orders: list[Order]  # one for each that is wanted

    @property
    def superseded(self) -> list[CertificateRow]:
        """The certificates that renewals replace (R-3-2-2)."""
        return [self.known.held[a.person] for a in self.wanted if a.renewal]


@dataclass(frozen=True, slots=True)
class _Underway:
    """A batch whose certificates are being made."""

    batch: _Batch
    decision: _Decision
    certificates: asyncio.Task[list[bytes]]


class _OvertakenError(Exception):
    """Something was recorded since the decision that changes it."""


class _Ledger:
    """Decides on batches and records them, for one run."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._store = desk.installation.store
        self._authority_id = desk.installation.authority_id
        self._own = 0  # registrations of this run

    async def start(self, batch: _Batch) -> _Underway:
        """Decide on a batch and have its certificates made."""
        decision = await self._decide(batch)
        making = self._desk.clerks.certify(decision.orders, decision.now) if decision.orders else _nothing()
        return _Underway(batch, decision, asyncio.create_task(making))

    async def finish(self, underway: _Underway) -> list[Outcome]:
        """Record a batch; its outcomes in the order of the lines."""
        while True:
            certificates = await underway.certificates
            decision = underway.decision
            try:
                if decision.orders:
                    await self._record(underway.batch, decision, certificates)
            except (_OvertakenError, AlreadyThereError):  # the latter: another CA has the key or the serial number
                underway = await self.start(underway.batch)
                continue
            outcomes: list[Outcome] = [
                Refused(u.line, u.notice_number, u.code, u.message) for u in underway.batch.unreadable
            ]
            outcomes += decision.settled
            outcomes += [
                Issued(a.line, a.notice_number, order.serial, certificate, again=False)
                for a, order, certificate in zip(decision.wanted, decision.orders, certificates, strict=True)
            ]
            return sorted(outcomes, key=lambda outcome: outcome.line)

    async def _decide(self, batch: _Batch) -> _Decision:
        now = whole_second(self._desk.clock())
        others = await self._store.registrations(self._authority_id) - self._own
        known = await self._look_up(batch, now)
        settled: list[Outcome] = []
        wanted: list[Application] = []
        for application in batch.applications:
            if (outcome := _settled(application, known, now)) is None:
                wanted.append(application)
            else:
                settled.append(outcome)
        if wanted:
            require_in_use(self._desk.key.generation, now)
        return _Decision(now, others, known, settled, wanted, await self._orders(wanted))

    async def _look_up(self, batch: _Batch, now: datetime) -> _Known:
        applications = batch.applications
        if not applications:
            return _Known({}, {}, set())
        held = await self._store.valid_of(self._authority_id, [a.person for a in applications], now)
        keys = await self._store.certified_keys([a.spki_sha256 for a in applications])
        # Last: what another run issues meanwhile is known by its notice, and not refused for its key.
        issued = await self._store.issued_for(self._authority_id, [a.notice_id for a in applications])
        return _Known(issued, held, keys)

    async def _orders(self, wanted: list[Application]) -> list[Order]:
        if not wanted:
            return []
        octets = self._desk.random_octets(SERIAL_OCTETS * len(wanted))
        serials = (serial_number(octets[at : at + SERIAL_OCTETS]) for at in range(0, len(octets), SERIAL_OCTETS))
        numbers = await self._store.subject_numbers(len(wanted))
        return [
            Order(serial, number, a.municipality, a.tail)
            for serial, number, a in zip(serials, numbers, wanted, strict=True)
        ]

    async def _record(self, batch: _Batch, decision: _Decision, certificates: list[bytes]) -> None:
        """Record the new certificates, and revoke what renewals supersede.

        Raises:
            _OvertakenError, AlreadyThereError: the batch must be decided on anew; nothing is recorded.
            KeyReplacedError, RefusedError: the key is no longer the one that signs; nothing is recorded.
        """
        store, now, superseded = self._store, decision.now, decision.superseded
        async with store.transaction():
            others = await store.begin_registration(self._authority_id) - self._own
            await store.require_active(self._desk.key.generation.generation_id)
            await store.lock_certificates(old.serial for old in superseded)
            if (superseded or others != decision.others) and await self._look_up(batch, now) != decision.known:
                raise _OvertakenError
            new = [entry_for(old, CRLReason.SUPERSEDED, received_at=now, revoked_at=now) for old in superseded]
            await record_revocations(store, new, now)
            await store.add_certificates(self._certificate_rows(decision, certificates), now)
            await store.add_holders(
                _holder_row(a, order.serial) for a, order in zip(decision.wanted, decision.orders, strict=True)
            )
            await store.record_alike(
                "certificate_issued", now, (f"{o.serial:016X}" for o in decision.orders), {"kind": Kind.RESIDENT}
            )
        self._own += 1

    def _certificate_rows(self, decision: _Decision, certificates: list[bytes]) -> Iterator[NewCertificate]:
        generation_id, partitions = self._desk.key.generation.generation_id, self._desk.partitions
        validity = counting_first_day(decision.now, RESIDENT_YEARS)
        for application, order, der in zip(decision.wanted, decision.orders, certificates, strict=True):
            partition_id = partitions[application.municipality]
            yield NewCertificate(
                order.serial, generation_id, partition_id, Kind.RESIDENT, validity, application.spki_sha256, der
            )


def _settled(application: Application, known: _Known, now: datetime) -> Outcome | None:
    """What becomes of an application that needs no new certificate; None: it gets one."""
    line, number, held = application.line, application.notice_number, known.held.get(application.person)
    if before := known.issued.get(application.notice_id):
        return _issued_before(application, before, held, now)
    if held is not None and not application.renewal:
        message = f"有効な電子証明書（{held.serial:016X}）が既にあります。更新として申請するか、先に失効してください。"
        return Refused(line, number, "valid-certificate-exists", message)  # R-4-2-3-1
    if held is None and application.renewal:
        message = "更新できる有効な電子証明書がありません。新規として申請してください。"
        return Refused(line, number, "nothing-to-renew", message)
    if application.spki_sha256 in known.keys:
        message = "この公開鍵の電子証明書は既に発行されています。新しい鍵ペアを生成してください。"
        return Refused(line, number, "key-already-certified", message)
    return None


def _issued_before(
    application: Application, before: CertificateRow, held: CertificateRow | None, now: datetime
) -> Outcome:
    """The certificate of the same notice, as long as it is valid; `held` is the person's valid one, if any."""
    line, number = application.line, application.notice_number
    if before.revoked is None and before.not_after >= now:
        return Issued(line, number, before.serial, before.der, again=True)
    code, end = ("issued-and-expired", "有効期間が満了") if before.revoked is None else ("issued-and-revoked", "失効")
    kind, other = ("新規", "") if held is None else ("更新", f"有効な電子証明書は{held.serial:016X}です。")
    message = (
        f"この通知の電子証明書（{before.serial:016X}）は発行済みで、既に{end}しています。{other}"
        f"発行し直すには、新しい鍵ペアを生成し、新しい通知で{kind}として申請してください。"
    )
    return Refused(line, number, code, message)


def _holder_row(application: Application, serial: int) -> NewHolder:
    return NewHolder(
        serial,
        application.notice_id,
        application.person,
        application.notice_number,
        application.common_name,
        application.date_of_birth,
        application.gender,
        application.address,
    )


async def _batches(desk: Desk, lines: Iterator[Line]) -> AsyncGenerator[_Batch, None]:
    """What is read, in the order of the lines; some lines are read ahead."""
    clerks, ahead = desk.clerks, deque[asyncio.Task[list[Unreadable | Application]]]()
    try:
        while chunk := list(islice(lines, clerks.batch_lines)):
            ahead.append(asyncio.create_task(clerks.read(chunk, desk.clock())))
            if len(ahead) >= clerks.batches:
                for batch in _split(await ahead.popleft()):
                    yield batch
        while ahead:
            for batch in _split(await ahead.popleft()):
                yield batch
    finally:
        await _drop(ahead)


def _split(items: list[Unreadable | Application]) -> Iterator[_Batch]:
    batch = _Batch()
    for item in items:
        if not batch.takes(item):
            yield batch
            batch = _Batch()
            batch.takes(item)
    yield batch


async def _nothing() -> list[bytes]:
    return []


async def _drop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks whose results nobody waits for any more."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
