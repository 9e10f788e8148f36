"""Which list covers which certificates: CRLDistributionPoints in these, IssuingDistributionPoint in that.

Both carry the same DistributionPointName in identical octets (RFC 5280, section 5.2.5): one directoryName, which is
also the DN of the entry that holds the list.
"""

from enum import Enum, auto

from cryptography import x509

from pkix.names import directory_name


class Scope(Enum):
    """Which certificates of a distribution point a list speaks about."""

    USER = auto()  # onlyContainsUserCerts
    CA = auto()  # onlyContainsCACerts: an ARL


def crl_distribution_points(point: x509.Name) -> x509.CRLDistributionPoints:
    """The extension of a certificate (RFC 5280, section 4.2.1.13): one point, fullName, one directoryName."""
    return x509.CRLDistributionPoints([x509.DistributionPoint([directory_name(point)], None, None, None)])


def issuing_distribution_point(point: x509.Name, scope: Scope) -> x509.IssuingDistributionPoint:
    """The critical extension of the list that lies at `point` (RFC 5280, section 5.2.5)."""
    return x509.IssuingDistributionPoint(
        full_name=[directory_name(point)],
        relative_name=None,
        only_contains_user_certs=scope is Scope.USER,
        only_contains_ca_certs=scope is Scope.CA,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
