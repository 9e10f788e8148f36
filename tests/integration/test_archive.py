"""Everything that is kept for ten years and longer, on external media (R-4-12-2)."""

import base64
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from issuer.archive import archive_media
from issuer.cli import archive, publishing
from journal.recovery import StreamPlace
from journal.writing import Journal
from tests.support.bridge import Bridge
from tests.support.command import Prefca, select
from tests.support.cross import Desk
from tests.support.operators import write_staff
from tests.support.segments import NOW, answered, written
from tests.support.tsa import TimeStampServer, time_stamp_server

pytestmark = pytest.mark.req("R-4-12-2-1", "R-4-12-2-3", "R-4-12-2-4")
NEXT_MONTHS = timedelta(days=70)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Export and check run when the present month is over."""
    moment = datetime.now(UTC) + NEXT_MONTHS
    monkeypatch.setattr(archive, "now", lambda: moment)
    return moment


@pytest.fixture
def kept(instance: Path, prefca: Prefca) -> Path:
    """An instance with residents, a revocation, and a segment in the archive."""
    assert prefca("sample", "--count", "20").status == 0
    written(instance, "ocsp-0", *[answered("tester")] * 15)
    assert prefca("journal", "collect").status == 0
    return instance


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return tmp_path / "media"


def bundles(media: Path) -> dict[str, dict[str, Any]]:
    """The manifest, by kind."""
    return {one["kind"]: one for one in map(json.loads, (media / "manifest.jsonl").read_text().splitlines())}


def items(media: Path, kind: str) -> list[dict[str, Any]]:
    octets = (media / bundles(media)[kind]["file"]).read_bytes()
    return [json.loads(line) for line in zstandard.ZstdDecompressor().stream_reader(octets).read().splitlines()]


@pytest.mark.req("R-4-12-2-2", "R-4-12-2-5")
def test_every_kind_is_there_with_its_times_and_its_retention(
    kept: Path, prefca: Prefca, media: Path, later: datetime
) -> None:
    """Certificates of residents for 13 years, revocations until the certificates expire, all else for ten years."""
    assert prefca("archive", "export", media).status == 0
    assert (kept / "archive").exists()
    found = bundles(media)
    assert found.keys() == {
        *("residents-certificates", "other-certificates", "published-certificates", "revocations", "lists", "acts"),
    }
    issued = {base64.b64decode(one["der"]) for one in items(media, "residents-certificates")}
    assert issued == {row[0] for row in select("SELECT der FROM certificate WHERE kind = 'resident'")}
    revoked = {(one["serial"],) for one in items(media, "revocations")}
    assert revoked == set(select("SELECT upper(to_hex(serial)) FROM revocation"))
    lists = items(media, "lists")
    assert [hashlib.sha256(base64.b64decode(one["der"])).hexdigest() for one in lists] == [
        one["sha256"] for one in lists
    ]
    x509.load_der_x509_certificate(base64.b64decode(items(media, "published-certificates")[0]["der"]))
    assert {one["id"] for one in items(media, "acts")} < {
        row[0] for row in select("SELECT record_id FROM operation_record")
    }
    assert all(one["at"] for kind in found for one in items(media, kind))
    end = datetime.fromisoformat(found["lists"]["month"] + "-01").year
    years = {kind: int(one["keep_until"][:4]) - end for kind, one in found.items()}
    assert years["residents-certificates"] - years["lists"] == 3
    assert years["lists"] - years["revocations"] in {7, 6, 8}  # certificates are for three years
    assert found["lists"]["archived_at"] == f"{later:%Y-%m-%dT%H:%M:%SZ}"
    assert select("SELECT kind FROM operation_record ORDER BY record_id DESC LIMIT 1") == [("archive_exported",)]


@pytest.mark.req("R-4-11-2-1", "R-4-12-2-5")
@pytest.mark.usefixtures("later")
def test_operations_and_cross_certification_are_there_with_signatures_and_papers(
    kept: Path, prefca: Prefca, media: Path, tmp_path: Path
) -> None:
    """What the media hold proves without the database who agreed to what; both for ten years."""
    desk = Desk(prefca, tmp_path, Bridge())
    case = desk.up_to_completion()
    staff = write_staff(tmp_path / "staff")
    assert kept.exists()
    assert prefca("operator", "first", staff).status == 0
    number = prefca("cross", "request", "--json").json["operation"]
    signing = ("--key", staff.with_name("senior1.p12"), "--passphrase-file", staff.with_name("passphrase"))
    assert prefca("operation", "approve", str(number), *signing, "--yes").status == 0
    assert prefca("archive", "export", media).status == 0
    steps = [one for one in items(media, "operations") if one["operation"] == number]
    assert [one["step"] for one in steps] == ["requested", "approved"]
    content, signature = (base64.b64decode(steps[at][name]) for at, name in ((0, "content"), (1, "signature")))
    key = serialization.load_der_public_key(base64.b64decode(steps[1]["key"]))
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(signature, content, padding.PKCS1v15(), hashes.SHA256())
    crossed = items(media, "cross-certification")
    assert [one["step"] for one in crossed if one.get("case") == case][-2:] == ["give-receipt", "take-receipt"]
    papers = {one["step"]: base64.b64decode(one["document"]) for one in crossed if one.get("document")}
    assert papers["take-receipt"] == b"%PDF-"
    requests = {one["step"]: base64.b64decode(one["request"]) for one in crossed if one.get("request")}
    assert requests.keys() == {"receive", "request"}
    assert all(x509.load_der_x509_csr(request).is_signature_valid for request in requests.values())
    assert all(one["at"] for one in (*steps, *crossed))
    assert prefca("archive", "check", media).status == 0


@pytest.mark.req("R-4-12-2-6", "R-4-11-6")
@pytest.mark.usefixtures("later")
def test_media_are_read_again_without_anything_else(kept: Path, prefca: Prefca, media: Path) -> None:
    """By sha256sum and by prefca; what a bad medium or somebody did is named."""
    key = prefca("journal", "key").stdout.strip()
    assert prefca("archive", "export", media).status == 0
    shutil.rmtree(kept)
    ended = prefca("archive", "check", media, "--key", key)
    assert (ended.status, ended.stderr) == (0, "")
    assert "nothing here has to be kept after 20" in ended.stdout
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=media, check=True)
    for name in (bundles(media)["lists"]["file"], "journal/ocsp-0/ocsp-0-00000001.jsonl.zst", "journal/roots.jsonl"):
        whole = (media / name).read_bytes()
        (media / name).write_bytes(whole[:-9] + b"?" + whole[-8:])
        ended = prefca("archive", "check", media)
        assert (ended.status, f"prefca: {name}: " in ended.stderr) == (3, True), ended
        (media / name).unlink()
        assert f"{name}: No such file" in prefca("archive", "check", media).stderr
        (media / name).write_bytes(whole)
    assert prefca("archive", "check", media).status == 0
    (media / "SHA256SUMS").write_text((media / "SHA256SUMS").read_text().splitlines(keepends=True)[0])
    assert "statement.json: it is of other files" in prefca("archive", "check", media).stderr
    for name in ("statement.json", "SHA256SUMS", "journal/SHA256SUMS", "journal/segments.jsonl", "journal/roots.jsonl"):
        whole = (media / name).read_bytes()
        for damaged in (b"", b"\xff", b"[1]", whole[:-20], whole.replace(b'":', b'!":')):
            (media / name).write_bytes(damaged)
            ended = prefca("archive", "check", media)
            assert (ended.status, "Traceback" in ended.stderr) == (3, False), (name, damaged[:9], ended)
        (media / name).unlink()
        ended = prefca("archive", "check", media)
        assert (ended.status, f"{name}: No such file" in ended.stderr) == (3, True)
        (media / name).write_bytes(whole)


@pytest.mark.usefixtures("kept", "later")
def test_media_take_the_next_month_too_and_damaged_copies_are_made_again(prefca: Prefca, media: Path) -> None:
    """What was there stays; nothing is written twice."""
    assert prefca("archive", "export", media, "--to", "2020-01", "--json").json["new"] == 0
    first = prefca("archive", "export", media, "--json").json
    assert (first["files"], first["new"]) == (6, 6)
    assert prefca("archive", "export", media, "--json").json["new"] == 0
    file = media / bundles(media)["acts"]["file"]
    segment = media / "journal" / "ocsp-0" / "ocsp-0-00000001.jsonl.zst"
    for damaged in (file, segment):
        damaged.write_bytes(b"damaged")
    assert prefca("archive", "check", media).status == 3
    assert prefca("archive", "export", media, "--json").json["new"] == 1
    assert prefca("archive", "check", media, "--record").status == 0
    assert select("SELECT detail FROM operation_record WHERE kind = 'archive_checked'") == [('{"findings": 0}',)]


Change = Callable[[list[bytes]], list[bytes]]
KEEP = "keep these media for whoever examines them, and export everything to others"


def alter(media: Path, kind: str, change: Change) -> None:
    """Change the items of a month, and say so in the manifest and the sums, as somebody would who has no key."""
    manifest, sums = media / "manifest.jsonl", media / "SHA256SUMS"
    said, before = bundles(media), digest(manifest)
    file, signed = media / said[kind]["file"], said[kind]["sha256"]
    lines = zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read().splitlines(keepends=True)
    changed = change(lines)
    assert changed != lines
    file.write_bytes(zstandard.compress(b"".join(changed)))
    said[kind] |= {"items": len(changed), "sha256": digest(file)}
    manifest.write_text("".join(json.dumps(one) + "\n" for one in said.values()))
    sums.write_text(sums.read_text().replace(signed, digest(file)).replace(before, digest(manifest)))


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def contents(media: Path) -> dict[str, bytes]:
    """Every file, by name."""
    return {str(one.relative_to(media)): one.read_bytes() for one in media.glob("**/*") if one.is_file()}


@pytest.fixture
def exported(kept: Path, prefca: Prefca, media: Path, later: datetime) -> Path:
    """Media that are good."""
    assert kept.exists()
    assert prefca("archive", "export", media).status == 0
    assert archive_media.named(media)[1] == later.replace(microsecond=0)
    return media


def is_good(prefca: Prefca, media: Path) -> bool:
    """By the instance's key."""
    key = prefca("journal", "key").stdout.strip()
    return prefca("archive", "check", media, "--key", key).status == 0


@pytest.mark.req("R-4-12-2-3", "R-4-12-2-6")
@pytest.mark.parametrize("with_statement", [True, False], ids=["statement kept", "statement removed"])
def test_what_somebody_took_out_is_there_again_and_never_signed_away(
    prefca: Prefca, exported: Path, with_statement: bool
) -> None:
    """Whether or not he corrected the lists: they are believed only as they were signed."""
    whole, (name, _) = items(exported, "acts"), archive_media.named(exported)
    alter(exported, "acts", lambda lines: lines[3:])
    assert len(items(exported, "acts")) == len(whole) - 3
    if not with_statement:
        (exported / "statement.json").unlink()
    ended = prefca("archive", "check", exported)
    assert (ended.status, "`prefca archive export` makes the media again" in ended.stderr) == (3, True)
    ended = prefca("archive", "export", exported, "--json")
    assert "compared with the database, and written anew" in ended.stderr
    assert ended.json["new"] == 6
    assert (ended.json["medium"] == name) is with_statement
    assert items(exported, "acts")[: len(whole)] == whole
    assert is_good(prefca, exported)
    (act,) = select(
        "SELECT detail::text FROM operation_record WHERE kind = 'archive_exported' AND detail::text <> '{}'"
    )
    assert "not what was signed" in act[0] or "no statement.json" in act[0]
    ended = prefca("archive", "export", exported, "--json")
    assert (ended.json["new"], ended.stderr) == (0, "")


@pytest.mark.req("R-4-12-2-3", "R-4-12-2-6")
@pytest.mark.parametrize("is_listed", [True, False], ids=["lists corrected", "lists left"])
def test_media_with_items_that_the_database_does_not_have_are_left_as_they_are(
    prefca: Prefca, exported: Path, is_listed: bool
) -> None:
    """Whoever changed or added them, or whether the database lost them, somebody has to see first."""
    lists = {name: (exported / name).read_bytes() for name in ("manifest.jsonl", "SHA256SUMS")}
    alter(exported, "acts", lambda lines: [*lines[:-2], lines[-2].replace(b'"ok"', b'"refused"'), lines[-1] * 2])
    alter(exported, "revocations", lambda lines: [line.replace(b'"reason" : ', b'"reason" : 1') for line in lines])
    if not is_listed:
        for name, octets in lists.items():
            (exported / name).write_bytes(octets)
    before = contents(exported)
    ended = prefca("archive", "export", exported)
    assert (ended.status, ended.complaint.endswith(f" items that the database does not have; {KEEP}")) == (3, True)
    assert contents(exported) == before
    other = exported.with_name("other")
    assert prefca("archive", "export", other).status == 0
    assert is_good(prefca, other)


@pytest.mark.req("R-4-12-2-3")
def test_media_of_which_the_database_knows_less_are_left_as_they_are(prefca: Prefca, exported: Path) -> None:
    """A month that nobody signed, and of which the database has nothing."""
    file = exported / bundles(exported)["acts"]["file"]
    shutil.copy(file, file.with_name("2019-01.jsonl.zst"))
    before = contents(exported)
    told = prefca("archive", "export", exported).complaint
    assert told == f"{file.with_name('2019-01.jsonl.zst')} is of a month of which the database has nothing; {KEEP}"
    assert contents(exported) == before


@pytest.mark.req("R-4-12-2-3", "R-4-12-2-6")
def test_segments_are_listed_as_the_database_knows_them(prefca: Prefca, exported: Path) -> None:
    """Whatever the list on the media says, and whatever it leaves out."""
    segments = exported / "journal" / "segments.jsonl"
    whole = segments.read_text()
    foreign = whole.splitlines()[0].replace('"number": 1', '"number": 9').replace("-00000001", "-00000009")
    for altered in (
        whole + foreign + "\n",
        whole.replace('"records": 15', '"records": 14'),
        whole.splitlines(keepends=True)[0],
        "",
        "[1]",
    ):
        assert altered != whole
        segments.write_text(altered)
        assert prefca("archive", "export", exported).status == 0
        assert segments.read_text() == whole
        assert is_good(prefca, exported)


@pytest.mark.req("R-4-12-2-3")
def test_media_with_journals_that_the_database_does_not_know_are_left_as_they_are(
    kept: Path, prefca: Prefca, exported: Path
) -> None:
    """Another segment in the place of one, one more, or a root: the media may be the only ones with it."""
    place = StreamPlace(exported.parent / "journal", kept / "keys" / "journal", "ocsp-0")
    journal = Journal(place, NOW)
    journal.append(answered("somebody"))
    journal.close(NOW)
    (other,) = place.segments.glob("*.jsonl")
    segment = exported / "journal" / "ocsp-0" / "ocsp-0-00000001.jsonl.zst"
    for file in (segment, segment.with_name("ocsp-0-00000009.jsonl.zst")):
        before = contents(exported)
        file.write_bytes(zstandard.compress(other.read_bytes()))
        altered = contents(exported)
        told = prefca("archive", "export", exported).complaint
        assert told == f"{file} is another segment than the database knows; {KEEP}"
        assert contents(exported) == altered
        file.unlink()
        for name, octets in before.items():
            (exported / name).write_bytes(octets)
    roots = exported / "journal" / "roots.jsonl"
    key = serialization.load_pem_private_key((kept / "keys" / "journal" / "issuer.pem").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    root = json.loads(roots.read_text().splitlines()[0])["root"].replace('"root":1', '"root":2')
    signature = base64.b64encode(key.sign(root.encode())).decode()
    whole = roots.read_text()
    roots.write_text(whole + json.dumps({"root": root, "signature": signature}) + "\n")
    assert "has a root that the database does not know" in prefca("archive", "export", exported).complaint
    roots.write_text(whole.replace("signature", "SIGNATURE") + "damaged")
    assert prefca("archive", "export", exported).status == 0
    assert roots.read_text() == whole
    assert is_good(prefca, exported)


@pytest.mark.req("R-4-12-2-3")
def test_what_a_medium_once_held_is_there_again_whatever_months_are_asked_for(prefca: Prefca, exported: Path) -> None:
    """It keeps its name, and what it holds is known by that."""
    shutil.rmtree(exported / "journal")
    for name in ("manifest.jsonl", "SHA256SUMS", bundles(exported)["acts"]["file"]):
        (exported / name).unlink()
    assert prefca("archive", "export", exported, "--from", "2019-01", "--to", "2019-01").status == 0
    assert bundles(exported).keys() >= {"acts", "lists"}
    assert (exported / "journal" / "ocsp-0" / "ocsp-0-00000001.jsonl.zst").exists()
    assert is_good(prefca, exported)


@pytest.mark.req("R-4-12-2-3")
def test_nothing_that_is_damaged_in_the_archive_goes_on_media(kept: Path, prefca: Prefca, media: Path) -> None:
    """It would be found there only when the good one is long gone."""
    file = kept / "archive" / "journal" / "ocsp-0" / "ocsp-0-00000001.jsonl.zst"
    file.write_bytes(file.read_bytes()[:-20])
    told = prefca("archive", "export", media).complaint
    assert f"{file} is not what was collected; see `prefca journal verify`" in told
    assert not (media / "statement.json").exists()


@pytest.mark.req("R-4-12-2-3")
@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("at", ["write_bundle", "lists", "write_lists"])
@pytest.mark.parametrize("is_new", [True, False], ids=["new media", "media with a month"])
def test_an_export_that_was_killed_is_completed_by_the_next(
    kept: Path, prefca: Prefca, media: Path, monkeypatch: pytest.MonkeyPatch, at: str, is_new: bool
) -> None:
    """Whatever was written; media that were good are believed meanwhile, for their lists are written last."""
    if not is_new:
        assert prefca("archive", "export", media, "--to", "2019-01").status == 0
    name = archive_media.named(media)[0]
    written(kept, "ocsp-1", answered("tester"))
    assert prefca("journal", "collect").status == 0
    with monkeypatch.context() as patch:
        patch.setattr(archive_media, at, interrupted)
        assert prefca("archive", "export", media).status == 130
    ended = prefca("archive", "export", media, "--json")
    assert len(bundles(media)) == 6
    assert ended.json["new"] == 6
    assert ("there is no statement.json" in ended.stderr) is is_new
    assert is_new or (ended.json["medium"], ended.stderr) == (name, "")
    assert is_good(prefca, media)


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.req("R-4-12-2-3")
@pytest.mark.usefixtures("later")
def test_what_came_late_into_a_month_is_added_to_it(prefca: Prefca, exported: Path) -> None:
    """The file of the month is written again, with all that it had."""
    before = items(exported, "revocations")
    serials = "SELECT upper(to_hex(serial)) FROM certificate WHERE kind = 'resident'"
    ((serial,),) = select(f"{serials} AND serial NOT IN (SELECT serial FROM revocation) LIMIT 1")
    assert prefca("revoke", serial, "--reason", "keyCompromise").status == 0
    assert prefca("archive", "export", exported, "--json").json["new"] == 2  # its act, too
    after = items(exported, "revocations")
    assert [item for item in after if item["serial"] != serial] == before  # it may be of the same second as others
    assert len(after) == len(before) + 1
    assert is_good(prefca, exported)


@pytest.mark.usefixtures("kept")
def test_a_month_that_is_not_over_waits(prefca: Prefca, media: Path) -> None:
    """Its journals are copied already."""
    ended = prefca("archive", "export", media, "--json").json
    assert (ended["files"], ended["segments"] >= 2) == (0, True)
    assert prefca("archive", "check", media).status == 0


@pytest.fixture
def tsa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TimeStampServer]:
    with time_stamp_server(tmp_path / "tsa") as server:
        monkeypatch.setenv("PREFCA_ARCHIVE__TIME_STAMP_AUTHORITY", server.address)
        monkeypatch.setenv("PREFCA_ARCHIVE__TIME_STAMP_ROOTS", str(server.roots))
        yield server


@pytest.mark.req("R-4-12-2-5")
@pytest.mark.usefixtures("kept", "later")
def test_media_are_stamped_as_a_whole(
    prefca: Prefca, media: Path, tsa: TimeStampServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the authority, when they are made; while it is away they are made all the same, and the next export has it."""
    tsa.is_away = True
    ended = prefca("archive", "export", media)
    assert (ended.status, "without a time stamp: the authority" in ended.stderr) == (0, True)
    tsa.is_away = False
    assert prefca("journal", "stamp").status == 0
    assert prefca("archive", "export", media).stderr == ""
    check = ("archive", "check", media, "--time-stamp-roots")
    told = prefca(*check, tsa.roots).stderr  # the authority knows no other time than the real one
    assert ("proves nothing" in told, "statement.json: made 20" in told, told.count("prefca: ")) == (False, True, 2)
    monkeypatch.setattr(archive, "now", lambda: datetime.now(UTC))
    assert prefca("archive", "export", media).status == 0
    assert prefca(*check, tsa.roots).status == 0
    with time_stamp_server(tmp_path / "other") as other:
        told = prefca(*check, other.roots).stderr
    assert "statement.json: its time stamp proves nothing" in told
    assert "journal/stamps.jsonl: root 1: its time stamp proves nothing" in told
    statement = json.loads((media / "statement.json").read_text())
    (media / "statement.json").write_text(json.dumps(statement | {"time_stamp": None}))
    assert "statement.json: it has no time stamp" in prefca(*check, tsa.roots).stderr


@pytest.mark.req("R-4-12-2-5")
@pytest.mark.usefixtures("later")
def test_roots_on_media_are_those_of_the_segments_there(kept: Path, prefca: Prefca, media: Path) -> None:
    """So that what was stamped is what is there, also when the database is no more."""
    written(kept, "ocsp-0", answered("tester"))
    assert prefca("journal", "collect").status == 0
    assert prefca("archive", "export", media).status == 0
    assert prefca("archive", "check", media).status == 0
    roots, segments = media / "journal" / "roots.jsonl", media / "journal" / "segments.jsonl"
    whole = segments.read_text()
    segments.write_text(whole.replace('"root": 2', '"root": 1'))
    assert (
        "journal/roots.jsonl: line 1: its tree is not that of the segments" in prefca("archive", "check", media).stderr
    )
    segments.write_text(whole)
    roots.write_text(roots.read_text().splitlines(keepends=True)[1])
    assert "journal/roots.jsonl: line 1: it does not follow the one before" in prefca("archive", "check", media).stderr


@pytest.mark.usefixtures("kept", "later")
def test_media_that_somebody_else_signed_are_refused(prefca: Prefca, media: Path) -> None:
    """By the key that the operators published."""
    assert prefca("archive", "export", media).status == 0
    other = base64.b64encode(base64.b64decode(prefca("journal", "key").stdout)[:-1] + b"?").decode()
    assert "signed with another key than the issuer's" in prefca("archive", "check", media, "--key", other).stderr
    assert prefca("archive", "check", media, "--key", "%").status == 2


def test_segments_of_some_months_alone_are_copied(kept: Path, prefca: Prefca, media: Path) -> None:
    """Those that have records of them, in Japan."""
    assert kept.exists()
    assert prefca("archive", "export", media, "--from", "2026-10", "--to", "2026-10").status == 0
    assert NOW.month == 10
    assert (media / "journal" / "ocsp-0" / "ocsp-0-00000001.jsonl.zst").exists()
    assert prefca("archive", "export", media.with_name("other"), "--from", "2019-01", "--to", "2019-02").status == 0
    assert not (media.with_name("other") / "journal" / "ocsp-0").exists()


@pytest.mark.req("R-4-12-2-3", "R-4-12-2-6")
@pytest.mark.usefixtures("kept")
def test_status_tells_of_media_that_were_not_made_or_read(
    prefca: Prefca, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test CA from its first media on; they have a name, which they keep."""
    began = datetime.now(UTC)

    def told(days: int) -> set[str]:
        for module in (archive, publishing):
            monkeypatch.setattr(module, "now", lambda: began + timedelta(days=days))
        standing = json.loads(prefca("status", "--check", "--json").stdout)
        return {one["name"] for one in standing if one["name"].startswith("archive_")}

    assert told(70) == set()
    name = prefca("archive", "export", media, "--json").json["medium"]
    assert told(70) == set()
    assert told(150) == {"archive_not_exported"}
    assert prefca("archive", "export", media, "--json").json["medium"] == name
    assert told(150) == set()
    assert told(500) == {"archive_not_exported", "archive_media_not_read"}
    assert prefca("archive", "export", media).status == 0
    assert f"medium {name}" in prefca("status").stdout
    assert told(500) == {"archive_media_not_read"}
    assert prefca("archive", "check", media, "--record").status == 0
    assert told(500) == set()
    file = media / bundles(media)["acts"]["file"]
    file.write_bytes(b"damaged")
    assert told(501) == set()
    assert prefca("archive", "check", media, "--record").status == 3
    assert told(502) == {"archive_media_not_read"}
