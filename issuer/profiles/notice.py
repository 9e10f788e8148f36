"""A municipality's notice of an application: one line of a JSON Lines file into a `Notice` (R-4-2-1, R-2-1-2-1).

The fields of the line are those of `_Line`. What is recorded follows the residents' real certificates:

* The spaces of a name between Japanese characters are full-width, in an address all spaces, digits and hyphens are; a
  half-width one is recorded as full-width, without a flag. Nothing else of a text is changed but as `characters` says.
* A name holds what commonName holds: for a foreign resident with a 通称 both, as the municipality lays them out.
* Gender is 1 for male, 2 for female, and 3 for unknown, which is 不明 in the published list of these digits.
* Parts of a date of birth may be unknown from the end: the day, month and day, all. Where the known parts leave two
  eras possible the era is 0, 不明.

Everything refused raises `NoticeError`: a code for programs, and a message in Japanese for the municipality's staff.
"""

import base64
import calendar
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Annotated, Final, Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)
from pydantic import Field

from issuer.profiles.characters import CharacterError, Recorded, record
from issuer.profiles.municipality import (
    PREFECTURES,
    Municipality,
    PrefectureName,
    UnknownMunicipalityError,
    municipality,
)
from issuer.profiles.notice_line import NoticeError, NoticeFields, quoted, read_line

T = TypeVar("T")

MIN_PUBLIC_EXPONENT: Final = 65_537
FIRST_YEAR: Final = 1868  # the first of 明治, the oldest era that dateOfBirth can say

_GENDERS: Final = {"male": "1", "female": "2", "unknown": "3"}
_ERAS: Final = (  # first day, digit in dateOfBirth
    (date(2019, 5, 1), "5"),  # 令和
    (date(1989, 1, 8), "4"),  # 平成
    (date(1926, 12, 25), "3"),  # 昭和
    (date(1912, 7, 30), "2"),  # 大正
    (date(FIRST_YEAR, 1, 1), "1"),  # 明治
)
_SPACE_IN_JAPANESE: Final = re.compile(r"(?<=[\u3000-\uffff]) (?=[\u3000-\uffff])")
_MISPLACED_SPACE: Final = re.compile(r"^[ \u3000]|[ \u3000]$|[ \u3000]{2}")
_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_FULL_WIDTH: Final = str.maketrans("0123456789- ", "０１２３４５６７８９－　")


@dataclass(frozen=True)
class Notice:
    """An application for a resident's certificate, ready to be decided on."""

    municipality: Municipality
    name: Recorded
    date_of_birth: str  # EYYYYMMDD: era, Gregorian year, month, day; unknown parts are zeros
    gender: str  # 1 digit
    address: Recorded
    spki: bytes  # DER of SubjectPublicKeyInfo
    renewal: bool  # the valid certificate, if any, is replaced (R-3-2-2)
    notice_number: str | None  # the municipality's own reference

    @property
    def person(self) -> bytes:
        """SHA-256 of the 基本4情報: finds a double application (R-4-2-3-1). Stored: a change needs a migration."""
        return _sha256(self.name.value, self.date_of_birth, self.gender, self.address.value)

    @property
    def notice_id(self) -> bytes:
        """SHA-256 of the whole content: the same for the same notice. Stored: a change needs a migration."""
        return _sha256(
            self.notice_number,
            self.municipality.code,
            self.name.value,
            self.name.flags,
            self.date_of_birth,
            self.gender,
            self.address.value,
            self.address.flags,
            self.spki.hex(),
            self.renewal,
        )


# A character with its marks: composing a long run of marks takes quadratic time.
_Character = Annotated[str, Field(max_length=16)]


class _Line(NoticeFields):
    """The fields of a line."""

    municipality: str = Field(description='市区町村コード6桁の文字列（例 "131016"）')
    name: str = Field(min_length=1, max_length=100, description="1〜100文字の文字列")
    name_substitutes: dict[_Character, _Character] = Field({}, description='文字と代替文字の組（例 {"髙": "高"}）')
    date_of_birth: str = Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description='"YYYY-MM-DD"形式の文字列')
    gender: Literal["male", "female", "unknown"] = Field(description='"male"、"female"、"unknown"のいずれか')
    address: str = Field(min_length=1, max_length=200, description="1〜200文字の文字列")
    address_substitutes: dict[_Character, _Character] = Field({}, description='文字と代替文字の組（例 {"髙": "高"}）')
    public_key: str | None = Field(None, description="PEMまたはDERのbase64の文字列")
    csr: str | None = Field(None, description="PEMまたはDERのbase64の文字列")
    renewal: bool = Field(False, description="trueまたはfalse")


def parse_notice(line: bytes, *, prefecture: PrefectureName, today: date, key_bits: int = 2048) -> Notice:
    """Read one line of a notice file.

    Args:
        line: UTF-8 JSON, with or without its line end; at most MAX_LINE_BYTES.
        prefecture: whose CA this is; only its residents get certificates (R-1-1-1).
        today: in Japan; nobody is born after it.
        key_bits: the only length of an RSA modulus that is accepted.

    Raises:
        NoticeError: the line is refused.
    """
    return read_line(line, _Line, lambda fields: _notice(fields, prefecture, today, key_bits))


def _notice(fields: _Line, prefecture: PrefectureName, today: date, key_bits: int) -> Notice:
    place = _municipality(fields.municipality, prefecture)
    return Notice(
        municipality=place,
        name=_name(fields),
        date_of_birth=_date_of_birth(fields.date_of_birth, today),
        gender=_GENDERS[fields.gender],
        address=_address(fields, place),
        spki=_spki(fields, key_bits),
        renewal=fields.renewal,
        notice_number=fields.notice_number,
    )


def _municipality(code: str, prefecture: PrefectureName) -> Municipality:
    try:
        found = municipality(code)
    except UnknownMunicipalityError as e:
        message = f"市区町村コード{quoted(code)}は一覧にありません。検査数字まで6桁を確かめてください"
        raise NoticeError("unknown-municipality", message) from e
    if found.prefecture != prefecture:
        ours = PREFECTURES[prefecture].name_ja
        message = f"{found.name_ja}は{ours}の市区町村ではありません。その都道府県の認証局に通知してください"
        raise NoticeError("other-prefecture", message)
    return found


def _name(fields: _Line) -> Recorded:
    name = _recorded("name", fields.name, fields.name_substitutes)
    return _spaced("name", Recorded(_SPACE_IN_JAPANESE.sub("　", name.value), name.flags))


def _address(fields: _Line, place: Municipality) -> Recorded:
    address = _recorded("address", fields.address, fields.address_substitutes)
    address = _spaced("address", Recorded(address.value.translate(_FULL_WIDTH), address.flags))
    if not address.value.startswith(place.address_beginnings):
        message = f"住所が「{place.address_beginnings[0]}」で始まっていません。住所か市区町村コードを直してください"
        raise NoticeError("other-municipality", message)
    return address


def _recorded(field: str, text: str, substitutes: dict[str, str]) -> Recorded:
    try:
        return record(text, substitutes)
    except CharacterError as e:
        raise NoticeError(e.code, f"項目「{field}」の{e}") from e


def _spaced(field: str, recorded: Recorded) -> Recorded:
    if _MISPLACED_SPACE.search(recorded.value):
        message = f"項目「{field}」の空白が先頭か末尾にあるか、続いています。空白は語の間に1個だけにしてください"
        raise NoticeError("misplaced-space", message)
    return recorded


@lru_cache(maxsize=65_536)  # most days of a century and a half
def _date_of_birth(text: str, today: date) -> str:
    """EYYYYMMDD of a date whose parts are unknown from the end, or not at all."""
    year, month, day = (int(part) for part in text.split("-"))
    if (year, month, day) == (0, 0, 0):
        return "000000000"
    try:
        first = date(year, month or 1, day or 1)
        last = date(year, month or 12, day or calendar.monthrange(year, month or 12)[1])
    except ValueError as e:
        raise NoticeError("date-of-birth", f"生年月日「{text}」は暦にありません。確かめてください") from e
    if day and not month:
        raise NoticeError("date-of-birth", f"生年月日「{text}」は月が不明です。日も00にしてください")
    if year < FIRST_YEAR or first > today:
        message = f"生年月日「{text}」は{FIRST_YEAR}年から今日までの間にありません。確かめてください"
        raise NoticeError("date-of-birth", message)
    era = _era(first) if _era(first) == _era(last) else "0"
    return f"{era}{year:04}{month:02}{day:02}"


def _era(day: date) -> str:
    return next(digit for first, digit in _ERAS if day >= first)


def _spki(fields: _Line, key_bits: int) -> bytes:
    try:
        match fields.public_key, fields.csr:
            case str(public_key), None:
                return _checked_key(_load(public_key, load_pem_public_key, load_der_public_key), key_bits)
            case None, str(csr):
                return _checked_csr(_load(csr, x509.load_pem_x509_csr, x509.load_der_x509_csr), key_bits)
            case _:
                message = "項目「public_key」と「csr」は、どちらか一方だけを書いてください"
                raise NoticeError("public-key-or-csr", message)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as e:
        message = "公開鍵またはCSRを読めません。PEMか、DERのbase64で書いてください"
        raise NoticeError("key-unreadable", message) from e


def _load(text: str, from_pem: Callable[[bytes], T], from_der: Callable[[bytes], T]) -> T:
    if text.lstrip().startswith("-----BEGIN "):
        return from_pem(text.encode())
    return from_der(base64.b64decode("".join(text.split()), validate=True))


def _checked_csr(csr: x509.CertificateSigningRequest, key_bits: int) -> bytes:
    spki = _checked_key(csr.public_key(), key_bits)
    if not csr.is_signature_valid:
        raise NoticeError("csr-signature", "CSRの署名を確かめられません。その鍵ペアとSHA-256でCSRを作り直してください")
    return spki


def _checked_key(key: object, key_bits: int) -> bytes:
    """DER of SubjectPublicKeyInfo, of a key fit for a certificate; its length is a setting (R-6-1-2-3)."""
    if not isinstance(key, RSAPublicKey):
        raise NoticeError("key-not-rsa", f"公開鍵がRSAではありません。RSA {key_bits}ビットの鍵ペアを作ってください")
    if key.key_size != key_bits:
        message = f"公開鍵が{key.key_size}ビットです。RSA {key_bits}ビットの鍵ペアを作ってください"
        raise NoticeError("key-length", message)
    numbers = key.public_numbers()
    if numbers.n % 2 == 0 or numbers.e < MIN_PUBLIC_EXPONENT:  # an even exponent is already unreadable
        raise NoticeError("key-weak", f"公開鍵が弱い値です。公開指数{MIN_PUBLIC_EXPONENT}の鍵ペアを作ってください")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _sha256(*content: str | bool | None) -> bytes:
    return hashlib.sha256(_COMPACT(content).encode()).digest()
