"""A certificate and the list that covers it name the distribution point in identical octets."""

import pytest
from cryptography import x509

from pkix import der, names
from pkix.distribution import Scope, crl_distribution_points, issuing_distribution_point

pytestmark = pytest.mark.req("R-4-4-4-4-2")

POINTS = [
    pytest.param(
        names.name(
            ("C", "JP"),
            ("O", "JPKI"),
            ("OU", "Tokyo-to"),
            ("OU", "CRL Distribution Points"),
            ("CN", "Chiyoda-ku CRLDP"),
        ),
        id="municipality",
    ),
    pytest.param(
        names.name(("C", "JP"), ("O", "JPKI"), ("OU", "Tokyo-to"), ("OU", "The Governor of Tokyo-to")), id="CA"
    ),
    pytest.param(names.name(("C", "JP"), ("OU", "東" * 21), ("CN", "京" * 21)), id="lengths above 127 octets"),
]


def point_of_certificate(extension: x509.CRLDistributionPoints) -> bytes:
    """The DistributionPointName of the only DistributionPoint."""
    (point,) = der.elements(der.contents(extension.public_bytes()))
    (name,) = der.elements(der.contents(point))
    return name


def point_of_list(extension: x509.IssuingDistributionPoint) -> bytes:
    """The DistributionPointName, which is the first element."""
    return next(der.elements(der.contents(extension.public_bytes())))


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("scope", Scope)
def test_certificate_and_list_hold_the_same_octets(point: x509.Name, scope: Scope) -> None:
    """RFC 5280, section 5.2.5: identical encoding of the distribution point, whatever the list's scope."""
    expected = der.explicit(0, der.explicit(0, der.explicit(4, point.public_bytes())))
    assert point_of_certificate(crl_distribution_points(point)) == expected
    assert point_of_list(issuing_distribution_point(point, scope)) == expected


@pytest.mark.parametrize(
    ("scope", "flag"),
    [
        pytest.param(Scope.USER, b"\x81\x01\xff", id="onlyContainsUserCerts"),
        pytest.param(Scope.CA, b"\x82\x01\xff", id="onlyContainsCACerts"),
    ],
)
def test_the_scope_is_the_only_flag(scope: Scope, flag: bytes) -> None:
    """One of the two flags is TRUE; the rest is left out: all reasons, no indirect list (RFC 5280, section 5.2.5)."""
    point = names.name(("C", "JP"), ("CN", "Toyama-shi CRLDP"))
    _, *flags = der.elements(der.contents(issuing_distribution_point(point, scope).public_bytes()))
    assert flags == [flag]


def test_neighbouring_municipalities_have_points_of_their_own() -> None:
    """A list of one municipality never covers a certificate of another."""
    chiyoda, chuo = (names.name(("C", "JP"), ("CN", f"{town} CRLDP")) for town in ("Chiyoda-ku", "Chuo-ku"))
    certificate = point_of_certificate(crl_distribution_points(chiyoda))
    assert certificate != point_of_list(issuing_distribution_point(chuo, Scope.USER))
