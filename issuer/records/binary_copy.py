"""A row in PostgreSQL's binary COPY format, piece by piece: a large value is never held twice."""

from collections.abc import Iterator
from typing import Final

PIECE_OCTETS: Final = 1 << 20
SMALL_OCTETS: Final = 1 << 14

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00"
_FLAGS_AND_EXTENSION: Final = bytes(8)  # none
_NULL: Final = b"\xff\xff\xff\xff"
_END: Final = b"\xff\xff"


def row(*fields: bytes | None) -> Iterator[bytes]:
    """The input of a COPY … FROM STDIN (FORMAT binary) of one row.

    Args:
        fields: what the send functions of the columns' types make, each in network byte order; None: NULL.
    """
    small = [_SIGNATURE, _FLAGS_AND_EXTENSION, len(fields).to_bytes(2, "big")]  # each piece is a message: few are sent
    for field in fields:
        if field is None:
            small.append(_NULL)
            continue
        small.append(len(field).to_bytes(4, "big"))
        if len(field) <= SMALL_OCTETS:
            small.append(field)
            continue
        yield b"".join(small)
        small = []
        for at in range(0, len(field), PIECE_OCTETS):
            yield field[at : at + PIECE_OCTETS]
    yield b"".join((*small, _END))
