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
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_BEGIN: Final = b'{"at":"'  # of every line that holds records, and of no other
_DAY: Final = slice(len(_BEGIN), len(_BEGIN) + 10)  # of such a line: when

# Exactly what is written, and no more: who adds something to a segment must not lead its readers into anything else.
_TIME: Final = rb'"[12][0-9]{3}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z"'
_NAME: Final = rb'"[^"\\\x00-\x1f]*+(?:\\["\\][^"\\\x00-\x1f]*+)*+"'  # ours: nothing in it that a database refuses
_STRING: Final = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-f]{4})[^"\\\x00-\x1f]*+)*+"'
_SIZE: Final = rb"[0-9]{1,15}"
_WHEN_AND_WHAT: Final = rb'\{"at":%b,"kind":%b,' % (_TIME, _NAME)
_WHO: Final = rb'"party":(?:null|%b),(?:"by":%b,)?"origin":%b,' % (_NAME, _NAME, _STRING)
_RESULT: Final = rb"\[%b,%b,%b\]" % (_NAME, _STRING, _SIZE)
_ONE: Final = re.compile(
    _WHEN_AND_WHAT
    + rb'"result":%b,' % _NAME
    + _WHO
    + rb'"object":%b,"size":%b(?:,"id":[0-9]{1,18})?\}\n' % (_STRING, _SIZE)  # an act of the issuer has a number
)
_SEVERAL: Final = re.compile(rb'(%b)(%b)"records":\[(%b(?:,%b)*+)\]\}\n' % (_WHEN_AND_WHAT, _WHO, _RESULT, _RESULT))
_PARTS: Final = re.compile(rb"\[(%b),(%b),(%b)\]" % (_NAME, _STRING, _SIZE))  # of a result


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


def begins_as_record(line: bytes) -> bool:
    """Does a line say that it holds records, whether it does or not?"""
    return line.startswith(_BEGIN)


def records_in(line: bytes) -> Sequence[bytes]:
    """The records that a line of a segment holds, each as `Record.line`; none, if no process writes it so."""
    if not begins_as_record(line):
        return ()
    several = _SEVERAL.fullmatch(line)
    if not (several or _ONE.fullmatch(line)) or not _is_day(line[_DAY]) or not _is_utf_8(line):
        return ()
    if several is None:
        return (line,)
    what, who, results = several.groups()
    return [
        b'%b"result":%b,%b"object":%b,"size":%b}\n' % (what, how, who, name, size)
        for how, name, size in _PARTS.findall(results)
    ]


@lru_cache(maxsize=16)
def _is_day(text: bytes) -> bool:
    try:
        date.fromisoformat(text.decode())
    except ValueError:
        return False
    return True


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


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
