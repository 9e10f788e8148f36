"""What every connection reads and the store replaces: the publication and the rights in force."""

from datetime import datetime
from typing import Final

from repository.access import AccessTable
from repository.cache import AnswerCache
from repository.dit import DIT
from repository.snapshot import not_loaded

DEFAULT_CACHE_BYTES: Final = 33_554_432
GREETINGS_BYTES: Final = 65_536


class Directory:
    """All values are replaced whole; who needs one through several steps keeps it in a variable."""

    def __init__(
        self, dit: DIT | None = None, access: AccessTable | None = None, cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        self.generation = 0  # rises with every change of the publication and of rights
        self.access = access
        self.next_update: datetime | None = None  # when the first of the lists in force is out of date
        self.is_refused = False  # what is published is damaged, so an older publication is served
        self._cache_bytes = cache_bytes
        self.greetings = AnswerCache(GREETINGS_BYTES)  # to anonymous binds: they are the same for ever
        self.dit = not_loaded() if dit is None else dit

    @property
    def access(self) -> AccessTable | None:
        """The rights in force; None: not known yet."""
        return self._access

    @access.setter
    def access(self, access: AccessTable | None) -> None:
        self._access = access
        self.generation += 1

    @property
    def dit(self) -> DIT:
        """The publication in force."""
        return self._dit

    @dit.setter
    def dit(self, dit: DIT) -> None:
        self._dit = dit
        # Answers that are ready are of the old publication: they go with it.
        self._answers = AnswerCache(self._cache_bytes), AnswerCache(self._cache_bytes)
        self.generation += 1

    def answers(self, *, may_read_restricted: bool) -> AnswerCache:
        """The ready answers for readers with the right, or for those without it."""
        return self._answers[may_read_restricted]
