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

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ocsp.response import Answer

ENTRY_OVERHEAD_BYTES: Final = 1500  # objects around an answer and its question, measured


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as it goes out, except for the date. Moments are seconds since the epoch."""

    answer: Answer
    before_date: bytes  # the head of the HTTP response, until "Date: "
    records: tuple[tuple[bytes, bytes], ...]  # for each certificate asked about: fragments of its record
    results: tuple[str, ...]  # and their statuses
    fresh_until: float
    valid_until: float
    public: bool


class AnswerCache:
    """The kept answers, as many as fit."""

    def __init__(self, max_bytes: int, max_staleness_s: float) -> None:
        self._max_bytes = max_bytes
        self._max_staleness_s = max_staleness_s
        self._answers: dict[bytes, KeptAnswer] = {}  # oldest first: those end first, too
        self._questions: dict[int, set[bytes]] = {}  # by serial number
        self._trusted_until = 0.0
        self.size_bytes = 0
        self.ticket = 0  # changes whenever something may have become wrong

    def __len__(self) -> int:
        return len(self._answers)

    def fresh(self, question: bytes, now: float) -> KeptAnswer | None:
        """The answer to `question`, if a new one would not be better."""
        kept = self._answers.get(question)
        return kept if kept is not None and now < kept.fresh_until and now < self._trusted_until else None

    def valid(self, question: bytes, now: float) -> KeptAnswer | None:
        """The answer to `question`, if it still holds: for when no new one can be made."""
        kept = self._answers.get(question)
        return kept if kept is not None and now < kept.valid_until and now < self._trusted_until else None

    def keep(self, question: bytes, kept: KeptAnswer, ticket: int) -> None:
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
            self._drop(next(iter(self._answers)))
        self._answers[question] = kept
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
        self._answers.clear()
        self._questions.clear()
        self.size_bytes = 0

    def confirm(self, at: float) -> None:
        """All changes up to the moment `at` have been heard of."""
        self._trusted_until = at + self._max_staleness_s

    def _drop(self, question: bytes) -> None:
        kept = self._answers.pop(question, None)
        if kept is None:
            return
        self.size_bytes -= _size_bytes(question, kept)
        for serial in _serials(kept):
            questions = self._questions[serial]
            questions.discard(question)
            if not questions:
                del self._questions[serial]


def _serials(kept: KeptAnswer) -> set[int]:
    return {single.cert_id.serial_number for single in kept.answer.singles}


def _size_bytes(question: bytes, kept: KeptAnswer) -> int:
    singles = len(kept.answer.singles)
    return len(question) + len(kept.before_date) + len(kept.answer.der) + ENTRY_OVERHEAD_BYTES * singles
