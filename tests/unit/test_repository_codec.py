"""LDAPMessages from and to octets; ldaptor's encoder and decoder are the other side."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldaptor.protocols import pureber, pureldap

from repository import codec
from repository.errors import MalformedMessageError, OperationError
from repository.filter_reader import MAX_FILTER_DEPTH, MAX_FILTER_ITEMS
from repository.messages import (
    SASL,
    AbandonRequest,
    And,
    ApproxMatch,
    AttributeValueAssertion,
    BindRequest,
    CompareRequest,
    Control,
    EqualityMatch,
    ExtendedRequest,
    ExtensibleMatch,
    GreaterOrEqual,
    LessOrEqual,
    Not,
    Or,
    Present,
    Request,
    Result,
    ResultCode,
    SearchRequest,
    Simple,
    Substrings,
    UnbindRequest,
    UnrecognizedFilter,
    UpdateRequest,
)
from tests.support.repository import bind_request, message, read_answers, search_request


def read(octets: bytes) -> Request:
    return codec.read_request(codec.open_envelope(octets))


def assertion(of: Any) -> Any:
    return of(attributeDesc=pureldap.LDAPAttributeDescription("cn"), assertionValue=pureldap.LDAPAssertionValue("x"))


FILTERS = {
    "present": (pureldap.LDAPFilter_present("cn"), Present("cn")),
    "equality": (assertion(pureldap.LDAPFilter_equalityMatch), EqualityMatch("cn", b"x")),
    "greater": (assertion(pureldap.LDAPFilter_greaterOrEqual), GreaterOrEqual("cn", b"x")),
    "less": (assertion(pureldap.LDAPFilter_lessOrEqual), LessOrEqual("cn", b"x")),
    "approx": (assertion(pureldap.LDAPFilter_approxMatch), ApproxMatch("cn", b"x")),
    "and": (pureldap.LDAPFilter_and([pureldap.LDAPFilter_present("cn")]), And((Present("cn"),))),
    "or": (pureldap.LDAPFilter_or([]), Or(())),
    "not": (pureldap.LDAPFilter_not(pureldap.LDAPFilter_present("cn")), Not(Present("cn"))),
    "substrings": (
        pureldap.LDAPFilter_substrings(
            type="cn",
            substrings=[
                pureldap.LDAPFilter_substrings_initial("a"),
                pureldap.LDAPFilter_substrings_any("b"),
                pureldap.LDAPFilter_substrings_any("c"),
                pureldap.LDAPFilter_substrings_final("d"),
            ],
        ),
        Substrings("cn", b"a", (b"b", b"c"), b"d"),
    ),
    "extensible": (
        pureldap.LDAPFilter_extensibleMatch(matchingRule="r", type="cn", matchValue="x", dnAttributes=True),
        ExtensibleMatch("r", "cn", b"x", dn_attributes=True),
    ),
    "extensible-short": (
        pureldap.LDAPFilter_extensibleMatch(matchValue="x"),
        ExtensibleMatch(None, None, b"x", dn_attributes=False),
    ),
    "unknown": (pureber.BEROctetString("x", tag=0x8F), UnrecognizedFilter()),
}


@pytest.mark.parametrize(("wire", "expected"), FILTERS.values(), ids=FILTERS)
def test_a_filter_is_read_as_it_was_written(wire: Any, expected: Any) -> None:
    """Every choice of Filter."""
    request = read(message(search_request("c=JP", 2, wire, "cn", size_limit=7, types_only=True)))
    assert request == SearchRequest("c=JP", 2, 7, 0, True, expected, ("cn",))


ATTRIBUTE = pureber.BERSequence(
    [pureber.BEROctetString("c"), pureber.BERSet([pureber.BEROctetString("JP"), pureber.BEROctetString("FR")])]
)
CHANGE = pureber.BERSequence([pureber.BEREnumerated(0), ATTRIBUTE])
REQUESTS = {
    "bind": (bind_request("c=JP", b"pw"), BindRequest(3, "c=JP", Simple(b"pw"))),
    "sasl": (
        pureldap.LDAPBindRequest(dn="", auth=("EXTERNAL", "x"), sasl=True),
        BindRequest(3, "", SASL("EXTERNAL", b"x")),
    ),
    "unbind": (pureldap.LDAPUnbindRequest(), UnbindRequest()),
    "compare": (
        pureldap.LDAPCompareRequest("c=JP", assertion(pureldap.LDAPAttributeValueAssertion)),
        CompareRequest("c=JP", AttributeValueAssertion("cn", b"x")),
    ),
    "abandon": (pureldap.LDAPAbandonRequest(id=300), AbandonRequest(300)),
    "extended": (pureldap.LDAPExtendedRequest("1.2.3", "value"), ExtendedRequest("1.2.3", b"value")),
    "add": (pureldap.LDAPAddRequest("c=JP", [ATTRIBUTE]), UpdateRequest()),
    "modify": (pureldap.LDAPModifyRequest("c=JP", [CHANGE]), UpdateRequest()),
    "delete": (pureldap.LDAPDelRequest("c=JP"), UpdateRequest()),
    "modifyDN": (pureldap.LDAPModifyDNRequest("c=JP", "c=FR", False), UpdateRequest()),
    "modifyDN-elsewhere": (pureldap.LDAPModifyDNRequest("c=JP", "c=FR", False, "o=x"), UpdateRequest()),
}


@pytest.mark.parametrize(("wire", "expected"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_is_read_as_it_was_written(wire: Any, expected: Request) -> None:
    """Every request besides search."""
    assert read(message(wire, 2**31 - 1)) == expected


def test_a_password_is_not_shown_by_repr() -> None:
    """It must not reach a log by accident."""
    assert "secret" not in repr(read(message(bind_request("c=JP", b"secret"))))


def element(tag: int, *contents: bytes) -> bytes:
    body = b"".join(contents)
    return bytes((tag, 0x84)) + len(body).to_bytes(4, "big") + body


ID = b"\x02\x01\x01"
SEARCH_HEAD = b"\x04\x00" + b"\x0a\x01\x00" + b"\x0a\x01\x00" + b"\x02\x01\x00" + b"\x02\x01\x00" + b"\x01\x01\x00"
PRESENT = b"\x87\x02cn"
CN = b"\x04\x02cn"


def change(*values: bytes) -> bytes:
    """Of a ModifyRequest, which adds values to cn."""
    return element(0x30, b"\x0a\x01\x00", element(0x30, CN, *values))


def test_unknown_trailing_elements_are_ignored() -> None:
    """RFC 4511, section 4, and lengths in a longer form than needed."""
    more = b"\x81\x01x"
    attributes = element(0x30)
    octets = element(0x30, ID, element(0x63, SEARCH_HEAD, PRESENT, attributes, more), more)
    assert read(octets) == SearchRequest("", 0, 0, 0, False, Present("cn"), ())


MALFORMED = {
    "no-message": b"\x30\x00",
    "message-id-0": element(0x30, b"\x02\x01\x00", b"\x42\x00"),
    "message-id-negative": element(0x30, b"\x02\x01\xff", b"\x42\x00"),
    "message-id-long": element(0x30, element(2, bytes(5)), b"\x42\x00"),
    "message-id-empty": element(0x30, b"\x02\x00", b"\x42\x00"),
    "no-operation": element(0x30, ID),
    "response": element(0x30, ID, b"\x61\x07\x0a\x01\x00\x04\x00\x04\x00"),
    "primitive-search": element(0x30, ID, b"\x43\x00"),
    "inner-length-lies": element(0x30, ID, b"\x63\x20" + SEARCH_HEAD),
    "indefinite-inside": element(0x30, ID, b"\x63\x80" + SEARCH_HEAD + PRESENT + b"\x30\x00\x00\x00"),
    "search-ends-early": element(0x30, ID, element(0x63, SEARCH_HEAD)),
    "filter-cut-off-inside": element(0x30, ID, element(0x63, SEARCH_HEAD, element(0xA0, b"\x30"), b"\x30\x00")),
    "not-without-filter": element(0x30, ID, element(0x63, SEARCH_HEAD, b"\xa2\x00", b"\x30\x00")),
    "substrings-none": element(0x30, ID, element(0x63, SEARCH_HEAD, b"\xa4\x06\x04\x02cn\x30\x00", b"\x30\x00")),
    "substrings-order": element(
        0x30, ID, element(0x63, SEARCH_HEAD, b"\xa4\x0c\x04\x02cn\x30\x06\x82\x01a\x80\x01b", b"\x30\x00")
    ),
    "constructed-string": element(0x30, ID, element(0x60, b"\x02\x01\x03", b"\x24\x02\x04\x00", b"\x80\x00")),
    "bind-without-choice": element(0x30, ID, element(0x60, b"\x02\x01\x03", b"\x04\x00")),
    "boolean-of-two": element(0x30, ID, element(0x63, SEARCH_HEAD[:-3], b"\x01\x02\x00\x00", PRESENT, b"\x30\x00")),
    "control-is-no-sequence": element(0x30, ID, b"\x42\x00", b"\xa0\x02\x04\x00"),
    "not-of-two": element(0x30, ID, element(0x63, SEARCH_HEAD, element(0xA2, PRESENT, PRESENT), b"\x30\x00")),
    "add-without-attributes": element(0x30, ID, element(0x68, b"\x04\x00")),
    "add-attribute-is-no-sequence": element(0x30, ID, element(0x68, b"\x04\x00", element(0x30, b"\x04\x02cn"))),
    "add-values-are-no-set": element(0x30, ID, element(0x68, b"\x04\x00", element(0x30, element(0x30, CN, CN)))),
    "modify-without-changes": element(0x30, ID, element(0x66, b"\x04\x00")),
    "modify-without-operation": element(0x30, ID, element(0x66, b"\x04\x00", element(0x30, element(0x30, CN)))),
    "modify-value-leaves-its-set": element(
        0x30, ID, element(0x66, b"\x04\x00", element(0x30, change(b"\x31\x02\x04\x05"))), bytes(9)
    ),
    "modify-dn-without-delete-old-rdn": element(0x30, ID, element(0x6C, CN, CN)),
    "modify-dn-constructed-superior": element(0x30, ID, element(0x6C, CN, CN, b"\x01\x01\x00", b"\x80\x05x")),
    "delete-leaves-the-message": element(0x30, ID, b"\x4a\x05C=JP"),
    "long-tag": element(0x30, ID, b"\x7f\x81\x00\x00"),
}  # fmt: skip


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED)
def test_malformed_messages_are_told_apart_from_everything_else(octets: bytes) -> None:
    """Each leads to a Notice of Disconnection, none to an error of ours."""
    with pytest.raises(MalformedMessageError):
        read(octets)


TOLD = {
    "message-id-0": (MALFORMED["message-id-0"], "message ID 0"),
    "response": (MALFORMED["response"], "no request"),
    "unknown": (element(0x30, ID, element(0x75)), "no request"),
    "controls": (message(search_request(), controls=[("1.2.3", False, None)] * 17), "more than 16 controls"),
    "not": (MALFORMED["not-of-two"], "more than one filter"),
}


@pytest.mark.parametrize(("octets", "text"), TOLD.values(), ids=TOLD)
def test_a_malformed_message_is_told_what_is_wrong(octets: bytes, text: str) -> None:
    """For the developer of a client, who has nothing but the Notice of Disconnection."""
    with pytest.raises(MalformedMessageError, match=text):
        read(octets)


def test_an_update_is_looked_at_up_to_a_bound() -> None:
    """It is refused anyway, whatever comes after a thousand strings."""

    def update(number: int) -> bytes:
        values = element(0x31, b"\x04\x00" * number, b"\x05\x00")
        return element(0x30, ID, element(0x66, b"\x04\x00", element(0x30, change(values))))

    assert read(update(codec.MAX_UPDATE_STRINGS)) == UpdateRequest()
    with pytest.raises(MalformedMessageError):
        read(update(codec.MAX_UPDATE_STRINGS - 2))


@given(st.binary(max_size=60))
def test_no_octets_raise_anything_else(contents: bytes) -> None:
    """Whatever is inside a message, reading it ends in a request or a refusal."""
    for tag in (0x60, 0x63, 0x6E, 0x77, 0x50, 0x42, 0x66, 0x68, 0x6C):
        for octets in (element(0x30, ID, element(tag, contents)), element(0x30, contents)):
            with contextlib.suppress(MalformedMessageError, OperationError):
                read(octets)


def nested(depth: int) -> bytes:
    found = PRESENT
    for _ in range(depth - 1):
        found = element(0xA2, found)
    return found


@pytest.mark.parametrize(
    ("wire", "is_allowed"),
    [
        (nested(MAX_FILTER_DEPTH), True),
        (nested(MAX_FILTER_DEPTH + 1), False),
        (nested(9000), False),
        (element(0xA0, PRESENT * (MAX_FILTER_ITEMS - 1)), True),
        (element(0xA0, PRESENT * MAX_FILTER_ITEMS), False),
    ],
    ids=["deep", "too-deep", "far-too-deep", "long", "too-long"],
)
def test_a_filter_has_a_bound(wire: bytes, is_allowed: bool) -> None:
    """A filter that would cost too much is refused with a result, not with a disconnection."""
    octets = element(0x30, ID, element(0x63, SEARCH_HEAD, wire, b"\x30\x00"))
    if is_allowed:
        read(octets)
    else:
        with pytest.raises(OperationError) as caught:
            read(octets)
        assert caught.value.result.code == ResultCode.ADMIN_LIMIT_EXCEEDED


def test_controls_are_read() -> None:
    """Criticality is FALSE if absent; a value may be absent, too."""
    controls: Any = [("1.2.3", False, b"x"), ("1.2.4", True, b""), ("1.2.5", None, None)]
    assert codec.open_envelope(message(search_request(), controls=controls)).controls == (
        Control("1.2.3", False, b"x"),
        Control("1.2.4", True, b""),
        Control("1.2.5", False, None),
    )
    assert codec.open_envelope(message(search_request())).controls == ()


@pytest.mark.parametrize(("number", "is_allowed"), [(codec.MAX_CONTROLS, True), (codec.MAX_CONTROLS + 1, False)])
def test_the_number_of_controls_has_a_bound(number: int, is_allowed: bool) -> None:
    """More of them are nonsense."""
    octets = message(search_request(), controls=[("1.2.3", False, None)] * number)
    with contextlib.nullcontext() if is_allowed else pytest.raises(MalformedMessageError):
        codec.open_envelope(octets)


REFUSED = {
    "attributes": (search_request("", 0, None, *["cn"] * (codec.MAX_ATTRIBUTES + 1)), ResultCode.ADMIN_LIMIT_EXCEEDED),
    "deref": (search_request(deref=4), ResultCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("wire", "code"), REFUSED.values(), ids=REFUSED)
def test_a_search_beyond_its_bounds_is_refused(wire: Any, code: ResultCode) -> None:
    """With a result: the message could be read."""
    with pytest.raises(OperationError) as caught:
        read(message(wire))
    assert caught.value.result.code == code


def test_an_answer_can_have_a_control() -> None:
    """Behind the operation, inside the message; large values stay as they lie."""
    value = bytes(100_000)
    entry = codec.search_result_entry("C=JP", [codec.partial_attribute("x", [value])])
    pieces = codec.message(1, codec.with_control(entry, Control("1.2.3", False, b"y")))
    assert any(piece is value for piece in pieces)
    (answer,) = read_answers(b"".join(pieces))
    assert answer.controls == [(b"1.2.3", None, b"y")]


def test_an_entry_is_what_ldaptor_reads() -> None:
    """Names in UTF-8, several values, none, and long lengths."""
    attributes = [("cn", [b"a", b"b"]), ("certificateRevocationList;binary", [bytes(300)]), ("ou", [])]
    encoded = [codec.partial_attribute(*each) for each in attributes]
    operation = codec.search_result_entry("CN=富山市", encoded)
    (answer,) = read_answers(b"".join(codec.message(70_000, operation)))
    assert (answer.message_id, answer.dn, answer.attributes) == (70_000, "CN=富山市", dict(attributes))


def test_a_large_value_is_passed_on_as_it_lies() -> None:
    """Ten megabytes are not copied for each client."""
    value = bytes(10_000_000)
    entry = codec.search_result_entry("C=JP", [codec.partial_attribute("x", [value, b"small"])])
    pieces = codec.message(1, entry)
    assert any(piece is value for piece in pieces)
    assert sum(len(piece) for piece in pieces if piece is not value) < 100


def test_a_result_tells_code_name_and_reason() -> None:
    """As ldaptor reads it, in the response that belongs to the request."""
    tag = codec.open_envelope(message(search_request())).tag
    operation = codec.response(tag, Result(ResultCode.NO_SUCH_OBJECT, "why", "C=JP"))
    (answer,) = read_answers(b"".join(codec.message(5, operation)))
    assert isinstance(answer.operation, pureldap.LDAPSearchResultDone)
    assert (answer.code, answer.operation.matchedDN, answer.operation.errorMessage) == (32, b"C=JP", b"why")


def test_the_notice_of_disconnection_is_unsolicited() -> None:
    """Message ID 0 and its OID: RFC 4511, section 4.4.1."""
    (answer,) = read_answers(b"".join(codec.notice_of_disconnection(Result(ResultCode.PROTOCOL_ERROR))))
    assert (answer.message_id, answer.operation.responseName) == (0, b"1.3.6.1.4.1.1466.20036")
