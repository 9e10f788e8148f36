"""What came of a simulation: what was seen of keys and certificates in all, and what did not hold."""

from dataclasses import dataclass, field
from datetime import datetime

from simulation.invariants import Broken, broken
from simulation.sight import Certificate, Key, Sight
from simulation.timetable import Entry, Plan, RareEvent


@dataclass(slots=True)
class History:
    """Filled sight by sight."""

    plan: Plan
    keys: dict[int, Key] = field(default_factory=dict)
    certificates: dict[int, Certificate] = field(default_factory=dict)  # as they were seen last
    active: dict[int, tuple[datetime, datetime]] = field(default_factory=dict)  # generation: first and last sight
    marks: list[Entry] = field(default_factory=list)
    sights: int = 0
    lists: int = 0  # that were looked at
    statuses: int = 0  # that the responder told
    broken: list[Broken] = field(default_factory=list)

    def mark(self, entry: Entry) -> None:
        """Keep what happens once in years."""
        if isinstance(entry.event, RareEvent):
            self.marks.append(entry)

    def see(self, before: Sight | None, now: Sight) -> None:
        """Check a sight, and keep what is of interest later."""
        self.broken += broken(before, now)
        self.keys.update(now.keys)
        self.certificates.update(now.certificates)
        for number, key in now.keys.items():
            if key.state == "active":
                first, _ = self.active.get(number, (now.at, now.at))
                self.active[number] = (first, now.at)
        self.sights += 1
        self.lists += len(now.lists)
        self.statuses += len(now.told)
