"""The certification authority of one prefecture in one hierarchy: its names, its policies, its partitions."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from cryptography import x509

from issuer.profiles.municipality import Municipality, Prefecture, municipalities_of
from pkix.distribution import Scope
from pkix.names import name

Hierarchy = Literal["test", "production"]

CPS_URI: Final = "http://www.jpki.go.jp/cps.html"
_ORGANIZATION: Final = {"production": "JPKI", "test": "JPKI Test"}
_JAPANESE_ORGANIZATION: Final = {"production": "公的個人認証サービス", "test": "公的個人認証サービス（テスト）"}


class Kind(StrEnum):
    """What a certificate is for (R-1-1-2)."""

    RESIDENT = "resident"
    CROSS = "cross"
    LINK = "link"
    SELF_SIGNED = "self-signed"
    OCSP = "ocsp"
    CVS = "cvs"


# R-1-2-1, as the rules print them: the production ones of the servers have no ".1" before 200 and 300.
_POLICIES: Final = {
    "production": {
        Kind.RESIDENT: "1.2.392.200149.8.5.1.1.10",
        Kind.CROSS: "1.2.392.200149.8.5.1.1.10",
        Kind.CVS: "1.2.392.200149.8.5.1.200",
        Kind.OCSP: "1.2.392.200149.8.5.1.300",
    },
    "test": {
        Kind.RESIDENT: "1.2.392.200149.8.5.1.0.10",
        Kind.CROSS: "1.2.392.200149.8.5.1.0.10",
        Kind.CVS: "1.2.392.200149.8.5.1.0.200",
        Kind.OCSP: "1.2.392.200149.8.5.1.0.300",
    },
}


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of the certificates that shares one list: 区分CRL (R-4-4-4-4-2).

    `point` is the DistributionPointName of the list and the DN of the entry that holds it.
    """

    kind: Literal["municipality", "ca", "operations"]
    code: str | None  # of the municipality
    point: x509.Name
    scope: Scope
    public: bool  # R-2-6-3-1, R-2-6-3-2, R-2-8-3-1

    @property
    def attribute(self) -> str:
        """The LDAP attribute type of its list (RFC 4523, section 4)."""
        return "authorityRevocationList" if self.scope is Scope.CA else "certificateRevocationList"


@dataclass(frozen=True, slots=True)
class Authority:
    """Issuer of everything here: the Governor of `prefecture` (R-3-1-2-1). All names of a test CA say "Test"."""

    prefecture: Prefecture
    hierarchy: Hierarchy
    # What AuthorityKeyIdentifier says of the issuer: all three parts as real certificates, or its key alone, which is
    # the same in its self-signed and its link certificates.
    identifies_key_alone: bool = field(default=False, compare=False)

    @property
    def name(self) -> x509.Name:
        """The issuer Name, and the DN of the CA's entry."""
        return name(*self._base, ("OU", "Test " * self._is_test + self.prefecture.governor))

    @property
    def japanese_name(self) -> x509.Name:
        """The same in Japanese: subjectAltName of the CA, issuerAltName of residents."""
        return name(
            ("C", "JP"),
            ("O", _JAPANESE_ORGANIZATION[self.hierarchy]),
            ("OU", self.prefecture.name_ja),
            ("OU", self.prefecture.governor_ja + "（テスト）" * self._is_test),
        )

    def server_name(self, function: str) -> x509.Name:
        """The subject of an operations certificate: "OCSP Responder", …."""
        return name(*self._base, ("CN", "Test " * self._is_test + function))

    def distribution_point(self, municipality: Municipality) -> x509.Name:
        """Where the list of a municipality lies."""
        return name(*self._base, ("OU", "CRL Distribution Points"), ("CN", f"{municipality.name_romaji} CRLDP"))

    def policy(self, kind: Kind) -> str:
        """The certificate policy of a kind that has one.

        Raises:
            KeyError: self-signed and link certificates have none.
        """
        return _POLICIES[self.hierarchy][kind]

    def partitions(self) -> list[Partition]:
        """The ARL and the public list of operations certificates at the CA's entry, then one for each municipality."""
        return [
            Partition("ca", None, self.name, Scope.CA, public=True),
            Partition("operations", None, self.name, Scope.USER, public=True),
            *(
                Partition("municipality", m.code, self.distribution_point(m), Scope.USER, public=False)
                for m in municipalities_of(self.prefecture.name_romaji)
            ),
        ]

    @property
    def _is_test(self) -> bool:
        return self.hierarchy == "test"

    @property
    def _base(self) -> tuple[tuple[str, str], ...]:
        return ("C", "JP"), ("O", _ORGANIZATION[self.hierarchy]), ("OU", self.prefecture.name_romaji)
