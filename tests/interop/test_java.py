"""Java validates certificates with what the JDK brings: lists from files, a responder, and the directory."""

import re
import shutil
from pathlib import Path

import pytest

from tests.interop.clients import fetch_list, run
from tests.support.running import RunningCA

SOURCE = Path(__file__).with_name("java") / "ValidatePath.java"
QUICK_START = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
STORE_PASSWORD = "changeit"

UNDETERMINED = "UNDETERMINED_REVOCATION_STATUS"
REVOKED = r"REVOKED KEY_COMPROMISE \d{4}-"

pytestmark = pytest.mark.skipif(
    shutil.which("javac") is None, reason="needs a JDK: Debian package default-jdk-headless"
)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program."""
    directory = tmp_path_factory.mktemp("classes")
    compiled = run("javac", "-Xlint:all", "-Werror", "-d", directory, SOURCE)
    assert compiled.returncode == 0, compiled.stderr
    return directory


@pytest.mark.req("R-4-4-4-4-1", "R-4-4-4-4-2")
@pytest.mark.parametrize(
    ("which", "municipalities", "verdict"),
    [
        pytest.param("good", ["Chiyoda-ku"], "valid", id="good"),
        pytest.param("revoked", ["Chuo-ku"], REVOKED, id="revoked"),
        pytest.param("good", ["Chuo-ku"], UNDETERMINED, id="good, list of another municipality"),
        pytest.param("revoked", ["Chiyoda-ku"], UNDETERMINED, id="revoked, list of another municipality"),
        pytest.param("revoked", ["Chiyoda-ku", "Chuo-ku"], REVOKED, id="revoked, both lists"),
    ],
)
def test_java_validates_with_lists(
    running_ca: RunningCA, classes: Path, tmp_path: Path, which: str, municipalities: list[str], verdict: str
) -> None:
    """CertPathValidator takes the list whose IssuingDistributionPoint is that of the certificate, and no other."""
    lists = [fetch_list(running_ca, each, tmp_path / f"{each}.pem") for each in municipalities]
    answer = _validate(["-cp", str(classes)], running_ca, _certificate(running_ca, which), "crl", *lists)
    assert re.match(verdict, answer)


@pytest.mark.req("R-4-4-4-1-1", "R-4-4-4-2-1")
@pytest.mark.parametrize(("which", "verdict"), [("good", "valid"), ("revoked", REVOKED)])
def test_java_validates_with_the_responder(running_ca: RunningCA, classes: Path, which: str, verdict: str) -> None:
    """PKIXRevocationChecker asks it, and accepts its delegated certificate."""
    source = ("ocsp", running_ca.ocsp_url)
    answer = _validate(["-cp", str(classes)], running_ca, _certificate(running_ca, which), *source)
    assert re.match(verdict, answer)


@pytest.mark.req("R-4-4-4-1-2", "R-4-4-4-5", "R-2-6-3-2")
@pytest.mark.parametrize(
    ("which", "bound", "verdict"),
    [
        pytest.param("good", True, "valid", id="good"),
        pytest.param("revoked", True, REVOKED, id="revoked"),
        pytest.param("good", False, UNDETERMINED, id="not bound"),
    ],
)
def test_java_finds_the_list_by_itself(
    running_ca: RunningCA, classes: Path, tmp_path: Path, which: str, bound: bool, verdict: str
) -> None:
    """The directoryName in the certificate is the entry where the JDK's LDAP CertStore reads the list, if it may."""
    options = ["-cp", f"{classes}:{tmp_path}", "-Dcom.sun.security.enableCRLDP=true"]
    endpoint = running_ca.ldap
    if bound:
        options += _log_in(tmp_path, running_ca)
        endpoint = running_ca.ldaps
    answer = _validate(options, running_ca, _certificate(running_ca, which), "ldap", *endpoint)
    assert re.match(verdict, answer)


@pytest.mark.req("R-2-6-3-1", "R-2-8-2", "R-2-8-3-1")
def test_java_finds_the_public_list_of_operations_certificates(
    running_ca: RunningCA, classes: Path, tmp_path: Path
) -> None:
    """Without a login, at the CA's entry, for the certificate of the responder."""
    (delegate,) = running_ca.report("list", "--kind", "ocsp")
    certificate = tmp_path / "responder.pem"
    running_ca.prefca("export", "certificate", delegate["serial"], "--output", certificate)
    assert _validate(["-cp", str(classes)], running_ca, certificate, "ldap", *running_ca.ldap) == "valid"


def _certificate(ca: RunningCA, which: str) -> Path:
    return {"good": ca.good, "revoked": ca.revoked}[which]


def _log_in(directory: Path, ca: RunningCA) -> list[str]:
    """Let Java's LDAP CertStore bind under TLS: jndi.properties in a directory of the class path, and these options."""
    (directory / "jndi.properties").write_text(
        "java.naming.security.protocol=ssl\n"
        "java.naming.security.authentication=simple\n"
        f"java.naming.security.principal={ca.bind_name}\n"
        f"java.naming.security.credentials={ca.password_file.read_text()}\n"
    )
    store = directory / "trust.p12"
    trusted = ["-noprompt", "-alias", "service-ca", "-file", ca.service_ca]
    done = run("keytool", "-importcert", *trusted, "-keystore", store, "-storepass", STORE_PASSWORD)
    assert done.returncode == 0, done.stdout
    return [f"-Djavax.net.ssl.trustStore={store}", f"-Djavax.net.ssl.trustStorePassword={STORE_PASSWORD}"]


def _validate(options: list[str], ca: RunningCA, certificate: Path, *source: object) -> str:
    """What ValidatePath.java prints."""
    done = run("java", *QUICK_START, *options, "ValidatePath", ca.ca, certificate, *source)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
