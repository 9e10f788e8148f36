"""`prefca relying-party credential` and `show`: what a party is recognised by."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.command import Prefca, select
from tests.support.parties import Identity

pytestmark = pytest.mark.req("R-1-3-1-2", "R-4-4-4-3")
PARTY = Identity.new("ward-tax")


@pytest.fixture
def party(instance: Path, prefca: Prefca) -> str:
    """The name of a party with both rights."""
    assert prefca("relying-party", "add", "ward-tax", "--right", "ocsp", "--right", "crl").status == 0
    return "ward-tax"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of the party, PEM."""
    return PARTY.write(tmp_path)[0]


def seen_by_responder(*columns: str) -> list[tuple[Any, ...]]:
    return select(f"SELECT {', '.join(columns)} FROM ocsp_access_v1 ORDER BY kind", "prefca_ocsp")


def test_a_token_is_shown_once_and_kept_as_a_hash(party: str, prefca: Prefca) -> None:
    """Whoever reads the database, or the records, cannot use it."""
    token = prefca("relying-party", "credential", "add", "token", party).stdout.strip()
    assert len(token) > 40
    assert seen_by_responder("kind", "fingerprint") == [("token", sha256(token.encode()).digest())]
    assert token not in prefca("relying-party", "show", party).stdout
    assert not [detail for (detail,) in select("SELECT detail FROM operation_record") if token in detail]


def test_two_tokens_differ(party: str, prefca: Prefca) -> None:
    """Also for scripts."""
    made = [prefca("relying-party", "credential", "add", "token", party, "--json").json for _ in range(2)]
    assert made[0]["token"] != made[1]["token"]
    assert made[0]["credential"] != made[1]["credential"]


@pytest.mark.parametrize("form", ["PEM", "DER"])
@pytest.mark.parametrize("kind", ["client-certificate", "signing-certificate"])
def test_a_certificate_is_registered(party: str, prefca: Prefca, certificate: Path, kind: str, form: str) -> None:
    """The responder gets the certificate itself; the list shows whose it is, and until when."""
    if form == "DER":
        certificate.write_bytes(PARTY.certificate.public_bytes(Encoding.DER))
    ended = prefca("relying-party", "credential", "add", kind, party, certificate)
    assert ended.stdout == "ward-tax is recognised by CN=ward-tax,C=JP\n"
    assert seen_by_responder("kind", "certificate") == [(kind, PARTY.der)]
    (listed,) = prefca("relying-party", "credential", "list", party, "--json").json
    assert listed["kind"] == kind
    assert sha256(PARTY.der).hexdigest() in listed["recognised_by"]


def test_a_party_is_shown_with_what_it_is_recognised_by(party: str, prefca: Prefca, certificate: Path) -> None:
    """For people and for scripts."""
    prefca("relying-party", "credential", "add", "network", party, "192.0.2.0/24")
    prefca("relying-party", "credential", "add", "client-certificate", party, certificate)
    shown = prefca("relying-party", "show", party, "--json").json
    assert (shown["state"], shown["rights"]) == ("active", ["ocsp", "crl"])
    assert [one["kind"] for one in shown["credentials"]] == ["network", "client-certificate"]
    text = prefca("relying-party", "show", party).stdout
    assert "192.0.2.0/24" in text
    assert "CN=ward-tax" in text


@pytest.mark.parametrize(
    ("network", "widest"),
    [("0.0.0.0/0", "/8"), ("10.0.0.0/7", "/8"), ("::/0", "/16"), ("2000::/15", "/16")],
)
def test_a_network_that_is_nearly_everybody_is_refused(party: str, prefca: Prefca, network: str, widest: str) -> None:
    """A slip would give residents' statuses to all."""
    refused = prefca("relying-party", "credential", "add", "network", party, network)
    expected = f"{network} is no closed network; name those of ward-tax, each of {widest} or smaller"
    assert (refused.status, expected in refused.complaint) == (3, True)
    assert seen_by_responder("network") == []


def test_a_network_may_be_a_large_one(party: str, prefca: Prefca) -> None:
    """As far as there are such networks."""
    for network in ("10.0.0.0/8", "2001::/16"):
        assert prefca("relying-party", "credential", "add", "network", party, network).status == 0


def test_a_credential_that_ends_ends_at_once(party: str, prefca: Prefca) -> None:
    """And only once; the list remembers it."""
    for network in ("192.0.2.0/24", "198.51.100.0/24"):
        prefca("relying-party", "credential", "add", "network", party, network)
    first, _ = prefca("relying-party", "credential", "list", party, "--json").json
    assert prefca("relying-party", "credential", "end", party, str(first["credential"])).status == 0
    assert [str(network) for (network,) in seen_by_responder("network")] == ["198.51.100.0/24"]
    listed = prefca("relying-party", "credential", "list", party, "--json").json
    assert [one["ended_at"] is None for one in listed] == [False, True]
    assert "192.0.2.0/24" not in prefca("relying-party", "show", party).stdout
    again = prefca("relying-party", "credential", "end", party, str(first["credential"]))
    assert (again.status, again.complaint.split(";")[0]) == (3, f"ward-tax has no credential {first['credential']}")


@pytest.mark.req("R-4-11-2-1")
def test_what_is_done_with_credentials_is_recorded(party: str, prefca: Prefca, certificate: Path) -> None:
    """Which one was given to whom, and when it ended."""
    prefca("relying-party", "credential", "add", "client-certificate", party, certificate)
    (listed,) = prefca("relying-party", "credential", "list", party, "--json").json
    prefca("relying-party", "credential", "end", party, str(listed["credential"]))
    acts = select("SELECT kind FROM operation_record WHERE object = 'ward-tax' ORDER BY record_id")
    assert [kind for (kind,) in acts] == ["relying_party_added", "credential_added", "credential_ended"]


def test_a_certificate_names_one_party(party: str, prefca: Prefca, certificate: Path) -> None:
    """Until the credential ends."""
    prefca("relying-party", "add", "other", "--right", "ocsp")
    add = ("relying-party", "credential", "add", "client-certificate")
    assert prefca(*add, party, certificate).status == 0
    refused = prefca(*add, "other", certificate)
    assert refused.status == 3
    assert "registered already" in refused.complaint
    (listed,) = prefca("relying-party", "credential", "list", party, "--json").json
    prefca("relying-party", "credential", "end", party, str(listed["credential"]))
    assert prefca(*add, "other", certificate).status == 0


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["add", "token", "nobody"], 3, "nobody is not registered; `prefca relying-party list`"),
        (["add", "client-certificate", "nobody", "{certificate}"], 3, "nobody is not registered"),
        (["add", "client-certificate", "ward-tax", "{nonsense}"], 3, "no certificate in PEM or DER"),
        (["add", "signing-certificate", "ward-tax", "{ended}"], 3, "ended on 20"),
        (["add", "signing-certificate", "ward-tax", "/nonexistent"], 2, "does not exist"),
        (["list", "nobody"], 3, "nobody is not registered"),
        (["end", "ward-tax", "999"], 3, "no credential 999; `prefca relying-party credential list ward-tax`"),
        (["end", "ward-tax", "first"], 2, "not a valid integer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_answered_with_one_line(
    arguments: list[str],
    status: int,
    complaint: str,
    party: str,
    prefca: Prefca,
    certificate: Path,
    tmp_path: Path,
) -> None:
    """The status tells which kind of mistake it was, the line what to do."""
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("no certificate")
    ended, _ = Identity.new("ended", ended=True).write(tmp_path / "ended")
    files = {"certificate": certificate, "nonsense": nonsense, "ended": ended}
    done = prefca("relying-party", "credential", *(argument.format(**files) for argument in arguments))
    assert done.status == status
    assert complaint in done.complaint


@pytest.mark.req("R-2-1-2-32")
def test_an_agreement_is_prolonged_and_its_rights_change(party: str, prefca: Prefca) -> None:
    """What is not given stays, and so do the credentials."""
    prefca("relying-party", "credential", "add", "network", party, "192.0.2.0/24")
    changed = prefca("relying-party", "change", party, "--until", "2099-03-31")
    assert changed.stdout.splitlines()[1] == "the agreement ends on 2099-03-31 at 09:00 in Japan"
    shown = prefca("relying-party", "show", party, "--json").json
    assert (shown["agreed_until"], shown["rights"]) == ("2099-03-31T00:00:00Z", ["ocsp", "crl"])
    assert prefca("relying-party", "change", party, "--right", "crl", "--description", "税務課").status == 0
    shown = prefca("relying-party", "show", party, "--json").json
    assert (shown["agreed_until"], shown["rights"]) == ("2099-03-31T00:00:00Z", ["crl"])
    assert shown["description"] == "税務課"
    assert seen_by_responder("name") == []


@pytest.mark.parametrize(
    ("before", "arguments", "complaint"),
    [
        ([], ["nobody", "--until", "2099-03-31"], "nobody is not registered"),
        ([], ["ward-tax", "--until", "2001-03-31"], "would end before it begins; correct --until"),
        (["withdraw", "ward-tax"], ["ward-tax", "--until", "2099-03-31"], "ward-tax was withdrawn; register it under"),
    ],
    ids=["nobody", "before its beginning", "withdrawn"],
)
def test_an_agreement_that_cannot_be_changed(
    party: str, prefca: Prefca, before: list[str], arguments: list[str], complaint: str
) -> None:
    """One line that says why."""
    if before:
        prefca("relying-party", *before)
    ended = prefca("relying-party", "change", *arguments)
    assert ended.status == 3
    assert complaint in ended.complaint
