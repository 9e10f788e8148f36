"""What the records of a segment add up to: so many items of each kind for each relying party and day.

A segment may hold two million records, a month a hundred million. So records are counted by their octets: what two
of them have in common up to the address is read as JSON once.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Final

from pkix.validity import JST

_RECORD: Final = re.compile(
    rb'\{"at":"(?P<hour>[0-9-]{10}T[0-9]{2})[^"]{11}",'
    rb'(?P<event>"kind":"[^"\\]*","result":"[^"\\]*","party":(?:null|"[^"\\]*")),'
    rb'.*?"object":"(?:[^"\\]|\\.)*?(?P<attribute>(?<= )[A-Za-z]+List)?","size":(?P<size>[0-9]+)',
)


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """What is counted. Stored: a key of table usage."""

    day: date  # in Japan
    kind: str
    result: str
    attribute: str  # of a list that was given out: certificateRevocationList; else empty
    party: str  # empty: anonymous


@dataclass(slots=True)
class Amount:
    """How much of it."""

    items: int = 0
    octets: int = 0


class UsageCounter:
    """Counts records, line by line."""

    def __init__(self) -> None:
        self._amounts: dict[tuple[bytes, ...], Amount] = {}

    def add(self, line: bytes) -> None:
        """Count a record; one of another form counts for nothing here."""
        matched = _RECORD.match(line)
        if matched is None:
            return
        hour, event, attribute, size = matched.groups()
        key = (hour, event, attribute or b"")
        amount = self._amounts.get(key)
        if amount is None:
            amount = self._amounts[key] = Amount()
        amount.items += 1
        amount.octets += int(size)

    def totals(self) -> dict[Use, Amount]:
        """All that was counted."""
        totals: dict[Use, Amount] = {}
        for (hour, event, attribute), amount in self._amounts.items():
            total = totals.setdefault(_use(hour, event, attribute), Amount())
            total.items += amount.items
            total.octets += amount.octets
        return totals


def count(lines: Iterable[bytes]) -> dict[Use, Amount]:
    """What some records add up to."""
    counter = UsageCounter()
    for line in lines:
        counter.add(line)
    return counter.totals()


@lru_cache(maxsize=1024)
def _use(hour: bytes, event: bytes, attribute: bytes) -> Use:
    begin = datetime.fromisoformat(f"{hour.decode()}:00:00+00:00")
    common = json.loads(b"{%b}" % event)
    return Use(
        begin.astimezone(JST).date(), common["kind"], common["result"], attribute.decode(), common["party"] or ""
    )
