"""What is still to be sent, in slices."""

from hypothesis import given
from hypothesis import strategies as st

from repository.outbox import Outbox

MESSAGES = st.lists(st.lists(st.binary(max_size=9), min_size=1, max_size=3).map(tuple), min_size=1, max_size=3)


def drained(outbox: Outbox, limit_bytes: int = 4) -> bytes:
    found = b""
    while outbox:
        part = b"".join(outbox.take(limit_bytes))
        assert len(part) <= limit_bytes
        found += part
    return found


@given(st.lists(MESSAGES, max_size=4), st.integers(1, 30))
def test_slices_make_up_the_answers_in_order(answers: list[list[tuple[bytes, ...]]], limit_bytes: int) -> None:
    """Whatever the size of a slice, and never larger than it."""
    outbox = Outbox()
    for message_id, messages in enumerate(answers):
        outbox.add(message_id, messages)
    assert drained(outbox, limit_bytes) == b"".join(piece for each in answers for pieces in each for piece in pieces)


def test_an_abandoned_answer_ends_with_the_message_that_was_begun() -> None:
    """RFC 4511, section 4.11: nothing more of it, but the stream stays readable; other answers are not touched."""
    outbox = Outbox()
    outbox.add(1, [(b"first", b"-more"), (b"second",), (b"done",)])
    outbox.add(2, [(b"other",)])
    assert outbox.take(3) == [b"fir"]
    outbox.abandon(1)
    assert drained(outbox) == b"st-moreother"


def test_an_answer_that_was_not_begun_is_abandoned_whole() -> None:
    """And an unknown message ID changes nothing."""
    outbox = Outbox()
    outbox.add(1, [(b"one",)])
    outbox.add(2, [(b"two",)])
    outbox.abandon(2)
    outbox.abandon(77)
    assert len(outbox) == 1
    assert drained(outbox) == b"one"
