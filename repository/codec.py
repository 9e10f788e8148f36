"""LDAPMessage octets from and to values. The only importer of ldaptor.

Responses are ldaptor's PDU classes. Requests are read here, strictly: ldaptor's decoder prints and drops elements that
it does not know, takes primitive elements for constructed ones, spends half a second on an INTEGER of 64 KiB, recurses
as deep as a peer likes, and refuses the trailing elements that RFC 4511, section 4 wants ignored.

Reading has two steps. `open_envelope` finds the message ID and the octets of the operation, which is all that an answer
prepared earlier would need: operations are encoded without message ID, and `message` puts it in front. `read_request`
reads the rest.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any, Final, NamedTuple

from ldaptor.protocols import pureldap
from ldaptor.protocols.pureber import STRUCTURED

from repository.ber import (
    BOOLEAN,
    END,
    ENUMERATED,
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    Reader,
    constructed_tag,
    primitive_tag,
)
from repository.errors import MalformedMessageError, OperationError
from repository.filter_reader import read_filter
from repository.messages import (
    SASL,
    AbandonRequest,
    AttributeValueAssertion,
    BindRequest,
    CompareRequest,
    Control,
    ExtendedRequest,
    Request,
    Result,
    ResultCode,
    SearchRequest,
    Simple,
    UnbindRequest,
    UpdateRequest,
)

MAX_ATTRIBUTES: Final = 100  # that one search can ask for
MAX_CONTROLS: Final = 16  # of one message
MAX_UPDATE_STRINGS: Final = 1000  # of attributes in one update that are looked at: it is refused anyway

Operation = tuple[bytes, ...]  # one encoded protocolOp, in pieces: a large value is the directory's own octets

LARGE_BYTES: Final = 16_384  # a value from here on is passed on as it lies, not copied
_CONTROLS: Final = pureldap.LDAPControls.tag | STRUCTURED
_UNSOLICITED: Final = 0  # message ID of RFC 4511, section 4.4
_NOTICE_OF_DISCONNECTION: Final = "1.3.6.1.4.1.1466.20036"
_SIMPLE: Final = primitive_tag(0)
_SASL: Final = constructed_tag(3)
_REQUEST_NAME, _REQUEST_VALUE = primitive_tag(0), primitive_tag(1)
_DEREF_ALIASES: Final = range(4)
_NEW_SUPERIOR: Final = primitive_tag(0)


# ---------------------------------------------------------------- requests


class Envelope(NamedTuple):
    """An LDAPMessage of which only the outside has been read."""

    message_id: int
    tag: int  # of protocolOp; one of the requests
    operation: bytes  # everything behind the message ID: protocolOp and controls
    controls: tuple[Control, ...]

    @property
    def kind(self) -> str:
        """What is asked for: bind, search, modifyDN."""
        return _OPERATIONS[self.tag].kind


def open_envelope(octets: bytes) -> Envelope:
    """Read the outside of a whole LDAPMessage (RFC 4511, section 4.1.1).

    Raises:
        MalformedMessageError: it cannot be read, its operation is not a request, or it has too many controls.
    """
    reader = Reader(octets).constructed()
    message_id = reader.integer()
    start = reader.position
    tag = reader.peek()
    if message_id == _UNSOLICITED:
        raise MalformedMessageError("message ID 0, which only a server uses")
    if tag not in _OPERATIONS:
        raise MalformedMessageError("an operation that is no request of LDAP")
    reader.skip()
    controls = tuple(_controls(reader.constructed(_CONTROLS))) if reader.peek() == _CONTROLS else ()
    return Envelope(message_id, tag, octets[start:], controls)


def _controls(reader: Reader) -> Iterator[Control]:
    for _ in range(MAX_CONTROLS):
        if reader.peek() == END:
            return
        control = reader.constructed()
        control_type = control.text()
        criticality = control.peek() == BOOLEAN and control.boolean()
        yield Control(control_type, criticality, control.octets() if control.peek() == OCTET_STRING else None)
    if reader.peek() != END:
        raise MalformedMessageError(f"a message with more than {MAX_CONTROLS} controls")


def read_request(envelope: Envelope) -> Request:
    """Read the operation. Elements behind those of RFC 4511 are ignored, as section 4 asks.

    Raises:
        MalformedMessageError: an element has the wrong type or length.
        OperationError: adminLimitExceeded: the filter is too deep or too long, or too many attributes are asked for;
            protocolError: an ENUMERATED that RFC 4511 does not have.
    """
    return _OPERATIONS[envelope.tag].read(Reader(envelope.operation), envelope.tag)


def _bind_request(outer: Reader, tag: int) -> BindRequest:
    reader = outer.constructed(tag)
    version, name = reader.integer(), reader.text()
    choice = reader.peek()
    if choice == _SIMPLE:
        return BindRequest(version, name, Simple(reader.octets(choice)))
    if choice == _SASL:
        return BindRequest(version, name, _sasl(reader.constructed(choice)))
    reader.skip()
    return BindRequest(version, name, None)


def _sasl(reader: Reader) -> SASL:
    mechanism = reader.text()
    return SASL(mechanism, reader.octets() if reader.peek() == OCTET_STRING else None)


def _unbind_request(reader: Reader, tag: int) -> UnbindRequest:
    reader.octets(tag)
    return UnbindRequest()


def _search_request(outer: Reader, tag: int) -> SearchRequest:
    reader = outer.constructed(tag)
    base_object = reader.text()
    scope = reader.integer(ENUMERATED)
    if reader.integer(ENUMERATED) not in _DEREF_ALIASES:
        raise OperationError(ResultCode.PROTOCOL_ERROR, "derefAliases is none of 0, 1, 2 and 3")
    size_limit, time_limit = reader.integer(), reader.integer()
    types_only = reader.boolean()
    search_filter = read_filter(reader)
    attributes = tuple(islice(_texts(reader.constructed()), MAX_ATTRIBUTES + 1))
    if len(attributes) > MAX_ATTRIBUTES:
        raise OperationError(
            ResultCode.ADMIN_LIMIT_EXCEEDED, f"a search may ask for at most {MAX_ATTRIBUTES} attributes"
        )
    return SearchRequest(base_object, scope, size_limit, time_limit, types_only, search_filter, attributes)


def _texts(reader: Reader) -> Iterator[str]:
    while reader.peek() != END:
        yield reader.text()


def _add_request(outer: Reader, tag: int) -> UpdateRequest:
    reader = outer.constructed(tag)
    reader.octets()  # entry
    return _update_request(_sequences(reader.constructed()))


def _modify_request(outer: Reader, tag: int) -> UpdateRequest:
    reader = outer.constructed(tag)
    reader.octets()  # object
    return _update_request(_changes(reader.constructed()))


def _changes(reader: Reader) -> Iterator[Reader]:
    for change in _sequences(reader):
        change.integer(ENUMERATED)
        yield change.constructed()


def _sequences(reader: Reader) -> Iterator[Reader]:
    while reader.peek() != END:
        yield reader.constructed()


def _update_request(partial_attributes: Iterable[Reader]) -> UpdateRequest:
    """Whether these can be read is all that matters of them."""
    for _ in islice(chain.from_iterable(map(_strings, partial_attributes)), MAX_UPDATE_STRINGS):
        pass
    return UpdateRequest()


def _strings(partial_attribute: Reader) -> Iterator[str]:
    yield partial_attribute.text()
    yield from _texts(partial_attribute.constructed(SET))


def _delete_request(reader: Reader, tag: int) -> UpdateRequest:
    reader.octets(tag)
    return UpdateRequest()


def _modify_dn_request(outer: Reader, tag: int) -> UpdateRequest:
    reader = outer.constructed(tag)
    reader.octets()  # entry
    reader.octets()  # newrdn
    reader.boolean()
    if reader.peek() == _NEW_SUPERIOR:
        reader.octets(_NEW_SUPERIOR)
    return UpdateRequest()


def _compare_request(outer: Reader, tag: int) -> CompareRequest:
    reader = outer.constructed(tag)
    entry, ava = reader.text(), reader.constructed()
    return CompareRequest(entry, AttributeValueAssertion(ava.text(), ava.octets()))


def _abandon_request(reader: Reader, tag: int) -> AbandonRequest:
    return AbandonRequest(reader.integer(tag))


def _extended_request(outer: Reader, tag: int) -> ExtendedRequest:
    reader = outer.constructed(tag)
    name = reader.text(_REQUEST_NAME)
    return ExtendedRequest(name, reader.octets(_REQUEST_VALUE) if reader.peek() == _REQUEST_VALUE else None)


# ---------------------------------------------------------------- responses


def message(message_id: int, operation: Operation) -> Operation:
    """Make an LDAPMessage of an encoded operation; nothing but its first piece is copied."""
    octets = message_id.to_bytes(message_id.bit_length() // 8 + 1, "big")
    return enveloped(bytes((INTEGER, len(octets))) + octets, operation)


def enveloped(message_id: bytes, operation: Operation) -> Operation:
    """The same with a message ID that is encoded already."""
    size = len(message_id) + sum(map(len, operation))
    return (b"".join((envelope_header(size), message_id, operation[0])), *operation[1:])


def envelope_header(size: int) -> bytes:
    """What an LDAPMessage begins with whose message ID and operation have this many octets."""
    return _SEQUENCE + _length(size)


def with_control(operation: Operation, control: Control) -> Operation:
    """Put a control behind an operation; what `message` makes an LDAPMessage of is both."""
    value = control.control_value or b""
    contents = _element(OCTET_STRING, [control.control_type.encode()]) + _element(OCTET_STRING, [value])
    return (*operation, b"".join(_element(_CONTROLS, _element(SEQUENCE, contents))))


def notice_of_disconnection(result: Result) -> Operation:
    """The unsolicited LDAPMessage that goes before the connection is closed (RFC 4511, section 4.4.1)."""
    return message(_UNSOLICITED, extended_response(result, name=_NOTICE_OF_DISCONNECTION))


@lru_cache(maxsize=256)
def response(tag: int, result: Result) -> Operation:
    """The response to the request with this tag: BindResponse, SearchResultDone."""
    response_class = _OPERATIONS[tag].response
    pdu = response_class(resultCode=result.code, matchedDN=result.matched_dn, errorMessage=result.diagnostic_message)
    return (pdu.toWire(),)


def extended_response(result: Result, *, name: str | None = None, value: str | None = None) -> Operation:
    """ExtendedResponse (RFC 4511, section 4.12)."""
    pdu = pureldap.LDAPExtendedResponse(
        resultCode=result.code, errorMessage=result.diagnostic_message, responseName=name, response=value
    )
    return (pdu.toWire(),)


class PartialAttribute(NamedTuple):
    """An attribute with values as an entry shows it, encoded (RFC 4511, section 4.1.7)."""

    pieces: tuple[bytes, ...]  # a large value is one of them
    size: int  # of all of them


def partial_attribute(description: str, values: Iterable[bytes]) -> PartialAttribute:
    """Encode an attribute."""
    contents = [piece for value in values for piece in _element(OCTET_STRING, [value])]
    name = _element(OCTET_STRING, [description.encode()])
    pieces = tuple(_joined(_element(SEQUENCE, [*name, *_element(SET, contents)])))
    return PartialAttribute(pieces, sum(map(len, pieces)))


def search_result_entry(object_name: str, attributes: Sequence[PartialAttribute]) -> Operation:
    """SearchResultEntry, with large values in pieces of their own (ldaptor's class would copy them five times)."""
    name = object_name.encode()
    named = b"".join((_OCTET_STRING, _length(len(name)), name))
    size = sum([each.size for each in attributes])
    sequence = _SEQUENCE + _length(size)
    head = b"".join((_SEARCH_RESULT_ENTRY, _length(len(named) + len(sequence) + size), named, sequence))
    return tuple(_joined(chain((head,), chain.from_iterable([each.pieces for each in attributes]))))


def _element(tag: int, contents: list[bytes]) -> list[bytes]:
    return [bytes((tag,)) + _length(sum(map(len, contents))), *contents]


def _length(size: int) -> bytes:
    """The length octets of an element (X.690, clause 8.1.3), as few as there can be."""
    if size < len(_SHORT_LENGTHS):
        return _SHORT_LENGTHS[size]
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


_SHORT_LENGTHS: Final = tuple(bytes((size,)) for size in range(0x80))
_OCTET_STRING: Final = bytes((OCTET_STRING,))
_SEQUENCE: Final = bytes((SEQUENCE,))
_SEARCH_RESULT_ENTRY: Final = bytes((pureldap.LDAPSearchResultEntry.tag | STRUCTURED,))


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same octets, with nothing small beside something small."""
    small: list[bytes] = []
    for piece in pieces:
        if len(piece) < LARGE_BYTES:
            small.append(piece)
            continue
        yield b"".join(small)
        yield piece
        small = []
    if small:
        yield b"".join(small)


# ---------------------------------------------------------------- which request is read how and answered with what


class _OperationType(NamedTuple):
    kind: str
    read: Callable[[Reader, int], Request]
    response: Any  # a class of ldaptor, which is not typed; None: there is no response


SEARCH: Final = 0x63

_OPERATIONS: Final[Mapping[int, _OperationType]] = {
    0x60: _OperationType("bind", _bind_request, pureldap.LDAPBindResponse),
    0x42: _OperationType("unbind", _unbind_request, None),
    SEARCH: _OperationType("search", _search_request, pureldap.LDAPSearchResultDone),
    0x66: _OperationType("modify", _modify_request, pureldap.LDAPModifyResponse),
    0x68: _OperationType("add", _add_request, pureldap.LDAPAddResponse),
    0x4A: _OperationType("delete", _delete_request, pureldap.LDAPDelResponse),
    0x6C: _OperationType("modifyDN", _modify_dn_request, pureldap.LDAPModifyDNResponse),
    0x6E: _OperationType("compare", _compare_request, pureldap.LDAPCompareResponse),
    0x50: _OperationType("abandon", _abandon_request, None),
    0x77: _OperationType("extended", _extended_request, pureldap.LDAPExtendedResponse),
}
