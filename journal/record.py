"""What one record says: kind of event, time, result, origin, object (R-4-11-2-2).

A line is joined from four fragments, so that a server which writes many like records can keep what they have in common.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """One access or operation of a server.

    Stored: a change of fields changes every segment written from then on, and its readers.
    """

    at: datetime  # aware UTC
    kind: str  # the event: ldap_bind, ldap_search, ocsp_request
    result: str  # as the protocol names it: success, invalidCredentials, good
    party: str | None  # name of the relying party; None is anonymous
    origin: str  # address of the peer
    object: str  # what was asked for: an entry and attribute, a serial number
    size: int = 0  # octets of what was given out
    by: str | None = None  # how the party was recognised; None is left out

    def line(self) -> bytes:
        """The record as one line of JSON in UTF-8, with its line feed.

        A peer's text may hold what UTF-8 cannot express; it is kept as a JSON escape.
        """
        who, what = peer(self.party, self.origin, self.by), event(self.kind, self.result)
        return b"".join((stamp(self.at), what, who, gift(self.object, self.size)))


def stamp(at: datetime) -> bytes:
    """The first fragment of a line: when."""
    since = at - _EPOCH
    return b'%b.%03dZ",' % (_second(since.days, since.seconds), since.microseconds // 1000)


@lru_cache(maxsize=16)
def _second(days: int, seconds: int) -> bytes:
    """What the stamps of one second have in common: formatting a time takes a microsecond, and a turn may take ten."""
    return b'{"at":"%b' % (_EPOCH + timedelta(days, seconds)).isoformat()[:19].encode()


@lru_cache(maxsize=1024)
def event(kind: str, result: str) -> bytes:
    """The second: what happened."""
    return b'"kind":%b,"result":%b,' % (_text(kind), _text(result))


@lru_cache(maxsize=1024)
def peer(party: str | None, origin: str, by: str | None = None) -> bytes:
    """The third: who asked, and how that is known."""
    recognised = b"" if by is None else b'"by":%b,' % _text(by)
    return b'"party":%b,%b"origin":%b,' % (b"null" if party is None else _text(party), recognised, _text(origin))


def gift(name: str, size: int) -> bytes:
    """The last: what was given out."""
    return b'"object":%b,"size":%d}\n' % (_text(name), size)


def _text(text: str) -> bytes:
    """A JSON string."""
    return encode_basestring(text).encode("utf-8", "backslashreplace")
