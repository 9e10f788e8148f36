"""Matching rules (RFC 4517, section 4.2): values turned into what equal values have in common.

A rule that is not here evaluates to Undefined, as RFC 4511, section 4.5.1.7 has it. Ordering rules are absent: no
attribute type of this directory has one.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Final

from repository import names
from repository.preparation import prepare
from repository.schema import AttributeType, object_identifier

Normal = Callable[[bytes], Hashable]  # raises ValueError: the value is not of the rule's syntax


def _case_ignore(value: bytes) -> str:
    return prepare(value.decode())


def _case_exact(value: bytes) -> str:
    return prepare(value.decode(), fold_case=False)


def _distinguished_name(value: bytes) -> names.NameKey:
    return names.parse(value.decode()).key


def _object_identifier(value: bytes) -> str:
    found = object_identifier(value.decode().strip(" "))
    if found is None:
        raise ValueError("an unknown object identifier")
    return found


def _octet_string(value: bytes) -> bytes:
    return value


EQUALITY: Final[Mapping[str, Normal]] = {
    "caseIgnoreMatch": _case_ignore,
    "caseIgnoreIA5Match": _case_ignore,
    "caseExactMatch": _case_exact,
    "distinguishedNameMatch": _distinguished_name,
    "objectIdentifierMatch": _object_identifier,
    "octetStringMatch": _octet_string,
}

# Rules that can be applied to each other's attributes, since their values are strings of characters.
_STRING_RULES: Final = frozenset({"caseIgnoreMatch", "caseIgnoreIA5Match", "caseExactMatch"})

SUBSTRINGS: Final = frozenset({"caseIgnoreSubstringsMatch", "caseIgnoreIA5SubstringsMatch"})


def applies(rule: str, attribute: AttributeType) -> bool:
    """Whether an equality rule can be used on the values of an attribute."""
    return rule == attribute.equality or {rule, attribute.equality} <= _STRING_RULES
