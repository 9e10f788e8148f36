"""What can go wrong, told apart by who can mend it.

RepositoryError
├── MalformedMessageError      the peer sent nonsense: Notice of Disconnection
├── OperationError             we refuse one operation: its result code
├── CorruptPublicationError    what the issuer published is damaged: the old snapshot stays
└── StartError                 the operator has to change something: exit status 1
"""

from repository.messages import Result, ResultCode


class RepositoryError(Exception):
    """Any of them."""


class MalformedMessageError(RepositoryError):
    """Octets that are no LDAPMessage, or not one of ours to answer (RFC 4511, section 4.1.1)."""

    result = ResultCode.PROTOCOL_ERROR


class OperationError(RepositoryError):
    """An operation ends with a result other than success."""

    def __init__(self, code: ResultCode, diagnostic_message: str, matched_dn: str = "") -> None:
        super().__init__(diagnostic_message)
        self.result = Result(code, diagnostic_message, matched_dn)


class CorruptPublicationError(RepositoryError):
    """A published value or name that cannot be trusted."""


class StartError(RepositoryError):
    """The server cannot begin; the message says what to change."""
