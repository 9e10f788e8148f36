"""Octets become an OCSPRequest, or MalformedRequestError, and nothing else."""

import base64
import contextlib
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st

from ocsp.errors import MalformedRequestError
from ocsp.request import OCSPRequest, parse_request, path_octets
from pkix import der
from tests.support.ocsp import CA, NONCE_OID, SERIAL, nonce, request
from tests.support.parties import ECDSA_WITH_SHA256, Identity, signed

CA_1 = CA(datetime(2026, 4, 1, tzinfo=UTC))
ONE = CA_1.cert_id(SERIAL)
CRITICAL = {"critical": True}
SIGNER = Identity.new("verifier")
PREFERRED_OID = "1.3.6.1.5.5.7.48.1.8"
PREFERRED = der.extension(
    PREFERRED_OID,
    der.sequence(
        der.sequence(der.sequence(der.object_identifier("1.2.3"), der.NULL), der.sequence()),
        der.sequence(der.sequence(der.object_identifier(ECDSA_WITH_SHA256))),
    ),
)
DIRECTORY_NAME = der.explicit(1, der.explicit(4, CA_1.subject.public_bytes()))


def parse(octets: bytes) -> OCSPRequest:
    return parse_request(octets, max_certificates=3)


@pytest.mark.req("R-4-4-4-1-1")
@pytest.mark.parametrize(
    "algorithm",
    [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()],
    ids=lambda algorithm: algorithm.name,
)
def test_a_request_of_pyca_names_one_certificate(algorithm: hashes.HashAlgorithm) -> None:
    """Every hash algorithm of a CertID is read."""
    made = ocsp.OCSPRequestBuilder().add_certificate(
        CA_1.issue(SERIAL, CA_1.key, CA_1.subject, (CA_1.now, CA_1.now)), CA_1.certificate, algorithm
    )
    octets = made.build().public_bytes(Encoding.DER)
    (cert_id,) = parse(octets).cert_ids
    judged = ocsp.load_der_ocsp_request(octets)
    assert cert_id.serial_number == judged.serial_number == SERIAL
    assert (cert_id.issuer_name_hash, cert_id.issuer_key_hash) == (judged.issuer_name_hash, judged.issuer_key_hash)


@pytest.mark.parametrize("parameters", [der.NULL, b""], ids=["NULL", "absent"])
def test_the_octets_of_a_cert_id_are_kept(parameters: bytes) -> None:
    """The answer repeats the CertID exactly as it was asked."""
    asked = CA_1.cert_id(SERIAL, parameters=parameters)
    assert parse(request(asked)).cert_ids[0].der == asked


@pytest.mark.parametrize("serial", [SERIAL, 0, -5, 1, 2**159, -(2**159)])
def test_any_serial_number_up_to_20_octets_is_read(serial: int) -> None:
    """Also numbers that no CA issues."""
    assert parse(request(CA_1.cert_id(serial))).cert_ids[0].serial_number == serial


def test_several_certificates_keep_their_order() -> None:
    """SingleResponses are given in that order."""
    serials = [SERIAL + 2, SERIAL, SERIAL + 1]
    assert [c.serial_number for c in parse(request(*map(CA_1.cert_id, serials))).cert_ids] == serials


@pytest.mark.req("R-4-4-4-1-1")
@pytest.mark.parametrize(
    ("octets", "lawful"),
    [(0, False), (1, True), (15, True), (16, True), (32, True), (33, True), (128, True), (129, False)],
)
def test_nonce_lengths(octets: int, *, lawful: bool) -> None:
    """RFC 9654, section 2.1: 1 to 128 octets are repeated, others are malformed."""
    asked = request(ONE, extensions=nonce(b"n" * octets))
    if lawful:
        assert parse(asked).nonce == der.octet_string(b"n" * octets)
    else:
        with pytest.raises(MalformedRequestError, match="nonce"):
            parse(asked)


@pytest.mark.parametrize(
    ("extn_value", "lawful"),
    [(b"n" * 16, True), (b"\x04\x20" + b"n" * 16, True), (b"", False), (b"n" * 129, False)],
    ids=["16 octets", "looks like an OCTET STRING", "empty", "129 octets"],
)
def test_a_nonce_of_rfc_2560_is_the_extension_value_itself(extn_value: bytes, *, lawful: bool) -> None:
    """Clients of that time do not wrap it in an OCTET STRING; it is repeated as it came."""
    asked = request(ONE, extensions=der.extension(NONCE_OID, extn_value))
    if lawful:
        assert parse(asked).nonce == extn_value
    else:
        with pytest.raises(MalformedRequestError, match="nonce"):
            parse(asked)


LIST_OID, LOCATOR_OID = "1.3.6.1.5.5.7.48.1.4", "1.3.6.1.5.5.7.48.1.7"


@pytest.mark.parametrize("critical", [False, True])
@pytest.mark.parametrize(
    ("oid", "of_one"), [(NONCE_OID, False), (LIST_OID, False), (PREFERRED_OID, False), (LOCATOR_OID, True)]
)
def test_known_extensions_may_be_critical_in_their_place(oid: str, *, of_one: bool, critical: bool) -> None:
    """RFC 6960, section 4.4: of the request, or of one certificate. Elsewhere they are like unknown ones."""
    extension = der.extension(oid, der.sequence(), critical=critical)
    in_request, of_single = request(ONE, extensions=extension), request(ONE, single_extensions=extension)
    in_place, elsewhere = (of_single, in_request) if of_one else (in_request, of_single)
    assert len(parse(in_place).cert_ids) == 1
    if critical:
        with pytest.raises(MalformedRequestError, match="critical"):
            parse(elsewhere)
    else:
        assert parse(elsewhere).nonce is None


@pytest.mark.parametrize(
    "octets",
    [
        request(ONE, front=der.explicit(0, der.integer(0)), extensions=nonce(b"n" * 16)),
        request(
            ONE,
            extensions=der.sequence(
                der.object_identifier(NONCE_OID), b"\x01\x01\x00", der.octet_string(der.octet_string(b"n" * 16))
            ),
        ),
    ],
    ids=["version", "critical"],
)
def test_defaults_may_be_written_out(octets: bytes) -> None:
    """DER leaves them away, and clients do not."""
    assert parse(octets) == parse(request(ONE, extensions=nonce(b"n" * 16)))


def test_unknown_extensions_are_ignored_unless_critical() -> None:
    """RFC 6960, section 4.1.2."""
    unknown = der.extension("1.2.3.4", b"?")
    assert len(parse(request(ONE, extensions=unknown, single_extensions=unknown)).cert_ids) == 1


@pytest.mark.parametrize("general_name", [DIRECTORY_NAME, der.explicit(1, b"\x81\x01a")], ids=["directory", "mail"])
def test_requestor_name_is_tolerated(general_name: bytes) -> None:
    """RFC 9919, section 3.1.2: an unsigned request with one is treated as without."""
    assert parse(request(ONE, front=general_name)) == parse(request(ONE))


@pytest.mark.parametrize("brought", [[SIGNER.der], [], [SIGNER.der, SIGNER.der]], ids=["one", "none", "two"])
def test_a_signature_is_read_with_what_it_is_about(brought: list[bytes]) -> None:
    """Whoever verifies needs the octets that were signed, exactly."""
    octets = signed(request(ONE), SIGNER, brought)
    found = parse(octets).signature
    assert found is not None
    assert found.certificates == tuple(brought)
    assert found.algorithm == ECDSA_WITH_SHA256
    assert found.requestor_name == der.explicit(4, SIGNER.certificate.subject.public_bytes())
    key = SIGNER.key.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(found.signature, found.tbs_request, ec.ECDSA(hashes.SHA256()))


def test_preferred_algorithms_are_read_in_their_order() -> None:
    """RFC 6960, section 4.4.7.1; what a client says of keys besides is read over."""
    assert parse(request(ONE, extensions=PREFERRED)).preferred_algorithms == ("1.2.3", ECDSA_WITH_SHA256)


MALFORMED = {
    "signed by nobody": der.sequence(
        der.sequence(der.sequence(der.sequence(ONE))),
        der.explicit(0, der.sequence(der.sequence(der.object_identifier(ECDSA_WITH_SHA256)), der.bit_string(b"s"))),
    ),
    "signature without algorithm": der.sequence(
        der.sequence(DIRECTORY_NAME, der.sequence(der.sequence(ONE))),
        der.explicit(0, der.sequence(der.sequence(), der.bit_string(b"s"))),
    ),
    "preferred algorithms without OID": request(
        ONE, extensions=der.extension(PREFERRED_OID, der.sequence(der.sequence()))
    ),
    "nothing": b"",
    "not DER": b"GET / HTTP/1.0\r\n\r\n",
    "indefinite length": b"\x30\x80" + request(ONE)[2:] + b"\x00\x00",
    "cut short": request(ONE)[:-1],
    "octets behind it": request(ONE) + b"\x00",
    "no certificate": request(),
    "more certificates than allowed": request(ONE, ONE, ONE, ONE),
    "serial of 21 octets": request(CA_1.cert_id(2**160)),
    "version 2": request(ONE, front=der.explicit(0, der.integer(1))),
    "version -1": request(ONE, front=der.explicit(0, der.integer(-1))),
    "two requestor names": request(ONE, front=der.explicit(1, b"\x81\x01a", b"\x81\x01b")),
    "unknown critical extension": request(ONE, extensions=der.extension("1.2.3.4", b"?", critical=True)),
    "unknown critical single extension": request(ONE, single_extensions=der.extension("1.2.3.4", b"?", critical=True)),
    "two nonces": request(ONE, extensions=nonce(b"n" * 16) + nonce(b"m" * 16)),
    "empty list of extensions": der.sequence(
        der.sequence(der.sequence(der.sequence(ONE)), der.explicit(2, der.sequence()))
    ),
}


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED)
def test_malformed(octets: bytes) -> None:
    """What is no OCSPRequest of RFC 6960, or more than is served at once."""
    with pytest.raises(MalformedRequestError):
        parse(octets)


# Base64 of all ones is "/", of 111110 repeated "+", wherever in the nonce that begins.
PATH_OCTETS = request(ONE, extensions=nonce(b"\xff" * 8 + b"\xfb\xef\xbe" * 3 + b"\xef\xbe" + b"\xfb\xef\xbe" * 3))
BASE64 = base64.b64encode(PATH_OCTETS).decode()
PATHS = {
    "plain": BASE64,
    "URL-encoded": quote(BASE64, safe=""),
    "lower-case escapes": quote(BASE64, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "no padding": BASE64.rstrip("="),
    "base64url": base64.urlsafe_b64encode(PATH_OCTETS).decode(),
    "base64url without padding": base64.urlsafe_b64encode(PATH_OCTETS).decode().rstrip("="),
    "two slashes in front": "/" + BASE64,
    "slash behind": BASE64 + "/",
    "slash behind, no padding": BASE64.rstrip("=") + "/",
    "plus became space": BASE64.replace("+", "%20"),
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_path_is_read_however_clients_write_it(path: str) -> None:
    """All of these are on the wire, so all of these are answered."""
    assert all(sign in BASE64 for sign in ("+", "//", "="))
    assert path_octets("/" + path) == PATH_OCTETS


@given(st.binary(max_size=70_000))
def test_every_der_element_survives_a_path(contents: bytes) -> None:
    """Whatever the last character of its base64 is, a slash among them."""
    octets = der.octet_string(contents)
    for text in (base64.b64encode(octets), base64.b64encode(octets).rstrip(b"=") + b"/"):
        if len(text) >= 8:
            assert path_octets("/" + text.decode()) == octets


@pytest.mark.parametrize("path", ["/", "//", "/favicon.ico", "/MEUw!", "/%ff%ff", f"/{BASE64}AAAA", "/日本"])
def test_a_path_that_is_no_base64_of_der(path: str) -> None:
    """Malformed, never another error."""
    with pytest.raises(MalformedRequestError):
        parse(path_octets(path))


@given(st.one_of(st.binary(), st.binary().map(lambda tail: PATH_OCTETS[: len(tail)] + tail)))
def test_any_octets_parse_or_are_malformed(octets: bytes) -> None:
    """No other exception, whatever arrives."""
    with contextlib.suppress(MalformedRequestError):
        parse(octets)


@given(st.data())
def test_a_damaged_request_parses_or_is_malformed(data: st.DataObject) -> None:
    """The same for requests that are almost right."""
    octets = bytearray(request(ONE, extensions=nonce(b"n" * 32), front=DIRECTORY_NAME))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedRequestError):
        parse(bytes(octets))


SIGNED = signed(request(ONE, extensions=nonce(b"n" * 32) + PREFERRED), SIGNER)


@given(st.data())
def test_a_damaged_signed_request_parses_or_is_malformed(data: st.DataObject) -> None:
    """Octets are replaced, left out or put in."""
    octets = bytearray(SIGNED)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets) - 1))
        octets[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(MalformedRequestError):
        parse(bytes(octets))


@given(st.text(st.characters()))
def test_any_path_gives_octets_or_is_malformed(path: str) -> None:
    """The same for the path of a GET, surrogates of undecodable octets included."""
    with contextlib.suppress(MalformedRequestError):
        path_octets(path)
