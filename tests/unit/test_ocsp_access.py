"""Who asks, and what he may be told."""

import hashlib
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from ocsp.access import (
    AccessList,
    Caller,
    ClientCertificate,
    Credential,
    Grant,
    Network,
    Password,
    Recognition,
    Right,
    SigningCertificate,
    Token,
)
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


ORIGIN, CERTIFICATE = "192.0.2.1", b"a certificate"
FINGERPRINT = hashlib.sha256(CERTIFICATE).digest()


def granted(credential: Credential, party: str = "a", first: int = -10, last: int = 10) -> Grant:
    """An agreement from the `first` to the `last` day from now."""
    return Grant(party, credential, NOW + first * DAY, NOW + last * DAY)


@pytest.mark.parametrize(
    ("grants", "fingerprint", "recognition"),
    [
        ([granted(ClientCertificate(CERTIFICATE))], FINGERPRINT, Recognition.CLIENT_CERTIFICATE),
        ([granted(ClientCertificate(CERTIFICATE))], bytes(32), None),
        ([granted(ClientCertificate(CERTIFICATE))], None, None),
        ([granted(ClientCertificate(CERTIFICATE), last=0)], FINGERPRINT, None),
        ([granted(SigningCertificate(CERTIFICATE))], FINGERPRINT, None),
        ([granted(ClientCertificate(CERTIFICATE)), grant("b", "192.0.2.0/24")], FINGERPRINT, "client-certificate"),
        ([granted(ClientCertificate(CERTIFICATE)), grant("b", "192.0.2.0/24")], bytes(32), Recognition.NETWORK),
    ],
    ids=[
        *("registered", "another", "none shown", "agreement ended", "registered for signing", "before the network"),
        "worth nothing, but the network is",
    ],
)
def test_a_party_is_recognised_by_its_client_certificate(
    grants: list[Grant], fingerprint: bytes | None, recognition: Recognition | None
) -> None:
    """Before the network that it asks from."""
    assert AccessList(grants).caller(ORIGIN, NOW, fingerprint).recognition == recognition


def test_tokens_passwords_and_signing_certificates_are_found() -> None:
    """While the agreement lasts; each of several that a party has."""
    token = Token(hashlib.sha256(b"token").digest())
    both = [granted(Password("one")), granted(Password("two"))]
    access = AccessList([granted(token), *both, granted(SigningCertificate(CERTIFICATE))])
    found = access.bearer("token", NOW)
    assert found is not None
    assert found.party == "a"
    assert access.bearer("another", NOW) is None
    assert access.bearer("not UTF-8: \udcff", NOW) is None
    assert set(access.passwords("a", NOW)) == {"one", "two"}
    assert not access.passwords("b", NOW)
    assert set(access.signing_certificates(NOW)) == {CERTIFICATE}
    later = NOW + 10 * DAY
    assert [access.bearer("token", later), access.passwords("a", later), access.signing_certificates(later)] == [
        *(None, {}, {})
    ]


@pytest.mark.parametrize(
    ("grants", "fingerprint", "expected"),
    [
        ([granted(SigningCertificate(CERTIFICATE))], None, True),
        ([granted(SigningCertificate(CERTIFICATE), first=1)], None, False),
        ([granted(SigningCertificate(CERTIFICATE))], FINGERPRINT, False),
        ([granted(ClientCertificate(CERTIFICATE))], None, False),
    ],
    ids=["somebody signs", "not yet", "something was shown", "nobody signs"],
)
def test_a_signature_is_expected_where_it_could_help(
    grants: list[Grant], fingerprint: bytes | None, *, expected: bool
) -> None:
    """Of somebody who shows nothing, once anybody signs requests."""
    assert AccessList(grants).caller(ORIGIN, NOW, fingerprint).signature_expected is expected


def test_a_way_that_is_switched_off_is_no_way() -> None:
    """Whatever is registered."""
    grants = [grant("a", "192.0.2.0/24"), granted(ClientCertificate(CERTIFICATE))]
    access = AccessList(grants, [Recognition.CLIENT_CERTIFICATE])
    assert access.caller(ORIGIN, NOW).party is None
    assert access.caller(ORIGIN, NOW, FINGERPRINT).party == "a"
    assert not AccessList(grants, [Recognition.NETWORK]).client_certificates


def test_no_secret_is_shown() -> None:
    """In a log or a traceback."""
    assert "$argon2id$" not in repr(granted(Password("$argon2id$secret")))
