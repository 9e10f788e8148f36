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
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from issuer.errors import NotNowError
from issuer.keys import KeyAlgorithm
from issuer.lists import batch
from issuer.operations import agreement
from issuer.operations.ceremony import CRL_HOURS, Room, Step, obstacles
from issuer.operations.ceremony_paper import KINDS, ROLES
from issuer.rules.operation import OperationKind, Role
from issuer.servers import delegate
from settings.load import INSTANCE_VARIABLE
from tests.support.bridge import Bridge
from tests.support.ca import FoundedCA
from tests.support.command import DSN_VARIABLE, ROOT, Ended, Prefca, select
from tests.support.cross import KEN
from tests.support.cross import Desk as CrossDesk
from tests.support.database import Database
from tests.support.operators import PASSPHRASE, Desk, person_key, who_agree, write_staff
from tests.support.softhsm import SoftHSM

pytestmark = pytest.mark.req("R-6-1-1-1", "R-5-2-2-2")

EVERYBODY = ("manager", "keys1", "keys2", "reception", "examiner", "approver", "senior1", "senior2")


def present(*names: str) -> list[str]:
    """The options for who is there."""
    return [part for name in names for part in ("--present", name)]


@pytest.fixture
def new(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An instance directory that is not there yet."""
    monkeypatch.setenv(INSTANCE_VARIABLE, str(tmp_path / "new"))
    monkeypatch.setenv(DSN_VARIABLE, database.dsn)
    monkeypatch.setenv("PREFCA_CA__LINK_LEAD_H", "0")
    return tmp_path / "new"


@pytest.fixture
def registered(new: Path, tmp_path: Path, prefca: Prefca) -> Path:
    """A test CA without key, whose operators are to found it; where their keys are."""
    assert not new.exists()
    assert prefca("init", "--without-key").status == 0
    assert prefca("operator", "first", write_staff(tmp_path / "staff")).status == 0
    return tmp_path / "staff"


def record(directory: Path, *numbers: int) -> str:
    """What the record of these operations says."""
    name = directory / f"ceremony-{'-'.join(map(str, numbers))}"
    written = (name.with_name(f"{name.name}.{ending}").read_text() for ending in ("md", "html"))
    return "".join(written)


def held(prefca: Prefca, staff: Path, *words: str | Path) -> Ended:
    """A ceremony without a terminal, run again until all have agreed, with everybody there."""
    while True:
        ended = prefca("ceremony", *words, "--place", "第一会議室", *present(*EVERYBODY))
        waiting = [one for one in prefca("operation", "list", "--open", "--json").json if one["state"] == "requested"]
        if ended.status != 4 or not waiting:
            return ended
        (number,) = (one["number"] for one in waiting)
        for name in who_agree(OperationKind(waiting[0]["kind"])):
            key = ("--key", staff / f"{name}.pem", "--passphrase-file", staff / "passphrase", "--yes", "--json")
            assert prefca("operation", "approve", str(number), *key).status == 0


def kinds(prefca: Prefca) -> list[str]:
    """The kinds of operations that were done, but for registrations."""
    done = [one for one in prefca("operation", "list", "--json").json if one["kind"] != "register-operator"]
    assert {one["state"] for one in done} <= {"done"}
    return [one["kind"] for one in done]


def test_a_ca_is_founded_by_one_command(registered: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Persons agree each at their place; the same command waits for them, runs it, and writes the record."""
    found = ("ceremony", "found", "--place", "第一会議室", "--record", tmp_path / "record", "--witness", "立会　花子")
    persons = who_agree(OperationKind.FOUND)
    missing = prefca(*found, *present(*persons[:-1]))
    assert (missing.status, "for found somebody is not here: 1 senior-operator" in missing.stderr) == (3, True)
    waits = prefca(*found, *present(*persons))
    assert (waits.status, "2 key-manager, 1 manager, 2 senior-operator have to agree" in waits.stderr) == (4, True)
    number = prefca("operation", "list", "--open", "--json").json[0]["number"]
    assert f"approve {number}" in waits.stderr
    for name in persons:
        key = ("--key", registered / f"{name}.pem", "--passphrase-file", registered / "passphrase", "--yes", "--json")
        assert prefca("operation", "approve", str(number), *key).status == 0
    assert prefca(*found, *present(*persons)).status == 0
    ca, said = prefca("status", "--json").json["ca_certificate"], record(tmp_path / "record", number)
    for word in (
        *("鍵セレモニー記録（リハーサル）", "第一会議室", "立会　花子", "署名欄", "秘密鍵管理者", "senior2 太郎"),
        *("鍵ペアの生成及び自己署名証明書の発行", ca["sha256"], ca["serial"]),
    ):
        assert said.count(word) >= 2, word
    assert prefca("operation", "verify", "--all").status == 0
    assert prefca(*found, *present(*persons)).status == 0
    assert record(tmp_path / "record", number) == said, "what was signed stays"
    assert (tmp_path / "record" / f"ceremony-{number}.2.html").exists()
    assert kinds(prefca) == ["found"]


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


def agreeing(staff: Path, *kinds: OperationKind) -> list[tuple[str, str]]:
    """What those who have to agree to these answer, one after the other."""
    answers = []
    for name in (name for kind in kinds for name in who_agree(kind)):
        answers += [("Who agrees", name), ("Key file", str(staff / f"{name}.pem")), ("passphrase", PASSPHRASE)]
    return answers


@pytest.mark.req("R-4-13-1", "R-4-13-2", "R-6-2-1-9")
def test_a_key_is_made_renewed_switched_and_destroyed_at_a_terminal(
    registered: Path, tmp_path: Path, prefca: Prefca
) -> None:
    """Four commands, each with those who have to agree; whoever mistypes tries again; a passphrase is not shown."""
    where = ["--place", "here", "--record", str(tmp_path / "record"), *present(*EVERYBODY)]
    mistaken = [("Who agrees", "nobody"), ("Who agrees", "keys1"), ("Key file", str(registered / "keys1.pem"))]
    answers = [*mistaken, ("passphrase", "wrong"), *agreeing(registered, OperationKind.FOUND)]
    said = answered(["ceremony", "found", *where], answers)
    assert "nobody of that name is here" in said
    assert "wrong passphrase" in said
    assert PASSPHRASE not in said
    prepare = agreeing(registered, OperationKind.PREPARE_KEY, OperationKind.DELEGATES_AHEAD)
    said += answered(["ceremony", "renew", *where], prepare)
    assert [key["state"] for key in prefca("key", "list", "--json").json["keys"]] == ["active", "planned"]
    said += answered(["ceremony", "switch", *where], agreeing(registered, OperationKind.SWITCH_KEY))
    said += answered(["ceremony", "destroy", "1", *where], agreeing(registered, OperationKind.DESTROY_KEY))
    keys = prefca("key", "list", "--json").json["keys"]
    assert [key["state"] for key in keys] == ["destroyed", "active"]
    assert PASSPHRASE not in said
    assert kinds(prefca) == ["found", "prepare-key", "delegates-ahead", "switch-key", "destroy-key"]
    assert prefca("status", "--check").status == 0
    assert prefca("operation", "verify", "--all").status == 0
    renewal = record(tmp_path / "record", *_numbers(prefca, "prepare-key", "delegates-ahead"))
    for word in (
        keys[1]["sha256"],
        "失効情報の公開",
        "鍵更新（新しい鍵ペアの生成、自己署名証明書及びリンク証明書の発行）",
    ):
        assert word in renewal


def _numbers(prefca: Prefca, *kinds: str) -> list[int]:
    return [one["number"] for one in prefca("operation", "list", "--json").json if one["kind"] in kinds]


def test_a_ceremony_that_was_interrupted_does_nothing_twice(registered: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Stopped after the key was prepared, it goes on with the delegates; the record has both."""
    where = ("--record", tmp_path / "record")
    assert held(prefca, registered, "found", *where).status == 0
    asked = prefca("key", "prepare", "--json").json["operation"]
    for name in who_agree(OperationKind.PREPARE_KEY):
        key = ("--key", registered / f"{name}.pem", "--passphrase-file", registered / "passphrase", "--yes", "--json")
        assert prefca("operation", "approve", str(asked), *key).status == 0
    assert prefca("operation", "run", str(asked)).status == 0
    assert held(prefca, registered, "renew", *where).status == 0
    assert kinds(prefca) == ["found", "prepare-key", "delegates-ahead"]
    assert "手順2" in record(tmp_path / "record", asked, asked + 1)
    early = prefca("ceremony", "destroy", "1", *where, "--place", "here", *present(*EVERYBODY))
    assert (early.status, "only one that was replaced" in early.complaint) == (3, True)


def test_a_founding_that_stopped_after_the_key_was_made_goes_on(
    registered: Path, tmp_path: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same operation, up to the first lists."""
    where = ("--record", tmp_path / "record")

    async def away(*_: object, **__: object) -> None:
        raise NotNowError("the database went away")

    with monkeypatch.context() as broken:
        broken.setattr(batch, "run", away)
        assert held(prefca, registered, "found", *where).status == 4
    assert held(prefca, registered, "found", *where).status == 0
    assert kinds(prefca) == ["found"]
    assert prefca("status", "--check").status == 0


def everything() -> dict[str, list[tuple[object, ...]]]:
    """Whatever the database has."""
    tables = select(
        "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname = 'public' ORDER BY relname"
    )
    return {str(name): sorted(select(f'SELECT t::text FROM "{name}" t')) for (name,) in tables}


@pytest.mark.parametrize("name", ["found", "renew", "switch"])
def test_a_rehearsal_prints_the_script_and_changes_nothing(
    name: str, registered: Path, tmp_path: Path, prefca: Prefca
) -> None:
    """What is going to be done, who has to agree, and a line for the manager who orders it; no record, no operation."""
    where = ("--record", tmp_path / "record")
    before = ["found", "renew", "switch"]
    for one in before[: before.index(name)]:
        assert held(prefca, registered, one, *where).status == 0
    rows, files = everything(), sorted(tmp_path.rglob("*"))
    told = prefca("ceremony", name, *where, "--place", "第一会議室", *present(*EVERYBODY), "--rehearse")
    assert (told.status, told.stderr) == (0, "")
    for word in ("鍵セレモニー手順書", "手順1", "未実施", "秘密鍵管理者2名", "第一会議室", "認証局管理責任者"):
        assert word in told.stdout
    assert everything() == rows
    assert sorted(tmp_path.rglob("*")) == files


@pytest.mark.parametrize(
    ("variable", "complaint"),
    [
        (("PREFCA_CRL__VALIDITY_H", "96"), "set `crl.period_h` and `crl.validity_h`"),
        (("PREFCA_CA__AUTHORITY_KEY_IDENTIFIER", "key"), "run `prefca policy check`"),
    ],
    ids=["profile", "policy"],
)
def test_a_configuration_that_does_not_fit_is_refused(
    variable: tuple[str, str],
    complaint: str,
    registered: Path,
    tmp_path: Path,
    prefca: Prefca,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before anybody is asked: the profile of lists, and what was agreed to for relying parties."""
    number = prefca("policy", "change", "最初の設定", "--json").json["operation"]
    where = ("--record", tmp_path / "record")
    assert held(prefca, registered, "walk", str(number), *where).status == 0
    monkeypatch.setenv(*variable)
    refused = prefca("ceremony", "found", *where, "--place", "here", *present(*EVERYBODY))
    assert (refused.status, complaint in refused.stderr) == (3, True)
    assert kinds(prefca) == ["change-policy"]


def test_a_production_ca_is_founded_with_shares_and_cards(
    new: Path, hsm: SoftHSM, tmp_path: Path, prefca: Prefca
) -> None:
    """The ceremony activates the key, too; whoever has a card agrees with it."""
    assert not new.exists()
    token = ("--signer", "pkcs11", "--module", hsm.module, "--token", hsm.label)
    init = ("init", "--hierarchy", "production", *token, "--activation-file", tmp_path / "run" / "pin")
    assert prefca(*init).status == 0
    staff, shares, pin = tmp_path / "staff", tmp_path / "shares", tmp_path / "pin"
    assert prefca("operator", "first", write_staff(staff)).status == 0
    where = ["--place", "here", "--record", str(tmp_path / "record"), *present(*EVERYBODY)]
    assert "its PIN was not split" in prefca("ceremony", "found", *where).stderr
    pin.write_text(hsm.pin)
    split = ("--needed", "2", "--shares", "3", "--new-pin", "--pin-file", pin, "--out", shares)
    assert prefca("activation", "split", *split).status == 0
    plain = person_key("senior1").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "senior1.key").write_bytes(plain)
    hsm.init_token("senior1", "9151")
    replace(hsm, label="senior1", pin="9151").import_key(tmp_path / "senior1.key", "signature", "01")
    answers = []
    for name in (name for kind in (OperationKind.ACTIVATE, OperationKind.FOUND) for name in who_agree(kind)):
        if name == "senior1":
            answers += [("Who agrees", name), ("or: card", "card"), ("Label of the card", "senior1")]
            answers += [("Label of the key", "signature"), ("PIN", "9151")]
        else:
            answers += [("Who agrees", name), ("Key file", str(staff / f"{name}.pem")), ("passphrase", PASSPHRASE)]
    given = ["--share", str(shares / "share-1.txt"), "--share", str(shares / "share-3.txt")]
    answered(["ceremony", "found", *where, *given, "--card-module", str(hsm.module)], answers)
    said = record(tmp_path / "record", *_numbers(prefca, "activate", "found"))
    for word in ("秘密鍵の活性化", prefca("status", "--json").json["ca_certificate"]["sha256"], "本番"):
        assert word in said
    assert prefca("operation", "verify", "--all").status == 0


@pytest.mark.req("R-4-7-1")
def test_the_bridge_is_certified_in_a_ceremony(registered: Path, tmp_path: Path, prefca: Prefca) -> None:
    """By those who receive, examine and approve, and two senior operators."""
    where = ("--record", tmp_path / "record")
    assert held(prefca, registered, "found", *where).status == 0
    desk = CrossDesk(prefca, tmp_path, Bridge())
    case = desk.up_to_approval()
    cross = ("cross", str(case), "--by", KEN, *where)
    assert "issue is not possible now" in held(prefca, registered, *cross).complaint
    desk.done("test", case, "--passed", note="接続テスト成績書 1", by=KEN)
    assert held(prefca, registered, *cross).status == 0
    assert desk.done("show", case)["state"] == "issued"
    assert desk.bridge.key_sha256 in record(tmp_path / "record", *_numbers(prefca, "cross-certificate"))


GOOD = Room(
    is_production=True,
    signer="pkcs11",
    pin_in_file=False,
    key_bits=2048,
    crl_hours=CRL_HOURS,
    is_policy_agreed=True,
    clock_difference=timedelta(seconds=3),
    present=(),
    unknown=(),
)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda room: replace(room, signer="software"), "in a token whose PIN is split"),
        (lambda room: replace(room, pin_in_file=True), "in a token whose PIN is split"),
        (lambda room: replace(room, key_bits=1024), "has 1024 bits"),
        (lambda room: replace(room, crl_hours=(24, 96)), "be valid for 72 h"),
        (lambda room: replace(room, is_policy_agreed=False), "prefca policy check"),
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
    step = Step(case.request.kind, case.request.parameters, case)
    operators = {one.name: one for one in await agreement.operators(ca.installation)}
    assert obstacles(replace(GOOD, present=[operators["senior2"]]), [step]) == []
    assert len(obstacles(replace(GOOD, present=[operators["senior1"]]), [step])) == 1


def test_the_record_has_a_word_for_every_kind_and_role() -> None:
    """So that no ceremony ends without its record."""
    assert set(KINDS) == set(OperationKind)
    assert set(ROLES) == set(Role)
