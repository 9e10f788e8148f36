"""Invented residents for tests and demonstrations. Every address has テスト町 in it, which no municipality has."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice
from typing import Final, Protocol, TypeVar

from issuer.profiles.characters import USUAL_SUBSTITUTES
from issuer.profiles.municipality import Municipality, PrefectureName, municipalities_of

T = TypeVar("T")

_FAMILY_NAMES: Final = ("佐藤", "鈴木", "髙橋", "田中", "渡邉", "伊藤", "山﨑", "𠮷田", "濵田", "黒栁")
_GIVEN_NAMES: Final = {
    "male": ("太郎", "一郎", "健", "翔太", "彥一", "大輔"),
    "female": ("花子", "さくら", "美咲", "淸子", "ゆかり", "陽子"),
}
_FULL_WIDTH_DIGITS: Final = str.maketrans("0123456789", "０１２３４５６７８９")


class Random(Protocol):
    """What is used of `random.Random`."""

    def choice(self, seq: Sequence[T], /) -> T:
        """One of them."""

    def randint(self, a: int, b: int, /) -> int:
        """From `a` to `b`, both included."""


def sample_notices(
    prefecture: PrefectureName, count: int, seed_random: Random, public_keys: Iterable[bytes]
) -> Iterator[dict[str, object]]:
    """Notices of different persons, spread evenly over the municipalities; the same for the same arguments.

    Args:
        prefecture: where they live.
        count: how many at most; each takes one of `public_keys`, and they end with them.
        seed_random: a seeded generator.
        public_keys: DER of SubjectPublicKeyInfo.

    Yields:
        The fields of a line for `issuer.profiles.notice.parse_notice`.
    """
    places = cycle(municipalities_of(prefecture))
    for number, (place, spki) in enumerate(zip(places, islice(public_keys, count), strict=False), start=1):
        yield _notice(number, place, spki, seed_random)


def _notice(number: int, place: Municipality, spki: bytes, seed_random: Random) -> dict[str, object]:
    gender = seed_random.choice(tuple(_GIVEN_NAMES))
    name = f"{seed_random.choice(_FAMILY_NAMES)}　{seed_random.choice(_GIVEN_NAMES[gender])}"
    year, month, day = seed_random.randint(1930, 2005), seed_random.randint(1, 12), seed_random.randint(1, 28)
    # The running number in the address makes every person different.
    house = f"{seed_random.randint(1, 9)}－{seed_random.randint(1, 30)}－{number}".translate(_FULL_WIDTH_DIGITS)
    return {
        "notice_number": f"TEST-{place.code}-{number}",
        "municipality": place.code,
        "name": name,
        "name_substitutes": {c: USUAL_SUBSTITUTES[c] for c in name if c in USUAL_SUBSTITUTES},
        "date_of_birth": f"{year}-{month:02}-{day:02}",
        "gender": gender,
        "address": f"{place.address_beginnings[0]}テスト町{house}",
        "public_key": base64.b64encode(spki).decode(),
    }
