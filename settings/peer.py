"""Where a client is, in the form in which records tell it, and in which limits count it."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

IPV6_HOST_BITS: Final = 64  # what one host may give itself (RFC 4291, section 2.5.1)
_REMEMBERED: Final = 1024  # to read an address takes three microseconds, and each connection asks several times


@lru_cache(_REMEMBERED)
def address_of(origin: str) -> IPv4Address | IPv6Address:
    """The address, as IPv4 if an IPv6 socket has dressed it up (RFC 4291, section 2.5.5.2).

    Raises:
        ValueError: it is none.
    """
    address = ip_address(origin)
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


@lru_cache(_REMEMBERED)
def host(origin: str) -> str:
    """What is counted as one host: an IPv4 address, or the network that an IPv6 host chooses its addresses from."""
    address = address_of(origin)
    if isinstance(address, IPv6Address):
        address = IPv6Address(int(address) >> IPV6_HOST_BITS << IPV6_HOST_BITS)
    return str(address)
