"""`prefca key`: a renewal as operators do it, with keys in files and in a token."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from cryptography import x509

from settings.load import INSTANCE_VARIABLE
from tests.support.ca import notice_line
from tests.support.command import DSN_VARIABLE, Prefca, finished, start
from tests.support.database import Database
from tests.support.softhsm import SoftHSM

pytestmark = pytest.mark.req("R-4-13-1", "R-4-13-2")


@pytest.fixture
def new(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An instance directory that is not there yet, for a database that has its schema only."""
    monkeypatch.setenv(INSTANCE_VARIABLE, str(tmp_path / "new"))
    monkeypatch.setenv(DSN_VARIABLE, database.dsn)
    monkeypatch.setenv("PREFCA_CA__LINK_LEAD_H", "0")
    return tmp_path / "new"


@pytest.fixture
def in_token(new: Path, hsm: SoftHSM, prefca: Prefca, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SoftHSM:
    """A CA that is set up with its key, and those of its delegates, in one token."""
    pin = tmp_path / "pin"
    pin.write_text(hsm.pin)
    monkeypatch.setenv("PREFCA_OCSP__PKCS11_MODULE", str(hsm.module))
    monkeypatch.setenv("PREFCA_OCSP__PKCS11_TOKEN", hsm.label)
    monkeypatch.setenv("PREFCA_OCSP__PKCS11_PIN_FILE", str(pin))
    options = ("--signer", "pkcs11", "--module", hsm.module, "--token", hsm.label, "--pin-file", pin)
    assert prefca("init", *map(str, options)).status == 0
    return hsm


def issued(prefca: Prefca, number: int, directory: Path) -> str:
    """The serial number of a certificate that was just issued."""
    notices, results = directory / f"{number}.jsonl", directory / f"{number}.results"
    notices.write_bytes(notice_line(number))
    assert prefca("issue", notices, "--results", results, "--json").json["issued"] == 1
    serial: str = json.loads(results.read_text())["serial"]
    return serial


def renew(prefca: Prefca) -> None:
    """Everything at once."""
    for command in (("key", "prepare"), ("batch", "--now"), ("ocsp-delegate", "create", "--ahead"), ("key", "switch")):
        ended = prefca(*command)
        assert (ended.status, ended.stderr) == (0, ""), command


@pytest.mark.req("R-6-1-1-1", "R-6-1-1-2", "R-6-1-1-3", "R-6-1-1-4")
def test_the_next_key_is_made_in_the_token(in_token: SoftHSM, new: Path, prefca: Prefca, tmp_path: Path) -> None:
    """From the first key to the second one, with delegates in the same token; no key is in any file."""
    before = issued(prefca, 1, tmp_path)
    renew(prefca)
    after = issued(prefca, 2, tmp_path)
    ca = x509.load_pem_x509_certificate(prefca("export", "ca").stdout.encode())
    certificates = [prefca("export", "certificate", serial).stdout.encode() for serial in (before, after)]
    x509.load_pem_x509_certificate(certificates[1]).verify_directly_issued_by(ca)
    assert not (new / "keys" / "ca").exists()
    assert not (new / "keys" / "ocsp").exists()
    keys = prefca("key", "list", "--json").json["keys"]
    assert [(key["generation"], key["state"]) for key in keys] == [(1, "retired"), (2, "active")]
    assert prefca("batch", "--now").status == 0
    assert prefca("status", "--check").stdout == "Tokyo-to: no alarm\njournal: no alarm\n"


def test_a_token_that_is_away_delays_a_renewal(in_token: SoftHSM, prefca: Prefca) -> None:
    """One line; with the token it goes on."""
    for command in (("key", "prepare"), ("ocsp-delegate", "create", "--ahead"), ("key", "switch")):
        with in_token.unplugged():
            ended = prefca(*command)
            assert ended.status == 4
            assert "no token is labelled prefca" in ended.complaint
        assert prefca(*command).status == 0
        assert prefca("batch", "--now").status == 0


@pytest.mark.req("R-4-4-4-4-1")
def test_lists_of_both_keys_are_found_shown_and_verified(
    instance: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With `crl.retired_key_signs_crl` every command tells them apart."""
    monkeypatch.setenv("PREFCA_CA__LINK_LEAD_H", "0")
    monkeypatch.setenv("PREFCA_CRL__RETIRED_KEY_SIGNS_CRL", "true")
    serial = issued(prefca, 1, tmp_path)
    renew(prefca)
    assert prefca("revoke", serial, "--reason", "1").status == 0
    assert prefca("batch", "--now", "--json").json["lists"] == 2 * 64
    newest = prefca("crl", "list", "-m", "132217", "--limit", "3", "--json").json
    assert [(row["crl_number"], row["generation"], row["entries"]) for row in newest] == [
        (3, 2, 1),
        (3, 1, 1),
        (2, 1, 0),
    ]
    shown = [prefca("crl", "show", "132217", *key, "--json").json for key in ((), ("--key", "1"))]
    assert [(one["generation"], one["revoked"][0]["serial"]) for one in shown] == [(2, serial), (1, serial)]
    assert "2 to 3: 1 added" in prefca("crl", "diff", "132217", "2", "3").stdout
    assert prefca("crl", "verify", "--all").stdout.endswith(f"{2 * 64 + 2 * 64} lists verified, none wrong\n")
    exported = tmp_path / "exported"
    assert prefca("crl", "export", exported, "-m", "132217").status == 0
    second, first = sorted(exported.glob("*.pem"))
    assert second.name == f"{first.stem}-key2.pem"
    values = [x509.load_pem_x509_crl(file.read_bytes()) for file in (first, second)]
    assert len({value.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier) for value in values}) == 2
    assert x509.load_pem_x509_crl(prefca("export", "crl", "132217").stdout.encode()) == values[1]


@pytest.mark.usefixtures("new")
def test_without_a_first_key_there_is_no_next_one(prefca: Prefca) -> None:
    """One line says so."""
    assert prefca("init", "--without-key").status == 0
    ended = prefca("key", "prepare")
    assert (ended.status, "this CA has no key yet" in ended.complaint) == (3, True)


def test_prepare_completes_after_it_was_killed(instance: Path, prefca: Prefca) -> None:
    """At any moment: run again, there is one next key with two links."""
    dsn = os.environ[DSN_VARIABLE]
    for moment_s in (0.6, 0.9, 1.2, 1.5):
        process = start("key", "prepare", instance=instance, dsn=dsn)
        time.sleep(moment_s)
        process.send_signal(signal.SIGKILL)
        finished(process)
    assert prefca("key", "prepare").status == 0
    assert len(prefca("list", "--kind", "link", "--json").json) == 2
    assert [key["state"] for key in prefca("key", "list", "--json").json["keys"]] == ["active", "planned"]


@pytest.mark.parametrize(
    ("command", "status", "complaint"),
    [
        (("key", "switch"), 3, "no key is prepared; run `prefca key prepare` first"),
        (("ocsp-delegate", "create", "--ahead", "--key", "2"), 3, "there is no such key"),
        (("ocsp-delegate", "create", "--key", "1"), 2, "--key goes with --ahead"),
        (("ocsp-delegate", "create", "--ahead", "--csr", "prefca.toml"), 2, "leave one of them out"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    shared_instance: Path, prefca: Prefca, command: tuple[str, ...], status: int, complaint: str
) -> None:
    """That says what to do."""
    ended = prefca(*(str(shared_instance / each) if each == "prefca.toml" else each for each in command))
    assert ended.status == status
    assert complaint in ended.complaint
