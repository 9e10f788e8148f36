"""Octets into whole messages."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repository.errors import MalformedMessageError
from repository.framing import MessageFramer

MAX = 1024
MESSAGES = [b"\x30\x00", b"\x30\x03abc", b"\x30\x81\x80" + bytes(128), b"\x30\x84\x00\x00\x00\x02xy"]


def received(framer: MessageFramer) -> list[bytes]:
    found = []
    while (message := framer.next_message()) is not None:
        found.append(message)
    return found


@given(st.lists(st.sampled_from(MESSAGES), max_size=20), st.data())
def test_message_boundaries_do_not_depend_on_how_octets_arrive(messages: list[bytes], data: st.DataObject) -> None:
    """Octet by octet or a thousand messages in a segment: the same messages."""
    stream = b"".join(messages)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)))) | {0, len(stream)})
    framer = MessageFramer(MAX)
    found = []
    for start, end in pairwise(cuts):
        framer.receive(stream[start:end])
        found += received(framer)
    assert found == messages


@pytest.mark.parametrize(
    "header",
    [
        b"\x30\x82\x04\x01",
        b"\x30\x84\x7f\xff\xff\xff",
        b"\x30\x80",
        b"\x30\x85\x00\x00\x00\x00\x01",
        b"\x30\xff",
        b"G",
        b"\x16\x03",
    ],
    ids=["over-the-limit", "two-gigabytes", "indefinite", "five-length-octets", "reserved", "http", "tls"],
)
def test_what_is_no_message_of_allowed_size_is_refused_from_its_header(header: bytes) -> None:
    """Nothing is gathered for a message that will not be read."""
    framer = MessageFramer(MAX)
    framer.receive(header)
    with pytest.raises(MalformedMessageError):
        framer.next_message()


def test_the_largest_allowed_message_is_read() -> None:
    """The limit counts the whole message, header and all."""
    framer = MessageFramer(MAX)
    message = b"\x30\x82\x03\xfc" + bytes(1020)
    framer.receive(message)
    assert received(framer) == [message]


def test_discarded_octets_do_not_come_back() -> None:
    """What was pipelined behind StartTLS is gone, and what comes later is read from its beginning."""
    framer = MessageFramer(MAX)
    framer.receive(b"\x30\x00\x30\x05half")
    assert framer.next_message() == b"\x30\x00"
    framer.discard()
    framer.receive(b"\x30\x01x")
    assert received(framer) == [b"\x30\x01x"]
