"""What happens when: entries in the order of their moments, all of them in the time of Japan. No clock, no I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from heapq import merge
from typing import Final, Protocol, TypeVar

from pkix.validity import JST

T = TypeVar("T")

DAY: Final = timedelta(days=1)
COUNTER_DAYS_OF_100: Final = 10  # on which somebody comes, in years; every one costs the simulation some time
BUSY_DAYS_OF_100: Final = 60  # in few days
MOST_AT_A_COUNTER: Final = 3
REVOKED_OF_100: Final = 40  # of the counter days
KEY_YEARS: Final = 5  # of use (R-4-13-1)
SWITCHED_BEFORE: Final = timedelta(days=75)  # the end: an alarm would be told at 60
PREPARED_BEFORE: Final = timedelta(days=30)  # the switch
COMPROMISED_AFTER_YEARS: Final = 7
COMPROMISED_AFTER_DAYS: Final = 70
SHORTEST_LEAD: Final = timedelta(days=8)  # `ca.link_lead_h`, and the day of the lists that show the links


class Random(Protocol):
    """What is used of `random.Random`."""

    def choice(self, seq: Sequence[T], /) -> T:
        """One of them."""

    def randbytes(self, n: int, /) -> bytes:
        """So many octets."""

    def randint(self, a: int, b: int, /) -> int:
        """From `a` to `b`, both included."""

    def sample(self, population: Sequence[T], k: int) -> list[T]:
        """So many different ones of them."""


@dataclass(frozen=True, slots=True)
class Tend:
    """An operator looks at the alarms and does what they say."""


@dataclass(frozen=True, slots=True)
class Issue:
    """Residents come to the counters for their first certificate."""

    count: int


@dataclass(frozen=True, slots=True)
class Renew:
    """Of the residents whose certificates end soon, some come to renew them."""


@dataclass(frozen=True, slots=True)
class Revoke:
    """Certificates of residents are revoked."""

    count: int


@dataclass(frozen=True, slots=True)
class Publish:
    """The regular lists."""


@dataclass(frozen=True, slots=True)
class PrepareKey:
    """The next key is made, with its links (鍵更新)."""


@dataclass(frozen=True, slots=True)
class MakeDelegates:
    """The key that signs now certifies the delegates of the years to come."""


@dataclass(frozen=True, slots=True)
class SwitchKey:
    """The prepared key takes over."""


@dataclass(frozen=True, slots=True)
class Compromise:
    """The key that signs now is out of control (危殆化)."""


@dataclass(frozen=True, slots=True)
class ReplaceKey:
    """After a compromise: a new key, which takes over at once."""


KeyEvent = PrepareKey | MakeDelegates | SwitchKey | Compromise | ReplaceKey


@dataclass(frozen=True, slots=True)
class CrossCertify:
    """A pair of cross certificates with the bridge is made (相互認証証明書); it replaces the one that there is."""


@dataclass(frozen=True, slots=True)
class RevokeReplaced:
    """The CA's cross certificates that were replaced are revoked."""


CrossEvent = CrossCertify | RevokeReplaced
RareEvent = KeyEvent | CrossEvent  # once in years: everything is looked at after it
Event = RareEvent | Tend | Issue | Renew | Revoke | Publish


@dataclass(frozen=True, slots=True)
class Entry:
    """An event at its moment."""

    at: datetime
    event: Event


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, and what besides the daily work."""

    start: date
    end: date  # not in it
    residents: int  # who come on the first day
    key_switches: tuple[date, ...] = ()
    key_lead: timedelta = PREPARED_BEFORE  # from the making of a key to its switch
    counter_days_of_100: int = COUNTER_DAYS_OF_100
    compromise: date | None = None

    @property
    def founded_at(self) -> datetime:
        """When the CA is founded."""
        return _at(self.start, 8)


def plan_of_years(start: date, years: int, residents: int) -> Plan:
    """The plan of whole years, from `start` on."""
    end = years_later(start, years)
    compromise = years_later(start, COMPROMISED_AFTER_YEARS) + timedelta(days=COMPROMISED_AFTER_DAYS)
    return Plan(
        start,
        end,
        residents,
        tuple(_key_switches(start, end)),
        compromise=compromise if compromise < end else None,
    )


def plan_of_days(start: date, days: int, residents: int) -> Plan:
    """What happens once in years, within days: two new keys, and between them a compromise."""
    first, compromise, second = (start + timedelta(days=days * share // 100) for share in (40, 45, 85))
    end = start + timedelta(days=days)
    return Plan(start, end, residents, (first, second), SHORTEST_LEAD, BUSY_DAYS_OF_100, compromise)


def _key_switches(start: date, end: date) -> Iterator[date]:
    """Before the five years of each key end, which are counted from when it was made."""
    switch = years_later(start, KEY_YEARS) - SWITCHED_BEFORE
    while switch < end:
        yield switch
        switch = years_later(switch - PREPARED_BEFORE, KEY_YEARS) - SWITCHED_BEFORE


def years_later(day: date, years: int) -> date:
    """That day, so many years later; the first of March for a 29 February that does not come."""
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return date(day.year + years, 3, 1)


def timetable(plan: Plan, random: Random) -> Iterator[Entry]:
    """All entries of a plan, in order; the same for the same plan and a generator with the same seed."""
    streams = _beginning(plan), _daily(plan), _counters(plan, random), _renewals(plan), _emergency(plan)
    return merge(*streams, key=lambda entry: entry.at)


def _beginning(plan: Plan) -> Iterator[Entry]:
    yield Entry(_at(plan.start, 9), Publish())
    yield Entry(_at(plan.start, 10), Issue(plan.residents))
    yield Entry(_at(plan.start, 12), CrossCertify())


def _daily(plan: Plan) -> Iterator[Entry]:
    for day in _days(plan.start + DAY, plan.end):
        yield Entry(_at(day, 0), Publish())
        yield Entry(_at(day, 9), Tend())


def _counters(plan: Plan, random: Random) -> Iterator[Entry]:
    for day in _days(plan.start + DAY, plan.end):
        if random.randint(1, 100) > plan.counter_days_of_100:
            continue
        yield Entry(_at(day, 11), Issue(random.randint(1, MOST_AT_A_COUNTER)))
        yield Entry(_at(day, 13), Renew())
        if random.randint(1, 100) <= REVOKED_OF_100:
            yield Entry(_at(day, 15, random.randint(0, 59)), Revoke(random.randint(1, 2)))


def _renewals(plan: Plan) -> Iterator[Entry]:
    for switch in plan.key_switches:
        yield Entry(_at(switch - plan.key_lead, 16), PrepareKey())
        yield Entry(_at(switch - DAY, 16), MakeDelegates())
        yield Entry(_at(switch, 16), SwitchKey())
        yield Entry(_at(switch + DAY, 12), CrossCertify())
        yield Entry(_at(switch + 2 * DAY, 12), RevokeReplaced())


def _emergency(plan: Plan) -> Iterator[Entry]:
    """In the night before the new key, the lists are signed by the compromised one: nothing else can."""
    if plan.compromise is not None:
        yield Entry(_at(plan.compromise, 14), Compromise())
        yield Entry(_at(plan.compromise + DAY, 14), ReplaceKey())
        yield Entry(_at(plan.compromise + 2 * DAY, 12), CrossCertify())


def _days(first: date, end: date) -> Iterator[date]:
    day = first
    while day < end:
        yield day
        day += DAY


def _at(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime.combine(day, time(hour, minute), JST)
