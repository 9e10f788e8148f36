"""What one worker counts, and how that is told to Prometheus (text format 0.0.4).

Counting happens between two answers, so it is plain addition in the worker; the parent asks each worker for its counts
when somebody looks, and writes them down with the worker's number.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final

COUNTED_AT_ONCE: Final = 1000
SIGN_BOUNDS_S: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0)

_HELP: Final = {
    "prefca_ocsp_answers_total": ("counter", "Answers by OCSPResponseStatus."),
    "prefca_ocsp_certificates_total": ("counter", "Certificates in successful answers, by status."),
    "prefca_ocsp_cache_hits_total": ("counter", "Answers that were kept from before."),
    "prefca_ocsp_cache_answers": ("gauge", "Answers in the cache."),
    "prefca_ocsp_cache_bytes": ("gauge", "Memory of the cache."),
    "prefca_ocsp_sign_seconds": ("histogram", "From the request for a signature to the signature."),
    "prefca_ocsp_feed_position": ("gauge", "Number of the last change that was heard of."),
    "prefca_ocsp_feed_lag_seconds": ("gauge", "Age of the last change when it was heard of."),
    "prefca_ocsp_staleness_seconds": ("gauge", "Since all changes were last known to be heard of."),
    "prefca_ocsp_connections": ("gauge", "Open connections."),
    "prefca_ocsp_journal_up": ("gauge", "Can the journal be written?"),
    "prefca_ocsp_delegate_expiry_timestamp_seconds": ("gauge", "End of a delegate's certificate."),
    "prefca_ocsp_worker_up": ("gauge", "Does the worker answer?"),
    "prefca_ocsp_worker_starts_total": ("counter", "How often the worker was started."),
}


@dataclass(slots=True)
class Metrics:
    """The counters of one worker."""

    cache_hits: int = 0
    signed: list[int] = field(default_factory=lambda: [0] * (len(SIGN_BOUNDS_S) + 1))  # by SIGN_BOUNDS_S
    sign_s: float = 0.0
    _answers: Counter[str] = field(default_factory=Counter)  # by OCSPResponseStatus
    _certificates: Counter[str] = field(default_factory=Counter)  # by CertStatus
    _outcomes: list[str] = field(default_factory=list)  # that are still to be counted: many at once take less time

    def answered(self, outcomes: Iterable[str]) -> None:
        """Answers were given, each with an `outcome`."""
        self._outcomes += outcomes
        if len(self._outcomes) >= COUNTED_AT_ONCE:
            self._count()

    def signature(self, seconds: float) -> None:
        """A signature was made."""
        self.sign_s += seconds
        self.signed[bisect_left(SIGN_BOUNDS_S, seconds)] += 1

    def counts(self) -> dict[str, Any]:
        """All of it, for `samples` in another process."""
        self._count()
        return {
            "answers": dict(self._answers),
            "certificates": dict(self._certificates),
            "cache_hits": self.cache_hits,
            "signed": self.signed,
            "sign_s": self.sign_s,
        }

    def _count(self) -> None:
        for counted, number in Counter(self._outcomes).items():
            status, *results = counted.split(" ")
            self._answers[status] += number
            for result in results:
                self._certificates[result] += number
        self._outcomes.clear()


@lru_cache(maxsize=1024)  # there are few, and one string for each takes less time
def outcome(status: str, *results: str) -> str:
    """What is counted of an answer: its OCSPResponseStatus and the CertStatus in it."""
    return " ".join((status, *results))


def exposition(workers: Mapping[int, tuple[int, Mapping[str, Any] | None]]) -> str:
    """What /metrics answers.

    Args:
        workers: by its number how often a worker was started, and its report; None if it does not answer.
    """
    lines: dict[str, list[str]] = {name: [] for name in _HELP}
    for number, (starts, report) in workers.items():
        labels = {"worker": str(number)}
        lines["prefca_ocsp_worker_up"].append(_line("prefca_ocsp_worker_up", labels, int(report is not None)))
        lines["prefca_ocsp_worker_starts_total"].append(_line("prefca_ocsp_worker_starts_total", labels, starts))
        for name, more, value in _samples(report) if report is not None else ():
            family = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
            lines[family].append(_line(name, labels | more, value))
    text = [
        line
        for name, (kind, what) in _HELP.items()
        for line in (f"# HELP {name} {what}", f"# TYPE {name} {kind}", *lines[name])
    ]
    return "\n".join(text) + "\n"


Sample = tuple[str, dict[str, str], float]


def _samples(report: Mapping[str, Any]) -> Iterable[Sample]:
    for status, number in report["answers"].items():
        yield "prefca_ocsp_answers_total", {"status": status}, number
    for status, number in report["certificates"].items():
        yield "prefca_ocsp_certificates_total", {"status": status}, number
    yield "prefca_ocsp_cache_hits_total", {}, report["cache_hits"]
    for bound, number in zip((*SIGN_BOUNDS_S, "+Inf"), accumulate(report["signed"]), strict=True):
        yield "prefca_ocsp_sign_seconds_bucket", {"le": str(bound)}, number
    yield "prefca_ocsp_sign_seconds_sum", {}, report["sign_s"]
    yield "prefca_ocsp_sign_seconds_count", {}, sum(report["signed"])
    for name, value in report["gauges"].items():
        yield f"prefca_ocsp_{name}", {}, value
    for serial, (generation, end) in report["delegates"].items():
        yield "prefca_ocsp_delegate_expiry_timestamp_seconds", {"serial": serial, "generation": str(generation)}, end


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {value}"
