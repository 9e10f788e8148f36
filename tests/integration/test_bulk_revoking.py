"""A file of revocation notices: each line has its outcome, and many take little time."""

import asyncio
import json
import stat
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from issuer.profiles.authority import Kind
from issuer.residents import bulk_revocation
from issuer.residents.bulk_revocation import Outcome, RevokedFor, revoke_lines
from issuer.residents.lines import Refused
from pkix.revocation import CRLReason, Revoked
from tests.support.ca import NOW, FoundedCA, notice_line
from tests.support.command import Prefca, select

HOUR = timedelta(hours=1)
PORTION_LINES = 8
REVOCATIONS = "SELECT count(*) FROM revocation"

pytestmark = pytest.mark.req("R-4-4-1-1", "R-4-4-2-1")


def line(serial: int | str, reason: object = 5, **more: object) -> bytes:
    """A notice."""
    written = serial if isinstance(serial, str) else f"{serial:016X}"
    return json.dumps({"serial": written, "reason": reason, **more}, ensure_ascii=False).encode() + b"\n"


async def outcomes_of(ca: FoundedCA, *lines: bytes, now: datetime = NOW) -> list[Outcome]:
    """What becomes of the lines."""
    return [one async for outcomes in revoke_lines(ca.installation, lines, lambda: now) for one in outcomes]


def codes(outcomes: Sequence[Outcome]) -> list[str]:
    """Of each outcome its code, or how it was revoked."""
    return [
        outcome.code if isinstance(outcome, Refused) else "revoked before" if outcome.again else "revoked"
        for outcome in outcomes
    ]


async def test_what_a_line_says_is_on_the_list_and_with_the_responder(ca: FoundedCA) -> None:
    """As the revocation of a single certificate: status, entry, change feed; its record has the notice's number."""
    (issued,) = await ca.issue(1)
    died = NOW - 24 * HOUR
    (outcome,) = await outcomes_of(
        ca,
        line(issued.serial, "affiliationChanged", notice_number="失-1", invalidity_date=f"{died:%Y-%m-%dT%H:%M:%SZ}"),
    )
    status = Revoked(NOW, CRLReason.AFFILIATION_CHANGED, died)
    assert outcome == RevokedFor(1, "失-1", issued.serial, status, again=False)
    async with ca.database.connect("prefca_ocsp") as responder:
        query = "SELECT (reason, revoked_at) FROM certificate_status_v1 WHERE serial = $1"
        assert await responder.fetchval(query, issued.serial) == (3, NOW)
        assert await responder.fetchval("SELECT key FROM change_v1 WHERE kind = 'revocation'") == issued.serial
    recorded = await ca.query("SELECT detail FROM operation_record WHERE kind = 'certificate_revoked'")
    assert json.loads(recorded) == {"reason": 3, "notice_number": "失-1"}
    await ca.publish(NOW)
    (entry,) = (await ca.lists())["132217"]
    assert entry.serial_number == issued.serial
    assert entry.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc == died


@pytest.mark.req("R-4-4-2-4", "R-4-4-4-2-2", "R-2-1-3-3")
async def test_a_line_that_is_refused_stops_no_other(ca: FoundedCA) -> None:
    """Each says why, in Japanese."""
    good, other, past = await ca.issue(1, 2, 3)
    (delegate,) = await ca.installation.store.newest_certificates(ca.installation.authority_id, Kind.OCSP, 1)
    await ca.revoke(past.serial, reason=CRLReason.KEY_COMPROMISE, now=NOW - HOUR)
    expected = [
        (line(good.serial), "revoked"),
        (b"[1]\n", "wrong-value"),
        (b"5A00\n", "not-json"),
        ('{"serial": "失効"}'.encode("shift_jis"), "not-utf-8"),
        (b"\xef\xbb\xbf" + line(good.serial, 6), "wrong-value"),
        (line(f"0x{good.serial:x}"), "revoked before"),
        (line(f"{good.serial}"), "revoked before"),
        (line(good.serial, "certificateHold"), "wrong-value"),
        (line(good.serial, True), "wrong-value"),
        (line(good.serial, 1.0), "wrong-value"),
        (line("serial"), "wrong-value"),
        (line(good.serial, resaon=1), "unknown-field"),
        (b'{"reason": 1}\n', "missing-field"),
        (b'{"serial": 1, "reason": 1}\n', "wrong-value"),
        (b'{"serial": "1", "reason": 1, "reason": 5}\n', "duplicate-field"),
        (line(good.serial, notice_number="\u3000"), "wrong-value"),
        (line(other.serial, invalidity_date="2026-04-02"), "in-the-future"),
        (line(other.serial, received_at="2026-04-01T12:00:01+09:00"), "in-the-future"),
        (line(other.serial, received_at="2026-02-30"), "wrong-value"),
        (line(2**62), "never-issued"),
        (line(2**64 - 1), "never-issued"),
        (line(ca.key.issuer.certificate.serial_number), "not-residents"),
        (line(delegate.serial), "not-residents"),
        (line(past.serial, 1), "revoked before"),
        (line(past.serial, 5), "revoked-otherwise"),
        (line(past.serial, 1, invalidity_date="2026-03-01"), "revoked-otherwise"),
        (line(good.serial), "revoked before"),
        (line(good.serial, 1), "revoked-otherwise"),
        (line(f"{other.serial:x}", "5"), "revoked"),
    ]
    outcomes = await outcomes_of(ca, *(content for content, _ in expected))
    assert codes(outcomes) == [code for _, code in expected]
    assert [outcome.line for outcome in outcomes] == list(range(1, len(expected) + 1))
    assert all(not outcome.message.isascii() for outcome in outcomes if isinstance(outcome, Refused))
    assert await ca.query(REVOCATIONS) == 3


@pytest.mark.req("R-2-1-3-3")
async def test_an_expired_certificate_needs_no_notice(ca: FoundedCA) -> None:
    """But one that was carried out has the outcome of before."""
    first, second = await ca.issue(1, 2)
    await outcomes_of(ca, line(first.serial))
    after = x509.load_der_x509_certificate(first.certificate).not_valid_after_utc + timedelta(seconds=1)
    assert codes(await outcomes_of(ca, line(first.serial), line(second.serial), now=after)) == [
        "revoked before",
        "expired",
    ]


@pytest.mark.req("R-4-4-3-1")
async def test_the_reception_of_a_notice_decides_its_list(ca: FoundedCA) -> None:
    """What was received before the cut-off, and is revoked after it, is on the list of that cut-off."""
    early, late = await ca.issue(1, 2)
    await outcomes_of(ca, line(early.serial, received_at="2026-04-01T11:00:00+09:00"), line(late.serial))
    query = "SELECT array_agg(serial) FROM revocation WHERE received_at <= $1"
    assert await ca.query(query, NOW - HOUR) == [early.serial]


@pytest.mark.req("R-4-4-2-4")
async def test_two_runs_of_one_file_revoke_each_once(ca: FoundedCA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second has the same to say; of several portions each is committed by itself."""
    monkeypatch.setattr(bulk_revocation, "PORTION_LINES", PORTION_LINES)
    lines = [line(issued.serial) for issued in await ca.issue(*range(20))]
    async with ca.another_process() as other:
        runs = await asyncio.gather(outcomes_of(ca, *lines), outcomes_of(other, *reversed(lines)))
    told = [code for run in runs for code in codes(run)]
    assert (told.count("revoked"), told.count("revoked before")) == (20, 20)
    assert await ca.query("SELECT count(*) FROM operation_record WHERE kind = 'certificate_revoked'") == 20
    assert await ca.query("SELECT count(DISTINCT key) FROM change WHERE kind = 'revocation'") == 20


def issued(prefca: Prefca, directory: Path, count: int) -> list[str]:
    """Serial numbers of new certificates."""
    notices, results = directory / "notices.jsonl", directory / "issued.jsonl"
    notices.write_bytes(b"".join(notice_line(number) for number in range(count)))
    assert prefca("issue", notices, "--results", results).status == 0
    return [json.loads(outcome)["serial"] for outcome in results.read_text().splitlines()]


def test_the_outcome_of_every_line_is_written_down(instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Beside the notices, for their owner only; the status tells that some were refused. It may be run again."""
    first, second = issued(prefca, tmp_path, 2)
    notices, results = tmp_path / "death.jsonl", tmp_path / "death.jsonl.results.jsonl"
    notices.write_bytes(line(first, notice_number="失-1") + b"\r\n" + line("5A") + line(second, 3))
    ended = prefca("revoke", "--file", notices)
    assert (ended.status, ended.stderr) == (3, "line 3: never-issued\n")
    assert ended.stdout == f"revoked 2, revoked before 0, refused 1; each line's outcome: {results}\n"
    told = [json.loads(outcome) for outcome in results.read_text().splitlines()]
    ((at,),) = select(
        "SELECT DISTINCT to_char(revoked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM revocation"
    )
    assert told[0] == {
        "line": 1,
        "notice_number": "失-1",
        "result": "revoked",
        "serial": first,
        "reason": "cessationOfOperation",
        "revoked_at": at,
    }
    assert [(one["line"], one["result"]) for one in told] == [(1, "revoked"), (3, "refused"), (4, "revoked")]
    assert told[1]["message"].startswith("このシリアル番号の電子証明書は")
    assert stat.S_IMODE(results.stat().st_mode) == 0o600
    assert not results.with_name(results.name + ".unfinished").exists()

    notices.write_bytes(line(first) + line(second, 3))
    again = prefca("revoke", "--file", notices, "--json").json
    assert again == {"revoked": 0, "revoked_before": 2, "refused": 0, "results": str(results)}
    assert {json.loads(outcome)["revoked_at"] for outcome in results.read_text().splitlines()} == {at}
