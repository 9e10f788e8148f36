"""A case of cross-certification with the bridge (個人認証BCA): what happened in it, and what may come next.

    received -> examined -> approved -> tested -> issued          their request, up to our certificate for them
    issued: their certificate for us is accepted, our receipt is given; theirs for ours is taken, before or after
    both receipts -> completed                                    the pair goes to the repository (R-4-8-1, R-4-8-2)
    received … tested -> rejected;  issued … completed -> ended   our certificate is revoked (R-4-10-1)

The rule has it in 4-6 to 4-10. A step that is done is final. One person acts in one role of a case, so that no one
examines what he received, approves what he examined, or issues what he approved (5-2-1-1).
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cryptography import x509

from issuer.errors import RefusedError
from issuer.rules.operation import Role
from pkix.revocation import Revoked

MAX_NAME_CHARACTERS: Final = 100


class State(StrEnum):
    """How far a case is."""

    RECEIVED = "received"  # 受付
    EXAMINED = "examined"  # 審査
    APPROVED = "approved"  # 承認
    TESTED = "tested"  # 接続テスト完了
    ISSUED = "issued"  # 発行
    ACCEPTED = "accepted"  # 受入れ
    RECEIPT_GIVEN = "receipt-given"
    RECEIPT_TAKEN = "receipt-taken"
    ACCEPTED_RECEIPT_TAKEN = "accepted-receipt-taken"
    COMPLETED = "completed"  # 相互の受入れ完了
    REJECTED = "rejected"
    ENDED = "ended"


class Step(StrEnum):
    """What is done in a case."""

    RECEIVE = "receive"
    EXAMINE = "examine"
    APPROVE = "approve"
    TEST = "test"
    FAIL_TEST = "fail-test"
    ISSUE = "issue"
    ACCEPT = "accept"
    GIVE_RECEIPT = "give-receipt"
    TAKE_RECEIPT = "take-receipt"
    REJECT = "reject"
    REVOKE = "revoke"


class Trigger(StrEnum):
    """Why a pair is renewed (R-4-9-1)."""

    THEIRS_ENDS = "theirs-ends"  # (1) the certificate from the bridge
    OURS_ENDS = "ours-ends"  # (2) the certificate for the bridge
    THEIRS_CHANGES = "theirs-changes"  # (3)
    OURS_CHANGES = "ours-changes"  # (4)


_ISSUED_ON: Final = (
    *(State.ISSUED, State.ACCEPTED, State.RECEIPT_GIVEN, State.RECEIPT_TAKEN, State.ACCEPTED_RECEIPT_TAKEN),
    State.COMPLETED,
)
NEXT_STATE: Final[Mapping[tuple[State | None, Step], State]] = MappingProxyType(
    {
        (None, Step.RECEIVE): State.RECEIVED,
        (State.RECEIVED, Step.EXAMINE): State.EXAMINED,
        (State.EXAMINED, Step.APPROVE): State.APPROVED,
        (State.APPROVED, Step.FAIL_TEST): State.APPROVED,
        (State.APPROVED, Step.TEST): State.TESTED,
        (State.TESTED, Step.ISSUE): State.ISSUED,
        (State.ISSUED, Step.ACCEPT): State.ACCEPTED,
        (State.ACCEPTED, Step.GIVE_RECEIPT): State.RECEIPT_GIVEN,
        (State.RECEIPT_GIVEN, Step.TAKE_RECEIPT): State.COMPLETED,
        (State.ISSUED, Step.TAKE_RECEIPT): State.RECEIPT_TAKEN,
        (State.ACCEPTED, Step.TAKE_RECEIPT): State.ACCEPTED_RECEIPT_TAKEN,
        (State.RECEIPT_TAKEN, Step.ACCEPT): State.ACCEPTED_RECEIPT_TAKEN,
        (State.ACCEPTED_RECEIPT_TAKEN, Step.GIVE_RECEIPT): State.COMPLETED,
        **{
            (state, Step.REJECT): State.REJECTED
            for state in (State.RECEIVED, State.EXAMINED, State.APPROVED, State.TESTED)
        },
        **{(state, Step.REVOKE): State.ENDED for state in _ISSUED_ON},
    }
)
_ROLES: Final = {
    Step.RECEIVE: Role.RECEPTION,
    Step.EXAMINE: Role.EXAMINER,
    Step.APPROVE: Role.APPROVER,
    Step.TEST: Role.SENIOR_OPERATOR,
    Step.FAIL_TEST: Role.SENIOR_OPERATOR,
    Step.ISSUE: Role.SENIOR_OPERATOR,
    Step.ACCEPT: Role.SENIOR_OPERATOR,
    Step.GIVE_RECEIPT: Role.RECEPTION,  # 個人認証BCAとの連絡調整
    Step.TAKE_RECEIPT: Role.RECEPTION,
    Step.REJECT: Role.APPROVER,
    Step.REVOKE: Role.SENIOR_OPERATOR,
}


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was done."""

    step: Step
    state: State  # after it
    at: datetime
    person: str
    role: Role
    detail: Mapping[str, str | int | None]


@dataclass(frozen=True, slots=True)
class Application:
    """What a case is about."""

    partner: str  # the other CA's name, for people
    request: bytes  # its CertificationRequest, DER
    policy: str | None  # its own that is equivalent to ours; None: it uses ours
    renews: int | None = None  # the case whose pair is replaced
    trigger: Trigger | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A case with everything that was done in it."""

    case_id: int
    application: Application
    done: tuple[Done, ...]
    ours: bytes | None = None  # issuedByThisCA, DER
    theirs: bytes | None = None  # issuedToThisCA, DER
    revoked: Revoked | None = None  # ours

    @property
    def state(self) -> State | None:
        """How far it is; None: nothing was done yet."""
        return self.done[-1].state if self.done else None

    @property
    def is_mutual(self) -> bool:
        """Was it completed, and is our certificate not revoked since?"""
        return self.state is State.COMPLETED and self.revoked is None

    def last(self, step: Step) -> Done | None:
        """When the step was done last."""
        return next((each for each in reversed(self.done) if each.step is step), None)


def role_of(step: Step, state: State | None) -> Role:
    """In which role the step is done; the examiner, too, may reject."""
    return Role.EXAMINER if (state, step) == (State.RECEIVED, Step.REJECT) else _ROLES[step]


def moved(case: Case, step: Step, person: str) -> tuple[State, Role]:
    """Where the step leads, and in which role the person does it. Nothing else decides what may be done in a case.

    Raises:
        RefusedError: the step is not one that comes now, our certificate is revoked, or the person acts in another role
            of this case.
    """
    after = NEXT_STATE.get((case.state, step))
    if after is None:
        possible = ", ".join(each for state, each in NEXT_STATE if state is case.state) or "nothing"
        raise RefusedError(f"case {case.case_id} is {case.state}: {step} is not possible now; possible: {possible}")
    if case.revoked is not None and step is not Step.REVOKE:
        raise RefusedError(
            f"our certificate of case {case.case_id} is revoked; end the case with `prefca cross revoke`"
        )
    role, name = role_of(step, case.state), same_person(person)
    for each in case.done:
        if each.role is not role and same_person(each.person) == name:
            raise RefusedError(
                f"{each.person} was {each.role} of case {case.case_id} ({each.step}) and cannot be its {role};"
                " another person has to do it"
            )
    return after, role


def same_person(name: str) -> str:
    """A name as it is compared: whatever its width, case and spaces.

    Raises:
        RefusedError: it is empty or too long.
    """
    folded = "".join(unicodedata.normalize("NFKC", name).casefold().split())
    if not folded or len(name) > MAX_NAME_CHARACTERS:
        raise RefusedError(f"{name[:20]!r} is not a person's name; give --by the name of who does it")
    return folded


def renewed(cases: Mapping[int, Case]) -> dict[int, Case]:
    """The completed cases by the numbers of those whose pair they renew (R-4-9-1)."""
    completed = (case for case in cases.values() if any(each.state is State.COMPLETED for each in case.done))
    return {case.application.renews: case for case in completed if case.application.renews is not None}


def superseded(cases: Mapping[int, Case], now: datetime) -> set[int]:
    """The numbers of cases whose pair another one has replaced, which nobody needs any more.

    A pair that is valid from a later day on replaces nothing before: until then paths lead through the old one.
    """
    return {number for number, case in renewed(cases).items() if _has_begun(case, now)}


def _has_begun(case: Case, now: datetime) -> bool:
    """Are both halves valid, or were they before ours was revoked?"""
    halves = (x509.load_der_x509_certificate(each) for each in (case.ours, case.theirs) if each is not None)
    until = now if case.revoked is None else min(now, case.revoked.at)
    return all(each.not_valid_before_utc <= until for each in halves)


def in_force(cases: Mapping[int, Case], now: datetime) -> list[Case]:
    """The cases whose pair is shown in the repository (R-4-8-2)."""
    replaced = superseded(cases, now)
    return [case for case in cases.values() if case.is_mutual and case.case_id not in replaced]
