"""What relying parties count themselves is what the report says they were given, to the last request."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from tests.interop.clients import run
from tests.support.load import WORKERS, ask, kill_workers, register, reported
from tests.support.running import RunningCA, eventually, installed_ca

CLIENTS, REQUESTS, KILLS = 3, 400, 6


@pytest.mark.req("R-4-5-1", "R-2-1-4-10", "R-4-11-2-1", "R-4-11-9")
@pytest.mark.timeout(240)
def test_the_report_is_what_the_clients_counted_whatever_was_killed() -> None:
    """Over HTTP and LDAP, several workers each: exactly without kills; with kills, none that arrived is missing."""
    with installed_ca() as ca:
        steady, restless = register(ca, "steady", "127.0.0.2"), register(ca, "restless", "127.0.0.3")
        with ca.up(**WORKERS) as up, ThreadPoolExecutor(1) as thread:
            ask(ca, steady, CLIENTS, REQUESTS)
            stop = Event()
            asking = thread.submit(ask, ca, restless, CLIENTS, None, stop)
            try:
                kill_workers(up, KILLS, random.Random(7))
            finally:
                stop.set()
            asking.result()
            ask(ca, steady, CLIENTS, REQUESTS)
        ca.prefca("journal", "collect")
        ca.prefca("journal", "verify")
        assert reported(ca, steady) == dict(steady.given)
        for method, items in reported(ca, restless).items():
            given = restless.given[method]
            assert given <= items <= given + restless.unsure[method]
        assert steady.given["OCSP"] == 2 * CLIENTS * REQUESTS


@pytest.mark.req("R-4-5-1", "R-2-1-4-10")
def test_the_octets_are_what_the_client_received(running_ca: RunningCA, tmp_path: Path) -> None:
    """Those of an answer about several certificates are counted once, its certificates each."""
    ca, question, answer = running_ca, tmp_path / "question.der", tmp_path / "answer.der"
    party = register(ca, "careful", "127.0.0.4")
    certificates = ("-cert", ca.good, "-cert", ca.revoked)
    run("openssl", "ocsp", "-issuer", ca.ca, *certificates, "-no_nonce", "-reqout", question)
    send = ("curl", "-sS", "--interface", party.address, "-H", "Content-Type: application/ocsp-request")
    sent = (*send, "-o", answer, "-w", "%{size_download}", "--data-binary", f"@{question}", ca.ocsp_url)

    def given() -> int:
        octets = int(run(*sent).stdout)
        return octets if octets > len("error") else 0

    octets = eventually(given, "the party is known") + given() + given()
    (shown,) = (one for one in ca.report("usage")["items"] if one["recipient"] == party.name)
    assert (shown["method"], shown["items"], shown["octets"]) == ("OCSP", 6, octets)
