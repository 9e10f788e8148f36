"""The report of provision as a document is read back as it was meant."""

import io
import logging
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pypdf import PdfReader

from issuer.archive import paper
from issuer.archive.provision_pdf import as_pdf
from issuer.rules.provision_report import Provision, ProvisionReport

pytestmark = pytest.mark.req("R-4-5-1")
END = datetime(2026, 10, 31, 15, tzinfo=UTC)
REPORT = ProvisionReport(
    prefectures=("東京都", "富山県"),
    month=date(2026, 10, 1),
    made_at=datetime(2026, 11, 2, 3, 4, tzinfo=UTC),
    complete_until=END,
    provisions=(
        Provision("tax", "○○県税務課 <髙橋>", "OCSP", 1_234_567, 0),
        Provision("tax", "○○県税務課 <髙橋>", "CRL", 31, 0),
        Provision("plain", "", "OCSP", 1, 0),
    ),
)


def pages(report: ProvisionReport) -> list[str]:
    return [page.extract_text() for page in PdfReader(io.BytesIO(as_pdf(report))).pages]


def test_recipients_month_numbers_and_methods_are_there() -> None:
    """In Japanese, with sums and the time it was made; a party without a description by its name."""
    (page,) = pages(REPORT)
    words = page.split()
    for expected in (
        "失効情報等の提供状況（2026年10月）",
        "東京都・富山県",
        "提供先",
        "1,234,567",
        "1,234,568",
        "plain",
    ):
        assert expected in words
    assert "○○県税務課 <髙橋>" in page
    assert page.rstrip().endswith("作成：2026年11月2日 12:04")
    assert "集計が完了していない" not in page


def test_what_is_not_complete_says_so() -> None:
    """Before the table."""
    (page,) = pages(replace(REPORT, complete_until=None, provisions=()))
    assert page.index("集計が完了していない期間を含みます。") < page.index("提供先")


def test_many_recipients_take_several_pages_each_with_its_headings() -> None:
    """Table and chart both go on; no recipient is lost."""
    many = tuple(Provision(f"party-{number:03}", "", "OCSP", number, 0) for number in range(100))
    made = pages(replace(REPORT, provisions=many))
    table = [page for page in made if "提供先" in page]
    assert len(table) > 1
    for number in range(100):
        assert "".join(made).count(f"party-{number:03}") == 2


def test_the_document_is_the_same_each_time() -> None:
    """So that it can be made again from the journal and compared."""
    assert as_pdf(REPORT) == as_pdf(REPORT)


def fonts(octets: bytes) -> dict[str, bool]:
    """Those of all pages by their names, and whether they are in the document."""
    found = {}
    for page in PdfReader(io.BytesIO(octets)).pages:
        for font in page["/Resources"]["/Font"].values():  # type: ignore[index]
            described = font.get("/FontDescriptor", {})
            found[font["/BaseFont"]] = "/FontFile2" in described
    return found


def test_the_font_is_in_the_document() -> None:
    """Its used part: a reader without Japanese fonts shows the text, and the file stays small."""
    octets = as_pdf(REPORT)
    embedded = {name for name, is_embedded in fonts(octets).items() if is_embedded}
    assert {name.partition("+")[2] for name in embedded} == {"IPAexGothic"}
    assert set(fonts(octets)) - embedded <= {"/Helvetica"}  # which reportlab always names
    assert len(octets) < 100_000


def test_without_the_font_the_document_is_made_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Readers take a Japanese font of their own."""
    monkeypatch.setattr(paper, "FONT_FILE", tmp_path / "none.ttf")
    with caplog.at_level(logging.WARNING):
        octets = as_pdf(REPORT)
    assert "○○県税務課 <髙橋>" in PdfReader(io.BytesIO(octets)).pages[0].extract_text()
    assert not any(fonts(octets).values())
    assert [(record.message, record.__dict__["say"]) for record in caplog.records] == [
        ("font_not_embedded", "install the Debian package fonts-ipaexfont-gothic")
    ]
