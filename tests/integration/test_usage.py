"""How many items parties were given, up to this moment."""

import json
import os
import pty
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen

import pytest

from journal.record import Record
from journal.recovery import StreamPlace
from journal.writing import Journal
from tests.support.command import ROOT, Prefca, start
from tests.support.segments import together

pytestmark = pytest.mark.req("R-2-1-4-10", "R-4-5-1")
NOW = datetime(2026, 10, 15, 3, tzinfo=UTC)
LIST = "CN=Chiyoda-ku CRLDP,OU=CRL Distribution Points certificateRevocationList"


def asked(party: str | None = "tax", result: str = "good", at: datetime = NOW) -> Record:
    return Record(at, "ocsp_request", result, party, "192.0.2.1", "5A00000000000001", 1500)


def started(instance: Path, stream: str, *records: Record) -> Journal:
    """A process that has written these and goes on."""
    journal = Journal(StreamPlace(instance / "journal", instance / "keys" / "journal", stream), NOW)
    write(journal, *records)
    return journal


def write(journal: Journal, *records: Record) -> None:
    for record in records:
        journal.append(record)
    journal.flush()


def items(shown: dict[str, list[dict[str, object]]]) -> list[tuple[object, ...]]:
    return [(one["recipient"], one["method"], one["items"]) for one in shown["items"]]


def test_what_is_collected_and_what_is_not_count_together_once(instance: Path, prefca: Prefca) -> None:
    """Of the month or day in Japan that is asked for; refusals do not count."""
    started(instance, "ocsp-0", asked(), asked(at=NOW + timedelta(days=1)), asked(None, "unauthorized")).close(NOW)
    assert prefca("journal", "collect").status == 0
    waiting = started(instance, "ocsp-1", asked("pension"))
    waiting.append_line(together(asked("tax", "revoked"), asked("tax", "unauthorized")))
    waiting.close(NOW)
    lists = Record(NOW, "ldap_search", "success", "tax", "192.0.2.1", LIST, 90_000)
    running = started(instance, "repository-0", lists, asked(at=NOW + timedelta(days=30)))
    for _ in range(2):
        month = prefca("usage", "--month", "2026-10", "--json").json
        assert items(month) == [("pension", "OCSP", 1), ("tax", "OCSP", 3), ("tax", "CRL", 1)]
        day = prefca("usage", "--day", "2026-10-16", "--json").json
        assert (day["from"], day["to"], items(day)) == ("2026-10-16", "2026-10-16", [("tax", "OCSP", 1)])
        assert prefca("journal", "collect").status == 0
    assert "90,000" in prefca("usage", "--month", "2026-10").stdout
    running.close(NOW)


def test_counters_for_prometheus_are_since_the_beginning(instance: Path, prefca: Prefca) -> None:
    """So they only rise, whatever is collected."""
    started(instance, "ocsp-0", asked(), asked(at=NOW - timedelta(days=400)), asked(None)).close(NOW)
    for _ in range(2):
        lines = prefca("usage", "--prometheus").stdout.splitlines()
        assert 'prefca_usage_items_total{party="tax",method="OCSP"} 2' in lines
        assert 'prefca_usage_octets_total{party="",method="OCSP"} 1500' in lines
        assert "# TYPE prefca_usage_items_total counter" in lines
        assert prefca("journal", "collect").status == 0


def test_what_contradicts_itself_is_refused(shared_instance: Path, prefca: Prefca) -> None:
    """As a misuse."""
    assert shared_instance.exists()
    ended = prefca("usage", "--day", "2026-10-16", "--live")
    assert (ended.status, "without each other" in ended.complaint) == (2, True)


def test_live_shows_what_is_written_each_second_by_kind_and_party(shared_instance: Path) -> None:
    """What was there before is not shown; a party that falls silent stays, with nothing. Ctrl-C ends it."""
    running = started(shared_instance, "ocsp-0", *[asked("earlier")] * 5)
    process = start("usage", "--live", "--json", instance=shared_instance)
    told = lines(process)
    assert next(told)["rates"] == []
    write(running, *[asked()] * 3, asked(None, "unauthorized"))
    later = started(shared_instance, "ocsp-1", asked())
    while not (shown := next(told)["rates"]):
        pass
    total = {(one["kind"], one["party"]) for one in shown}
    while any(one["per_s"] for one in shown):
        shown = next(told)["rates"]
        total |= {(one["kind"], one["party"]) for one in shown}
    assert total == {("ocsp_request", ""), ("ocsp_request", "tax")}
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    running.close(NOW)
    later.close(NOW)


def lines(process: Popen[str]) -> Iterator[dict[str, list[dict[str, object]]]]:
    assert process.stdout is not None
    return (json.loads(line) for line in process.stdout)


def test_live_is_a_table_on_a_terminal(shared_instance: Path) -> None:
    """That is drawn anew each second."""
    try:
        outer, inner = pty.openpty()
    except OSError:
        pytest.skip("this machine has no terminals")
    running = started(shared_instance, "ocsp-0")
    command = [sys.executable, "-m", "issuer", "--instance", str(shared_instance), "usage", "--live"]
    with Popen(command, cwd=ROOT, stdout=inner, env={**os.environ, "TERM": "xterm"}) as process:
        shown = b""
        while b"tax" not in shown:
            write(running, asked())
            shown += os.read(outer, 65_536)
        process.send_signal(signal.SIGINT)
    for descriptor in (outer, inner):
        os.close(descriptor)
    assert b"ocsp_request" in shown
    running.close(NOW)
