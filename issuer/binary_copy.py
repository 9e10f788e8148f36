"""A row in PostgreSQL's binary COPY format, piece by piece: a value of any size is never held twice."""

from collections.abc import Iterator
from typing import Final

PIECE_OCTETS: Final = 1 << 20

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00"
_FLAGS_AND_EXTENSION: Final = bytes(8)  # none
_NULL: Final = b"\xff\xff\xff\xff"
_END: Final = b"\xff\xff"


def row(*fields: bytes | None) -> Iterator[bytes]:
    """The input of a COPY … FROM STDIN (FORMAT binary) of one row.

    Args:
        fields: what the send functions of the columns' types make, each in network byte order; None: NULL.
    """
    yield _SIGNATURE + _FLAGS_AND_EXTENSION + len(fields).to_bytes(2, "big")
    for field in fields:
        if field is None:
            yield _NULL
            continue
        yield len(field).to_bytes(4, "big")
        for at in range(0, len(field), PIECE_OCTETS):
            yield field[at : at + PIECE_OCTETS]
    yield _END
