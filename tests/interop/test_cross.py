"""Tokyo and Toyama, both cross-certified with a bridge: strangers validate paths from the one to the other."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.clients import ldapsearch, run
from tests.interop.test_pkilint import findings
from tests.support.bridge import MEMBER_POLICY, Bridge
from tests.support.ca import rsa_key
from tests.support.command import Ended
from tests.support.cross import Desk
from tests.support.running import RESIDENTS, RunningCA, installed_ca

SOURCE: Final = Path(__file__).with_name("java") / "ValidatePath.java"
PAIR: Final = "crossCertificatePair;binary"
RESIDENTS_LISTS: Final = {"good": "162019", "revoked": "162027"}
OTHER_POLICY: Final = "1.2.392.200149.8.5.1.1.10"  # of production
CA_NAMES: Final = {
    name: f"OU=Test The Governor of {name},OU={name},O=JPKI Test,C=JP" for name in ("Tokyo-to", "Toyama-ken")
}


@dataclass(frozen=True)
class Bridged:
    """Both CAs and the bridge, up, with what a relying party in Tokyo has of them in files."""

    ca: RunningCA
    directory: Path
    bridge: Bridge
    desks: dict[str, Desk]
    cases: dict[str, int]

    def path(self, name: str) -> Path:
        """A file."""
        return self.directory / name

    def fetched(self, name: str, octets: bytes) -> Path:
        """A file with these octets."""
        self.path(name).write_bytes(octets)
        return self.path(name)

    def export(self, ca: str, *what: str) -> Path:
        """What `prefca export` writes."""
        file = self.path("-".join((ca, *what)))
        self.ca.prefca("--ca", ca, "export", *what, "--output", file)
        return file

    @property
    def anchor(self) -> Path:
        """What the relying party in Tokyo trusts."""
        return self.export("Tokyo-to", "ca")

    def sample(self, which: str) -> Path:
        """A resident of Toyama."""
        return self.ca.instance / self.ca.samples / "Toyama-ken" / f"{which}.pem"

    @property
    def through(self) -> list[Path]:
        """The cross certificates between the anchor and Toyama, Toyama's first."""
        return [self.path("theirs-Toyama-ken"), self.path("ours-Tokyo-to")]

    def lists(self, leaf_list: Path, *revoked: int) -> list[Path]:
        """All lists of the path: of the leaf, of the bridge, of Tokyo."""
        bridge = self.fetched("bridge.arl", self.bridge.arl(datetime.now(UTC), *revoked))
        return [leaf_list, bridge, self.export("Tokyo-to", "arl")]

    def chain(self, leaf: Path) -> Path:
        """The path from the leaf up, in one file."""
        return self.fetched("chain.pem", b"".join(file.read_bytes() for file in (leaf, *self.through)))


@pytest.fixture(scope="module")
def bridged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridged]:
    """Both CAs cross-certified with the bridge, and a server of Toyama with a certificate; all of it published."""
    directory = tmp_path_factory.mktemp("bridged")
    with installed_ca() as ca:
        ca.prefca("init", "--prefecture", "Toyama-ken")
        ca.prefca("sample", "--count", RESIDENTS)
        bridge = Bridge()
        desks = {
            name: Desk(lambda *words: Ended(0, ca.prefca(*words), ""), directory, bridge, name) for name in CA_NAMES
        }
        cases = {name: desk.up_to_completion() for name, desk in desks.items()}
        for name, desk in desks.items():
            for half in ("ours", "theirs"):
                (directory / f"{half}-{name}").write_bytes(desk.export(half, cases[name]))
        server = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        (directory / "server.csr").write_bytes(
            server.sign(rsa_key("server"), hashes.SHA256()).public_bytes(Encoding.PEM)
        )
        create = ("operations-certificate", "create", "--for", "cvs", "--csr", directory / "server.csr")
        made = ca.report("--ca", "Toyama-ken", *map(str, create))
        ca.prefca("--ca", "Toyama-ken", "export", "certificate", made["serial"], "--output", directory / "server.pem")
        ca.prefca("batch", "--now")
        with ca.up():
            yield Bridged(ca, directory, bridge, desks, cases)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled Java program."""
    if shutil.which("javac") is None:
        pytest.skip("needs a JDK: Debian package default-jdk-headless")
    directory = tmp_path_factory.mktemp("classes")
    compiled = run(
        "javac", "-Xlint:all", "-Werror", "-d", directory, Path(__file__).with_name("java") / "ValidatePath.java"
    )
    assert compiled.returncode == 0, compiled.stderr
    return directory


def java(bridged: Bridged, classes: Path, target: Path, *source: object, policy: str = MEMBER_POLICY) -> str:
    """What Java says, under Tokyo's certificate, where the policy is demanded."""
    command = ("java", "-XX:TieredStopAtLevel=1", "-cp", classes, f"-Dpolicy={policy}", "ValidatePath")
    done = run(*command, bridged.anchor, target, *source)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def openssl(bridged: Bridged, leaf: Path, lists: list[Path], *demand: str) -> str:
    """What `openssl verify` says of a leaf of Toyama, under Tokyo's certificate."""
    revocation_lists = bridged.fetched("lists.pem", b"".join(each.read_bytes() for each in lists))
    untrusted = [word for file in bridged.through for word in ("-untrusted", file)]
    checks = ["-x509_strict", "-crl_check_all", "-extended_crl", "-CRLfile", revocation_lists]
    done = run("openssl", "verify", "-CAfile", bridged.anchor, *untrusted, *checks, *demand, leaf)
    return done.stdout + done.stderr


@pytest.mark.req("R-1-1-3", "R-7-1-2", "R-1-2-1", "R-4-4-4-1-2")
@pytest.mark.parametrize(
    ("which", "policy", "verdict"),
    [
        ("good", MEMBER_POLICY, "valid"),
        ("revoked", MEMBER_POLICY, r"REVOKED KEY_COMPROMISE"),
        ("good", OTHER_POLICY, "INVALID_POLICY"),
    ],
)
def test_java_validates_a_resident_of_the_other_prefecture(
    bridged: Bridged, classes: Path, which: str, policy: str, verdict: str
) -> None:
    """Tokyo's certificate, the bridge, Toyama, a resident: with all lists, the policies mapped there and back."""
    lists = bridged.lists(bridged.export("Toyama-ken", "crl", RESIDENTS_LISTS[which]))
    assert re.match(verdict, java(bridged, classes, bridged.chain(bridged.sample(which)), "crl", *lists, policy=policy))


@pytest.mark.req("R-4-10-1", "R-2-6-1-2")
def test_java_refuses_a_path_whose_cross_certificate_the_bridge_revoked(bridged: Bridged, classes: Path) -> None:
    """The bridge's ARL has its certificate for Toyama."""
    serial = x509.load_pem_x509_certificate(bridged.path("theirs-Toyama-ken").read_bytes()).serial_number
    lists = bridged.lists(bridged.export("Toyama-ken", "crl", RESIDENTS_LISTS["good"]), serial)
    assert java(bridged, classes, bridged.chain(bridged.sample("good")), "crl", *lists).startswith("REVOKED")


@pytest.mark.req("R-4-8-2", "R-2-6-1-2", "R-2-6-3-1")
def test_java_finds_the_way_by_the_pair_in_the_directory(bridged: Bridged, classes: Path) -> None:
    """Its LDAP CertStore reads crossCertificatePair at Toyama's entry, without a login, and takes issuedToThisCA."""
    lists = bridged.lists(bridged.export("Toyama-ken", "crl", RESIDENTS_LISTS["good"]))
    source = ("build", bridged.path("ours-Tokyo-to"), *bridged.ca.ldap, *lists)
    assert java(bridged, classes, bridged.sample("good"), *source) == "valid"


@pytest.mark.req("R-7-1-2", "R-1-3-2-3", "R-2-8-3-1")
def test_openssl_validates_a_server_of_the_other_prefecture(bridged: Bridged) -> None:
    """With every list, strictly; the list of operations certificates decides about the server."""
    lists = bridged.lists(bridged.export("Toyama-ken", "operations-crl"))
    assert "server.pem: OK" in openssl(bridged, bridged.path("server.pem"), lists)


@pytest.mark.req("R-7-1-2", "R-1-2-1")
@pytest.mark.parametrize(("policy", "verdict"), [(MEMBER_POLICY, "OK"), (OTHER_POLICY, "no explicit policy")])
def test_openssl_maps_the_policies(bridged: Bridged, policy: str, verdict: str) -> None:
    """What the bridge asserts of Toyama is, in Tokyo's domain, the residents' policy of the test hierarchy."""
    lists = bridged.lists(bridged.export("Toyama-ken", "arl"))
    demand = ("-policy", policy, "-explicit_policy", "-policy_check")
    assert verdict in openssl(bridged, bridged.path("theirs-Toyama-ken"), lists, *demand)


@pytest.mark.req("R-7-1-2")
def test_gnutls_validates_a_server_of_the_other_prefecture(bridged: Bridged) -> None:
    """It knows nothing of policies, and takes no offence at them."""
    chain = bridged.chain(bridged.path("server.pem"))
    done = run("certtool", "--verify", "--load-ca-certificate", bridged.anchor, "--infile", chain)
    assert "Chain verification output: Verified. The certificate is trusted." in done.stdout


@pytest.mark.req("R-4-8-2", "R-2-6-1-2", "R-2-6-3-1")
@pytest.mark.parametrize("prefecture", CA_NAMES)
def test_the_directory_shows_the_pair_with_explicit_tags(bridged: Bridged, prefecture: str) -> None:
    """[0] has the certificate from the bridge, [1] the one for it, octet for octet: as OpenSSL takes it apart."""
    (entry,) = ldapsearch(bridged.ca, CA_NAMES[prefecture], "crossCertificatePair").values()
    (pair,) = entry[PAIR]
    file = bridged.fetched(f"pair-{prefecture}", pair)
    lines = run("openssl", "asn1parse", "-inform", "DER", "-in", file).stdout.splitlines()
    places = [at for at, line in enumerate(lines) if "d=1 " in line]
    assert [re.findall(r"cont \[ (\d) \]", lines[at]) for at in places] == [["0"], ["1"]]
    for at, half in zip(places, ("theirs", "ours"), strict=True):
        offset = lines[at + 1].split(":")[0].strip()  # of what the tag is around
        out = bridged.path("half.der")
        run("openssl", "asn1parse", "-inform", "DER", "-in", file, "-strparse", offset, "-out", out, "-noout")
        held = x509.load_pem_x509_certificate(bridged.path(f"{half}-{prefecture}").read_bytes())
        assert out.read_bytes() == held.public_bytes(Encoding.DER)


@pytest.mark.req("R-2-6-1-2")
def test_the_pair_is_found_by_its_halves(bridged: Bridged) -> None:
    """CertificatePairExactMatch."""
    name = CA_NAMES["Tokyo-to"]
    ours = x509.load_pem_x509_certificate(bridged.path("ours-Tokyo-to").read_bytes())
    half = f'{{ serialNumber {ours.serial_number}, issuer rdnSequence:"{name}" }}'
    assertion = f"(crossCertificatePair={{ issuedByThisCAAssertion {half} }})"
    assert list(ldapsearch(bridged.ca, "C=JP", assertion, "1.1", scope="sub")) == [name]


@pytest.mark.req("R-7-1-2", "R-1-3-2-3")
@pytest.mark.parametrize(("prefecture", "certificate"), [("Tokyo-to", "ours-Tokyo-to"), ("Toyama-ken", "server.pem")])
def test_pkilint_finds_nothing(bridged: Bridged, prefecture: str, certificate: str) -> None:
    """In a cross certificate and one of a server, by themselves and beside the CA's."""
    assert findings("lint_pkix_cert", bridged.path(certificate)) == set()
    ca = bridged.export(prefecture, "ca")
    assert findings("lint_pkix_signer_signee_cert_chain", ca, bridged.path(certificate)) == set()


@pytest.mark.req("R-2-8-2", "R-4-4-4-2-1")
def test_the_responder_tells_everybody_of_a_cross_certificate(bridged: Bridged) -> None:
    """Without a right: it is public."""
    ours, issuer = bridged.path("ours-Tokyo-to"), bridged.anchor
    done = run("openssl", "ocsp", "-issuer", issuer, "-CAfile", issuer, "-url", bridged.ca.ocsp_url, "-cert", ours)
    assert "ours-Tokyo-to: good" in done.stdout + done.stderr
