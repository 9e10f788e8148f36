"""How much one peer may take: requests a second, connections. All of it counts in one process."""

from collections import Counter
from typing import Final

from ocsp.access import Caller
from settings.peer import host

MAX_KEYS: Final = 100_000  # of one limit: about 20 MB


class RateLimit:
    """So many requests a second for each key in the long run, and a second's worth of them (at least one) at once.

    Kept for each key is the time at which its next request would be due if they came evenly.
    """

    def __init__(self, per_s: float) -> None:
        self._interval_s = 1 / per_s
        self._ahead_s = max(1.0, self._interval_s)
        self._due: dict[str, float] = {}  # the key that was silent for longest first

    def admits(self, key: str, at: float) -> bool:
        """May a request be answered, and count it if so.

        Args:
            key: whose request.
            at: seconds on any clock; one that is set back forgives.
        """
        due = self._due.pop(key, at)
        if not at <= due <= at + self._ahead_s:
            due = at
        admitted = due + self._interval_s <= at + self._ahead_s
        self._due[key] = due + self._interval_s if admitted else due
        if len(self._due) > MAX_KEYS:
            del self._due[next(iter(self._due))]
        return admitted


class RateLimits:
    """The limits of an address and of a relying party, either of which may be off."""

    def __init__(self, address_per_s: float | None, party_per_s: float | None) -> None:
        self._address = RateLimit(address_per_s) if address_per_s else None
        self._party = RateLimit(party_per_s) if party_per_s else None

    def admits_address(self, origin: str, at: float) -> bool:
        """May a request from there be answered?"""
        return self._address is None or self._address.admits(host(origin), at)

    def admits_party(self, caller: Caller, at: float) -> bool:
        """May a request of that party be answered? Those of nobody we know are limited by their address only."""
        return self._party is None or caller.party is None or self._party.admits(caller.party, at)


class ConnectionLimit:
    """So many connections at a time, in all and from one address."""

    def __init__(self, total: int, per_address: int | None) -> None:
        self._total = total
        self._per_address = per_address or total
        self._open: Counter[str] = Counter()
        self._open_in_all = 0

    def take(self, origin: str) -> bool:
        """May there be one more? It counts until it is given back."""
        key = host(origin)
        if self._open_in_all >= self._total or self._open[key] >= self._per_address:
            return False
        self._open_in_all += 1
        self._open[key] += 1
        return True

    def give_back(self, origin: str) -> None:
        """A connection that was taken has ended."""
        key = host(origin)
        self._open_in_all -= 1
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]
