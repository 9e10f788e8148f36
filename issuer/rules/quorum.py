"""Do these persons make up a quorum? Each counts once, in one of the roles that they hold (R-5-2-1-1, R-5-2-2-1)."""

from collections import Counter
from collections.abc import Collection, Mapping

from issuer.rules.operation import QUORUM, OperationKind, Role


def missing(quorum: Mapping[Role, int], persons: Mapping[str, Collection[Role]]) -> Counter[Role]:
    """How many more persons of which roles are needed.

    Who holds several roles takes the place where they help most: the persons are matched with the places, the largest
    number of them (augmenting paths).

    Args:
        quorum: how many of each role.
        persons: the roles in which each agreed.

    Returns:
        Nothing, if they are enough.
    """
    places = [role for role, count in quorum.items() for _ in range(count)]
    taken: dict[int, str] = {}

    def seated(person: str, tried: set[int]) -> bool:
        for number, role in enumerate(places):
            if role in persons[person] and number not in tried:
                tried.add(number)
                if number not in taken or seated(taken[number], tried):
                    taken[number] = person
                    return True
        return False

    for person in persons:
        seated(person, set())
    return Counter(role for number, role in enumerate(places) if number not in taken)


def unreachable(persons: Mapping[str, Collection[Role]]) -> dict[OperationKind, Counter[Role]]:
    """Which kinds of operations all of them together cannot agree to, and who is missing."""
    lacks = {kind: missing(quorum, persons) for kind, quorum in QUORUM.items()}
    return {kind: roles for kind, roles in lacks.items() if roles}


def text(roles: Mapping[Role, int]) -> str:
    """For people: `2 key-manager, 1 manager`."""
    return ", ".join(f"{count} {role}" for role, count in roles.items())
