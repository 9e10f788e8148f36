"""Ready answers, and the look at a message that finds them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repository import codec
from repository.cache import FLAT_BYTES, MAX_REQUEST_BYTES, Answer, AnswerCache
from repository.codec import Operation
from repository.errors import MalformedMessageError
from repository.framing import outline
from tests.support.repository import message, search_request

ID = {
    1: b"\x02\x01\x01",
    200: b"\x02\x02\x00\xc8",
    70_000: b"\x02\x03\x01\x11\x70",
    2**31 - 1: b"\x02\x04\x7f\xff\xff\xff",
}


def answer(size: int = 10, messages: int = 2) -> Answer:
    return Answer(tuple((b"\x64", bytes(size)) for _ in range(messages)))


@pytest.mark.parametrize(("number", "encoded"), ID.items(), ids=map(str, ID))
@pytest.mark.parametrize("size", [10, 200, FLAT_BYTES // 3], ids=["short", "long", "longer"])
def test_a_ready_answer_is_what_would_be_encoded_for_the_message_id(number: int, encoded: bytes, size: int) -> None:
    """Whether it is given in one piece or as messages."""
    operations: tuple[Operation, ...] = ((b"\x64", bytes(size)), (b"\x65\x03abc",))
    made = Answer(operations)
    expected = b"".join(b"".join(codec.message(number, operation)) for operation in operations)
    assert made.is_flat
    assert made.octets(encoded) == expected
    assert b"".join(piece for each in made.messages(encoded) for piece in each) == expected


def test_a_large_value_is_shared_and_does_not_count() -> None:
    """The cache holds no copy of a list of ten megabytes."""
    large = bytes(10_000_000)
    made = Answer(((b"head", large),))
    assert not made.is_flat
    assert made.own_bytes < 1000
    ((_, value),) = made.messages(ID[1])
    assert value is large


def test_the_oldest_answers_give_way_when_the_cache_is_full() -> None:
    """It never holds more than it may."""
    limit = 10 * answer().own_bytes
    cache = AnswerCache(limit)
    for number in range(100):
        cache.add(b"%d" % number, answer())
        assert cache.size_bytes <= limit
    assert cache.find(b"99") is not None
    assert cache.find(b"0") is None
    assert 1 < len(cache) < 11


@pytest.mark.parametrize(
    ("request_octets", "ready"),
    [(bytes(MAX_REQUEST_BYTES + 1), answer()), (b"many", answer(FLAT_BYTES - 1, 100))],
    ids=["long-request", "large-answer"],
)
def test_what_would_push_out_many_others_is_not_kept(request_octets: bytes, ready: Answer) -> None:
    """One client cannot empty the cache with one request."""
    cache = AnswerCache(10**9)
    cache.add(request_octets, ready)
    assert len(cache) == 0


@given(st.integers(1, 2**31 - 1), st.binary(max_size=40), st.integers(0, 300))
def test_an_outline_finds_what_the_decoder_reads(message_id: int, behind: bytes, padding: int) -> None:
    """Message ID, operation and end of a whole message, whatever stands behind it."""
    octets = message(search_request("O=" + "x" * padding), message_id)
    parts = outline(octets + behind, 0)
    assert parts is not None
    at, operation, end = parts
    envelope = codec.open_envelope(octets)
    assert int.from_bytes(octets[at + 2 : operation], "big") == envelope.message_id
    assert octets[operation:end] == envelope.operation
    assert end == len(octets)


@given(st.binary(max_size=60) | st.binary(max_size=50).map(lambda octets: b"\x30" + bytes((len(octets),)) + octets))
def test_what_is_outlined_and_read_has_the_same_parts(octets: bytes) -> None:
    """Nonsense has no outline, or one that agrees with the decoder, which then decides."""
    parts = outline(octets, 0)
    if parts is None:
        return
    at, operation, end = parts
    assert at < operation < end <= len(octets)
    try:
        envelope = codec.open_envelope(octets[:end])
    except MalformedMessageError:
        return
    assert octets[operation:end] == envelope.operation
    assert int.from_bytes(octets[at + 2 : operation], "big") == envelope.message_id


NO_OUTLINE = {
    "nothing": b"",
    "no-length": b"\x30",
    "indefinite": b"\x30\x80",
    "length-cut-off": b"\x30\x84\xff",
    "message-id-0": b"\x30\x07\x02\x01\x00\x42\x00",
    "negative-message-id": b"\x30\x05\x02\x01\xff\x42\x00",
    "cut-off": message(search_request())[:-1],
    "set": b"\x31\x05\x02\x01\x01\x42\x00",
    "one-octet-missing": b"\x30\x05\x02\x01\x01\x42",
}


@pytest.mark.parametrize("octets", NO_OUTLINE.values(), ids=NO_OUTLINE)
def test_what_is_cut_off_or_malformed_has_no_outline(octets: bytes) -> None:
    """It is left to the framer and the decoder."""
    assert outline(octets, 0) is None
