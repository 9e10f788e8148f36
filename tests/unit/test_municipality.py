"""The list of municipalities against the rule of its codes, and what a wrong code is answered with."""

import re
from collections import Counter

import pytest

from issuer.profiles.municipality import (
    PREFECTURES,
    PrefectureName,
    UnknownMunicipalityError,
    municipalities_of,
    municipality,
)

pytestmark = pytest.mark.req("R-1-3-1-1")

ALL = [m for name in PREFECTURES for m in municipalities_of(name)]


@pytest.mark.parametrize(
    ("prefecture", "kinds"),
    [
        pytest.param("Tokyo-to", {"special_ward": 23, "city": 26, "town": 5, "village": 8}, id="tokyo"),
        pytest.param("Toyama-ken", {"city": 10, "town": 4, "village": 1}, id="toyama"),
    ],
)
def test_every_municipality_of_a_prefecture_is_listed(prefecture: PrefectureName, kinds: dict[str, int]) -> None:
    """The numbers of wards, cities, towns and villages in 2014."""
    assert Counter(m.kind for m in municipalities_of(prefecture)) == kinds


@pytest.mark.parametrize("code", [m.code for m in ALL])
def test_each_code_is_known_with_its_own_check_digit_only(code: str) -> None:
    """Of the ten codes with the same five digits, one is a municipality and nine are refused."""
    assert municipality(code).code == code
    for last in set("0123456789") - {code[5]}:
        with pytest.raises(UnknownMunicipalityError, match=f"write {code}"):
            municipality(code[:5] + last)


def test_codes_begin_with_the_code_of_the_prefecture() -> None:
    """13 for Tokyo, 16 for Toyama."""
    assert {(m.prefecture, m.code[:2]) for m in ALL} == {(p.name_romaji, p.code) for p in PREFECTURES.values()}


def test_romaji_names_are_unique_in_a_prefecture_and_fit_a_distinguished_name() -> None:
    """Chiyoda-ku names a list of revocations; two of the same name would share it."""
    assert len({(m.prefecture, m.name_romaji) for m in ALL}) == len(ALL)
    assert [m.name_romaji for m in ALL if not re.fullmatch("[A-Z][a-z]+-(ku|shi|machi|mura)", m.name_romaji)] == []


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        pytest.param("131017", "write 131016", id="wrong-check-digit"),
        pytest.param("011002", "write the code of a municipality there", id="another-prefecture"),
        pytest.param("130001", "write the code of a municipality there", id="the-prefecture-itself"),
        pytest.param("13101", "write 6 digits", id="without-check-digit"),
        pytest.param("１３１０１６", "write 6 digits", id="full-width"),
        pytest.param("", "write 6 digits", id="empty"),
    ],
)
def test_an_unknown_code_is_refused_with_advice(code: str, advice: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(UnknownMunicipalityError, match=advice):
        municipality(code)


@pytest.mark.parametrize(
    ("code", "beginnings"),
    [
        pytest.param("131016", {"東京都千代田区"}, id="ward"),
        pytest.param("133035", {"東京都西多摩郡瑞穂町", "東京都瑞穂町"}, id="town-in-a-district"),
        pytest.param("134015", {"東京都八丈島八丈町", "東京都八丈町"}, id="town-on-an-island"),
        pytest.param("163210", {"富山県中新川郡舟橋村", "富山県舟橋村"}, id="village"),
    ],
)
def test_addresses_may_have_the_district_before_the_municipality(code: str, beginnings: set[str]) -> None:
    """As the resident registers of towns and villages write them."""
    assert set(municipality(code).address_beginnings) == beginnings


@pytest.mark.req("R-3-1-2-1")
@pytest.mark.parametrize(
    ("name", "governor", "governor_ja"),
    [
        ("Tokyo-to", "The Governor of Tokyo-to", "東京都知事"),
        ("Toyama-ken", "The Governor of Toyama-ken", "富山県知事"),
    ],
)
def test_the_governor_has_a_title_in_both_languages(name: PrefectureName, governor: str, governor_ja: str) -> None:
    """The issuer is named by the title."""
    assert (PREFECTURES[name].governor, PREFECTURES[name].governor_ja) == (governor, governor_ja)
