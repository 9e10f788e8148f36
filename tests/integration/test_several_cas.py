"""Several CAs in one installation: one configuration, one database, and each CA on its own."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from issuer.cli import publishing
from settings.load import CA_VARIABLE, INSTANCE_VARIABLE
from tests.support.ca import notice_line
from tests.support.command import DSN_VARIABLE, Prefca, copied, select, set_up
from tests.support.database import Database
from tests.support.operators import found_by_operators
from tests.support.softhsm import SoftHSM

TOYAMA_RESIDENT = {"municipality": "162019", "address": "富山県富山市テスト町１－２－３"}
UNKNOWN = "5A00000000000001"
SEVERAL = "several CAs here; say which with --ca Tokyo-to or Toyama-ken"


@pytest.fixture(scope="module")
def two_template(postgres_instance: Path) -> Iterator[tuple[Path, Database]]:
    """An instance with the CA of Tokyo, to which the one of Toyama was added; to be copied."""
    with set_up(postgres_instance, ["init"], ["init", "--prefecture", "Toyama-ken"]) as template:
        yield template


@pytest.fixture
async def two(
    two_template: tuple[Path, Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Path]:
    """The same for this test alone."""
    async with copied(two_template, tmp_path / "two", monkeypatch) as instance:
        yield instance


def issue(prefca: Prefca, directory: Path, ca: str, *lines: bytes) -> list[dict[str, str]]:
    """The outcomes of notices at one CA."""
    notices, results = directory / "notices.jsonl", directory / "results.jsonl"
    notices.write_bytes(b"".join(lines))
    prefca("--ca", ca, "issue", notices, "--results", results)
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def issue_at_both(prefca: Prefca, directory: Path) -> dict[str, str]:
    """A certificate of each, by its serial number."""
    (tokyo,) = issue(prefca, directory, "Tokyo-to", notice_line(1))
    (toyama,) = issue(prefca, directory, "Toyama-ken", notice_line(2, **TOYAMA_RESIDENT))
    return {"Tokyo-to": tokyo["serial"], "Toyama-ken": toyama["serial"]}


@pytest.mark.req("R-1-3-1-1", "R-4-4-4-4-2")
def test_each_ca_has_keys_names_and_lists_of_its_own(two: Path, prefca: Prefca) -> None:
    """Only the configuration and the database are shared."""
    keys = {file.name for file in (two / "keys" / "ca").iterdir()}
    assert keys == {"test-tokyo-to-1.pem", "test-toyama-ken-1.pem"}
    own = {}
    for prefecture in ("Tokyo-to", "Toyama-ken"):
        ca = x509.load_pem_x509_certificate(prefca("--ca", prefecture, "export", "ca").stdout.encode())
        assert f"OU={prefecture}" in ca.subject.rfc4514_string()
        own[prefecture] = ca.public_key()
    assert own["Tokyo-to"] != own["Toyama-ken"]
    status = prefca("status", "--json").json
    assert status.pop("journal") == {"alarms": []}
    assert {prefecture: len(shown["lists"]) for prefecture, shown in status.items()} == {
        "Tokyo-to": 62 + 2,
        "Toyama-ken": 15 + 2,
    }
    alone = prefca("--ca", "Toyama-ken", "status", "--json").json
    assert alone["lists"] == status["Toyama-ken"]["lists"]


@pytest.mark.usefixtures("two")
def test_init_again_changes_nothing(prefca: Prefca) -> None:
    """With the prefecture, with --ca, or for all CAs at once."""
    rows = select("SELECT * FROM operation_record")
    for again in (["init"], ["init", "--prefecture", "Toyama-ken"], ["--ca", "Tokyo-to", "init"]):
        ended = prefca(*again)
        assert (ended.status, ended.stderr) == (0, "")
    assert select("SELECT * FROM operation_record") == rows


def test_an_init_that_came_no_further_than_the_configuration_is_completed(instance: Path, prefca: Prefca) -> None:
    """Until then the new CA is told to be missing; the one that was there is left alone."""
    rows = select("SELECT * FROM operation_record ORDER BY record_id")
    key = instance / "keys" / "ca" / "test-toyama-ken-1.pem"
    key.write_bytes(b"of somebody else")
    assert prefca("init", "--prefecture", "Toyama-ken").status == 4
    ended = prefca("batch", "--now", "--json")
    assert ended.status == 3
    assert ended.stderr == "prefca: Toyama-ken: no test CA of Toyama-ken is set up here; run `prefca init`\n"
    assert list(json.loads(ended.stdout)) == ["Tokyo-to"]
    key.unlink()
    assert prefca("init").status == 0
    assert set(prefca("status", "--json").json) == {"Tokyo-to", "Toyama-ken", "journal"}
    assert select("SELECT * FROM operation_record ORDER BY record_id")[: len(rows)] == rows


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    "command",
    [
        ["export", "ca"],
        ["export", "arl"],
        ["export", "crl", "271004"],
        ["issue", "NOTICES"],
        ["revoke", "--file", "NOTICES"],
    ],
    ids=" ".join,
)
def test_what_is_for_one_ca_asks_for_which(command: list[str], tmp_path: Path, prefca: Prefca) -> None:
    """Nothing is done for one of them by accident; the line names the choices."""
    notices = tmp_path / "notices.jsonl"
    notices.write_bytes(notice_line(1))
    results = ["--results", tmp_path / "results.jsonl"] if command[-1] == "NOTICES" else []
    ended = prefca(*(notices if word == "NOTICES" else word for word in command), *results)
    assert ended.status == 2
    assert SEVERAL in ended.complaint


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(("code", "prefecture"), [("131016", "Tokyo-to"), ("162019", "Toyama-ken")], ids=str)
def test_the_code_of_a_municipality_says_whose_list_it_is(code: str, prefecture: str, prefca: Prefca) -> None:
    """So `export crl` need not be told."""
    crl = x509.load_pem_x509_crl(prefca("export", "crl", code).stdout.encode())
    assert f"OU={prefecture}" in crl.issuer.rfc4514_string()


@pytest.mark.usefixtures("two")
@pytest.mark.req("R-4-4-9-1")
def test_kept_lists_are_those_of_all_cas(prefca: Prefca) -> None:
    """All are listed and verified; a municipality, by code or name, says which CA is asked."""
    listed = prefca("crl", "list", "--json").json
    assert {prefecture: len(lists) for prefecture, lists in listed.items()} == {"Tokyo-to": 64, "Toyama-ken": 17}
    heading, *shown = [line.split()[:2] for line in prefca("crl", "list").stdout.splitlines()]
    assert heading == ["CA", "list"]
    assert [ca for ca, name in shown if name == "ca"] == ["Tokyo-to", "Toyama-ken"]
    verified = prefca("crl", "verify", "--json").json
    assert {prefecture: one["wrong"] for prefecture, one in verified.items()} == {"Tokyo-to": 0, "Toyama-ken": 0}
    assert "Toyama-ken: 17 lists verified, none wrong" in prefca("crl", "verify").stdout
    for named in "162019", "富山市":
        assert prefca("crl", "show", named, "--json").json["list"] == "162019"
    assert SEVERAL in prefca("crl", "show", "ca").complaint


@pytest.mark.usefixtures("two")
@pytest.mark.req("R-4-4-9-1")
def test_a_list_need_not_be_of_every_ca_to_be_verified(prefca: Prefca) -> None:
    """With a number that one CA has got to; one that none has is refused, as nothing was verified."""
    prefca("--ca", "Toyama-ken", "batch", "--now")
    verified = prefca("crl", "verify", "--number", "2", "--json").json
    assert {prefecture: one["verified"] for prefecture, one in verified.items()} == {"Tokyo-to": 0, "Toyama-ken": 17}
    ended = prefca("crl", "verify", "--number", "3")
    assert (ended.status, "there is no such list" in ended.complaint) == (3, True)


@pytest.mark.usefixtures("two")
@pytest.mark.req("R-4-12-2-1", "R-4-12-2-3")
def test_lists_of_all_cas_are_exported_to_one_directory(prefca: Prefca, tmp_path: Path) -> None:
    """Names tell whose ARL it is, also when both were made in the same second with the same number."""
    select("ALTER TABLE publication DISABLE TRIGGER USER")
    select("UPDATE publication SET this_update = (SELECT min(this_update) FROM publication)")
    for ca, lists in ("Tokyo-to", 64), ("Toyama-ken", 17):
        assert f"{lists} lists are in" in prefca("--ca", ca, "crl", "export", tmp_path / "out").stdout
    assert len(list((tmp_path / "out").glob("*.pem"))) == 64 + 17
    manifest = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text("utf-8").splitlines()]
    arls = {line["ca"]: line["file"] for line in manifest if line["list"] == "ca"}
    assert arls.keys() == {"Tokyo-to", "Toyama-ken"}
    for ca, file in arls.items():
        assert file.startswith(f"{ca}-ca-0000000001-")
        crl = x509.load_pem_x509_crl((tmp_path / "out" / file).read_bytes())
        assert f"OU={ca}" in crl.issuer.rfc4514_string()
    assert prefca("crl", "enter", tmp_path / "out").status == 0


@pytest.mark.usefixtures("two")
def test_the_environment_can_say_which(prefca: Prefca, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell that works for one CA has it; --ca goes before it."""
    monkeypatch.setenv(CA_VARIABLE, "Toyama-ken")
    assert "OU=Toyama-ken" in prefca("status", "--json").json["authority"]["name"]
    assert "OU=Tokyo-to" in prefca("--ca", "Tokyo-to", "status", "--json").json["authority"]["name"]


@pytest.mark.usefixtures("two")
@pytest.mark.req("R-4-2-1", "R-1-3-1-1")
def test_each_ca_issues_to_its_own_residents_only(prefca: Prefca, tmp_path: Path) -> None:
    """A resident of Toyama is refused by the CA of Tokyo."""
    notice = notice_line(1, **TOYAMA_RESIDENT)
    (refused,) = issue(prefca, tmp_path, "Tokyo-to", notice)
    assert refused["result"] == "refused"
    (issued,) = issue(prefca, tmp_path, "Toyama-ken", notice)
    certificate = x509.load_pem_x509_certificate(prefca("export", "certificate", issued["serial"]).stdout.encode())
    ca = x509.load_pem_x509_certificate(prefca("--ca", "Toyama-ken", "export", "ca").stdout.encode())
    certificate.verify_directly_issued_by(ca)
    assert "L=Toyama-ken" in certificate.subject.rfc4514_string()


@pytest.mark.usefixtures("two")
@pytest.mark.req("R-4-4-4-2-2")
def test_the_serial_number_says_which_ca_revokes(prefca: Prefca, tmp_path: Path) -> None:
    """One command for certificates of both; what nobody issued is refused, and hinders nothing."""
    serials = issue_at_both(prefca, tmp_path)
    ended = prefca("revoke", *serials.values(), UNKNOWN, "F" * 16, "--reason", "1", "--json")
    assert ended.status == 3
    assert sorted((row["serial"], row["result"]) for row in json.loads(ended.stdout)) == sorted(
        [(serial, "revoked") for serial in serials.values()] + [(UNKNOWN, "refused"), ("F" * 16, "refused")]
    )
    listed = prefca("list", "--json").json
    for prefecture, serial in serials.items():
        assert [(row["serial"], row["status"]) for row in listed[prefecture]] == [(serial, "revoked (keyCompromise)")]


@pytest.mark.usefixtures("two")
@pytest.mark.req("R-4-4-4-2-2")
def test_a_ca_does_not_revoke_for_another(prefca: Prefca, tmp_path: Path) -> None:
    """--ca says who is asked."""
    serials = issue_at_both(prefca, tmp_path)
    ended = prefca("--ca", "Tokyo-to", "revoke", serials["Toyama-ken"], "--reason", "1")
    assert ended.status == 3
    assert "never issued by this CA" in ended.complaint


@pytest.mark.usefixtures("two")
@pytest.mark.req("R-4-11-6")
def test_what_all_cas_share_is_told_once(prefca: Prefca, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a name of its own, and not of one CA that is asked for."""
    later = datetime.now(UTC) + timedelta(hours=30)
    monkeypatch.setattr(publishing, "now", lambda: later)
    told = json.loads(prefca("status", "--check", "--json").stdout)
    assert list(told) == ["Tokyo-to", "Toyama-ken", "journal"]
    names = {whose: [one["name"] for one in standing] for whose, standing in told.items()}
    assert names == {"Tokyo-to": ["late"], "Toyama-ken": ["late"], "journal": ["journal_not_collected"]}
    said = prefca("status", "--check")
    assert (said.status, said.stdout.count("journal_not_collected")) == (5, 1)
    assert prefca("status").stdout.count("ALARM journal_not_collected") == 1
    alone = prefca("--ca", "Tokyo-to", "status", "--check")
    assert (alone.stdout.count("\n"), "journal" in alone.stdout) == (1, False)


@pytest.mark.usefixtures("two")
@pytest.mark.req("R-4-4-3-1")
def test_one_batch_publishes_for_all(prefca: Prefca, tmp_path: Path) -> None:
    """Each CA's revocations are on its own lists, whose numbers rise on their own."""
    prefca("--ca", "Toyama-ken", "batch", "--now")
    prefca("revoke", *issue_at_both(prefca, tmp_path).values(), "--reason", "1")
    prefca("batch", "--now")
    status = prefca("status", "--json").json
    shown = {
        prefecture: {row["list"]: (row["crl_number"], row["entries"]) for row in one["lists"] if row["entries"]}
        for prefecture, one in status.items()
        if prefecture != "journal"
    }
    assert shown == {"Tokyo-to": {"132217": (2, 1)}, "Toyama-ken": {"162019": (3, 1)}}


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("only", ["162019", "富山市"])
def test_a_dry_run_of_one_list_is_that_of_its_ca(only: str, prefca: Prefca) -> None:
    """The other CA is not asked for it."""
    ended = prefca("batch", "--dry-run", "--only", only, "--json")
    assert ended.stderr == ""
    assert [one["list"] for one in ended.json["lists"]] == ["162019"]


@pytest.mark.req("R-4-4-3-2")
def test_what_fails_for_one_ca_is_done_for_the_other(two: Path, prefca: Prefca) -> None:
    """One line names the CA and what to mend; the exit status is that of the failure."""
    (two / "keys" / "ca" / "test-tokyo-to-1.pem").unlink()
    ended = prefca("batch", "--now", "--json")
    assert ended.status == 4
    assert re.fullmatch(r"prefca: Tokyo-to: .*restore the key file from its backup.*\n", ended.stderr)
    assert list(json.loads(ended.stdout)) == ["Toyama-ken"]


@pytest.mark.usefixtures("two")
def test_relying_parties_are_those_of_the_installation(prefca: Prefca) -> None:
    """Their agreements hold for all CAs, so nobody has to say which."""
    assert prefca("relying-party", "add", "tax-office", "--right", "ocsp").status == 0
    assert prefca("relying-party", "credential", "add", "network", "tax-office", "192.0.2.0/24").status == 0
    assert [party["name"] for party in prefca("relying-party", "list", "--json").json] == ["tax-office"]


@pytest.mark.req("R-1-2-2", "R-6-1-1-3")
@pytest.mark.parametrize(
    ("tokyo", "toyama"),
    [
        (["--signer", "software"], ["--hierarchy", "production", "TOKEN"]),
        (["--hierarchy", "production", "TOKEN"], ["--hierarchy", "production"]),
    ],
    ids=["test beside production in a token", "both in one token"],
)
def test_a_ca_in_a_token_stands_beside_another(
    tokyo: list[str],
    toyama: list[str],
    hsm: SoftHSM,
    database: Database,
    tmp_path: Path,
    prefca: Prefca,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each signs with its own key, wherever that is; names of test and production cannot be taken for each other."""
    monkeypatch.setenv(INSTANCE_VARIABLE, str(tmp_path / "new"))
    monkeypatch.setenv(DSN_VARIABLE, database.dsn)
    (tmp_path / "pin").write_text(f"{hsm.pin}\n")
    token = ["--signer", "pkcs11", "--module", hsm.module, "--token", hsm.label, "--pin-file", tmp_path / "pin"]
    for prefecture, options in ("Tokyo-to", tokyo), ("Toyama-ken", toyama):
        chosen = [value for word in options for value in (token if word == "TOKEN" else [word])]
        ended = prefca("init", "--prefecture", prefecture, *chosen)
        assert (ended.status, ended.stderr) == (0, "")
        if "production" in chosen:
            found_by_operators(prefca, tmp_path / f"staff-{prefecture}", "--ca", prefecture)
    assert prefca("batch", "--now").status == 0
    shown = prefca("status", "--json").json
    for prefecture, options in ("Tokyo-to", tokyo), ("Toyama-ken", toyama):
        organization = "JPKI" if "production" in options else "JPKI Test"
        assert f"OU={prefecture},O={organization},C=JP" in shown[prefecture]["authority"]["name"]
    assert shown["Tokyo-to"]["ca_certificate"]["sha256"] != shown["Toyama-ken"]["ca_certificate"]["sha256"]
    files = [file.name for file in (tmp_path / "new" / "keys").glob("ca/*")]
    assert files == (["test-tokyo-to-1.pem"] if "software" in tokyo else [])
