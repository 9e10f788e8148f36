"""Ready answers: what a search led to is given again, at once, to whoever sends the same octets.

An answer depends on the request, the publication and the rights of the reader, and on nothing else. So there is one
`AnswerCache` for each publication and each kind of reader (`Directory.answers`), and within it the key is the request:
all octets of the LDAPMessage behind the message ID. The message ID is put in when the answer is given.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Self

from journal import record
from journal.record import Record
from repository import codec
from repository.codec import Operation

MAX_REQUEST_BYTES: Final = 1024  # of a key: who asks more at length asks it rarely
FLAT_BYTES: Final = 16_384  # an answer up to here is kept in one piece; a larger one shares its values with the tree
MAX_ANSWER_BYTES: Final = 1_048_576  # without the values it shares with the tree
_COPIES: Final = 5  # of a flat one: as it is, and for each length of a message ID
_ENTRY_BYTES: Final = 500  # what Python needs for one answer beside its octets


class Records(NamedTuple):
    """What the journal is told when an answer is given, but for when and to whom: fragments of `journal.record`."""

    kind: bytes
    results: bytes  # joined with commas
    number: int


NO_RECORDS: Final = Records(b"", b"", 0)


class Answer:
    """All LDAPMessages that answer one request, without their message IDs, and the records that go with them."""

    __slots__ = ("_flat", "_headed", "_operations", "is_flat", "own_bytes", "records")

    def __init__(self, operations: tuple[Operation, ...], records: Records = NO_RECORDS) -> None:
        self._operations = operations
        self._flat: dict[int, tuple[bytes, ...]] = {}  # by the length of a message ID, as is the next
        self._headed: dict[int, tuple[tuple[bytes, Operation], ...]] = {}
        self.records = records
        size = sum(len(piece) for operation in operations for piece in operation)
        self.is_flat = size <= FLAT_BYTES
        own = size * _COPIES if self.is_flat else size - sum(map(_shared_bytes, operations))
        self.own_bytes = own + _ENTRY_BYTES

    @classmethod
    def of(cls, operations: Iterable[Operation], records: Sequence[Record]) -> Self:
        """The answer that was just given, with the records of it, which are of one kind."""
        if not records:
            return cls(tuple(operations))
        results = b",".join(record.result(each.result, each.object, each.size) for each in records)
        return cls(tuple(operations), Records(record.kind(records[0].kind), results, len(records)))

    def octets(self, message_id: bytes) -> bytes:
        """The whole answer, if it is flat, to the request with this encoded message ID."""
        fragments = self._flat.get(len(message_id)) or self._cut(len(message_id))
        return message_id.join(fragments)

    def messages(self, message_id: bytes) -> tuple[Operation, ...]:
        """The LDAPMessages; nothing but the first piece of each is copied."""
        parts = self._headed.get(len(message_id)) or self._head(len(message_id))
        return tuple([(b"".join((header, message_id, first)), *rest) for header, (first, *rest) in parts])

    def _head(self, id_bytes: int) -> tuple[tuple[bytes, Operation], ...]:
        """The operations, each with what its LDAPMessage begins with, for message IDs of this many octets."""
        headers = (codec.envelope_header(id_bytes + sum(map(len, operation))) for operation in self._operations)
        return self._headed.setdefault(id_bytes, tuple(zip(headers, self._operations, strict=True)))

    def _cut(self, id_bytes: int) -> tuple[bytes, ...]:
        """What stands between message IDs of this many octets."""
        fragments = [b""]
        for operation in self._operations:
            octets = b"".join(operation)
            fragments[-1] += codec.envelope_header(id_bytes + len(octets))
            fragments.append(octets)
        return self._flat.setdefault(id_bytes, tuple(fragments))


class AnswerCache:
    """The answers for one publication and one kind of reader: at most `max_bytes` of them, the oldest go first."""

    def __init__(self, max_bytes: int) -> None:
        # Not a dict, which would look for its oldest key where all the ones that are gone were.
        self._answers: OrderedDict[bytes, Answer] = OrderedDict()
        self._max_bytes = max_bytes
        self.size_bytes = 0
        self.find = self._answers.get  # no call of ours in between: this is asked for every request

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, request: bytes, answer: Answer) -> None:
        """Keep an answer, if request and answer are of a size that is worth it."""
        cost = len(request) + answer.own_bytes
        if len(request) > MAX_REQUEST_BYTES or cost > MAX_ANSWER_BYTES or request in self._answers:
            return
        self.size_bytes += cost
        self._answers[request] = answer
        while self.size_bytes > self._max_bytes:
            oldest, given_up = self._answers.popitem(last=False)
            self.size_bytes -= len(oldest) + given_up.own_bytes


def _shared_bytes(operation: Operation) -> int:
    return sum(len(piece) for piece in operation if len(piece) >= codec.LARGE_BYTES)
