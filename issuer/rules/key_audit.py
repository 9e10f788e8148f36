"""Uses of the CA's key beside the operations that were asked for and agreed to (R-4-11-1: 業務実施記録との照合).

Lists and residents' certificates are what the key is for, every day. Every other use belongs to an operation, which was
begun before the key was opened and had not ended then.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from issuer.rules.audit import EVENT, Event, Filter, Finding, Period

# Purposes that need no operation. Lists after a compromise are made also when it is gone on with (`--resume`).
DAILY: Final = frozenset({"lists", "certificates", "compromise", "rehearsal", "sample"})
WHOLE_SECOND: Final = timedelta(seconds=1)  # operations are dated in whole seconds, uses of keys are not
ENDS: Final = frozenset({"operation_done", "operation_failed", "operation_withdrawn"})
NEVER: Final = datetime.max.replace(tzinfo=UTC)
_WANTED: Final = (b'"kind":"key_opened"', b'"kind":"operation_')


@dataclass(frozen=True, slots=True)
class _Step:
    at: datetime
    kind: str
    origin: str
    about: str  # a key and its purpose, or an operation's number and kind


@dataclass(slots=True)
class KeySteps:
    """What records tell of keys and operations, also a little before and after the period."""

    period: Period
    wanted: Filter
    _steps: list[_Step] = field(default_factory=list)

    def add(self, line: bytes) -> None:
        """Keep a record, if it tells of either."""
        if line.startswith(_WANTED, EVENT):
            said = json.loads(line)
            at = datetime.fromisoformat(said["at"])
            self._steps.append(_Step(at, said["kind"], said["origin"], said["object"]))

    def findings(self) -> Iterator[Finding]:
        """Uses without an operation, and operations without an end."""
        spans = list(self._spans())
        for step in filter(self._takes, self._steps):
            is_daily = step.kind != "key_opened" or step.about.rpartition(" ")[2] in DAILY
            if not is_daily and not any(since.at <= step.at < until for since, until in spans):
                what = f"{step.about} at {step.at:%Y-%m-%dT%H:%M:%SZ}"
                yield Finding("key use without an operation", step.origin, 1, what)
        for since, until in spans:
            if until == NEVER and self._takes(since):
                yield Finding("operation without end", since.origin, 1, f"{since.about}; see whether it was done")

    def _takes(self, step: _Step) -> bool:
        begin, end = self.period.moments
        return begin <= step.at < end and self.wanted.takes(Event(step.kind, "done", "", step.origin))

    def _spans(self) -> Iterator[tuple[_Step, datetime]]:
        """Each time an operation was begun, and until when the key may have been opened for it."""
        ordered = sorted(self._steps, key=lambda step: step.at)
        for position, step in enumerate(ordered):
            if step.kind == "operation_begun":
                ends = (
                    later.at + WHOLE_SECOND
                    for later in ordered[position + 1 :]
                    if later.kind in ENDS and later.about == step.about
                )
                yield step, next(ends, NEVER)
