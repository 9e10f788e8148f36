"""Who asks, and what he may be told."""

from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from ocsp.access import AccessList, Caller, Grant, Network, Recognition, Right
from tests.support.ocsp import DAY

NOW = datetime(2026, 4, 1, 12, 0, 0, tzinfo=UTC)
pytestmark = pytest.mark.req("R-4-4-4-3")


def grant(party: str, network: str, first: int = -10, last: int = 10) -> Grant:
    """An agreement from the `first` to the `last` day from now."""
    return Grant(party, Network(ip_network(network)), NOW + first * DAY, NOW + last * DAY)


@pytest.mark.parametrize(
    ("origin", "grants", "party"),
    [
        ("192.0.2.1", [], None),
        ("192.0.2.1", [grant("a", "192.0.2.0/24")], "a"),
        ("192.0.3.1", [grant("a", "192.0.2.0/24")], None),
        ("192.0.2.1", [grant("a", "0.0.0.0/0"), grant("b", "192.0.2.1/32"), grant("c", "192.0.0.0/16")], "b"),
        ("2001:db8::1", [grant("a", "2001:db8::/32"), grant("b", "0.0.0.0/0")], "a"),
        ("::ffff:192.0.2.1", [grant("a", "192.0.2.0/24")], "a"),
        ("192.0.2.1", [grant("a", "192.0.2.0/24", first=1)], None),
        ("192.0.2.1", [grant("a", "192.0.2.0/24", first=0)], "a"),
        ("192.0.2.1", [grant("a", "192.0.2.0/24", last=0)], None),
        ("192.0.2.1", [grant("a", "192.0.2.0/24", last=0), grant("b", "192.0.0.0/16")], "b"),
    ],
    ids=[
        "nobody is registered",
        "inside the network",
        "outside",
        "the narrowest network wins",
        "IPv6",
        "IPv4 through an IPv6 socket",
        "agreement not begun",
        "agreement begins now",
        "agreement ends now",
        "ended, but inside a wider one",
    ],
)
def test_a_party_is_recognised_by_its_network(origin: str, grants: list[Grant], party: str | None) -> None:
    """While its agreement lasts."""
    caller = AccessList(grants).caller(origin, NOW)
    if party is None:
        assert caller == Caller(origin)
        assert not caller.rights
    else:
        assert (caller.party, caller.recognition) == (party, Recognition.NETWORK)
        assert caller.rights == {Right.OCSP}
        assert caller.until == next(one.agreed_until for one in grants if one.party == party)
