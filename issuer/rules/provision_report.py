"""提供状況報告書: to whom how many items of revocation information were provided in a month, and how (R-4-5-1).

An item is the status of one certificate (OCSP), or one list (CRL, ARL). It is the same number that fees are counted by
(R-2-1-4-10). The report is made from what was counted when the journals were collected, so it can be made again.
"""

import csv
import html
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from issuer.rules.usage import Amount, Use
from pkix.validity import JST

PROVIDED: Final[Mapping[tuple[str, str, str], str]] = {
    ("ocsp_request", "good", ""): "OCSP",
    ("ocsp_request", "revoked", ""): "OCSP",
    ("ldap_search", "success", "certificateRevocationList"): "CRL",
    ("ldap_search", "success", "authorityRevocationList"): "ARL",
}
METHODS: Final = tuple(dict.fromkeys(PROVIDED.values()))
ANONYMOUS: Final = "（取決めのない者）"
HEADINGS: Final = ("提供先", "提供年月", "提供件数", "提供方法")
NOT_COMPLETE: Final = "この報告書は、集計が完了していない期間を含みます。"
COLORS: Final[Mapping[str, str]] = {"OCSP": "#2b6cb0", "CRL": "#2f855a", "ARL": "#b7791f"}  # of the chart's bars


@dataclass(frozen=True, slots=True)
class Provision:
    """One line of the report."""

    recipient: str  # name in the register; empty for those who need none
    description: str
    method: str
    items: int
    octets: int

    @property
    def name(self) -> str:
        """As it is published."""
        return self.description or self.recipient


@dataclass(frozen=True, slots=True)
class ProvisionReport:
    """The report of one month in Japan."""

    prefectures: tuple[str, ...]
    month: date  # its first day
    made_at: datetime
    complete_until: datetime | None  # journals of all processes were collected up to here; None: of none
    provisions: tuple[Provision, ...]

    @property
    def end(self) -> datetime:
        """The first moment after the month."""
        return datetime.combine(month_after(self.month), datetime.min.time(), JST)

    @property
    def is_complete(self) -> bool:
        """Is the month over, and everything of it counted?"""
        return self.complete_until is not None and self.complete_until >= self.end

    def totals(self) -> dict[str, int]:
        """Items by method."""
        items: Counter[str] = Counter()
        for provision in self.provisions:
            items[provision.method] += provision.items
        return {method: items[method] for method in METHODS}


def title(report: ProvisionReport) -> str:
    """For a document's head."""
    return f"失効情報等の提供状況（{report.month:%Y年%-m月}）"


def made(report: ProvisionReport) -> str:
    """For its foot: when it was made."""
    return f"作成：{report.made_at.astimezone(JST):%Y年%-m月%-d日 %H:%M}"


def month_after(month: date) -> date:
    """The first day of the next month."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def provisions(usage: Mapping[Use, Amount], descriptions: Mapping[str, str]) -> tuple[Provision, ...]:
    """Who was provided with what, by name and method.

    Args:
        usage: of the month.
        descriptions: of the registered relying parties, by name.
    """
    sums: dict[tuple[str, str], Amount] = {}
    for use, amount in usage.items():
        method = PROVIDED.get((use.kind, use.result, use.attribute))
        if method is not None:
            total = sums.setdefault((use.party, method), Amount())
            total.items += amount.items
            total.octets += amount.octets
    return tuple(
        Provision(party, descriptions.get(party, "") if party else ANONYMOUS, method, total.items, total.octets)
        for (party, method), total in sorted(sums.items(), key=lambda item: (item[0][0], METHODS.index(item[0][1])))
    )


def as_csv(report: ProvisionReport) -> str:
    """For spreadsheets: one line for each recipient and method."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["提供先", "名称", "提供年月", "提供方法", "提供件数", "octets"])
    for one in report.provisions:
        row = (one.recipient, one.description, f"{report.month:%Y-%m}", one.method, one.items, one.octets)
        writer.writerow([_no_formula(cell) for cell in row])
    return stream.getvalue()


def as_json(report: ProvisionReport) -> str:
    """For scripts."""
    content = {
        "prefectures": list(report.prefectures),
        "month": f"{report.month:%Y-%m}",
        "made_at": report.made_at.isoformat(),
        "complete": report.is_complete,
        "complete_until": report.complete_until and report.complete_until.isoformat(),
        "totals": report.totals(),
        "provisions": [
            {
                "recipient": one.recipient or None,
                "description": one.description,
                "method": one.method,
                "items": one.items,
                "octets": one.octets,
            }
            for one in report.provisions
        ],
    }
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def as_html(report: ProvisionReport) -> str:
    """For publication: a page in Japanese that needs nothing else."""
    rows = "".join(
        f"<tr><td>{html.escape(one.name)}</td><td>{report.month:%Y年%-m月}</td>"
        f"<td class=n>{one.items:,}</td><td>{one.method}</td></tr>\n"
        for one in report.provisions
    )
    sums = "".join(
        f"<tr><th>合計</th><td></td><td class=n>{items:,}</td><td>{method}</td></tr>\n"
        for method, items in report.totals().items()
    )
    note = "" if report.is_complete else f"<p class=note>{NOT_COMPLETE}</p>\n"
    return _PAGE.format(
        title=title(report),
        prefectures=html.escape("・".join(report.prefectures)),
        note=note,
        headings="".join(f"<th>{heading}</th>" for heading in HEADINGS),
        rows=rows,
        sums=sums,
        chart=_chart(report.provisions),
        colors=" ".join(f".{method} {{ fill: {color} }}" for method, color in COLORS.items()),
        made=made(report),
    )


def _chart(provided: Sequence[Provision]) -> str:
    """Bars of items, one for each line of the table."""
    if not provided:
        return ""
    most = max(one.items for one in provided)
    widths = [max(1, round(400 * one.items / most)) for one in provided]
    bars = "".join(
        f'<text x="0" y="{28 * at + 18}">{html.escape(one.name[:20])} {one.method}</text>'
        f'<rect x="330" y="{28 * at + 4}" width="{width}" height="18" class="{one.method}"/>'
        f'<text x="{338 + width}" y="{28 * at + 18}">{one.items:,}</text>'
        for at, (one, width) in enumerate(zip(provided, widths, strict=True))
    )
    return f'<svg viewBox="0 0 860 {28 * len(provided) + 4}" role="img" aria-label="提供件数">{bars}</svg>'


def _no_formula(cell: object) -> object:
    """A name that a spreadsheet would take for a formula is quoted (R-4-5-1 knows no formulas)."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) else cell


_PAGE: Final = """<!DOCTYPE html>
<html lang="ja">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: "Noto Sans CJK JP", "Hiragino Sans", "Yu Gothic", sans-serif; max-width: 54em; margin: 2em auto }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ border: 1px solid #999; padding: .3em .6em; text-align: left }}
.n {{ text-align: right }} .note {{ color: #a00 }} svg {{ width: 100%; font-size: 13px; margin-top: 1.5em }}
{colors}
</style>
<h1>{title}</h1>
<p>{prefectures}</p>
{note}<table>
<tr>{headings}</tr>
{rows}{sums}</table>
{chart}
<p>{made}</p>
</html>
"""
