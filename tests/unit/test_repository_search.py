"""Search and compare on the published directory."""

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repository import codec, definitions
from repository.controls import Controls
from repository.dit import DIT, Entry
from repository.errors import CorruptPublicationError, OperationError
from repository.messages import (
    And,
    AttributeValueAssertion,
    CompareRequest,
    EqualityMatch,
    ExtensibleMatch,
    Filter,
    GreaterOrEqual,
    Not,
    Or,
    Present,
    Result,
    ResultCode,
    Scope,
    SearchRequest,
    Substrings,
)
from repository.names import NameKey
from repository.search import Limits, Outcome, compare, search
from repository.snapshot import PublishedObject, build, not_loaded
from tests.support.repository import (
    CA,
    CHIYODA,
    FIRST_PUBLISHED_AT,
    LIST,
    MINATO,
    OBJECTS,
    PUBLISHED_AT,
    TOYAMA,
    published,
    read_answers,
)

DIRECTORY = build(OBJECTS)
ALL = Present("objectClass")
TIMES = "createTimestamp", "modifyTimestamp"
SUBSCHEMA = "cn=Subschema"
POINTS = "OU=CRL Distribution Points,OU=Tokyo-to,O=JPKI,C=JP"


def find(
    base: str = "", scope: int = Scope.BASE_OBJECT, search_filter: Filter = ALL, *attributes: str, **more: Any
) -> Outcome:
    request = SearchRequest(
        base,
        scope,
        more.get("size_limit", 0),
        more.get("time_limit", 0),
        more.get("types_only", False),
        search_filter,
        attributes,
    )
    return search(
        more.get("dit", DIRECTORY),
        request,
        more.get("controls", Controls()),
        may_read_restricted=more.get("may_read_restricted", False),
        limits=Limits(more.get("limit", 1000), 10, more.get("clock", lambda: 0)),
    )


@pytest.fixture(scope="module")
def many_entries() -> DIT:
    """As many as all prefectures have together."""
    return build([published(f"CN={i},O=JPKI,C=JP", LIST, b"no list") for i in range(2000)])


def names(outcome: Outcome) -> list[str]:
    return [answer.dn for answer in entries(outcome)]


def entries(outcome: Outcome) -> list[Any]:
    octets = b"".join(piece for entry in outcome.entries for piece in codec.message(1, entry))
    return read_answers(octets)


def shown(*attributes: str, base: str = CA, **more: Any) -> dict[str, list[bytes]]:
    (entry,) = entries(find(base, Scope.BASE_OBJECT, ALL, *attributes, **more))
    found: dict[str, list[bytes]] = entry.attributes
    return found


@pytest.mark.req("R-2-6-1-2", "R-2-6-3-1", "R-4-4-4-1-2")
def test_everybody_reads_the_certificates_and_public_lists_of_a_ca() -> None:
    """In the order of publication, with the naming attribute and the object classes of RFC 4523."""
    assert shown() == {
        "objectClass": [b"top", b"organizationalUnit", b"pkiCA"],
        "ou": [b"The Governor of Tokyo-to"],
        "cACertificate;binary": [b"new self-signed", b"old with new"],
        "authorityRevocationList;binary": [b"arl"],
        "certificateRevocationList;binary": [b"operations crl"],
    }


@pytest.mark.req("R-4-4-4-5", "R-2-6-3-2", "R-2-8-3-2")
@pytest.mark.parametrize("attributes", [(), ("*",), (LIST,), (f"{LIST};binary",), ("*", "+", LIST)])
def test_a_municipal_list_is_shown_to_a_party_with_the_right_only(attributes: tuple[str, ...]) -> None:
    """To others the attribute is absent, however they ask."""
    shown_to_party = shown(*attributes, base=CHIYODA, may_read_restricted=True)
    shown_to_others = shown(*attributes, base=CHIYODA)
    assert shown_to_party[f"{LIST};binary"] == [b"chiyoda crl"]
    assert shown_to_others == {k: v for k, v in shown_to_party.items() if k != f"{LIST};binary"}


SELECTIONS = {
    "one": (("cACertificate",), {"cACertificate;binary"}),
    "with-option": (("cacertificate;BINARY",), {"cACertificate;binary"}),
    "both-forms": (("cACertificate", "cACertificate;binary"), {"cACertificate;binary"}),
    "by-oid": (("2.5.4.38",), {"authorityRevocationList;binary"}),
    "supertype": (("name",), {"ou"}),
    "none": (("1.1",), set()),
    "unknown": (("nothing",), set()),
    "binary-of-a-string": (("ou;binary",), set()),
    "operational": (
        ("+",),
        {"entryDN", "structuralObjectClass", "hasSubordinates", "subschemaSubentry", *TIMES},
    ),
    "operational-by-name": (("subschemasubentry", "ou"), {"subschemaSubentry", "ou"}),
    "none-and-one": (("1.1", "ou"), {"ou"}),
}


@pytest.mark.parametrize(("attributes", "expected"), SELECTIONS.values(), ids=SELECTIONS)
def test_only_what_is_asked_for_is_returned(attributes: tuple[str, ...], expected: set[str]) -> None:
    """RFC 4511, section 4.5.1.8; certificates and lists always as ;binary (RFC 4522, section 5)."""
    assert set(shown(*attributes)) == expected


def test_an_entry_tells_when_it_was_published_first_and_last() -> None:
    """RFC 4512, section 3.4: what nobody published itself is as old and as new as what is below."""
    day = timedelta(days=1)
    newer = replace(published(CHIYODA, LIST, b"newer"), published_at=PUBLISHED_AT + day)
    older = replace(published(MINATO, LIST, b"older"), first_published_at=FIRST_PUBLISHED_AT - day)
    newest = build([newer, older])
    times = {
        base: [shown(*TIMES, base=base, dit=newest)[each] for each in TIMES]
        for base in (CHIYODA, MINATO, POINTS, "C=JP")
    }
    assert times == {
        CHIYODA: [[b"20140401000000Z"], [b"20140403093000Z"]],
        MINATO: [[b"20140331000000Z"], [b"20140402093000Z"]],
        POINTS: [[b"20140331000000Z"], [b"20140403093000Z"]],
        "C=JP": [[b"20140331000000Z"], [b"20140403093000Z"]],
    }


def test_an_entry_tells_its_name_and_whether_others_are_below() -> None:
    """RFC 5020 and X.501; browsers of directories ask before they show that something can be opened."""
    bases = ["C=JP", POINTS, CA, CHIYODA]
    told = [shown("entryDN", "hasSubordinates", base=base.lower()) for base in bases]
    assert [each["entryDN"] for each in told] == [[base.encode()] for base in bases]
    assert [each["hasSubordinates"] for each in told] == [[b"TRUE"], [b"TRUE"], [b"FALSE"], [b"FALSE"]]
    assert [shown("entryDN", base=base) for base in ("", SUBSCHEMA)] == [
        {"entryDN": [b""]},
        {"entryDN": [SUBSCHEMA.encode()]},
    ]
    leaves = find(POINTS, Scope.WHOLE_SUBTREE, EqualityMatch("hasSubordinates", b"FALSE"))
    assert names(leaves) == [CHIYODA, MINATO]
    assert names(find("", Scope.WHOLE_SUBTREE, EqualityMatch("entryDN", POINTS.lower().encode()))) == [POINTS]


def test_types_only_leaves_the_values_out() -> None:
    """And nothing counts as delivered."""
    assert shown("cACertificate", LIST, types_only=True) == {"cACertificate;binary": [], f"{LIST};binary": []}
    assert find(CA, Scope.BASE_OBJECT, ALL, types_only=True).lists == ()


SCOPES = {
    "base": (POINTS, Scope.BASE_OBJECT, [POINTS]),
    "one": (POINTS, Scope.SINGLE_LEVEL, [CHIYODA, MINATO]),
    "sub": (POINTS, Scope.WHOLE_SUBTREE, [POINTS, CHIYODA, MINATO]),
    "one-of-leaf": (CHIYODA, Scope.SINGLE_LEVEL, []),
    "one-of-the-top": ("", Scope.SINGLE_LEVEL, ["C=JP"]),
    "root-dse": ("", Scope.BASE_OBJECT, [""]),
}


@pytest.mark.parametrize(("base", "scope", "expected"), SCOPES.values(), ids=SCOPES)
def test_a_scope_is_what_rfc_4511_says(base: str, scope: Scope, expected: list[str]) -> None:
    """Section 4.5.1.2; made-up entries between the top and a published one are there, too."""
    assert names(find(base, scope)) == expected


def test_several_prefectures_share_one_tree() -> None:
    """And neither the root DSE nor the subschema is in it (RFC 4512, section 5.1)."""
    found = names(find("", Scope.WHOLE_SUBTREE))
    assert found[:2] == ["C=JP", "O=JPKI,C=JP"]
    assert {CA, CHIYODA, MINATO, TOYAMA} < set(found)
    assert len(found) == len(set(found)) == 10


@pytest.mark.parametrize(
    ("size_limit", "limit", "code", "number"),
    [
        (0, 1000, ResultCode.SUCCESS, 2),
        (2, 1000, ResultCode.SUCCESS, 2),
        (1, 1000, ResultCode.SIZE_LIMIT_EXCEEDED, 1),
        (0, 1, ResultCode.ADMIN_LIMIT_EXCEEDED, 1),
        (5, 1, ResultCode.ADMIN_LIMIT_EXCEEDED, 1),
    ],
)
def test_the_number_of_entries_has_a_limit(size_limit: int, limit: int, code: ResultCode, number: int) -> None:
    """What was found until then is returned, and whose limit it was is told."""
    outcome = find(POINTS, Scope.SINGLE_LEVEL, size_limit=size_limit, limit=limit)
    assert (outcome.result.code, len(outcome.entries)) == (code, number)


@pytest.mark.parametrize(
    ("time_limit", "code", "number"),
    [
        pytest.param(0, ResultCode.SUCCESS, 10, id="none"),
        pytest.param(5, ResultCode.TIME_LIMIT_EXCEEDED, 5, id="of the client"),
        pytest.param(99, ResultCode.SUCCESS, 10, id="within that of the server"),
    ],
)
def test_the_time_of_a_search_has_a_limit(time_limit: int, code: ResultCode, number: int) -> None:
    """Here each entry takes a second, and the server allows ten."""
    outcome = find("", Scope.WHOLE_SUBTREE, time_limit=time_limit, clock=count().__next__)
    assert (outcome.result.code, len(outcome.entries)) == (code, number)


def test_what_the_server_allows_is_a_limit_for_every_client() -> None:
    """Here each entry takes three seconds, and the client would wait."""
    outcome = find("", Scope.WHOLE_SUBTREE, time_limit=99, clock=count(step=3).__next__)
    assert (outcome.result.code, len(outcome.entries)) == (ResultCode.TIME_LIMIT_EXCEEDED, 3)


LIST_ASSERTION = b'{ issuer rdnSequence:"C=JP", thisUpdate utcTime:"140401000000Z" }'
COSTS: dict[str, tuple[Filter, ResultCode]] = {
    "a-few-values": (Or(tuple(EqualityMatch("cn", b"%d" % i) for i in range(40))), ResultCode.SUCCESS),
    "many-values": (Or(tuple(EqualityMatch("cn", b"%d" % i) for i in range(99))), ResultCode.ADMIN_LIMIT_EXCEEDED),
    "many-present": (Not(And((Present("cn"),) * 98)), ResultCode.ADMIN_LIMIT_EXCEEDED),
    "a-list": (EqualityMatch(LIST, LIST_ASSERTION), ResultCode.SUCCESS),
    "a-few-lists": (Or((EqualityMatch(LIST, LIST_ASSERTION),) * 4), ResultCode.ADMIN_LIMIT_EXCEEDED),
    "a-few-pieces": (Or((Substrings("cn", None, (b"1", b"2", b"3"), None),) * 40), ResultCode.SUCCESS),
    "many-pieces": (
        Or((Substrings("cn", None, (b"1",) * 16, None),) * 40),
        ResultCode.ADMIN_LIMIT_EXCEEDED,
    ),
    "all-types": (
        Or((ExtensibleMatch("caseIgnoreMatch", None, b"x", dn_attributes=True),) * 4),
        ResultCode.ADMIN_LIMIT_EXCEEDED,
    ),
}


@pytest.mark.parametrize(("search_filter", "code"), COSTS.values(), ids=COSTS)
def test_a_filter_may_not_be_tried_too_often(many_entries: DIT, search_filter: Filter, code: ResultCode) -> None:
    """Nobody is answered meanwhile: what costs much is refused where there are many entries, and nowhere else."""
    outcome = find("", Scope.WHOLE_SUBTREE, search_filter, dit=many_entries, limit=5000)
    assert outcome.result.code == code
    assert find(CA, Scope.BASE_OBJECT, search_filter).result.code == ResultCode.SUCCESS


@pytest.mark.parametrize(
    ("number", "code"), [(1, ResultCode.SUCCESS), (60, ResultCode.ADMIN_LIMIT_EXCEEDED)], ids=["one", "many"]
)
def test_values_may_not_be_matched_too_often(many_entries: DIT, number: int, code: ResultCode) -> None:
    """The matched values control has the same bound."""
    controls = Controls(matched_values=(EqualityMatch("cn", b"x"),) * number)
    try:
        found = find("", Scope.WHOLE_SUBTREE, ALL, dit=many_entries, controls=controls, limit=5000).result.code
    except OperationError as e:
        found = e.result.code
    assert found == code


def test_an_assertion_decides_whether_there_is_a_search() -> None:
    """RFC 4528: it is about the base, and sees no more than the reader does."""
    for assertion, code in (
        (Present("ou"), ResultCode.SUCCESS),
        (Present(LIST), ResultCode.ASSERTION_FAILED),
        (Present("noSuchType"), ResultCode.ASSERTION_FAILED),
    ):
        try:
            result = find(POINTS, Scope.WHOLE_SUBTREE, controls=Controls(assertion=assertion)).result
        except OperationError as e:
            result = e.result
        assert result.code == code


def test_matched_values_leave_out_the_others() -> None:
    """RFC 3876: of an attribute without such a value the type stays."""
    items = (EqualityMatch("objectClass", b"pkiCA"), Present("ou"))
    assert shown(controls=Controls(matched_values=items)) == {
        "objectClass": [b"pkiCA"],
        "ou": [b"The Governor of Tokyo-to"],
        "cACertificate;binary": [],
        "authorityRevocationList;binary": [],
        "certificateRevocationList;binary": [],
    }


REFUSALS: dict[str, tuple[dict[str, Any], ResultCode, str]] = {
    "nothing-above": ({"base": "C=FR"}, ResultCode.NO_SUCH_OBJECT, ""),
    "something-above": ({"base": f"CN=x,{POINTS.lower()}"}, ResultCode.NO_SUCH_OBJECT, POINTS),
    "not-a-dn": ({"base": "JP"}, ResultCode.INVALID_DN_SYNTAX, ""),
    "children-scope": ({"base": "C=JP", "scope": 3}, ResultCode.PROTOCOL_ERROR, ""),
    "not-loaded": ({"base": CA, "dit": not_loaded()}, ResultCode.UNAVAILABLE, ""),
    "not-loaded-top": ({"base": "", "scope": 2, "dit": not_loaded()}, ResultCode.UNAVAILABLE, ""),
}


@pytest.mark.parametrize(("arguments", "code", "matched_dn"), REFUSALS.values(), ids=REFUSALS)
def test_a_search_that_cannot_begin_tells_why(arguments: dict[str, Any], code: ResultCode, matched_dn: str) -> None:
    """With the nearest entry above a missing one, as it is spelt here."""
    with pytest.raises(OperationError) as caught:
        find(**arguments)
    assert (caught.value.result.code, caught.value.result.matched_dn) == (code, matched_dn)


def test_what_is_not_found_is_not_looked_for_at_every_level() -> None:
    """A peer may make up a name of a thousand levels; each would be compared whole."""
    looked_up: list[object] = []

    class Entries(dict[NameKey, Entry]):
        def get(self, key: NameKey, default: Any = None) -> Any:
            looked_up.append(key)
            return super().get(key, default)

        def __contains__(self, key: object) -> bool:
            looked_up.append(key)
            return super().__contains__(key)

    with pytest.raises(OperationError) as caught:
        find("CN=x," * 800 + POINTS, dit=replace(DIRECTORY, entries=Entries(DIRECTORY.entries)))
    assert caught.value.result.matched_dn == POINTS
    assert len(looked_up) < 10


@pytest.mark.parametrize("text", ["CN=\udcff", r"CN=\ff", "CN=#0c01ff"])
def test_octets_that_are_no_text_are_told_as_that(text: str) -> None:
    """In the words of the protocol, not of Python."""
    with pytest.raises(OperationError) as caught:
        find(text)
    assert caught.value.result == Result(ResultCode.INVALID_DN_SYNTAX, "octets that are not UTF-8")


@pytest.mark.req("R-4-4-4-5")
def test_a_filter_on_a_restricted_list_finds_it_for_a_party_only() -> None:
    """With and without the option."""
    for attribute in (LIST, f"{LIST};binary"):
        wanted = And((Present(attribute), EqualityMatch("objectClass", b"cRLDistributionPoint")))
        assert names(find("", Scope.WHOLE_SUBTREE, wanted)) == []
        found = names(find("", Scope.WHOLE_SUBTREE, wanted, may_read_restricted=True))
        assert found == [CHIYODA, MINATO, TOYAMA]


TIME = b"140401000000Z"
NAME_DER = b"\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x06\x13\x02JP"  # C=JP
LIST_DER = b"\x30\x22\x30\x20\x30\x00" + NAME_DER + b"\x17\x0d" + TIME  # all that is compared of a list
FOUND_BY_A_PARTY = EqualityMatch(LIST, b'{ issuer "C=JP", thisUpdate utcTime:"' + TIME + b'" }')
HIDDEN, ANOTHER = (build([published(CHIYODA, LIST, value, public=False)]) for value in (LIST_DER, b"another"))
NAMES = st.sampled_from([LIST, f"{LIST};binary", "2.5.4.39", "authorityRevocationList", "cn", "objectClass", "entryDN"])
RULES = st.sampled_from(["certificateListExactMatch", "2.5.13.38", "caseIgnoreMatch", "octetStringMatch"])
WRITTEN = st.sampled_from([FOUND_BY_A_PARTY.assertion_value, LIST_DER, b"another", b"Chiyoda-ku CRLDP", b"top"])
PROBES = st.recursive(
    st.builds(Present, NAMES)
    | st.builds(EqualityMatch, NAMES, WRITTEN)
    | st.builds(GreaterOrEqual, NAMES, WRITTEN)
    | st.builds(Substrings, NAMES, WRITTEN, st.just(()), st.none())
    | st.builds(ExtensibleMatch, st.none() | RULES, st.none() | NAMES, WRITTEN, st.booleans()),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(And, st.lists(inner, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, max_size=3).map(tuple))
    ),
    max_leaves=5,
)


@pytest.mark.req("R-4-4-4-5")
@given(PROBES, st.none() | PROBES)
def test_what_is_in_a_restricted_list_changes_no_answer_to_others(probe: Filter, assertion: Filter | None) -> None:
    """Whatever they ask for, and by a filter or by the assertion control."""
    assert names(find("", Scope.WHOLE_SUBTREE, FOUND_BY_A_PARTY, dit=HIDDEN, may_read_restricted=True)) == [CHIYODA]
    answers: list[Outcome | Result] = []
    for dit in (HIDDEN, ANOTHER):
        try:
            answers.append(
                find(CHIYODA, Scope.WHOLE_SUBTREE, probe, "*", "+", LIST, dit=dit, controls=Controls(None, assertion))
            )
        except OperationError as e:
            answers.append(e.result)
    assert answers[0] == answers[1]


@pytest.mark.req("R-4-11-2-1", "R-2-1-4-10")
def test_an_outcome_tells_which_lists_it_delivers_and_whether_it_withholds_one() -> None:
    """What the journal keeps."""
    assert find(CHIYODA, Scope.BASE_OBJECT, ALL, LIST, may_read_restricted=True).lists == ((CHIYODA, LIST, 11),)
    assert find(CHIYODA, Scope.BASE_OBJECT, ALL, LIST).is_withheld
    assert not find(CHIYODA, Scope.BASE_OBJECT, ALL, "cn").is_withheld
    assert not find(CA).is_withheld
    assert [each.attribute for each in find(CA).lists] == ["authorityRevocationList", LIST]


def test_the_root_dse_tells_what_the_server_can() -> None:
    """RFC 4512, section 5.1: operational attributes only when asked for; also before anything is loaded."""
    assert shown(base="") == {"objectClass": [b"top"]}
    everything = shown("*", "+", base="")
    assert everything["namingContexts"] == [b"C=JP"]
    assert everything["subschemaSubentry"] == [b"cn=Subschema"]
    assert everything["supportedLDAPVersion"] == [b"3"]
    assert b"1.3.6.1.4.1.1466.20037" in everything["supportedExtension"]
    assert shown("vendorName", base="", dit=not_loaded()) == {"vendorName": [b"prefca"]}


def test_the_subschema_is_read_where_the_root_dse_says() -> None:
    """RFC 4512, section 4.4: a base search for (objectClass=subschema), attributes by name."""
    (entry,) = entries(
        find(
            "cn=subschema",
            Scope.BASE_OBJECT,
            EqualityMatch("objectClass", b"subschema"),
            "attributeTypes",
            "objectClasses",
        )
    )
    assert set(entry.attributes) == {"attributeTypes", "objectClasses"}
    assert any(b"'certificateRevocationList'" in each for each in entry.attributes["attributeTypes"])


# Of all definitions, with the day in definitions.CHANGED_AT: whoever changes them sets both anew.
SCHEMA_SHA256 = "ce08b4e44f513bf9ebaa59b1ece19ad40c2976f90b15d93fbc0d456bc6c4bcdc"


def test_the_subschema_tells_when_it_changed() -> None:
    """Clients that keep a schema read it anew when this rises (RFC 4512, section 4.2)."""
    changed_at = definitions.CHANGED_AT.encode()
    assert shown(*TIMES, base=SUBSCHEMA) == {name: [changed_at] for name in TIMES}
    kinds = "attributeTypes", "objectClasses", "matchingRules", "ldapSyntaxes"
    told = [changed_at] + [line for kind in kinds for line in shown(*kinds, base=SUBSCHEMA)[kind]]
    assert sha256(b"\n".join(told)).hexdigest() == SCHEMA_SHA256


def test_the_subschema_defines_all_that_it_uses() -> None:
    """No class names an unknown attribute, no attribute an unknown rule or syntax."""
    text = {name: getattr(definitions, name) for name in ("ATTRIBUTE_TYPES", "MATCHING_RULES", "LDAP_SYNTAXES")}
    for line in definitions.lines(definitions.OBJECT_CLASSES):
        for part in line.replace("(", "").replace(")", "").split(" MUST ")[-1].split(" MAY "):
            if "NAME" not in part:
                for name in part.split(" $ "):
                    assert f"'{name.strip()}'" in text["ATTRIBUTE_TYPES"]
    for line in definitions.lines(definitions.ATTRIBUTE_TYPES) + definitions.lines(definitions.MATCHING_RULES):
        words = line.split()
        for keyword, where, pattern in (
            ("EQUALITY", "MATCHING_RULES", "'{}'"),
            ("ORDERING", "MATCHING_RULES", "'{}'"),
            ("SUBSTR", "MATCHING_RULES", "'{}'"),
            ("SYNTAX", "LDAP_SYNTAXES", "( {} DESC"),
        ):
            if keyword in words:
                assert pattern.format(words[words.index(keyword) + 1]) in text[where]


COMPARES: dict[str, tuple[tuple[str, str, bytes], bool, ResultCode]] = {
    "true": ((CHIYODA, "cn", b"chiyoda-ku CRLDP"), False, ResultCode.COMPARE_TRUE),
    "false": ((CHIYODA, "cn", b"x"), False, ResultCode.COMPARE_FALSE),
    "absent": ((CHIYODA, "o", b"x"), False, ResultCode.NO_SUCH_ATTRIBUTE),
    "restricted": ((CHIYODA, LIST, b"x"), False, ResultCode.NO_SUCH_ATTRIBUTE),
    "operational": ((CHIYODA, "hasSubordinates", b"FALSE"), False, ResultCode.COMPARE_TRUE),
    "name": ((CHIYODA, "entryDN", CHIYODA.lower().encode()), False, ResultCode.COMPARE_TRUE),
    "no-boolean": ((CHIYODA, "hasSubordinates", b"false"), False, ResultCode.INVALID_ATTRIBUTE_SYNTAX),
    "no-rule": (("", "supportedLDAPVersion", b"3"), True, ResultCode.INAPPROPRIATE_MATCHING),
    "unknown-type": ((CHIYODA, "x", b"x"), False, ResultCode.UNDEFINED_ATTRIBUTE_TYPE),
    "bad-value": ((CHIYODA, "cn", b"\xff"), False, ResultCode.INVALID_ATTRIBUTE_SYNTAX),
    "too-long": ((CHIYODA, "cn", b"x" * 1025), False, ResultCode.INVALID_ATTRIBUTE_SYNTAX),
    "no-entry": (("C=FR", "c", b"FR"), False, ResultCode.NO_SUCH_OBJECT),
}


@pytest.mark.parametrize(("asked", "may_read", "code"), COMPARES.values(), ids=COMPARES)
def test_compare_tells_what_a_search_would(asked: tuple[str, str, bytes], may_read: bool, code: ResultCode) -> None:
    """And no more: a restricted attribute is absent here, too."""
    entry, attribute, value = asked
    request = CompareRequest(entry, AttributeValueAssertion(attribute, value))
    try:
        result = compare(DIRECTORY, request, may_read_restricted=may_read)
    except OperationError as e:
        result = e.result
    assert result.code == code


def test_a_reason_does_not_repeat_what_a_peer_wrote() -> None:
    """Which may be as long as a message."""
    long = f'{{ issuer rdnSequence:"C=JP", thisUpdate utcTime:"{"1" * 10_000}" }}'
    request = CompareRequest(CA, AttributeValueAssertion(LIST, long.encode()))
    with pytest.raises(OperationError) as caught:
        compare(DIRECTORY, request, may_read_restricted=False)
    assert caught.value.result.diagnostic_message == "a time that is not YYYYMMDDHHMMSSZ"


DAMAGED = {
    "hash": replace(published(CA, "cACertificate", b"x"), sha256=bytes(32)),
    "dn": published("JP", "cACertificate", b"x"),
    "root": published("", "cACertificate", b"x"),
    "type": published(CA, "photo", b"x"),
    "rdn-type": published("uid=x,C=JP", "cACertificate", b"x"),
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_publication_makes_no_directory(damaged: PublishedObject) -> None:
    """One bad row refuses them all."""
    with pytest.raises(CorruptPublicationError):
        build([*OBJECTS, damaged])


def test_spellings_of_one_name_make_one_entry() -> None:
    """What two prefectures write differently is still the same entry above them."""
    dit: DIT = build([published("OU=A,O=JPKI,C=JP", LIST, b"a"), published("ou=B, o=jpki, c=jp", LIST, b"b")])
    assert names(find("o=JPKI,c=JP", Scope.SINGLE_LEVEL, dit=dit)) == ["OU=A,O=JPKI,C=JP", "ou=B, o=jpki, c=jp"]


def test_a_list_at_an_entry_without_a_class_for_it_makes_it_a_ca() -> None:
    """A distribution point holds lists by itself; with certificates it is a CA as well (RFC 4523, section 5)."""
    dit = build(
        [
            published("OU=A,C=JP", LIST, b"a"),
            published("CN=B,C=JP", LIST, b"b"),
            published("CN=C,C=JP", "cACertificate", b"c"),
        ]
    )
    classes = {entry.dn: entry.attributes["objectClass"] for entry in entries(find("C=JP", 1, dit=dit))}
    assert classes == {
        "OU=A,C=JP": [b"top", b"organizationalUnit", b"pkiCA"],
        "CN=B,C=JP": [b"top", b"cRLDistributionPoint"],
        "CN=C,C=JP": [b"top", b"cRLDistributionPoint", b"pkiCA"],
    }
