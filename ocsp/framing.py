"""Just enough of HTTP/1.1 (RFC 9112) to know where a plain request ends: octets in, values out.

Whatever is not plain is left to aiohttp. So nothing here has to understand every request, but what it takes for plain
must be exactly that: a second reading of the same octets that differs from aiohttp's would be request smuggling.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

MAX_HEAD_BYTES: Final = 8190
MAX_KNOWN_HEADS: Final = 4096
BLANK_LINE: Final = b"\r\n\r\n"

_REQUEST_LINE: Final = re.compile(rb"(?:POST|HEAD) /[!-~]* HTTP/1\.1")
_GET_LINE: Final = re.compile(rb"GET (/[!\"$-~]*) HTTP/1\.1")  # without "#", where aiohttp's target ends
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,9}")
_CHANGE_NOTHING: Final = frozenset(
    (
        *(b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"cache-control", b"host", b"pragma"),
        b"user-agent",
    )
)


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of a request says: for a GET, without its request line."""

    body_octets: int | None  # None: that cannot be told here
    plain: bool  # nothing but the question itself has influence on the answer, and the connection stays open


UNCLEAR: Final = Head(None, plain=False)


class Heads:
    """Heads that were read before: clients send the same ones again and again."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def split(self, data: bytes) -> tuple[Head, bytes]:
        """Split what begins with a request.

        Returns:
            What its head says, and the question: the request line of a GET, otherwise what follows the head.
        """
        if data.startswith(b"GET "):
            end = data.find(b"\r\n")
            head, question = data[end:], data[:end]
        else:
            end = data.find(BLANK_LINE) + len(BLANK_LINE)
            head, question = data[:end], data[end:]
        known = self._known.get(head)
        if known is None:
            known = read_head(head)
            if known is not UNCLEAR:
                if len(self._known) >= MAX_KNOWN_HEADS:
                    self._known.clear()
                self._known[head] = known
        return known, question


def read_head(head: bytes) -> Head:
    """Read a head, with its blank line; that of a GET begins with the end of the request line."""
    if len(head) > MAX_HEAD_BYTES or head.find(BLANK_LINE) != len(head) - len(BLANK_LINE):
        return UNCLEAR
    line, *lines = head[: -len(BLANK_LINE)].split(b"\r\n")
    if line and not _REQUEST_LINE.fullmatch(line):
        return UNCLEAR
    fields: list[tuple[bytes, bytes]] = []
    for each in lines:
        field = _FIELD.fullmatch(each)
        if field is None:
            return UNCLEAR
        fields.append((field[1].lower(), field[2]))
    meaning = _meaning(fields, has_body=line.startswith(b"POST"))
    return replace(meaning, plain=False) if line.startswith(b"HEAD") and meaning is not UNCLEAR else meaning


def get_target(line: bytes) -> str | None:
    """The request target of a GET, in origin-form (RFC 9112, section 3.2.1); None is for aiohttp to read."""
    matched = _GET_LINE.fullmatch(line) if len(line) <= MAX_HEAD_BYTES else None
    return matched[1].decode("ascii") if matched else None


def _meaning(fields: list[tuple[bytes, bytes]], *, has_body: bool) -> Head:
    names = [name for name, _ in fields]
    values = dict(fields)
    if len(values) != len(names) or b"transfer-encoding" in values or b"upgrade" in values:
        return UNCLEAR
    length = values.get(b"content-length", b"0")
    if not _LENGTH.fullmatch(length):
        return UNCLEAR
    if not has_body and int(length):
        return UNCLEAR
    plain = b"host" in values and all(_is_plain(name, value) for name, value in fields)
    return Head(int(length), plain=plain)


def _is_plain(name: bytes, value: bytes) -> bool:
    match name:
        case b"content-length":
            return True
        case b"content-type":
            return value.lower() == b"application/ocsp-request"
        case b"connection":
            return value.lower() == b"keep-alive"
        case _:
            return name in _CHANGE_NOTHING
