"""Documents in Japanese on paper of size A4, as PDF: the same octets each time for the same content.

The font is embedded, as far as its characters are used: a reader of PDF needs none of its own. It is Debian's package
fonts-ipaexfont-gothic, whose licence (IPA Font License) lets documents hold it.
"""

import functools
import html
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from reportlab.lib.colors import Color
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate

FONT_FILE: Final = Path("/usr/share/fonts/opentype/ipaexfont-gothic/ipaexg.ttf")
_EMBEDDED: Final = "IPAexGothic"
_NAMED: Final = "HeiseiKakuGo-W5"  # of Adobe's Japanese fonts, which readers of PDF have or replace, if they can

_logger = logging.getLogger(__name__)


def document(title: str, parts: Sequence[Flowable]) -> bytes:
    """The PDF with that title and content."""
    octets = io.BytesIO()
    SimpleDocTemplate(octets, pagesize=A4, title=title, invariant=1).build(list(parts))
    return octets.getvalue()


def style(size: float, color: Color | None = None, leading: int = 15) -> ParagraphStyle:
    """How text is set."""
    more = {} if color is None else {"textColor": color}
    return ParagraphStyle("plain", fontName=font(), fontSize=size, leading=leading, wordWrap="CJK", **more)


def font() -> str:
    """The name of the font that everything is set in; it is embedded if it is installed here."""
    return _font(FONT_FILE)


@functools.cache
def _font(file: Path) -> str:
    if file.exists():
        pdfmetrics.registerFont(TTFont(_EMBEDDED, file))
        return _EMBEDDED
    _logger.warning("font_not_embedded", extra={"say": "install the Debian package fonts-ipaexfont-gothic"})
    pdfmetrics.registerFont(UnicodeCIDFont(_NAMED))
    return _NAMED


def cell(content: str, text: ParagraphStyle) -> Paragraph:
    """Text that wraps, as it is."""
    return Paragraph(html.escape(content), text)
