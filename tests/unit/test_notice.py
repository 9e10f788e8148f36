"""A line of a notice file becomes a notice, or is refused with a reason for the municipality's staff."""

import base64
import json
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from typing import Any, get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from issuer.profiles.characters import Recorded
from issuer.profiles.notice import Notice, parse_notice
from issuer.profiles.notice_line import MAX_LINE_BYTES, NoticeError, NoticeErrorCode

pytestmark = pytest.mark.req("R-4-2-1", "R-2-1-2-1")

TODAY = date(2026, 5, 1)
N_2048 = 2**2047 + 1  # odd; that it is no product of two primes does not matter to a parser


def spki_of(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def rsa_spki(modulus: int = N_2048, exponent: int = 65537) -> bytes:
    return spki_of(rsa.RSAPublicNumbers(exponent, modulus).public_key())


def b64(der: bytes) -> str:
    return base64.b64encode(der).decode()


SPKI = rsa_spki()


def csr_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, SHA256()).public_bytes(Encoding.DER)


@cache
def applicant_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def applicant_csr() -> bytes:
    return csr_of(applicant_key())


def fields(**changes: object) -> dict[str, object]:
    """A notice with these fields instead of its own; None leaves one out."""
    notice = {
        "municipality": "132217",
        "name": "黒桐　幹也",
        "date_of_birth": "1980-02-17",
        "gender": "male",
        "address": "東京都清瀬市テスト町１－２－３",
        "public_key": b64(SPKI),
    }
    return {name: value for name, value in (notice | changes).items() if value is not None}


def line_of(notice: Mapping[str, object]) -> bytes:
    return json.dumps(notice, ensure_ascii=False).encode()


def parsed(**changes: object) -> Notice:
    return parse_notice(line_of(fields(**changes)), prefecture="Tokyo-to", today=TODAY)


def refusal(line: bytes) -> NoticeError:
    with pytest.raises(NoticeError) as refused:
        parse_notice(line, prefecture="Tokyo-to", today=TODAY)
    return refused.value


@pytest.mark.req("R-3-1-2-2", "R-4-2-2-1")
def test_the_fields_are_recorded_as_real_cards_have_them() -> None:
    """The values of the test card."""
    notice = parsed()
    assert notice.name == Recorded("黒桐　幹也", "00000")
    assert notice.date_of_birth == "319800217"
    assert notice.gender == "1"
    assert notice.address == Recorded("東京都清瀬市テスト町１－２－３", "0" * 15)
    assert notice.spki == SPKI
    assert notice.municipality.name_romaji == "Kiyose-shi"
    assert (notice.renewal, notice.notice_number) == (False, None)


def test_optional_fields_are_taken_over() -> None:
    """The municipality's reference, and that the old certificate is replaced."""
    notice = parsed(notice_number="清瀬-12", renewal=True)
    assert (notice.renewal, notice.notice_number) == (True, "清瀬-12")


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"municipality": "162019", "notice_number": "富山-12"}, "富山-12"),
        ({"gender": "other", "notice_number": "12"}, "12"),
        ({"colour": "red", "notice_number": "9" * 64}, "9" * 64),
        ({"public_key": "MIIB", "notice_number": "12"}, "12"),
        ({"gender": "other"}, None),
        ({"notice_number": "9" * 65}, None),
        ({"notice_number": ""}, None),
        ({"notice_number": 12}, None),
        ({"notice_number": "1\n2"}, None),
        ({"notice_number": "\ud800"}, None),
    ],
    ids=[
        *("other-prefecture", "wrong-value", "unknown-field", "key-unreadable", "none"),
        *("too-long", "empty", "no-text", "unprintable", "surrogate"),
    ],
)
def test_a_refused_line_is_found_by_its_number(changes: dict[str, object], number: str | None) -> None:
    """If it has one, and one that could be recorded."""
    assert refusal(json.dumps(fields(**changes)).encode()).notice_number == number


@pytest.mark.parametrize("line", [b"[]", b"12", b"{", b'{"notice_number": "1", "notice_number": "2"}', b"\xff"])
def test_what_is_no_object_has_no_number(line: bytes) -> None:
    """And one that has two has none."""
    assert refusal(line).notice_number is None


@pytest.mark.req("R-3-1-8-3")
def test_substitutes_are_chosen_for_name_and_address_apart() -> None:
    """Each has flags of its own."""
    notice = parsed(
        name="髙橋　太郎",
        name_substitutes={"髙": "高"},
        address="東京都清瀬市テスト町１　メゾン淸",
        address_substitutes={"淸": "清"},
    )
    assert notice.name == Recorded("高橋　太郎", "10000")
    assert notice.address == Recorded("東京都清瀬市テスト町１　メゾン清", "0" * 15 + "1")


@pytest.mark.parametrize(
    ("name", "recorded"),
    [
        pytest.param("黒桐 幹也", "黒桐　幹也", id="between-japanese"),
        pytest.param("SMITH JOHN", "SMITH JOHN", id="between-latin"),
        pytest.param("SMITH JOHN（山田 太郎）", "SMITH JOHN（山田　太郎）", id="name-and-common-name"),
        pytest.param("José García", "José García", id="accented"),
        pytest.param("王小明", "王小明", id="without-space"),
    ],
)
def test_the_space_in_a_japanese_name_is_full_width(name: str, recorded: str) -> None:
    """Whichever of the two the terminal sends; names in alphabet keep theirs."""
    assert parsed(name=name).name == Recorded(recorded, "0" * len(recorded))


def test_digits_hyphens_and_spaces_of_an_address_are_full_width() -> None:
    """As real cards have them."""
    assert parsed(address="東京都清瀬市テスト町1-2-30 A棟").address.value == "東京都清瀬市テスト町１－２－３０　A棟"


def test_an_address_may_have_its_district() -> None:
    """西多摩郡 is part of an address, not of the municipality's name."""
    place = {"municipality": "133035", "address": "東京都西多摩郡瑞穂町テスト１"}
    assert parsed(**place).address.value == "東京都西多摩郡瑞穂町テスト１"


@pytest.mark.parametrize(
    ("day", "recorded"),
    [
        pytest.param("1868-01-01", "118680101", id="meiji-first"),
        pytest.param("1912-07-29", "119120729", id="meiji-last"),
        pytest.param("1912-07-30", "219120730", id="taisho-first"),
        pytest.param("1926-12-24", "219261224", id="taisho-last"),
        pytest.param("1926-12-25", "319261225", id="showa-first"),
        pytest.param("1989-01-07", "319890107", id="showa-last"),
        pytest.param("1989-01-08", "419890108", id="heisei-first"),
        pytest.param("2019-04-30", "420190430", id="heisei-last"),
        pytest.param("2019-05-01", "520190501", id="reiwa-first"),
        pytest.param("2026-05-01", "520260501", id="today"),
        pytest.param("2000-02-29", "420000229", id="leap-day"),
        pytest.param("1980-02-00", "319800200", id="day-unknown"),
        pytest.param("1980-00-00", "319800000", id="month-unknown"),
        pytest.param("0000-00-00", "000000000", id="all-unknown"),
        pytest.param("1989-00-00", "019890000", id="year-of-two-eras"),
        pytest.param("1989-01-00", "019890100", id="month-of-two-eras"),
        pytest.param("2019-05-00", "520190500", id="month-after-a-change"),
        pytest.param("2026-05-00", "520260500", id="this-month"),
    ],
)
def test_a_date_of_birth_has_its_era(day: str, recorded: str) -> None:
    """By the day; 0 where the known parts do not tell."""
    assert parsed(date_of_birth=day).date_of_birth == recorded


@pytest.mark.parametrize(("gender", "digit"), [("male", "1"), ("female", "2"), ("unknown", "3")])
def test_gender_is_one_digit(gender: str, digit: str) -> None:
    """1, 2, and 3 for 不明."""
    assert parsed(gender=gender).gender == digit


def pem(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"


@pytest.mark.req("R-4-1-1-3")
@pytest.mark.parametrize("encode", [b64, lambda der: base64.encodebytes(der).decode()], ids=["one-line", "wrapped"])
def test_a_public_key_may_come_in_base64(encode: Callable[[bytes], str]) -> None:
    """In one line, or in several as `base64` writes them."""
    assert parsed(public_key=encode(SPKI)).spki == SPKI


@pytest.mark.req("R-4-1-1-3")
def test_a_public_key_may_come_as_pem() -> None:
    """The DER is what counts."""
    assert parsed(public_key=pem("PUBLIC KEY", SPKI)).spki == SPKI


@pytest.mark.parametrize("encode", [b64, lambda der: pem("CERTIFICATE REQUEST", der)], ids=["base64", "pem"])
def test_the_key_of_a_csr_is_taken_when_its_signature_is_right(encode: Callable[[bytes], str]) -> None:
    """PKCS#10 in place of the bare key."""
    notice = parsed(public_key=None, csr=encode(applicant_csr()))
    assert notice.spki == spki_of(applicant_key().public_key())


def test_the_length_of_the_key_is_a_setting() -> None:
    """RSA-1024, the rule's own length, is for the 2014 profile alone."""
    line = line_of(fields(public_key=b64(rsa_spki(2**1023 + 1))))
    assert parse_notice(line, prefecture="Tokyo-to", today=TODAY, key_bits=1024).spki == rsa_spki(2**1023 + 1)
    assert refusal(line).code == "key-length"


def test_the_same_notice_has_the_same_id_however_it_is_written() -> None:
    """Key order, spaces, escapes, defaults written out, PEM, half-width forms: all the same content."""
    notice = fields()
    spelled = dict(reversed((notice | {"renewal": False, "name_substitutes": {}, "notice_number": None}).items()))
    spelled |= {"public_key": pem("PUBLIC KEY", SPKI), "name": "黒桐 幹也"}
    lines = [line_of(notice) + b"\r\n", b"\xef\xbb\xbf" + json.dumps(spelled, indent=2).encode()]
    ids = {parse_notice(line, prefecture="Tokyo-to", today=TODAY).notice_id for line in lines}
    assert len(ids) == 1
    assert len(ids.pop()) == 32


CHANGES: list[dict[str, object]] = [
    {"notice_number": "1"},
    {"municipality": "133035", "address": "東京都瑞穂町１"},
    {"name": "黒桐　鮮花"},
    {"date_of_birth": "1980-02-18"},
    {"gender": "female"},
    {"address": "東京都清瀬市テスト町１－２－４"},
    {"public_key": b64(rsa_spki(N_2048 + 2))},
    {"renewal": True},
]


@pytest.mark.parametrize("change", CHANGES, ids="-".join)
def test_another_content_has_another_id(change: dict[str, object]) -> None:
    """Each field counts."""
    assert parsed(**change).notice_id != parsed().notice_id


@pytest.mark.req("R-3-1-8-3")
def test_a_substituted_name_is_another_notice() -> None:
    """高 written and 高 substituted make different certificates."""
    substituted = parsed(name="髙橋", name_substitutes={"髙": "高"})
    assert substituted.notice_id != parsed(name="高橋").notice_id


@pytest.mark.req("R-4-2-3-1")
@pytest.mark.parametrize("change", CHANGES, ids="-".join)
def test_a_person_is_the_four_attributes(change: dict[str, object]) -> None:
    """A second application is found whatever its number, key and kind; other people are not taken for it."""
    same = parsed(**change).person == parsed().person
    assert same == change.keys().isdisjoint({"name", "date_of_birth", "gender", "address"})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"nmae": "黒桐"}, "unknown-field", id="misspelled-field"),
        pytest.param({"氏\n名": "黒桐"}, "unknown-field", id="unprintable-field"),
        pytest.param({"name": None}, "missing-field", id="no-name"),
        pytest.param({"name": ""}, "wrong-value", id="empty-name"),
        pytest.param({"name": "長" * 101}, "wrong-value", id="long-name"),
        pytest.param({"name": ["黒桐"]}, "wrong-value", id="name-of-another-type"),
        pytest.param({"name": "髙橋"}, "character-not-allowed", id="character-outside"),
        pytest.param({"name_substitutes": {"髙": "高"}}, "substitute-not-used", id="substitute-not-used"),
        pytest.param({"name_substitutes": {"黒": "墨"}}, "substitute-not-needed", id="substitute-not-needed"),
        pytest.param(
            {"name": "髙橋", "name_substitutes": {"髙": "タカ"}}, "substitute-not-allowed", id="substitute-of-two"
        ),
        pytest.param({"name_substitutes": {"髙": 1}}, "wrong-value", id="substitute-of-another-type"),
        pytest.param({"name_substitutes": {"か" + "\u0301" * 16: "か"}}, "wrong-value", id="endless-marks"),
        pytest.param({"name": "黒桐　"}, "misplaced-space", id="space-at-the-end"),
        pytest.param({"name": " 黒桐"}, "misplaced-space", id="space-at-the-beginning"),
        pytest.param({"name": "黒桐  幹也"}, "misplaced-space", id="two-spaces"),
        pytest.param({"name": "黒桐 　幹也"}, "misplaced-space", id="two-kinds-of-space"),
        pytest.param({"address": "東京都清瀬市　　１"}, "misplaced-space", id="two-spaces-in-address"),
        pytest.param({"address": "東京都清瀬市" + "１" * 195}, "wrong-value", id="long-address"),
        pytest.param({"municipality": 132217}, "wrong-value", id="code-as-number"),
        pytest.param({"municipality": "132218"}, "unknown-municipality", id="wrong-check-digit"),
        pytest.param({"municipality": "162019", "address": "富山県富山市１"}, "other-prefecture", id="toyama"),
        pytest.param({"address": "東京都東村山市１"}, "other-municipality", id="address-elsewhere"),
        pytest.param({"address": "清瀬市テスト町１"}, "other-municipality", id="address-without-prefecture"),
        pytest.param({"date_of_birth": "2026-05-02"}, "date-of-birth", id="born-tomorrow"),
        pytest.param({"date_of_birth": "2026-06-00"}, "date-of-birth", id="born-next-month"),
        pytest.param({"date_of_birth": "1867-12-31"}, "date-of-birth", id="before-meiji"),
        pytest.param({"date_of_birth": "1981-02-29"}, "date-of-birth", id="no-leap-year"),
        pytest.param({"date_of_birth": "1980-13-00"}, "date-of-birth", id="month-13"),
        pytest.param({"date_of_birth": "1980-00-17"}, "date-of-birth", id="day-without-month"),
        pytest.param({"date_of_birth": "0000-02-17"}, "date-of-birth", id="day-without-year"),
        pytest.param({"date_of_birth": "1980-2-17"}, "wrong-value", id="one-digit-month"),
        pytest.param({"date_of_birth": "１９８０-02-17"}, "wrong-value", id="full-width-year"),
        pytest.param({"date_of_birth": "1980-02-17\n"}, "wrong-value", id="date-and-line-feed"),
        pytest.param({"gender": "男"}, "wrong-value", id="gender-in-japanese"),
        pytest.param({"renewal": "true"}, "wrong-value", id="renewal-as-text"),
        pytest.param({"notice_number": "1" * 65}, "wrong-value", id="long-number"),
        pytest.param({"notice_number": "1\u0000"}, "wrong-value", id="nul-in-number"),
        pytest.param({"public_key": None}, "public-key-or-csr", id="no-key"),
        pytest.param({"csr": "MAA="}, "public-key-or-csr", id="two-keys"),
        pytest.param({"public_key": ""}, "key-unreadable", id="empty-key"),
        pytest.param({"public_key": "これは鍵です"}, "key-unreadable", id="no-base64"),
        pytest.param({"public_key": b64(SPKI[:-1])}, "key-unreadable", id="cut-key"),
        pytest.param({"public_key": pem("CERTIFICATE", SPKI)}, "key-unreadable", id="pem-of-something-else"),
        pytest.param(
            {"public_key": b64(spki_of(ec.derive_private_key(7, ec.SECP256R1()).public_key()))},
            "key-not-rsa",
            id="elliptic-curve",
        ),
        pytest.param({"public_key": b64(rsa_spki(2**1023 + 1))}, "key-length", id="1024-bits"),
        pytest.param({"public_key": b64(rsa_spki(2**2046 + 1))}, "key-length", id="2047-bits"),
        pytest.param({"public_key": b64(rsa_spki(2**4095 + 1))}, "key-length", id="4096-bits"),
        pytest.param({"public_key": b64(rsa_spki(exponent=3))}, "key-weak", id="exponent-3"),
        pytest.param({"public_key": b64(rsa_spki(modulus=N_2048 + 1))}, "key-weak", id="even-modulus"),
        pytest.param(
            {"public_key": b64(SPKI.removesuffix(b"\x01\x00\x01") + b"\x01\x00\x02")},
            "key-unreadable",
            id="even-exponent",
        ),
    ],
)
def test_a_wrong_field_is_refused(changes: dict[str, object], code: str) -> None:
    """With a code that stays, and one line in Japanese that ends in what to do."""
    refused = refusal(line_of(fields(**changes)))
    assert refused.code == code
    assert refused.message.isprintable()
    assert refused.message.endswith("ください")


@pytest.mark.req("R-1-1-1")
def test_each_prefecture_takes_its_own_residents() -> None:
    """A notice that Tokyo refuses is good in Toyama."""
    line = line_of(fields(municipality="162019", address="富山県富山市テスト１"))
    assert parse_notice(line, prefecture="Toyama-ken", today=TODAY).municipality.code == "162019"
    assert refusal(line).code == "other-prefecture"


def test_a_csr_with_a_wrong_signature_is_refused() -> None:
    """Whoever made it does not show that he has the private key."""
    der = applicant_csr()
    assert refusal(line_of(fields(public_key=None, csr=b64(der[:-1] + bytes([der[-1] ^ 1]))))).code == "csr-signature"


def test_a_csr_for_another_kind_of_key_is_refused() -> None:
    """The rules for the key are the same in a CSR."""
    der = csr_of(ec.derive_private_key(7, ec.SECP256R1()))
    assert refusal(line_of(fields(public_key=None, csr=b64(der)))).code == "key-not-rsa"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        pytest.param(b"", "not-json", id="empty"),
        pytest.param(b"{", "not-json", id="cut"),
        pytest.param(line_of(fields()) * 2, "not-json", id="two-notices"),
        pytest.param(b"[" * 60_000, "not-json", id="deeply-nested"),
        pytest.param(b'{"name": ' + b"1" * 5_000 + b"}", "not-json", id="endless-number"),
        pytest.param(b"[]", "wrong-value", id="array"),
        pytest.param(b'"name"', "wrong-value", id="string"),
        pytest.param(b"NaN", "wrong-value", id="nan"),
        pytest.param('{"name": "黒桐"}'.encode("cp932"), "not-utf-8", id="shift-jis"),
        pytest.param(json.dumps(fields()).encode("utf-16"), "not-utf-8", id="utf-16"),
        pytest.param(b'{"name": "a", "name": "a"}', "duplicate-field", id="field-twice"),
        pytest.param(b'{"name_substitutes": {"x": "a", "x": "b"}}', "duplicate-field", id="substitute-twice"),
        pytest.param(b" " * MAX_LINE_BYTES + b"1", "line-too-long", id="one-byte-too-long"),
        pytest.param(rb'{"\ud842": 1}', "wrong-value", id="half-a-surrogate-pair"),
    ],
)
def test_a_line_that_is_no_notice_is_refused(line: bytes, code: str) -> None:
    """With the first thing that is wrong."""
    assert refusal(line).code == code


def test_a_line_of_the_greatest_length_is_read() -> None:
    """The limit itself is allowed."""
    assert parse_notice(line_of(fields()).ljust(MAX_LINE_BYTES), prefecture="Tokyo-to", today=TODAY) == parsed()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(st.characters(categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
NAMES = [*fields(), "notice_number", "name_substitutes", "address_substitutes", "csr", "renewal"]
CODES = {code for part in get_args(NoticeErrorCode) for code in (get_args(part) or (part,))}


def is_read_or_refused(line: bytes) -> bool:
    """Whether a line is a notice, or refused with a known code and a message that can be printed."""
    try:
        parse_notice(line, prefecture="Tokyo-to", today=TODAY)
    except NoticeError as refused:
        return refused.code in CODES and refused.message.isprintable()
    return True


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode) | ANYTHING.map(json.dumps).map(str.encode))
def test_no_octets_break_the_parser(line: bytes) -> None:
    """Whatever comes in."""
    assert is_read_or_refused(line)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), ANYTHING, max_size=3))
def test_no_json_value_in_any_field_breaks_the_parser(changes: dict[str, object]) -> None:
    """A good notice with some fields replaced."""
    assert is_read_or_refused(json.dumps(fields() | changes).encode())


@settings(deadline=None)
@given(st.sampled_from(["public_key", "csr"]), st.data())
def test_no_octets_of_a_key_break_the_parser(field: str, data: st.DataObject) -> None:
    """A good key or CSR with one part replaced."""
    der = SPKI if field == "public_key" else applicant_csr()
    start = data.draw(st.integers(0, len(der)))
    damaged = der[:start] + data.draw(st.binary(max_size=4)) + der[data.draw(st.integers(start, start + 4)) :]
    assert is_read_or_refused(line_of({**fields(public_key=None), field: b64(damaged)}))
