"""How current a standby is, as it can prove itself. Both servers may read from one.

Theory of operation. A standby that is cut off from its primary goes on to answer queries, from data that grows old; so
that no query fails says nothing. But with every message of the stream the primary tells where its WAL ends and what
time it is. As soon as the standby has replayed up to that end, it has everything that was committed before that time.
When the primary has nothing to tell, the standby asks it after half of its `wal_receiver_timeout` (30 s by default),
so one that is well can prove itself at least that often.

A standby of a standby proves that it has what the one before it has, and nothing more.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Replication:
    """A row of replication_v1: what a server says of itself. Positions in the WAL are numbers of octets."""

    in_recovery: bool  # it is a standby
    replayed: int | None
    primary_end: int | None  # of the primary's WAL, in the last message; None: no connection to it, or no right to know
    told_at: datetime | None  # when that message was sent


class Completeness:
    """Up to when the data behind one connection is complete. The next connection may lead to another server."""

    def __init__(self) -> None:
        self._proved: datetime | None = None
        self._awaited: tuple[int, datetime] | None = None  # on a busy primary the end is always a little ahead

    def until(self, state: Replication, now: datetime) -> datetime | None:
        """The moment up to which whatever is read after `state` was is complete.

        Returns:
            `now` for a primary; None as long as a standby has proved nothing.
        """
        if not state.in_recovery:
            return now
        for end, told_at in filter(None, (self._awaited, _told(state))):
            if state.replayed is not None and state.replayed >= end:
                self._proved, self._awaited = told_at, None
            elif self._awaited is None:
                self._awaited = end, told_at
        return self._proved


def _told(state: Replication) -> tuple[int, datetime] | None:
    if state.primary_end is None or state.told_at is None:
        return None
    return state.primary_end, state.told_at
