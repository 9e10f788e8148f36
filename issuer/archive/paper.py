"""Documents in Japanese on paper of size A4, as PDF: the same octets each time for the same content."""

import html
import io
from collections.abc import Sequence
from typing import Final

from reportlab.lib.colors import Color
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate

FONT: Final = "HeiseiKakuGo-W5"  # of Adobe's Japanese fonts that every reader of PDF has: nothing is embedded


def document(title: str, parts: Sequence[Flowable]) -> bytes:
    """The PDF with that title and content."""
    octets = io.BytesIO()
    SimpleDocTemplate(octets, pagesize=A4, title=title, invariant=1).build(list(parts))
    return octets.getvalue()


def style(size: float, color: Color | None = None, leading: int = 15) -> ParagraphStyle:
    """How text is set."""
    pdfmetrics.registerFont(UnicodeCIDFont(FONT))
    more = {} if color is None else {"textColor": color}
    return ParagraphStyle("plain", fontName=FONT, fontSize=size, leading=leading, wordWrap="CJK", **more)


def cell(content: str, text: ParagraphStyle) -> Paragraph:
    """Text that wraps, as it is."""
    return Paragraph(html.escape(content), text)
