"""The prefectures that can run this CA, and their municipalities, as of 2014-04-01 (R-1-3-1-1)."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, Literal, cast

PrefectureName = Literal["Tokyo-to", "Toyama-ken"]
Kind = Literal["special_ward", "city", "town", "village"]

_WEIGHTS: Final = (6, 5, 4, 3, 2)  # of the digits of a 全国地方公共団体コード


class UnknownMunicipalityError(ValueError):
    """A code that none of our municipalities has; the message says what to check."""


@dataclass(frozen=True, slots=True)
class Prefecture:
    """A prefecture, whose Governor is the CA."""

    name_romaji: PrefectureName  # as in the certificates
    name_ja: str
    code: str  # 2 digits, JIS X 0401

    @property
    def governor(self) -> str:
        """The Governor's title, which names the issuer (R-3-1-2-1)."""
        return f"The Governor of {self.name_romaji}"

    @property
    def governor_ja(self) -> str:
        """The same title in Japanese, for issuerAltName."""
        return f"{self.name_ja}知事"


PREFECTURES: Final[Mapping[PrefectureName, Prefecture]] = {
    "Tokyo-to": Prefecture("Tokyo-to", "東京都", "13"),
    "Toyama-ken": Prefecture("Toyama-ken", "富山県", "16"),
}


@dataclass(frozen=True, slots=True)
class Municipality:
    """A municipality: one counter, and one partition of the revocation lists."""

    code: str  # 6 digits, the last one is the check digit
    prefecture: PrefectureName
    name_ja: str
    name_romaji: str
    kind: Kind
    district: str = ""  # 郡 or island that an address has before the name: 西多摩郡

    @property
    def address_beginnings(self) -> tuple[str, str]:
        """How an address here begins: with the district in full, and without."""
        prefecture = PREFECTURES[self.prefecture].name_ja
        return f"{prefecture}{self.district}{self.name_ja}", f"{prefecture}{self.name_ja}"


def municipalities_of(prefecture: PrefectureName) -> tuple[Municipality, ...]:
    """All municipalities of a prefecture, in the order of their codes."""
    return tuple(m for m in _by_code().values() if m.prefecture == prefecture)


def municipality(code: str) -> Municipality:
    """The municipality with this code of 6 digits.

    Raises:
        UnknownMunicipalityError: there is none in our prefectures.
    """
    found = _by_code().get(code)
    if found is not None:
        return found
    if len(code) != 6 or not code.isascii() or not code.isdigit():
        raise UnknownMunicipalityError(f"{code!r} is no municipality code; write 6 digits, such as 131016")
    expected = check_digit(code[:5])
    if code[5] != expected:
        raise UnknownMunicipalityError(
            f"{code} has a wrong check digit; correct the code, or write {code[:5]}{expected}"
        )
    raise UnknownMunicipalityError(
        f"{code} is not in {' or '.join(PREFECTURES)}; write the code of a municipality there"
    )


def check_digit(digits: str) -> str:
    """The sixth digit of a 全国地方公共団体コード, from the five before it."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=True))
    return str((11 - total % 11) % 10)


@cache
def _by_code() -> Mapping[str, Municipality]:
    romaji = {prefecture.name_ja: prefecture.name_romaji for prefecture in PREFECTURES.values()}
    with resources.files("issuer.profiles.data").joinpath("municipalities.csv").open(encoding="utf-8") as file:
        return {
            row["code6"]: Municipality(
                code=row["code6"],
                prefecture=romaji[row["prefecture"]],
                name_ja=row["name_ja"],
                name_romaji=row["name_romaji"],
                kind=cast("Kind", row["kind"]),
                district=row["district"],
            )
            for row in csv.DictReader(file)
        }
