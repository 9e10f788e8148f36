"""Tokyo and Toyama in one installation, as strangers see them: one responder, one directory, two CAs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.clients import ldapsearch, ocsp, run
from tests.support.running import RESIDENTS, RunningCA, Up, eventually, installed_ca

CERTIFICATE, CRL = "cACertificate;binary", "certificateRevocationList;binary"
CA_NAMES = {name: f"OU=Test The Governor of {name},OU={name},O=JPKI Test,C=JP" for name in ("Tokyo-to", "Toyama-ken")}
MUNICIPALITIES = {"Tokyo-to": ("Chiyoda-ku", "Chuo-ku"), "Toyama-ken": ("Toyama-shi", "Takaoka-shi")}  # good, revoked
ALL_MUNICIPALITIES = 62 + 15


@dataclass(frozen=True)
class TwoCAs:
    """Both, with the `prefca up` that runs them."""

    by_prefecture: dict[str, RunningCA]
    up: Up

    @property
    def both(self) -> RunningCA:
        """For commands that are about both."""
        return self.by_prefecture["Tokyo-to"]


@pytest.fixture(scope="module")
def two() -> Iterator[TwoCAs]:
    """Toyama was added to an installation that had samples of Tokyo already."""
    with installed_ca() as tokyo:
        tokyo.prefca("init", "--prefecture", "Toyama-ken")
        tokyo.prefca("sample", "--count", RESIDENTS)
        with tokyo.up() as up:
            toyama = replace(tokyo, samples=tokyo.samples / "Toyama-ken")
            yield TwoCAs({"Tokyo-to": tokyo, "Toyama-ken": toyama}, up)


def serial_of(certificate: Path) -> int:
    """Its serial number."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number


def list_of(ca: RunningCA, prefecture: str, municipality: str) -> x509.CertificateRevocationList:
    """A municipal list as a relying party reads it."""
    base = f"CN={municipality} CRLDP,OU=CRL Distribution Points,OU={prefecture},O=JPKI Test,C=JP"
    (entry,) = ldapsearch(ca, base, access="ldaps").values()
    return x509.load_der_x509_crl(entry[CRL][0])


def number_of(crl: x509.CertificateRevocationList) -> int:
    """Its CRLNumber."""
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


@pytest.mark.req("R-1-3-1-1", "R-4-4-4-2-1")
@pytest.mark.parametrize("prefecture", CA_NAMES)
def test_one_responder_answers_for_each_ca_with_a_delegate_of_its_own(two: TwoCAs, prefecture: str) -> None:
    """OpenSSL verifies the answer under the certificate of that CA alone."""
    ca = two.by_prefecture[prefecture]
    answer = ocsp(ca, "-cert", ca.good, "-cert", ca.revoked)
    assert "Response verify OK" in answer
    assert f"{ca.good}: good" in answer
    assert f"{ca.revoked}: revoked" in answer
    for row in two.both.report("list", "--kind", "ocsp")[prefecture]:
        assert f"0x{row['serial']}: good" in ocsp(ca, "-serial", f"0x{row['serial']}")


@pytest.mark.req("R-4-4-4-2-1")
def test_a_certificate_of_the_other_ca_is_unknown(two: TwoCAs) -> None:
    """Under the name and key of Tokyo nothing is said of a certificate of Toyama."""
    tokyo, toyama = two.by_prefecture.values()
    serial = hex(serial_of(toyama.good))
    assert "good" in ocsp(toyama, "-serial", serial)
    assert "unknown" in ocsp(tokyo, "-serial", serial)


def test_nobody_answers_for_both_cas_at_once(two: TwoCAs) -> None:
    """No delegate may speak for two CAs (RFC 6960, section 4.2.2.2)."""
    tokyo, toyama = two.by_prefecture.values()
    assert "unauthorized (6)" in ocsp(tokyo, "-cert", tokyo.good, "-issuer", toyama.ca, "-cert", toyama.good)


@pytest.mark.req("R-2-6-1-2", "R-2-6-3-1")
def test_one_directory_has_both_cas_for_everybody(two: TwoCAs) -> None:
    """A search from the organization finds both entries, each with its own CA certificate, and the entries between."""
    found = ldapsearch(two.both, "O=JPKI Test,C=JP", f"({CERTIFICATE}=*)", scope="sub")
    for prefecture, ca in two.by_prefecture.items():
        authority = x509.load_pem_x509_certificate(ca.ca.read_bytes())
        assert found[CA_NAMES[prefecture]][CERTIFICATE] == [authority.public_bytes(Encoding.DER)]
    below = ldapsearch(two.both, "O=JPKI Test,C=JP", "(objectClass=*)", "1.1", scope="one")
    assert set(below) == {f"OU={prefecture},O=JPKI Test,C=JP" for prefecture in CA_NAMES}


@pytest.mark.req("R-2-6-3-2", "R-4-4-4-5")
def test_one_bind_reads_the_lists_of_all_municipalities(two: TwoCAs) -> None:
    """The right is the relying party's, whichever CA made the list; strangers see none of them."""
    search = (two.both, "O=JPKI Test,C=JP", f"(&(objectClass=cRLDistributionPoint)({CRL}=*))", "1.1")
    assert len(ldapsearch(*search, scope="sub", access="starttls")) == ALL_MUNICIPALITIES
    assert ldapsearch(*search, scope="sub") == {}


@pytest.mark.req("R-4-4-4-4-1", "R-4-4-4-4-2")
@pytest.mark.parametrize("prefecture", CA_NAMES)
def test_openssl_validates_with_the_lists_of_the_right_ca_only(two: TwoCAs, prefecture: str, tmp_path: Path) -> None:
    """Good and revoked under its own CA; no path at all under the other one."""
    ca = two.by_prefecture[prefecture]
    (other,) = (each for each in two.by_prefecture.values() if each is not ca)
    verdicts = []
    for certificate, municipality in zip((ca.good, ca.revoked), MUNICIPALITIES[prefecture], strict=True):
        file = tmp_path / f"{municipality}.pem"
        file.write_bytes(list_of(ca, prefecture, municipality).public_bytes(Encoding.PEM))
        done = run("openssl", "verify", "-CAfile", ca.ca, "-x509_strict", "-crl_check", "-CRLfile", file, certificate)
        verdicts.append(done.stdout + done.stderr)
    assert "good.pem: OK" in verdicts[0]
    assert "certificate revoked" in verdicts[1]
    assert "unable to get local issuer certificate" in run("openssl", "verify", "-CAfile", other.ca, ca.good).stderr


@pytest.mark.req("R-4-4-3-1", "R-2-6-2-1")
def test_a_publication_of_one_ca_leaves_the_other_as_it_is(two: TwoCAs) -> None:
    """In the directory the new lists of Toyama stand beside the same lists of Tokyo, to the octet."""
    tokyo = list_of(two.both, "Tokyo-to", "Chiyoda-ku")
    before = number_of(list_of(two.both, "Toyama-ken", "Toyama-shi"))
    two.both.prefca("--ca", "Toyama-ken", "batch", "--now")
    eventually(lambda: number_of(list_of(two.both, "Toyama-ken", "Toyama-shi")) > before, "a new list of Toyama")
    assert list_of(two.both, "Tokyo-to", "Chiyoda-ku") == tokyo


@pytest.mark.req("R-4-4-4-2-2", "R-4-4-3-1")
def test_one_command_revokes_at_both_and_one_publishes_for_both(two: TwoCAs) -> None:
    """Each CA revokes what it issued: OCSP knows at once, the lists of both after one batch."""
    serials = {}
    for prefecture, rows in two.both.report("list").items():
        sample = f"{serial_of(two.by_prefecture[prefecture].good):016X}"
        serials[prefecture] = next(row["serial"] for row in rows if row["status"] == "good" and row["serial"] != sample)
    two.both.prefca("revoke", *serials.values(), "--reason", "superseded")
    for prefecture, serial in serials.items():
        ca = two.by_prefecture[prefecture]
        eventually(lambda: f"0x{serial}: revoked" in ocsp(ca, "-serial", f"0x{serial}"), "OCSP says revoked")  # noqa: B023
    before = two.both.report("status")
    published = two.both.report("batch", "--now")
    for prefecture in CA_NAMES:
        assert published[prefecture]["entries"] == sum(row["entries"] for row in before[prefecture]["lists"]) + 1


def test_the_lines_to_paste_are_those_of_both(two: TwoCAs) -> None:
    """Each works as it is."""
    commands = re.findall(r"^  ((?:LDAP\w+=\S+ )?(?:openssl|ldapsearch|curl) .*)$", two.up.table, re.MULTILINE)
    assert len(commands) == 2 * 5
    for command in commands:
        assert run("sh", "-c", command).returncode == 0
    for prefecture in CA_NAMES:
        assert f"test CA of {prefecture} is up" in two.up.table


@pytest.mark.req("R-2-1-2-20")
def test_a_ca_that_is_added_is_served_without_a_restart() -> None:
    """Responder and directory take it up while they run, and go on with the one that was there."""
    with installed_ca() as tokyo, tokyo.up():
        told = tokyo.prefca("init", "--prefecture", "Toyama-ken")
        assert "start `prefca scheduler` or `prefca up` anew" in told
        toyama = replace(tokyo, samples=tokyo.samples / "Toyama-ken")
        toyama.ca.parent.mkdir()
        tokyo.prefca("--ca", "Toyama-ken", "export", "ca", "--output", toyama.ca)
        (delegate,) = tokyo.report("--ca", "Toyama-ken", "list", "--kind", "ocsp")
        serial = f"0x{delegate['serial']}"
        eventually(lambda: f"{serial}: good" in ocsp(toyama, "-serial", serial), "OCSP answers for the new CA")
        search = (tokyo, "C=JP", f"({CERTIFICATE}=*)", "1.1")
        eventually(lambda: set(ldapsearch(*search, scope="sub")) == set(CA_NAMES.values()), "the new CA's entry")
        assert f"{tokyo.good}: good" in ocsp(tokyo, "-cert", tokyo.good)
