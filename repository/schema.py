"""Attribute types and object classes by name, and the `;binary` option (RFC 4512, 4522, 4523)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final, Self

from repository import definitions

_DEFINITION: Final = re.compile(r"\( (?P<oid>[\d.]+) NAME (?:'(?P<name>[^']+)'|\( (?P<names>[^)]+) \))")
_FIELD: Final = re.compile(r" (SUP|EQUALITY|ORDERING|SUBSTR|SYNTAX|USAGE) ([\w.]+)")
_NUMERIC_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_SYNTAX: Final = "1.3.6.1.4.1.1466.115.121.1."
# Certificate, Certificate List, Certificate Pair: transferred as DER with ;binary only (RFC 4523, section 2).
_BINARY_SYNTAXES: Final = frozenset({_SYNTAX + "8", _SYNTAX + "9", _SYNTAX + "10"})

_REMEMBERED: Final = 1024  # names that clients write; a peer decides which
_MAX_REMEMBERED_CHARACTERS: Final = 128


@dataclass(frozen=True, slots=True, eq=False)
class AttributeType:
    """RFC 4512, section 2.5.1. There is one value for each type, so `is` and hashing by identity are right."""

    oid: str
    names: tuple[str, ...]
    sup: Self | None
    equality: str | None
    ordering: str | None
    substr: str | None
    binary: bool  # transferred with ;binary
    operational: bool

    @property
    def description(self) -> str:
        """The AttributeDescription under which values are returned: RFC 4522, section 5, whatever the client wrote."""
        return f"{self.names[0]};binary" if self.binary else self.names[0]

    def is_a(self, other: "AttributeType") -> bool:
        """Whether this is `other` or a subtype of it."""
        return self is other or (self.sup is not None and self.sup.is_a(other))

    def subtypes(self) -> tuple["AttributeType", ...]:
        """This and all its subtypes."""
        return _subtypes(self)


@cache
def _subtypes(top: AttributeType) -> tuple[AttributeType, ...]:
    return tuple(each for each in dict.fromkeys(_attribute_types().values()) if each.is_a(top))


def attribute_type(name: str) -> AttributeType | None:
    """The type with this short name or OID, in any case; None if there is none."""
    return _attribute_types().get(name.lower())


def described(attribute_description: str) -> AttributeType | None:
    """The type that an AttributeDescription names; None if it is not recognised.

    `;binary` names the same attribute where values are transferred in that form, and makes any other one unrecognised
    (RFC 4522, section 3). No other option exists here.
    """
    is_short = len(attribute_description) <= _MAX_REMEMBERED_CHARACTERS
    return _remembered_description(attribute_description) if is_short else _described(attribute_description)


def _described(attribute_description: str) -> AttributeType | None:
    name, *options = attribute_description.lower().split(";")
    found = attribute_type(name)
    if not options or (found is not None and found.binary and options == ["binary"]):
        return found
    return None


_remembered_description: Final = lru_cache(_REMEMBERED)(_described)


def object_identifier(name: str) -> str | None:
    """The OID of an object class or attribute type that is given by name or OID; None for an unknown name."""
    return _remembered_identifier(name) if len(name) <= _MAX_REMEMBERED_CHARACTERS else _object_identifier(name)


def _object_identifier(name: str) -> str | None:
    if _NUMERIC_OID.fullmatch(name):
        return name
    found = attribute_type(name)
    return found.oid if found else _object_classes().get(name.lower())


_remembered_identifier: Final = lru_cache(_REMEMBERED)(_object_identifier)


def matching_rule(name: str) -> str | None:
    """The name of a matching rule that is given by name or OID."""
    return _matching_rules().get(name.lower())


@cache
def _attribute_types() -> Mapping[str, AttributeType]:
    types: dict[str, AttributeType] = {}
    for line, oid, names in _parsed(definitions.ATTRIBUTE_TYPES):
        fields = dict(_FIELD.findall(line))
        sup = types[fields["SUP"].lower()] if "SUP" in fields else None
        made = AttributeType(
            oid=oid,
            names=names,
            sup=sup,
            equality=fields.get("EQUALITY", sup and sup.equality),
            ordering=fields.get("ORDERING", sup and sup.ordering),
            substr=fields.get("SUBSTR", sup and sup.substr),
            binary=fields.get("SYNTAX") in _BINARY_SYNTAXES,
            operational="USAGE" in fields,
        )
        types |= {name.lower(): made for name in (oid, *names)}
    return types


@cache
def _object_classes() -> Mapping[str, str]:
    return {name.lower(): oid for _, oid, names in _parsed(definitions.OBJECT_CLASSES) for name in names}


@cache
def _matching_rules() -> Mapping[str, str]:
    rules: dict[str, str] = {}
    for _, oid, names in _parsed(definitions.MATCHING_RULES):
        rules |= {oid: names[0], names[0].lower(): names[0]}
    return rules


def _parsed(text: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each definition with its OID and names."""
    for line in text.strip().splitlines():
        found = _DEFINITION.match(line)
        if found is None:
            raise ValueError(f"not a definition: {line}")
        names = (found["name"],) if found["name"] else tuple(found["names"].replace("'", "").split())
        yield line, found["oid"], names
