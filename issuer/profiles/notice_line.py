"""What notices of all kinds have in common: a line of a JSON Lines file into the fields of a model, or a refusal.

Everything refused raises `NoticeError`: a code for programs, and a message in Japanese for the municipality's staff.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from issuer.profiles.characters import CharacterErrorCode

T = TypeVar("T")
FieldsT = TypeVar("FieldsT", bound="NoticeFields")

MAX_LINE_BYTES: Final = 65_536
MAX_NUMBER_CHARACTERS: Final = 64

NoticeErrorCode = (
    CharacterErrorCode
    | Literal[
        "line-too-long",
        "not-utf-8",
        "not-json",
        "duplicate-field",
        "unknown-field",
        "missing-field",
        "wrong-value",
        "unknown-municipality",
        "other-prefecture",
        "other-municipality",
        "misplaced-space",
        "date-of-birth",
        "public-key-or-csr",
        "key-unreadable",
        "key-not-rsa",
        "key-length",
        "key-weak",
        "csr-signature",
    ]
)


class NoticeError(Exception):
    """A line that is refused: a stable code, and for the municipality's staff what is wrong and what to do."""

    def __init__(self, code: NoticeErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.notice_number: str | None = None  # of the line, if that could be read


class NoticeFields(BaseModel):
    """The fields of a line. Each description completes the sentence 「…を書いてください」 of an error message."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    notice_number: str | None = Field(
        None, min_length=1, max_length=MAX_NUMBER_CHARACTERS, description="1〜64文字の文字列"
    )


def read_line(line: bytes, model: type[FieldsT], notice_of: Callable[[FieldsT], T]) -> T:
    """Read one line of a notice file.

    Args:
        line: UTF-8 JSON, with or without its line end; at most MAX_LINE_BYTES.
        model: its fields.
        notice_of: makes the notice of them; raises NoticeError.

    Raises:
        NoticeError: the line is refused.
    """
    content = _json(line)
    try:
        fields = _fields(content, model)
        _require_legible(fields.notice_number)
        return notice_of(fields)
    except NoticeError as e:
        e.notice_number = _legible_number(content)
        raise


def wrong_value(model: type[NoticeFields], field: str) -> NoticeError:
    """What is said of a field whose value cannot be used."""
    wanted = model.model_fields[field].description
    return NoticeError("wrong-value", f"項目「{field}」の値が正しくありません。{wanted}を書いてください")


def quoted(text: str) -> str:
    """The beginning of a text that came in, safe to print."""
    beginning = text[:40]
    return f"「{beginning if beginning.isprintable() else ascii(beginning)}」"


def _legible_number(content: object) -> str | None:
    """The municipality's reference, by which it finds a line whose other fields are refused."""
    number = content.get("notice_number") if isinstance(content, dict) else None
    is_valid = isinstance(number, str) and 1 <= len(number) <= MAX_NUMBER_CHARACTERS and number.isprintable()
    return number if is_valid else None


def _fields(content: object, model: type[FieldsT]) -> FieldsT:
    try:
        return model.model_validate(content)
    except ValidationError as e:
        finding = e.errors(include_url=False, include_input=False)[0]
        raise _refusal(finding["type"], finding["loc"], model) from e


def _refusal(finding: str, location: Sequence[str | int], model: type[NoticeFields]) -> NoticeError:
    """A finding of pydantic in our words."""
    if not location:
        return NoticeError(
            "wrong-value", "行が正しいJSONのオブジェクトではありません。1行に1件を{…}の形で書いてください"
        )
    name = str(location[0])
    if finding == "extra_forbidden":
        return NoticeError("unknown-field", f"項目{quoted(name)}はありません。項目名を直すか消してください")
    if finding == "missing":
        wanted = model.model_fields[name].description
        return NoticeError("missing-field", f"項目「{name}」がありません。{wanted}を書いてください")
    return wrong_value(model, name)


def _json(line: bytes) -> object:
    if len(line) > MAX_LINE_BYTES:
        raise NoticeError("line-too-long", f"行が{MAX_LINE_BYTES}バイトを超えています。1行に1件だけを書いてください")
    try:
        # A byte order mark, which Windows editors write, is ignored: RFC 8259, section 8.1.
        return _DECODER.decode(line.decode("utf-8-sig"))
    except UnicodeDecodeError as e:
        raise NoticeError("not-utf-8", "文字コードがUTF-8ではありません。UTF-8で保存してください") from e
    except (ValueError, RecursionError) as e:
        raise NoticeError("not-json", "JSONとして読めません。1行に1件をJSONで書いてください") from e


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise NoticeError("duplicate-field", f"項目{quoted(twice)}が2回あります。一方を消してください")
    return fields


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_without_duplicates)


def _require_legible(text: str | None) -> None:
    if text is not None and not text.isprintable():
        raise NoticeError("wrong-value", "項目「notice_number」に制御文字か全角空白があります。取り除いてください")
