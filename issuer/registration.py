"""From a municipality's notices to certificates in its residents' hands (R-4-2-1).

Lines are taken in small batches, each one transaction: what was reported as issued is committed. The same notice again
gives the same certificate again, so a run that was killed is simply repeated.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime

from cryptography import x509

from issuer.authority import Kind
from issuer.certification import certify
from issuer.installation import ActiveKey, Installation
from issuer.notice import Notice, NoticeError, parse_notice
from issuer.profile import resident, serial_number
from issuer.revocation import entry_for
from issuer.rows import CertificateRow, NewCertificate, NewHolder
from pkix.revocation import CRLReason
from pkix.validity import JST, Validity, whole_second

BATCH_LINES = 64


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate for the notice of a line."""

    line: int
    notice_number: str | None
    serial: int
    certificate: bytes  # DER
    again: bool  # it was issued for the same notice before


@dataclass(frozen=True, slots=True)
class Refused:
    """No certificate for a line, and why. `code` is for programs, `message` for municipal staff, in Japanese."""

    line: int
    notice_number: str | None
    code: str
    message: str


Outcome = Issued | Refused


@dataclass(frozen=True, slots=True)
class Desk:
    """What registration works with. `clock` and `random_octets` are asked once for each batch and certificate."""

    installation: Installation
    key: ActiveKey
    partitions: dict[str | None, int]  # municipality code to partition_id
    clock: Callable[[], datetime]
    random_octets: Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class _Accepted:
    line: int
    notice: Notice


async def open_desk(
    installation: Installation, key: ActiveKey, clock: Callable[[], datetime], random_octets: Callable[[int], bytes]
) -> Desk:
    """A desk that registers residents of the installation's prefecture."""
    partitions = await installation.store.partitions(installation.authority_id)
    return Desk(
        installation,
        key,
        {p.code: p.partition_id for p in partitions if p.kind == "municipality"},
        clock,
        random_octets,
    )


async def register(desk: Desk, lines: Iterable[bytes]) -> AsyncIterator[list[Outcome]]:
    """Issue what the lines of a notice file ask for; one list of outcomes for each batch, after its commit.

    Raises:
        SigningError: the key cannot be used now. Batches that were yielded stay issued.
    """
    today = desk.clock().astimezone(JST).date()
    for batch in _batches(desk, lines, today):
        refused = [item for item in batch if isinstance(item, Refused)]
        accepted = [item for item in batch if isinstance(item, _Accepted)]
        outcomes = [*refused, *(await _issue(desk, accepted) if accepted else ())]
        yield sorted(outcomes, key=lambda outcome: outcome.line)


def _batches(desk: Desk, lines: Iterable[bytes], today: date) -> Iterator[list[Refused | _Accepted]]:
    """Parsed lines; a batch never has two notices of one person or one key, so that the database decides on each."""
    batch: list[Refused | _Accepted] = []
    seen: set[bytes] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        item = _parse(desk, number, line, today)
        marks = {item.notice.person, item.notice.spki} if isinstance(item, _Accepted) else set()
        if len(batch) == BATCH_LINES or not seen.isdisjoint(marks):
            yield batch
            batch, seen = [], set()
        batch.append(item)
        seen |= marks
    if batch:
        yield batch


def _parse(desk: Desk, number: int, line: bytes, today: date) -> Refused | _Accepted:
    prefecture = desk.installation.authority.prefecture
    try:
        return _Accepted(number, parse_notice(line, prefecture=prefecture.name_romaji, today=today))
    except NoticeError as e:
        return Refused(number, None, e.code, e.message)


async def _issue(desk: Desk, accepted: list[_Accepted]) -> list[Outcome]:
    installation, store = desk.installation, desk.installation.store
    async with store.transaction():
        await store.lock_registration(installation.authority_id)
        now = whole_second(desk.clock())
        issued = await store.issued_for(installation.authority_id, [item.notice.notice_id for item in accepted])
        held = await _held(installation, [item.notice.person for item in accepted], now)
        known_keys = await store.certified_keys([item.notice.spki for item in accepted])
        outcomes: list[Outcome] = []
        wanted: list[_Accepted] = []
        for item in accepted:
            notice = item.notice
            if before := issued.get(notice.notice_id):
                outcomes.append(Issued(item.line, notice.notice_number, before.serial, before.der, again=True))
            elif refusal := _refusal(notice, held.get(notice.person), notice.spki in known_keys):
                outcomes.append(Refused(item.line, notice.notice_number, *refusal))
            else:
                wanted.append(item)
        outcomes += await _certify_all(desk, wanted, held, now)
    return outcomes


async def _held(installation: Installation, persons: list[bytes], now: datetime) -> dict[bytes, CertificateRow]:
    """The valid certificates of these persons; until the transaction ends nobody else revokes them."""
    store, authority_id = installation.store, installation.authority_id
    held = await store.valid_of(authority_id, persons, now)
    if not held:
        return held
    await store.lock_certificates(certificate.serial for certificate in held.values())
    return await store.valid_of(authority_id, persons, now)  # a revocation may have come first


def _refusal(notice: Notice, held: CertificateRow | None, key_is_known: bool) -> tuple[str, str] | None:  # noqa: FBT001
    if held is not None and not notice.renewal:
        return (
            "valid-certificate-exists",  # R-4-2-3-1
            f"有効な電子証明書（{held.serial:016X}）が既にあります。更新として申請するか、先に失効してください。",
        )
    if held is None and notice.renewal:
        return "nothing-to-renew", "更新できる有効な電子証明書がありません。新規として申請してください。"
    if key_is_known:
        return "key-already-certified", "この公開鍵の電子証明書は既に発行されています。新しい鍵ペアを生成してください。"
    return None


async def _certify_all(
    desk: Desk, wanted: list[_Accepted], held: dict[bytes, CertificateRow], now: datetime
) -> list[Outcome]:
    """Sign, check and record, and revoke what a renewal supersedes (R-3-2-2), in the caller's transaction."""
    store = desk.installation.store
    if not wanted:
        return []
    numbers = await store.subject_numbers(len(wanted))
    builders = [
        resident(desk.key.issuer, item.notice, serial_number(desk.random_octets(8)), number, now)
        for item, number in zip(wanted, numbers, strict=True)
    ]
    certificates = await asyncio.gather(
        *(asyncio.to_thread(certify, desk.key, builder, Kind.RESIDENT) for builder in builders)
    )
    rows = [_rows(desk, item.notice, der) for item, der in zip(wanted, certificates, strict=True)]
    superseded = [held[item.notice.person] for item in wanted if item.notice.renewal]
    if superseded:
        await store.add_revocations(
            [entry_for(old, CRLReason.SUPERSEDED, received_at=now, revoked_at=now) for old in superseded]
        )
        await store.record_many(
            "certificate_revoked", now, [(f"{old.serial:016X}", {"reason": 4}) for old in superseded]
        )
    await store.add_certificates([certificate for certificate, _ in rows], now)
    await store.add_holders([holder for _, holder in rows])
    await store.record_many("certificate_issued", now, [(f"{c.serial:016X}", {"kind": c.kind}) for c, _ in rows])
    return [
        Issued(item.line, item.notice.notice_number, certificate.serial, certificate.der, again=False)
        for item, (certificate, _) in zip(wanted, rows, strict=True)
    ]


def _rows(desk: Desk, notice: Notice, der: bytes) -> tuple[NewCertificate, NewHolder]:
    certificate = x509.load_der_x509_certificate(der)
    serial = certificate.serial_number
    return (
        NewCertificate(
            serial,
            desk.key.generation.generation_id,
            desk.partitions[notice.municipality.code],
            Kind.RESIDENT,
            Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc),
            notice.spki,
            der,
        ),
        NewHolder(
            serial,
            notice.notice_id,
            notice.person,
            notice.notice_number,
            notice.name.value,
            notice.date_of_birth,
            notice.gender,
            notice.address.value,
        ),
    )
