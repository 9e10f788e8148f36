"""Was an operation agreed to, and may it be done now? Judged of what is recorded; anybody can judge it again later."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from issuer.errors import RefusedError
from issuer.records.operation_store import Approval, OperationRow
from issuer.rules.operation import QUORUM, REPEATABLE, OperationKind, Role
from issuer.rules.person import Operator
from issuer.rules.quorum import missing, text
from issuer.rules.request import Place, Request, digest, parse
from pkix.signing import verify


class State(StrEnum):
    """How far an operation is."""

    REQUESTED = "requested"
    EXPIRED = "expired"
    BEGUN = "begun"
    FAILED = "failed"
    DONE = "done"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Case:
    """An operation with the persons who may have agreed."""

    row: OperationRow
    request: Request
    operators: Mapping[int, Operator]

    @property
    def name(self) -> str:
        """How people call it."""
        return f"operation {self.request.number} ({self.request.kind})"

    @property
    def is_done(self) -> bool:
        """Whether it was, which stays so."""
        return bool(self.row.events) and self.row.events[-1].event == "done"

    def state(self, now: datetime) -> State:
        """How far it is."""
        if self.row.events and self.row.events[-1].event != "failed":
            return State(self.row.events[-1].event)
        if now > self.request.expires_at:
            return State.EXPIRED
        return State.FAILED if self.row.events else State.REQUESTED


def opened_case(row: OperationRow, operators: Iterable[Operator]) -> Case:
    """An operation as it was recorded.

    Raises:
        RefusedError: its content was changed.
    """
    try:
        request = parse(row.content)
    except RefusedError as e:
        raise RefusedError(f"operation {row.number}: {e}") from e
    if digest(row.content) != row.sha256.hex() or request.number != row.number:
        raise RefusedError(f"operation {row.number}: the content was changed after it was asked for; ask for it anew")
    return Case(row, request, {one.operator_id: one for one in operators})


def require_open(case: Case, now: datetime) -> None:
    """People may still agree to it, or do it.

    Raises:
        RefusedError: it was done, begun, withdrawn, or its time has passed.
    """
    match case.state(now):
        case State.DONE:
            raise RefusedError(f"{case.name} was done already; ask for another one")
        case State.WITHDRAWN:
            raise RefusedError(f"{case.name} was withdrawn; ask for another one")
        case State.EXPIRED:
            raise RefusedError(f"{case.name} expired at {case.request.expires_at:%Y-%m-%dT%H:%M:%SZ}; ask for it anew")
        case State.BEGUN if case.request.kind not in REPEATABLE:
            began = case.row.events[-1]
            raise RefusedError(
                f"{case.name} was begun at {began.at:%Y-%m-%dT%H:%M:%SZ} by {began.origin}, and its end is not known;"
                " look whether it was done (`prefca status`, `prefca journal search`), then withdraw it, and ask for it"
                " anew if it was not"
            )
        case State.BEGUN if now > case.request.expires_at:  # else who stops it could keep it for whenever they like
            raise RefusedError(
                f"{case.name} was begun, and expired at {case.request.expires_at:%Y-%m-%dT%H:%M:%SZ}; withdraw it, and"
                " ask for it anew"
            )
        case _:
            return


def require_place(case: Case, place: Place) -> None:
    """It is about this CA, with the key that it has now.

    Raises:
        RefusedError: it is not.
    """
    asked = case.request.place
    if (asked.prefecture, asked.hierarchy, asked.ca) != (place.prefecture, place.hierarchy, place.ca):
        raise RefusedError(f"{case.name} is of another CA, {asked.ca}; run it there")
    if case.request.needs != QUORUM[case.request.kind]:
        raise RefusedError(f"others have to agree than when {case.name} was asked for; ask for it anew")
    # What founds a CA has made its key when it is run again after an interruption.
    is_founding = case.request.kind is OperationKind.FOUND and bool(case.row.events)
    if asked != place and not is_founding:
        raise RefusedError(f"the CA has another key than when {case.name} was asked for; ask for it anew")


def require_may_agree(case: Case, operator: Operator, role: Role | None, now: datetime) -> None:
    """This person's agreement counts.

    Raises:
        RefusedError: it does not, and why.
    """
    needed = case.request.needs
    if not operator.was_registered(now):
        raise RefusedError(f"{operator.name} is no operator any more; another person has to agree")
    if Role.AUDITOR in operator.roles:
        raise RefusedError(f"{operator.name} is the auditor, who takes no part in operations; another person has to")
    if role is not None and role not in operator.roles:
        raise RefusedError(f"{operator.name} is not registered as {role}, but as {', '.join(sorted(operator.roles))}")
    if not ({role} if role else operator.roles) & needed.keys():
        raise RefusedError(
            f"{case.name} needs {text(needed)}; {operator.name} is {role or ', '.join(sorted(operator.roles))}"
        )
    if any(case.operators[one.operator_id].name == operator.name for one in case.row.approvals):
        raise RefusedError(
            f"{operator.name} has agreed to {case.name} already; each person counts once, whatever their roles:"
            " another one has to agree"
        )


def lacking(case: Case, at: datetime) -> dict[Role, int]:
    """Who still had to agree at a moment: those who were operators then, and had agreed by then, count.

    Raises:
        RefusedError: an agreement is not what it says: it was changed, or is one to something else.
    """
    agreed: dict[str, frozenset[Role]] = {}
    for approval in case.row.approvals:
        operator = _signer_of(case, approval)
        is_before = approval.approved_at <= at
        if is_before and operator.was_registered(at) and operator.was_registered(approval.approved_at):
            agreed[operator.name] = operator.roles if approval.role is None else frozenset({approval.role})
    return dict(missing(case.request.needs, agreed))


def require_agreed(case: Case, at: datetime) -> None:
    """Enough persons agreed.

    Raises:
        RefusedError: they are too few, or one agreement is not what it says.
    """
    lacks = lacking(case, at)
    if not case.request.needs:
        raise RefusedError(f"{case.name} was to be done at once, and was not; ask for it anew")
    if lacks:
        gone = sorted(
            operator.name
            for operator in (case.operators[one.operator_id] for one in case.row.approvals)
            if not operator.was_registered(at)
        )
        without = f" (not counted, for no operator any more: {', '.join(gone)})" if gone else ""
        raise RefusedError(f"{case.name} still needs the agreement of {text(lacks)}{without}")


def was_first(case: Case, others: Iterable[Operator]) -> bool:
    """Was it one that nobody could have agreed to, because there were no operators yet?"""
    request = case.request
    before = [one for one in others if one.operation < request.number]
    if request.kind is OperationKind.REGISTER_OPERATOR:
        # The first come together, one right after the other; a moment alone is soon said.
        first = request.number - len(before)
        is_next = {one.operation for one in before} == set(range(first, request.number))
        return is_next and all(one.registered_at == request.requested_at for one in before)
    return not before and request.place.hierarchy == "test"


def _signer_of(case: Case, approval: Approval) -> Operator:
    operator = case.operators.get(approval.operator_id)
    if operator is None:
        raise RefusedError(f"{case.name}: somebody agreed who was never an operator of this CA; ask for it anew")
    if approval.role is not None and approval.role not in operator.roles:
        raise RefusedError(f"{case.name}: {operator.name} agreed as {approval.role}, and is not; ask for it anew")
    if not verify(operator.public_key, approval.signature, [case.row.content]):
        raise RefusedError(
            f"{case.name}: the signature of {operator.name} is not one over its content, which was changed since;"
            " ask for it anew"
        )
    return operator
