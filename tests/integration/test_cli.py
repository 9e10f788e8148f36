"""The command `prefca`: what it prints, and one line with a way out for everything that a person can get wrong."""

import base64
import json
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cryptography import x509

from issuer.cli.root import prefca as group
from issuer.installation import account
from pkix.software import store
from tests.support.ca import notice_line, public_key, rsa_key
from tests.support.command import DSN_VARIABLE, Prefca, select
from tests.support.database import Database

UNKNOWN = "5A00000000000001"


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            assert sub is not None
            yield from commands(sub, (*path, name))


COMMANDS = list(commands(group))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) or "prefca" for path, _ in COMMANDS])
def test_every_command_explains_itself(path: tuple[str, ...], command: click.Command, prefca: Prefca) -> None:
    """`--help` ends well and mentions every argument and option."""
    ended = prefca(*path, "--help")
    assert (ended.status, ended.stderr) == (0, "")
    usage, *explanation = ended.stdout.split("\n\n")
    assert usage.startswith(" ".join(["Usage: prefca", *path]))
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            assert parameter.make_metavar(click.Context(command)) in usage
        else:
            assert parameter.opts[0] in ended.stdout
    assert len(explanation) >= 2


def test_the_first_round_is_shown_line_by_line(prefca: Prefca) -> None:
    """As a list, to be copied from."""
    lines = [line.split()[:2] for line in prefca("--help").stdout.splitlines() if line.startswith("    prefca ")]
    assert lines == [["prefca", word] for word in ("init", "issue", "revoke", "batch", "up")]


def test_prefca_alone_shows_its_help(prefca: Prefca) -> None:
    """On standard error: nothing was done."""
    ended = prefca()
    assert ended.status == 2
    assert "Commands:" in ended.stderr


def issue(prefca: Prefca, directory: Path, count: int = 1) -> list[str]:
    """Issue certificates; their serial numbers."""
    notices, results = directory / "notices.jsonl", directory / "results.jsonl"
    notices.write_bytes(b"".join(notice_line(number) for number in range(count)))
    assert prefca("issue", notices, "--results", results).status == 0
    return [json.loads(line)["serial"] for line in results.read_text().splitlines()]


@pytest.mark.req("R-4-2-1", "R-4-4-4-2-2", "R-4-4-3-1")
def test_a_first_round_for_people(instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Issue, look, revoke, publish, look again, export: each command says what it did."""
    first, second = issue(prefca, tmp_path, 2)
    listed = prefca("list").stdout
    assert all(serial in listed for serial in (first, second))
    assert prefca("revoke", first, "--reason", "keyCompromise").stdout == f"{first} revoked: keyCompromise\n"
    assert "revoked (keyCompromise)" in prefca("list").stdout
    assert "64 lists with 1 entries" in prefca("batch", "--now").stdout
    assert "issued 2, revoked 1, valid 1" in prefca("status").stdout
    pem = prefca("export", "crl", "132217").stdout
    assert [entry.serial_number for entry in x509.load_pem_x509_crl(pem.encode())] == [int(first, 16)]


@pytest.mark.req("R-4-2-3-2", "R-3-2-2")
def test_the_history_of_a_person_is_found_by_any_of_its_numbers(instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """By the serial number of a certificate or the number of its notice; it has whatever came before and after."""
    notices, results = tmp_path / "notices.jsonl", tmp_path / "results"
    key = base64.b64encode(public_key(9)).decode()
    renewal = notice_line(1, notice_number="N-9", renewal=True, public_key=key)
    notices.write_bytes(notice_line(1) + notice_line(2) + renewal)
    assert prefca("issue", notices, "--results", results).status == 0
    old, other, new = (json.loads(line)["serial"] for line in results.read_text().splitlines())
    rows = prefca("history", old, "--json").json
    assert [(row["serial"], row["status"], row["notice_number"], row["municipality"]) for row in rows] == [
        (old, "revoked (superseded)", "N-1", "132217"),
        (new, "good", "N-9", "132217"),
    ]
    assert rows[0]["revoked_at"] == rows[0]["received_at"] is not None
    assert rows[1]["revoked_at"] is None
    assert prefca("history", "--notice-number", "N-9", "--json").json == rows
    shown = prefca("history", f"0x{new.lower()}").stdout
    assert old in shown
    assert other not in shown
    assert "None" not in shown


def test_everything_is_there_as_json(instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """The same for programs, with times as RFC 3339."""
    assert prefca("init", "--json").json["instance"] == str(instance)
    notices = tmp_path / "notices.jsonl"
    notices.write_bytes(notice_line(1))
    results = tmp_path / "results"
    counts = prefca("issue", notices, "--results", results, "--json").json
    assert counts == {"issued": 1, "issued_before": 0, "refused": 0, "results": str(results)}
    (listed,) = prefca("list", "--json").json
    assert listed["status"] == "good"
    assert listed["not_after"].endswith("T14:59:59Z")
    (revoked,) = prefca("revoke", listed["serial"], "--reason", "5", "--json").json
    assert (revoked["result"], revoked["reason"]) == ("revoked", "cessationOfOperation")
    published = prefca("batch", "--now", "--json").json
    assert (published["lists"], published["entries"]) == (64, 1)
    status = prefca("status", "--json").json
    assert status["publication"]["number"] == published["publication"]
    assert sum(made["entries"] for made in status["lists"]) == 1


@pytest.mark.req("R-4-2-1")
def test_the_outcome_of_every_line_is_written_down(instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Refused lines are named on standard error too, without personal data; the status tells that there are some."""
    notices, results = tmp_path / "notices.jsonl", tmp_path / "results.jsonl"
    notices.write_bytes(notice_line(1) + b"[1]\n" + notice_line(2, name="𠮷田　花") + notice_line(3))
    ended = prefca("issue", notices, "--results", results)
    assert ended.status == 3
    assert ended.stdout.startswith("issued 2, issued before 0, refused 2;")
    assert ended.stderr.splitlines() == ["line 2: wrong-value", "line 3: character-not-allowed"]
    outcomes = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(outcome["line"], outcome["result"]) for outcome in outcomes] == [
        (1, "issued"),
        (2, "refused"),
        (3, "refused"),
        (4, "issued"),
    ]
    certificate = x509.load_der_x509_certificate(base64.b64decode(outcomes[0]["certificate"]))
    assert f"{certificate.serial_number:016X}" == outcomes[0]["serial"]
    assert stat.S_IMODE(results.stat().st_mode) == 0o600
    assert prefca("issue", notices, "--results", results).stdout.startswith("issued 0, issued before 2, refused 2;")


def test_results_are_beside_their_notices(instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """So two files of one name, each in a directory of its municipality, have two."""
    files = [tmp_path / code / "notices.jsonl" for code in ("131016", "131024")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_bytes(notice_line(number))
        assert prefca("issue", file).status == 0
    results = [file.with_name("notices.jsonl.results.jsonl").read_text() for file in files]
    assert [json.loads(one)["notice_number"] for one in results] == ["N-0", "N-1"]


def test_a_run_that_cannot_begin_leaves_the_results_of_the_last_one(
    instance: Path, tmp_path: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The municipality may not have fetched them yet."""
    issue(prefca, tmp_path)
    before = (tmp_path / "results.jsonl").read_bytes()
    monkeypatch.setenv(DSN_VARIABLE, f"postgresql://127.0.0.1:{closed_port()}/prefca")
    assert prefca("issue", tmp_path / "notices.jsonl", "--results", tmp_path / "results.jsonl").status == 4
    assert (tmp_path / "results.jsonl").read_bytes() == before


def test_samples_that_were_interrupted_are_completed(instance: Path, prefca: Prefca) -> None:
    """Nothing more is revoked, and the examples stay: what was revoked is not handed out again."""
    samples = instance / "sample"
    assert prefca("sample", "--count", "7").status == 0
    before, revoked = prefca("status", "--json").json["certificates"], (samples / "revoked.pem").read_bytes()
    (samples / "README").unlink()
    assert prefca("sample", "--count", "7").status == 0
    assert prefca("status", "--json").json["certificates"] == before
    assert (samples / "revoked.pem").read_bytes() == revoked


def test_some_of_an_order_may_be_refused(instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """The others are revoked; each refusal is a line of its own."""
    (serial,) = issue(prefca, tmp_path)
    ended = prefca("revoke", UNKNOWN, serial, serial.lower(), "--reason", "1")
    assert (ended.status, ended.stdout) == (3, f"{serial} revoked: keyCompromise\n")
    assert ended.stderr == f"prefca: {UNKNOWN} was never issued by this CA; check the serial number\n"
    again = prefca("revoke", serial, "--reason", "1")
    assert again.status == 3
    assert "a revocation is final" in again.complaint


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["revoke", UNKNOWN, "--reason", "1"], 3, "never issued by this CA"),
        (["revoke", "F" * 16, "--reason", "1"], 3, "never issued by this CA"),
        (["revoke", "F" * 17, "--reason", "1"], 3, "write its hexadecimal digits"),
        (["revoke", "serial", "--reason", "1"], 3, "write its hexadecimal digits"),
        (["revoke", UNKNOWN, "--reason", "6"], 3, "take one of 1 keyCompromise"),
        (["revoke", UNKNOWN], 2, "name SERIALS and their --reason, or a --file .*`prefca revoke --help`"),
        (["revoke", "--reason", "1"], 2, "name SERIALS and their --reason, or a --file"),
        (
            ["revoke", UNKNOWN, "--reason", "1", "--results", "r"],
            2,
            "a --file of notices and, if you like, its --results",
        ),
        (["revoke", "--file", "/"], 2, "Is a directory"),
        (["revoke", UNKNOWN, "--file", "/dev/null"], 2, "with --file all is in the file"),
        (["revoke", "--reason", "1", "--file", "/dev/null"], 2, "with --file all is in the file"),
        (["revoke", UNKNOWN, "--reason", "1", "--received-at", "yesterday"], 2, "write a day of Japan"),
        (["revoke", UNKNOWN, "--reason", "1", "--received-at", "2999-01-01"], 3, "in the future; correct"),
        (["revoke", UNKNOWN, "--reason", "1", "--invalidity-date", "2999-01-01"], 3, "in the future; correct"),
        (["history"], 2, "name the SERIAL of a certificate, or the --notice-number of a notice"),
        (["history", UNKNOWN, "--notice-number", "N-1"], 2, "name the SERIAL of a certificate, or"),
        (["history", "F" * 16], 3, "no certificate was issued that belongs to F{16}; check the number"),
        (["history", "--notice-number", os.fsdecode(b"N-\xff")], 2, "printable characters only"),
        (["history", "--notice-number", "N-0"], 3, "belongs to a notice 'N-0'; check the number"),
        (["issue", "nowhere.jsonl"], 2, "'nowhere.jsonl': No such file or directory"),
        (["issue", "/"], 2, "Is a directory"),
        (["issue"], 2, "Missing argument 'NOTICES'"),
        (["list", "--kind", "passport"], 2, "'passport' is not one of"),
        (["list", "--limit", "0"], 2, "0 is not in the range"),
        (["export", "crl"], 2, "`crl` takes a municipality's code"),
        (["export", "ca", "132217"], 2, "`crl` takes a municipality's code"),
        (["export", "crl", "162019"], 3, "no list of 162019 is in force; `prefca status`"),
        (["export", "certificate", UNKNOWN], 3, "check the serial number"),
        (["export", "certificate", "F" * 16], 3, "check the serial number"),
        (["init", "--hierarchy", "production"], 3, "--hierarchy contradicts .*prefca.toml"),
        (["--ca", "Toyama-ken", "batch"], 2, "no CA of Toyama-ken in .*prefca.toml; take Tokyo-to"),
        (["--ca", "Osaka-fu", "batch"], 2, "'Osaka-fu' is not one of 'Tokyo-to', 'Toyama-ken'"),
        (["--ca", "Tokyo-to", "init", "--prefecture", "Toyama-ken"], 2, "name two prefectures; leave one out"),
        (["init", "--signer", "hsm"], 2, "'hsm' is not one of"),
        (["publish"], 2, "No such command 'publish'.*`prefca --help`"),
        (["--instance"], 2, "requires an argument"),
        (["--instance", "/etc/passwd", "status"], 2, "'/etc/passwd' is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_asked_wrongly_is_answered_with_one_line(
    arguments: list[str], status: int, complaint: str, shared_instance: Path, prefca: Prefca
) -> None:
    """The status tells which kind of mistake it was, the line what to do."""
    ended = prefca(*arguments)
    assert ended.status == status
    assert re.search(complaint, ended.complaint)


def closed_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("dsn", "complaint"),
    [
        ("postgresql://127.0.0.1:{port}/prefca", "cannot be reached .* start it, or correct `database.dsn`"),
        ("postgresql:///prefca?host=/nonexistent", "correct `database.dsn`"),
        ("mysql://localhost/prefca", "correct `database.dsn`"),
        ("prefca", "correct `database.dsn`"),
        ("postgresql://localhost:port/prefca", "correct `database.dsn`"),
        ("postgresql://[::1/prefca", "correct `database.dsn`"),
        ("{dsn}&sslmode=perhaps", "correct `database.dsn`"),
        ("{other}", "does not exist.* correct `database.dsn`"),
        ("{stranger}", "refuses us .*run `prefca init` first, or correct `database.dsn`"),
    ],
    ids=[
        "nobody listens",
        "no socket",
        "another database program",
        "a word",
        "no port number",
        "broken address",
        "unknown TLS mode",
        "no such database",
        "no such role",
    ],
)
def test_a_database_that_is_away_is_told_so(
    dsn: str, complaint: str, shared_instance: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is down or the address is wrong: one line, and the status "not now"."""
    right = os.environ[DSN_VARIABLE]
    values = {
        "port": closed_port(),
        "dsn": right,
        "other": right.replace("///", "///no_"),
        "stranger": right.replace("///", "//stranger@/"),
    }
    monkeypatch.setenv(DSN_VARIABLE, dsn.format(**values))
    ended = prefca("status")
    assert ended.status == 4
    assert re.search(complaint, ended.complaint)


def replace_line(instance: Path, line: str, by: str) -> None:
    """Edit prefca.toml."""
    file = instance / "prefca.toml"
    assert line in file.read_text()
    file.write_text(file.read_text().replace(line, by))


@pytest.mark.parametrize(
    ("line", "by", "status", "complaint"),
    [
        ("[log]", "[log]\nlevl = 1", 2, "`log.levl`: unknown key"),
        ("[log]", "[logging]", 2, "`logging`: unknown key"),
        ("[log]", "[log", 2, "prefca.toml: "),
        ("[ocsp]", '[ocsp]\nlisten = "127.0.0.1:3890"', 2, "both 127.0.0.1:3890; give each its own port"),
        ('kind = "software"', 'kind = "pkcs11"', 2, "needs `module` and `token`"),
        ('prefecture = "Tokyo-to"', 'prefecture = "Toyama-ken"', 3, "no test CA of Toyama-ken .* run `prefca init`"),
        ('"secrets/ca-key.passphrase"', '"secrets/nothing"', 4, "put the secret there, or correct `signer.passphrase_"),
        ('passphrase_file = "secrets/ca-key.passphrase"', "", 2, "set `signer.passphrase_file`, or run .* terminal"),
    ],
    ids=[
        "unknown key",
        "unknown section",
        "broken",
        "one port twice",
        "half a token",
        "another prefecture",
        "no passphrase file",
        "nobody to ask",
    ],
)
def test_a_configuration_that_cannot_be_used_is_told_so(
    line: str, by: str, status: int, complaint: str, shared_instance: Path, prefca: Prefca
) -> None:
    """With the key to correct."""
    replace_line(shared_instance, line, by)
    ended = prefca("batch", "--now")
    assert ended.status == status
    assert re.search(complaint, ended.complaint)


def test_an_unknown_variable_stops_the_command(
    shared_instance: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped one would otherwise do nothing, silently."""
    monkeypatch.setenv("PREFCA_DATABASE_DSN", "postgresql:///prefca")
    ended = prefca("status")
    assert ended.status == 2
    assert "PREFCA_DATABASE_DSN sets nothing; write PREFCA_<SECTION>__<KEY>" in ended.complaint


@pytest.mark.parametrize(
    ("file", "content", "status", "complaint"),
    [
        ("secrets/ca-key.passphrase", b"another", 4, "wrong passphrase"),
        ("secrets/ca-key.passphrase", b"", 4, "is empty; put the secret there"),
        ("secrets/ca-key.passphrase", b"\xff\xfe", 4, "put the secret there"),
        ("secrets/ca-key.passphrase", None, 4, "put the secret there"),
        ("keys/ca/test-tokyo-to-1.pem", b"no key", 4, "not an encrypted PKCS#8 key"),
        ("keys/ca/test-tokyo-to-1.pem", None, 4, "restore the key file from its backup"),
    ],
    ids=["wrong", "empty", "not text", "missing", "broken key", "missing key"],
)
@pytest.mark.parametrize("command", ["batch", "issue"])
def test_a_key_that_cannot_be_used_is_told_so(
    command: str, file: str, content: bytes | None, status: int, complaint: str, shared_instance: Path, prefca: Prefca
) -> None:
    """Nothing is signed; the line says which file to mend."""
    (shared_instance / file).unlink()
    if content is not None:
        (shared_instance / file).write_bytes(content)
    notices = shared_instance / "notices.jsonl"
    notices.write_bytes(notice_line(1))
    issuing = ["issue", notices, "--results", shared_instance / "results"]
    ended = prefca(*(["batch", "--now"] if command == "batch" else issuing))
    assert ended.status == status
    assert re.search(complaint, ended.complaint)


def test_a_key_of_somebody_else_is_not_used(shared_instance: Path, prefca: Prefca) -> None:
    """It would sign what nobody can verify."""
    file = shared_instance / "keys" / "ca" / "test-tokyo-to-1.pem"
    file.unlink()
    passphrase = (shared_instance / "secrets" / "ca-key.passphrase").read_bytes().rstrip()
    store(file, rsa_key("another ca"), passphrase)
    ended = prefca("batch", "--now")
    assert ended.status == 3
    assert "restore the right key" in ended.complaint


@pytest.mark.parametrize("command", [["status"], ["batch"], ["list"], ["up"], ["relying-party", "list"]], ids=" ".join)
def test_where_nothing_is_set_up_nothing_is_made(command: list[str], tmp_path: Path, prefca: Prefca) -> None:
    """A mistyped instance gets neither a database nor certificates, and the line says how to begin."""
    ended = prefca("--instance", tmp_path / "nowhere", *command)
    assert ended.status == 3
    assert "run `prefca init`" in ended.complaint
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("has_schema", [False, True], ids=["empty", "with a schema"])
def test_a_database_without_a_ca_is_told_so(
    has_schema: bool, database: Database, tmp_path: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the schema is there already or not."""
    dsn = database.dsn if has_schema else database.dsn.replace(database.name, "template1")
    monkeypatch.setenv(DSN_VARIABLE, dsn)
    ended = prefca("--instance", tmp_path, "status")
    assert ended.status == 3
    assert "run `prefca init`" in ended.complaint


@pytest.mark.usefixtures("instance")
@pytest.mark.req("R-4-11-2-1", "R-4-11-2-2")
def test_what_was_refused_is_on_record(prefca: Prefca, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which command, by whom, and how it ended; nothing that was typed, which may name persons."""
    before = len(select("SELECT 1 FROM operation_record"))
    assert prefca("status").status == 0
    assert prefca("export", "certificate", UNKNOWN).status == 3
    assert prefca("relying-party", "suspend", "佐藤").status == 3
    told = select("SELECT kind, object, result, origin, detail::text FROM operation_record ORDER BY record_id")
    who = f"{account()}@{socket.gethostname()}"
    error = '{"error": "RefusedError"}'
    assert told[before:] == [
        ("command", "export", "refused", who, error),
        ("command", "relying-party suspend", "refused", who, error),
    ]
    dsn = os.environ[DSN_VARIABLE]
    monkeypatch.setenv(DSN_VARIABLE, "postgresql:///none?host=/nonexistent")
    assert prefca("relying-party", "list").status == 4
    monkeypatch.setenv(DSN_VARIABLE, dsn)
    assert len(select("SELECT 1 FROM operation_record")) == before + 2, "where no ledger was reached, nothing happened"
