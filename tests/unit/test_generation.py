"""The states of a key of the CA: every pair, allowed or not."""

from itertools import product

import pytest

from issuer.errors import RefusedError
from issuer.profiles.generation import State, require_move

pytestmark = pytest.mark.req("R-4-13-1")

ALLOWED = {
    ("planned", "active"),
    ("planned", "compromised"),
    ("planned", "destroyed"),
    ("active", "retired"),
    ("active", "compromised"),
    ("active", "destroyed"),
    ("retired", "compromised"),
    ("retired", "destroyed"),
    ("compromised", "destroyed"),
}


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_a_key_goes_forward_only(before: State, after: State) -> None:
    """Whatever is not allowed is refused, in a sentence."""
    if (before.value, after.value) in ALLOWED:
        require_move(before, after)
        return
    with pytest.raises(RefusedError, match=f"that is {before} cannot become {after}"):
        require_move(before, after)
