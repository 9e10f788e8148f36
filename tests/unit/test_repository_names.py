"""Distinguished names: which are equal, which are none."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repository.names import parse
from repository.preparation import prepare, prepare_substring

EQUAL = {
    "case": ("CN=Chiyoda-ku CRLDP,C=JP", "cn=CHIYODA-KU crldp,c=jp"),
    "oid": ("CN=a,C=JP", "2.5.4.3=a,2.5.4.6=JP"),
    "long-names": ("CN=a,OU=b,C=JP", "commonName=a,organizationalUnitName=b,countryName=JP"),
    "spaces-around": ("CN=a,C=JP", " CN = a , C = JP "),
    "spaces-inside": ("CN=The Governor,C=JP", "CN=The   Governor,C=JP"),
    "semicolon": ("CN=a,C=JP", "CN=a;C=JP"),
    "quoted": ("CN=a b,C=JP", 'CN="a b" , C = " JP "'),
    "quoted-separators": (r"CN=\<a\,b\;c\+d\>=\#,C=JP", 'CN="<a,b;c+d>=#",C=JP'),
    "quoted-escapes": (r"CN=\"a\"\\\2C", r'CN="\"a\"\\\,"'),
    "quoted-nothing": ("CN=,C=JP", 'CN="",C=JP'),
    "escaped": (r"CN=a\,b,C=JP", r"CN=a\2cb,C=JP"),
    "hex-utf8": ("CN=富山市", r"CN=\E5\AF\8C\E5\B1\B1\e5\b8\82"),
    "hash-utf8": ("CN=富山市", "CN=#0c09e5af8ce5b1b1e5b882"),
    "hash-printable": ("C=JP", "C=#13024a50"),
    "hash-bmp": ("CN=富", "CN=#1e025bcc"),
    "full-width": ("CN=ABC", "CN=ＡＢＣ"),
    "ideographic-space": ("CN=富山 市", "CN=富山　市"),
    "composed": ("CN=が", "CN=か\u3099"),
    "multi-valued": ("OU=x+CN=a,C=JP", "CN=a+OU=x,C=JP"),
    "escaped-spaces-at-ends": ("CN=a", r"CN=\ a\ "),
    "leading-sharp": (r"CN=\#a", r"CN=\23a"),
    "equals-sign": ("CN=a=b", r"CN=a\=b"),
    "empty": ("", "  "),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_one_name_has_many_spellings(one: str, other: str) -> None:
    """RFC 4514 and what its predecessors made clients write, compared by RFC 4518."""
    assert parse(one).key == parse(other).key


DIFFERENT = {
    "value": ("CN=a", "CN=b"),
    "type": ("CN=a", "OU=a"),
    "order": ("CN=a,OU=b", "OU=b,CN=a"),
    "word-boundary": ("CN=ab", "CN=a b"),
    "multi-valued": ("CN=a+OU=b", "CN=a,OU=b"),
    "unknown-type": ("CN=a", "x=a"),
    "kanji": ("CN=富山市", "CN=冨山市"),
    "hash-of-other-type": ("CN=a", "CN=#040161"),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_different_names_stay_different(one: str, other: str) -> None:
    """No spelling hides a difference."""
    assert parse(one).key != parse(other).key


INVALID = {
    "no-type": "JP",
    "empty-rdn": "CN=a,,C=JP",
    "trailing-comma": "CN=a,",
    "sharp-without-hex": "CN=#zz",
    "type-with-space": "C N=a",
    "unescaped-quote": 'CN=a"b',
    "open-quote": 'CN="a,C=JP',
    "behind-a-quote": 'CN="a"b,C=JP',
    "quoted-nul": 'CN="a\x00"',
    "unescaped-angle": "CN=<a>",
    "nul": "CN=a\x00",
    "half-escape": "CN=a\\",
    "one-hex-digit": "CN=a\\4",
    "not-utf8": "CN=\\ff",
    "not-utf8-on-the-wire": "CN=\udcff",
    "odd-hash": "CN=#0c1",
    "hash-is-not-ber": "CN=#0c05",
    "private-use": "CN=\ue000",
    "too-long": "CN=" + "a" * 4094,
    "too-many": "CN=a," * 2000,
}


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID)
def test_what_is_no_name_is_refused(text: str) -> None:
    """Each is a ValueError, which becomes invalidDNSyntax."""
    with pytest.raises(ValueError):  # noqa: PT011 - whatever its text
        parse(text)


TOLD = {
    "not a dn": "without `type=` at character 1",
    "CN=a,": "without `type=` at character 6",
    "CN=a,OU=#zz": "without a value at character 9",
    "CN=a<b": "'<' has to be escaped in a DN: character 5",
}


@pytest.mark.parametrize(("text", "reason"), TOLD.items(), ids=TOLD)
def test_what_is_no_name_is_told_where(text: str, reason: str) -> None:
    """For whoever wrote it."""
    with pytest.raises(ValueError, match=reason):
        parse(text)


@given(st.text(alphabet='aB= ,+\\#"富\x00;4f', max_size=40))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    """Nothing else can be raised; and a name is found again under its own text."""
    try:
        name = parse(text)
    except ValueError:
        return
    assert parse(name.text).key == name.key
    assert [parse(parent).key for parent in name.parents] == [name.key[i:] for i in range(1, len(name.key))]


def test_names_of_many_levels_are_not_kept() -> None:
    """A peer may make up any number of them; a thousand would be 40 MB."""
    tracemalloc.start()
    try:
        for i in range(50):
            parse(f"a={i}" + ",a=" * 80)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def test_parents_keep_their_spelling() -> None:
    """Entries between the top and a published one are named as the publisher spelt them."""
    assert parse(r"CN=a\,b, OU=X+L=Y ,c=JP").parents == ("OU=X+L=Y ,c=JP", "c=JP")
    assert parse('CN="a,b", OU="X",c=JP').parents == ('OU="X",c=JP', "c=JP")


@pytest.mark.parametrize(
    ("prepared", "expected"),
    [
        (prepare("foo bar  "), " foo  bar "),
        (prepare("  "), "  "),
        (prepare("Foo", fold_case=False), " Foo "),
        (prepare("soft\u00adhyphen"), " softhyphen "),
        (prepare("Straße"), " strasse "),
        (prepare_substring("foo bar  ", first=True), " foo  bar "),
        (prepare_substring("foo bar  "), "foo  bar "),
        (prepare_substring("foo bar  ", last=True), "foo  bar "),
        (prepare_substring("   "), " "),
        (prepare_substring(" x"), " x"),
    ],
)
def test_strings_are_prepared_as_the_rfc_prints_it(prepared: str, expected: str) -> None:
    """The examples of RFC 4518, section 2.6.1, and foldings."""
    assert prepared == expected


@pytest.mark.parametrize("text", ["a" * 1025, "富" * 342, "a" + "\u0315" * 256 + "\u0316" * 256], ids=ascii)
def test_a_long_string_is_none_that_matches(text: str) -> None:
    """Octets count, whatever they stand for."""
    assert prepare(text[:-1])
    for each in (prepare, prepare_substring, lambda value: parse(f"cn={value}")):
        with pytest.raises(ValueError, match="more than 1024 octets"):
            each(text)
