"""Controls of requests (RFC 4511, section 4.1.11): which are understood, and what they say."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from repository.ber import END, INTEGER, OCTET_STRING, SEQUENCE, Reader
from repository.errors import MalformedMessageError, OperationError
from repository.filter_reader import MAX_FILTER_ITEMS, read_filter
from repository.messages import And, Control, Filter, Not, Or, ResultCode

PAGED_RESULTS: Final = "1.2.840.113556.1.4.319"  # RFC 2696
ASSERTION: Final = "1.3.6.1.1.12"  # RFC 4528
MATCHED_VALUES: Final = "1.2.826.0.1.3344810.2.3"  # RFC 3876
MANAGE_DSA_IT: Final = "2.16.840.1.113730.3.4.2"  # RFC 3296; there are no referrals, so it changes nothing

_MAX_COOKIE_BYTES: Final = 127


class PagedResults(NamedTuple):
    """What a client asks for: the next `size` entries of the search that `cookie` continues."""

    size: int
    cookie: bytes  # empty: begin


@dataclass(frozen=True, slots=True)
class Controls:
    """What the controls of one request say."""

    paged_results: PagedResults | None = None
    assertion: Filter | None = None
    matched_values: tuple[Filter, ...] | None = None


NONE: Final = Controls()


def read(controls: Iterable[Control], kind: str) -> Controls:
    """Understand the controls of one request.

    Args:
        controls: those of the message.
        kind: the operation: search, compare.

    Raises:
        OperationError: unavailableCriticalExtension: one that must be understood is not, or does not belong to this
            operation; protocolError: a value that is none, or a control that is there twice.
    """
    found = NONE
    seen: set[str] = set()
    for control in controls:
        supported = SUPPORTED.get(control.control_type)
        if supported is None or kind not in supported.kinds:
            if control.criticality:
                message = f"the control {control.control_type[:64]!a} is not available for this operation"
                raise OperationError(ResultCode.UNAVAILABLE_CRITICAL_EXTENSION, message)
            continue
        if control.control_type in seen:
            raise OperationError(ResultCode.PROTOCOL_ERROR, f"the control {control.control_type} is there twice")
        seen.add(control.control_type)
        try:
            found = supported.read(found, control.control_value)
        except MalformedMessageError as e:
            message = f"the value of the control {control.control_type} cannot be read: {e}"
            raise OperationError(ResultCode.PROTOCOL_ERROR, message) from e
    return found


def paged_results(total: int, cookie: bytes) -> Control:
    """The control of an answer: how many entries there are in all, and how to go on; no cookie: this was the last."""
    size = total.to_bytes(total.bit_length() // 8 + 1, "big")
    contents = bytes((INTEGER, len(size))) + size + bytes((OCTET_STRING, len(cookie))) + cookie
    return Control(PAGED_RESULTS, False, bytes((SEQUENCE, len(contents))) + contents)


def _paged_results(found: Controls, value: bytes | None) -> Controls:
    reader = _sequence(value)
    asked = PagedResults(reader.integer(), reader.octets())
    if len(asked.cookie) > _MAX_COOKIE_BYTES:
        raise MalformedMessageError("a cookie that was not made here")
    return replace(found, paged_results=asked)


def _assertion(found: Controls, value: bytes | None) -> Controls:
    if value is None:
        raise MalformedMessageError("it is missing")
    return replace(found, assertion=read_filter(Reader(value)))


def _matched_values(found: Controls, value: bytes | None) -> Controls:
    reader = _sequence(value)
    items = tuple(_items(reader))
    if not items:
        raise MalformedMessageError("there is no filter item")
    return replace(found, matched_values=items)


def _items(reader: Reader) -> Iterator[Filter]:
    for _ in range(MAX_FILTER_ITEMS):
        if reader.peek() == END:
            return
        item = read_filter(reader)
        if isinstance(item, And | Or | Not):
            raise MalformedMessageError("a filter item is none of and, or, not")
        yield item
    if reader.peek() != END:
        raise MalformedMessageError(f"more than {MAX_FILTER_ITEMS} filter items")


def _nothing(found: Controls, _: bytes | None) -> Controls:
    return found


def _sequence(value: bytes | None) -> Reader:
    return Reader(value or b"").constructed()


class _Supported(NamedTuple):
    kinds: frozenset[str]  # the operations that it can be used with
    read: Callable[[Controls, bytes | None], Controls]


_SEARCH: Final = frozenset({"search"})
_READING: Final = frozenset({"search", "compare"})
SUPPORTED: Final[Mapping[str, _Supported]] = {
    PAGED_RESULTS: _Supported(_SEARCH, _paged_results),
    ASSERTION: _Supported(_READING, _assertion),
    MATCHED_VALUES: _Supported(_SEARCH, _matched_values),
    MANAGE_DSA_IT: _Supported(_READING | {"add", "modify", "delete", "modifyDN"}, _nothing),
}
