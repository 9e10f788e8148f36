"""Every list that was published is kept, found, exported and verified: 失効情報ファイル."""

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import ClientSession
from cryptography import x509

from issuer.cli import list_choice, scheduling
from issuer.errors import NotNowError, RefusedError
from issuer.lists import batch
from issuer.lists.list_audit import Inquiry, open_audit
from issuer.records.list_store import Selection
from issuer.servers.inquiry import Responder
from pkix.revocation import CRLReason
from pkix.validity import JST, Validity, whole_second
from tests.support.ca import NOW, FoundedCA, found_ca, open_ca, settings_for
from tests.support.command import Prefca, select
from tests.support.database import Database, reachable_directory
from tests.support.ocsp import around
from tests.support.ocsp_program import running

DAY = timedelta(days=1)
LATER = NOW + 3 * DAY  # than every list of a history
KIYOSE = "132217"
TOKYO_LISTS = 64
EVERYTHING = Selection()


async def findings(
    ca: FoundedCA, selection: Selection = EVERYTHING, *, now: datetime = LATER, inquiry: Inquiry | None = None
) -> dict[tuple[str, int], tuple[str, ...]]:
    """What is wrong, by list and number."""
    async with ca.installation.store.snapshot():
        audit = await open_audit(ca.installation, now, inquiry)
        verified = [one async for one in audit.verify(selection)]
    assert verified
    return {(one.kept.label, one.kept.crl_number): one.findings for one in verified if one.findings}


async def alter(ca: FoundedCA, table: str, statement: str) -> None:
    """Change what is final, as somebody who has taken the database over."""
    async with ca.database.connect("owner") as owner:
        await owner.execute(
            f"ALTER TABLE {table} DISABLE TRIGGER USER; {statement}; ALTER TABLE {table} ENABLE TRIGGER USER"
        )


@pytest.fixture
async def history(ca: FoundedCA) -> FoundedCA:
    """A CA with three publications; revoked before them are none, one, and two certificates of Kiyose."""
    first, second = await ca.issue(1, 2)
    await ca.publish(NOW)
    await ca.revoke(first.serial, now=NOW + DAY)
    await ca.publish(NOW + DAY)
    await ca.revoke(second.serial, reason=CRLReason.KEY_COMPROMISE, now=NOW + 2 * DAY)
    await ca.publish(NOW + 2 * DAY)
    return ca


@pytest.mark.req("R-4-12-2-1", "R-1-1-4")
async def test_every_list_that_was_published_is_sound(history: FoundedCA) -> None:
    """All of them, or those of one municipality."""
    assert await findings(history) == {}
    assert await findings(history, Selection(label=KIYOSE)) == {}


@pytest.mark.req("R-4-4-4-4-2")
async def test_entries_that_went_are_not_missed(ca: FoundedCA) -> None:
    """After their certificate's expiry they need not be there; while they were, they had to."""
    (issued,) = await ca.issue(1)
    end = x509.load_der_x509_certificate(issued.certificate).not_valid_after_utc
    await ca.revoke(issued.serial)
    for moment in (NOW, end, end + DAY, end + 2 * DAY):
        await ca.publish(moment)
    lists = await ca.installation.lists.newest(ca.installation.authority_id, Selection(label=KIYOSE), 9)
    assert [kept.entries for kept in lists] == [0, 1, 1, 1]
    gap = {(KIYOSE, 2): "the list before it ended"}
    found = await findings(ca, Selection(label=KIYOSE), now=end + 2 * DAY)
    assert {key: value[0][:24] for key, value in found.items()} == gap


@pytest.mark.req("R-4-4-3-1")
async def test_what_was_recorded_after_a_list_is_not_missed_there(history: FoundedCA) -> None:
    """Although it was received in time."""
    (issued,) = await history.issue(3)
    await history.revoke(issued.serial, now=NOW + 3 * DAY, received_at=NOW)
    await history.publish(NOW + 3 * DAY)
    assert await findings(history) == {}


TAMPERING = {
    "a list is changed": (
        "published_object",
        f"""UPDATE published_object SET value = set_byte(value, octet_length(value) - 1, 255), sha256 = sha256('')
            FROM partition p WHERE p.partition_id = published_object.partition_id AND code = '{KIYOSE}'
                AND crl_number = 2""",
        {(KIYOSE, 2): ["its SHA-256 is not the recorded one", "its signature does not verify"]},
    ),
    "a revocation is taken back": (
        "revocation",
        "DELETE FROM revocation WHERE reason = 1",
        {(KIYOSE, 3): ["entries that the database does not have there (1): "]},
    ),
    "a revocation is put in": (
        "revocation",
        "INSERT INTO revocation SELECT serial + 1, partition_id, reason, received_at, revoked_at, NULL, not_after,"
        " overlay(entry PLACING int8send(serial + 1) FROM 5) FROM revocation WHERE reason = 5",
        {(KIYOSE, 3): ["missing entries (1): "]},
    ),
    "a reason is changed": (
        "revocation",
        "UPDATE revocation SET entry = overlay(entry PLACING '\\x05'::bytea FROM octet_length(entry)) WHERE reason = 1",
        {(KIYOSE, 3): ["entries that the database has otherwise (1): "]},
    ),
}


@pytest.mark.req("R-4-12-2-3", "R-4-4-2-4")
@pytest.mark.parametrize(("table", "statement", "expected"), TAMPERING.values(), ids=TAMPERING)
async def test_what_was_tampered_with_is_found(
    history: FoundedCA, table: str, statement: str, expected: dict[tuple[str, int], list[str]]
) -> None:
    """In the list that it concerns, and in no other."""
    await alter(history, table, statement)
    found = await findings(history)
    assert found.keys() == expected.keys()
    for key, beginnings in expected.items():
        assert [finding[: len(begun)] for finding, begun in zip(found[key], beginnings, strict=True)] == beginnings


@pytest.mark.req("R-4-4-9-1")
async def test_lists_that_ended_without_others_after_them_are_found(history: FoundedCA) -> None:
    """When nextUpdate of those in force has passed."""
    found = await findings(history, Selection(crl_number=3), now=NOW + 6 * DAY)
    assert len(found) == TOKYO_LISTS
    assert set(found.values()) == {("it ended at 2026-04-06T03:00:00Z, and no list has followed",)}


@pytest.mark.req("R-4-4-9-1")
async def test_lists_in_force_that_a_clock_dated_too_late_are_found(history: FoundedCA) -> None:
    """By more than clocks differ; relying parties may refuse them."""
    made = NOW + 2 * DAY
    assert await findings(history, now=made - timedelta(minutes=1)) == {}
    found = await findings(history, now=made - timedelta(hours=1))
    assert [number for _, number in found] == [3] * TOKYO_LISTS
    (finding,) = set(found.values())
    assert finding[0].startswith("its thisUpdate 2026-04-03T03:00:00Z lies in the future")


@pytest.fixture
async def today(database: Database) -> AsyncIterator[FoundedCA]:
    """A CA that was founded now, with two revocations, published; a relying party asks from here."""
    now = whole_second(datetime.now(UTC))
    with reachable_directory() as instance:
        settings = settings_for(instance, database)
        await found_ca(settings, now)
        async with open_ca(database, settings) as ca:
            first, second = await ca.issue(1, 2, now=now)
            await ca.revoke(first.serial, now=now)
            await ca.revoke(second.serial, reason=CRLReason.KEY_COMPROMISE, now=now)
            await ca.publish(now)
            yield ca


@pytest.mark.req("R-4-4-4-2-1")
async def test_lists_agree_with_ocsp(today: FoundedCA) -> None:
    """Asked as a relying party asks; what cannot be asked is an error and not a finding."""
    now, selection = datetime.now(UTC), Selection(label=KIYOSE)
    async with ClientSession() as session, running(today.settings.instance, today.database) as (_, url):
        inquiry = Inquiry(Responder(session, url), None)
        with pytest.raises(RefusedError, match="prefca relying-party credential add network"):
            await findings(today, selection, now=now, inquiry=inquiry)
        parties = today.installation.parties
        party = await parties.add_relying_party("us", "", Validity(*around(now)), may_ocsp=True, may_crl=False, now=now)
        await parties.add_network(party, ip_network("127.0.0.0/8"), now)
        while True:  # until the responder has heard of that
            try:
                assert await findings(today, selection, now=now, inquiry=inquiry) == {}
            except RefusedError:
                continue
            break
        await alter(today, "revocation", "UPDATE revocation SET reason = 3")  # not in their entries
        found = await findings(today, selection, now=now, inquiry=Inquiry(Responder(session, url), 1))
        assert found[KIYOSE, 1][0].startswith("entries that have another time or reason as OCSP tells (1): ")
        unreachable = Inquiry(Responder(session, "http://127.0.0.1:1/"), 1)
        with pytest.raises(NotNowError, match=r"http://127\.0\.0\.1:1/"):
            await findings(today, selection, now=now, inquiry=unreachable)


# ---------------------------------------------------------------- the commands


@pytest.mark.usefixtures("instance")
@pytest.mark.req("R-4-12-2-1", "R-4-12-2-5")
def test_an_operator_finds_shows_compares_exports_and_verifies(prefca: Prefca, tmp_path: Path) -> None:
    """By municipality, in Japanese or by code, and by date or number."""
    prefca("sample", "--count", "5")
    day = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    listed = prefca("crl", "list", "--municipality", "千代田区", "--to", day, "--json").json
    assert [(kept["list"], kept["name"], kept["crl_number"], kept["entries"]) for kept in listed] == [
        ("131016", "千代田区", 2, 0),
        ("131016", "千代田区", 1, 0),
    ]
    assert len(prefca("crl", "list", "--limit", "70", "--json").json) == 70
    assert prefca("crl", "list", "--to", "2020-01-01", "--json").json == []

    shown = prefca("crl", "show", "131024", "--json").json
    (revoked,) = shown["revoked"]
    assert (shown["name"], revoked["reason"]) == ("中央区", "keyCompromise")
    assert revoked["serial"] in prefca("crl", "show", "Chuo-ku").stdout
    assert "… and 1 more" in prefca("crl", "show", "131024", "--entries", "0").stdout
    assert prefca("crl", "diff", "131024", "1", day, "--json").json["added"] == [revoked]
    assert prefca("crl", "diff", "131024", "2", "1").stdout.endswith("2 to 1: 0 added, 1 removed\n")

    directory = tmp_path / "out"
    assert prefca("crl", "export", directory, "-m", "131024", "--all", "--der").status == 0
    manifest = [json.loads(line) for line in (directory / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    names = sorted(file.name for file in directory.glob("*.crl"))
    assert names == [line["file"] for line in manifest]
    assert [line["crl_number"] for line in manifest] == [1, 2]
    assert (directory / "SHA256SUMS").read_text() == "".join(f"{line['sha256']}  {line['file']}\n" for line in manifest)
    for line in manifest:
        assert hashlib.sha256((directory / line["file"]).read_bytes()).hexdigest() == line["sha256"]
    assert prefca("crl", "export", directory / "ca", "-m", "ca").status == 0
    (pem,) = (directory / "ca").glob("Tokyo-to-ca-0000000002-*.pem")
    number = x509.load_pem_x509_crl(pem.read_bytes()).extensions.get_extension_for_class(x509.CRLNumber).value
    assert number == x509.CRLNumber(2)

    assert prefca("crl", "verify").stdout == f"{TOKYO_LISTS} lists verified, none wrong\n"
    assert prefca("crl", "verify", "--all", "--json").json == {"verified": 2 * TOKYO_LISTS, "wrong": 0, "findings": []}


@pytest.mark.usefixtures("instance")
@pytest.mark.req("R-4-12-2-4")
def test_what_was_exported_before_stays_named(prefca: Prefca, tmp_path: Path) -> None:
    """In both files that tell what is in the directory."""
    for which in ("131016", "ca", "131016"):
        assert prefca("crl", "export", tmp_path, "-m", which).status == 0
    names = sorted(file.name for file in tmp_path.glob("*.pem"))
    assert len(names) == 2
    manifest = (tmp_path / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["file"] for line in manifest] == names
    assert [line.split("  ")[1] for line in (tmp_path / "SHA256SUMS").read_text().splitlines()] == names


@pytest.mark.usefixtures("shared_instance")
@pytest.mark.req("R-4-12-2-3")
def test_an_exported_file_is_never_overwritten_by_another_list(prefca: Prefca, tmp_path: Path) -> None:
    """The line names it."""
    assert prefca("crl", "export", tmp_path, "-m", "ca").status == 0
    (file,) = tmp_path.glob("*.pem")
    file.write_bytes(b"of another CA")
    ended = prefca("crl", "export", tmp_path, "-m", "ca")
    assert (ended.status, ended.complaint) == (3, f"{file} is there with other content; export to another directory")
    assert file.read_bytes() == b"of another CA"


@pytest.mark.usefixtures("shared_instance")
@pytest.mark.req("R-2-6-3-1", "R-2-6-3-2")
def test_exported_lists_of_residents_are_for_their_owner_alone(prefca: Prefca, tmp_path: Path) -> None:
    """Whoever may read the directory; the ARL is for everybody."""
    tmp_path.chmod(0o755)
    for which in "131016", "ca":
        assert prefca("crl", "export", tmp_path, "-m", which).status == 0
    modes = {file.name[:6]: file.stat().st_mode & 0o777 for file in tmp_path.glob("*.pem")}
    assert modes == {"131016": 0o600, "Tokyo-": (tmp_path / "SHA256SUMS").stat().st_mode & 0o777}


@pytest.mark.usefixtures("instance")
def test_what_is_wrong_is_told_by_the_status(prefca: Prefca) -> None:
    """3, so that a monitoring program hears of it; each finding is one line."""
    prefca("sample", "--count", "5")
    select("ALTER TABLE published_object DISABLE TRIGGER USER")
    select("UPDATE published_object SET entries = 7 WHERE partition_id = 3 AND crl_number = 2")
    ended = prefca("crl", "verify", "--json")
    assert ended.status == 3
    (finding,) = json.loads(ended.stdout)["findings"]
    assert finding == {
        "list": "131016",
        "name": "千代田区",
        "crl_number": 2,
        "finding": "it has 0 entries, and 7 are recorded",
    }
    assert prefca("crl", "verify", "--number", "1").status == 0


def at(monkeypatch: pytest.MonkeyPatch, module: ModuleType, moment: datetime) -> None:
    """Set the clock of a command."""
    monkeypatch.setattr(module, "now", lambda: moment)


@pytest.mark.usefixtures("instance")
@pytest.mark.req("R-4-4-9-1")
def test_what_is_served_is_what_is_verified(prefca: Prefca, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest lists, although a clock that was ahead dated them, and not those that were in force before."""
    at(monkeypatch, scheduling, datetime.now(UTC) + 2 * DAY)
    monkeypatch.setattr(batch, "MAX_CLOCK_DIFFERENCE", 3 * DAY)  # as if the database's clock were ahead, too
    assert prefca("batch", "--now").status == 0
    today = datetime.now(JST).strftime("%Y-%m-%d")
    for options in (), ("--date", today):
        assert prefca("crl", "show", "ca", "--json", *options).json["crl_number"] == 2
    ended = prefca("crl", "verify", "--json")
    assert ended.status == 3
    found = json.loads(ended.stdout)
    assert (found["verified"], found["wrong"]) == (TOKYO_LISTS, TOKYO_LISTS)
    assert {(one["crl_number"], "lies in the future" in one["finding"]) for one in found["findings"]} == {(2, True)}
    at(monkeypatch, scheduling, datetime.now(UTC))
    refused = prefca("batch", "--now")
    assert refused.status == 3
    assert "`prefca batch --now --clock-was-ahead`" in refused.complaint
    assert prefca("batch", "--clock-was-ahead").status == 2
    assert prefca("batch", "--now", "--clock-was-ahead").status == 0
    assert prefca("crl", "verify", "--all").status == 0


@pytest.mark.usefixtures("shared_instance")
@pytest.mark.req("R-4-12-2-1")
def test_a_list_that_had_ended_was_not_in_force(prefca: Prefca, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told when it had; without a date it is still what is served."""
    today = datetime.now(JST)
    at(monkeypatch, list_choice, datetime.now(UTC) + 30 * DAY)
    window = prefca("crl", "show", "ca", "--json").json
    assert prefca("crl", "show", "ca", "--date", f"{today + DAY:%Y-%m-%d}", "--json").json == window
    for command in ("show", "ca"), ("verify",):
        ended = prefca("crl", *command, "--date", f"{today + 9 * DAY:%Y-%m-%d}")
        assert ended.status == 3
        assert ended.complaint.startswith(f"no list was in force then: it had ended at {window['next_update']}")


COMPLAINTS = {
    "not yet": (["show", "ca", "--date", "2100-01-01"], "2099-12-31T15:00:00Z is yet to come"),
    "not yet to verify": (["verify", "--date", "2100-01-01T00:00:00Z"], "2100-01-01T00:00:00Z is yet to come"),
    "nothing published": (["show", "ca", "--date", "2020-01-01"], "no list was in force then"),
    "no such number": (["show", "ca", "--number", "99"], "there is no such list"),
    "no such number to verify": (["verify", "-m", "131016", "--number", "77"], "there is no such list"),
    "none of such a time to verify": (["verify", "--from", "2100-01-01", "--all"], "there is no such list"),
    "no such number to export": (["export", "OUT", "-m", "131016", "--number", "77"], "there is no such list"),
    "begin after end": (["list", "--from", "2026-04-02", "--to", "2026-04-01"], "--from is after --to"),
    "no such municipality": (
        ["list", "-m", "富山市"],
        "'富山市' has no list here; write a municipality's code or name",
    ),
    "no date": (["list", "--from", "yesterday"], "'yesterday' is no date; write 2026-04-01"),
    "before all dates": (["list", "--from", "0001-01-01"], "'0001-01-01' is no date"),
    "after all dates": (["show", "ca", "--date", "9999-12-31T23:59:59Z"], "'9999-12-31T23:59:59Z' is no date"),
    "a number beyond all": (
        ["show", "ca", "--number", "99999999999999999999"],
        "99999999999999999999 is not in the range",
    ),
    "another one beyond all": (["diff", "ca", "1", "99999999999999999999"], "99999999999999999999 is not in the range"),
    "a key beyond all": (["show", "ca", "--key", "99999"], "99999 is not in the range"),
    "all of one moment": (["verify", "--all", "--date", "2026-04-01"], "--date is of one moment, --all of all"),
    "neither number nor date": (["diff", "ca", "1", "new"], "'new' is no CRLNumber and no date; write 42, 2026-04-01"),
    "a sample of what nobody is asked": (
        ["verify", "--sample", "5"],
        "--sample is of the entries that --ocsp asks about",
    ),
}


@pytest.mark.usefixtures("shared_instance")
@pytest.mark.parametrize(("arguments", "complaint"), COMPLAINTS.values(), ids=COMPLAINTS)
def test_what_cannot_be_found_is_one_line(prefca: Prefca, arguments: list[str], complaint: str, tmp_path: Path) -> None:
    """And the status says that the same will be refused again, or that the command line is wrong."""
    ended = prefca("crl", *(tmp_path / "out" if word == "OUT" else word for word in arguments))
    assert ended.status in {2, 3}
    assert complaint in ended.complaint
    assert not (tmp_path / "out").exists()
