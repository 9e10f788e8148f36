"""What the auditor is told of a period's records, and what not."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest

from issuer.rules.audit import (
    OBJECTS_OF_AN_HOUR,
    Event,
    Filter,
    Period,
    Retention,
    Rules,
    Stream,
    Tally,
    counts,
    findings,
    high_rates,
    new_streams,
)
from issuer.rules.usage import Amount, Use
from journal.record import Record

pytestmark = pytest.mark.req("R-4-11-1", "R-4-11-3")
PERIOD = Period(date(2026, 10, 12), date(2026, 10, 19))
NOON = datetime(2026, 10, 15, 3, tzinfo=UTC)
NIGHT = datetime(2026, 10, 15, 17, tzinfo=UTC)  # two o'clock in Japan
RULES = Rules((), time(22), time(6))
OPERATOR = "hanako@ca1"


def asked(result: str = "good", party: str | None = "tax", serial: int = 1, at: datetime = NOON) -> Record:
    return Record(at, "ocsp_request", result, party, "192.0.2.1", f"{serial:016X}", 1500, "network")


def bound(result: str, name: str) -> Record:
    return Record(NOON, "ldap_bind", result, None, "192.0.2.9", name)


def act(kind: str, about: str = "5A00000000000001", at: datetime = NOON, result: str = "done") -> Record:
    return Record(at, kind, result, None, OPERATOR, about)


def tally(*records: Record, wanted: Filter | None = None) -> Tally:
    made = Tally(PERIOD, wanted or Filter())
    for record in records:
        made.add(record.line())
    return made


def told(*records: Record, rules: Rules = RULES) -> list[tuple[str, str, int, str]]:
    happened = list(tally(*records).happened())
    return [(one.rule, one.who, one.number, one.what) for one in findings(happened, rules)]


def test_records_of_the_period_are_counted_by_kind_result_party_and_origin() -> None:
    """Days are days in Japan; the same party by another credential is the same."""
    edges = [datetime(2026, 10, day, 15, tzinfo=UTC) for day in (11, 18)]
    records = [asked(), asked(serial=2), asked(at=edges[0]), asked(at=edges[0] - timedelta(seconds=1))]
    records += [asked(at=edges[1]), replace(asked(), by="token"), asked("unauthorized", None)]
    assert counts(tally(*records).happened()) == {
        Event("ocsp_request", "good", "tax", "192.0.2.1"): 4,
        Event("ocsp_request", "unauthorized", "", "192.0.2.1"): 1,
    }


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        (Filter(), 5),
        (Filter(party="tax"), 2),
        (Filter(party=""), 3),
        (Filter(kind="ldap_bind"), 1),
        (Filter(result="good"), 2),
        (Filter(origin=OPERATOR), 1),
        (Filter(kind="ldap_bind", result="good"), 0),
    ],
    ids=["all", "party", "anonymous", "kind", "result", "origin", "two"],
)
def test_a_filter_leaves_what_it_names(wanted: Filter, number: int) -> None:
    """In the counts, and among the records themselves."""
    records = [asked(), asked(), asked("unauthorized", None), bound("invalidCredentials", "x"), act("published")]
    made = tally(*records, wanted=wanted)
    assert counts(made.happened()).total() == number
    assert sum(made.takes(record.line()) for record in records) == number


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([asked(), asked("revoked"), asked("unknown"), bound("success", "a"), act("published")], []),
        (
            [asked("unauthorized", None)] * 3 + [asked("malformedRequest", None)],
            [("refused", "(anonymous) 192.0.2.1", 4, "ocsp_request unauthorized 3, ocsp_request malformedRequest 1")],
        ),
        (
            [bound("invalidCredentials", 'a","object":"b'), bound("invalidCredentials", "a"), bound("busy", "a")],
            [("failed bind", "192.0.2.9", 3, '2 names: a, a","object":"b')],
        ),
        ([asked("unknown", serial=serial) for serial in range(9)] * 5, []),
        (
            [asked("unknown", serial=serial) for serial in range(10)],
            [("unknown serials", "tax 192.0.2.1", 10, "such as 0000000000000000")],
        ),
        (
            [act("certificate_revoked", at=NIGHT), act("certificate_revoked", at=NOON)],
            [("at night", OPERATOR, 1, "certificate_revoked 1")],
        ),
        ([act("published", at=NIGHT), *(act(f"key_{step}", "ca-1 lists", NIGHT) for step in ("opened", "used"))], []),
        (
            [act("key_opened", "ca-1 lists"), act("key_used", "ca-1 lists"), act("key_opened", "ca-1 certificates")],
            [("key use without end", "ca-1 certificates", 1, "killed, or the database was away")],
        ),
        (
            [act("activation_data_split"), act("activation_data_split_without_shares")],
            [("split without shares", OPERATOR, 1, "see that key managers knew of it")],
        ),
        (
            [act("audit_review", "not by the auditor", result="refused")],
            [("refused", f"(anonymous) {OPERATOR}", 1, "audit_review refused 1")],
        ),
    ],
    ids=["ordinary", "refusals", "binds", "few", "unknown", "night", "schedule", "key", "split", "not-the-auditor"],
)
def test_what_is_odd_is_told(records: list[Record], expected: list[tuple[str, str, int, str]]) -> None:
    """Rule by rule, with who and how often."""
    assert told(*records) == expected


def test_acts_of_somebody_who_is_not_listed_are_told() -> None:
    """Where operators are listed at all."""
    others = Rules(("taro@ca1",), time(22), time(6))
    assert told(act("certificate_revoked"), rules=others) == [("no operator", OPERATOR, 1, "certificate_revoked 1")]
    assert told(act("certificate_revoked"), rules=replace(others, operators=(OPERATOR,))) == []


@pytest.mark.parametrize(("begin", "end", "is_told"), [(time(1), time(3), True), (time(3), time(5), False)])
def test_the_night_may_begin_after_midnight(begin: time, end: time, is_told: bool) -> None:
    """As the configuration says."""
    assert bool(told(act("certificate_revoked", at=NIGHT), rules=Rules((), begin, end))) is is_told


def test_a_flood_of_serial_numbers_is_counted_without_keeping_all() -> None:
    """The number of different ones is a lower bound then."""
    records = [asked("unknown", serial=serial) for serial in range(OBJECTS_OF_AN_HOUR + 50)]
    made = tally(*records)
    assert counts(made.happened()).total() == OBJECTS_OF_AN_HOUR + 50
    (one,) = findings(list(made.happened()), RULES)
    assert one.number == OBJECTS_OF_AN_HOUR


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([200, 180, 220, 190, 210, 1100], [("tax", 1100, "on 2026-10-17; 200 on its other days")]),
        ([200, 180, 220, 190, 210, 1000], []),
        ([1, 1, 1, 1, 1, 99], []),
        ([200, 180, 220, 190, 9000], []),
    ],
    ids=["far-more", "five-times", "little", "not-known-yet"],
)
def test_a_day_far_above_the_partys_own_usual_is_told(days: list[int], expected: list[tuple[str, int, str]]) -> None:
    """By the median of its other days, whatever it asked for."""
    first = date(2026, 10, 18) - timedelta(days=len(days))
    usage = {
        Use(first + timedelta(days=number), kind, "good", "", party): Amount(items // 2)
        for number, items in enumerate(days)
        for kind in ("ocsp_request", "ldap_search")
        for party in ("tax", "")
        if party or items
    }
    found = [(one.who, one.number, one.what) for one in high_rates(usage, PERIOD)]
    assert found == expected


@pytest.mark.parametrize(
    ("seen", "reviewed", "is_told"),
    [
        (15, None, True),
        (15, 12, True),
        (15, 17, True),
        (11, None, True),
        (11, 10, True),
        (11, 12, False),
        (20, 12, False),
    ],
    ids=["first-review", "new", "looked-at-again", "never-reviewed", "left-out", "reviewed", "later"],
)
def test_a_stream_is_told_in_its_days_and_until_it_was_in_a_review(
    seen: int, reviewed: int | None, is_told: bool
) -> None:
    """With what there is to compare: whoever writes to the directory may begin one with a key of his own."""
    begun = Stream("b.ocsp-0", bytes(32), NOON.replace(day=seen), 2, NOON)
    until = None if reviewed is None else NOON.replace(day=reviewed)
    found = [(one.rule, one.who, one.what) for one in new_streams([begun], PERIOD, until)]
    what = (
        f"host b; from segment 2, begun 2026-10-15T03:00:00Z; see that its process has the key with SHA-256 {'00' * 32}"
    )
    assert found == ([("new stream", "b.ocsp-0", what)] if is_told else [])


@pytest.mark.req("R-4-11-4", "R-4-12-2-2")
@pytest.mark.parametrize(
    ("years", "is_of_acts", "is_good_copy", "is_reviewed", "kept"),
    [
        (1.1, True, True, True, None),
        (0.9, True, True, True, "too young"),
        (9.9, False, True, True, "too young"),
        (10.1, False, True, True, None),
        (10.1, True, None, True, "not on external media"),
        (10.1, True, False, True, "no media with them were read again"),
        (10.1, True, True, False, "not reviewed"),
        (-1, True, True, True, "later records"),
    ],
    ids=["acts", "young-acts", "young-usage", "usage", "not-exported", "not-read", "not-reviewed", "later"],
)
def test_what_may_be_deleted(
    years: float, is_of_acts: bool, is_good_copy: bool | None, is_reviewed: bool, kept: str | None
) -> None:
    """Acts of the issuer after a year, usage history after ten; only what is reviewed and on good media."""
    retention = Retention(NOON, NOON, NOON if is_reviewed else None)
    sealed_at = NOON - years * timedelta(days=365.25)
    why = retention.why_kept(sealed_at, is_of_acts=is_of_acts, is_good_copy=is_good_copy)
    assert (why is None) is (kept is None)
    assert (kept or "") in (why or "")
