"""Equality and ordering matching rules (RFC 4517, section 4.2; RFC 4523, section 3).

A rule that is not here evaluates to Undefined, as RFC 4511, section 4.5.1.7 has it. Of what this directory holds, only
the moments of an entry have an order.
"""

import re
from collections.abc import Callable, Hashable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from operator import eq, ge, le, lt
from typing import Any, Final, TypeVar

from repository import certificates, names
from repository.errors import MalformedMessageError
from repository.preparation import prepare
from repository.schema import AttributeType, object_identifier

Assertion = Callable[[bytes], bool]  # whether a value is equal to the one that was asserted, or in order with it
Rule = Callable[[bytes], Assertion]  # from an assertion value; raises ValueError: it is not of the rule's syntax

T = TypeVar("T")

_REMEMBERED_VALUES: Final = 4096  # of each rule, in the form in which they are compared: most searches look at the same
_MAX_REMEMBERED_BYTES: Final = 256

_NUMERIC: Final = re.compile(r"[0-9 ]+")
_PRINTABLE: Final = re.compile(r"[A-Za-z0-9'()+,./:? =-]+")  # RFC 4517, section 3.2
_GENERALIZED_TIME: Final = re.compile(
    r"([0-9]{10})([0-9]{2})?([0-9]{2})?(?:[.,]([0-9]+))?(Z|[+-][0-9]{2}(?:[0-9]{2})?)"
)
_OBJECT_IDENTIFIER_FIRST: Final = re.compile(r"\( *([0-9.]+) ")


def _rule(held: Callable[[bytes], T], asserted: Callable[[bytes], T], is_match: Callable[[T, T], bool]) -> Rule:
    """A rule that turns values and assertion values into something comparable."""

    def rule(assertion_value: bytes) -> Assertion:
        wanted = asserted(assertion_value)

        def matches(value: bytes) -> bool:
            try:
                return is_match(held(value), wanted)
            except (ValueError, MalformedMessageError):
                return False  # an odd value that was published matches nothing

        return matches

    return rule


def _alike(normal: Callable[[bytes], Hashable], is_match: Callable[[Any, Any], bool] = eq) -> Rule:
    """A rule whose assertion values are of the same syntax as the values."""
    remembered = lru_cache(_REMEMBERED_VALUES)(normal)

    def held(value: bytes) -> Hashable:
        return remembered(value) if len(value) <= _MAX_REMEMBERED_BYTES else normal(value)

    return _rule(held, normal, is_match)


def _case_ignore(value: bytes) -> str:
    return prepare(_directory_string(value))


def _case_exact(value: bytes) -> str:
    return prepare(_directory_string(value), fold_case=False)


def _directory_string(value: bytes) -> str:
    if not value:
        raise ValueError("a Directory String has at least one character (RFC 4517, section 3.3.6)")
    return value.decode()


def _case_ignore_ia5(value: bytes) -> str:
    return prepare(value.decode("ascii"))


def _case_ignore_list(value: bytes) -> tuple[str, ...]:
    return tuple(prepare(line) for line in value.decode().split("$"))


def _numeric_string(value: bytes) -> str:
    return _printable(value, _NUMERIC).replace(" ", "")


def _telephone_number(value: bytes) -> str:
    return _printable(value, _PRINTABLE).lower().replace(" ", "").replace("-", "")


def _printable(value: bytes, allowed: re.Pattern[str]) -> str:
    text = value.decode()
    if not allowed.fullmatch(text):
        raise ValueError("a character that the syntax does not have")
    return text


def _generalized_time(value: bytes) -> datetime:
    """RFC 4517, section 3.3.13; without minutes or seconds a fraction is one of what is there last."""
    found = _GENERALIZED_TIME.fullmatch(value.decode())
    if found is None:
        raise ValueError("no Generalized Time")
    hours, minutes, seconds, fraction, zone = found.groups()
    unit = timedelta(seconds=1) if seconds else timedelta(minutes=1) if minutes else timedelta(hours=1)
    written = f"{hours}{minutes or '00'}{seconds or '00'}{'+0000' if zone == 'Z' else zone.ljust(5, '0')}"
    try:
        return datetime.strptime(written, "%Y%m%d%H%M%S%z") + unit * float(f"0.{fraction or 0}")
    except OverflowError as e:
        raise ValueError("a Generalized Time at the end of time") from e


def _distinguished_name(value: bytes) -> names.NameKey:
    return names.parse(value.decode()).key


def _object_identifier(value: bytes) -> str:
    found = object_identifier(value.decode().strip(" "))
    if found is None:
        raise ValueError("an unknown object identifier")
    return found


def _object_identifier_first_component(value: bytes) -> str:
    first = _OBJECT_IDENTIFIER_FIRST.match(value.decode())
    if first is None:
        raise ValueError("not a definition")
    return first[1]


def _boolean(value: bytes) -> bytes:
    if value not in {b"TRUE", b"FALSE"}:
        raise ValueError("neither TRUE nor FALSE (RFC 4517, section 3.3.3)")
    return value


def _octet_string(value: bytes) -> bytes:
    return value


EQUALITY: Final[Mapping[str, Rule]] = {
    "caseIgnoreMatch": _alike(_case_ignore),
    "caseIgnoreIA5Match": _alike(_case_ignore_ia5),
    "caseIgnoreListMatch": _alike(_case_ignore_list),
    "caseExactMatch": _alike(_case_exact),
    "numericStringMatch": _alike(_numeric_string),
    "telephoneNumberMatch": _alike(_telephone_number),
    "generalizedTimeMatch": _alike(_generalized_time),
    "distinguishedNameMatch": _alike(_distinguished_name),
    "objectIdentifierMatch": _alike(_object_identifier),
    "objectIdentifierFirstComponentMatch": _rule(_object_identifier_first_component, _object_identifier, eq),
    "booleanMatch": _alike(_boolean),
    "octetStringMatch": _alike(_octet_string),
    "certificateExactMatch": _rule(certificates.certificate, certificates.certificate_assertion, eq),
    "certificatePairExactMatch": _rule(
        certificates.certificate_pair, certificates.certificate_pair_assertion, certificates.is_same_pair
    ),
    "certificateListExactMatch": _rule(
        certificates.certificate_list, certificates.certificate_list_assertion, certificates.is_same_list
    ),
}

# By the ordering rule of an attribute: what `>=` and `<=` say of its values (RFC 4511, section 4.5.1.7).
GREATER_OR_EQUAL: Final[Mapping[str, Rule]] = {"generalizedTimeOrderingMatch": _alike(_generalized_time, ge)}
LESS_OR_EQUAL: Final[Mapping[str, Rule]] = {"generalizedTimeOrderingMatch": _alike(_generalized_time, le)}

# What can be named in an extensibleMatch; an ordering rule there says that a value is earlier (RFC 4517, section
# 4.2.17).
EXTENSIBLE: Final[Mapping[str, Rule]] = {
    **EQUALITY,
    "generalizedTimeOrderingMatch": _alike(_generalized_time, lt),
}

# Rules that can be applied to each other's attributes, since their values are strings of characters.
_STRING_RULES: Final = frozenset({"caseIgnoreMatch", "caseIgnoreIA5Match", "caseExactMatch"})

SUBSTRINGS: Final = frozenset({"caseIgnoreSubstringsMatch", "caseIgnoreIA5SubstringsMatch"})


def applies(rule: str, attribute: AttributeType) -> bool:
    """Whether a rule of EXTENSIBLE can be used on the values of an attribute."""
    return rule in (attribute.equality, attribute.ordering) or {rule, attribute.equality} <= _STRING_RULES
