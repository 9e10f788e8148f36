"""The 提供状況報告書 as PDF: the content of `issuer.rules.provision_report.as_html`, on paper of size A4."""

from collections.abc import Sequence
from typing import Any, Final

from reportlab.graphics.shapes import Drawing, Rect
from reportlab.lib.colors import HexColor
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Paragraph, Spacer, Table

from issuer.archive.paper import cell, document, font, style
from issuer.rules.provision_report import COLORS, HEADINGS, NOT_COMPLETE, Provision, ProvisionReport, made, title

BAR_WIDTH: Final = 70 * mm
BAR_HEIGHT: Final = 4 * mm
_COLUMNS: Final = (80 * mm, 30 * mm, 30 * mm, 30 * mm)
_BAR_COLUMNS: Final = (70 * mm, BAR_WIDTH + 5 * mm, 25 * mm)


def as_pdf(report: ProvisionReport) -> bytes:
    """For publication. The octets are the same each time, for one report and `made_at`."""
    heading, text, warning = style(16, leading=24), style(10), style(10, HexColor("#aa0000"))
    parts: list[Flowable] = [Paragraph(title(report), heading), cell("・".join(report.prefectures), text)]
    if not report.is_complete:
        parts.append(Paragraph(NOT_COMPLETE, warning))
    parts += [Spacer(0, 5 * mm), _table(report, text), Spacer(0, 8 * mm)]
    if report.provisions:
        parts += [_chart(report.provisions, text), Spacer(0, 5 * mm)]
    parts.append(Paragraph(made(report), text))
    return document(title(report), parts)


def _table(report: ProvisionReport, text: ParagraphStyle) -> Table:
    month = f"{report.month:%Y年%-m月}"
    rows: list[list[Any]] = [list(HEADINGS)]
    rows += [[cell(one.name, text), month, f"{one.items:,}", one.method] for one in report.provisions]
    rows += [["合計", "", f"{items:,}", method] for method, items in report.totals().items()]
    return Table(
        rows,
        _COLUMNS,
        repeatRows=1,
        style=[
            ("FONT", (0, 0), (-1, -1), font(), 10),
            ("GRID", (0, 0), (-1, -1), 0.5, HexColor("#999999")),
            ("BACKGROUND", (0, 0), (-1, 0), HexColor("#eeeeee")),
            ("ALIGN", (2, 0), (2, -1), "RIGHT"),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ],
    )


def _chart(provisions: Sequence[Provision], text: ParagraphStyle) -> Table:
    """Bars of items; a table, so that it goes on on the next page."""
    most = max(one.items for one in provisions)
    rows = [
        [cell(f"{one.name} {one.method}", text), _bar(one.items / most, COLORS[one.method]), f"{one.items:,}"]
        for one in provisions
    ]
    look = [("FONT", (0, 0), (-1, -1), font(), 10), ("VALIGN", (0, 0), (-1, -1), "MIDDLE")]
    return Table(rows, _BAR_COLUMNS, style=look)


def _bar(part: float, color: str) -> Drawing:
    drawing = Drawing(BAR_WIDTH, BAR_HEIGHT)
    drawing.add(Rect(0, 0, max(1.0, part * BAR_WIDTH), BAR_HEIGHT, fillColor=HexColor(color), strokeColor=None))
    return drawing
