"""What every connection reads and the store replaces: the publication and the rights in force."""

from dataclasses import dataclass, field

from repository.access import AccessTable
from repository.dit import DIT
from repository.snapshot import not_loaded


@dataclass(slots=True)
class Directory:
    """Both values are immutable and replaced whole; who needs one through several steps keeps it in a variable."""

    dit: DIT = field(default_factory=not_loaded)
    access: AccessTable | None = None  # None: not known yet
