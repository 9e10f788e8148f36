"""Requests that are like an earlier one are read as the strict parser reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocsp.errors import MalformedRequestError
from ocsp.forms import MAX_FORMS, MAX_LENGTHS, RequestReader
from ocsp.request import OCSPRequest, parse_request
from pkix import der
from tests.support.ocsp import ALGORITHMS, nonce, request

PREFERRED = der.extension(
    "1.3.6.1.5.5.7.48.1.8", der.sequence(der.sequence(der.sequence(der.object_identifier("1.2.840.113549.1.1.11"))))
)
MAX_CERTIFICATES = 3


def cert_id(serial: int, issuer: bytes = b"\x01" * 20) -> bytes:
    """The DER of a CertID with SHA-1."""
    return der.sequence(
        der.sequence(der.object_identifier(ALGORITHMS["sha1"]), der.NULL),
        der.octet_string(issuer),
        der.octet_string(b"\x02" * 20),
        der.integer(serial),
    )


def strictly(octets: bytes) -> OCSPRequest | None:
    """What the strict parser says; None: malformed."""
    try:
        return parse_request(octets, max_certificates=MAX_CERTIFICATES)
    except MalformedRequestError:
        return None


def read(reader: RequestReader, octets: bytes) -> OCSPRequest | None:
    """What the reader says."""
    try:
        return reader.read(octets)
    except MalformedRequestError:
        return None


SERIALS = st.one_of(
    st.integers(2**62, 2**63 - 1), st.integers(-300, 300), st.integers(-(2**170), 2**170), st.just(0x0101010101010101)
)
ISSUERS = st.sampled_from([b"\x01" * 20, b"\x02" * 20])
EXTENSIONS = st.one_of(
    st.just(b""),
    st.just(PREFERRED),
    st.binary(min_size=0, max_size=3).map(nonce),
    st.binary(min_size=16, max_size=16).map(nonce),
    st.binary(min_size=126, max_size=130).map(nonce),
    st.binary(min_size=16, max_size=16).map(lambda octets: PREFERRED + nonce(octets)),
    st.binary(min_size=1, max_size=4).map(lambda octets: der.extension("1.3.6.1.5.5.7.48.1.2", octets)),
)
REQUESTS = st.builds(
    lambda cert_ids, extensions, front: request(*cert_ids, extensions=extensions, front=front),
    st.lists(st.builds(cert_id, SERIALS, ISSUERS), min_size=1, max_size=2),
    EXTENSIONS,
    st.sampled_from([b"", der.explicit(1, der.explicit(4, der.sequence(cert_id(2**62))))]),
)


@given(st.lists(REQUESTS, min_size=1, max_size=12))
def test_whatever_was_read_before_requests_are_read_strictly(requests: list[bytes]) -> None:
    """Any serial numbers, nonces of any kind, several clients at once."""
    reader = RequestReader(MAX_CERTIFICATES)
    for octets in requests:
        assert read(reader, octets) == strictly(octets)


def test_the_length_of_the_longest_nonce_is_read_strictly() -> None:
    """128 octets, of which the length stands in an octet of its own."""
    reader, octets = RequestReader(MAX_CERTIFICATES), request(cert_id(1), extensions=nonce(bytes(128)))
    assert read(reader, octets) == strictly(octets) is not None
    changed = octets.replace(b"\x04\x81\x80", b"\x04\x81\x00")
    assert read(reader, changed) == strictly(changed) is None


@given(REQUESTS, st.data())
def test_octets_that_differ_anywhere_from_a_request_are_read_strictly(octets: bytes, data: st.DataObject) -> None:
    """Also where they are no serial number and no nonce."""
    reader = RequestReader(MAX_CERTIFICATES)
    read(reader, octets)
    changed = bytearray(octets)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    assert read(reader, bytes(changed)) == strictly(bytes(changed))


@pytest.mark.parametrize("extensions", [b"", nonce(bytes(16))], ids=["plain", "nonce"])
def test_every_octet_of_a_request_may_have_any_value(extensions: bytes) -> None:
    """Each in turn, in a request that was read before."""
    octets = request(cert_id(2**62 + 5), extensions=extensions)
    reader = RequestReader(MAX_CERTIFICATES)
    read(reader, octets)
    for at in range(len(octets)):
        for value in (0x00, 0x01, 0x7F, 0x80, 0xFF):
            changed = octets[:at] + bytes((value,)) + octets[at + 1 :]
            assert read(reader, changed) == strictly(changed)


def test_forms_are_remembered_in_bounded_memory() -> None:
    """Every client may send another one."""
    reader = RequestReader(MAX_CERTIFICATES)
    for number in range(MAX_FORMS * 3):
        reader.read(request(cert_id(2**62, number.to_bytes(20, "big"))))
    for length in range(MAX_LENGTHS + 10):
        reader.read(request(cert_id(2**62, bytes(length))))
    assert len(reader._forms) <= MAX_LENGTHS
    assert max(map(len, reader._forms.values())) <= MAX_FORMS
