"""Values in GSER (RFC 3641), as far as assertions about certificates and lists use it (RFC 4523, appendix A)."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r""" *(?:(?P<word>-?[0-9A-Za-z][0-9A-Za-z-]*)|"(?P<string>(?:[^"]|"")*)"|(?P<mark>[{},:])) *"""
)
_MAX_DEPTH: Final = 8


class Choice(NamedTuple):
    """`alternative:value`."""

    alternative: str
    value: "Value"


Value = str | Choice | Mapping[str, "Value"] | tuple["Value", ...]  # strings also stand for numbers


def parse(text: str) -> Value:
    """Read one value.

    `{ name value, … }` becomes a Mapping, `{ value, … }` a tuple.

    Raises:
        ValueError: it is not one value of this form, or is nested too deep.
    """
    reader = _Reader(text)
    value = reader.value(0)
    reader.expect_end()
    return value


class _Reader:
    """Reads tokens one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def value(self, depth: int) -> Value:
        if depth > _MAX_DEPTH:
            raise ValueError("GSER that is nested too deep")
        token = self._next()
        if token["string"] is not None:
            return token["string"].replace('""', '"')
        if token["word"] is not None:
            return Choice(token["word"], self.value(depth + 1)) if self._skip(":") else token["word"]
        if token["mark"] != "{":
            raise ValueError("GSER with a mark in the wrong place")
        return self._braced(depth + 1)

    def expect_end(self) -> None:
        if self._position != len(self._text):
            raise ValueError("GSER with something behind the value")

    def _braced(self, depth: int) -> Value:
        named: dict[str, Value] = {}
        values: list[Value] = []
        while not self._skip("}"):
            if (named or values) and not self._skip(","):
                raise ValueError("GSER without a comma between values")
            value = self.value(depth)
            if isinstance(value, str) and not self._at_mark():
                named[value] = self.value(depth)
            else:
                values.append(value)
        if named and values:
            raise ValueError("GSER with a name for some values only")
        return named or tuple(values)

    def _next(self) -> re.Match[str]:
        token = _TOKEN.match(self._text, self._position)
        if token is None:
            raise ValueError("no GSER")
        self._position = token.end()
        return token

    def _at_mark(self) -> bool:
        return self._text[self._position : self._position + 1] in {"", ",", "}"}

    def _skip(self, mark: str) -> bool:
        is_there = self._text.startswith(mark, self._position)
        if is_there:
            self._next()
        return is_there
