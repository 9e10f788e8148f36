"""What one record says: kind of event, time, result, origin, object (R-4-11-2-2); and the lines that hold records.

    {"at":"…","kind":"ldap_bind","result":"success","party":…,"origin":"…","object":"…","size":0}
    {"at":"…","kind":"ocsp_request","party":…,"origin":"…","records":[["good","5A…",1500],["revoked","5B…",0]]}

Theory of operation. Lines are joined from fragments, so that a server which writes many like records can keep what they
have in common. A busy server gives one peer many answers at the same moment. One line then says when, what and who,
and of each record the rest: result, object and size, a fragment that is kept beside the answer.

Lines are how records are stored, and nobody else's business: `records_in` tells the records of a line, each as the
line that it would be alone. So that is what is counted, reviewed and proved.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_BEGIN: Final = b'{"at":"'  # of every line that holds records, and of no other
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_RESULT: Final = rb"\[%b,%b,[0-9]+\]" % (_STRING, _STRING)
_SEVERAL: Final = re.compile(
    rb'(\{"at":%b,"kind":%b,)' % (_STRING, _STRING)
    + rb'("party":(?:null|%b),(?:"by":%b,)?"origin":%b,)' % (_STRING, _STRING, _STRING)
    + rb'"records":\[(%b(?:,%b)*+)\]\}\n' % (_RESULT, _RESULT)
)
_PARTS: Final = re.compile(rb"\[(%b),(%b),([0-9]+)\]" % (_STRING, _STRING))  # of a result


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
    size: int = 0  # octets of what was given out; 0 where another record of the same answer tells them
    by: str | None = None  # how the party was recognised; None is left out

    def line(self) -> bytes:
        """The record as one line of JSON in UTF-8, with its line feed.

        A peer's text may hold what UTF-8 cannot express; it is kept as a JSON escape.
        """
        who, what = peer(self.party, self.origin, self.by), event(self.kind, self.result)
        return b"".join((stamp(self.at), what, who, gift(self.object, self.size)))


def several(common: bytes, results: Iterable[bytes]) -> bytes:
    """A line that holds several records.

    Args:
        common: `stamp`, `kind` and `peer`, joined.
        results: `result` of each record, or of some of them, joined with commas; at least one.
    """
    return b'%b"records":[%b]}\n' % (common, b",".join(results))


def records_in(line: bytes) -> Sequence[bytes]:
    """The records that a line of a segment holds, each as `Record.line`; none, if it is a line of another kind."""
    if not line.startswith(_BEGIN):
        return ()
    matched = _SEVERAL.fullmatch(line)
    if matched is None:
        return (line,)
    what, who, results = matched.groups()
    return [
        b'%b"result":%b,%b"object":%b,"size":%b}\n' % (what, how, who, name, size)
        for how, name, size in _PARTS.findall(results)
    ]


# ---------------------------------------------------------------- fragments


def stamp(at: datetime) -> bytes:
    """The first of each line: when."""
    return stamp_ms((at - _EPOCH) // _MILLISECOND)


def stamp_ms(milliseconds: int) -> bytes:
    """The same, of a moment in milliseconds since the epoch."""
    second, milliseconds = divmod(milliseconds, 1000)
    return b'%b.%03dZ",' % (_second(second), milliseconds)


@lru_cache(maxsize=16)
def _second(second: int) -> bytes:
    """What the stamps of one second have in common: formatting a time takes a microsecond, and a turn may take ten."""
    return b'{"at":"%b' % (_EPOCH + timedelta(seconds=second)).isoformat()[:19].encode()


@lru_cache(maxsize=1024)
def kind(name: str) -> bytes:
    """What happened, of records whose results may differ."""
    return b'"kind":%b,' % _text(name)


@lru_cache(maxsize=1024)
def event(kind: str, result: str) -> bytes:
    """What happened, and how it ended."""
    return b'"kind":%b,"result":%b,' % (_text(kind), _text(result))


@lru_cache(maxsize=1024)
def peer(party: str | None, origin: str, by: str | None = None) -> bytes:
    """Who asked, and how that is known."""
    recognised = b"" if by is None else b'"by":%b,' % _text(by)
    return b'"party":%b,%b"origin":%b,' % (b"null" if party is None else _text(party), recognised, _text(origin))


def gift(name: str, size: int) -> bytes:
    """The last of a record that stands alone: what was given out."""
    return b'"object":%b,"size":%d}\n' % (_text(name), size)


def result(how: str, name: str, size: int) -> bytes:
    """The last of one of several: how it ended, and what was given out."""
    return b"[%b,%b,%d]" % (_word(how), _text(name), size)


@lru_cache(maxsize=1024)
def _word(text: str) -> bytes:
    """One of few strings."""
    return _text(text)


def _text(text: str) -> bytes:
    """A JSON string."""
    return encode_basestring(text).encode("utf-8", "backslashreplace")
