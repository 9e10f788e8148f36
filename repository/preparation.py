"""Strings made comparable: RFC 4518.

One deviation: the RFC prohibits what was unassigned in Unicode 3.2; here it is what is unassigned in the Unicode of
this Python, since names of today may use characters that were added later.
"""

import re
import unicodedata
from typing import Final

# To put combining characters in order takes time that grows with the square of their number: up to here half a
# millisecond. Names have values of 64 characters or so (RFC 5280, appendix A.1: ub-common-name and its like).
MAX_STRING_BYTES: Final = 1024

# Section 2.2: what is mapped to nothing besides the control and format characters (Cc, Cf), and what is a space.
_NOTHING: Final = frozenset("\u00ad\u1806\u034f\u180b\u180c\u180d\ufffc\u200b") | {
    chr(c) for c in range(0xFE00, 0xFE10)
}
_SPACES: Final = frozenset("\t\n\v\f\r\u0085")
_SPACE_CATEGORIES: Final = frozenset({"Zs", "Zl", "Zp"})
_NOTHING_CATEGORIES: Final = frozenset({"Cc", "Cf"})
_PROHIBITED_CATEGORIES: Final = frozenset({"Cn", "Co", "Cs"})  # unassigned and non-characters, private use, surrogates
_PRINTABLE_ASCII: Final = re.compile(r"[ -~]*")


def prepare(text: str, *, fold_case: bool = True) -> str:
    """An attribute value or a whole assertion value (section 2.6.1): `Foo  bar` becomes ` foo  bar `.

    Raises:
        ValueError: a prohibited character, or more than 1024 octets; the string matches nothing.
    """
    words = _characters(text, fold_case=fold_case).split(" ")
    return f" {'  '.join(filter(None, words))} "


def prepare_substring(text: str, *, first: bool = False, last: bool = False) -> str:
    """A substring assertion value of a rule that ignores case (section 2.6.1).

    Args:
        text: the value.
        first: it is the initial substring.
        last: it is the final substring.

    Raises:
        ValueError: a prohibited character, or more than 1024 octets; the string matches nothing.
    """
    characters = _characters(text, fold_case=True)
    words = "  ".join(filter(None, characters.split(" ")))
    if not words:
        return " "
    before = " " if first or characters.startswith(" ") else ""
    after = " " if last or characters.endswith(" ") else ""
    return f"{before}{words}{after}"


def _characters(text: str, *, fold_case: bool) -> str:
    """Map, normalize, prohibit: sections 2.2 to 2.4."""
    if len(text) > MAX_STRING_BYTES or len(text.encode()) > MAX_STRING_BYTES:
        raise ValueError(f"a string of more than {MAX_STRING_BYTES} octets")
    if _PRINTABLE_ASCII.fullmatch(text):
        return text.lower() if fold_case else text
    mapped = "".join(map(_mapped, text))
    if fold_case:  # table B.2 of RFC 3454 is the folding that is stable under this normalization
        mapped = unicodedata.normalize("NFKC", mapped).casefold()
    normalized = unicodedata.normalize("NFKC", mapped)
    if "\ufffd" in normalized or any(unicodedata.category(c) in _PROHIBITED_CATEGORIES for c in normalized):
        raise ValueError("a character that RFC 4518 prohibits")
    return normalized


def _mapped(character: str) -> str:
    category = unicodedata.category(character)
    if character in _SPACES or category in _SPACE_CATEGORIES:
        return " "
    return "" if character in _NOTHING or category in _NOTHING_CATEGORIES else character
