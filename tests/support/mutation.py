"""LDAPMessages with something wrong in them, the same in every run."""

from collections.abc import Iterator, Sequence
from random import Random

from ldaptor.protocols import pureber, pureldap

from repository.controls import ASSERTION, MATCHED_VALUES, PAGED_RESULTS
from repository.snapshot import CANCEL, START_TLS, WHO_AM_I
from tests.support.repository import CA, CHIYODA, LIST, PARTY_DN, PASSWORD, bind_request, message, search_request

_INTERESTING = bytes((0x00, 0x01, 0x04, 0x30, 0x31, 0x7F, 0x80, 0x81, 0x82, 0x84, 0x88, 0xA0, 0xA2, 0xFF))


def _filter(name: str, value: bytes = b"x") -> pureldap.LDAPFilter_equalityMatch:
    return pureldap.LDAPFilter_equalityMatch(
        attributeDesc=pureldap.LDAPAttributeDescription(name), assertionValue=pureldap.LDAPAssertionValue(value)
    )


def _nested(depth: int) -> object:
    found: object = pureldap.LDAPFilter_present("cn")
    for _ in range(depth):
        found = pureldap.LDAPFilter_not(found)
    return found


_SUBSTRINGS = pureldap.LDAPFilter_substrings(
    type="cn",
    substrings=[pureldap.LDAPFilter_substrings_initial("Chi"), pureldap.LDAPFilter_substrings_final("CRLDP")],
)
_EXTENSIBLE = pureldap.LDAPFilter_extensibleMatch(
    matchingRule="caseIgnoreMatch", type="ou", matchValue="Tokyo-to", dnAttributes=True
)
_ASSERTION = pureldap.LDAPAttributeValueAssertion(
    pureldap.LDAPAttributeDescription("ou"), pureldap.LDAPAssertionValue("Tokyo-to")
)
_ATTRIBUTE = pureber.BERSequence(
    [pureber.BEROctetString("ou"), pureber.BERSet([pureber.BEROctetString("x"), pureber.BEROctetString("y")])]
)

# Every operation, filter and control, and what comes near to a limit.
VALID: Sequence[bytes] = (
    message(search_request()),
    message(search_request(CA, 0, None, "cACertificate", LIST), 2),
    message(search_request("C=JP", 2, pureldap.LDAPFilter_and([_filter("cn"), _SUBSTRINGS, _EXTENSIBLE]), "*", "+"), 3),
    message(search_request("C=JP", 2, _filter(LIST, b'{ issuer rdnSequence:"C=JP", thisUpdate utcTime:"1Z" }'))),
    message(search_request("C=JP", 2, _filter("cACertificate", b'{ serialNumber 1, issuer rdnSequence:"C=JP" }'))),
    message(search_request("C=JP", 2, _nested(50), "cn")),
    message(search_request(r"CN=\E5\AF\8C山市+OU=#0c0141,C=JP", 1, pureldap.LDAPFilter_or([_nested(3)] * 20))),
    message(search_request("C=JP", 2), 4, [(PAGED_RESULTS, True, b"\x30\x05\x02\x01\x02\x04\x00")]),
    message(search_request("C=JP", 2), 5, [(ASSERTION, True, b"\x87\x01c"), (MATCHED_VALUES, False, b"\x30\x00")]),
    message(bind_request()),
    message(bind_request(PARTY_DN, PASSWORD)),
    message(pureldap.LDAPBindRequest(dn="", auth=("EXTERNAL", "dn:c=JP"), sasl=True)),
    message(pureldap.LDAPCompareRequest(CHIYODA, _ASSERTION)),
    message(pureldap.LDAPExtendedRequest(WHO_AM_I)),
    message(pureldap.LDAPExtendedRequest(CANCEL, b"\x30\x03\x02\x01\x07")),
    message(pureldap.LDAPExtendedRequest(START_TLS)),
    message(pureldap.LDAPAbandonRequest(id=3)),
    message(pureldap.LDAPAddRequest(CA, [_ATTRIBUTE])),
    message(pureldap.LDAPModifyRequest(CA, [pureber.BERSequence([pureber.BEREnumerated(0), _ATTRIBUTE])])),
    message(pureldap.LDAPModifyDNRequest(CA, "OU=x", deleteoldrdn=True)),
    message(pureldap.LDAPDelRequest(CA)),
    message(pureldap.LDAPUnbindRequest()),
)


def mutations(seed: int, number: int) -> Iterator[bytes]:
    """One or several of the valid messages, with one to four mutations."""
    random = Random(seed)
    for _ in range(number):
        octets = bytearray(b"".join(random.choices(VALID, k=random.choice((1, 1, 2, 4)))))
        for _ in range(random.randrange(1, 5)):
            _mutate(octets, random)
        yield bytes(octets)


def _mutate(octets: bytearray, random: Random) -> None:
    position = random.randrange(len(octets) + 1)
    match random.randrange(6):
        case 0:
            octets[position : position + 1] = bytes((random.randrange(256),))
        case 1:
            octets[position : position + 1] = random.choice(_INTERESTING).to_bytes(1, "big")
        case 2:
            octets[position:position] = random.randbytes(random.randrange(1, 9))
        case 3:
            del octets[position : position + random.randrange(1, 9)]
        case 4:
            del octets[position:]
        case _:
            other = random.choice(VALID)
            start = random.randrange(len(other))
            octets[position:position] = other[start : start + random.randrange(1, 64)]
