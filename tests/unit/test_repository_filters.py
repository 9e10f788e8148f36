"""Filters with three-valued logic."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repository.filters import predicate
from repository.messages import (
    And,
    ApproxMatch,
    EqualityMatch,
    ExtensibleMatch,
    Filter,
    GreaterOrEqual,
    LessOrEqual,
    Not,
    Or,
    Present,
    Substrings,
    UnrecognizedFilter,
)
from repository.names import parse
from repository.snapshot import build
from tests.support.repository import CHIYODA, OBJECTS

ENTRY = build(OBJECTS).find(parse(CHIYODA).key)
LONG = ("a" + "\u0315" * 15_900 + "\u0316" * 15_900).encode()  # to normalize this takes a second
TRUE, FALSE, UNDEFINED = Present("cn"), Present("o"), Present("noSuchType")


def truth(search_filter: Filter, *, may_read_restricted: bool = True) -> bool | None:
    return predicate(search_filter)(ENTRY, ENTRY.attributes(may_read_restricted=may_read_restricted))


ITEMS = {
    "present": (Present("cn"), True),
    "present-by-oid": (Present("2.5.4.3"), True),
    "present-in-capitals": (Present("OBJECTCLASS"), True),
    "present-supertype": (Present("name"), True),
    "present-binary": (Present("certificateRevocationList;binary"), True),
    "present-without-binary": (Present("certificateRevocationList"), True),
    "present-not-held": (Present("cACertificate"), False),
    "present-binary-of-a-string": (Present("cn;binary"), None),
    "present-language": (Present("cn;lang-ja"), None),
    "equal": (EqualityMatch("cn", b" chiyoda-KU   crldp"), True),
    "equal-other": (EqualityMatch("cn", b"Minato-ku CRLDP"), False),
    "equal-by-supertype": (EqualityMatch("name", b"chiyoda-ku crldp"), True),
    "equal-object-class": (EqualityMatch("objectClass", b"crldistributionpoint"), True),
    "equal-object-class-by-oid": (EqualityMatch("objectClass", b"2.5.6.19"), True),
    "equal-unknown-object-class": (EqualityMatch("objectClass", b"person"), None),
    "equal-dn": (EqualityMatch("subschemaSubentry", b"CN = subschema"), True),
    "equal-no-dn": (EqualityMatch("subschemaSubentry", b"x"), None),
    "equal-boolean": (EqualityMatch("hasSubordinates", b"FALSE"), True),
    "equal-other-boolean": (EqualityMatch("hasSubordinates", b"TRUE"), False),
    "equal-no-boolean": (EqualityMatch("hasSubordinates", b"false"), None),
    "equal-not-utf8": (EqualityMatch("cn", b"\xff"), None),
    "equal-empty": (EqualityMatch("cn", b""), None),
    "equal-too-long": (EqualityMatch("cn", LONG), None),
    "equal-no-oid": (EqualityMatch("objectClass", b"1 2"), None),
    "equal-no-certificate-list": (EqualityMatch("certificateRevocationList", b"x"), None),
    "equal-telephone": (EqualityMatch("telephoneNumber", b"+81 3-5321-1111"), False),
    "equal-no-telephone": (EqualityMatch("telephoneNumber", b"{"), None),
    "equal-no-numeric-string": (EqualityMatch("x121Address", b"x"), None),
    "equal-time": (EqualityMatch("createTimestamp", b"20140401000000Z"), True),
    "equal-time-in-tokyo": (EqualityMatch("createTimestamp", b"201404010900+0900"), True),
    "equal-time-without-minutes": (EqualityMatch("createTimestamp", b"2014040100.0Z"), True),
    "equal-time-half-an-hour": (EqualityMatch("modifyTimestamp", b"2014040209.5Z"), True),
    "equal-other-time": (EqualityMatch("modifyTimestamp", b"20140402093001Z"), False),
    "equal-no-time": (EqualityMatch("createTimestamp", b"20140401"), None),
    "equal-no-moment": (EqualityMatch("createTimestamp", b"20140431000000Z"), None),
    "equal-end-of-time": (EqualityMatch("createTimestamp", b"9999123123.9-1200"), False),
    "equal-no-rule": (EqualityMatch("preferredDeliveryMethod", b"x"), None),
    "equal-unknown": (EqualityMatch("x", b"x"), None),
    "approx": (ApproxMatch("cn", b"chiyoda-ku crldp"), True),
    "greater": (GreaterOrEqual("cn", b"a"), None),
    "less": (LessOrEqual("cn", b"z"), None),
    "greater-unknown": (GreaterOrEqual("x", b"a"), None),
    "earlier-than-held": (GreaterOrEqual("createTimestamp", b"20140331235959Z"), True),
    "from-held": (GreaterOrEqual("createTimestamp", b"201404010900+0900"), True),
    "later-than-held": (GreaterOrEqual("createTimestamp", b"20140401000000.1Z"), False),
    "until-later-than-held": (LessOrEqual("modifyTimestamp", b"2015010100Z"), True),
    "until-held": (LessOrEqual("modifyTimestamp", b"20140402093000Z"), True),
    "until-earlier-than-held": (LessOrEqual("modifyTimestamp", b"20140402092959Z"), False),
    "greater-no-time": (GreaterOrEqual("createTimestamp", b"2014"), None),
    "extensible-earlier": (ExtensibleMatch("2.5.13.28", "createTimestamp", b"20140401000001Z", False), True),
    "extensible-not-earlier": (ExtensibleMatch("2.5.13.28", "createTimestamp", b"20140401000000Z", False), False),
    "extensible-any-earlier": (ExtensibleMatch("generalizedTimeOrderingMatch", None, b"2015010100Z", False), True),
    "extensible-order-of-names": (ExtensibleMatch("generalizedTimeOrderingMatch", "cn", b"2015010100Z", False), None),
    "substrings-initial": (Substrings("cn", b"CHIYODA", (), None), True),
    "substrings-any": (Substrings("cn", None, (b"yo", b"crl"), None), True),
    "substrings-final": (Substrings("cn", None, (), b" CRLDP"), True),
    "substrings-all": (Substrings("cn", b"chi", (b"-ku ",), b"dp"), True),
    "substrings-out-of-order": (Substrings("cn", None, (b"crl", b"yo"), None), False),
    "substrings-overlap": (Substrings("cn", b"chiyoda-ku crldp", (), b"crldp"), False),
    "substrings-any-overlap": (Substrings("cn", None, (b"crldp",), b"dp"), False),
    "substrings-empty": (Substrings("cn", None, (b"chi", b""), None), None),
    "substrings-not-utf8": (Substrings("cn", b"\xff", (), None), None),
    "substrings-too-long": (Substrings("cn", b"a", (LONG,), None), None),
    "substrings-no-rule": (Substrings("objectClass", b"t", (), None), None),
    "extensible-type": (ExtensibleMatch(None, "cn", b"chiyoda-ku crldp", dn_attributes=False), True),
    "extensible-rule": (ExtensibleMatch("caseExactMatch", "cn", b"chiyoda-ku crldp", dn_attributes=False), False),
    "extensible-rule-by-oid": (ExtensibleMatch("2.5.13.5", "cn", b"Chiyoda-ku CRLDP", dn_attributes=False), True),
    "extensible-any-attribute": (ExtensibleMatch("caseIgnoreMatch", None, b"CHIYODA-KU CRLDP", False), True),
    "extensible-dn": (ExtensibleMatch(None, "ou", b"tokyo-to", dn_attributes=True), True),
    "extensible-not-dn": (ExtensibleMatch(None, "ou", b"tokyo-to", dn_attributes=False), False),
    "extensible-unknown-rule": (ExtensibleMatch("1.2.3", "cn", b"x", dn_attributes=False), None),
    "extensible-unknown-type": (ExtensibleMatch("caseIgnoreMatch", "x", b"x", dn_attributes=False), None),
    "extensible-wrong-rule": (ExtensibleMatch("objectIdentifierMatch", "cn", b"top", dn_attributes=False), None),
    "extensible-nothing": (ExtensibleMatch(None, None, b"x", dn_attributes=False), None),
    "extensible-too-long": (ExtensibleMatch("caseExactMatch", None, LONG, dn_attributes=True), None),
    "extensible-bad-value": (ExtensibleMatch(None, "cn", b"\xff", dn_attributes=False), None),
    "unrecognized": (UnrecognizedFilter(), None),
}


@pytest.mark.parametrize(("search_filter", "expected"), ITEMS.values(), ids=ITEMS)
def test_a_filter_item_is_true_false_or_undefined(search_filter: Filter, expected: bool | None) -> None:
    """Nothing in a filter is an error: RFC 4511, section 4.5.1.7."""
    assert truth(search_filter) is expected


COMBINATIONS = {
    "and-none": (And(()), True),
    "or-none": (Or(()), False),
    "and-undefined": (And((TRUE, UNDEFINED)), None),
    "and-false-wins": (And((UNDEFINED, FALSE)), False),
    "or-undefined": (Or((FALSE, UNDEFINED)), None),
    "or-true-wins": (Or((UNDEFINED, TRUE)), True),
    "not-true": (Not(TRUE), False),
    "not-false": (Not(FALSE), True),
    "not-undefined": (Not(UNDEFINED), None),
}


@pytest.mark.parametrize(("search_filter", "expected"), COMBINATIONS.values(), ids=COMBINATIONS)
def test_undefined_is_a_third_value(search_filter: Filter, expected: bool | None) -> None:
    """Neither an item nor its negation selects what is Undefined."""
    assert truth(search_filter) is expected


@given(st.lists(st.sampled_from([TRUE, FALSE, UNDEFINED])))
def test_and_and_or_are_duals(filters: list[Filter]) -> None:
    """De Morgan holds with three values, too."""
    assert truth(Not(And(tuple(filters)))) is truth(Or(tuple(map(Not, filters))))


@pytest.mark.req("R-4-4-4-5", "R-2-6-3-2")
@pytest.mark.parametrize("attribute", ["certificateRevocationList", "certificateRevocationList;binary", "2.5.4.39"])
def test_a_filter_cannot_probe_for_what_the_reader_may_not_see(attribute: str) -> None:
    """Without the right the list is as if not there."""
    assert truth(Present(attribute), may_read_restricted=False) is False
    assert truth(Not(Present(attribute)), may_read_restricted=False) is True


def test_long_names_that_a_peer_writes_are_not_kept() -> None:
    """Of attributes and of object classes; a thousand of 60 KiB would be 60 MB."""
    tracemalloc.start()
    try:
        for i in range(50):
            name = f"{i}.".rjust(60_000, "x")
            assert truth(Present(name)) is None
            assert truth(EqualityMatch("objectClass", name.encode())) is None
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
