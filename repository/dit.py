"""The directory information tree: immutable, looked up by name.

A new publication makes a new tree; whoever began with the old one ends with it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from repository.codec import PartialAttribute, partial_attribute
from repository.errors import OperationError
from repository.messages import ResultCode, Scope
from repository.names import DistinguishedName, NameKey
from repository.schema import AttributeType

Attributes = Mapping[AttributeType, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One entry as the two kinds of readers see it (R-2-6-3-1, R-2-6-3-2)."""

    name: DistinguishedName
    public: Attributes  # what anybody may read
    complete: Attributes  # what a party with the right may read: the restricted values, too; `public` if there are none
    _encoded: dict[AttributeType, PartialAttribute] = field(default_factory=dict, repr=False)  # of `complete`

    def attributes(self, *, may_read_restricted: bool) -> Attributes:
        """The entry as far as it exists for a reader."""
        return self.complete if may_read_restricted else self.public

    def encoded(self, held: AttributeType, values: tuple[bytes, ...]) -> PartialAttribute:
        """How some values of an attribute are shown; all of them are encoded only once."""
        if values is not self.complete.get(held):
            return partial_attribute(held.description, values)
        found = self._encoded.get(held)
        if found is None:
            found = self._encoded[held] = partial_attribute(held.description, values)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class DIT:
    """All entries, with the two that describe the server itself (RFC 4512, sections 4.2 and 5.1)."""

    entries: Mapping[NameKey, Entry]
    children: Mapping[NameKey, tuple[Entry, ...]]
    server_entries: Mapping[NameKey, Entry]  # the root DSE and the subschema: read by base search only
    is_loaded: bool  # False: what is published is not known yet

    @classmethod
    def of(cls, entries: Iterable[Entry], server_entries: Iterable[Entry], *, is_loaded: bool = True) -> Self:
        """Index entries; of every entry but the topmost its parent is among them."""
        by_name = {entry.name.key: entry for entry in entries}
        children: dict[NameKey, list[Entry]] = defaultdict(list)
        for key, entry in by_name.items():
            children[key[1:]].append(entry)
        return cls(
            entries=by_name,
            children={key: tuple(below) for key, below in children.items()},
            server_entries={entry.name.key: entry for entry in server_entries},
            is_loaded=is_loaded,
        )

    def find(self, key: NameKey) -> Entry:
        """The entry of this name.

        Raises:
            OperationError: noSuchObject with the nearest entry above, or unavailable.
        """
        found = self.server_entries.get(key) or self.entries.get(key)
        if found is not None:
            return found
        self._require_loaded()
        raise OperationError(ResultCode.NO_SUCH_OBJECT, "", self._above(key))

    def _above(self, key: NameKey) -> str:
        """The name of the nearest entry above; looked for from the top, for a peer may make up a name of any depth."""
        nearest = ""
        for i in range(len(key) - 1, 0, -1):
            entry = self.entries.get(key[i:])
            if entry is None:
                break
            nearest = entry.name.text
        return nearest

    def scope(self, base: Entry, scope: Scope) -> Iterator[Entry]:
        """The entries that a search looks at (RFC 4511, section 4.5.1.2).

        The root DSE is read by base search only (RFC 4512, section 5.1); with another scope its name means the top.

        Raises:
            OperationError: unavailable.
        """
        key = base.name.key
        match scope:
            case Scope.BASE_OBJECT:
                yield base
            case Scope.SINGLE_LEVEL:
                self._require_loaded()
                yield from self.children.get(key, ())
            case Scope.WHOLE_SUBTREE:
                self._require_loaded()
                yield from self._subtree(key)

    def _subtree(self, top: NameKey) -> Iterator[Entry]:
        pending = [self.entries[top]] if top in self.entries else list(reversed(self.children.get(top, ())))
        while pending:
            entry = pending.pop()
            yield entry
            pending += reversed(self.children.get(entry.name.key, ()))

    def _require_loaded(self) -> None:
        if not self.is_loaded:
            raise OperationError(ResultCode.UNAVAILABLE, "the directory is not loaded yet; try again soon")
