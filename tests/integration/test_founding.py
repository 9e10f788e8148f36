"""`prefca init`: from nothing to a CA with a first publication, however often it is interrupted or repeated."""

import asyncio
import json
import os
import random
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from issuer.errors import RefusedError
from issuer.generations.first_key import foundation, perform
from issuer.operations.act import Act
from issuer.rules.operation import OperationKind
from issuer.servers import service_ca
from pkix import pkcs11, software
from settings.load import INSTANCE_VARIABLE
from settings.sections import OCSPSection, SignerSection
from tests.support.ca import NOW, FoundedCA, notice_line
from tests.support.command import DSN_VARIABLE, Prefca, finished, start
from tests.support.database import Database
from tests.support.operators import agree, found_by_operators, who_agree, write_staff
from tests.support.softhsm import SoftHSM

ROWS = {
    "authority": 1,
    "ca_generation": 1,
    "partition": 64,
    "certificate": 2,
    "publication": 1,
    "published_object": 65,
}  # of a CA that was just set up


@pytest.fixture
def new(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An instance directory that is not there yet, for a database that has its schema only."""
    monkeypatch.setenv(INSTANCE_VARIABLE, str(tmp_path / "new"))
    monkeypatch.setenv(DSN_VARIABLE, database.dsn)
    return tmp_path / "new"


@pytest.fixture
def pin_file(hsm: SoftHSM, tmp_path: Path) -> Path:
    """The PIN of the token, for `--pin-file`."""
    file = tmp_path / "pin"
    file.write_text(f"{hsm.pin}\n")
    return file


async def counts(database: Database) -> dict[str, int]:
    """How many rows each table has."""
    async with database.connect("owner") as connection:
        return {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in ROWS}


async def assert_set_up(instance: Path, database: Database) -> None:
    """One CA with its key, its delegate with the key to it, TLS certificates and a first publication."""
    assert await counts(database) == ROWS
    async with database.connect("owner") as connection:
        delegate = x509.load_der_x509_certificate(
            await connection.fetchval("SELECT der FROM certificate WHERE kind = 'ocsp'")
        )
        label = await connection.fetchval("SELECT key_reference FROM ca_generation")
        own = x509.load_der_x509_certificate(await connection.fetchval("SELECT certificate FROM ca_generation"))
        acts = await connection.fetchval(
            "SELECT array_agg(kind ORDER BY record_id) FROM operation_record WHERE kind NOT LIKE 'key%'"
        )
    assert acts == ["authority_founded", "certificate_issued", "certificate_issued", "published"]
    key_file = instance / "keys" / "ocsp" / f"{delegate.serial_number:016X}.pem"
    key = software.load(key_file, (instance / "secrets" / "ocsp-key.passphrase").read_bytes().rstrip())
    assert key.public_key == delegate.public_key()
    ca_key = software.load(
        instance / "keys" / "ca" / f"{label}.pem", (instance / "secrets" / "ca-key.passphrase").read_bytes().rstrip()
    )
    assert ca_key.public_key == own.public_key()
    delegate.verify_directly_issued_by(own)
    authority = x509.load_pem_x509_certificate((instance / "tls" / "service-ca.pem").read_bytes())
    for server in service_ca.SERVERS:
        certificate = x509.load_pem_x509_certificate((instance / "tls" / f"{server}.pem").read_bytes())
        certificate.verify_directly_issued_by(authority)


@pytest.mark.req("R-1-1-2", "R-2-1-2-3", "R-2-1-2-16", "R-4-11-2-1")
async def test_a_ca_is_set_up_with_a_first_publication(database: Database, tmp_path: Path) -> None:
    """Everything is there after one command, and recorded."""
    instance = tmp_path / "new"
    ended = finished(start("init", instance=instance, dsn=database.dsn))
    assert (ended.status, ended.stderr) == (0, "")
    assert "test CA is set up: OU=Test The Governor of Tokyo-to" in ended.stdout
    await assert_set_up(instance, database)


async def test_init_again_changes_nothing(database: Database, tmp_path: Path) -> None:
    """With the same options, or without."""
    instance = tmp_path / "new"
    first = finished(start("init", "--hierarchy", "test", instance=instance, dsn=database.dsn))
    rows, files = await counts(database), contents(instance)
    for again in (["init"], ["init", "--hierarchy", "test"]):
        assert finished(start(*again, instance=instance, dsn=database.dsn)) == first
    assert await counts(database) == rows
    assert contents(instance) == files


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


async def test_an_init_that_is_killed_is_completed_by_the_next(database: Database, tmp_path: Path) -> None:
    """At whatever moment: files and rows belong together in the end, and nothing is there twice."""
    moments = random.Random(1)
    instance = tmp_path / "new"
    for _ in range(5):
        await asyncio.to_thread(kill_init, instance, database, moments.uniform(0, 0.5))
    ended = finished(start("init", instance=instance, dsn=database.dsn))
    assert (ended.status, ended.stderr) == (0, "")
    await assert_set_up(instance, database)


def kill_init(instance: Path, database: Database, after_s: float) -> None:
    """Start an init and kill it, so long after the instance is there."""
    process = start("init", instance=instance, dsn=database.dsn)
    while not instance.exists() and process.poll() is None:
        time.sleep(0.005)
    time.sleep(after_s)
    process.kill()
    process.communicate()


def with_token(hsm: SoftHSM, pin_file: Path) -> list[str]:
    """The options of a CA whose key lives in the token."""
    return ["--signer", "pkcs11", "--module", str(hsm.module), "--token", hsm.label, "--pin-file", str(pin_file)]


@pytest.mark.req("R-6-1-1-3", "R-6-1-1-2", "R-2-1-2-16")
@pytest.mark.parametrize("hierarchy", ["test", "production"])
def test_a_ca_with_its_key_in_a_token_works(
    hierarchy: str, new: Path, hsm: SoftHSM, pin_file: Path, prefca: Prefca, tmp_path: Path
) -> None:
    """From init through issue and revoke to a publication; no CA key is in any file."""
    ended = prefca("init", "--hierarchy", hierarchy, *with_token(hsm, pin_file))
    assert (ended.status, ended.stderr) == (0, "")
    if hierarchy == "production":
        found_by_operators(prefca, tmp_path / "staff")
    assert not (new / "keys" / "ca").exists()
    notices, results = tmp_path / "notices.jsonl", tmp_path / "results.jsonl"
    notices.write_bytes(notice_line(1) + notice_line(2))
    assert prefca("issue", notices, "--results", results, "--json").json["issued"] == 2
    first = json.loads(results.read_text().splitlines()[0])
    assert prefca("revoke", first["serial"], "--reason", "1").status == 0
    assert prefca("batch", "--now", "--json").json["entries"] == 1
    ca = x509.load_pem_x509_certificate(prefca("export", "ca").stdout.encode())
    certificate = x509.load_pem_x509_certificate(prefca("export", "certificate", first["serial"]).stdout.encode())
    crl = x509.load_pem_x509_crl(prefca("export", "crl", "132217").stdout.encode())
    certificate.verify_directly_issued_by(ca)
    assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None


@pytest.mark.req("R-6-1-1-1")
def test_two_inits_at_once_make_one_key(
    new: Path, hsm: SoftHSM, pin_file: Path, database: Database, prefca: Prefca
) -> None:
    """One of them makes it, the other one does, too, or says that it has to wait; a token takes two of one name."""
    inits = [start("init", *with_token(hsm, pin_file), instance=new, dsn=database.dsn) for _ in range(2)]
    ended = [finished(one) for one in inits]
    assert {one.status for one in ended} <= {0, 4}, ended
    assert 0 in {one.status for one in ended}, ended
    with pkcs11.open_token(hsm.module, hsm.label, hsm.pin) as token:
        assert token.signer("test-tokyo-to-1").public_key.key_size == 2048, "two would be refused"
    assert prefca("init").status == 0
    assert prefca("key", "check").status == 0


@pytest.mark.req("R-6-1-1-1", "R-5-2-2-1")
def test_a_production_ca_is_founded_by_several_persons(
    new: Path, hsm: SoftHSM, pin_file: Path, prefca: Prefca, tmp_path: Path
) -> None:
    """Before they agree it has no key; and the token's PIN is theirs, split among the key managers."""
    token = with_token(hsm, pin_file)[:-2]
    init = ("init", "--hierarchy", "production", *token, "--activation-file", str(tmp_path / "run" / "pin"))
    assert "it has no key yet" in prefca(*init).stdout
    assert "it has no key yet" in prefca(*init).stdout
    refused = prefca("batch", "--now")
    assert (refused.status, "no key of this CA is active" in refused.complaint) == (3, True)
    staff, shares = tmp_path / "staff", tmp_path / "shares"
    assert prefca("operator", "first", write_staff(staff)).status == 0
    split = ("--needed", "2", "--shares", "3", "--new-pin", "--pin-file", pin_file, "--out", shares)
    assert prefca("activation", "split", *split).status == 0
    number = prefca("activation", "start", "--json").json["operation"]
    for name in who_agree(OperationKind.ACTIVATE):
        key = ("--key", staff / f"{name}.pem", "--passphrase-file", staff / "passphrase", "--yes", "--json")
        assert prefca("operation", "approve", str(number), *key).status == 0
    given = ("--share", shares / "share-1.txt", "--share", shares / "share-3.txt")
    assert prefca("operation", "run", str(number), *given).status == 0
    agree(prefca, staff, prefca("found", "--json").json["operation"], *who_agree(OperationKind.FOUND))
    assert prefca("batch", "--now").status == 0
    assert prefca("found").status == 3
    assert "it has no key yet" not in prefca(*init).stdout
    assert prefca("operation", "verify", "--all").status == 0


@pytest.mark.req("R-6-1-1-1")
@pytest.mark.parametrize(
    "change",
    [
        {"signer": SignerSection(kind="pkcs11", module=Path("/another.so"), token="prefca")},
        {"signer": SignerSection(kind="pkcs11", module=Path("/hsm.so"), token="another")},
        {"ocsp": OCSPSection(pkcs11_module=Path("/hsm.so"), pkcs11_token="ocsp")},
    ],
    ids=["module", "token", "no delegate"],
)
async def test_where_the_first_key_is_made_is_agreed_to(ca: FoundedCA, change: dict[str, object]) -> None:
    """Whoever edits the configuration afterwards does not get the key into another place."""
    signer = SignerSection(kind="pkcs11", module=Path("/hsm.so"), token="prefca")
    installation = replace(ca.installation, settings=ca.settings.model_copy(update={"signer": signer}))
    asked = foundation(installation)
    changed = replace(installation, settings=installation.settings.model_copy(update=change))
    with pytest.raises(RefusedError, match="are others than when this was asked for"):
        await perform(Act(changed, asked, lambda: NOW, os.urandom))


@pytest.mark.req("R-5-2-2-1")
def test_a_test_ca_may_be_founded_by_several_persons(new: Path, prefca: Prefca, tmp_path: Path) -> None:
    """As a rehearsal; init alone then makes no key."""
    assert "it has no key yet" in prefca("init", "--without-key").stdout
    assert "it has no key yet" in prefca("init").stdout
    found_by_operators(prefca, tmp_path / "staff")
    assert prefca("status", "--check").status == 0


@pytest.mark.parametrize(
    ("change", "status", "complaint"),
    [
        ({"pin": "12345678"}, 2, "wrong PIN; check it before you try again"),
        ({"pin": ""}, 4, "is empty; put the secret there"),
        ({"--token": "elsewhere"}, 4, r"no token is labelled elsewhere; .* \(there is: prefca\)"),
        (
            {"--module": "/nonexistent.so"},
            4,
            "/nonexistent.so: No such file .* give the path of the token's PKCS#11 module",
        ),
        ({"--module": "/etc/hostname"}, 4, "/etc/hostname: cannot be loaded as a PKCS#11 module"),
        ({"--pin-file": "/nonexistent"}, 4, "/nonexistent: .* put the secret there, or correct `signer.pin_file`"),
    ],
    ids=["wrong PIN", "empty PIN", "no such token", "no such module", "not a module", "no PIN file"],
)
def test_a_token_that_cannot_be_used_is_told_so(
    change: dict[str, str], status: int, complaint: str, new: Path, hsm: SoftHSM, pin_file: Path, prefca: Prefca
) -> None:
    """One line and the status; nothing is founded, and init goes on once it is mended."""
    if "pin" in change:
        pin_file.write_text(change["pin"])
    options = with_token(hsm, pin_file)
    for option, value in change.items():
        if option in options:
            options[options.index(option) + 1] = value
    ended = prefca("init", *options)
    assert ended.status == status
    assert re.search(complaint, ended.complaint)
    pin_file.write_text(hsm.pin)
    (new / "prefca.toml").unlink()
    assert prefca("init", *with_token(hsm, pin_file)).status == 0


def test_a_token_that_is_away_is_told_so(new: Path, hsm: SoftHSM, pin_file: Path, prefca: Prefca) -> None:
    """The batch works again as soon as it is back."""
    assert prefca("init", *with_token(hsm, pin_file)).status == 0
    with hsm.unplugged():
        ended = prefca("batch", "--now")
        assert ended.status == 4
        assert "no token is labelled prefca; connect it" in ended.complaint
        hsm.init_token(hsm.label, hsm.pin)
        ended = prefca("batch", "--now")
        assert ended.status == 4
        assert "no private key is named test-tokyo-to-1" in ended.complaint
    assert prefca("batch", "--now").status == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--signer", "pkcs11"], "--signer pkcs11 needs --module"),
        (["--token", "t"], "go with --signer pkcs11"),
        (["--prefecture", "Osaka-fu"], "'Osaka-fu' is not one of"),
    ],
    ids=["half a token", "a token and a software key", "no such prefecture"],
)
def test_choices_that_do_not_fit_leave_nothing_behind(
    options: list[str], complaint: str, new: Path, prefca: Prefca
) -> None:
    """The next init begins anew."""
    ended = prefca("init", *options)
    assert ended.status in {2, 3}
    assert re.search(complaint, ended.complaint)
    assert not new.exists()
