"""Compromise and disaster as strangers see them: all is revoked at once; another machine goes on from a backup."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import crl_number, ocsp
from tests.support.running import RunningCA, eventually, installed_ca

TOKYO_LISTS = 64


@pytest.fixture
def own_ca() -> Iterator[RunningCA]:
    """A CA that does not outlive the test."""
    with installed_ca() as ca:
        yield ca


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Where backups go."""
    return tmp_path / "media"


def serial(certificate: Path) -> str:
    return f"{x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number:016X}"


def status_of(ca: RunningCA, *arguments: object) -> int:
    """How a command ends that fails."""
    with pytest.raises(subprocess.CalledProcessError) as failed:
        ca.prefca(*arguments)
    return failed.value.returncode


@pytest.mark.req("R-4-4-1-3", "R-4-4-9-2", "R-4-14-2")
def test_after_a_compromise_responder_and_directory_tell_at_once(own_ca: RunningCA, tmp_path: Path) -> None:
    """What was good a moment ago is revoked with cACompromise, by answers of a delegate of the same key, and listed."""
    with own_ca.up():
        assert "good.pem: good" in ocsp(own_ca, "-cert", own_ca.good)
        before = crl_number(own_ca, "Chiyoda-ku", tmp_path / "list.pem")
        status = own_ca.report("status")
        name, fingerprint = status["authority"]["name"], status["ca_certificate"]["sha256"]
        own_ca.prefca("compromise", "--name", name, "--fingerprint", fingerprint)
        said = _until_revoked(own_ca)
        assert "Response verify OK" in said
        assert "Reason: cACompromise" in said
        file = tmp_path / "list.pem"
        eventually(lambda: crl_number(own_ca, "Chiyoda-ku", file) > before, "the new list")
        listed = x509.load_pem_x509_crl(file.read_bytes())
        good = x509.load_pem_x509_certificate(own_ca.good.read_bytes())
        assert listed.get_revoked_certificate_by_serial_number(good.serial_number) is not None


def _until_revoked(ca: RunningCA) -> str:
    """What OCSP says of the good certificate, once that is revoked."""

    def said() -> str:
        answer = ocsp(ca, "-cert", ca.good)
        return answer if "good.pem: revoked" in answer else ""

    return eventually(said, "it is revoked")


@pytest.mark.req("R-4-14-1", "R-4-14-3", "R-6-5-1")
def test_another_machine_goes_on_from_a_backup(own_ca: RunningCA, media: Path, tmp_path: Path) -> None:
    """Back up, go on, lose everything, restore: proved whole, no number comes twice, and no revocation is lost."""
    own_ca.prefca("backup", media / "backups", "--secrets", media / "secrets")
    own_ca.prefca("revoke", serial(own_ca.good), "--reason", "keyCompromise")
    for _ in range(3):
        own_ca.prefca("batch", "--now")
    own_ca.prefca("crl", "export", media / "lists")
    published = max(one["crl_number"] for one in own_ca.report("status")["lists"])
    good = media / "good.pem"
    shutil.copy(own_ca.good, good)
    shutil.rmtree(own_ca.instance)

    said = own_ca.prefca("restore", media / "backups", "--secrets", media / "secrets")
    assert "whatever was done after" in said
    checked = own_ca.report("verify-instance")
    assert [one["findings"] for of in checked.values() for one in of] == [[]] * 7
    entered = own_ca.report("crl", "enter", str(media / "lists"))
    assert (entered["lists"], entered["entered"], entered["unknown"]) == (TOKYO_LISTS, 1, [])
    own_ca.prefca("batch", "--now")
    assert min(one["crl_number"] for one in own_ca.report("status")["lists"]) > published
    own_ca.prefca("verify-instance")
    with own_ca.up():
        assert "Reason: keyCompromise" in _until_revoked(own_ca)
        assert crl_number(own_ca, "Chiyoda-ku", tmp_path / "list.pem") > published


@pytest.mark.req("R-4-14-1")
def test_a_restoration_overwrites_nothing(own_ca: RunningCA, media: Path) -> None:
    """Neither an instance nor with a backup that is damaged; and a backup does not go into the instance."""
    own_ca.prefca("backup", media)
    assert status_of(own_ca, "backup", own_ca.instance / "backups") == 3
    assert status_of(own_ca, "restore", media) == 3
    (backup,) = media.glob("*Z")
    with (backup / "database.dump").open("ab") as dump:
        dump.write(b"\0")
    shutil.rmtree(own_ca.instance)
    assert status_of(own_ca, "restore", media) == 3
    assert not own_ca.instance.exists()


@pytest.mark.req("R-4-14-1")
def test_a_restoration_without_secrets_is_told_incomplete(own_ca: RunningCA, media: Path) -> None:
    """`verify-instance` names what is missing; secrets are not in the backup."""
    own_ca.prefca("backup", media)
    assert not list(media.glob("*/instance/secrets"))
    shutil.rmtree(own_ca.instance)
    own_ca.prefca("restore", media)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        own_ca.prefca("verify-instance", "--json")
    findings = {one["what"]: one["findings"] for of in json.loads(failed.value.stdout).values() for one in of}
    assert "put the secret there" in findings["keys of the CA"][0]
    assert findings["lists"] == []
