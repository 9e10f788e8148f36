"""From a municipality's notices of revocation to revocations: of death or removal many come at once (R-4-4-1-1).

Theory of operation. Lines are taken in portions. Of a portion's certificates nobody else changes the status, they are
looked up together, the notices are decided on in the order of the lines, and what they revoke is recorded with one COPY
and one commit. What was reported as revoked is committed. A notice whose certificate is revoked as it asks has the same
outcome again, so a run that was killed is simply repeated.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Final

from issuer.installation import Installation
from issuer.profiles.authority import Kind
from issuer.profiles.notice_line import NoticeError
from issuer.profiles.profile import MAX_SERIAL
from issuer.records.rows import CertificateRow, NewRevocation
from issuer.residents.lines import Line, Refused, numbered
from issuer.residents.revocation import entry_for, record_revocations
from issuer.residents.revocation_notice import RevocationNotice, parse_revocation_notice
from pkix.revocation import Revoked
from pkix.validity import JST, whole_second

PORTION_LINES: Final = 2000  # of more than 10,000 at once responders would hear only that something was revoked


@dataclass(frozen=True, slots=True)
class RevokedFor:
    """The certificate of a line's notice is revoked as it asks."""

    line: int
    notice_number: str | None
    serial: int
    status: Revoked
    again: bool  # it was before


Outcome = RevokedFor | Refused


async def revoke_lines(
    installation: Installation, lines: Iterable[bytes], clock: Callable[[], datetime], *, after: int = 0
) -> AsyncIterator[list[Outcome]]:
    """Revoke what the lines of a notice file ask for; one list of outcomes for each portion, after its commit.

    Args:
        installation: of the CA.
        lines: of the file.
        clock: asked once for each portion.
        after: how many lines came before them.

    Raises:
        NotNowError: the database is gone. Portions that were yielded stay revoked.
    """
    await installation.store.expect_many_lookups()
    rest = numbered(lines, after)
    while portion := list(islice(rest, PORTION_LINES)):
        yield await _revoke_portion(installation, [_read(line) for line in portion], whole_second(clock()))


def _read(line: Line) -> tuple[int, RevocationNotice] | Refused:
    try:
        return line.number, parse_revocation_notice(line.content)
    except NoticeError as e:
        return Refused(line.number, e.notice_number, e.code, e.message)


async def _revoke_portion(
    installation: Installation, items: Sequence[tuple[int, RevocationNotice] | Refused], now: datetime
) -> list[Outcome]:
    store = installation.store
    serials = {item[1].serial for item in items if not isinstance(item, Refused)}
    possible = [serial for serial in serials if serial <= MAX_SERIAL]
    async with store.transaction():
        await store.lock_certificates(possible)
        decisions = _Decisions(await store.certificates(installation.authority_id, possible), now)
        outcomes = [item if isinstance(item, Refused) else decisions.decide(*item) for item in items]
        await record_revocations(store, decisions.revocations, now, decisions.notice_numbers)
    return outcomes


class _Decisions:
    """What becomes of a portion's notices, one after the other."""

    def __init__(self, certificates: dict[int, CertificateRow], now: datetime) -> None:
        self.revocations: list[NewRevocation] = []
        self.notice_numbers: dict[int, str] = {}  # by serial number
        self._certificates = certificates  # as they are after what was decided
        self._now = now

    def decide(self, line: int, notice: RevocationNotice) -> Outcome:
        """What becomes of a notice."""
        certificate = self._certificates.get(notice.serial)
        if certificate is None:
            message = "このシリアル番号の電子証明書は、この認証局では発行していません。番号を確かめてください。"
            return Refused(line, notice.notice_number, "never-issued", message)
        if refusal := _refusal(notice, certificate, self._now):
            return Refused(line, notice.notice_number, *refusal)
        before = certificate.revoked
        status = before or self._revoke(certificate, notice)
        return RevokedFor(line, notice.notice_number, notice.serial, status, again=before is not None)

    def _revoke(self, certificate: CertificateRow, notice: RevocationNotice) -> Revoked:
        new = entry_for(
            certificate,
            notice.reason,
            received_at=notice.received_at or self._now,
            revoked_at=self._now,
            invalidity_date=notice.invalidity_date,
        )
        self.revocations.append(new)
        if notice.notice_number is not None:
            self.notice_numbers[new.serial] = notice.notice_number
        self._certificates[new.serial] = replace(certificate, revoked=new.status)
        return new.status


def _refusal(notice: RevocationNotice, certificate: CertificateRow, now: datetime) -> tuple[str, str] | None:
    """Code and message; None: the certificate is to be revoked as the notice asks, or is already."""
    for field, moment in (("received_at", notice.received_at), ("invalidity_date", notice.invalidity_date)):
        if moment is not None and moment > now:
            return "in-the-future", f"項目「{field}」が未来の日時です。確かめてください。"
    if certificate.kind is not Kind.RESIDENT:
        return "not-residents", "住民の電子証明書ではありません。シリアル番号を確かめてください。"
    if (revoked := certificate.revoked) is not None:
        if (revoked.reason, revoked.invalidity_date) == (notice.reason, notice.invalidity_date):
            return None
        at = f"{revoked.at.astimezone(JST):%Y-%m-%d %H:%M:%S}"
        asked = "理由" if revoked.reason is not notice.reason else "無効となった日時"
        message = (
            f"{at}（日本時間）に{revoked.reason.label}で失効済みで、{asked}がこの通知と違います。失効は変更できません。"
        )
        return "revoked-otherwise", message
    if certificate.not_after < now:
        return "expired", "有効期間が満了しているので、失効の必要はありません。"
    return None
