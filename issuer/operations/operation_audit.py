"""Was everything that was done agreed to, and is every record as it was written? Judged of the rows alone.

Each content is signed, and names the one before by its hash: a row that was changed, taken away or put in is found by
that, but for the last ones. The journal finds those: it has the hash of every content (`operation_requested`).
"""

from collections.abc import Iterator, Mapping, Sequence

from issuer.errors import RefusedError
from issuer.operations import consent
from issuer.operations.consent import Case
from issuer.operations.operators import registration
from issuer.records.operation_store import OperationRow
from issuer.rules.operation import FORMER, QUORUM, OperationKind
from issuer.rules.person import Operator
from issuer.rules.quorum import text


def findings(rows: Sequence[OperationRow], operators: Sequence[Operator], number: int | None = None) -> list[str]:
    """What is wrong, a line each.

    Args:
        rows: all operations of a CA, in their order.
        operators: all who are or were registered there.
        number: look at this operation alone; None: at all, and at the registrations.
    """
    cases: dict[int, Case] = {}
    found: list[str] = []
    for row in rows:
        if number in {None, row.number}:
            try:
                cases[row.number] = consent.opened_case(row, operators)
                _require_sound(cases[row.number], operators)
            except RefusedError as e:
                found.append(str(e))
    if number is None:
        found += [*_chain(rows, cases), *_registrations(cases, operators)]
    return found


def _require_sound(case: Case, operators: Sequence[Operator]) -> None:
    """It was begun only when it might be.

    Raises:
        RefusedError: it was not.
    """
    consent.lacking(case, case.request.requested_at)  # for the signatures
    if not case.request.needs:
        if not consent.was_first(case, operators):
            raise RefusedError(f"{case.name} was done without anybody's agreement, though there were operators")
        return
    if case.row.events and case.request.needs not in (QUORUM[case.request.kind], *FORMER.get(case.request.kind, ())):
        raise RefusedError(f"{case.name} asked for {text(case.request.needs)}, which is not who has to agree to it")
    for event in case.row.events:
        if event.event == "begun":
            consent.require_agreed(case, event.at)
            if event.at > case.request.expires_at:
                raise RefusedError(f"{case.name} was done after it had expired")
    if case.row.events and case.row.events[0].event not in {"begun", "withdrawn"}:
        raise RefusedError(f"{case.name} has an outcome, and was never begun")


def _chain(rows: Sequence[OperationRow], cases: Mapping[int, Case]) -> Iterator[str]:
    previous: OperationRow | None = None
    for row in rows:
        expected = 1 if previous is None else previous.number + 1
        if row.number != expected:
            yield f"operation {expected} is missing"
        case = cases.get(row.number)
        named = None if previous is None else previous.sha256.hex()
        if case is not None and case.request.previous != named:
            yield f"{case.name} does not follow the operation before it, which was changed, put in or taken away"
        previous = row


def _registrations(cases: Mapping[int, Case], operators: Sequence[Operator]) -> Iterator[str]:
    """Every operator was registered by an operation that was done and says the same."""
    for one in operators:
        case = cases.get(one.operation)
        said = dict(registration(one.name, one.full_name, one.roles, one.public_key))
        if case is None or case.request.kind is not OperationKind.REGISTER_OPERATOR or not _was_done(case):
            yield f"operator {one.name} was registered by no operation"
        elif dict(case.request.parameters) != said:
            yield f"operator {one.name} is not as {case.name} says: name, roles or key were changed"
        if one.ended_at is not None and not any(_ends(other, one) for other in cases.values()):
            yield f"operator {one.name} was ended by no operation"


def _ends(case: Case, one: Operator) -> bool:
    is_end = case.request.kind is OperationKind.END_OPERATOR and _was_done(case)
    return is_end and case.request.parameters["key_sha256"] == one.fingerprint


def _was_done(case: Case) -> bool:
    return any(event.event == "done" for event in case.row.events)
