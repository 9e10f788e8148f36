"""What the internal auditor is shown of the journals (R-4-11-1, R-4-11-3): how often what happened, and what is odd.

A week may have 25 million records. They are counted by their octets, and read as JSON once for all that have kind,
result, party and origin in common. What they were about is kept only where a rule below asks for it.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from statistics import median
from typing import Final

from issuer.rules.usage import Amount, Use
from pkix.validity import JST, zulu

ORDINARY: Final = frozenset(
    {"success", "good", "revoked", "unknown", "head", "done", "noSuchObject"}
)  # every other is told
UNKNOWN_SERIALS: Final = 10  # different ones, asked for by one party from one address
USUAL_DAYS: Final = 28  # before the period, that a party's day is compared with
KNOWN_DAYS: Final = 5  # so many are needed
HIGH_RATE: Final = 5  # times the median of the other days
LOW_ITEMS: Final = 100  # a day with fewer is never told
OBJECTS_OF_AN_HOUR: Final = 1000  # that are kept of one event

# Both are where `journal.record` puts them; inside a JSON string the quotation marks would be escaped.
_HOUR: Final = slice(7, 20)
EVENT: Final = 33
_OBJECT: Final = b',"object":'
_KEEPS_OBJECTS: Final = re.compile(rb'"kind":"(?:[^"]*","result":"unknown"|ldap_bind","result":"(?!success")|key_)')
_KEY_STEPS: Final = {"key_opened": 1, "key_used": -1}
SPLIT_WITHOUT_SHARES: Final = "activation_data_split_without_shares"  # kind of an act
_OF_THE_SCHEDULE: Final = " lists"  # ends the object of a key's record


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """What records have in common."""

    kind: str
    result: str
    party: str  # empty: anonymous
    origin: str

    @property
    def is_act(self) -> bool:
        """Is it one of an operator, with the origin account@host?"""
        return "@" in self.origin


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are wanted; None: whatever."""

    kind: str | None = None
    result: str | None = None
    party: str | None = None
    origin: str | None = None

    def takes(self, event: Event) -> bool:
        """Is it wanted?"""
        pairs = ((self.kind, event.kind), (self.result, event.result), (self.party, event.party))
        return all(wanted in {None, found} for wanted, found in (*pairs, (self.origin, event.origin)))


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days in Japan; `end` is the first one that is out."""

    begin: date
    end: date

    @property
    def moments(self) -> tuple[datetime, datetime]:
        """From the first to before the second."""
        begin, end = (datetime.combine(day, time(), JST) for day in (self.begin, self.end))
        return begin, end


@dataclass(frozen=True, slots=True)
class Rules:
    """What is odd here."""

    operators: tuple[str, ...]  # account@host; none: nobody is told
    night_from: time  # in Japan
    night_until: time


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the auditor should look at."""

    rule: str
    who: str
    number: int
    what: str


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of the journals, as it was first seen. Its key was taken over with its first segment."""

    name: str
    key_sha256: bytes  # of the SubjectPublicKeyInfo
    first_seen: datetime
    segment: int | None  # the first one that was collected; None: there is none yet
    began: datetime | None


class Tally:
    """Counts the records of a period that a filter takes."""

    def __init__(self, period: Period, wanted: Filter) -> None:
        self._begin, self._end = period.moments
        self._wanted = wanted
        self._counts: Counter[tuple[bytes, bytes, bytes]] = Counter()
        self._kept: Counter[tuple[bytes, bytes]] = Counter()

    def add(self, line: bytes) -> None:
        """Count a record."""
        at = line.find(_OBJECT)
        hour, event = line[_HOUR], line[EVENT:at]
        key = (hour, event, line[at:] if _keeps_objects(event) else b"")
        if key[2] and key not in self._counts:
            self._kept[key[:2]] += 1
            if self._kept[key[:2]] > OBJECTS_OF_AN_HOUR:
                key = (hour, event, b"")
        self._counts[key] += 1

    def takes(self, line: bytes) -> bool:
        """Is a record one of those that are counted?"""
        return self._begin <= _moment(line[_HOUR]) < self._end and self._wanted.takes(
            _event(line[EVENT : line.find(_OBJECT)])
        )

    def happened(self) -> Iterator["Happened"]:
        """All that was counted."""
        for (hour, octets, rest), number in self._counts.items():
            moment, event = _moment(hour), _event(octets)
            if self._begin <= moment < self._end and self._wanted.takes(event):
                about = json.loads(b"{" + rest[1:])["object"] if rest else ""
                yield Happened(moment, event, about, number)


@dataclass(frozen=True, slots=True)
class Happened:
    """Like records of one hour."""

    hour: datetime
    event: Event
    about: str  # the object, where it is kept
    number: int


def counts(happened: Iterable[Happened]) -> Counter[Event]:
    """How often each event was."""
    total: Counter[Event] = Counter()
    for one in happened:
        total[one.event] += one.number
    return total


def findings(happened: Sequence[Happened], rules: Rules) -> list[Finding]:
    """What is odd, rule by rule."""
    acts = [one for one in happened if one.event.is_act]
    return [
        *_refused(happened),
        *_failed_binds(happened),
        *_unknown_serials(happened),
        *_at_night(acts, rules),
        *_unlisted(acts, rules),
        *_unfinished(acts),
        *_split_without_shares(acts),
    ]


def high_rates(usage: Mapping[Use, Amount], period: Period) -> list[Finding]:
    """Days on which a party did far more than on its others (median).

    Args:
        usage: of the period and of `USUAL_DAYS` before.
        period: whose days are told.
    """
    days: dict[str, Counter[date]] = defaultdict(Counter)
    for use, amount in usage.items():
        if use.party:
            days[use.party][use.day] += amount.items
    found = []
    for party, its in sorted(days.items()):
        for day, items in sorted(its.items()):
            others = [other for at, other in its.items() if at != day]
            if period.begin <= day < period.end and items >= LOW_ITEMS and len(others) >= KNOWN_DAYS:
                usual = median(others)
                if items > HIGH_RATE * usual:
                    found.append(Finding("high rate", party, items, f"on {day}; {usual:.0f} on its other days"))
    return found


def new_streams(streams: Iterable[Stream], period: Period, reviewed_until: datetime | None) -> Iterator[Finding]:
    """Streams that came in the period, and those that came before it and were in no review yet.

    Who may write to the directory of the segments may begin a stream with a key of his own, and nothing in it tells.
    """
    begin, end = period.moments
    for one in streams:
        is_reviewed = reviewed_until is not None and one.first_seen < reviewed_until
        if one.first_seen < end and (one.first_seen >= begin or not is_reviewed):
            host = one.name.rpartition(".")[0] or "without a name"
            first = "no segment yet" if one.began is None else f"from segment {one.segment}, begun {zulu(one.began)}"
            what = f"host {host}; {first}; see that its process has the key with SHA-256 {one.key_sha256.hex()}"
            yield Finding("new stream", one.name, 1, what)


def _refused(happened: Iterable[Happened]) -> Iterator[Finding]:
    """Refusals by party and address; those of binds are told by themselves."""
    results: dict[str, Counter[str]] = defaultdict(Counter)
    for one in happened:
        event = one.event
        if event.result not in ORDINARY and event.kind != "ldap_bind":
            results[_who(event)][f"{event.kind} {event.result}"] += one.number
    for who, its in sorted(results.items()):
        yield Finding("refused", who, its.total(), ", ".join(f"{what} {number}" for what, number in its.most_common()))


def _failed_binds(happened: Iterable[Happened]) -> Iterator[Finding]:
    names: dict[str, Counter[str]] = defaultdict(Counter)
    for one in happened:
        if one.event.kind == "ldap_bind" and one.event.result != "success":
            names[one.event.origin][one.about] += one.number
    for origin, its in sorted(names.items()):
        shown = ", ".join(name or "without a name" for name, _ in its.most_common(3))
        yield Finding("failed bind", origin, its.total(), f"{len(its)} names: {shown}")


def _unknown_serials(happened: Iterable[Happened]) -> Iterator[Finding]:
    """Who asks for certificates that do not exist may be trying out numbers."""
    serials: dict[str, set[str]] = defaultdict(set)
    for one in happened:
        if one.event.result == "unknown" and one.about:
            serials[_who(one.event)].add(one.about)
    for who, its in sorted(serials.items()):
        if len(its) >= UNKNOWN_SERIALS:
            yield Finding("unknown serials", who, len(its), f"such as {min(its)}")


def _at_night(acts: Iterable[Happened], rules: Rules) -> Iterator[Finding]:
    """Acts of operators at night; what the schedule does is none."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for one in acts:
        is_scheduled = one.event.kind == "published" or one.about.endswith(_OF_THE_SCHEDULE)
        if not is_scheduled and _is_night(one.hour, rules):
            kinds[one.event.origin][one.event.kind] += one.number
    for origin, its in sorted(kinds.items()):
        yield Finding("at night", origin, its.total(), ", ".join(f"{kind} {number}" for kind, number in its.items()))


def _is_night(hour: datetime, rules: Rules) -> bool:
    """Does the hour begin at night?"""
    at = hour.astimezone(JST).time()
    if rules.night_from <= rules.night_until:
        return rules.night_from <= at < rules.night_until
    return at >= rules.night_from or at < rules.night_until


def _unlisted(acts: Iterable[Happened], rules: Rules) -> Iterator[Finding]:
    if not rules.operators:
        return
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for one in acts:
        if one.event.origin not in rules.operators:
            kinds[one.event.origin][one.event.kind] += one.number
    for origin, its in sorted(kinds.items()):
        what = ", ".join(f"{kind} {number}" for kind, number in its.items())
        yield Finding("no operator", origin, its.total(), what)


def _unfinished(acts: Iterable[Happened]) -> Iterator[Finding]:
    """The CA's key was opened, and no record says what it signed: the process was killed."""
    opened: Counter[str] = Counter()
    for one in acts:
        if one.event.kind in _KEY_STEPS:
            opened[one.about] += one.number * _KEY_STEPS[one.event.kind]
    for about, number in sorted(opened.items()):
        if number > 0:
            yield Finding("key use without end", about, number, "killed, or the database was away")


def _split_without_shares(acts: Iterable[Happened]) -> Iterator[Finding]:
    for one in acts:
        if one.event.kind == SPLIT_WITHOUT_SHARES:
            yield Finding("split without shares", one.event.origin, one.number, "see that key managers knew of it")


def _who(event: Event) -> str:
    return f"{event.party or '(anonymous)'} {event.origin}"


@lru_cache(maxsize=65536)
def _keeps_objects(event: bytes) -> bool:
    return _KEEPS_OBJECTS.match(event) is not None


@lru_cache(maxsize=65536)
def _event(octets: bytes) -> Event:
    said = json.loads(b"{%b}" % octets)
    return Event(said["kind"], said["result"], said["party"] or "", said["origin"])


@lru_cache(maxsize=4096)
def _moment(hour: bytes) -> datetime:
    return datetime.fromisoformat(f"{hour.decode()}:00:00+00:00")


# ---------------------------------------------------------------- retention

AUDIT_LOG: Final = timedelta(days=366)  # a year (R-4-11-4)
ARCHIVE: Final = timedelta(days=3653)  # ten years (R-4-12-2-2)


@dataclass(frozen=True, slots=True)
class Retention:
    """Which segments' files may be deleted: docs/decisions.md tells how audit log and archive go together."""

    now: datetime
    before: datetime  # what was asked for
    reviewed_until: datetime | None

    def why_kept(self, sealed_at: datetime, *, is_of_acts: bool, is_good_copy: bool | None) -> str | None:
        """Why the file of a segment stays; None: it may go.

        Args:
            sealed_at: of the segment.
            is_of_acts: it has acts of the issuer, which are in the database too; any other has usage history.
            is_good_copy: of that on external media the newest reading found nothing wrong; None: there is no copy.
        """
        if sealed_at >= self.before:
            return "they have later records too"
        if self.now - sealed_at < (AUDIT_LOG if is_of_acts else ARCHIVE):
            return "too young: a year for acts of the issuer, ten for usage history"
        if self.reviewed_until is None or sealed_at > self.reviewed_until:
            return "not reviewed; `prefca audit mark-reviewed`"
        if is_good_copy is None:
            return "not on external media; `prefca archive export`"
        if not is_good_copy:
            return "no media with them were read again, or were found good; `prefca archive check DIRECTORY --record`"
        return None
