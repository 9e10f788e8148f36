"""Operations on a key of the CA: several persons agree, it is done once, and everybody can verify it."""

import hashlib
import json
import os
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from issuer.acts import PERFORMERS
from issuer.errors import RefusedError
from issuer.installation import account
from issuer.keys import KeyAlgorithm
from issuer.operations import agreement, consent
from issuer.operations.agreement import Means, Order
from issuer.operations.consent import lacking
from issuer.operations.operation_audit import findings
from issuer.operations.operators import ending, registration
from issuer.records.operation_store import Approval, Event, Happening
from issuer.rules.operation import FORMER, QUORUM, OperationKind, Role
from issuer.rules.person import Operator, spki
from issuer.rules.request import Place, Request, content, parse, words
from issuer.servers import delegate
from pkix.signing import SigningError, sign
from pkix.software import SoftwareSigner
from tests.support.ca import NOW, FoundedCA
from tests.support.command import Prefca, finished, select, start
from tests.support.operators import STAFF, Desk, agree, person_key, write_key, write_staff
from tests.support.softhsm import SoftHSM

CERTIFY = OperationKind.OPERATIONS_CERTIFICATE
ASKED = delegate.asked_for(KeyAlgorithm.P256)


@pytest.fixture
async def desk(ca: FoundedCA) -> Desk:
    """A CA with enough operators for everything."""
    desk = Desk(ca)
    await desk.register_first()
    return desk


async def verified(desk: Desk, number: int | None = None) -> list[str]:
    """What `prefca operation verify` finds."""
    installation = desk.ca.installation
    rows = await installation.operations.operations(installation.authority_id)
    return findings(rows, await agreement.operators(installation), number)


async def as_owner(desk: Desk, sql: str, *arguments: object) -> None:
    """Change what is final, as only the owner of the tables can."""
    async with desk.ca.database.connect("owner") as owner:
        await owner.execute("SET session_replication_role = replica")
        await owner.execute(sql, *arguments)


async def rewrite(desk: Desk, number: int, before: str, after: str) -> None:
    """Change the content of an operation, and its hash with it."""
    installation = desk.ca.installation
    (row,) = await installation.operations.operations(installation.authority_id, number)
    content = row.content.replace(before.encode(), after.encode())
    assert content != row.content
    sql = "UPDATE operation SET content = $2, sha256 = sha256($2) WHERE number = $1"
    await as_owner(desk, sql, number, content)


# ---------------------------------------------------------------- from a shell


@pytest.fixture
def staff(instance: Path, tmp_path: Path, prefca: Prefca) -> Path:
    """An instance whose test CA has operators; where their keys are."""
    directory = tmp_path / "staff"
    assert prefca("operator", "first", write_staff(directory)).status == 0
    return directory


def approve(prefca: Prefca, staff: Path, number: int, name: str, *options: str | Path) -> dict[str, Any]:
    """A person agrees with a key file."""
    key = ("--key", staff / f"{name}.pem", "--passphrase-file", staff / "passphrase")
    told: dict[str, Any] = prefca("operation", "approve", str(number), *key, "--yes", "--json", *options).json
    return told


@pytest.mark.req("R-5-2-2-1", "R-5-2-1-1", "R-5-2-3-1")
def test_two_senior_operators_certify_a_responder(prefca: Prefca, staff: Path) -> None:
    """The command asks for it, says who must sign, and does nothing; after two signatures it is done, once."""
    before = prefca("ocsp-delegate", "list", "--json").json
    asked = prefca("ocsp-delegate", "create", "--algorithm", "p256")
    number = prefca("operation", "list", "--json").json[-1]["number"]
    assert asked.status == 0
    assert f"operation {number}: operations-certificate" in asked.stdout
    assert 'algorithm = "p256"' in asked.stdout
    assert "nothing is done yet: 2 senior-operator have to agree" in asked.stdout
    assert prefca("ocsp-delegate", "list", "--json").json == before

    assert approve(prefca, staff, number, "senior1")["lacks"] == {"senior-operator": 1}
    refused = prefca("operation", "run", str(number))
    assert (refused.status, "still needs the agreement of 1 senior-operator" in refused.complaint) == (3, True)
    assert approve(prefca, staff, number, "senior2", "--as", "senior-operator")["lacks"] == {}
    shown = prefca("operation", "show", str(number)).stdout
    assert "agreed: senior1 (senior1 太郎), in any role" in shown
    assert "agreed: senior2 (senior2 太郎), senior-operator" in shown

    done = prefca("operation", "run", str(number), "--json").json
    newest, *rest = prefca("ocsp-delegate", "list", "--json").json
    assert (newest["serial"], newest["algorithm"], rest) == (done["serial"], "p256", before)
    again = prefca("operation", "run", str(number))
    assert (again.status, "was done already" in again.complaint) == (3, True)
    assert prefca("operation", "verify", str(number)).status == 0
    assert prefca("operation", "verify", "--all").stdout.startswith(f"verified {number}: ")


@pytest.mark.req("R-4-11-2-2")
def test_who_did_what_is_on_record(prefca: Prefca, staff: Path) -> None:
    """With the hash of what was signed, so that the sealed journal has it."""
    number = prefca("ocsp-delegate", "create", "--json").json["operation"]
    approve(prefca, staff, number, "senior1")
    approve(prefca, staff, number, "senior3")
    assert prefca("operation", "run", str(number)).status == 0
    sha256 = prefca("operation", "show", str(number), "--json").json["sha256"]
    records = select("SELECT kind, object FROM operation_record WHERE kind LIKE 'operation_%' ORDER BY record_id")
    assert records[-5:] == [
        ("operation_requested", f"{number} operations-certificate {sha256}"),
        ("operation_approved", f"{number} operations-certificate by senior1"),
        ("operation_approved", f"{number} operations-certificate by senior3"),
        ("operation_begun", f"{number} operations-certificate"),
        ("operation_done", f"{number} operations-certificate"),
    ]


def test_openssl_verifies_what_was_agreed_to(prefca: Prefca, staff: Path, tmp_path: Path) -> None:
    """Content, signatures and keys are files; whoever changes the content is found out."""
    number = prefca("ocsp-delegate", "create", "--json").json["operation"]
    approve(prefca, staff, number, "senior1")
    approve(prefca, staff, number, "senior2")
    directory = tmp_path / "out"
    assert prefca("operation", "export", str(number), directory).status == 0
    content = directory / "content.json"
    assert json.loads(content.read_text())["kind"] == "operations-certificate"

    def statuses() -> list[int]:
        command = ("openssl", "dgst", "-sha256", "-verify")
        return [
            subprocess.run(
                [*command, f"{name}.key.pem", "-signature", f"{name}.signature", "content.json"],
                cwd=directory,
                capture_output=True,
                check=False,
            ).returncode
            for name in ("senior1", "senior2")
        ]

    assert statuses() == [0, 0]
    content.write_text(content.read_text().replace("rsa2048", "p256"))
    assert statuses() == [1, 1]


def test_a_signature_may_be_made_elsewhere(prefca: Prefca, staff: Path, tmp_path: Path) -> None:
    """With any program that signs the exported content."""
    number = prefca("ocsp-delegate", "create", "--json").json["operation"]
    assert prefca("operation", "export", str(number), tmp_path / "out").status == 0
    sign = ("openssl", "dgst", "-sha256", "-passin", f"file:{staff / 'passphrase'}", "-sign", staff / "senior1.pem")
    subprocess.run([*sign, "-out", tmp_path / "signature", tmp_path / "out" / "content.json"], check=True)
    brought = ("--signature", tmp_path / "signature", "--by")
    refused = prefca("operation", "approve", str(number), *brought, "senior2", "--yes", "--json")
    assert (refused.status, "is not one of senior2" in refused.complaint) == (3, True)
    assert prefca("operation", "approve", str(number), *brought, "senior1", "--yes", "--json").status == 0


@pytest.mark.req("R-5-2-3-1")
def test_keys_are_in_files_or_on_cards(prefca: Prefca, staff: Path, tmp_path: Path, hsm: SoftHSM) -> None:
    """PKCS#12 and PKCS#11 (IC cards) do as well."""
    number = prefca("ocsp-delegate", "create", "--json").json["operation"]
    p12 = ("--key", staff / "senior1.p12", "--passphrase-file", staff / "passphrase")
    assert prefca("operation", "approve", str(number), *p12, "--yes", "--json").json["by"] == "senior1"

    plain = person_key("senior2").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key").write_bytes(plain)
    hsm.import_key(tmp_path / "key", "signature", "01")
    (tmp_path / "pin").write_text(hsm.pin)
    card = ("--card", hsm.label, "--card-key", "signature", "--module", hsm.module, "--pin-file", tmp_path / "pin")
    agreed = prefca("operation", "approve", str(number), *card, "--yes", "--json").json
    assert (agreed["by"], agreed["lacks"]) == ("senior2", {})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param(["--key", "stranger.pem"], "no operator of this CA is registered with this key", id="unknown key"),
        pytest.param(["--key", "senior1.pem", "--as", "manager"], "is not registered as manager", id="not that role"),
        pytest.param(["--key", "manager.pem"], "needs 2 senior-operator; manager is manager", id="role not needed"),
        pytest.param(["--key", "auditor.pem"], "is the auditor, who takes no part", id="auditor"),
    ],
)
def test_who_may_not_agree_is_told_why(
    prefca: Prefca, staff: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], complaint: str
) -> None:
    """In one line."""
    write_key(staff, "stranger")
    monkeypatch.chdir(staff)
    number = prefca("ocsp-delegate", "create", "--json").json["operation"]
    refused = prefca(
        "operation", "approve", str(number), *options, "--passphrase-file", "passphrase", "--yes", "--json"
    )
    assert refused.status == 3
    assert complaint in refused.complaint


def test_without_operators_a_test_ca_acts_at_once(instance: Path, prefca: Prefca) -> None:
    """And it is on record as such, for whoever verifies later."""
    assert "serial" in prefca("ocsp-delegate", "create", "--json").json
    row = prefca("operation", "list", "--json").json[-1]
    assert (row["kind"], row["state"], row["agreed"]) == ("operations-certificate", "done", "at once")
    assert prefca("operation", "verify", "--all").status == 0


@pytest.mark.parametrize(
    "command",
    [
        ("policy", "change", "\udcff"),
        ("operation", "withdraw", "1", "--reason", "\udcff"),
        ("operation", "withdraw", "1", "--reason", " "),
    ],
)
def test_what_is_no_text_is_told_so(prefca: Prefca, staff: Path, command: tuple[str, ...]) -> None:
    """As from a terminal of another encoding."""
    ended = prefca(*command)
    assert (ended.status, "text" in ended.complaint) == (3, True)


def test_nobody_signs_without_saying_so(prefca: Prefca, staff: Path) -> None:
    """Without a terminal to ask on, the person says --yes."""
    number = prefca("ocsp-delegate", "create", "--json").json["operation"]
    key = ("--key", staff / "senior1.pem", "--passphrase-file", staff / "passphrase")
    refused = prefca("operation", "approve", str(number), *key, "--json")
    assert (refused.status, "add --yes" in refused.complaint) == (3, True)


# ---------------------------------------------------------------- what is refused


@pytest.mark.req("R-5-2-2-1")
@pytest.mark.parametrize("role", [None, Role.KEY_MANAGER, Role.SENIOR_OPERATOR])
async def test_each_person_counts_once(ca: FoundedCA, role: Role | None) -> None:
    """Also one with two of the roles that are needed, whichever is said the second time."""
    desk = Desk(ca)
    await desk.register_first({**STAFF, "both": ["key-manager", "senior-operator"]})
    number = await desk.request(OperationKind.COMPROMISE, {})
    await desk.approve(number, "both", Role.SENIOR_OPERATOR)
    with pytest.raises(RefusedError, match=r"both has agreed .* already; each person counts once"):
        await desk.approve(number, "both", None if role is None else Role.SENIOR_OPERATOR)


@pytest.mark.req("R-5-2-2-1", "R-6-2-1-2")
async def test_who_has_two_roles_takes_the_place_that_is_free(ca: FoundedCA) -> None:
    """Whoever agreed first; but nobody takes two places."""
    desk = Desk(ca)
    await desk.register_first({**STAFF, "both": ["key-manager", "senior-operator"]})
    number = await desk.request(OperationKind.COMPROMISE, {})
    for name in ("both", "senior1"):
        await desk.approve(number, name)
    case = await desk.approve(number, "manager")
    assert lacking(case, desk.clock()) == {}


@pytest.mark.req("R-5-2-2-1")
async def test_what_was_changed_after_it_was_signed_is_not_done(desk: Desk) -> None:
    """Nor is it with a hash that fits."""
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    await rewrite(desk, number, "p256", "rsa2048")
    with pytest.raises(RefusedError, match="the signature of senior1 is not one over its content"):
        await desk.run(number)
    assert any("the signature of senior1" in finding for finding in await verified(desk))


async def test_content_that_is_no_request_is_refused(desk: Desk) -> None:
    """Such as the same in another form: only one form is signed."""
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    await rewrite(desk, number, '":', '": ')
    with pytest.raises(RefusedError, match="not in the form in which requests are written"):
        await desk.run(number)


@pytest.mark.parametrize("step", ["approve", "run"])
async def test_what_was_asked_for_too_long_ago_is_not_done(desk: Desk, step: str) -> None:
    """Who wants it still asks anew."""
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    desk.clock.now += timedelta(hours=72, seconds=1)
    with pytest.raises(RefusedError, match=r"expired at .*; ask for it anew"):
        await (desk.run(number) if step == "run" else desk.approve(number, "senior3"))


async def test_nothing_is_done_twice(desk: Desk) -> None:
    """However many agree."""
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2", "senior3")
    await desk.run(number)
    count = await desk.ca.query("SELECT count(*) FROM certificate")
    with pytest.raises(RefusedError, match="was done already"):
        await desk.run(number)
    assert await desk.ca.query("SELECT count(*) FROM certificate") == count


async def test_what_is_withdrawn_is_not_done(desk: Desk) -> None:
    """And nobody agrees to it any more."""
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    await agreement.withdraw(desk.ca.installation, number, "not needed", desk.clock())
    with pytest.raises(RefusedError, match="was withdrawn"):
        await desk.run(number)
    with pytest.raises(RefusedError, match="was withdrawn"):
        await desk.approve(number, "senior3")


@pytest.mark.req("R-5-2-2-1")
async def test_who_is_no_operator_any_more_does_not_count(desk: Desk) -> None:
    """Not even for what they agreed to before."""
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    present = await agreement.operators(desk.ca.installation)
    desk.clock.now += timedelta(seconds=1)
    end = await desk.agreed(OperationKind.END_OPERATOR, ending("senior2", present, give_up=False), "senior1", "senior3")
    await desk.run(end)
    with pytest.raises(RefusedError, match=r"needs the agreement of 1 senior-operator \(not counted, .*: senior2\)"):
        await desk.run(number)
    with pytest.raises(RefusedError, match="senior2 is no operator any more"):
        await desk.approve(await desk.request(CERTIFY, ASKED), "senior2")
    assert await verified(desk) == []


@pytest.mark.parametrize(
    ("content", "key"),
    [(b"something else", None), (None, "senior3")],
    ids=["of other content", "with another person's key"],
)
async def test_a_signature_is_the_persons_over_the_content(desk: Desk, content: bytes | None, key: str | None) -> None:
    """Or it is refused."""
    number = await desk.request(CERTIFY, ASKED)
    with pytest.raises(RefusedError, match="the signature is not one of senior2 over the content"):
        await desk.approve(number, "senior2", content=content, key=key)


async def test_an_operation_of_another_ca_is_not_done(desk: Desk) -> None:
    """Though its row were copied, with signatures of persons who are operators of both."""
    number = await desk.request(CERTIFY, ASKED)
    await rewrite(desk, number, "Tokyo-to", "Toyama-ken")
    with pytest.raises(RefusedError, match="is of another CA"):
        await desk.approve(number, "senior1")


async def test_the_account_of_the_auditor_operates_nothing(desk: Desk) -> None:
    """It reads and verifies."""
    journal = desk.ca.settings.journal.model_copy(update={"auditor": account()})
    settings = desk.ca.settings.model_copy(update={"journal": journal})
    installation = replace(desk.ca.installation, settings=settings)
    with pytest.raises(RefusedError, match="the internal auditor, who takes no part"):
        await agreement.request(installation, Order(CERTIFY, ASKED), desk.means)
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    with pytest.raises(RefusedError, match="the internal auditor, who takes no part"):
        await agreement.run(installation, number, desk.means)


# ---------------------------------------------------------------- what comes of it


async def test_a_key_that_cannot_be_used_now_may_be_tried_again(desk: Desk) -> None:
    """Nobody has to sign again; the failure is on record."""
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    instance = desk.ca.settings.instance
    (key,) = (instance / "keys" / "ca").glob("*.pem")
    key.rename(key.with_suffix(".away"))
    try:
        with pytest.raises(SigningError):
            await desk.run(number)
    finally:
        key.with_suffix(".away").rename(key)
    case = await agreement.find(desk.ca.installation, number)
    assert [event.event for event in case.row.events] == ["begun", "failed"]
    await desk.run(number)
    assert await verified(desk) == []


class KilledError(BaseException):
    """The process is gone."""


def killed(kind: OperationKind) -> Mapping[OperationKind, Callable[..., Awaitable[Any]]]:
    """Performers of which one is killed before it has done anything."""

    async def performer(_: object) -> Mapping[str, object]:
        raise KilledError

    return {**PERFORMERS, kind: performer}


async def test_what_was_begun_and_certainly_not_done_may_be_run_again(desk: Desk) -> None:
    """Its outcome would have been recorded with it."""
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    with pytest.raises(KilledError):
        await agreement.run(desk.ca.installation, number, Means(killed(CERTIFY), desk.clock, os.urandom))
    case = await agreement.find(desk.ca.installation, number)
    assert case.state(desk.clock()) == "begun"
    await desk.run(number)


@pytest.mark.req("R-5-2-2-1")
async def test_what_was_begun_expires_like_everything(desk: Desk) -> None:
    """Whoever stops the process cannot keep the agreement for a later day."""
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    with pytest.raises(KilledError):
        await agreement.run(desk.ca.installation, number, Means(killed(CERTIFY), desk.clock, os.urandom))
    desk.clock.now += timedelta(hours=72, seconds=1)
    with pytest.raises(RefusedError, match=r"was begun, and expired at .*; withdraw it, and ask for it anew"):
        await desk.run(number)
    await agreement.withdraw(desk.ca.installation, number, "too late", desk.clock())


async def test_what_failed_is_not_done_with_another_key(desk: Desk) -> None:
    """That it was begun before is no excuse."""
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    with pytest.raises(KilledError):
        await agreement.run(desk.ca.installation, number, Means(killed(CERTIFY), desk.clock, os.urandom))
    await as_owner(desk, "UPDATE ca_generation SET key_reference = 'another'")
    with pytest.raises(RefusedError, match="the CA has another key than when"):
        await desk.run(number)


async def test_of_what_may_have_been_done_a_person_looks_first(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be run again is withdrawn, and asked for anew."""
    monkeypatch.setattr(consent, "REPEATABLE", frozenset())
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    with pytest.raises(KilledError):
        await agreement.run(desk.ca.installation, number, Means(killed(CERTIFY), desk.clock, os.urandom))
    with pytest.raises(RefusedError, match="its end is not known"):
        await desk.run(number)
    await agreement.withdraw(desk.ca.installation, number, "looked: not done", desk.clock())


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("DELETE FROM operation_approval", "still needs the agreement of"),
        (
            "DELETE FROM operation_event; DELETE FROM operation_approval; DELETE FROM operation WHERE number = 1",
            "operation 1 is missing",
        ),
        ("UPDATE operator SET roles = '{approver,manager}' WHERE name = 'approver'", "operator approver is not as"),
        ("UPDATE operator SET name = 'someone' WHERE name = 'auditor'", "operator someone is not as"),
        ("DELETE FROM operation_event WHERE number = 1", "operator manager was registered by no operation"),
    ],
)
async def test_rows_that_were_changed_are_found(desk: Desk, change: str, finding: str) -> None:
    """By whoever verifies them all."""
    await desk.run(await desk.agreed(CERTIFY, ASKED, "senior1", "senior2"))
    assert await verified(desk) == []
    await as_owner(desk, change)
    assert any(finding in one for one in await verified(desk))


async def written(desk: Desk, order: Order, change: Callable[[Request], Request]) -> tuple[int, bytes]:
    """The next operation, as whoever has the issuer's database account may write it: its number and content."""
    store, authority_id = desk.ca.installation.operations, desk.ca.installation.authority_id
    number = await desk.request(order.kind, order.parameters)
    (row,) = await store.operations(authority_id, number)
    octets = content(change(parse(row.content)))
    await as_owner(desk, "DELETE FROM operation WHERE number = $1", number)
    await store.add(authority_id, replace(row, content=octets, sha256=hashlib.sha256(octets).digest()))
    return number, octets


async def happened(desk: Desk, number: int, *events: Event) -> None:
    """Write that this happened."""
    store, authority_id = desk.ca.installation.operations, desk.ca.installation.authority_id
    for event in events:
        await store.add_event(authority_id, number, Happening(event, desk.clock(), "somebody", {}))


async def agreed_by(desk: Desk, number: int, octets: bytes, *names: str) -> None:
    """Write that these persons agreed, with true signatures."""
    present = {one.name: one for one in await agreement.operators(desk.ca.installation)}
    for name in names:
        signature = sign(SoftwareSigner(person_key(name)), octets)
        new = Approval(present[name].operator_id, None, signature, desk.clock(), "somebody")
        await desk.ca.installation.operations.add_approval(desk.ca.installation.authority_id, number, new)


@pytest.mark.req("R-5-2-2-1", "R-5-2-1-1")
async def test_a_request_that_needs_fewer_than_the_rule_is_found(desk: Desk) -> None:
    """One person who writes rows needs the agreement of one person only; whoever verifies tells."""
    number, octets = await written(
        desk, Order(CERTIFY, ASKED), lambda asked: replace(asked, needs={Role.SENIOR_OPERATOR: 1})
    )
    await agreed_by(desk, number, octets, "senior1")
    await happened(desk, number, "begun", "done")
    (finding,) = await verified(desk)
    assert "asked for 1 senior-operator, which is not who has to agree to it" in finding


@pytest.mark.req("R-5-2-2-1")
async def test_who_agrees_afterwards_did_not_agree_before(desk: Desk) -> None:
    """What was begun before is found."""
    number, octets = await written(desk, Order(CERTIFY, ASKED), lambda asked: asked)
    await agreed_by(desk, number, octets, "senior1")
    await happened(desk, number, "begun", "done")
    desk.clock.now += timedelta(hours=1)
    await agreed_by(desk, number, octets, "senior2")
    (finding,) = await verified(desk)
    assert "still needs the agreement of 1 senior-operator" in finding


@pytest.mark.req("R-5-2-2-3")
async def test_nobody_joins_the_first_operators_later(desk: Desk) -> None:
    """Though the moment is said to be theirs."""
    began = desk.clock.now
    await desk.run(await desk.agreed(CERTIFY, ASKED, "senior1", "senior2"))
    late = registration("late", "late", ["senior-operator"], person_key("late").public_key())
    number, _ = await written(
        desk,
        Order(OperationKind.REGISTER_OPERATOR, late),
        lambda asked: replace(asked, needs={}, requested_at=began),
    )
    await happened(desk, number, "begun", "done")
    key = person_key("late").public_key()
    new = Operator(0, "late", "late", frozenset({Role.SENIOR_OPERATOR}), spki(key), began, number)
    await desk.ca.installation.operations.add_operator(desk.ca.installation.authority_id, new)
    (finding,) = await verified(desk)
    assert "was done without anybody's agreement" in finding


@pytest.mark.parametrize(
    "change",
    [
        lambda asked: replace(asked, requested_by="me\n  public_key = another"),
        lambda asked: replace(asked, requested_by="me\x1b[2A\x1b[2K  public_key = another"),
        lambda asked: replace(asked, parameters={**asked.parameters, "a\x1b[1A": "b"}),
        lambda asked: replace(asked, requested_by="\u202eme"),
    ],
    ids=["line", "terminal", "parameter", "direction"],
)
async def test_nothing_that_is_signed_looks_like_something_else(
    desk: Desk, change: Callable[[Request], Request]
) -> None:
    """Whoever wrote it: each line says one thing, and no sign commands the terminal."""
    asked = (await agreement.find(desk.ca.installation, await desk.request(CERTIFY, ASKED))).request
    for line in words(change(asked)):
        assert line.isprintable()


async def test_keys_are_compared_by_their_hashes(desk: Desk) -> None:
    """As `prefca operator list` and `openssl x509 -fingerprint` show them: who signs sees whose key it is."""
    key = person_key("another").public_key()
    parameters = registration("another", "another", ["manager"], key)
    asked = await agreement.find(desk.ca.installation, await desk.request(OperationKind.REGISTER_OPERATOR, parameters))
    assert f"    SHA-256 of this key: {hashlib.sha256(spki(key)).hexdigest()}" in words(asked.request)
    generation = await desk.ca.installation.store.active_generation(desk.ca.installation.authority_id)
    assert generation is not None
    certificate = x509.load_der_x509_certificate(generation.certificate)
    recipients = certificate.public_bytes(Encoding.PEM).decode()
    (line,) = words(replace(asked.request, parameters={"recipients": recipients}))[5:6]
    assert line.endswith(f"{certificate.fingerprint(hashes.SHA256()).hex()}")
    assert certificate.subject.rfc4514_string() in line


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"number":', '"number":1.0,"x":'),
        ('"senior-operator":2', '"senior-operator":2.0'),
        ('"p256"', '"\\ud800"'),
        ('"algorithm":', '"    SHA-256 of this key: 00":'),
        ('"p256"', '["p256"]'),
    ],
    ids=["number", "count", "half a character", "name", "list"],
)
def test_what_is_no_request_is_refused(before: str, after: str) -> None:
    """In one line, whatever JSON it is."""
    moment = NOW
    asked = Request(
        *(Place("Tokyo-to", "test", "OU=x", None, None), 1, CERTIFY, {Role.SENIOR_OPERATOR: 2}, ASKED),
        *("00", moment, "me", moment, None),
    )
    octets = content(asked)
    assert parse(octets) == asked
    with pytest.raises(RefusedError, match="it was changed"):
        parse(octets.replace(before.encode(), after.encode()))


async def test_that_nobody_had_to_agree_is_no_excuse(desk: Desk) -> None:
    """Once there are operators, nothing is done at once."""
    number = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    await desk.run(number)
    await as_owner(desk, "DELETE FROM operation_approval")
    await rewrite(desk, number, '"needs":{"senior-operator":2}', '"needs":{}')
    assert any("was done without anybody's agreement" in one for one in await verified(desk))


@pytest.mark.req("R-5-2-2-2")
async def test_what_was_done_under_a_former_rule_is_verified_by_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the manager had to agree to it; what waited since is asked for anew."""
    kind = OperationKind.SWITCH_KEY

    async def performer(_: object) -> Mapping[str, object]:
        return {}

    with monkeypatch.context() as before:
        for module in (agreement, consent):
            before.setattr(module, "QUORUM", {**QUORUM, kind: FORMER[kind][0]})
        number = await desk.agreed(kind, {}, "keys1", "keys2", "senior1", "senior2")
        await agreement.run(desk.ca.installation, number, Means({kind: performer}, desk.clock, os.urandom))
        waits = await desk.request(kind, {})
    assert await verified(desk) == []
    with pytest.raises(RefusedError, match="others have to agree than when"):
        await desk.approve(waits, "keys1")


@pytest.mark.req("R-5-2-2-1")
async def test_not_even_the_issuer_changes_what_was_agreed_to(desk: Desk) -> None:
    """And no server sees it."""
    await desk.run(await desk.agreed(CERTIFY, ASKED, "senior1", "senior2"))
    for table in ("operation", "operator", "operation_approval", "operation_event"):
        async with desk.ca.database.connect("owner") as owner:
            with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="its rows are final"):
                await owner.execute(f"DELETE FROM {table}")


@pytest.mark.req("R-5-2-1-1")
def test_a_servers_certificate_is_revoked_by_two_persons(prefca: Prefca, staff: Path) -> None:
    """A resident's is revoked at once, as ever; who is asked about both does both."""
    (delegate,) = prefca("ocsp-delegate", "list", "--json").json
    asked = prefca("revoke", delegate["serial"], "--reason", "superseded", "--json").json
    assert asked[0]["result"] == "asked"
    assert prefca("ocsp-delegate", "list", "--json").json[0]["revoked_at"] is None
    agree(prefca, staff, asked[0]["operation"], "senior1", "senior2")
    assert prefca("ocsp-delegate", "list", "--json").json[0]["revoked_at"] is not None
    again = prefca("revoke", delegate["serial"], "--reason", "superseded", "--json").json[0]["operation"]
    for name in ("senior1", "senior2"):
        approve(prefca, staff, again, name)
    assert "stays so; a revocation is final" in prefca("operation", "run", str(again)).complaint


# ---------------------------------------------------------------- persons


@pytest.mark.req("R-5-2-2-1")
async def test_nothing_is_done_at_once_where_several_have_to_agree(desk: Desk) -> None:
    """Not even if whoever asks saw no operators a moment before."""
    with pytest.raises(RefusedError, match="several persons have to agree"):
        await agreement.perform_at_once(desk.ca.installation, Order(CERTIFY, ASKED), desk.means)


@pytest.mark.req("R-5-2-2-3")
def test_only_one_can_be_the_first(instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Of two who register the first operators at the same time."""
    files = [write_staff(tmp_path / name, {f"{name}{i}": ["senior-operator"] for i in (1, 2)}) for name in ("a", "b")]
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda file: finished(start("operator", "first", file, instance=instance)), files))
    assert sorted(one.status for one in ended) == [0, 3]
    assert len(prefca("operator", "list", "--json").json["operators"]) == 2
    assert prefca("operation", "verify", "--all").status == 0


@pytest.mark.req("R-5-2-2-3")
async def test_further_operators_are_registered_by_the_first(desk: Desk) -> None:
    """And can agree from then on."""
    with pytest.raises(RefusedError, match="this CA has operators"):
        await desk.register_first({"late": ["senior-operator"]})
    parameters = registration("senior4", "上級　四郎", ["senior-operator"], person_key("senior4").public_key())
    await desk.run(await desk.agreed(OperationKind.REGISTER_OPERATOR, parameters, "senior1", "senior2"))
    await desk.run(await desk.agreed(CERTIFY, ASKED, "senior3", "senior4"))
    assert await verified(desk) == []


@pytest.mark.parametrize(
    ("name", "roles", "key", "complaint"),
    [
        ("another", ["manager"], "senior1", "the key of another is that of senior1"),
        ("senior1", ["manager"], "another", "senior1 is registered; end that first"),
        ("another", ["auditor", "manager"], "another", "the auditor holds no other role"),
        ("another", [], "another", "a person has one role at least"),
        ("another", ["king"], "another", "the roles are manager"),
        ("Another One", ["manager"], "another", "is no name of an operator"),
    ],
)
async def test_who_cannot_be_registered(desk: Desk, name: str, roles: list[str], key: str, complaint: str) -> None:
    """Whoever agreed to it."""
    parameters = registration(name, "name", roles, person_key(key).public_key())
    number = await desk.agreed(OperationKind.REGISTER_OPERATOR, parameters, "senior1", "senior2")
    with pytest.raises(RefusedError, match=complaint):
        await desk.run(number)


async def test_a_full_name_is_what_people_see(desk: Desk) -> None:
    """Nothing in it is hidden or moves the rest."""
    parameters = registration("another", "山田\u202e花子", ["manager"], person_key("another").public_key())
    number = await desk.agreed(OperationKind.REGISTER_OPERATOR, parameters, "senior1", "senior2")
    with pytest.raises(RefusedError, match="characters that nobody sees"):
        await desk.run(number)


def test_a_name_with_brackets_is_shown(instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """As it is."""
    file = write_staff(tmp_path / "staff")
    file.write_text(file.read_text().replace("senior2 太郎", "[/x] [red]太郎"))
    assert prefca("operator", "first", file).status == 0
    assert "[/x] [red]太郎" in prefca("operator", "list").stdout


async def test_a_person_gets_other_roles_by_an_end_and_a_new_registration(desk: Desk) -> None:
    """With the same key; what was agreed to before stays agreed to."""
    before = await desk.agreed(CERTIFY, ASKED, "senior1", "senior2")
    await desk.run(before)
    desk.clock.now += timedelta(seconds=1)
    present = await agreement.operators(desk.ca.installation)
    end = ending("senior2", present, give_up=False)
    await desk.run(await desk.agreed(OperationKind.END_OPERATOR, end, "senior1", "senior3"))
    parameters = registration("senior2", "x", ["manager"], person_key("senior2").public_key())
    await desk.run(await desk.agreed(OperationKind.REGISTER_OPERATOR, parameters, "senior1", "senior3"))
    with pytest.raises(RefusedError, match="senior2 is manager"):
        await desk.approve(await desk.request(CERTIFY, ASKED), "senior2")
    assert await verified(desk) == []


async def test_no_ca_is_left_without_a_quorum(ca: FoundedCA) -> None:
    """Senior operators stay two at least; of other kinds of operations people say that they give them up."""
    desk = Desk(ca)
    await desk.register_first({"a": ["senior-operator"], "b": ["senior-operator"], "c": ["manager"]})
    present = await agreement.operators(ca.installation)
    with pytest.raises(RefusedError, match="nobody could ever be registered again"):
        ending("a", present, give_up=True)
    with pytest.raises(RefusedError, match=r"cannot agree to compromise \(lacks 1 manager\)"):
        ending("c", present, give_up=False)
    number = await desk.agreed(OperationKind.END_OPERATOR, ending("c", present, give_up=True), "a", "b")
    await desk.run(number)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "write a table [[operator]]"),
        ('[[operator]]\nname = "a"', "each [[operator]] has full_name, key, name, roles"),
        ("operator = 1", "each [[operator]] has"),
        ("broken", "write a table [[operator]]"),
    ],
)
def test_a_file_of_operators_that_is_wrong(
    shared_instance: Path, tmp_path: Path, prefca: Prefca, text: str, complaint: str
) -> None:
    """Is told what it lacks."""
    file = tmp_path / "staff.toml"
    file.write_text(text)
    ended = prefca("operator", "first", file)
    assert ended.status == 3
    assert complaint in ended.complaint


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 1024)],
    ids=["P-384", "RSA-1024"],
)
def test_keys_of_operators_are_rsa_2048_or_p256(
    shared_instance: Path, tmp_path: Path, prefca: Prefca, key: Any
) -> None:
    """Others are refused, with the file."""
    write_staff(tmp_path / "staff")
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "staff" / "senior2.pub").write_bytes(pem)
    ended = prefca("operator", "first", tmp_path / "staff" / "staff.toml")
    assert ended.status == 3
    assert "senior2.pub: operators sign with RSA of 2048 bits or more, or with P-256" in ended.complaint
