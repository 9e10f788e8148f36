"""What every connection reads and the store replaces: the publication and the rights in force."""

from datetime import datetime
from typing import Final

from repository.access import AccessTable
from repository.cache import AnswerCache
from repository.dit import DIT
from repository.snapshot import not_loaded

DEFAULT_CACHE_BYTES: Final = 33_554_432


class Directory:
    """All values are replaced whole; who needs one through several steps keeps it in a variable."""

    def __init__(
        self, dit: DIT | None = None, access: AccessTable | None = None, cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        self.access = access  # None: not known yet
        self.next_update: datetime | None = None  # when the first of the lists in force is out of date
        self._cache_bytes = cache_bytes
        self.dit = not_loaded() if dit is None else dit

    @property
    def dit(self) -> DIT:
        """The publication in force."""
        return self._dit

    @dit.setter
    def dit(self, dit: DIT) -> None:
        self._dit = dit
        # Answers that are ready are of the old publication: they go with it.
        self._answers = AnswerCache(self._cache_bytes), AnswerCache(self._cache_bytes)

    def answers(self, *, may_read_restricted: bool) -> AnswerCache:
        """The ready answers for readers with the right, or for those without it."""
        return self._answers[may_read_restricted]
