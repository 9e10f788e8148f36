"""What a connection still has to send, handed out in slices.

Answers lie here as pieces that belong to the directory, however slowly the peer reads. A slice is made of views of
them: only runs of small pieces are joined, so that the kernel and TLS get few of them.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from repository.codec import Operation
from repository.messages import ResultCode

Octets = bytes | memoryview

_SMALL_BYTES: Final = 4096


class _Answer:
    """What is left of one answer."""

    __slots__ = ("begun", "message_id", "messages")

    def __init__(self, message_id: int, messages: Iterable[Operation]) -> None:
        self.message_id = message_id
        self.messages = deque(messages)  # whole ones
        self.begun: deque[Octets] = deque()  # the rest of the message of which a part is gone

    def __bool__(self) -> bool:
        return bool(self.begun or self.messages)


class Outbox(deque[_Answer]):
    """Answers in the order in which they are to be sent.

    A deque with more methods: whether it is empty is asked several times for every request.
    """

    def add(self, message_id: int, messages: Iterable[Operation]) -> None:
        """Put an answer at the end."""
        self.append(_Answer(message_id, messages))

    def abandon(self, message_id: int) -> None:
        """Forget the answer to this request; a message that has been begun is completed, or the stream would break."""
        for answer in self:
            if answer.message_id == message_id:
                answer.messages.clear()
        left = list(filter(None, self))
        self.clear()
        self.extend(left)

    def cancel(self, message_id: int, last: Operation) -> ResultCode:
        """End an answer early: `last` takes the place of the messages that are not begun.

        Returns:
            success; tooLate if at most the last message of the answer is left; noSuchOperation if there is no answer.
        """
        answer = next((each for each in self if each.message_id == message_id), None)
        if answer is None:
            return ResultCode.NO_SUCH_OPERATION
        if len(answer.messages) + bool(answer.begun) < 2:
            return ResultCode.TOO_LATE
        answer.messages = deque([last])
        return ResultCode.SUCCESS

    def take(self, limit_bytes: int) -> list[Octets]:
        """The next octets to be sent, at most this many; empty if there are none."""
        slices: list[Octets] = []
        small: list[Octets] = []  # side by side, to be joined
        while self and limit_bytes > 0:
            answer = self[0]
            begun = answer.begun
            if not begun:
                begun.extend(answer.messages.popleft())
            piece = begun.popleft()
            if len(piece) > limit_bytes:
                view = memoryview(piece)
                piece = view[:limit_bytes]
                begun.appendleft(view[limit_bytes:])
            limit_bytes -= len(piece)
            if len(piece) <= _SMALL_BYTES:
                small.append(piece)
            else:
                slices += (b"".join(small), piece) if small else (piece,)
                small = []
            if not (begun or answer.messages):
                self.popleft()
        if small:
            slices.append(b"".join(small))
        return slices
