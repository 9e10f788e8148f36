"""The lives of keys and certificates as SVG, over the years: when each key signed, and what lives by it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from html import escape
from typing import Final

from issuer.profiles.authority import Kind
from pkix.validity import JST
from simulation.history import History
from simulation.sight import Certificate, Key
from simulation.timetable import Compromise, PrepareKey, SwitchKey, years_later

WIDTH: Final = 1200
LEFT: Final = 210
RIGHT: Final = 20
TOP: Final = 60
ROW: Final = 22
AREA: Final = 180  # height of the residents' part
STEP: Final = timedelta(days=7)  # between counts of residents' certificates
COLOURS: Final = ("#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf")
REVOKED: Final = "#d62728"
_MARKS: Final[dict[type, str]] = {
    PrepareKey: "鍵生成",
    SwitchKey: "鍵更新",
    Compromise: "危殆化",
}
_KINDS: Final = {Kind.LINK: "リンク証明書", Kind.CROSS: "相互認証証明書", Kind.OCSP: "OCSPレスポンダ証明書"}


@dataclass(frozen=True, slots=True)
class _Axis:
    """Time, from left to right."""

    begin: datetime
    end: datetime

    def x(self, moment: datetime) -> float:
        """Where a moment is."""
        share = (min(max(moment, self.begin), self.end) - self.begin) / (self.end - self.begin)
        return LEFT + share * (WIDTH - LEFT - RIGHT)


def plot(history: History) -> str:
    """The SVG."""
    axis = _Axis(history.plan.founded_at, _midnight(history.plan.end))
    bars = list(_bars(history))
    bottom = TOP + len(bars) * ROW + 30 + AREA
    parts = [f'<rect width="{WIDTH}" height="{bottom + 50}" fill="#fff"/>', *_years(history, axis, bottom)]
    for number, (label, drawn) in enumerate(bars):
        y = TOP + number * ROW
        parts += [_text(LEFT - 8, y + 15, label, "end"), *(bar.svg(axis, y) for bar in drawn)]
    parts += [*_residents(history, axis, bottom), *_marks(history, axis, bottom)]
    title = f"鍵と証明書の一生 {history.plan.start} – {history.plan.end}"
    parts.append(_text(WIDTH / 2, 22, title, "middle"))
    size = f'viewBox="0 0 {WIDTH} {bottom + 50}" font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n' + "\n".join(parts) + "\n</svg>\n"


@dataclass(frozen=True, slots=True)
class _Bar:
    begin: datetime
    end: datetime
    colour: str
    opacity: float
    title: str

    def svg(self, axis: _Axis, y: float) -> str:
        """As a rectangle that tells what it is."""
        left, right = axis.x(self.begin), axis.x(self.end)
        place = f'x="{left:.1f}" y="{y + 3}" width="{max(right - left, 1):.1f}" height="{ROW - 6}"'
        fill = f'fill="{self.colour}" fill-opacity="{self.opacity}"'
        return f"<rect {place} {fill}><title>{escape(self.title)}</title></rect>"


def _bars(history: History) -> Iterator[tuple[str, list[_Bar]]]:
    for generation, key in sorted(history.keys.items(), key=lambda item: item[1].number):
        colour = _colour(key)
        own = REVOKED if key.state == "compromised" else colour
        bars = [_Bar(key.validity.not_before, key.validity.not_after, own, 0.25, "自己署名証明書の有効期間")]
        if generation in history.active:
            bars.append(_Bar(*history.active[generation], colour, 1, "この鍵で署名した期間"))
        yield f"知事の鍵 {key.number}", bars
        for kind, name in _KINDS.items():
            of_kind = [one for one in _of(history, generation) if one.kind is kind]
            if of_kind:
                yield f"鍵 {key.number} {name}", [_life(one, colour) for one in of_kind]


def _life(one: Certificate, colour: str) -> _Bar:
    end, title = one.validity.not_after, f"{one.serial:016X}"
    if one.revoked is not None:
        return _Bar(one.validity.not_before, one.revoked.at, REVOKED, 0.5, f"{title} 失効 {one.revoked.reason.label}")
    return _Bar(one.validity.not_before, end, colour, 0.5, title)


def _residents(history: History, axis: _Axis, bottom: float) -> Iterator[str]:
    """How many residents' certificates are valid, one area for each key upon the other."""
    moments = list(_moments(axis))
    below = [0] * len(moments)
    layers: list[tuple[str, Sequence[int], Sequence[int]]] = []
    for generation, key in sorted(history.keys.items(), key=lambda item: item[1].number):
        valid = _valid([one for one in _of(history, generation) if one.kind is Kind.RESIDENT], moments)
        above = [low + count for low, count in zip(below, valid, strict=True)]
        layers.append((_colour(key), below, above))
        below = above
    most = max(*below, 1)

    def edge(counts: Sequence[int]) -> list[str]:
        placed = zip(moments, counts, strict=True)
        return [f"{axis.x(at):.1f},{bottom - count / most * AREA:.1f}" for at, count in placed]

    for colour, lower, upper in layers:
        outline = " ".join([*edge(upper), *reversed(edge(lower))])
        yield f'<polygon points="{outline}" fill="{colour}" fill-opacity="0.6"/>'
    yield _text(LEFT - 8, bottom - AREA + 10, f"有効な電子証明書 最大 {most}", "end")


def _valid(certificates: Sequence[Certificate], moments: Sequence[datetime]) -> list[int]:
    lives = [
        (one.validity.not_before, one.revoked.at if one.revoked else one.validity.not_after) for one in certificates
    ]
    return [sum(begin <= at <= end for begin, end in lives) for at in moments]


def _moments(axis: _Axis) -> Iterator[datetime]:
    at = axis.begin
    while at < axis.end:
        yield at
        at += STEP
    yield axis.end


def _years(history: History, axis: _Axis, bottom: float) -> Iterator[str]:
    plan = history.plan
    for years in range((plan.end.year - plan.start.year) + 1):
        x = axis.x(_midnight(years_later(plan.start, years)))
        yield f'<line x1="{x:.1f}" y1="{TOP - 5}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>'
        yield _text(x, bottom + 18, f"{years_later(plan.start, years):%Y-%m}", "middle")


def _marks(history: History, axis: _Axis, bottom: float) -> Iterator[str]:
    shown = (mark for mark in history.marks if type(mark.event) in _MARKS)
    for number, mark in enumerate(shown):
        x = axis.x(mark.at)
        yield f'<line x1="{x:.1f}" y1="{TOP - 10}" x2="{x:.1f}" y2="{bottom}" stroke="#999" stroke-dasharray="3 3"/>'
        yield _text(x, 38 + 13 * (number % 2), _MARKS[type(mark.event)], "middle")


def _of(history: History, generation: int) -> Iterator[Certificate]:
    return (one for one in history.certificates.values() if one.generation_id == generation)


def _colour(key: Key) -> str:
    return COLOURS[(key.number - 1) % len(COLOURS)]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), JST).astimezone(UTC)


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="#333" text-anchor="{anchor}">{escape(words)}</text>'
