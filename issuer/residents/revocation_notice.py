"""A municipality's notice of a revocation: one line of a JSON Lines file into a `RevocationNotice` (R-4-4-1-1).

The fields of the line are those of `_Line`. Serial numbers, reasons and moments are written as for `prefca revoke`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, TypeVar

from pydantic import Field

from issuer.errors import RefusedError
from issuer.profiles.notice_line import NoticeFields, read_line, wrong_value
from issuer.residents.revocation import parse_moment, parse_reason, parse_serial
from pkix.revocation import CRLReason

T = TypeVar("T")


class RevocationNotice(NamedTuple):
    """What is asked for; as `issuer.residents.revocation.RevocationOrder`, of one certificate."""

    notice_number: str | None
    serial: int
    reason: CRLReason
    received_at: datetime | None  # None: now
    invalidity_date: datetime | None


class _Line(NoticeFields):
    """The fields of a line."""

    serial: str = Field(description="電子証明書のシリアル番号（16進数16桁）の文字列")
    reason: int | str = Field(description='失効理由の番号1〜5か名称（例 "cessationOfOperation"）')
    received_at: str | None = Field(None, description='日付"2026-04-01"か日時"2026-04-01T12:00:00+09:00"の文字列')
    invalidity_date: str | None = Field(None, description='日付"2026-04-01"か日時"2026-04-01T12:00:00+09:00"の文字列')


def parse_revocation_notice(line: bytes) -> RevocationNotice:
    """Read one line of a file of revocation notices.

    Args:
        line: UTF-8 JSON, with or without its line end; at most MAX_LINE_BYTES.

    Raises:
        NoticeError: the line is refused.
    """
    return read_line(line, _Line, _notice)


def _notice(fields: _Line) -> RevocationNotice:
    return RevocationNotice(
        fields.notice_number,
        _parsed(parse_serial, "serial", fields.serial),
        _parsed(parse_reason, "reason", str(fields.reason)),
        None if fields.received_at is None else _parsed(parse_moment, "received_at", fields.received_at),
        None if fields.invalidity_date is None else _parsed(parse_moment, "invalidity_date", fields.invalidity_date),
    )


def _parsed(parse: Callable[[str], T], field: str, value: str) -> T:
    try:
        return parse(value)
    except RefusedError as e:
        raise wrong_value(_Line, field) from e
