"""The life of a key of the CA: five years of use within ten of validity, and then the years of its last certificates.

    planned -> active -> retired         prepared, its certificates published; signs; another one signs in its place
    any -> compromised                   it signs nothing any more, and all that it signed is revoked
    any -> destroyed                     the private key is gone; its certificate still verifies what it signed

One key of a CA is active at a time, and a state never comes back (R-4-13-1, R-4-14-2, R-6-2-1-9).
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from issuer.errors import RefusedError


class State(StrEnum):
    """What a key is used for now."""

    PLANNED = "planned"
    ACTIVE = "active"
    RETIRED = "retired"
    COMPROMISED = "compromised"
    DESTROYED = "destroyed"


NEXT_STATES: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        State.PLANNED: frozenset({State.ACTIVE, State.COMPROMISED, State.DESTROYED}),
        State.ACTIVE: frozenset({State.RETIRED, State.COMPROMISED, State.DESTROYED}),
        State.RETIRED: frozenset({State.COMPROMISED, State.DESTROYED}),
        State.COMPROMISED: frozenset({State.DESTROYED}),
        State.DESTROYED: frozenset(),
    }
)


def require_move(before: State, after: State) -> None:
    """A key may go from the one state to the other.

    Raises:
        RefusedError: it may not.
    """
    if after not in NEXT_STATES[before]:
        raise RefusedError(f"a key of the CA that is {before} cannot become {after}; `prefca key list` shows all keys")
