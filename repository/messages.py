"""LDAPMessages as values, named as RFC 4511 names them.

Text that came from a peer (LDAPString) is a `str` in which octets that are not UTF-8 stand as lone surrogates: no name
or attribute of ours contains one, so such text simply matches nothing.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple


class ResultCode(IntEnum):
    """RFC 4511, section 4.1.9: the codes that this server gives."""

    SUCCESS = 0
    OPERATIONS_ERROR = 1
    PROTOCOL_ERROR = 2
    TIME_LIMIT_EXCEEDED = 3
    SIZE_LIMIT_EXCEEDED = 4
    COMPARE_FALSE = 5
    COMPARE_TRUE = 6
    AUTH_METHOD_NOT_SUPPORTED = 7
    ADMIN_LIMIT_EXCEEDED = 11
    UNAVAILABLE_CRITICAL_EXTENSION = 12
    CONFIDENTIALITY_REQUIRED = 13
    SASL_BIND_IN_PROGRESS = 14
    NO_SUCH_ATTRIBUTE = 16
    UNDEFINED_ATTRIBUTE_TYPE = 17
    INAPPROPRIATE_MATCHING = 18
    INVALID_ATTRIBUTE_SYNTAX = 21
    NO_SUCH_OBJECT = 32
    INVALID_DN_SYNTAX = 34
    INAPPROPRIATE_AUTHENTICATION = 48
    INVALID_CREDENTIALS = 49
    BUSY = 51
    UNAVAILABLE = 52
    UNWILLING_TO_PERFORM = 53
    OTHER = 80
    CANCELED = 118  # these three: RFC 3909
    NO_SUCH_OPERATION = 119
    TOO_LATE = 120
    ASSERTION_FAILED = 122  # RFC 4528

    @property
    def text(self) -> str:
        """The name as RFC 4511 writes it: `invalidCredentials`, `invalidDNSyntax`."""
        first, *rest = self.name.lower().split("_")
        return first + "".join("DN" if word == "dn" else word.capitalize() for word in rest)


class Scope(IntEnum):
    """RFC 4511, section 4.5.1.2."""

    BASE_OBJECT = 0
    SINGLE_LEVEL = 1
    WHOLE_SUBTREE = 2


@dataclass(frozen=True, slots=True)
class And:
    """True if all are; of none at all, too (RFC 4526)."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """True if one is; of none at all, false (RFC 4526)."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True if the other is false."""

    filter: "Filter"


@dataclass(frozen=True, slots=True)
class AttributeValueAssertion:
    """RFC 4511, section 4.1.6."""

    attribute_desc: str
    assertion_value: bytes


@dataclass(frozen=True, slots=True)
class EqualityMatch(AttributeValueAssertion):
    """`(type=value)`."""


@dataclass(frozen=True, slots=True)
class GreaterOrEqual(AttributeValueAssertion):
    """`(type>=value)`."""


@dataclass(frozen=True, slots=True)
class LessOrEqual(AttributeValueAssertion):
    """`(type<=value)`."""


@dataclass(frozen=True, slots=True)
class ApproxMatch(AttributeValueAssertion):
    """`(type~=value)`."""


@dataclass(frozen=True, slots=True)
class Present:
    """`(type=*)`."""

    attribute_desc: str


@dataclass(frozen=True, slots=True)
class Substrings:
    """`(type=initial*any*final)`."""

    type: str
    initial: bytes | None
    any: tuple[bytes, ...]
    final: bytes | None


@dataclass(frozen=True, slots=True)
class ExtensibleMatch:
    """`(type:dn:rule:=value)`."""

    matching_rule: str | None
    type: str | None
    match_value: bytes
    dn_attributes: bool


@dataclass(frozen=True, slots=True)
class UnrecognizedFilter:
    """A choice that RFC 4511 does not have: Undefined."""


Filter = (
    And
    | Or
    | Not
    | EqualityMatch
    | Substrings
    | GreaterOrEqual
    | LessOrEqual
    | Present
    | ApproxMatch
    | ExtensibleMatch
    | UnrecognizedFilter
)


@dataclass(frozen=True, slots=True)
class Simple:
    """AuthenticationChoice simple."""

    password: bytes = field(repr=False)


ANONYMOUS = Simple(b"")  # with an empty name: RFC 4513, section 5.1.1


@dataclass(frozen=True, slots=True)
class SASL:
    """AuthenticationChoice sasl."""

    mechanism: str
    credentials: bytes | None  # None: absent, which is not the same as empty (RFC 4422, section 4)


@dataclass(frozen=True, slots=True)
class BindRequest:
    """RFC 4511, section 4.2."""

    version: int
    name: str
    authentication: Simple | SASL | None  # None: a choice that RFC 4511 does not have


@dataclass(frozen=True, slots=True)
class UnbindRequest:
    """RFC 4511, section 4.3."""


class SearchRequest(NamedTuple):
    """RFC 4511, section 4.5.1. There are no aliases, so derefAliases changes nothing."""

    base_object: str
    scope: int  # a Scope, or a number that the peer made up
    size_limit: int
    time_limit: int  # seconds; 0: none
    types_only: bool
    filter: Filter
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpdateRequest:
    """Any operation that would change the directory (RFC 4511, sections 4.6 to 4.9); nothing in it matters here."""


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """RFC 4511, section 4.10."""

    entry: str
    ava: AttributeValueAssertion


@dataclass(frozen=True, slots=True)
class AbandonRequest:
    """RFC 4511, section 4.11."""

    message_id: int


@dataclass(frozen=True, slots=True)
class ExtendedRequest:
    """RFC 4511, section 4.12."""

    request_name: str
    request_value: bytes | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """RFC 4511, section 4.1.11."""

    control_type: str
    criticality: bool
    control_value: bytes | None


AnsweredRequest = BindRequest | SearchRequest | UpdateRequest | CompareRequest | ExtendedRequest
Request = AnsweredRequest | UnbindRequest | AbandonRequest


@dataclass(frozen=True, slots=True)
class Result:
    """LDAPResult, RFC 4511, section 4.1.9. The diagnostic message is for people: one line."""

    code: ResultCode
    diagnostic_message: str = ""
    matched_dn: str = ""
