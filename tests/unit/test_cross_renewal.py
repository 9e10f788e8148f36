"""The four cases in which a pair is renewed (R-4-9-1), told in time; names for the web."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from issuer.cross.cross_papers import as_html, as_json, named
from issuer.cross.cross_renewal import RENEW_BEFORE, alarms
from issuer.profiles.authority import Kind
from issuer.profiles.certification_request import cross_request
from issuer.profiles.profile import MIN_SERIAL, cross, self_signed
from issuer.records.rows import CertificateRow, Generation
from issuer.rules.cross_case import Application, Case, Done, State, Step, Trigger, in_force
from issuer.rules.operation import Role
from issuer.servers.operations_certificate import alarms as alarms_of_servers
from issuer.signing.certification import certify, certify_self
from pkix.revocation import CRLReason, Revoked
from pkix.software import SoftwareSigner
from tests.support.bridge import BRIDGE_POLICY, PARTNER, Bridge, Wish
from tests.support.ca import NOW, rsa_key, software_ca

CA, BRIDGE, DAY = software_ca(), Bridge(), timedelta(days=1)
OURS = certify(
    CA, cross(CA.issuer, cross_request(BRIDGE.request()).subject(BRIDGE_POLICY), MIN_SERIAL, NOW), Kind.CROSS
)
OURS_END = x509.load_der_x509_certificate(OURS).not_valid_after_utc


def theirs(**changes: Any) -> bytes:
    """The bridge's certificate for us."""
    wish = {"subject": CA.issuer.certificate.subject, "key": CA.signer.public_key, "not_after": OURS_END} | changes
    return BRIDGE.certify(Wish(**wish)).public_bytes(Encoding.DER)


def completed(number: int = 1, renews: int | None = None, at: datetime = NOW, theirs_der: bytes | None = None) -> Case:
    """A case with a pair."""
    application = Application(PARTNER, BRIDGE.request(), BRIDGE_POLICY, renews, Trigger.OURS_ENDS if renews else None)
    done = Done(Step.TAKE_RECEIPT, State.COMPLETED, at, "山田", Role.RECEPTION, {})
    return Case(number, application, (done,), ours=OURS, theirs=theirs_der or theirs())


def told(*cases: Case, now: datetime = NOW, active: Generation | None = CA.generation) -> list[tuple[str, str]]:
    """Names of alarms, and the reason for renewal that each gives."""
    found = alarms({case.case_id: case for case in cases}, CA.issuer.authority, active, now)
    return [(alarm.name, alarm.message.rpartition(" ")[2].rstrip("`")) for alarm in found]


@pytest.mark.req("R-4-9-1")
def test_nothing_is_told_of_a_new_pair() -> None:
    """Nor where nobody is cross-certified."""
    assert told(completed()) == told() == []


@pytest.mark.req("R-4-9-1")
def test_that_a_certificate_ends_is_told_half_a_year_before() -> None:
    """(1) theirs, (2) ours; each by itself, until a month after the end."""
    early = theirs(not_after=OURS_END - 300 * DAY)
    ending = "cross_certificate_ending"
    assert told(completed(theirs_der=early), now=OURS_END - 300 * DAY - RENEW_BEFORE) == []
    assert told(completed(theirs_der=early), now=OURS_END - 299 * DAY - RENEW_BEFORE) == [(ending, "theirs-ends")]
    assert told(completed(), now=OURS_END - DAY) == [(ending, "theirs-ends"), (ending, "ours-ends")]
    assert told(completed(), now=OURS_END + 29 * DAY) == [(ending, "theirs-ends"), (ending, "ours-ends")]
    assert told(completed(), now=OURS_END + 31 * DAY) == []


@pytest.mark.req("R-4-9-1")
def test_that_the_key_of_the_ca_changed_is_told() -> None:
    """(3) theirs is for the old key, (4) ours is signed by it."""
    signer = SoftwareSigner(rsa_key("next"))
    der = certify_self(signer, self_signed(CA.issuer.authority, signer.public_key, MIN_SERIAL + 1, NOW))
    active = replace(CA.generation, certificate=der)
    changed = "cross_certificate_changed"
    assert told(completed(), active=active) == [(changed, "theirs-changes"), (changed, "ours-changes")]


@pytest.mark.req("R-4-9-1")
def test_that_their_certificate_no_longer_has_our_policy_is_told() -> None:
    """As after a change of policies."""
    assert told(completed(theirs_der=theirs(maps_to="1.2.3"))) == [("cross_certificate_changed", "theirs-changes")]


@pytest.mark.req("R-4-9-1", "R-4-10-1")
def test_a_renewal_ends_the_reminder_and_asks_for_the_revocation() -> None:
    """Of what it replaced, unless that has expired."""
    now = OURS_END - DAY
    old, new = completed(), completed(2, 1, theirs_der=theirs(not_after=now + 5 * 365 * DAY))
    new = replace(new, ours=new.theirs)  # of any CA, only its end is looked at here
    found = alarms({1: old, 2: new}, CA.issuer.authority, None, now)
    assert [alarm.name for alarm in found] == ["cross_certificate_superseded"]
    assert "prefca cross revoke 1 --reason superseded" in found[0].message
    done = replace(old, revoked=Revoked(now, CRLReason.SUPERSEDED))
    assert alarms({1: done, 2: new}, CA.issuer.authority, None, now) == []


@pytest.mark.req("R-4-8-2", "R-4-9-1")
def test_a_pair_that_is_valid_from_a_later_day_leaves_the_old_one_where_it_is() -> None:
    """Until that day; nobody is reminded of either, and one that was revoked before never replaces anything."""
    old, begin = completed(), NOW + 30 * DAY
    new = completed(2, 1, theirs_der=theirs(not_before=begin))
    cases = {1: old, 2: new}
    assert [case.case_id for case in in_force(cases, NOW)] == [1, 2]
    assert [case.case_id for case in in_force(cases, begin)] == [2]
    assert told(old, new) == []
    assert [name for name, _ in told(old, new, now=begin)] == ["cross_certificate_superseded"]
    revoked = replace(new, revoked=Revoked(NOW + DAY, CRLReason.CESSATION_OF_OPERATION))
    assert in_force({1: old, 2: revoked}, begin) == [old]


@pytest.mark.req("R-2-6-1-1", "R-2-8-3-1")
def test_names_are_told_of_cas_that_are_and_that_were_cross_certified() -> None:
    """In Japanese; a renewal is no end, and why one ended is not told."""
    later = NOW + 100 * DAY
    old = replace(completed(), revoked=Revoked(later, CRLReason.SUPERSEDED))
    new = completed(2, 1, later)
    (certified,) = named({1: old, 2: new}, later)
    assert (certified.name, certified.since, certified.ended) == (PARTNER, NOW, None)
    over = replace(new, revoked=Revoked(later + DAY, CRLReason.CA_COMPROMISE))
    names = named({1: old, 2: over}, later + 2 * DAY)
    content = json.loads(as_json(CA.issuer.authority, names, later))
    assert [each["name"] for each in content["cancelled"]] == [PARTNER]
    assert content["cross_certified"] == []
    page = as_html(CA.issuer.authority, names, later)
    assert (
        page.index("相互認証した認証局") < page.index("ありません") < page.index("取消した認証局") < page.index(PARTNER)
    )
    assert "ompromise" not in page + json.dumps(content)


@pytest.mark.req("R-2-6-1-1", "R-4-9-1")
def test_a_ca_that_was_renewed_under_another_name_is_told_by_that_name_alone() -> None:
    """Since its first pair; one that was revoked while another is in force is no end."""
    later = NOW + 100 * DAY
    renamed = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Bridge under a new name")])
    wanted = cross_request(BRIDGE.request(renamed)).subject(BRIDGE_POLICY)
    new = replace(completed(2, 1, later), ours=certify(CA, cross(CA.issuer, wanted, MIN_SERIAL + 1, NOW), Kind.CROSS))
    old = completed()
    (certified,) = named({1: old, 2: new}, later)
    assert (certified.dn, certified.since, certified.ended) == ("CN=Bridge under a new name", NOW, None)
    revoked = replace(old, revoked=Revoked(later, CRLReason.SUPERSEDED))
    assert named({1: revoked, 2: new}, later + DAY) == [certified]
    ended = replace(new, revoked=Revoked(later + DAY, CRLReason.CESSATION_OF_OPERATION))
    assert [(each.dn, each.ended) for each in named({1: revoked, 2: ended}, later + DAY)] == [
        (certified.dn, later + DAY)
    ]
    again = replace(completed(3), revoked=Revoked(later, CRLReason.CESSATION_OF_OPERATION))
    assert [each.ended for each in named({1: old, 3: again}, later)] == [None]


def test_names_are_escaped_in_a_page() -> None:
    """They come from outside."""
    case = completed()
    case = replace(case, application=replace(case.application, partner="<script>"))
    assert "<script>" not in as_html(CA.issuer.authority, named({1: case}, NOW), NOW)


@pytest.mark.req("R-1-3-2-3")
def test_that_a_servers_certificate_ends_is_told_a_month_before() -> None:
    """The last one counts; a server that was revoked, or gone for a month, has none."""
    end = NOW + 365 * DAY

    def row(not_after: datetime, revoked: Revoked | None = None) -> CertificateRow:
        return CertificateRow(MIN_SERIAL, 2, Kind.CVS, not_after, b"", revoked)

    def names(now: datetime, *rows: CertificateRow) -> list[str]:
        return [alarm.name for alarm in alarms_of_servers(rows, now)]

    assert names(NOW) == names(end - 30 * DAY, row(end)) == names(end + 31 * DAY, row(end)) == []
    assert names(end - 29 * DAY, row(end)) == names(end + DAY, row(end)) == ["cvs_certificate_ending"]
    assert names(end - 29 * DAY, row(end), row(end + DAY * 300)) == []
    assert names(end - 29 * DAY, row(end, Revoked(NOW, CRLReason.CESSATION_OF_OPERATION))) == []
