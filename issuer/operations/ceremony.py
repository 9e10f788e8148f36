"""What has to be so before persons begin a key ceremony (鍵セレモニー), and what it consists of.

Pure: what is checked is given.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from issuer.operations.consent import Case
from issuer.rules.operation import QUORUM, OperationKind, Parameters, Role
from issuer.rules.person import Operator
from issuer.rules.quorum import missing, text

MAX_CLOCK_DIFFERENCE: Final = timedelta(seconds=10)
KEY_BITS: Final = 2048  # R-6-1-1-2
CRL_HOURS: Final = (24, 72)  # R-7-2-1: to the next list, and to the end of its validity


@dataclass(frozen=True, slots=True)
class Step:
    """An operation that is part of a ceremony."""

    kind: OperationKind
    parameters: Parameters
    case: Case | None = None  # None: it is asked for when its turn comes

    @property
    def is_over(self) -> bool:
        """Whether it was done already."""
        return self.case is not None and self.case.is_done

    @property
    def name(self) -> str:
        """How people call it."""
        return self.kind.value if self.case is None else self.case.name

    @property
    def needs(self) -> Mapping[Role, int]:
        """Who has to agree."""
        return QUORUM[self.kind] if self.case is None else self.case.request.needs


@dataclass(frozen=True, slots=True)
class Room:
    """With what, and by whom, the ceremony is to be held."""

    is_production: bool
    signer: str  # "pkcs11" or "software"
    pin_in_file: bool
    key_bits: int | None  # of the CA's key; None: there is none yet
    crl_hours: tuple[int, int]  # as CRL_HOURS
    is_policy_agreed: bool  # what relying parties see is as it was agreed to last
    clock_difference: timedelta  # of this machine and the database
    present: Sequence[Operator]
    unknown: Sequence[str]  # names of persons who are no operators


def obstacles(room: Room, steps: Iterable[Step]) -> list[str]:
    """What is in the way; each says what to do."""
    found = []
    if room.is_production and (room.signer != "pkcs11" or room.pin_in_file):
        found.append("the key of a production CA is in a token whose PIN is split: set `signer.activation_file`")
    if room.key_bits not in {None, KEY_BITS}:
        found.append(f"the CA's key has {room.key_bits} bits, the rule says {KEY_BITS} (R-6-1-1-2)")
    if room.crl_hours != CRL_HOURS:
        found.append("lists are to come every 24 h and be valid for 72 h: set `crl.period_h` and `crl.validity_h`")
    if not room.is_policy_agreed:
        found.append("the settings are others than those that were agreed to: run `prefca policy check`")
    if abs(room.clock_difference) > MAX_CLOCK_DIFFERENCE:
        seconds = abs(room.clock_difference).total_seconds()
        found.append(f"the clocks of this machine and the database differ by {seconds:.0f} s: set them")
    found += [f"{name} is no operator of this CA: register the person first" for name in room.unknown]
    persons = {one.name: one.roles for one in room.present}
    for step in steps:
        lacks = {} if step.is_over else missing(step.needs, persons | _agreed(step))
        if lacks:
            found.append(f"for {step.name} somebody is not here: {text(lacks)}")
    return found


def _agreed(step: Step) -> dict[str, frozenset[Role]]:
    """Who agreed before, and need not be there."""
    if step.case is None:
        return {}
    operators = (step.case.operators[one.operator_id] for one in step.case.row.approvals)
    return {one.name: one.roles for one in operators}
