"""What others are handed or read about cross-certification, in Japanese: 受領書 and the names of the CAs.

The receipt goes to the other CA (R-4-8-1); the names, of CAs that are and that were cross-certified, to the web
(R-2-6-1-1). Of an end the date is told, not why (R-2-8-3-1).
"""

import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from reportlab.lib.colors import HexColor
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Spacer, Table

from issuer.archive.paper import cell, document, font, style
from issuer.profiles.authority import Authority
from issuer.rules.cross_case import Case, State, superseded
from pkix.names import text
from pkix.validity import JST

TITLE: Final = "相互認証証明書受領書"
_COLUMNS: Final = (45 * mm, 120 * mm)


def receipt(authority: Authority, case: Case, theirs: x509.Certificate, now: datetime) -> bytes:
    """That we have received the certificate that the other CA issued to us, as PDF."""
    heading, words = style(16, leading=28), style(10.5, leading=18)
    facts = {
        "受付番号": str(case.case_id),
        "証明書の種類": "相互認証証明書",
        "発行者": text(theirs.issuer),
        "主体者": text(theirs.subject),
        "シリアル番号": f"{theirs.serial_number:X}",
        "有効期間の開始日": _moment(theirs.not_valid_before_utc),
        "有効期間の終了日": _moment(theirs.not_valid_after_utc),
        "フィンガープリント（SHA-256）": theirs.fingerprint(hashes.SHA256()).hex(" ", 4),
    }
    table = Table(
        [[cell(name, words), cell(value, words)] for name, value in facts.items()],
        _COLUMNS,
        style=[("GRID", (0, 0), (-1, -1), 0.5, HexColor("#999999")), ("FONT", (0, 0), (-1, -1), font(), 10)],
    )
    parts: list[Flowable] = [
        cell(_day(now), words),
        cell(f"{case.application.partner}　御中", words),
        cell(f"{authority.prefecture.governor_ja}{'（テスト）' * (authority.hierarchy == 'test')}", words),
        Spacer(0, 8 * mm),
        cell(TITLE, heading),
        cell("貴認証局から発行された次の相互認証証明書を確認の上、受領しました。", words),
        Spacer(0, 4 * mm),
        table,
    ]
    return document(TITLE, parts)


@dataclass(frozen=True, slots=True)
class NamedCA:
    """A CA that is, or was, cross-certified."""

    name: str
    dn: str
    since: datetime  # both receipts were there
    ended: datetime | None  # our certificate for it was revoked


def named(cases: Mapping[int, Case], now: datetime) -> list[NamedCA]:
    """Each CA once, the first one first; a renewal is no end, and tells the name that the CA has now."""
    replaced = superseded(cases, now)
    since: dict[int | None, datetime] = {}  # of each case, with those that it renews
    found: dict[str, NamedCA] = {}
    for case in cases.values():
        completed = next((done.at for done in case.done if done.state is State.COMPLETED), None)
        if completed is None or case.ours is None:
            continue
        since[case.case_id] = since.get(case.application.renews, completed)
        if case.case_id in replaced:
            continue
        ours = x509.load_der_x509_certificate(case.ours)
        end = case.revoked.at if case.revoked is not None else ours.not_valid_after_utc
        this = NamedCA(case.application.partner, text(ours.subject), since[case.case_id], end if end <= now else None)
        before = found.get(this.dn)
        if before is None or before.ended is not None:
            found[this.dn] = this
        elif this.ended is None:
            found[this.dn] = replace(this, since=before.since)
    return sorted(found.values(), key=lambda each: each.since)


def as_json(authority: Authority, names: Iterable[NamedCA], now: datetime) -> str:
    """For scripts."""
    content = {
        "authority": text(authority.name),
        "made_at": now.isoformat(),
        "cross_certified": [_fields(each) for each in names if each.ended is None],
        "cancelled": [_fields(each) for each in names if each.ended is not None],
    }
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def as_html(authority: Authority, names: Iterable[NamedCA], now: datetime) -> str:
    """For the web: a page in Japanese that needs nothing else."""
    names = list(names)
    return _PAGE.format(
        prefecture=html.escape(text_of(authority)),
        certified=_list(f"{each.name}（{_day(each.since)}から）" for each in names if each.ended is None),
        cancelled=_list(f"{each.name}（{_day(each.ended)}取消し）" for each in names if each.ended is not None),
        made=_day(now),
    )


def text_of(authority: Authority) -> str:
    """The CA's name for people: 東京都認証局."""
    return f"{authority.prefecture.name_ja}認証局{'（テスト）' * (authority.hierarchy == 'test')}"


def _fields(each: NamedCA) -> dict[str, str]:
    ended = {} if each.ended is None else {"cancelled_at": each.ended.isoformat()}
    return {"name": each.name, "dn": each.dn, "since": each.since.isoformat(), **ended}


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>\n" for line in lines)
    return f"<ul>\n{items}</ul>" if items else "<p>ありません。</p>"


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(JST):%Y年%-m月%-d日}"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(JST):%Y年%-m月%-d日 %H:%M:%S}"


_PAGE: Final = """<!DOCTYPE html>
<html lang="ja">
<meta charset="utf-8">
<title>相互認証に関する情報</title>
<h1>相互認証に関する情報</h1>
<p>{prefecture}</p>
<h2>相互認証した認証局の名称</h2>
{certified}
<h2>相互認証を取消した認証局の名称</h2>
{cancelled}
<p>作成：{made}</p>
</html>
"""
