"""Wrong passwords slow down and then lock out whoever guesses: one name from one host, and nobody else."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

_FREE_FAILURES: Final = 2  # somebody mistypes
_FIRST_PAUSE: Final = timedelta(seconds=1)  # after the next one; doubled with each further one
_MAX_PAIRS: Final = 10_000  # remembered; the oldest give way


@dataclass(slots=True)
class _Failures:
    number: int
    pause_ends_at: datetime


class FailedLogins:
    """The failures of each name from each host, forgotten once there was none for as long as a lockout lasts."""

    def __init__(self, *, lockout_failures: int, lockout: timedelta) -> None:
        self._lockout_failures = lockout_failures
        self._lockout = lockout
        self._failures: OrderedDict[tuple[bytes, str], _Failures] = OrderedDict()

    def pause_s(self, name_hash: bytes, host: str, now: datetime) -> int:
        """Seconds for which this name cannot log in from this host, whatever its password; 0: it can."""
        failures = self._failures.get((name_hash, host))
        return 0 if failures is None else max(0, ceil((failures.pause_ends_at - now).total_seconds()))

    def failed(self, name_hash: bytes, host: str, now: datetime) -> None:
        """A password was wrong, or the name is unknown."""
        failures = self._failures.pop((name_hash, host), None)
        if failures is None or now - failures.pause_ends_at > self._lockout:
            failures = _Failures(0, now)
        failures.number += 1
        failures.pause_ends_at = now + self._pause(failures.number)
        self._failures[name_hash, host] = failures
        if len(self._failures) > _MAX_PAIRS:
            self._failures.popitem(last=False)

    def succeeded(self, name_hash: bytes, host: str) -> None:
        """The password was right: nothing is held against this name at this host any more."""
        self._failures.pop((name_hash, host), None)

    def _pause(self, number: int) -> timedelta:
        if number >= self._lockout_failures:
            return self._lockout
        if number <= _FREE_FAILURES:
            return timedelta(0)
        return min(_FIRST_PAUSE * (1 << number - _FREE_FAILURES - 1), self._lockout)
