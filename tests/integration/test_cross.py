"""`prefca cross`: from the bridge's request to the pair in the publication, step by step, and what is refused."""

import io
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pypdf
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from issuer.cross import cross_certification, cross_operation
from issuer.cross.cross_register import By
from issuer.errors import RefusedError
from issuer.records.cross_store import Left
from issuer.rules.cross_case import Application, Done, State, Step
from issuer.rules.operation import OperationKind, Role
from pkix.validity import JST, Validity, counting_first_day
from tests.support import operators
from tests.support.bridge import BRIDGE_NAME, BRIDGE_POLICY, PARTNER, Bridge, Wish
from tests.support.ca import NOW, FoundedCA, rsa_key
from tests.support.command import Prefca, select
from tests.support.cross import HANA, JIRO, KEN, MASA, Desk

pytestmark = pytest.mark.req("R-1-1-3", "R-2-1-2-2")

REFUSED = 3


@pytest.fixture
def desk(instance: Path, prefca: Prefca, tmp_path: Path) -> Desk:
    """A CA that is set up, and a bridge."""
    return Desk(prefca, tmp_path, Bridge())


@pytest.mark.req("R-4-6", "R-4-7-1", "R-4-8-1", "R-6-1-1-4", "R-7-1-2")
def test_a_case_goes_from_the_request_to_both_receipts(desk: Desk) -> None:
    """Each step says what comes next, and stays on record with who did it."""
    case = desk.up_to_completion()
    shown = desk.done("show", case)
    assert [(step["step"], step["by"], step["role"]) for step in shown["steps"]] == [
        ("receive", HANA, "reception"),
        ("examine", JIRO, "examiner"),
        ("approve", MASA, "approver"),
        ("test", KEN, "senior-operator"),
        ("issue", KEN, "senior-operator"),
        ("accept", KEN, "senior-operator"),
        ("give-receipt", HANA, "reception"),
        ("take-receipt", HANA, "reception"),
    ]
    assert shown["steps"][1]["key_sha256"] == desk.bridge.key_sha256
    ours = x509.load_pem_x509_certificate(desk.export("ours", case))
    assert ours.subject == BRIDGE_NAME
    assert ours.public_key() == desk.bridge.key.public_key()
    assert desk.export("their-receipt", case) == b"%PDF-"
    receipt = desk.export("receipt", case)
    assert b"/FontFile2" in receipt  # a reader without Japanese fonts shows it
    text = pypdf.PdfReader(io.BytesIO(receipt)).pages[0].extract_text()
    theirs = x509.load_pem_x509_certificate(desk.export("theirs", case))
    assert "相互認証証明書受領書" in text
    assert f"{theirs.serial_number:X}"[:20] in text.replace("\n", "")


REFUSALS: dict[str, tuple[str, dict[str, Any], str]] = {
    "examined by who received": ("examine", {"evidence": "電話", "by": HANA}, "another person has to do it"),
    "another key told": ("examine", {"evidence": "電話", "by": JIRO, "key_sha256": "0" * 64}, "do not trust it"),
    "no fingerprint": ("examine", {"evidence": "電話", "by": JIRO, "key_sha256": "abc"}, "64 hexadecimal digits"),
    "nothing checked": ("examine", {"evidence": " ", "by": JIRO}, "write down what was found"),
    "approved before examined": ("approve", {"note": "可", "by": MASA}, "possible: examine, reject"),
    "issued before approved": ("issue", {"by": KEN}, "issue is not possible now"),
    "receipt before issued": ("give-receipt", {"by": HANA}, "give-receipt is not possible now"),
}


@pytest.mark.req("R-4-7-1", "R-5-2-1-1", "R-6-1-1-5")
@pytest.mark.parametrize("which", REFUSALS)
def test_what_is_out_of_order_or_not_genuine_is_refused(desk: Desk, which: str) -> None:
    """In one line, with status 3; the case stays as it is."""
    verb, options, message = REFUSALS[which]
    case = desk.receive()
    if verb == "examine":
        options = {"key_sha256": desk.bridge.key_sha256} | options
    ended = desk.cross(verb, case, **options)
    assert (ended.status, message in ended.complaint) == (REFUSED, True), ended
    assert desk.done("show", case)["state"] == "received"


@pytest.mark.req("R-4-8-1")
def test_nothing_is_accepted_before_ours_is_issued_nor_what_is_wrong(desk: Desk) -> None:
    """Another signer, no certificate: refused, and the case waits for the right one."""
    case = desk.receive()
    theirs = desk.file("theirs.pem", desk.their_certificate())
    assert "accept is not possible now" in desk.cross("accept", case, theirs, by=KEN).complaint
    case = desk.up_to_issue()
    own = x509.load_pem_x509_certificate(theirs.read_bytes())
    now = own.not_valid_before_utc
    wrong = Bridge(rsa_key("somebody")).certify(Wish(own.subject, own.public_key(), now, now + timedelta(days=99)))
    ended = desk.cross("accept", case, desk.file("wrong.pem", wrong.public_bytes(Encoding.PEM)), by=KEN)
    assert "not by the key that we certified" in ended.complaint
    assert "this is no certificate" in desk.cross("accept", case, desk.file("no", b"no"), by=KEN).complaint
    assert desk.done("accept", case, theirs, by=KEN)["state"] == "accepted"


@pytest.mark.req("R-4-7-1")
def test_nothing_is_issued_before_the_connection_test_is_passed(desk: Desk) -> None:
    """One that failed is on record, and may be repeated."""
    case = desk.up_to_approval()
    assert desk.done("test", case, "--failed", note="応答なし", by=KEN)["state"] == "approved"
    assert desk.cross("issue", case, by=KEN).status == REFUSED
    desk.done("test", case, "--passed", note="成績書 2", by=KEN)
    assert "another person has to do it" in desk.cross("issue", case, by=MASA).complaint
    assert desk.done("issue", case, by=KEN)["case"] == case
    assert desk.cross("issue", case, by=KEN).status == REFUSED, "it is issued once"


@pytest.mark.req("R-1-3-2-2", "R-7-1-2")
def test_five_years_count_from_the_day_it_becomes_valid(desk: Desk) -> None:
    """A day to come in Japan, from its first second; one that has passed is refused."""
    case = desk.up_to_approval()
    desk.done("test", case, "--passed", note="成績書", by=KEN)
    today = datetime.now(JST).date()
    ended = desk.cross("issue", case, valid_from=today - timedelta(days=1), by=KEN)
    assert "which has passed" in ended.complaint
    first = today + timedelta(days=30)
    desk.done("issue", case, valid_from=first, by=KEN)
    ours = x509.load_pem_x509_certificate(desk.export("ours", case))
    assert ours.not_valid_before_utc == datetime(first.year, first.month, first.day, tzinfo=JST)
    assert Validity(ours.not_valid_before_utc, ours.not_valid_after_utc) == counting_first_day(
        ours.not_valid_before_utc, 5
    )


@pytest.mark.parametrize(
    ("csr", "options", "message"),
    [
        (b"no", {}, "this is no certification request"),
        (None, {"policy": "1.2.x"}, "is not the identifier of a policy"),
        (None, {"policy": "1.99.1"}, "is not the identifier of a policy"),
        (None, {"policy": "2.5.29.32.0"}, "is not the identifier of a policy"),
        (None, {"partner": " "}, "the other CA has no name"),
        (None, {"renews": 7, "because": "ours-ends"}, "case 7 has no pair to renew"),
        (None, {"by": ""}, "is not a person's name"),
    ],
    ids=["no request", "no policy", "no such arc", "any policy", "no name", "nothing to renew", "nobody"],
)
def test_an_application_that_is_none_opens_no_case(
    desk: Desk, csr: bytes | None, options: dict[str, Any], message: str
) -> None:
    """It is refused as a whole."""
    file = desk.file("bridge.csr", csr or desk.bridge.request())
    ended = desk.cross("receive", **({"csr": file, "partner": PARTNER, "by": HANA} | options))
    assert (ended.status, message in ended.complaint) == (REFUSED, True), ended
    assert desk.done("list") == []


def test_a_request_of_this_ca_itself_is_refused(desk: Desk) -> None:
    """A cross certificate is for another one."""
    desk.done("request")
    csr = desk.file("own.csr", desk.export("request"))
    assert "names this CA itself" in desk.cross("receive", csr=csr, partner=PARTNER, by=HANA).complaint


@pytest.mark.req("R-4-7-1")
def test_a_rejected_case_goes_no_further(desk: Desk) -> None:
    """The examiner rejects what was received."""
    case = desk.receive()
    assert desk.done("reject", case, note="運営者を確認できない", by=JIRO)["state"] == "rejected"
    assert "possible: nothing" in desk.cross("approve", case, note="可", by=MASA).complaint


@pytest.mark.req("R-4-8-2", "R-4-9-1", "R-4-10-1", "R-4-10-2", "R-2-6-1-2", "R-2-6-2-1", "R-4-4-4-4-1")
def test_a_pair_is_published_replaced_and_taken_out(desk: Desk) -> None:
    """With the next batch each time; what was replaced or ended is on the ARL with its reason."""

    def pairs() -> list[bytes]:
        assert desk.prefca("batch", "--now").status == 0
        sql = "SELECT value FROM published_object_v1 WHERE attribute = 'crossCertificatePair'"
        return [value for (value,) in select(sql)]

    first = desk.up_to_completion()
    assert pairs() == [desk.export("pair", first)]
    second = desk.up_to_issue(renews=first, because="theirs-ends")
    assert pairs() == [desk.export("pair", first)], "the renewal is not complete yet"
    desk.exchange(second)
    assert pairs() == [desk.export("pair", second)]
    alarms = json.loads(desk.prefca("status", "--check", "--json").stdout)
    assert [alarm["name"] for alarm in alarms] == ["cross_certificate_superseded"]
    desk.done("revoke", first, reason="superseded", requested_by="governor", by=KEN)
    assert desk.prefca("status", "--check").status == 0
    ended = desk.cross("revoke", second, reason="keyCompromise", requested_by="bca", by=KEN)
    assert "is not revoked for keyCompromise" in ended.complaint
    desk.done("revoke", second, reason="5", requested_by="bca", by=KEN)
    assert pairs() == []
    file = desk.directory / "arl.pem"
    desk.prefca("export", "arl", "-o", file)
    reasons = {
        f"{each.serial_number:X}": each.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
        for each in x509.load_pem_x509_crl(file.read_bytes())
    }
    serials = [desk.done("show", case)["ours"]["serial"] for case in (first, second)]
    assert reasons == dict(zip(serials, ("superseded", "cessationOfOperation"), strict=True))
    assert desk.cross("revoke", second, reason="5", requested_by="bca", by=KEN).status == REFUSED
    page = desk.cross("names").stdout
    assert page.index("取消した認証局") < page.index(PARTNER)


@pytest.mark.req("R-2-6-1-2", "R-4-10-1")
def test_a_pair_whose_certificate_is_revoked_by_its_serial_number_is_taken_out(desk: Desk) -> None:
    """As with `cross revoke`, which only ends the case then: case, directory and the page for the web tell so."""
    case = desk.up_to_completion()
    serial = desk.done("show", case)["ours"]["serial"]
    assert desk.prefca("revoke", serial, "--reason", "superseded").status == 0
    assert desk.prefca("batch", "--now").status == 0
    assert select("SELECT 1 FROM published_object_v1 WHERE attribute = 'crossCertificatePair'") == []
    assert desk.done("show", case)["revoked"].startswith("superseded")
    assert "取消した認証局" in desk.cross("names").stdout
    desk.done("revoke", case, reason="superseded", requested_by="governor", by=KEN)
    assert desk.done("show", case)["state"] == "ended"
    assert desk.prefca("status", "--check").status == 0


@pytest.mark.req("R-1-3-2-3", "R-1-2-1", "R-2-8-2", "R-2-8-3-1", "R-2-1-2-3")
def test_a_server_gets_a_certificate_for_a_year_that_can_be_revoked(desk: Desk) -> None:
    """With the policy of the rule; its revocation is on the public list of operations certificates."""
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    file = desk.file("server.csr", csr.sign(rsa_key("server"), hashes.SHA256()).public_bytes(Encoding.PEM))
    made = desk.prefca("operations-certificate", "create", "--for", "cvs", "--csr", file, "--json").json
    (listed,) = desk.prefca("operations-certificate", "list", "--json").json
    assert (listed["serial"], listed["status"]) == (made["serial"], "good")
    exported, crl = (desk.directory / name for name in ("server.pem", "operations.pem"))
    desk.prefca("export", "certificate", made["serial"], "-o", exported)
    certificate = x509.load_pem_x509_certificate(exported.read_bytes())
    policies = certificate.extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert [each.policy_identifier.dotted_string for each in policies] == ["1.2.392.200149.8.5.1.0.200"]
    validity = Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    assert validity == counting_first_day(validity.not_before, 1)
    assert desk.prefca("revoke", made["serial"], "--reason", "cessationOfOperation").status == 0
    desk.prefca("batch", "--now")
    desk.prefca("export", "operations-crl", "-o", crl)
    assert [f"{each.serial_number:016X}" for each in x509.load_pem_x509_crl(crl.read_bytes())] == [made["serial"]]


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP384R1())], ids=["RSA-1024", "P-384"]
)
def test_a_server_with_another_kind_of_key_gets_none(
    shared_instance: Path, prefca: Prefca, tmp_path: Path, key: rsa.RSAPrivateKey
) -> None:
    """As an OCSP delegate."""
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    file = tmp_path / "server.csr"
    file.write_bytes(csr.public_bytes(Encoding.PEM))
    ended = prefca("operations-certificate", "create", "--for", "cvs", "--csr", file)
    assert (ended.status, "neither RSA-2048 nor P-256" in ended.complaint) == (REFUSED, True)


@pytest.mark.req("R-5-2-1-1", "R-5-2-2-1", "R-4-7-1")
async def test_with_operators_five_persons_agree_to_the_certificate(ca: FoundedCA) -> None:
    """受付, 審査, 承認 and two senior operators sign what is issued; less than that is not done."""
    staff, bridge, installation = operators.Desk(ca), Bridge(), ca.installation
    await staff.register_first()
    application = Application(PARTNER, bridge.request(), BRIDGE_POLICY)
    case = await cross_certification.receive(installation, application, HANA, NOW)
    await cross_certification.examine(installation, By(case.case_id, JIRO, NOW), bridge.key_sha256, "電話")
    for step, person in ((Step.APPROVE, MASA), (Step.TEST, KEN)):
        await cross_certification.note(installation, By(case.case_id, person, NOW), step, "可")
    parameters = cross_operation.issue_parameters(case, KEN, None)
    agreed = ("reception", "examiner", "approver", "senior1")
    number = await staff.agreed(OperationKind.CROSS_CERTIFICATE, parameters, *agreed)
    with pytest.raises(RefusedError, match="senior"):
        await staff.run(number)
    await staff.approve(number, "senior2")
    facts = await staff.run(number)
    (issued,) = (await installation.cross.cases(installation.authority_id)).values()
    assert (issued.state, facts["case"]) == (State.ISSUED, case.case_id)


@pytest.mark.req("R-4-8-1")
@pytest.mark.parametrize(
    ("table", "column"), [("cross_case", "partner"), ("cross_step", "state"), ("cross_request", "der")]
)
async def test_what_was_done_is_final(ca: FoundedCA, table: str, column: str) -> None:
    """The issuer has no right to change it, even the owner of the database is refused, and servers see none of it."""
    await cross_certification.receive(ca.installation, Application(PARTNER, Bridge().request(), None), HANA, NOW)
    for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
        async with ca.database.connect("owner") as owner:
            with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="its rows are final"):
                await owner.execute(statement)
        async with ca.database.connect("prefca_issuer") as issuer:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await issuer.execute(statement)
    for role in ("prefca_ocsp", "prefca_repository"):
        async with ca.database.connect(role) as server:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await server.fetch(f"SELECT FROM {table}")


@pytest.mark.req("R-4-7-1")
async def test_of_two_who_act_at_once_one_is_refused(ca: FoundedCA) -> None:
    """Nothing is done twice."""
    case = await cross_certification.receive(ca.installation, Application(PARTNER, Bridge().request(), None), HANA, NOW)
    done = Done(Step.REJECT, State.REJECTED, NOW, JIRO, Role.EXAMINER, {})
    await ca.installation.cross.add_step(case, done, Left({}))
    with pytest.raises(RefusedError, match="somebody else acted"):
        await ca.installation.cross.add_step(case, done, Left({}))


@pytest.mark.req("R-4-10-1", "R-4-4-1-3")
def test_a_case_whose_certificate_was_revoked_otherwise_goes_on_to_its_end_alone(desk: Desk) -> None:
    """As with the key that signed it, when that was compromised."""
    case = desk.up_to_issue()
    serial = desk.done("show", case)["ours"]["serial"]
    assert desk.prefca("revoke", serial, "--reason", "superseded").status == 0
    refused = desk.cross("accept", case, desk.file("theirs.pem", desk.their_certificate()), by=KEN)
    assert (refused.status, "end the case with `prefca cross revoke`" in refused.complaint) == (REFUSED, True)
    ended = desk.done("revoke", case, reason="cACompromise", requested_by="governor", by=KEN)
    assert ended["reason"] == "superseded"  # as it is on the list: a revocation is final
    assert desk.done("show", case)["state"] == "ended"
