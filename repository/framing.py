"""The octet stream of a connection into whole LDAPMessages, bounded."""

from repository.ber import INTEGER, SEQUENCE, header
from repository.errors import MalformedMessageError

_SIGN = 0x80  # of an INTEGER; of a length, that it has octets of its own


def outline(octets: bytes, start: int) -> tuple[int, int, int] | None:
    """Find the parts of the message at `start` without reading them, in half a microsecond.

    Returns:
        Where the encoded message ID begins, where the operation does, and where message and operation end; None if the
        message is not whole, or has to be read to be refused.
    """
    try:
        length = octets[start + 1]
        message_id = start + 2
        if length >= _SIGN:
            message_id += length - _SIGN
            length = int.from_bytes(octets[start + 2 : message_id], "big")
        operation = message_id + 2 + octets[message_id + 1]
        end = message_id + length
        first = octets[message_id + 2]
        if (
            octets[start] != SEQUENCE
            or octets[message_id] != INTEGER
            or not 3 <= operation - message_id <= 6
            or first >= _SIGN
            or not operation < end <= len(octets)
            or not (first or any(octets[message_id + 2 : operation]))
        ):
            return None
    except IndexError:
        return None
    return message_id, operation, end


class MessageFramer:
    """Holds what has arrived and is not yet taken.

    A message that is too long is refused from its header, before it is gathered; so no more than `max_message_bytes`
    and what the transport hands over at a time is ever held.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self._max = max_message_bytes
        self._buffer = bytearray()
        self._start = 0  # of the first message not yet taken

    @property
    def is_empty(self) -> bool:
        """Whether everything that has arrived is taken."""
        return self._start == len(self._buffer)

    def receive(self, octets: bytes) -> None:
        """Add octets in the order of arrival."""
        del self._buffer[: self._start]
        self._start = 0
        self._buffer += octets

    def next_message(self) -> bytes | None:
        """Take the next whole message; None until more octets arrive.

        Raises:
            MalformedMessageError: not a SEQUENCE of definite length, or longer than allowed.
        """
        if self._start == len(self._buffer):
            return None
        if self._buffer[self._start] != SEQUENCE:
            raise MalformedMessageError("not an LDAPMessage")
        found = header(self._buffer, self._start)
        if found is None:
            return None
        body, length = found
        end = body + length
        if end - self._start > self._max:
            raise MalformedMessageError(f"a message of more than {self._max} octets")
        if end > len(self._buffer):
            return None
        message = bytes(self._buffer[self._start : end])
        self._start = end
        return message

    def discard(self) -> None:
        """Forget what has arrived: it came in plaintext behind StartTLS, so anybody may have put it there."""
        self._buffer.clear()
        self._start = 0
