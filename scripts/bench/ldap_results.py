"""What the cases of the LDAP benchmark come to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """What a case came to, in medians."""

    case: str
    prefca: float
    peer: float | None  # slapd; None: there is nothing to compare
    unit: str
    ratio: float  # how much better prefca is; where the goal is a bound: what was measured, as a part of it
    goal: str
    cpu_ratio: float | None = None  # the same as `ratio` in CPU time for each answer: less at the mercy of the machine
    peer_name: str = "slapd"

    def told(self) -> str:
        """For people, and for the table in docs/performance.md."""
        peer = "" if self.peer is None else f"slapd {self.peer:10,.0f} "
        cpu = "" if self.cpu_ratio is None else f", {self.cpu_ratio:.2f} × in CPU time"
        rates = f"prefca {self.prefca:10,.0f}  {peer}{self.unit}"
        return f"{self.case:62} {rates:50} {self.ratio:6.2f} × (goal {self.goal} ×{cpu})"
