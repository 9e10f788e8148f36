"""After the CA renewed its key: what verifiers make of certificates and lists of both generations (RFC 4210, 4.4).

The tables here are those of docs/key-renewal.md.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import ldapsearch, list_entry, run
from tests.interop.generations import GENERATIONS, LINKS, Generation, Identifier, Link, Renewed, renewed_ca
from tests.interop.test_java import QUICK_START, SOURCE
from tests.interop.test_pkilint import ACCEPTED, findings
from tests.support.running import eventually

CRL = "certificateRevocationList"
POLICY = "1.2.392.200149.8.5.1.0.10"
ISSUER_NOT_FOUND = "error 20 at 0 depth lookup: unable to get local issuer certificate"
NO_LIST = "error 3 at 0 depth lookup: unable to get certificate CRL"
REVOKED = "error 23 at 0 depth lookup: certificate revoked"
OK = "certificate.pem: OK"

pytestmark = pytest.mark.req("R-4-13-1", "R-4-13-2")
needs_java = pytest.mark.skipif(
    shutil.which("javac") is None, reason="needs a JDK: Debian package default-jdk-headless"
)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Renewed]:
    """A CA whose certificates name their issuer as real ones do: by key, name and serial number."""
    with renewed_ca(tmp_path_factory.mktemp("full"), "full") as renewed:
        yield renewed


@pytest.fixture(scope="module")
def by_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Renewed]:
    """A CA whose certificates name their issuer by its key alone."""
    with renewed_ca(tmp_path_factory.mktemp("key"), "key") as renewed:
        yield renewed


@pytest.fixture
def renewed(request: pytest.FixtureRequest, identifier: Identifier) -> Renewed:
    """One of them."""
    found: Renewed = request.getfixturevalue({"full": "full", "key": "by_key"}[identifier])
    return found


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program."""
    directory = tmp_path_factory.mktemp("classes")
    assert run("javac", "-Xlint:all", "-Werror", "-d", directory, SOURCE).returncode == 0
    return directory


def verify(renewed: Renewed, of: tuple[Generation, str], anchor: Generation, *options: object) -> str:
    """What `openssl verify` says."""
    certificate = renewed.residents[of].certificate
    done = run("openssl", "verify", "-x509_strict", "-CAfile", renewed.anchor(anchor), *options, certificate)
    return done.stdout + done.stderr


def validate(classes: Path, renewed: Renewed, path: Path, anchor: Generation, *source: object) -> str:
    """What Java says."""
    done = run("java", *QUICK_START, "-cp", classes, "ValidatePath", renewed.anchor(anchor), path, *source)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("case", "certificate", "anchor", "has_links", "by_key_verdict", "full_verdict"),
    [
        (1, "new", "new", True, OK, OK),
        (2, "old", "new", True, OK, ISSUER_NOT_FOUND),
        (3, "new", "old", True, OK, ISSUER_NOT_FOUND),
        (4, "old", "old", True, OK, OK),
        (5, "new", "new", False, OK, OK),
        (6, "old", "new", False, ISSUER_NOT_FOUND, ISSUER_NOT_FOUND),
        (7, "new", "old", False, ISSUER_NOT_FOUND, ISSUER_NOT_FOUND),
        (8, "old", "old", False, OK, OK),
    ],
)
def test_openssl_in_the_cases_of_rfc_4210(
    full: Renewed,
    by_key: Renewed,
    case: int,
    certificate: Generation,
    anchor: Generation,
    has_links: bool,
    by_key_verdict: str,
    full_verdict: str,
) -> None:
    """With links it finds a path between generations, if certificates name their issuer's key alone.

    A certificate that names its issuer's serial number, too, names that of the self-signed one, which no link has.
    """
    demand = ("-policy", POLICY, "-explicit_policy")
    for renewed, verdict in ((by_key, by_key_verdict), (full, full_verdict)):
        links = ("-untrusted", renewed.both_links) if has_links else ()
        assert verdict in verify(renewed, (certificate, "good"), anchor, *links)
        assert verdict in verify(renewed, (certificate, "good"), anchor, *links, *demand), "the policy passes the link"


@pytest.mark.parametrize("identifier", ["full", "key"])
def test_openssl_takes_links_only_without_the_other_trust_anchor(renewed: Renewed) -> None:
    """Among all values of the directory it takes the self-signed one, which leads nowhere: a verifier leaves it out."""
    found = verify(renewed, ("old", "good"), "new", "-untrusted", renewed.directory_values())
    assert "self-signed certificate in certificate chain" in found


@pytest.mark.req("R-4-4-4-4-1", "R-4-4-4-4-2")
@pytest.mark.parametrize(
    ("certificate", "anchor", "list_by", "verdict"),
    [
        ("old", "old", "old", {"good": OK, "revoked": REVOKED}),
        ("old", "old", "new", {"good": NO_LIST, "revoked": NO_LIST}),
        ("old", "new", "old", {"good": OK, "revoked": REVOKED}),
        ("old", "new", "new", {"good": OK, "revoked": REVOKED}),
        ("new", "old", "old", {"good": OK, "revoked": REVOKED}),
        ("new", "old", "new", {"good": OK, "revoked": REVOKED}),
        ("new", "new", "old", {"good": NO_LIST, "revoked": NO_LIST}),
        ("new", "new", "new", {"good": OK, "revoked": REVOKED}),
    ],
)
def test_openssl_with_lists_of_both_keys(
    by_key: Renewed, certificate: Generation, anchor: Generation, list_by: Generation, verdict: dict[str, str]
) -> None:
    """It verifies a list with a key of the path; of both lists it takes the right one."""
    links, lists = ("-untrusted", by_key.both_links), by_key.lists()
    both = by_key.directory / "both.pem"
    both.write_bytes(b"".join(file.read_bytes() for file in lists.values()))
    for status, expected in verdict.items():
        checks = ("-crl_check", "-CRLfile", lists[list_by])
        assert expected in verify(by_key, (certificate, status), anchor, *links, *checks)
        right = {"good": OK, "revoked": REVOKED}[status]
        assert right in verify(by_key, (certificate, status), anchor, *links, "-crl_check", "-CRLfile", both)


@pytest.mark.req("R-4-4-4-2-1", "R-4-4-4-2-2", "R-1-3-2-4")
@pytest.mark.parametrize("identifier", ["full", "key"])
@pytest.mark.parametrize("certificate", ["old", "new"])
@pytest.mark.parametrize("status", ["good", "revoked"])
def test_openssl_asks_the_responder_about_both_generations(
    renewed: Renewed, identifier: Identifier, certificate: Generation, status: str
) -> None:
    """Each is answered by a delegate of its own key; under the other anchor the answer verifies as the certificate."""
    file = renewed.residents[certificate, status].certificate
    for anchor in GENERATIONS:
        trusted = ("-CAfile", renewed.anchor(anchor), "-verify_other", renewed.both_links)
        done = run(
            *("openssl", "ocsp", "-issuer", renewed.anchor(certificate), *trusted),
            *("-url", renewed.ca.ocsp_url, "-cert", file),
        )
        said = done.stderr + done.stdout
        assert f"certificate.pem: {status}" in said
        is_accepted = anchor == certificate or identifier == "key"
        assert ("Response verify OK" if is_accepted else "Response Verify Failure") in said


@needs_java
@pytest.mark.parametrize("identifier", ["full", "key"])
@pytest.mark.parametrize(
    ("certificate", "anchor", "list_by", "verdict"),
    [
        ("old", "old", "old", "valid"),
        ("old", "old", "new", "UNDETERMINED"),
        ("old", "new", "old", "valid"),
        ("old", "new", "new", "valid"),
        ("new", "old", "old", "valid"),
        ("new", "old", "new", "valid"),
        ("new", "new", "old", "UNDETERMINED"),
        ("new", "new", "new", "valid"),
    ],
)
def test_java_validates_a_path_with_a_link(
    renewed: Renewed, classes: Path, certificate: Generation, anchor: Generation, list_by: Generation, verdict: str
) -> None:
    """Link included, with lists and ARL of a key of the path; one that it cannot verify says nothing."""
    lists = (renewed.lists()[list_by], renewed.authority_lists()[list_by])
    path = renewed.path(certificate, anchor)
    assert validate(classes, renewed, path, anchor, "crl", *lists).startswith(verdict)


@needs_java
@pytest.mark.parametrize("identifier", ["full", "key"])
def test_java_does_not_look_for_a_path_through_a_link(renewed: Renewed, classes: Path) -> None:
    """CertPathBuilder joins no two self-issued certificates, link and anchor: an application gives the path itself."""
    for certificate, anchor in zip(GENERATIONS, reversed(GENERATIONS), strict=True):
        path = renewed.residents[certificate, "good"].certificate
        assert validate(classes, renewed, path, anchor, "build", renewed.both_links) == "no path"


@pytest.mark.req("R-4-4-4-2-2", "R-4-4-3-1", "R-4-4-4-4-1")
@pytest.mark.parametrize("generation", GENERATIONS)
def test_what_is_revoked_after_the_switch_is_seen(full: Renewed, generation: Generation) -> None:
    """Of either key: at once by OCSP, and with the next lists in the directory, while the servers run on."""
    resident, anchor = full.residents[generation, "later"], full.anchor(generation)

    def answer() -> str:
        asked = ("-issuer", anchor, "-CAfile", anchor, "-cert", resident.certificate)
        done = run("openssl", "ocsp", *asked, "-url", full.ca.ocsp_url)
        return done.stderr + done.stdout

    def listed() -> set[int]:
        (entry,) = ldapsearch(full.ca, list_entry("Minato-ku"), CRL, access="starttls").values()
        lists = [x509.load_der_x509_crl(value) for value in entry[f"{CRL};binary"]]
        return set.intersection(*({revoked.serial_number for revoked in each} for each in lists))

    assert "certificate.pem: good" in answer()
    full.ca.prefca("revoke", resident.serial, "--reason", "superseded")
    eventually(lambda: "certificate.pem: revoked" in answer(), "OCSP says revoked")
    assert "Response verify OK" in answer()
    full.ca.prefca("batch", "--now")
    eventually(lambda: int(resident.serial, 16) in listed(), "it is on the list, by both keys")


@pytest.mark.req("R-2-6-1-2", "R-2-6-3-1")
def test_the_directory_has_four_certificates_of_the_ca(full: Renewed) -> None:
    """OldWithOld, NewWithNew, OldWithNew and NewWithOld, for everybody; the key that signs comes first."""
    values = x509.load_pem_x509_certificates(full.directory_values().read_bytes())
    old, new = (x509.load_pem_x509_certificate(full.anchor(name).read_bytes()) for name in GENERATIONS)
    old_with_new, new_with_old = (x509.load_pem_x509_certificate(full.link(name).read_bytes()) for name in LINKS)
    assert values[:2] == [new, old]
    assert {*values[2:]} == {old_with_new, new_with_old}
    old_with_new.verify_directly_issued_by(new)
    new_with_old.verify_directly_issued_by(old)


@pytest.mark.parametrize("identifier", ["full", "key"])
@pytest.mark.parametrize("link", LINKS)
def test_pkilint_accepts_link_certificates(renewed: Renewed, link: Link) -> None:
    """But for what is accepted in the CA's self-signed certificate."""
    accepted = {finding["code"] for finding in ACCEPTED if "CA certificate" in finding["objects"]}
    assert findings("lint_pkix_cert", renewed.link(link)) - accepted == set()
