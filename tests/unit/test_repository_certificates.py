"""certificateExactMatch and its relatives: which certificate or list an assertion means."""

from datetime import UTC, datetime
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from ldaptor.protocols.pureber import BERSequence

from repository import gser
from repository.matching import EQUALITY

ISSUER = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "JP"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "JPKI"),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "富山県知事"),
    ]
)
ISSUER_DN = "ou=富山県知事,o=jpki,c=jp"
POINT = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "JP"), x509.NameAttribute(NameOID.COMMON_NAME, "富山市")])
SERIAL = 0x7EDC_BA98_7654_3210
THIS_UPDATE = datetime(2014, 4, 1, 15, 0, 1, tzinfo=UTC)
LATER = datetime(2014, 4, 4, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


@cache
def certificate() -> bytes:
    """Of nobody in particular."""
    builder = x509.CertificateBuilder(ISSUER, ISSUER, KEY.public_key(), SERIAL, THIS_UPDATE, LATER)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


@cache
def crl(*, revoked: int = 0, point: x509.Name | None = POINT, this_update: datetime = THIS_UPDATE) -> bytes:
    """A list with or without entries and distribution point."""
    builder = x509.CertificateRevocationListBuilder(ISSUER, this_update, this_update.replace(year=2060))
    for serial in range(1, revoked + 1):
        entry = x509.RevokedCertificateBuilder(serial, THIS_UPDATE).build()
        builder = builder.add_revoked_certificate(entry)
    if point is not None:
        names = [x509.UniformResourceIdentifier("ldap://example.jp/"), x509.DirectoryName(point)]
        extension = x509.IssuingDistributionPoint(names, None, True, False, None, False, False)
        builder = builder.add_extension(x509.CRLNumber(1), critical=False).add_extension(extension, critical=True)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def element(tag: int, *contents: bytes) -> bytes:
    body = b"".join(contents)
    return bytes((tag, 0x82)) + len(body).to_bytes(2, "big") + body


def pair() -> bytes:
    """With the certificate that was issued to the CA only."""
    return element(0x30, element(0xA0, certificate()))


def is_match(rule: str, assertion: str | bytes, value: bytes) -> bool | None:
    """As a filter sees it; None is Undefined."""
    octets = assertion.encode() if isinstance(assertion, str) else assertion
    try:
        return EQUALITY[rule](octets)(value)
    except ValueError:
        return None


CERTIFICATE_ASSERTIONS = {
    "gser": (f'{{ serialNumber {SERIAL}, issuer rdnSequence:"{ISSUER_DN}" }}', True),
    "tight": (f'{{serialNumber {SERIAL},issuer rdnSequence:"{ISSUER_DN}"}}', True),
    "other-order": (f'{{ issuer rdnSequence:"{ISSUER_DN}", serialNumber {SERIAL} }}', True),
    "name-without-choice": (f'{{ serialNumber {SERIAL}, issuer "{ISSUER_DN}" }}', True),
    "before-gser": (f"{SERIAL}${ISSUER_DN}", True),
    "other-spelling": (f'{{ serialNumber {SERIAL}, issuer rdnSequence:"OU=富山県知事, O=JPKI, C=JP" }}', True),
    "other-serial": (f'{{ serialNumber {SERIAL + 1}, issuer rdnSequence:"{ISSUER_DN}" }}', False),
    "other-issuer": (f'{{ serialNumber {SERIAL}, issuer rdnSequence:"c=JP" }}', False),
    "no-issuer": (f"{{ serialNumber {SERIAL} }}", None),
    "no-serial": (f'{{ issuer rdnSequence:"{ISSUER_DN}" }}', None),
    "no-number": (f'{{ serialNumber x, issuer rdnSequence:"{ISSUER_DN}" }}', None),
    "number-of-python": (f"{SERIAL:_}${ISSUER_DN}", None),
    "no-dn": (f'{{ serialNumber {SERIAL}, issuer rdnSequence:"x" }}', None),
    "nothing": ("", None),
    "der": ("0\x03\x02\x01\x01", None),
}


@pytest.mark.parametrize(("assertion", "expected"), CERTIFICATE_ASSERTIONS.values(), ids=CERTIFICATE_ASSERTIONS)
def test_a_certificate_is_found_by_issuer_and_serial_number(assertion: str, expected: bool | None) -> None:
    """RFC 4523, appendix A.1; anything else is Undefined."""
    assert is_match("certificateExactMatch", assertion, certificate()) is expected


NAMED = f'issuer rdnSequence:"{ISSUER_DN}"'
AT = 'thisUpdate utcTime:"140401150001Z"'
LIST_ASSERTIONS = {
    "issuer-and-time": (f"{{ {NAMED}, {AT} }}", True),
    "generalized-time": (f'{{ {NAMED}, thisUpdate generalizedTime:"20140401150001Z" }}', True),
    "time-without-choice": (f'{{ {NAMED}, thisUpdate "20140401150001Z" }}', True),
    "point": (
        f'{{ {NAMED}, {AT}, distributionPoint fullName:{{ directoryName:rdnSequence:"cn=富山市,c=JP" }} }}',
        True,
    ),
    "other-point": (
        f'{{ {NAMED}, {AT}, distributionPoint fullName:{{directoryName:rdnSequence:"cn=x,c=JP"}} }}',
        False,
    ),
    "other-time": (f'{{ {NAMED}, thisUpdate utcTime:"140401150002Z" }}', False),
    "other-century": (f'{{ {NAMED}, thisUpdate generalizedTime:"19140401150001Z" }}', False),
    "other-issuer": (f'{{ issuer rdnSequence:"c=JP", {AT} }}', False),
    "point-by-uri": (f'{{ {NAMED}, {AT}, distributionPoint fullName:{{uniformResourceIdentifier:"x"}} }}', None),
    "no-time": (f"{{ {NAMED} }}", None),
    "time-without-seconds": (f'{{ {NAMED}, thisUpdate utcTime:"1404011501Z" }}', None),
    "bad-time": (f'{{ {NAMED}, thisUpdate utcTime:"1404011500Z+" }}', None),
}


@pytest.mark.parametrize(("assertion", "expected"), LIST_ASSERTIONS.values(), ids=LIST_ASSERTIONS)
@pytest.mark.parametrize("revoked", [0, 1000])
def test_a_list_is_found_by_issuer_and_time(assertion: str, expected: bool | None, revoked: int) -> None:
    """RFC 4523, appendix A.5; a distribution point narrows it down."""
    assert is_match("certificateListExactMatch", assertion, crl(revoked=revoked)) is expected


def test_a_list_without_a_point_is_not_the_one_of_a_point() -> None:
    """And a time from 2050 on is written with four digits."""
    with_point = f'{{ {NAMED}, {AT}, distributionPoint fullName:{{directoryName:rdnSequence:"c=JP"}} }}'
    assert is_match("certificateListExactMatch", with_point, crl(point=None)) is False
    assert is_match("certificateListExactMatch", f"{{ {NAMED}, {AT} }}", crl(point=None)) is True
    later = f'{{ {NAMED}, thisUpdate generalizedTime:"20500101000000Z" }}'
    assert is_match("certificateListExactMatch", later, crl(this_update=datetime(2050, 1, 1, tzinfo=UTC))) is True


OWN = f'{{ serialNumber {SERIAL}, issuer rdnSequence:"{ISSUER_DN}" }}'
OTHER = f'{{ serialNumber 1, issuer rdnSequence:"{ISSUER_DN}" }}'
PAIR_ASSERTIONS = {
    "to": (f"{{ issuedToThisCAAssertion {OWN} }}", True),
    "by": (f"{{ issuedByThisCAAssertion {OWN} }}", False),
    "other": (f"{{ issuedToThisCAAssertion {OTHER} }}", False),
    "both": (f"{{ issuedToThisCAAssertion {OWN}, issuedByThisCAAssertion {OWN} }}", False),
    "none": ("{ }", None),
    "neither": (OWN, None),
}


@pytest.mark.parametrize(("assertion", "expected"), PAIR_ASSERTIONS.values(), ids=PAIR_ASSERTIONS)
def test_a_pair_is_found_by_either_certificate(assertion: str, expected: bool | None) -> None:
    """RFC 4523, appendix A.3."""
    assert is_match("certificatePairExactMatch", assertion, pair()) is expected


def name(identifier: bytes) -> bytes:
    """Of one attribute of a type that nobody knows."""
    return element(0x30, element(0x31, element(0x30, element(6, identifier), b"\x0c\x01x")))


ISSUER_DER = ISSUER.public_bytes()
EXACT = element(2, SERIAL.to_bytes(9, "big")) + ISSUER_DER
LIST_EXACT = ISSUER_DER + b"\x17\x0d140401150001Z"
BER_ASSERTIONS = {
    "certificate": ("certificateExactMatch", EXACT, certificate(), True),
    "other-certificate": ("certificateExactMatch", b"\x02\x01\x05" + ISSUER_DER, certificate(), False),
    "no-issuer": ("certificateExactMatch", b"\x02\x01\x05", certificate(), None),
    "long-identifier": ("certificateExactMatch", b"\x02\x01\x05" + name(b"\x2a" * 65), certificate(), None),
    "identifier": ("certificateExactMatch", b"\x02\x01\x05" + name(b"\x2a" * 64), certificate(), False),
    "list": ("certificateListExactMatch", LIST_EXACT, crl(), True),
    "list-of-point": (
        "certificateListExactMatch",
        LIST_EXACT + element(0xA0, element(0x86, b"ldap:"), element(0xA4, POINT.public_bytes())),
        crl(),
        True,
    ),
    "list-of-other-point": (
        "certificateListExactMatch",
        LIST_EXACT + element(0xA0, element(0xA4, ISSUER_DER)),
        crl(),
        False,
    ),
    "list-of-uri": ("certificateListExactMatch", LIST_EXACT + element(0xA0, element(0x86, b"ldap:")), crl(), None),
    "pair": ("certificatePairExactMatch", element(0xA0, EXACT), pair(), True),
    "pair-by": ("certificatePairExactMatch", element(0xA1, EXACT), pair(), False),
    "pair-neither": ("certificatePairExactMatch", b"", pair(), None),
}


@pytest.mark.parametrize(("rule", "contents", "value", "expected"), BER_ASSERTIONS.values(), ids=BER_ASSERTIONS)
def test_an_assertion_may_be_ber(rule: str, contents: bytes, value: bytes, expected: bool | None) -> None:
    """RFC 4522, section 3: with ;binary an assertion value is the BER encoding of its syntax."""
    assert is_match(rule, element(0x30, contents), value) is expected


@pytest.mark.parametrize("rule", ["certificateExactMatch", "certificateListExactMatch", "certificatePairExactMatch"])
@pytest.mark.parametrize(
    "value",
    [b"", b"no DER", BERSequence([]).toWire(), crl()[:60], certificate()[:40]],
    ids=["nothing", "no DER", "an empty SEQUENCE", "a list cut short", "a certificate cut short"],
)
def test_a_value_that_cannot_be_read_is_equal_to_nothing(rule: str, value: bytes) -> None:
    """It is the CA's fault, not that of who searches."""
    assertions = {
        "certificateExactMatch": OWN,
        "certificateListExactMatch": f"{{ {NAMED}, {AT} }}",
        "certificatePairExactMatch": f"{{ issuedByThisCAAssertion {OWN} }}",
    }
    assert is_match(rule, assertions[rule], value) is False


GSER = {
    "word": ("abc", "abc"),
    "number": ("-12", "-12"),
    "string": ('"a""b"', 'a"b'),
    "choice": ('a:b:"c"', gser.Choice("a", gser.Choice("b", "c"))),
    "empty": ("{ }", ()),
    "sequence": ('{ a 1 , b "2" }', {"a": "1", "b": "2"}),
    "sequence-of": ("{1, a:2}", ("1", gser.Choice("a", "2"))),
    "nested": ("{ a { b { } } }", {"a": {"b": ()}}),
}


@pytest.mark.parametrize(("text", "value"), GSER.values(), ids=GSER)
def test_gser_is_read(text: str, value: gser.Value) -> None:
    """RFC 3641, as far as it is used."""
    assert gser.parse(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "{", "}", "{ a 1", "{ a 1 b 2 }", "{ a 1, 2 }", '"a', "a:", "a b", "{}{}", "{ , }", "{" * 10 + "}" * 10],
)
def test_what_is_not_gser_is_refused(text: str) -> None:
    """Also what is nested deeper than any assertion."""
    with pytest.raises(ValueError, match="GSER"):
        gser.parse(text)


@given(st.binary(max_size=80), st.sampled_from(sorted(EQUALITY)))
def test_no_octets_raise_anything_else(contents: bytes, rule: str) -> None:
    """Inside an element, too, with which BER begins."""
    is_match(rule, contents, certificate())
    is_match(rule, element(0x30, contents), certificate())


@given(st.text(alphabet='{}:," a1-$'), st.sampled_from(sorted(EQUALITY)))
def test_no_assertion_raises_anything_else(text: str, rule: str) -> None:
    """Whatever a peer writes is an assertion or Undefined."""
    is_match(rule, text, certificate())
