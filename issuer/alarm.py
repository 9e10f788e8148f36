"""What somebody has to look at before relying parties notice: lists are late, long before they end (R-4-4-10)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from issuer.records.rows import Publication
from issuer.schedule import Schedule, is_of_the_future
from pkix.validity import zulu

NAMES: Final = (  # of one CA; those of the installation are `issuer.watch.collector.NAMES`
    *("database_away", "clock_behind", "late", "expiring", "expired"),
    *("ocsp_delegate_ending", "ocsp_delegate_gap", "no_ocsp_delegate"),  # issuer.servers.delegate
    *("ca_key_ending", "ca_key_switch_due", "ca_key_ended", "ca_key_unpublished", "ca_certificate_ending"),  # ca_key
    *("key_not_activated", "activation_ending", "pin_in_file"),  # issuer.operations.activation
    *("cross_certificate_ending", "cross_certificate_changed", "cross_certificate_superseded"),  # cross_renewal
    "cvs_certificate_ending",  # issuer.servers.operations_certificate
    *("ca_key_compromised", "compromise_unfinished"),  # issuer.recovery.compromise
    "ca_key_away",  # issuer.signing.key_probe
)
REMIND_EVERY: Final = timedelta(hours=1)


class NotToldError(Exception):
    """An alarm could not be sent."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is wrong."""

    name: str
    message: str  # one line: what is wrong, and what to do

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of one CA."""

    at: datetime  # when the database answered last; before it ever did, when we began to ask
    has_answered: bool = True
    in_force: Publication | None = None
    in_time: Publication | None = None  # the newest that no clock that was ahead has dated: mostly the one in force
    failure: str | None = None  # why the last batch failed
    obstacle: str = "see that it runs"  # why the database cannot be used now

    @property
    def advice(self) -> str:
        """What to do about late lists."""
        if self.failure is None:
            return "see that `prefca scheduler` runs, or run `prefca batch --now`"
        return f"the last batch failed: {self.failure}"


def alarms(schedule: Schedule, sight: Sight, now: datetime) -> list[Alarm]:
    """All alarms that stand, the worst last.

    late            a regular list is missing for longer than `schedule.alarm_after_min`
    expiring        and half of the time from then to nextUpdate has passed: at +48 h, with the dates of the rule
    expired         nextUpdate has passed: relying parties reject the lists
    clock_behind    the lists in force are of the future
    database_away   nothing could be seen for longer than `schedule.alarm_after_min`
    """
    found = []
    if now - sight.at > schedule.alarm_after:
        found.append(Alarm("database_away", f"PostgreSQL has told nothing since {zulu(sight.at)}; {sight.obstacle}"))
    if not sight.has_answered:
        return found
    if sight.in_force is None:
        return [*found, Alarm("late", f"nothing was ever published; {sight.advice}")]
    if is_of_the_future(sight.in_force, now):
        dated = zulu(sight.in_force.window.this_update)
        advice = "set the clock of this machine; if another one was ahead, `prefca batch --now --clock-was-ahead`"
        found.append(Alarm("clock_behind", f"the lists in force are dated {dated}; {advice}"))
    return [*found, *_late(schedule, sight.in_time or sight.in_force, sight.advice, now)]


def _late(schedule: Schedule, in_force: Publication, advice: str, now: datetime) -> list[Alarm]:
    due, end = schedule.overdue_since(in_force), in_force.window.next_update
    steps = (
        ("late", due + schedule.alarm_after, f"new lists were due at {zulu(due)}; {advice}"),
        ("expiring", due + (end - due) / 2, f"the lists in force end at {zulu(end)}; {advice}"),
        ("expired", end, f"relying parties reject the lists since {zulu(end)}; {advice}"),
    )
    return [Alarm(name, message) for name, begin, message in steps if now >= begin]


class Channel:
    """One way to tell people: at every change, and again each hour while something is wrong."""

    def __init__(self, send: Callable[[Sequence[Alarm]], Awaitable[None]]) -> None:
        """Make one.

        Args:
            send: tells which alarms stand, none when all is well again; or raises NotToldError.
        """
        self._send = send
        self._told: frozenset[str] = frozenset()
        self._told_at: datetime | None = None

    async def tell(self, standing: Sequence[Alarm], now: datetime) -> None:
        """Send what is news.

        Raises:
            NotToldError: it was not sent, and is still news the next time.
        """
        names = frozenset(alarm.name for alarm in standing)
        if names != self._told or (names and self._is_time_to_remind(now)):
            await self._send(standing)
            self._told, self._told_at = names, now

    def _is_time_to_remind(self, now: datetime) -> bool:
        return self._told_at is None or abs(now - self._told_at) >= REMIND_EVERY
