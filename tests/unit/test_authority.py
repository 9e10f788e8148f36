"""What an authority is called, under which policies it issues, and which lists it keeps."""

from collections import Counter

import pytest
from cryptography import x509

from issuer.profiles.authority import Authority, Hierarchy, Kind
from issuer.profiles.municipality import PREFECTURES, PrefectureName, municipality
from pkix.distribution import Scope

TOKYO, TOYAMA = PREFECTURES["Tokyo-to"], PREFECTURES["Toyama-ken"]


def values(name: x509.Name) -> list[str]:
    return [str(attribute.value) for attribute in name]


@pytest.mark.req("R-3-1-2-1", "R-3-1-1")
@pytest.mark.parametrize(
    ("prefecture", "english", "japanese"),
    [
        (
            "Tokyo-to",
            ["JP", "JPKI", "Tokyo-to", "The Governor of Tokyo-to"],
            ["JP", "公的個人認証サービス", "東京都", "東京都知事"],
        ),
        (
            "Toyama-ken",
            ["JP", "JPKI", "Toyama-ken", "The Governor of Toyama-ken"],
            ["JP", "公的個人認証サービス", "富山県", "富山県知事"],
        ),
    ],
    ids=["Tokyo", "Toyama"],
)
def test_the_governor_is_the_issuer(prefecture: PrefectureName, english: list[str], japanese: list[str]) -> None:
    """The Name ends with the Governor's title, in English and in Japanese."""
    authority = Authority(PREFECTURES[prefecture], "production")
    assert values(authority.name) == english
    assert values(authority.japanese_name) == japanese


@pytest.mark.req("R-1-2-2")
def test_every_name_of_a_test_ca_says_that_it_is_one() -> None:
    """Issuer, servers and distribution points: nobody can take them for those of production."""
    authority = Authority(TOKYO, "test")
    point = authority.distribution_point(municipality("131016"))
    for name in (authority.name, authority.server_name("OCSP Responder"), point):
        assert any("Test" in value for value in values(name)), name
    assert any("テスト" in value for value in values(authority.japanese_name))


@pytest.mark.req("R-1-2-2")
def test_no_name_of_a_production_ca_says_test() -> None:
    """The mark is the test hierarchy's alone."""
    authority = Authority(TOKYO, "production")
    names = [authority.name, authority.server_name("OCSP Responder"), *(p.point for p in authority.partitions())]
    assert not any("Test" in value for name in names for value in values(name))
    assert not any("テスト" in value for value in values(authority.japanese_name))


@pytest.mark.req("R-1-2-1")
@pytest.mark.parametrize(
    ("hierarchy", "kind", "policy"),
    [
        ("production", Kind.RESIDENT, "1.2.392.200149.8.5.1.1.10"),
        ("production", Kind.CROSS, "1.2.392.200149.8.5.1.1.10"),
        ("production", Kind.CVS, "1.2.392.200149.8.5.1.200"),
        ("production", Kind.OCSP, "1.2.392.200149.8.5.1.300"),
        ("test", Kind.RESIDENT, "1.2.392.200149.8.5.1.0.10"),
        ("test", Kind.CROSS, "1.2.392.200149.8.5.1.0.10"),
        ("test", Kind.CVS, "1.2.392.200149.8.5.1.0.200"),
        ("test", Kind.OCSP, "1.2.392.200149.8.5.1.0.300"),
    ],
    ids=str,
)
def test_policies_are_those_of_the_rule(hierarchy: Hierarchy, kind: Kind, policy: str) -> None:
    """Exactly as the rule prints them; the production ones of servers have one arc less."""
    assert Authority(TOKYO, hierarchy).policy(kind) == policy


@pytest.mark.req("R-4-4-4-4-2")
@pytest.mark.parametrize(
    ("prefecture", "municipalities"), [("Tokyo-to", 62), ("Toyama-ken", 15)], ids=["Tokyo", "Toyama"]
)
def test_there_is_a_list_for_every_municipality(prefecture: PrefectureName, municipalities: int) -> None:
    """One each, at an entry of its own, besides the two lists at the entry of the CA."""
    authority = Authority(PREFECTURES[prefecture], "test")
    partitions = authority.partitions()
    assert Counter(p.kind for p in partitions) == {"ca": 1, "operations": 1, "municipality": municipalities}
    assert len({p.point for p in partitions}) == municipalities + 1
    assert {p.point for p in partitions if p.kind != "municipality"} == {authority.name}


@pytest.mark.req("R-2-6-1-2", "R-2-6-3-1", "R-2-6-3-2", "R-2-8-3-1")
def test_only_the_lists_of_residents_are_restricted() -> None:
    """Everybody may read the ARL and the list of operations certificates."""
    kinds = {p.kind: (p.public, p.scope, p.attribute) for p in Authority(TOYAMA, "test").partitions()}
    assert kinds == {
        "ca": (True, Scope.CA, "authorityRevocationList"),
        "operations": (True, Scope.USER, "certificateRevocationList"),
        "municipality": (False, Scope.USER, "certificateRevocationList"),
    }


def test_a_distribution_point_is_named_after_its_municipality() -> None:
    """The form of real JPKI names, without the organization's own unit."""
    point = Authority(TOKYO, "production").distribution_point(municipality("132217"))
    assert values(point) == ["JP", "JPKI", "Tokyo-to", "CRL Distribution Points", "Kiyose-shi CRLDP"]
