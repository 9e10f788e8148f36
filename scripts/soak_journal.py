"""What `scripts/soak-journal` runs."""

import argparse
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from tests.support.load import WORKERS, Party, ask, kill_workers, register, reported
from tests.support.running import RunningCA, installed_ca

CLIENTS = 3  # of each protocol


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/soak-journal")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--requests", type=int, default=20_000, help="of each client, while nobody is killed")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with installed_ca() as ca:
        steady, restless = register(ca, "steady", "127.0.0.2"), register(ca, "restless", "127.0.0.3")
        with ca.up(**WORKERS) as up, ThreadPoolExecutor(1) as thread:
            ask(ca, steady, CLIENTS, given.requests)
            print(f"{steady.given.total():,} answers while nobody was killed", flush=True)
            stop = Event()
            asking = thread.submit(ask, ca, restless, CLIENTS, None, stop)
            try:
                kill_workers(up, given.kills, random.Random(given.seed))  # noqa: S311 - moments to kill at
            finally:
                stop.set()
            asking.result()
        print(f"{restless.given.total():,} answers during {given.kills} kills", flush=True)
        ca.prefca("journal", "collect")
        ca.prefca("journal", "verify")
        check(ca, steady)
        check(ca, restless)


def check(ca: RunningCA, party: Party) -> None:
    """The report has every answer that arrived, and nothing that was not asked for."""
    for method, items in reported(ca, party).items():
        given, unsure = party.given[method], party.unsure[method]
        print(
            f"{party.name}, {method}: {given:,} counted, {items:,} reported, {unsure:,} lost with a worker", flush=True
        )
        assert given <= items <= given + unsure, "the report is wrong"


if __name__ == "__main__":
    main()
