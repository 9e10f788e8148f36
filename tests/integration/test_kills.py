"""Commands killed at any moment: what was reported is there, nothing is there twice, a repetition ends well."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen, TimeoutExpired

import pytest

from issuer.cli.issuing import BULK_LINES
from issuer.residents.bulk_revocation import PORTION_LINES
from issuer.residents.clerks import OneClerk
from tests.support.ca import notice_line
from tests.support.command import Prefca, finished, select, start

BATCH_LINES = OneClerk.batch_lines
NOTICES = 5 * BATCH_LINES
LISTS = 64
# Of residents who have no notice and no key; nobody looks into them.
ADD_CERTIFICATES = """
    INSERT INTO certificate
        (serial, generation_id, partition_id, kind, not_before, not_after, spki_sha256, der, issued_at)
    SELECT (1::bigint << 62) + n, 1, (SELECT max(partition_id) FROM partition WHERE kind = 'municipality'),
           'resident', now(), now() + interval '5 years', sha256(n::text::bytea), '', now()
    FROM generate_series(1, {count}) n RETURNING serial"""


@pytest.fixture
def notices(tmp_path: Path) -> Path:
    """Notices for several batches of registration."""
    file = tmp_path / "notices.jsonl"
    file.write_bytes(b"".join(notice_line(number) for number in range(NOTICES)))
    return file


def killed_until(
    enough: int, command: tuple[str, ...], results: Path, pause_s: Callable[[], float], instance: Path
) -> dict[int, str]:
    """Kill a command that works through a file, again and again, until it has reported enough; then let it end.

    Each run adds to what the one before has reported. Returns what was reported before the last run.
    """
    reported: dict[int, str] = {}
    while len(reported) < enough:
        process = start(*command, instance=instance)
        while len(serials_in(results)) <= len(reported) and process.poll() is None:
            time.sleep(0.02)
        time.sleep(pause_s())
        kill(process)
        seen = serials_in(results)
        assert reported.items() <= seen.items()
        reported = seen
    ended = finished(start(*command, instance=instance))
    assert (ended.status, ended.stderr) == (0, "")
    return reported


def assert_revoked_once(serials: list[str]) -> None:
    """Each of them and no other: in the table, in the feed and in the records."""
    assert {f"{serial:016X}" for (serial,) in select("SELECT serial FROM revocation")} == set(serials)
    told = select("SELECT key FROM change_v1 WHERE kind = 'revocation'")
    assert Counter(f"{serial:016X}" for (serial,) in told) == Counter(serials)
    recorded = select("SELECT object FROM operation_record WHERE kind = 'certificate_revoked'")
    assert Counter(serial for (serial,) in recorded) == Counter(serials)


def serials_in(results: Path) -> dict[int, str]:
    """Line to serial number, of the lines that are whole."""
    lines = results.read_text().splitlines(keepends=True) if results.exists() else []
    outcomes = [json.loads(line) for line in lines if line.endswith("\n")]
    return {outcome["line"]: outcome["serial"] for outcome in outcomes}


def kill(process: Popen[str]) -> str:
    """Kill it; what it printed before."""
    process.kill()
    return process.communicate()[0]


def kill_after(process: Popen[str], seconds: float) -> str:
    """Kill it, unless it ends before; what it printed."""
    try:
        return process.communicate(timeout=seconds)[0]
    except TimeoutExpired:
        return kill(process)


def duration_s(process: Popen[str]) -> float:
    """How long a command takes here and now."""
    begin = time.monotonic()
    assert finished(process).status == 0
    return time.monotonic() - begin


@pytest.mark.req("R-4-2-1", "R-4-2-3-1")
def test_whoever_was_reported_a_certificate_has_it_once(instance: Path, notices: Path, tmp_path: Path) -> None:
    """Issue, killed while it works on each of its batches, and then run to the end."""
    moments = random.Random(1)
    results = tmp_path / "results.jsonl"
    reported: dict[int, str] = {}
    for batch in range(NOTICES // BATCH_LINES - 1):
        results.unlink(missing_ok=True)
        process = start("issue", str(notices), "--results", str(results), instance=instance)
        while len(serials_in(results)) <= batch * BATCH_LINES and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        kill(process)
        seen = serials_in(results)
        assert seen.items() >= {line: serial for line, serial in reported.items() if line in seen}.items()
        reported |= seen
    assert len(reported) > BATCH_LINES
    ended = finished(start("issue", str(notices), "--results", str(results), instance=instance))
    assert (ended.status, ended.stderr) == (0, "")
    final = serials_in(results)
    assert reported.items() <= final.items()
    assert sorted(final) == list(range(1, NOTICES + 1))
    assert {f"{serial:016X}" for (serial,) in select("SELECT serial FROM holder")} == set(final.values())
    issued = select("SELECT object FROM operation_record WHERE detail->>'kind' = 'resident'")
    assert Counter(serial for (serial,) in issued) == Counter(final.values())


@pytest.mark.req("R-4-2-1", "R-4-2-3-1")
def test_a_long_file_that_is_killed_again_and_again_is_issued_once(instance: Path, tmp_path: Path) -> None:
    """Each run goes on where the one before was killed; in the end each line has its outcome."""
    moments = random.Random(4)
    notices, results = tmp_path / "long.jsonl", tmp_path / "long.results.jsonl"
    count = BULK_LINES + 1500
    notices.write_bytes(b"".join(notice_line(number) for number in range(count)))
    command = ("issue", str(notices), "--results", str(results))
    reported = killed_until(count - BULK_LINES, command, results, lambda: moments.uniform(0, 0.2), instance)
    final = serials_in(results)
    assert list(final) == list(range(1, count + 1))
    assert reported.items() <= final.items()
    recorded = select("SELECT object FROM operation_record WHERE detail->>'kind' = 'resident'")
    assert Counter(serial for (serial,) in recorded) == Counter(final.values())
    assert {f"{serial:016X}" for (serial,) in select("SELECT serial FROM holder")} == set(final.values())


@pytest.mark.req("R-4-4-2-4", "R-4-11-2-1")
def test_an_order_of_revocation_is_carried_out_wholly_or_not_at_all(
    instance: Path, notices: Path, tmp_path: Path, prefca: Prefca
) -> None:
    """Killed and repeated; each revocation is there once, in the feed and in the records too."""
    moments = random.Random(2)
    assert prefca("issue", notices, "--results", tmp_path / "results").status == 0
    serials = list(serials_in(tmp_path / "results").values())
    orders = [serials[number::5] for number in range(5)]
    typical_s = duration_s(start("revoke", *orders[0], "--reason", "5", instance=instance))
    for number, order in enumerate(orders[1:], 2):
        said = kill_after(
            start("revoke", *order, "--reason", "1", instance=instance), typical_s * moments.uniform(0.6, 1.1)
        )
        ((before,),) = select("SELECT count(*) FROM revocation")
        assert before in {(number - 1) * len(order), number * len(order)}
        assert not said or before == number * len(order)
        repeated = finished(start("revoke", *order, "--reason", "1", instance=instance))
        assert repeated.status == (0 if before < number * len(order) else 3)
    assert_revoked_once(serials)


@pytest.mark.req("R-4-4-2-4", "R-4-11-2-1")
def test_a_file_of_revocations_that_is_killed_again_and_again_is_carried_out_once(
    instance: Path, tmp_path: Path
) -> None:
    """Each run goes on where the one before was killed; each is there once, in the feed and in the records too."""
    moments = random.Random(5)
    notices, results = tmp_path / "revoke.jsonl", tmp_path / "revoke.jsonl.results.jsonl"
    count = 6 * PORTION_LINES
    serials = [f"{serial:016X}" for (serial,) in select(ADD_CERTIFICATES.format(count=count))]
    notices.write_text("".join(f'{{"serial": "{serial}", "reason": 5}}\n' for serial in serials))
    command = ("revoke", "--file", str(notices))
    killed_until(count - PORTION_LINES, command, results, lambda: moments.uniform(0, 0.3), instance)
    assert serials_in(results) == dict(enumerate(serials, 1))
    assert_revoked_once(serials)


@pytest.mark.req("R-4-4-3-1", "R-4-4-10")
def test_a_publication_in_force_is_always_whole(instance: Path, prefca: Prefca) -> None:
    """Whenever a batch is killed; numbers are skipped, never used again. `scripts/soak-batch` does it 200 times."""
    moments = random.Random(3)
    typical_s = duration_s(start("batch", "--now", instance=instance))
    published = 2
    for _ in range(12):
        said = kill_after(start("batch", "--now", instance=instance), typical_s * moments.uniform(0.6, 1.1))
        in_force = prefca("status", "--json").json
        assert len(in_force["lists"]) == LISTS
        assert len({made["crl_number"] for made in in_force["lists"]}) == 1
        number = in_force["publication"]["number"]
        assert number >= published
        assert not said or number > published
        published = number
    assert finished(start("batch", "--now", instance=instance)).status == 0
    whole = select(
        "SELECT count(*), count(partition_id), count(DISTINCT crl_number), bool_and(sha256 = sha256(value)),"
        " max(crl_number) FROM published_object GROUP BY publication_id ORDER BY publication_id"
    )
    assert [row[:4] for row in whole] == [(LISTS + 1, LISTS, 1, True)] * len(whole)
    numbers = [row[4] for row in whole]
    assert numbers == sorted(set(numbers))
    assert select("SELECT DISTINCT next_crl_number FROM partition") == [(numbers[-1] + 1,)]
