"""DER written by hand is what an encoder writes, and walking it stops at whatever is not DER."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from hypothesis import given
from hypothesis import strategies as st

from pkix import der

LENGTHS = [0, 1, 126, 127, 128, 129, 254, 255, 256, 257, 65_535, 65_536, 65_537]
TAGS = st.integers(0, 0xFF).filter(lambda tag: tag & 0x1F != 0x1F)
MOMENTS = st.integers(0, 150 * 366 * 86_400).map(lambda second: datetime(1950, 1, 1, tzinfo=UTC) + timedelta(0, second))


@asn1.sequence
class Declared:
    """A SEQUENCE { value [3] EXPLICIT INTEGER, octets OCTET STRING }."""

    value: Annotated[int, asn1.Explicit(3)]
    octets: bytes


@pytest.mark.parametrize("length", LENGTHS)
def test_lengths_are_those_of_the_encoder(length: int) -> None:
    """Short form through 127 octets; from 128 on the long form, with as few octets as do."""
    octets = b"\xa5" * length
    assert der.octet_string(octets) == asn1.encode_der(octets)
    assert der.bit_string(octets) == asn1.encode_der(asn1.BitString(octets, 0))


@pytest.mark.parametrize("length", LENGTHS)
def test_contents_undo_an_element_of_any_length(length: int) -> None:
    """Short and long lengths are read as they are written."""
    octets = b"\xa5" * length
    assert der.contents(der.octet_string(octets)) == octets


@given(value=st.integers(-(2**200), 2**200), octets=st.binary(max_size=300))
def test_a_sequence_is_that_of_the_encoder(value: int, octets: bytes) -> None:
    """SEQUENCE, explicit tag, INTEGER and OCTET STRING fit together as in a declared type."""
    written = der.sequence(der.explicit(3, der.integer(value)), der.octet_string(octets))
    assert written == asn1.encode_der(Declared(value=value, octets=octets))


@pytest.mark.parametrize(
    ("dotted", "octets"),
    [
        pytest.param("2.5.29.21", "0603551d15", id="reasonCode"),
        pytest.param("1.2.840.113549.1.1.11", "06092a864886f70d01010b", id="sha256WithRSAEncryption"),
        pytest.param("1.2.392.200149.8.5.5.1", "060a2a83088c9b5508050501", id="commonName of JPKI"),
    ],
)
def test_object_identifiers(dotted: str, octets: str) -> None:
    """Arcs above 127 take several octets."""
    assert der.object_identifier(dotted).hex() == octets


@pytest.mark.parametrize("value", [0, 1, 5, 127])
def test_enumerated(value: int) -> None:
    """ENUMERATED differs from INTEGER in its tag alone."""
    assert der.enumerated(value) == b"\x0a" + asn1.encode_der(value)[1:]


@given(moment=MOMENTS)
def test_generalized_time_is_that_of_the_encoder(moment: datetime) -> None:
    """YYYYMMDDHHMMSSZ."""
    assert der.generalized_time(moment) == asn1.encode_der(asn1.GeneralizedTime(moment))


@given(moment=MOMENTS)
def test_time_changes_its_form_in_2050(moment: datetime) -> None:
    """UTCTime through 2049, GeneralizedTime from 2050 on (RFC 5280, section 4.1.2.5)."""
    kind = asn1.UTCTime if moment.year < 2050 else asn1.GeneralizedTime
    assert der.time(moment) == asn1.encode_der(kind(moment))


@pytest.mark.parametrize(
    ("moment", "octets"),
    [
        pytest.param(datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), b"\x17\x0d491231235959Z", id="last UTCTime"),
        pytest.param(datetime(2050, 1, 1, tzinfo=UTC), b"\x18\x0f20500101000000Z", id="first GeneralizedTime"),
        pytest.param(
            datetime(2050, 1, 1, 8, 59, 59, tzinfo=timezone(timedelta(hours=9))),
            b"\x17\x0d491231235959Z",
            id="still 2049 in UTC",
        ),
        pytest.param(datetime(2026, 4, 1, 0, 0, 0, 999_999, tzinfo=UTC), b"\x17\x0d260401000000Z", id="no fraction"),
    ],
)
def test_time_is_in_utc_and_whole_seconds(moment: datetime, octets: bytes) -> None:
    """The zone of the argument decides nothing, and a fraction is dropped."""
    assert der.time(moment) == octets


@pytest.mark.parametrize("critical", [True, False])
def test_an_extension_is_that_of_a_certificate(critical: bool) -> None:
    """The critical flag is written when it is true only (its default is FALSE)."""
    value = x509.BasicConstraints(ca=True, path_length=None).public_bytes()
    flag = "0101ff" if critical else ""
    expected = bytes.fromhex("0603551d13" + flag + "040530030101ff")
    assert der.extension("2.5.29.19", value, critical=critical) == b"\x30" + bytes((len(expected),)) + expected


@given(parts=st.lists(st.tuples(TAGS, st.binary(max_size=200)), max_size=8))
def test_elements_come_back_one_by_one(parts: list[tuple[int, bytes]]) -> None:
    """Walking gives what was joined, each element whole."""
    written = [der.element(tag, body) for tag, body in parts]
    assert list(der.elements(b"".join(written))) == written
    assert [der.contents(element) for element in written] == [body for _, body in parts]


@given(octets=st.binary(max_size=64))
def test_arbitrary_octets_are_der_or_a_value_error(octets: bytes) -> None:
    """What is accepted is exactly what would be written again."""
    try:
        body = der.contents(octets)
    except ValueError:
        return
    assert der.element(octets[0], body) == octets


@given(octets=st.binary(max_size=64))
def test_walking_arbitrary_octets_loses_none(octets: bytes) -> None:
    """Each octet belongs to one element, or the walk ends with a ValueError."""
    try:
        found = list(der.elements(octets))
    except ValueError:
        return
    assert b"".join(found) == octets


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param("", id="nothing"),
        pytest.param("30", id="no length"),
        pytest.param("3001", id="no contents"),
        pytest.param("3082ff", id="length octets cut"),
        pytest.param("30847fffffff00", id="far past the end"),
        pytest.param("300000", id="octets follow"),
        pytest.param("30800000", id="indefinite length"),
        pytest.param("308100", id="long form of a short length"),
        pytest.param("30820001a5", id="leading zero in the length"),
        pytest.param("30ff", id="reserved length octet"),
        pytest.param("1f2000", id="high tag number"),
    ],
)
def test_what_is_not_one_der_element_is_refused(octets: str) -> None:
    """BER forms and cut or surplus octets raise ValueError."""
    with pytest.raises(ValueError, match=r"element|DER"):
        der.contents(bytes.fromhex(octets))
