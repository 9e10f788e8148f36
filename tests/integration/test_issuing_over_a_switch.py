"""`prefca issue` while another key of the CA takes over: one run, whose certificates are by both keys."""

import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from issuer.cli import issuing
from issuer.cli.results import Results, Written
from issuer.errors import NotNowError
from issuer.residents.clerks import ClerkProcesses, OneClerk
from tests.support.ca import notice_line
from tests.support.command import Prefca, select

LINES = 40
BATCH_LINES = 8

Meanwhile = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.req("R-4-13-1", "R-4-2-1")


def switch() -> None:
    """The next key takes over."""
    execute("UPDATE ca_generation SET state = 'retired' WHERE number = 1")
    execute("UPDATE ca_generation SET state = 'active' WHERE number = 2")


def compromise() -> None:
    """The key is out of control."""
    execute("UPDATE ca_generation SET state = 'compromised' WHERE number = 1")


def execute(sql: str) -> None:
    """In the database of the instance, in the midst of a run."""
    thread = threading.Thread(target=select, args=[sql])  # one that has no loop yet
    thread.start()
    thread.join()


@pytest.fixture
def prepared(instance: Path, prefca: Prefca) -> Path:
    """A CA whose next key is made."""
    assert prefca("key", "prepare").status == 0
    return instance


@pytest.fixture
def notices(tmp_path: Path) -> Path:
    """Of some residents."""
    file = tmp_path / "notices.jsonl"
    file.write_bytes(b"".join(notice_line(number) for number in range(LINES)))
    return file


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Let something happen after the first batch was reported."""
    monkeypatch.setattr(OneClerk, "batch_lines", BATCH_LINES)
    monkeypatch.setattr(ClerkProcesses, "batch_lines", BATCH_LINES)

    def arrange(act: Callable[[], object]) -> None:
        add = Results.add

        def add_and_act(self: Results, outcomes: Sequence[Written]) -> None:
            is_first = not self.done.line
            add(self, outcomes)
            if is_first:
                act()

        monkeypatch.setattr(Results, "add", add_and_act)

    return arrange


def signers(results: Path) -> list[int]:
    """Which of the CA's keys signed the certificate of each line; each line has one, in their order."""
    issuers = [
        x509.load_der_x509_certificate(der)
        for (der,) in select("SELECT certificate FROM ca_generation ORDER BY number")
    ]
    outcomes = [json.loads(line) for line in results.read_text().splitlines()]
    assert [outcome["line"] for outcome in outcomes] == list(range(1, len(outcomes) + 1))
    ders = dict(select("SELECT serial, der FROM certificate WHERE kind = 'resident'"))
    assert len(ders) == len(outcomes)
    certificates = [x509.load_der_x509_certificate(ders[int(outcome["serial"], 16)]) for outcome in outcomes]
    return [next(n for n, issuer in enumerate(issuers, 1) if is_by(each, issuer)) for each in certificates]


def is_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether that key signed it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize("bulk_lines", [LINES, 10], ids=["one clerk", "processes"])
def test_a_run_goes_on_with_the_new_key(
    prepared: Path,
    notices: Path,
    meanwhile: Meanwhile,
    prefca: Prefca,
    monkeypatch: pytest.MonkeyPatch,
    bulk_lines: int,
) -> None:
    """Behind the last line that was reported; nothing is lost, and nothing is there twice."""
    monkeypatch.setattr(issuing, "BULK_LINES", bulk_lines)
    meanwhile(switch)
    results = notices.with_name("results")
    ended = prefca("issue", notices, "--results", results, "--json")
    assert ended.json == {"issued": LINES, "issued_before": 0, "refused": 0, "results": str(results)}
    assert ended.stderr == "another key of the CA took over; the rest is issued with that\n"
    assert signers(results) == [1] * BATCH_LINES + [2] * (LINES - BATCH_LINES)
    assert not results.with_name("results.unfinished").exists()


def test_a_pipe_is_to_be_given_again(prepared: Path, notices: Path, meanwhile: Meanwhile, prefca: Prefca) -> None:
    """What was read of it is gone. What was issued is not issued twice."""
    meanwhile(switch)
    results = notices.with_name("results")
    ended = prefca("issue", piped(notices), "--results", results)
    assert ended.status == 4
    assert ended.complaint.endswith("what was not reported as done is not done: run it again")
    assert len(results.read_text().splitlines()) == BATCH_LINES
    counts = prefca("issue", piped(notices), "--results", results, "--json").json
    assert (counts["issued"], counts["issued_before"]) == (LINES - BATCH_LINES, BATCH_LINES)
    assert signers(results) == [1] * BATCH_LINES + [2] * (LINES - BATCH_LINES)


def piped(file: Path) -> str:
    """A pipe with the content of a small file; `prefca`, in this process, opens and empties it."""
    reading, writing = os.pipe()
    os.write(writing, file.read_bytes())
    os.close(writing)
    return f"/dev/fd/{reading}"


@pytest.mark.req("R-4-4-1-3")
def test_without_another_key_a_run_ends(prepared: Path, notices: Path, meanwhile: Meanwhile, prefca: Prefca) -> None:
    """After a compromise somebody has to decide what comes next."""
    meanwhile(compromise)
    ended = prefca("issue", notices, "--results", notices.with_name("results"))
    assert ended.status == 3
    assert ended.complaint == "the key that signed is no longer active; `prefca status` tells what to do"
    assert select("SELECT count(*) FROM holder") == [(BATCH_LINES,)]


def test_a_run_that_was_interrupted_before_the_switch_goes_on_after_it(
    prepared: Path, notices: Path, meanwhile: Meanwhile, prefca: Prefca
) -> None:
    """The CA is the same one, whichever of its keys signs."""

    def interrupt() -> None:
        raise NotNowError("the power failed")

    meanwhile(interrupt)
    results = notices.with_name("results")
    assert prefca("issue", notices, "--results", results).status == 4
    switch()
    counts = prefca("issue", notices, "--results", results, "--json").json
    assert (counts["issued"], counts["issued_before"]) == (LINES, 0)
    assert signers(results) == [1] * BATCH_LINES + [2] * (LINES - BATCH_LINES)
