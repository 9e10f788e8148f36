"""How much one peer may take."""

import pytest

from ocsp.access import Caller
from ocsp.limits import ConnectionLimit, RateLimit, RateLimits


@pytest.mark.parametrize(
    ("per_s", "times", "admitted"),
    [
        (2, [0, 0, 0], [True, True, False]),
        (2, [0, 0, 0.5, 0.5], [True, True, True, False]),
        (2, [0, 0, 60, 60, 60], [True, True, True, True, False]),
        (2, [0, 0, *[0] * 50, 0.5], [True, True, *[False] * 50, True]),
        (0.1, [0, 1, 9.9, 10], [True, False, False, True]),
        (2, [100, 100, 50, 50, 50], [True, True, True, True, False]),
    ],
    ids=[
        "a second's worth",
        "evenly",
        "nothing is saved up",
        "refusals do not count",
        "less than one",
        "clock set back",
    ],
)
def test_so_many_requests_a_second(per_s: float, times: list[float], admitted: list[bool]) -> None:
    """In the long run, with a second's worth at once."""
    limit = RateLimit(per_s)
    assert [limit.admits("a", at) for at in times] == admitted


def test_each_key_is_on_its_own() -> None:
    """Nobody pays for another."""
    limit = RateLimit(1)
    assert [limit.admits(key, 0) for key in "aba"] == [True, True, False]


def test_what_is_known_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was silent for longest is forgotten."""
    monkeypatch.setattr("ocsp.limits.MAX_KEYS", 2)
    limit = RateLimit(1)
    assert [limit.admits(key, 0) for key in "abcb"] == [True, True, True, False]
    assert limit.admits("a", 0)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_a_host_has_one_limit_whichever_address_it_takes(first: str, second: str, *, same: bool) -> None:
    """An IPv6 host may choose from 2**64."""
    limits, connections = RateLimits(1, None), ConnectionLimit(10, 1)
    assert limits.admits_address(first, 0)
    assert connections.take(first)
    assert limits.admits_address(second, 0) is not same
    assert connections.take(second) is not same


def test_strangers_share_no_limit_of_a_party() -> None:
    """They are limited by their addresses."""
    limits = RateLimits(None, 1)
    assert all(limits.admits_party(Caller("192.0.2.1"), 0) for _ in range(5))
    assert [limits.admits_party(Caller(f"192.0.2.{n}", "verifier"), 0) for n in range(2)] == [True, False]


def test_connections_in_all_and_from_one_address() -> None:
    """What is given back can be taken again."""
    limit = ConnectionLimit(3, 2)
    assert [limit.take(each) for each in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3")] == [
        *(True, True, False, True, False)
    ]
    limit.give_back("192.0.2.1")
    assert [limit.take("192.0.2.3"), limit.take("192.0.2.1")] == [True, False]
