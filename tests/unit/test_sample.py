"""Invented residents are good notices, spread over the prefecture, and recognisable."""

import json
from collections import Counter
from datetime import date
from itertools import count
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer.profiles.municipality import PrefectureName
from issuer.profiles.notice import Notice, parse_notice
from issuer.profiles.sample import sample_notices

pytestmark = pytest.mark.req("R-4-2-1")

KEY = RSAPublicNumbers(65537, 2**2047 + 1).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def parsed(prefecture: PrefectureName, number: int) -> list[Notice]:
    return [
        parse_notice(json.dumps(sample).encode(), prefecture=prefecture, today=date(2026, 5, 1))
        for sample in sample_notices(prefecture, number, Random(1), [KEY] * number)
    ]


@pytest.mark.parametrize(("prefecture", "municipalities"), [("Tokyo-to", 62), ("Toyama-ken", 15)])
def test_samples_are_notices_of_different_test_persons(prefecture: PrefectureName, municipalities: int) -> None:
    """Every one passes the parser, says テスト in its address, and is a person of its own."""
    notices = parsed(prefecture, 3 * municipalities)
    assert all("テスト町" in notice.address.value for notice in notices)
    assert len({notice.person for notice in notices}) == len(notices)
    assert Counter(Counter(notice.municipality for notice in notices).values()) == {3: municipalities}


@pytest.mark.req("R-3-1-8-2")
def test_some_samples_have_substituted_characters_and_some_none() -> None:
    """So that both are seen."""
    assert {"1" in notice.name.flags for notice in parsed("Tokyo-to", 62)} == {True, False}


def test_samples_depend_on_their_arguments_alone() -> None:
    """The same seed gives the same residents, another seed others."""
    first, again, other = (list(sample_notices("Tokyo-to", 5, Random(seed), [KEY] * 5)) for seed in (1, 1, 2))
    assert first == again != other


def test_samples_take_one_key_each_and_no_more() -> None:
    """Keys may be made as they are needed."""
    keys = map(str.encode, map(str, count()))
    assert len(list(sample_notices("Tokyo-to", 3, Random(1), keys))) == 3
    assert next(keys) == b"3"
