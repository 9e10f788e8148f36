"""The quick way to a resident's to-be-signed certificate and pyca's builder give the same octets."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from issuer.profiles.authority import Hierarchy
from issuer.profiles.characters import Recorded, is_allowed
from issuer.profiles.municipality import PrefectureName, municipalities_of
from issuer.profiles.notice import Notice
from issuer.profiles.profile import (
    MAX_SERIAL,
    MIN_SERIAL,
    RESIDENT_YEARS,
    resident,
    resident_common_name,
)
from issuer.profiles.template import Template, validity_der
from pkix.signing import tbs_certificate
from pkix.validity import counting_first_day
from tests.support.ca import NOW, software_ca

pytestmark = pytest.mark.req("R-4-2-2-1", "R-7-1-1")

CHARACTERS = [chr(point) for point in range(0x10000) if not 0xD800 <= point < 0xE000 and is_allowed(chr(point))]


def texts(max_size: int) -> st.SearchStrategy[Recorded]:
    """A recorded text with any flags."""
    return st.lists(st.tuples(st.sampled_from(CHARACTERS), st.sampled_from("01")), min_size=1, max_size=max_size).map(
        lambda pairs: Recorded("".join(c for c, _ in pairs), "".join(flag for _, flag in pairs))
    )


def spki(modulus: int, exponent: int) -> bytes:
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


places = st.sampled_from([*municipalities_of("Tokyo-to"), *municipalities_of("Toyama-ken")])
keys = st.builds(
    spki,
    st.integers(2**2046, 2**2047 - 1).map(lambda half: 2 * half + 1),
    st.sampled_from([65537, 2**31 - 1, 2**63 - 25]),
)
notices = st.builds(
    Notice,
    municipality=places,
    name=texts(100),
    date_of_birth=st.from_regex("[0-5][0-9]{8}", fullmatch=True),
    gender=st.sampled_from("123"),
    address=texts(200),
    spki=keys,
    renewal=st.booleans(),
    notice_number=st.none(),
)
seconds = st.integers(
    int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2200, 1, 1, tzinfo=UTC).timestamp())
)
moments = seconds.map(lambda second: datetime.fromtimestamp(second, UTC))


@settings(max_examples=300, deadline=None)
@given(
    notice=notices,
    hierarchy=st.sampled_from(["test", "production"]),
    serial=st.integers(MIN_SERIAL, MAX_SERIAL),
    number=st.integers(0, 999_999_999),
    now=moments,
    made=moments,
)
def test_both_ways_give_the_same_octets(
    notice: Notice, hierarchy: Hierarchy, serial: int, number: int, now: datetime, made: datetime
) -> None:
    """Whoever it is, wherever, whenever; the template may have been made at another time."""
    issuer = software_ca(notice.municipality.prefecture, hierarchy).issuer
    template = Template.of(issuer, notice.municipality, made)
    to_be_signed = template.to_be_signed(
        serial,
        validity_der(counting_first_day(now, RESIDENT_YEARS)),
        resident_common_name(notice.municipality.code, number, now),
        template.tail(notice),
    )
    assert to_be_signed == tbs_certificate(resident(issuer, notice, serial, number, now))


@pytest.mark.parametrize("prefecture", ["Tokyo-to", "Toyama-ken"])
def test_no_two_municipalities_share_a_template(prefecture: PrefectureName) -> None:
    """Each has its own locality and distribution point."""
    issuer, there = software_ca(prefecture).issuer, municipalities_of(prefecture)
    templates = [Template.of(issuer, place, NOW) for place in there]
    for own in ("subject", "policies_to_authority_key"):
        assert len({getattr(template, own) for template in templates}) == len(there)
