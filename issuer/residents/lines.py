"""Lines of a notice file, and what is said of those that are refused."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Line(NamedTuple):
    """A line of a notice file."""

    number: int  # 1 is the first
    content: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was done for a line, and why. `code` is for programs, `message` for municipal staff, in Japanese."""

    line: int
    notice_number: str | None
    code: str
    message: str


def numbered(contents: Iterable[bytes], after: int) -> Iterator[Line]:
    """The lines that are not blank; `after`: how many came before them."""
    return (Line(number, content) for number, content in enumerate(contents, after + 1) if content.strip())
