"""Rows are written to PostgreSQL as its documentation of COPY describes the binary format."""

import pytest

from issuer.records.binary_copy import PIECE_OCTETS, row

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)


@pytest.mark.parametrize(
    ("fields", "octets"),
    [
        ((), b"\x00\x00"),
        ((None,), b"\x00\x01" + b"\xff\xff\xff\xff"),
        ((b"",), b"\x00\x01" + b"\x00\x00\x00\x00"),
        ((b"ab", None, b"c"), b"\x00\x03" + b"\x00\x00\x00\x02ab" + b"\xff\xff\xff\xff" + b"\x00\x00\x00\x01c"),
    ],
    ids=["no column", "NULL", "nothing", "some of each"],
)
def test_a_row_is_its_fields_with_their_lengths(fields: tuple[bytes | None, ...], octets: bytes) -> None:
    """Header, number of fields, fields, trailer."""
    assert b"".join(row(*fields)) == HEADER + octets + b"\xff\xff"


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_large_field_comes_in_pieces(extra: int) -> None:
    """None of them is larger than a mebibyte."""
    field = bytes(2 * PIECE_OCTETS + extra)
    pieces = list(row(field))
    assert max(map(len, pieces)) == PIECE_OCTETS
    assert b"".join(pieces).endswith(len(field).to_bytes(4, "big") + field + b"\xff\xff")


def test_small_fields_leave_together() -> None:
    """Each piece is a message to the server: a row of small values is one."""
    assert len(list(row(b"number", None, bytes(2000)))) == 1
