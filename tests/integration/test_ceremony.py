"""A key ceremony: what does not fit is told before, it goes on where it was, and a record is written."""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from issuer.keys import KeyAlgorithm
from issuer.operations import agreement
from issuer.operations.ceremony import KINDS, ROLES, Room, obstacles
from issuer.rules.operation import OperationKind, Role
from issuer.servers import delegate
from settings.load import INSTANCE_VARIABLE
from tests.support.ca import FoundedCA
from tests.support.command import DSN_VARIABLE, ROOT, Prefca
from tests.support.database import Database
from tests.support.operators import PASSPHRASE, Desk, write_staff

pytestmark = pytest.mark.req("R-6-1-1-1", "R-5-2-2-2")

FOUR = ("keys1", "keys2", "senior1", "senior2")


def present(*names: str) -> list[str]:
    """The options for who is there."""
    return [part for name in names for part in ("--present", name)]


@pytest.fixture
def registered(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefca: Prefca) -> Path:
    """A test CA without key, whose operators are to found it; where their keys are."""
    monkeypatch.setenv(INSTANCE_VARIABLE, str(tmp_path / "new"))
    monkeypatch.setenv(DSN_VARIABLE, database.dsn)
    assert prefca("init", "--without-key").status == 0
    assert prefca("operator", "first", write_staff(tmp_path / "staff")).status == 0
    return tmp_path / "staff"


def test_a_ca_is_founded_in_a_rehearsal(registered: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Persons agree each at their place; the same command waits for them, runs it, and writes the record."""
    number = prefca("found", "--json").json["operation"]
    where = ("--place", "第一会議室", "--record", tmp_path / "record", "--witness", "立会　花子")
    walk = ("ceremony", str(number), *where, *present(*FOUR))
    assert "add --rehearse" in prefca(*walk).complaint
    missing = prefca("ceremony", str(number), *where, "--rehearse", *present(*FOUR[:3])).complaint
    assert f"for operation {number} (found) somebody is not here: 1 senior-operator" in missing
    waits = prefca(*walk, "--rehearse")
    assert (waits.status, "2 key-manager, 2 senior-operator have to agree" in waits.stderr) == (4, True)
    for name in FOUR:
        key = ("--key", registered / f"{name}.pem", "--passphrase-file", registered / "passphrase", "--yes", "--json")
        assert prefca("operation", "approve", str(number), *key).status == 0
    done = prefca(*walk, "--rehearse")
    assert done.status == 0, done
    ca = prefca("status", "--json").json["ca_certificate"]
    for ending in ("md", "html"):
        record = (tmp_path / "record" / f"ceremony-{number}.{ending}").read_text()
        for word in (
            *("鍵セレモニー記録（リハーサル）", "第一会議室", "立会　花子", "署名欄", "秘密鍵管理者", "senior2 太郎"),
            *("鍵ペアの生成及び自己署名証明書の発行", ca["sha256"], ca["serial"]),
        ):
            assert word in record
    assert prefca("operation", "verify", "--all").status == 0
    written = tmp_path / "record" / f"ceremony-{number}.html"
    first = written.read_bytes()
    assert prefca(*walk, "--rehearse").status == 0
    assert written.read_bytes() == first
    assert written.with_name(f"ceremony-{number}.2.html").exists()


def answered(command: list[str], answers: Iterable[tuple[str, str]]) -> str:
    """What a command says on a terminal on which each of these prompts is answered."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "issuer", *command], stdin=its, stdout=its, stderr=its, cwd=ROOT, start_new_session=True
    )
    os.close(its)
    said = b""
    for prompt, answer in answers:
        already = len(said)
        while prompt.encode() not in said[already:]:
            said += os.read(ours, 4096)
        os.write(ours, answer.encode() + b"\n")
    with contextlib.suppress(OSError):  # the end of a terminal
        while octets := os.read(ours, 4096):
            said += octets
    os.close(ours)
    assert process.wait() == 0, said.decode()
    return said.decode()


def test_on_a_terminal_one_after_the_other_comes(registered: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Whoever mistypes tries again; a passphrase is not shown."""
    number = prefca("found", "--json").json["operation"]
    answers = [("Who agrees", "nobody"), ("Who agrees", "keys1"), ("Key file", str(registered / "keys1.pem"))]
    answers += [("passphrase", "wrong")]
    for name in FOUR:
        file = str(registered / f"{name}.pem")
        answers += [("Who agrees", name), ("Key file", file), ("passphrase", PASSPHRASE)]
    where = ["--place", "here", "--record", str(tmp_path / "record"), "--rehearse"]
    said = answered(["ceremony", str(number), *where, *present(*FOUR)], answers)
    assert "nobody of that name is here" in said
    assert "wrong passphrase" in said
    assert f"record: {tmp_path / 'record'}" in said
    assert PASSPHRASE not in said
    assert prefca("status", "--check").status == 0


GOOD = Room(
    is_production=True,
    is_rehearsal=False,
    signer="pkcs11",
    pin_in_file=False,
    key_bits=2048,
    clock_difference=timedelta(seconds=3),
    present=(),
    unknown=(),
)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda room: replace(room, is_rehearsal=True), "rehearse with an instance of the test hierarchy"),
        (lambda room: replace(room, is_production=False), "add --rehearse"),
        (lambda room: replace(room, signer="software"), "in a token whose PIN is split"),
        (lambda room: replace(room, pin_in_file=True), "in a token whose PIN is split"),
        (lambda room: replace(room, key_bits=1024), "has 1024 bits"),
        (lambda room: replace(room, clock_difference=timedelta(seconds=-11)), "differ by 11 s"),
        (lambda room: replace(room, unknown=("nobody",)), "nobody is no operator"),
    ],
)
def test_what_does_not_fit_is_told_before(change: Callable[[Room], Room], complaint: str) -> None:
    """All of it at once, for whoever prepares the ceremony."""
    assert obstacles(GOOD, []) == []
    (found,) = obstacles(change(GOOD), [])
    assert complaint in found


async def test_who_has_agreed_before_need_not_be_there(ca: FoundedCA) -> None:
    """Their signature is."""
    desk = Desk(ca)
    await desk.register_first()
    number = await desk.request(OperationKind.OPERATIONS_CERTIFICATE, delegate.asked_for(KeyAlgorithm.P256))
    await desk.approve(number, "senior1")
    case = await agreement.find(ca.installation, number)
    operators = {one.name: one for one in await agreement.operators(ca.installation)}
    assert obstacles(replace(GOOD, present=[operators["senior2"]]), [case]) == []
    assert len(obstacles(replace(GOOD, present=[operators["senior1"]]), [case])) == 1


def test_the_record_has_a_word_for_every_kind_and_role() -> None:
    """So that no ceremony ends without its record."""
    assert set(KINDS) == set(OperationKind)
    assert set(ROLES) == set(Role)
