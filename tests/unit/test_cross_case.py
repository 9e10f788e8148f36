"""What may be done in a case of cross-certification, and by whom; which pairs are in force."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest

from issuer.errors import RefusedError
from issuer.rules.cross_case import (
    NEXT_STATE,
    Application,
    Case,
    Done,
    State,
    Step,
    Trigger,
    in_force,
    moved,
    superseded,
)
from issuer.rules.operation import Role
from pkix.revocation import CRLReason, Revoked
from tests.support.ca import NOW

ORDINARY = [
    (Step.EXAMINE, State.EXAMINED),
    (Step.APPROVE, State.APPROVED),
    (Step.TEST, State.TESTED),
    (Step.ISSUE, State.ISSUED),
    (Step.ACCEPT, State.ACCEPTED),
    (Step.GIVE_RECEIPT, State.RECEIPT_GIVEN),
    (Step.TAKE_RECEIPT, State.COMPLETED),
]


def case(
    state: State | None, number: int = 1, renews: int | None = None, persons: Mapping[str, str] = MappingProxyType({})
) -> Case:
    """A case in that state, after these persons acted in roles of theirs."""
    trigger = None if renews is None else Trigger.OURS_ENDS
    acted = [Done(Step.RECEIVE, State.RECEIVED, NOW, name, Role(role), {}) for role, name in persons.items()]
    last = [] if state is None else [Done(Step.RECEIVE, state, NOW, "受付", Role.RECEPTION, {})]
    return Case(number, Application("BCA", b"", None, renews, trigger), (*acted, *last))


def numbered(cases: Iterable[Case]) -> dict[int, Case]:
    return {each.case_id: each for each in cases}


@pytest.mark.req("R-4-7-1", "R-4-8-1", "R-4-10-1")
@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("state", [None, *State])
def test_a_step_comes_in_its_order_or_is_refused(state: State | None, step: Step) -> None:
    """Every pair: it leads where the table says, or the refusal says what is possible."""
    allowed = NEXT_STATE.get((state, step))
    if allowed is None:
        with pytest.raises(RefusedError, match=f"{step} is not possible now; possible: "):
            moved(case(state), step, "担当")
    else:
        assert moved(case(state), step, "担当")[0] is allowed


@pytest.mark.req("R-4-7-1", "R-4-8-1")
def test_the_ordinary_way_ends_with_both_receipts() -> None:
    """Nothing is issued before the connection test, nor completed before both receipts."""
    state: State | None = State.RECEIVED
    for step, after in ORDINARY:
        assert NEXT_STATE[state, step] is after
        state = after


@pytest.mark.req("R-4-8-1")
def test_receipts_may_come_in_either_order() -> None:
    """The other CA may be faster with its receipt than with its certificate."""
    state = State.ISSUED
    for step in (Step.TAKE_RECEIPT, Step.ACCEPT, Step.GIVE_RECEIPT):
        state = NEXT_STATE[state, step]
    assert state is State.COMPLETED


@pytest.mark.req("R-5-2-1-1")
@pytest.mark.parametrize(
    ("state", "step", "persons"),
    [
        (State.RECEIVED, Step.EXAMINE, {"reception": "山田 花子"}),
        (State.EXAMINED, Step.APPROVE, {"examiner": "山田 花子"}),
        (State.EXAMINED, Step.APPROVE, {"reception": "山田　花子"}),
        (State.TESTED, Step.ISSUE, {"approver": "山田花子"}),
        (State.RECEIVED, Step.REJECT, {"reception": "山田花子"}),
        (State.COMPLETED, Step.REVOKE, {"examiner": "山田花子"}),
    ],
)
def test_one_person_acts_in_one_role(state: State, step: Step, persons: dict[str, str]) -> None:
    """However the name is spaced."""
    with pytest.raises(RefusedError, match="another person has to do it"):
        moved(case(state, persons=persons), step, "山田 花子")


@pytest.mark.req("R-5-2-1-1")
def test_latin_names_are_compared_whatever_their_width_and_case() -> None:
    """As one person would write it twice."""
    with pytest.raises(RefusedError, match="another person"):
        moved(case(State.RECEIVED, persons={"reception": "ＹＡＭＡＤＡ Hanako"}), Step.EXAMINE, "yamada hanako")


@pytest.mark.parametrize("name", ["", " ", "　", "x" * 101])
def test_nobody_does_nothing(name: str) -> None:
    """A step has a person."""
    with pytest.raises(RefusedError, match="not a person's name"):
        moved(case(State.RECEIVED), Step.EXAMINE, name)


@pytest.mark.req("R-4-8-2", "R-4-9-1", "R-4-10-1")
def test_a_pair_is_in_force_until_it_is_replaced_or_revoked() -> None:
    """A renewal replaces it when it is completed, not before; and it stays replaced when the new one ends."""
    old, open_renewal = case(State.COMPLETED, 1), case(State.RECEIPT_GIVEN, 2, renews=1)
    assert in_force(numbered([old, open_renewal]), NOW) == [old]
    new = case(State.COMPLETED, 2, renews=1)
    assert in_force(numbered([old, new]), NOW) == [new]
    assert superseded(numbered([old, new]), NOW) == {1}
    revoked = replace(new, revoked=Revoked(NOW, CRLReason.CESSATION_OF_OPERATION))
    assert in_force(numbered([old, revoked]), NOW) == []
