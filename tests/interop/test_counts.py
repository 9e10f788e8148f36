"""What relying parties count themselves is what the report says they were given, to the last request."""

import random
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from tests.support.load import WORKERS, ask, kill_workers, register, reported
from tests.support.running import installed_ca

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
            kill_workers(up, KILLS, random.Random(7))
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
