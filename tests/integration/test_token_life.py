"""The CA's key in a token over its life: it is away and comes back, is copied and restored, replaced and destroyed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from issuer.errors import RefusedError
from issuer.key_proof import require_own
from pkix.signing import PublicKey
from pkix.software import SoftwareSigner
from settings.load import INSTANCE_VARIABLE
from tests.support.ca import rsa_key, software_ca
from tests.support.command import DSN_VARIABLE, ROOT, Ended, Prefca, finished, select, start
from tests.support.database import Database
from tests.support.running import eventually
from tests.support.softhsm import SoftHSM

KEY = "test-tokyo-to-1"


@pytest.fixture
def in_token(hsm: SoftHSM, database: Database, tmp_path: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CA whose key is in a token; the PIN is in a file. The instance directory."""
    instance, pin = tmp_path / "instance", tmp_path / "pin"
    monkeypatch.setenv(INSTANCE_VARIABLE, str(instance))
    monkeypatch.setenv(DSN_VARIABLE, database.dsn)
    pin.write_text(f"{hsm.pin}\n")
    ended = prefca("init", "--signer", "pkcs11", "--module", hsm.module, "--token", hsm.label, "--pin-file", pin)
    assert ended.status == 0, ended
    return instance


def person(directory: Path, name: str) -> tuple[Path, Path]:
    """A key and a certificate of somebody, both PEM files."""
    key = rsa_key(name)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    files = directory / f"{name}.key", directory / f"{name}.pem"
    files[0].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files[1].write_bytes(certificate.public_bytes(Encoding.PEM))
    return files


def opened_by(copy: bytes, key: Path, certificate: Path) -> bytes:
    """What OpenSSL finds in a copy, for a person."""
    command = ["openssl", "cms", "-decrypt", "-binary", "-inform", "DER"]
    command += ["-inkey", str(key), "-recip", str(certificate)]
    return subprocess.run(command, input=copy, capture_output=True, check=True, timeout=30).stdout


@pytest.mark.req("R-6-2-1-4", "R-6-2-1-3", "R-4-14-1")
def test_a_token_is_restored_from_a_copy_that_two_persons_open(
    in_token: Path, hsm: SoftHSM, prefca: Prefca, tmp_path: Path
) -> None:
    """Neither can alone; in the token that was lost the key signs again as before."""
    (sato_key, sato), (suzuki_key, suzuki) = person(tmp_path, "sato"), person(tmp_path, "suzuki")
    tokens, copy = hsm.directory / "tokens", tmp_path / "token.cms"
    ended = prefca("key", "back-up", copy, "--files", tokens, "--recipient", sato, "--recipient", suzuki)
    assert ended.status == 0, ended
    assert prefca("key", "back-up", copy, "--files", tokens, "--recipient", sato, "--recipient", suzuki).status == 3
    octets = copy.read_bytes()
    assert (copy.stat().st_mode & 0o777, KEY.encode() in octets) == (0o600, False)
    with pytest.raises(subprocess.CalledProcessError):
        opened_by(octets, sato_key, sato)
    shutil.rmtree(tokens)
    tokens.mkdir()
    lost = prefca("key", "check")
    assert (lost.status, "no token is labelled prefca" in lost.complaint) == (4, True)
    opened = opened_by(opened_by(octets, suzuki_key, suzuki), sato_key, sato)
    subprocess.run(["tar", "-x", "-C", tokens], input=opened, check=True)
    assert prefca("key", "check").status == 0
    assert prefca("batch", "--now").status == 0
    ((detail,),) = select("SELECT count(*)::int FROM operation_record WHERE kind = 'key_backed_up'")
    assert detail == 1


def test_a_copy_is_for_two_persons_at_least(in_token: Path, hsm: SoftHSM, prefca: Prefca, tmp_path: Path) -> None:
    """One, or the same twice, is refused."""
    _, sato = person(tmp_path, "sato")
    for recipients in (["--recipient", sato], ["--recipient", sato, "--recipient", sato]):
        ended = prefca("key", "back-up", tmp_path / "copy", "--files", hsm.directory / "tokens", *recipients)
        assert (ended.status, "two persons" in ended.complaint) == (3, True)


@pytest.mark.req("R-6-1-1-1", "R-6-1-1-3", "R-6-2-1-3")
def test_a_key_that_was_brought_into_the_token_is_not_used(
    in_token: Path, hsm: SoftHSM, prefca: Prefca, tmp_path: Path
) -> None:
    """It has been elsewhere; the message says what to do."""
    file = tmp_path / "key.pem"
    file.write_bytes(rsa_key("brought").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    shutil.rmtree(hsm.directory / "tokens")
    (hsm.directory / "tokens").mkdir()
    hsm.init_token(hsm.label, hsm.pin)
    hsm.import_key(file, KEY, "01")
    ended = prefca("batch", "--now")
    assert ended.status == 3
    assert f"key {KEY} is not one that was made in the token and never leaves it (LOCAL" in ended.complaint
    assert "restore the token from its backup, or make a new key" in ended.complaint


class _Impostor:
    """Shows one public key and signs with another one."""

    def __init__(self, shown: PublicKey, signing: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
        self.public_key = shown
        self._signer = SoftwareSigner(signing)

    def sign_digest(self, digest: bytes) -> bytes:
        return self._signer.sign_digest(digest)


def test_a_key_has_to_sign_as_its_certificate_says() -> None:
    """A token that only shows the right public key is found out when it is opened."""
    ca = software_ca()
    require_own(ca.signer, ca.issuer.certificate, KEY)
    impostor = _Impostor(ca.signer.public_key, rsa_key("impostor"))
    with pytest.raises(RefusedError, match=f"key {KEY} is not the one of the CA's certificate"):
        require_own(impostor, ca.issuer.certificate, KEY)


@contextmanager
def scheduler(monkeypatch: pytest.MonkeyPatch, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running one that looks each second."""
    for name in ("LOOK_EVERY_S", "RETRY_S", "KEY_CHECK_S"):
        monkeypatch.setenv(f"PREFCA_SCHEDULER__{name}", "1")
    monkeypatch.setenv("PREFCA_SCHEDULER__ADMIN_LISTEN", "127.0.0.1:0")
    command = [sys.executable, "-m", "issuer", "scheduler"]
    with log.open("wb") as stderr, subprocess.Popen(command, cwd=ROOT, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.req("R-4-14-1", "R-6-2-1-2")
def test_a_token_that_is_away_is_an_alarm_until_it_is_back(
    in_token: Path, hsm: SoftHSM, prefca: Prefca, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler and `status --check` tell; commands are refused for now; nothing is started anew afterwards."""
    log = tmp_path / "log"

    def stands() -> bool:
        ended = prefca("status", "--check")
        return (ended.status, "ca_key_away" in ended.stdout) == (5, True)

    with scheduler(monkeypatch, log):
        eventually(lambda: select("SELECT failure IS NULL FROM key_sight") == [(True,)], "the key is seen")
        with hsm.unplugged():
            eventually(stands, "an alarm stands")
            eventually(lambda: "ca_key_away" in log.read_text(), "the scheduler tells")
            assert prefca("batch", "--now").status == 4
        eventually(lambda: not stands(), "the alarm ends")
        eventually(lambda: "alarms_ended" in log.read_text(), "the scheduler tells that, too")
        assert prefca("batch", "--now").status == 0
    kinds = select("SELECT kind FROM operation_record WHERE kind LIKE 'key_%usable' ORDER BY record_id")
    assert kinds[-2:] == [("key_unusable",), ("key_usable",)]
    assert hsm.pin not in log.read_text()


@pytest.mark.req("R-6-4-1-1", "R-6-2-1-7")
def test_the_pin_is_nowhere_to_be_seen(
    in_token: Path, hsm: SoftHSM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in arguments nor environments of the scheduler and its children, nor in the log, nor on record."""
    seen: set[int] = set()
    with scheduler(monkeypatch, tmp_path / "log") as process:
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline and len(seen) < 3:
            for pid in [process.pid, *_children(process.pid)]:
                told = b"".join(_read(pid, name) for name in ("cmdline", "environ"))
                assert hsm.pin.encode() not in told
                seen.add(pid)
            time.sleep(0.02)
    assert len(seen) >= 2, "the key was never looked at"
    assert hsm.pin not in (tmp_path / "log").read_text()
    assert select(
        f"SELECT count(*)::int FROM operation_record WHERE to_jsonb(operation_record)::text ~ '{hsm.pin}'"
    ) == [(0,)]


def _children(pid: int) -> list[int]:
    return list(map(int, _read(pid, f"task/{pid}/children").split()))


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


def ended_key(prefca: Prefca, *options: str) -> Ended:
    """The compromise of the first key, and a second one in its place."""
    status = prefca("status", "--json").json
    name, fingerprint = status["authority"]["name"], status["ca_certificate"]["sha256"]
    assert prefca("compromise", "--name", name, "--fingerprint", fingerprint, *options).status == 0
    assert prefca("key", "prepare").status == 0
    return prefca("key", "switch", "--without-delegates")


@pytest.mark.req("R-6-2-1-9", "R-4-14-2")
def test_a_compromised_key_is_replaced_and_destroyed(in_token: Path, hsm: SoftHSM, prefca: Prefca) -> None:
    """Not before the new key signs the lists; then the token has it no more, and what it signed still verifies."""
    assert prefca("key", "destroy", "1").status == 3
    switched = ended_key(prefca)
    assert switched.status == 0, switched
    refused = prefca("key", "destroy", "1")
    assert (refused.status, "publish with the new key" in refused.complaint) == (3, True)
    assert prefca("batch", "--now").status == 0
    assert prefca("key", "destroy", "1").status == 0
    assert prefca("key", "destroy", "1").status == 3
    assert select("SELECT state FROM ca_generation ORDER BY number") == [("destroyed",), ("active",)]
    assert prefca("crl", "verify").status == 0
    assert prefca("verify-instance").status == 0
    command = ["softhsm2-util", "--show-slots"]
    assert hsm.label in subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout
    labels = b"".join(file.read_bytes() for file in (hsm.directory / "tokens").rglob("*.object"))
    assert (KEY.encode() in labels, b"test-tokyo-to-2" in labels) == (False, True)


@pytest.mark.req("R-4-14-2", "R-4-4-1-3")
def test_the_first_lists_of_a_new_key_tell_of_a_lost_one(in_token: Path, prefca: Prefca) -> None:
    """Nothing could sign any before."""
    assert ended_key(prefca, "--key-lost").status == 0
    assert prefca("batch", "--now").status == 0
    lists = {one["list"]: one["entries"] for one in prefca("status", "--json").json["lists"]}
    assert (lists["ca"], lists["operations"]) == (1, 1)
    assert finished(start("status", "--check", instance=in_token)).status in {0, 5}
