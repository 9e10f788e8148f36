"""Answers that were signed already, kept for whoever asks the same octets again.

Theory of operation. A kept answer must say what a fresh one would. Therefore: whatever the change feed tells of a
serial number drops the answers that speak of it, and new keys or delegates drop everything; an answer that was being
made meanwhile is not kept (its `ticket` is out of date); without word from the feed for `max_staleness_s`, nothing
kept is given. `unknown` is never kept, for no change is recorded when a certificate is issued.

An answer is given out again for half of its validity, so that its receiver always has the other half to use it; while
the statuses cannot be read, until its end.

The key is the question as received: the body of a POST, or the request line of a GET. Who may be told is no part of
it: the octets of an answer are the same for everybody, and each caller's rights are looked at when he asks.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from ocsp.reply import Reply
from ocsp.status import SingleResponse

ENTRY_OVERHEAD_BYTES: Final = 1500  # objects around an answer and its question, measured


class AnswerCache:
    """The kept answers, as many as fit."""

    def __init__(self, max_bytes: int, max_staleness_s: float) -> None:
        self._max_bytes = max_bytes
        self._max_staleness_s = max_staleness_s
        # Oldest first: those end first, too. Not a dict, which would look for the oldest where all that are gone were.
        self._replies: OrderedDict[bytes, Reply] = OrderedDict()
        self._questions: dict[int, set[bytes]] = {}  # by serial number
        self.trusted_until = 0.0  # when all changes will not have been heard of for too long
        self.size_bytes = 0
        self.ticket = 0  # changes whenever something may have become wrong

    def __len__(self) -> int:
        return len(self._replies)

    def fresh(self, question: bytes, now: float) -> Reply | None:
        """The answer to `question`, if a new one would not be better."""
        kept = self._replies.get(question)
        return kept if kept is not None and now < kept.fresh_until and now < self.trusted_until else None

    def valid(self, question: bytes, now: float) -> Reply | None:
        """The answer to `question`, if it still holds: for when no new one can be made."""
        kept = self._replies.get(question)
        return kept if kept is not None and now < kept.valid_until and now < self.trusted_until else None

    def keep(self, question: bytes, kept: Reply, ticket: int) -> None:
        """Keep an answer, and as many of the others as fit.

        Args:
            question: the body of a POST, or the request line of a GET.
            kept: its answer.
            ticket: what `self.ticket` was before the statuses in it were read.
        """
        size = _size_bytes(question, kept)
        if ticket != self.ticket or size > self._max_bytes:
            return
        self._drop(question)
        while self.size_bytes + size > self._max_bytes:
            self._drop(next(iter(self._replies)))
        self._replies[question] = kept
        self.size_bytes += size
        for serial in _serials(kept):
            self._questions.setdefault(serial, set()).add(question)

    def forget(self, serials: Iterable[int]) -> None:
        """Drop what speaks of `serials`: they were revoked."""
        self.ticket += 1
        for serial in serials:
            for question in tuple(self._questions.get(serial, ())):
                self._drop(question)

    def clear(self) -> None:
        """Drop everything: delegates have changed."""
        self.ticket += 1
        self._replies.clear()
        self._questions.clear()
        self.size_bytes = 0

    def confirm(self, at: float) -> None:
        """All changes up to the moment `at` have been heard of."""
        self.trusted_until = at + self._max_staleness_s

    def _drop(self, question: bytes) -> None:
        kept = self._replies.pop(question, None)
        if kept is None:
            return
        self.size_bytes -= _size_bytes(question, kept)
        for serial in _serials(kept):
            questions = self._questions[serial]
            questions.discard(question)
            if not questions:
                del self._questions[serial]


def _serials(kept: Reply) -> set[int]:
    return {single.cert_id.serial_number for single in _singles(kept)}


def _size_bytes(question: bytes, kept: Reply) -> int:
    return len(question) + len(kept.octets) + ENTRY_OVERHEAD_BYTES * len(_singles(kept))


def _singles(kept: Reply) -> Sequence[SingleResponse]:
    return () if kept.answer is None else kept.answer.singles
