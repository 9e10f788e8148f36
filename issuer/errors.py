"""Why the issuer does not do something; the message is one line and says what to do.

    IssuerError
      RefusedError                we refuse: the request breaks a rule             exit status 3
        MigrationError            the schema cannot be brought up to date
      NotNowError                 database or token away, or another run is busy   exit status 4
        EmbeddedPostgresError     our PostgreSQL does not start
        KeyReplacedError          another key of the CA took over meanwhile

Besides these: settings.load.ConfigurationError (2) and pkix.signing.SigningError (4). Anything else is our bug (1).
"""

from typing import ClassVar


class IssuerError(Exception):
    """Base of what is reported without a traceback."""

    exit_status: ClassVar[int] = 1


class RefusedError(IssuerError):
    """The request breaks a rule; the same request will be refused again."""

    exit_status: ClassVar[int] = 3


class RecordedRefusalError(RefusedError):
    """The same, and it is on record already."""


class NotNowError(IssuerError):
    """Something that is needed is away; the same request may succeed later."""

    exit_status: ClassVar[int] = 4


class KeyReplacedError(NotNowError):
    """The key that signed was replaced before that was recorded; the present one can do it."""
