"""A small plot with logarithmic axes, as SVG, without a library."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT, MARGIN = 640, 400, 60
COLOURS = ("#0b6", "#c33", "#36c")

Points = Sequence[tuple[float, float]]


def log_log(title: str, x_label: str, y_label: str, lines: Mapping[str, Points]) -> str:
    """The SVG. Every power of ten has its line, so that what is linear rises by one field in each."""
    points = [point for line in lines.values() for point in line]
    x_range, y_range = (_decades([point[axis] for point in points]) for axis in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (log10(x) - x_range[0]) / (x_range[1] - x_range[0])
        up = (log10(y) - y_range[0]) / (y_range[1] - y_range[0])
        return MARGIN + across * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)

    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    parts += [_text(WIDTH / 2, MARGIN / 2, title), _text(WIDTH / 2, HEIGHT - 12, x_label), _text(30, 45, y_label)]
    for power in range(x_range[0], x_range[1] + 1):
        x, _ = place(10**power, 10 ** y_range[0])
        parts += [_line([(x, MARGIN), (x, HEIGHT - MARGIN)], "#ddd"), _text(x, HEIGHT - MARGIN + 18, f"{10**power:,}")]
    for power in range(y_range[0], y_range[1] + 1):
        _, y = place(10 ** x_range[0], 10**power)
        parts += [_line([(MARGIN, y), (WIDTH - MARGIN, y)], "#ddd"), _text(MARGIN - 25, y + 4, f"{10.0**power:g}")]
    for colour, (name, line) in zip(COLOURS, lines.items(), strict=False):
        placed = [place(*point) for point in line]
        parts.append(_line(placed, colour))
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in placed]
        parts += [_text(x, y - 9, f"{point[1]:.3g}") for (x, y), point in zip(placed, line, strict=True)]
        parts.append(_text(placed[0][0] + 10, placed[0][1] + 20, name, colour, "start"))
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n' + "\n".join(parts) + "\n</svg>\n"


def _decades(values: Sequence[float]) -> tuple[int, int]:
    return floor(log10(min(values))), ceil(log10(max(values)))


def _line(points: Points, colour: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _text(x: float, y: float, words: str, colour: str = "#333", anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'
