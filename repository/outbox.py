"""What a connection still has to send, handed out in slices.

Answers lie here as pieces that belong to the directory, however slowly the peer reads. A slice is made of views of
them: only runs of small pieces are joined, so that the kernel and TLS get few of them.
"""

from collections import deque
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from repository.codec import Operation

Octets = bytes | memoryview

_SMALL_BYTES: Final = 4096


class _Answer:
    """What is left of one answer."""

    __slots__ = ("begun", "message_id", "messages")

    def __init__(self, message_id: int, messages: Iterable[Operation]) -> None:
        self.message_id = message_id
        self.messages = deque(messages)  # whole ones
        self.begun: deque[memoryview] = deque()  # the rest of the message of which a part is gone

    def __bool__(self) -> bool:
        return bool(self.begun or self.messages)

    def next_piece(self) -> memoryview:
        if not self.begun:
            self.begun.extend(map(memoryview, self.messages.popleft()))
        return self.begun.popleft()


class Outbox:
    """Answers in the order in which they are to be sent; its length is how many there are."""

    def __init__(self) -> None:
        self._answers: deque[_Answer] = deque()

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, message_id: int, messages: Iterable[Operation]) -> None:
        """Put an answer at the end."""
        self._answers.append(_Answer(message_id, messages))

    def abandon(self, message_id: int) -> None:
        """Forget the answer to this request; a message that has been begun is completed, or the stream would break."""
        for answer in self._answers:
            if answer.message_id == message_id:
                answer.messages.clear()
        self._answers = deque(filter(None, self._answers))

    def take(self, limit_bytes: int) -> list[Octets]:
        """The next octets to be sent, at most this many; empty if there are none."""
        slices: list[memoryview] = []
        while self._answers and limit_bytes > 0:
            answer = self._answers[0]
            piece = answer.next_piece()
            slices.append(piece[:limit_bytes])
            if len(piece) > limit_bytes:
                answer.begun.appendleft(piece[limit_bytes:])
            limit_bytes -= len(slices[-1])
            if not answer:
                self._answers.popleft()
        return _joined(slices)

    def clear(self) -> None:
        """Forget everything."""
        self._answers.clear()


def _joined(slices: list[memoryview]) -> list[Octets]:
    """The same octets, without small pieces side by side."""
    joined: list[Octets] = []
    for is_small, run in groupby(slices, key=lambda piece: len(piece) <= _SMALL_BYTES):
        joined += [b"".join(run)] if is_small else run
    return joined
