"""Every invariant of a simulation tells when it is broken, and is silent when nothing is."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from issuer.profiles.authority import Kind
from pkix.revocation import CRLReason, Good, Revoked, Unknown
from pkix.validity import Validity
from simulation.invariants import INVARIANTS, broken
from simulation.sight import Certificate, CrossPair, Key, Refusal, RevocationList, Sight, Told

NOW = datetime(2031, 6, 30, 15, 1, tzinfo=UTC)  # a minute after midnight in Japan
DAY = timedelta(days=1)
MIDNIGHT = NOW - timedelta(minutes=1)
OLD, NEW = 1, 2  # generations
RESIDENT, LOST, OF_NEW, DELEGATE, DELEGATE_OF_NEW, LINK, CROSS = range(2**62, 2**62 + 7)
REVOKED = Revoked(datetime(2031, 6, 1, tzinfo=UTC), CRLReason.KEY_COMPROMISE)
LABEL = "162019"

Change = Callable[[Sight], Sight]


def ends(begins: datetime, end: tuple[int, int, int]) -> Validity:
    """Up to the last second of a day in Japan."""
    return Validity(begins, datetime(*end, 14, 59, 59, tzinfo=UTC))


def key(generation: int, state: str, made: datetime, until: tuple[int, int, int]) -> Key:
    signs = Validity(made, made + 5 * 365 * DAY)
    return Key(generation, generation, state, ends(made, until), signs)


def certificate(serial: int, generation: int, kind: Kind, validity: Validity, **more: Any) -> Certificate:
    label = {Kind.RESIDENT: LABEL, Kind.OCSP: "operations"}.get(kind, "ca")
    return Certificate(serial, generation, kind, label, validity, **{"issued_at": validity.not_before, **more})


def revocation_list(label: str, entries: dict[int, Revoked]) -> RevocationList:
    window = Validity(MIDNIGHT, MIDNIGHT + 3 * DAY)
    return RevocationList(label, 1900, window, b"idp " + label.encode(), NEW, entries, label.isdigit())


def told(serial: int, generation: int, status: Any, delegate: int) -> Told:
    return Told(serial, generation, status, Validity(NOW, NOW + timedelta(minutes=5)), delegate, generation)


def sight() -> Sight:
    """Two keys, the second one in use for a month, and nothing wrong."""
    first, second = datetime(2026, 4, 1, 3, tzinfo=UTC), datetime(2031, 2, 1, 3, tzinfo=UTC)
    certificates = [
        certificate(RESIDENT, OLD, Kind.RESIDENT, ends(datetime(2029, 7, 1, 3, tzinfo=UTC), (2032, 6, 30))),
        certificate(
            LOST,
            OLD,
            Kind.RESIDENT,
            ends(datetime(2030, 7, 1, 3, tzinfo=UTC), (2033, 6, 30)),
            revoked=REVOKED,
            received_at=REVOKED.at,
        ),
        certificate(OF_NEW, NEW, Kind.RESIDENT, ends(datetime(2031, 6, 2, 3, tzinfo=UTC), (2034, 6, 1))),
        certificate(DELEGATE, OLD, Kind.OCSP, ends(datetime(2031, 3, 1, 3, tzinfo=UTC), (2032, 2, 29))),
        certificate(DELEGATE_OF_NEW, NEW, Kind.OCSP, ends(datetime(2031, 3, 1, 3, tzinfo=UTC), (2032, 2, 29))),
        certificate(CROSS, NEW, Kind.CROSS, ends(datetime(2031, 3, 1, 3, tzinfo=UTC), (2036, 2, 29))),
        certificate(LINK, NEW, Kind.LINK, ends(first, (2036, 3, 31))),
    ]
    lists = [revocation_list("ca", {}), revocation_list("operations", {}), revocation_list(LABEL, {LOST: REVOKED})]
    return Sight(
        at=NOW,
        cut_off=MIDNIGHT,
        keys={OLD: key(OLD, "retired", first, (2036, 3, 31)), NEW: key(NEW, "active", second, (2041, 1, 31))},
        certificates={one.serial: one for one in certificates},
        lists={one.label: one for one in lists},
        published=frozenset({OLD, NEW}),
        linked=frozenset({(OLD, NEW), (NEW, OLD)}),
        pairs=(CrossPair(CROSS, NOW + 365 * DAY, NEW),),
        told=(
            told(RESIDENT, OLD, Good(), DELEGATE),
            told(LOST, OLD, REVOKED, DELEGATE),
            told(OF_NEW, NEW, Good(), DELEGATE_OF_NEW),
            told(OF_NEW, OLD, Unknown(), DELEGATE),
        ),
        refusals=(),
    )


def day_before(now: Sight) -> Sight:
    """The same a day earlier."""
    lists = {
        label: replace(
            one,
            crl_number=one.crl_number - 1,
            window=Validity(one.window.not_before - DAY, one.window.not_after - DAY),
        )
        for label, one in now.lists.items()
    }
    return replace(now, at=now.at - DAY, lists=lists, told=(), cut_off=now.cut_off - DAY)


def of_list(label: str, **changes: Any) -> Change:
    return lambda now: replace(now, lists={**now.lists, label: replace(now.lists[label], **changes)})


def of_certificate(serial: int, **changes: Any) -> Change:
    return lambda now: replace(
        now, certificates={**now.certificates, serial: replace(now.certificates[serial], **changes)}
    )


def of_key(generation: int, **changes: Any) -> Change:
    return lambda now: replace(now, keys={**now.keys, generation: replace(now.keys[generation], **changes)})


def of_answer(number: int, **changes: Any) -> Change:
    def change(now: Sight) -> Sight:
        answers = list(now.told)
        answers[number] = replace(answers[number], **changes)
        return replace(now, told=tuple(answers))

    return change


def new_certificate(number: int, **changes: Any) -> Change:
    """Another one like a certificate that is there, issued since the day before."""
    return lambda now: replace(
        now,
        certificates={
            **now.certificates,
            2**62 + 100: replace(now.certificates[number], serial=2**62 + 100, **changes),
        },
    )


def without(label: str) -> Change:
    return lambda now: replace(now, lists={name: one for name, one in now.lists.items() if name != label})


def third_key(now: Sight) -> Sight:
    """A key that nothing was published of yet signs."""
    third = key(3, "planned", NOW - DAY, (2041, 6, 29))
    resident = replace(now.certificates[OF_NEW], serial=2**62 + 101, generation_id=3)
    return replace(now, keys={**now.keys, 3: third}, certificates={**now.certificates, resident.serial: resident})


LONG_AGO = Validity(MIDNIGHT - 9 * DAY, MIDNIGHT - 6 * DAY)
TOMORROW = Validity(MIDNIGHT + DAY, MIDNIGHT + 4 * DAY)
EARLIER_REVOKED = replace(REVOKED, at=REVOKED.at - DAY)

CHANGES: list[tuple[str, str, Change]] = [
    ("lists have no gap", "ended", of_list(LABEL, window=LONG_AGO)),
    ("lists have no gap", "of the future", of_list("ca", window=TOMORROW)),
    ("lists have no gap", "gone", without("operations")),
    ("list numbers rise", "an old number", of_list("ca", crl_number=1899)),
    ("list numbers rise", "a lower number", of_list("ca", crl_number=3)),
    ("list numbers rise", "an older date", of_list("ca", window=Validity(MIDNIGHT - 2 * DAY, NOW + DAY))),
    ("list numbers rise", "another place", of_list(LABEL, idp=b"elsewhere")),
    ("lists are signed", "by nobody", of_list("ca", signer=None)),
    ("lists are signed", "by a key that ended", of_key(NEW, validity=Validity(NOW - 99 * DAY, NOW - DAY))),
    ("lists agree with database", "an entry is missing", of_list(LABEL, entries={})),
    ("lists agree with database", "an entry too many", of_list(LABEL, entries={LOST: REVOKED, RESIDENT: REVOKED})),
    ("lists agree with database", "another moment", of_list(LABEL, entries={LOST: EARLIER_REVOKED})),
    ("lists agree with database", "a stranger", of_list(LABEL, entries={LOST: REVOKED, 2**62 + 99: REVOKED})),
    (
        "lists agree with database",
        "of what expired long ago",
        of_certificate(LOST, validity=Validity(NOW - 99 * DAY, NOW - 5 * DAY)),
    ),
    ("answers agree with database", "good, but revoked", of_answer(1, status=Good())),
    ("answers agree with database", "revoked, but good", of_answer(0, status=REVOKED)),
    ("answers agree with database", "unknown, but good", of_answer(2, status=Unknown())),
    ("answers agree with database", "known to the other key", of_answer(3, status=Good())),
    ("answers agree with lists", "good, but on a list", of_answer(1, status=Good())),
    (
        "answers agree with lists",
        "for another reason",
        of_answer(1, status=replace(REVOKED, reason=CRLReason.SUPERSEDED)),
    ),
    ("answers are authorized", "out of date", of_answer(0, window=Validity(NOW - DAY, NOW - timedelta(hours=1)))),
    ("answers are authorized", "of another key's delegate", of_answer(0, delegate=DELEGATE_OF_NEW, signer=NEW)),
    ("answers are authorized", "of nobody's delegate", of_answer(0, delegate=7)),
    ("answers are authorized", "of a revoked delegate", of_certificate(DELEGATE, revoked=REVOKED)),
    ("answers are authorized", "none", lambda now: replace(now, refusals=(Refusal(OLD, "TRY_LATER"),))),
    ("one key is active", "two", of_key(OLD, state="active")),
    ("one key is active", "none", of_key(NEW, state="retired")),
    (
        "one key is active",
        "none, although the last one is fine",
        lambda now: of_key(OLD, state="compromised")(of_key(NEW, state="retired")(now)),
    ),
    ("compromised keys leave nothing valid", "a resident's", of_key(OLD, state="compromised")),
    (
        "every key has a delegate",
        "he has ended",
        of_certificate(DELEGATE, validity=Validity(NOW - 365 * DAY, NOW - DAY)),
    ),
    (
        "every key has a delegate",
        "he is still to begin",
        of_certificate(DELEGATE, validity=Validity(NOW + DAY, NOW + 365 * DAY)),
    ),
    ("nothing outlives its issuer", "a resident's", of_certificate(RESIDENT, validity=ends(NOW, (2036, 4, 1)))),
    ("nothing outlives its issuer", "a link", of_certificate(LINK, validity=ends(NOW, (2041, 2, 1)))),
    (
        "nothing outlives its issuer",
        "older than its issuer",
        of_certificate(OF_NEW, validity=ends(datetime(2031, 1, 31, tzinfo=UTC), (2034, 1, 30))),
    ),
    ("keys are used in their time", "after five years", new_certificate(RESIDENT, issued_at=NOW)),
    (
        "keys are known before use",
        "a certificate",
        third_key,
    ),
    ("keys are known before use", "a list", lambda now: of_list("ca", signer=3)(third_key(now))),
    ("living keys are published", "the old one is not", lambda now: replace(now, published=frozenset({NEW}))),
    ("living keys are published", "the new one is not", lambda now: replace(now, published=frozenset({OLD}))),
    ("old and new keys are linked", "one way only", lambda now: replace(now, linked=frozenset({(OLD, NEW)}))),
    ("cross pairs are in force", "revoked", of_certificate(CROSS, revoked=REVOKED, received_at=REVOKED.at)),
    ("cross pairs are in force", "ended", of_certificate(CROSS, validity=ends(NOW - 99 * DAY, (2031, 6, 29)))),
    ("cross pairs are in force", "not ours", lambda now: replace(now, pairs=(CrossPair(7, NOW + DAY, NEW),))),
    ("cross pairs are in force", "theirs ended", lambda now: replace(now, pairs=(CrossPair(CROSS, NOW - DAY, NEW),))),
    ("cross pairs are in force", "another key", lambda now: replace(now, pairs=(CrossPair(CROSS, NOW + DAY, None),))),
    ("restricted lists are hidden", "a resident's list for all", of_list(LABEL, is_restricted=False)),
    ("restricted lists are hidden", "the ARL for few", of_list("ca", is_restricted=True)),
    ("revocations stay", "taken back", of_certificate(LOST, revoked=None, received_at=None)),
    ("revocations stay", "dated anew", of_certificate(LOST, revoked=EARLIER_REVOKED)),
    (
        "validity is that of the rule",
        "a day longer",
        new_certificate(OF_NEW, validity=ends(datetime(2031, 6, 2, 3, tzinfo=UTC), (2034, 6, 2))),
    ),
    (
        "validity is that of the rule",
        "to the hour",
        new_certificate(OF_NEW, validity=Validity(NOW, NOW + 3 * 365 * DAY)),
    ),
]


def test_what_is_in_order_breaks_nothing() -> None:
    """The values that the other tests change, on the first day and on a later one."""
    assert broken(None, sight()) == []
    assert broken(day_before(sight()), sight()) == []


@pytest.mark.parametrize(
    ("invariant", "change"), [(name, change) for name, _, change in CHANGES], ids=[f"{n}: {c}" for n, c, _ in CHANGES]
)
@pytest.mark.req("R-2-1-2-22", "R-4-4-2-4", "R-4-13-1", "R-4-13-2")
def test_what_breaks_an_invariant_is_told(invariant: str, change: Change) -> None:
    """The day before was in order."""
    found = broken(day_before(sight()), change(sight()))
    assert invariant in {one.invariant for one in found}
    assert {one.at for one in found} == {NOW}


def test_every_invariant_is_shown_to_catch_something() -> None:
    """None is without a change above that breaks it."""
    assert {name for name, _, _ in CHANGES} == set(INVARIANTS)


def test_a_compromise_leaves_no_key_for_a_while() -> None:
    """Until the next one takes over."""
    now = of_key(NEW, state="compromised")(replace(sight(), published=frozenset({OLD})))
    revoked = replace(REVOKED, reason=CRLReason.CA_COMPROMISE)
    for serial, label in ((OF_NEW, LABEL), (DELEGATE_OF_NEW, "operations"), (LINK, "ca"), (CROSS, "ca")):
        now = of_certificate(serial, revoked=revoked, received_at=REVOKED.at)(now)
        now = of_list(label, entries={**now.lists[label].entries, serial: revoked})(now)
    now = replace(now, told=now.told[:2], pairs=())
    assert broken(None, now) == []
    assert broken(day_before(now), now) == []


@pytest.mark.parametrize(
    ("begins", "end"),
    [
        (datetime(2028, 2, 28, 16, tzinfo=UTC), (2031, 2, 28)),  # 29 February in Japan
        (datetime(2027, 3, 1, 3, tzinfo=UTC), (2030, 2, 28)),
        (datetime(2029, 12, 31, 15, tzinfo=UTC), (2032, 12, 31)),  # the first second of 2030 in Japan
    ],
    ids=["leap day", "first of March", "New Year"],
)
def test_years_end_with_the_day_before(begins: datetime, end: tuple[int, int, int]) -> None:
    """Counted in Japan, the first day in."""
    validity = ends(begins, end)
    change = new_certificate(RESIDENT, validity=validity, issued_at=begins)
    names = {one.invariant for one in broken(day_before(sight()), change(sight()))}
    assert "validity is that of the rule" not in names
