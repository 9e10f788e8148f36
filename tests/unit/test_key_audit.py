"""Uses of the CA's key are held against the operations that were begun."""

from datetime import UTC, date, datetime, timedelta

import pytest

from issuer.rules.audit import Filter, Period
from issuer.rules.key_audit import KeySteps
from journal.record import Record

pytestmark = pytest.mark.req("R-4-11-1", "R-4-11-3")
PERIOD = Period(date(2026, 10, 12), date(2026, 10, 19))
NOON = datetime(2026, 10, 15, 3, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def step(kind: str, about: str, seconds: float = 0, at: datetime = NOON) -> Record:
    return Record(at + seconds * SECOND, kind, "done", None, "hanako@ca1", about)


def told(*records: Record, wanted: Filter | None = None) -> list[tuple[str, str]]:
    steps = KeySteps(PERIOD, wanted or Filter())
    for record in records:
        steps.add(record.line())
    return [(one.rule, one.what) for one in steps.findings()]


BEGUN, DONE = step("operation_begun", "7 switch-key"), step("operation_done", "7 switch-key", 60)
WITHOUT = "key use without an operation"


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([step("key_opened", "ca-1 lists"), step("key_opened", "ca-1 certificates")], []),
        ([BEGUN, DONE, step("key_opened", "ca-1 compromise", 600)], []),
        ([step("key_opened", "ca-1 link")], [(WITHOUT, "ca-1 link at 2026-10-15T03:00:00Z")]),
        ([BEGUN, step("key_opened", "ca-1 link", 30.5), DONE], []),
        ([BEGUN, step("key_opened", "ca-1 link", 60.9), DONE], []),
        ([BEGUN, DONE, step("key_opened", "ca-1 link", 61)], [(WITHOUT, "ca-1 link at 2026-10-15T03:01:01Z")]),
        ([step("key_opened", "ca-1 link", -1), BEGUN, DONE], [(WITHOUT, "ca-1 link at 2026-10-15T02:59:59Z")]),
        (
            [BEGUN, step("operation_done", "8 found", 5)],
            [("operation without end", "7 switch-key; see whether it was done")],
        ),
        ([BEGUN, step("operation_failed", "7 switch-key", 5), step("operation_begun", "7 switch-key", 9), DONE], []),
        ([step("key_opened", "ca-1 link", at=NOON - timedelta(days=9))], []),
    ],
    ids=["daily", "lists", "none", "during", "same-second", "after", "before", "no-end", "again", "earlier-week"],
)
def test_a_use_belongs_to_an_operation_that_is_under_way(
    records: list[Record], expected: list[tuple[str, str]]
) -> None:
    """But for lists and residents' certificates."""
    assert told(*records) == expected


def test_a_filter_holds_here_too() -> None:
    """Of the origin."""
    assert told(step("key_opened", "ca-1 link"), wanted=Filter(origin="taro@ca1")) == []
