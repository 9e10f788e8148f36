"""Which characters a certificate may record, and what stands for the others (R-3-1-8-1 to R-3-1-8-3).

The reception terminals have JIS X 0208 and JIS X 0212; printable ASCII is added for names in alphabet (R-3-1-7). Every
other character needs a similar one from that set (代替文字), chosen at the counter, and the certificate shows a flag
for it. Nothing is folded silently: compatibility ideographs, variation selectors and half-width katakana are outside
the set. Two exceptions keep the meaning exactly:

* Some JIS characters have two code points, depending on who made the conversion table. They are recorded in the one
  that Windows terminals send and real cards carry: U+FF0D, not U+2212.
* A base with combining marks (か and U+3099) is composed where that gives one character of the set.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

CharacterErrorCode = Literal[
    "character-not-allowed", "substitute-not-needed", "substitute-not-allowed", "substitute-not-used"
]

USUAL_SUBSTITUTES: Final[Mapping[str, str]] = {
    "𠮷": "吉",
    "髙": "高",
    "﨑": "崎",
    "德": "徳",
    "栁": "柳",
    "瀨": "瀬",
    "彥": "彦",
    "淸": "清",
    "閒": "間",
    "姸": "妍",
    "俱": "倶",
    "昻": "昂",
    "﨔": "欅",
}

# One JIS character, two code points: what is recorded for the other one.
_RECORDED_FORM: Final = {
    "\u2014": "\u2015",  # 1-29
    "\u301c": "\uff5e",  # 1-33
    "\u2016": "\u2225",  # 1-34
    "\u2212": "\uff0d",  # 1-61
    "\u00a5": "\uffe5",  # 1-79
    "\u203e": "\uffe3",  # 1-17
    "\u00a2": "\uffe0",  # 1-81
    "\u00a3": "\uffe1",  # 1-82
    "\u00ac": "\uffe2",  # 2-44
}
_TO_RECORDED_FORM: Final = str.maketrans(_RECORDED_FORM)
_RECORDED_FORMS: Final = frozenset(_RECORDED_FORM.values())
_HALF_WIDTH_KATAKANA: Final = 0x8E  # lead octet (SS2) in EUC-JP


class CharacterError(ValueError):
    """A text that cannot be recorded as it is; the message (Japanese) says what the counter can do."""

    def __init__(self, code: CharacterErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Recorded:
    """A text as the certificate has it, and its substituteCharacterOf… value."""

    value: str
    flags: str  # one digit per character of `value`, spaces too: 1 where the character is a substitute


def record(text: str, substitutes: Mapping[str, str]) -> Recorded:
    """Put substitutes for the characters that cannot be recorded.

    Args:
        text: as the resident register has it.
        substitutes: chosen at the counter; from a written character outside the set (a code point with the variation
            selectors or combining marks that follow it) to one character of the set.

    Raises:
        CharacterError: a character is outside the set and has no substitute; or a substitute is for a character that
            needs none, does not occur in the text, or is itself not one character of the set.
    """
    text = text.translate(_TO_RECORDED_FORM)
    if not substitutes and all(map(is_allowed, text)):  # most texts; no mark is allowed by itself
        return Recorded(text, "0" * len(text))
    chosen = _chosen(substitutes)
    written = written_characters(text)
    for character in written:
        if not is_allowed(character) and character not in chosen:
            raise CharacterError("character-not-allowed", _not_allowed(character))
    for character in chosen:
        if character not in written:
            message = f"{_shown(character)}は使われていません。代替文字の指定を消してください"
            raise CharacterError("substitute-not-used", message)
    return Recorded(
        value="".join(chosen.get(character, character) for character in written),
        flags="".join("1" if character in chosen else "0" for character in written),
    )


def written_characters(text: str) -> list[str]:
    """The characters as a reader counts them, in the form they are recorded; marks stay with their base."""
    written: list[str] = []
    for character in text.translate(_TO_RECORDED_FORM):
        if written and unicodedata.category(character).startswith("M"):
            written[-1] += character
        else:
            written.append(character)
    return [_composed(character) if len(character) > 1 else character for character in written]


@lru_cache(maxsize=16_384)  # more than the set has
def is_allowed(character: str) -> bool:
    """Whether this is one character of JIS X 0208, JIS X 0212 or printable ASCII, in the form that is recorded."""
    if len(character) != 1 or character in _RECORDED_FORM:
        return False
    if character.isascii():
        return character.isprintable()
    if character in _RECORDED_FORMS:
        return True
    try:
        octets = character.encode("euc_jp")
    except UnicodeEncodeError:
        return False
    return octets[0] != _HALF_WIDTH_KATAKANA


def _composed(written: str) -> str:
    composed = unicodedata.normalize("NFC", written)
    return composed if is_allowed(composed) else written


def _chosen(substitutes: Mapping[str, str]) -> dict[str, str]:
    """The substitutes in recorded form, each of them checked by itself."""
    chosen: dict[str, str] = {}
    for key, value in substitutes.items():
        written = written_characters(key)
        substitute = value.translate(_TO_RECORDED_FORM)
        if len(written) != 1 or not is_allowed(substitute):
            message = (
                f"{_shown(key)}の代替文字に{_shown(value)}は使えません。"
                "1文字に対してJIS X 0208またはJIS X 0212の1文字を指定してください"
            )
            raise CharacterError("substitute-not-allowed", message)
        if is_allowed(written[0]):
            message = f"{_shown(key)}はそのまま記録できます。代替文字の指定を消してください"
            raise CharacterError("substitute-not-needed", message)
        chosen[written[0]] = substitute
    return chosen


def _not_allowed(written: str) -> str:
    base = written[0]
    usual = base if is_allowed(base) else USUAL_SUBSTITUTES.get(base)
    hint = f"（通常は「{usual}」）" if usual else ""
    return f"{_shown(written)}は記録できない文字です。代替文字{hint}を指定してください"


def _shown(text: str) -> str:
    """The text, where it can be printed, and its code points."""
    code_points = " ".join(f"U+{ord(character):04X}" for character in text[:8])
    return f"「{text[:8]}」({code_points})" if text.isprintable() else f"({code_points})"
