"""Who asks, how that is known, and what he may be told (R-4-4-4-3).

A Caller is made at the edge of the program. So far parties are recognised by the network they ask from; another way
(client certificate, signed request, credentials) makes a Caller too, and nothing behind it changes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address


class Right(StrEnum):
    """What a relying party may be granted here."""

    OCSP = "ocsp"  # statuses that are not public


class Recognition(StrEnum):
    """How a caller was recognised."""

    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    origin: str  # address
    party: str | None = None  # name of the relying party; None is nobody we know
    recognition: Recognition | None = None
    rights: frozenset[Right] = frozenset()


@dataclass(frozen=True, slots=True)
class NetworkGrant:
    """A relying party with the right `ocsp`, and a network that is its own."""

    party: str
    network: IPv4Network | IPv6Network
    agreed_from: datetime
    agreed_until: datetime  # the first moment outside the agreement


class AccessList:
    """The grants, at any moment of their agreements."""

    def __init__(self, grants: Iterable[NetworkGrant]) -> None:
        self._narrowest_first = sorted(grants, key=lambda grant: (-grant.network.prefixlen, grant.party))

    def caller(self, origin: str, now: datetime) -> Caller:
        """Who asks from the address `origin`: the party with the narrowest network around it and an agreement now."""
        address = _address(origin)
        for grant in self._narrowest_first:
            if address in grant.network and grant.agreed_from <= now < grant.agreed_until:
                return Caller(origin, grant.party, Recognition.NETWORK, frozenset({Right.OCSP}))
        return Caller(origin)


def _address(origin: str) -> IPv4Address | IPv6Address:
    """The address, as IPv4 if an IPv6 socket has dressed it up (RFC 4291, section 2.5.5.2)."""
    address = ip_address(origin)
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address
