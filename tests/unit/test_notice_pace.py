"""How far `prefca issue` says it is, where no terminal shows a bar."""

from collections.abc import Iterator

import pytest

from issuer.cli.pace import Pace


def seconds(*moments: float) -> Iterator[float]:
    return iter(moments)


@pytest.mark.parametrize(
    ("total", "before", "expected"),
    [
        (10_000, 0, "1,200 of 10,000 lines, 100 certificates/s, 0:01:28 left\n"),
        (10_000, 600, "1,200 of 10,000 lines, 100 certificates/s, 0:02:56 left\n"),
        (None, 0, "1,200 lines, 100 certificates/s\n"),
    ],
    ids=["a file", "a file that was begun before", "a pipe"],
)
def test_a_line_now_and_then_tells_rate_and_rest(
    total: int | None, before: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every ten seconds, on standard error."""
    moments = seconds(0, 5, 12, 13)
    with Pace("issuing", total, before, lambda: next(moments)) as pace:
        pace.advance(900, 600)
        pace.advance(1200, 600)
        pace.advance(1300, 100)
    assert capsys.readouterr() == ("", expected)
