"""A secret that is split: k of n shares open it."""

import os
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from issuer.errors import RefusedError
from issuer.rules.shares import joined, parse, split

pytestmark = pytest.mark.req("R-6-2-1-2")

PIN = "12345678"


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=300), st.integers(2, 5), st.integers(0, 3))
def test_any_of_them_open_it(secret: str, needed: int, more: int) -> None:
    """In any order, whatever the secret is; and what was typed from paper is the same."""
    sealed, shares = split(secret, needed, needed + more, os.urandom)
    for some in combinations(shares, needed):
        assert joined(sealed, [parse(str(share)) for share in reversed(some)]) == secret


def test_more_than_needed_do_no_harm() -> None:
    """Everybody who is there may enter theirs."""
    sealed, shares = split(PIN, 2, 5, os.urandom)
    assert joined(sealed, shares) == PIN


def test_too_few_open_nothing() -> None:
    """They are told how many are needed."""
    sealed, shares = split(PIN, 3, 5, os.urandom)
    with pytest.raises(RefusedError, match="3 shares are needed, and 2 given"):
        joined(sealed, shares[:2])
    with pytest.raises(RefusedError, match="2 shares are needed, and 0 given"):
        joined(sealed, [])


def test_each_person_enters_their_own() -> None:
    """One share does not count twice."""
    sealed, shares = split(PIN, 2, 3, os.urandom)
    with pytest.raises(RefusedError, match="one share was given twice"):
        joined(sealed, [shares[0], shares[0]])


def test_shares_of_another_split_are_told() -> None:
    """They look alike."""
    sealed, shares = split(PIN, 2, 3, os.urandom)
    _, others = split(PIN, 2, 3, os.urandom)
    with pytest.raises(RefusedError, match="of another secret"):
        joined(sealed, [shares[0], others[1]])


def test_a_typing_error_is_told() -> None:
    """Each character is checked; small letters, spaces and digits that look like letters are fine."""
    _, (share, _) = split(PIN, 2, 2, os.urandom)
    text = str(share)
    typed = text.lower().replace("-", " ").replace("o", "0").replace("i", "1")
    assert parse(f"some lines\nabout it\n\n{typed}\n") == share
    for position, character in enumerate(text):
        if character != "-":
            wrong = text[:position] + ("A" if character != "A" else "C") + text[position + 1 :]
            with pytest.raises(RefusedError, match="mistyped") as refusal:
                parse(wrong)
            assert wrong not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "\n\n", "hello", "A" * 39, "あいう", "K5QX-" * 30])
def test_what_is_no_share(text: str) -> None:
    """Is refused."""
    with pytest.raises(RefusedError, match="this is no share"):
        parse(text)


@pytest.mark.parametrize(("needed", "count"), [(1, 1), (1, 3), (3, 2), (2, 21)])
def test_ways_that_are_no_sharing(needed: int, count: int) -> None:
    """One person alone is none."""
    with pytest.raises(RefusedError, match="2 shares are needed at least"):
        split(PIN, needed, count, os.urandom)


def test_a_share_is_not_logged_by_mistake() -> None:
    """Its value is in no representation but the one for people."""
    _, (share, _) = split(PIN, 2, 2, os.urandom)
    assert repr(share) == "Share(number=1, needed=2)"
