"""What `scripts/soak-batch` runs."""

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from issuer_lists import Site, site

REVOCATIONS = 100_000
OBJECTS, LISTS = 65, 64  # of Tokyo: the lists, and the CA's certificate
ENDED_RUNS = 10  # of so many runs one is not killed
STARTING = 0.25  # of the kills come before numbers are reserved
SAMPLES = 3  # lists of each publication that openssl verifies


@dataclass(frozen=True)
class InForce:
    """A publication."""

    number: int
    crl_number: int


async def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/soak-batch")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    moments = random.Random(given.seed)  # noqa: S311 - moments to kill at
    async with site() as ca:
        await ca.fill(REVOCATIONS)
        await soak(ca, given.kills, moments)
        print("the archive, list by list:")
        ca.prefca("crl", "verify", "--all")
        print("every list that was ever published verifies, and its numbers rise")


async def soak(ca: Site, kills: int, moments: random.Random) -> None:
    """Killed while they start, and while lists are made and published."""
    outcomes: Counter[str] = Counter()
    typical = await run(ca, None)
    before = await check(ca, moments)
    while outcomes["killed"] < kills:
        ends = sum(outcomes.values()) % ENDED_RUNS == ENDED_RUNS - 1
        ran = await run(ca, None if ends else Kill.at_random(typical, moments))
        after = await check(ca, moments)
        assert (after.number > before.number) == (after.crl_number > before.crl_number), (before, after)
        assert ran.status in {0, None}, f"`prefca batch` ended with status {ran.status}"
        assert ran.status is None or after.number > before.number, "a run that ended has published nothing"
        if ends:
            reserved = await ca.owner.fetchval("SELECT max(next_crl_number) FROM partition")
            assert after.crl_number == reserved - 1, "the last numbers that were reserved are not in force"
        if ran.status is None:
            outcomes["killed"] += 1
            print(f"killed {ran}: publication {after.number} is in force with CRLNumber {after.crl_number}", flush=True)
        else:
            outcomes["ended"] += 1
        before = after
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))


@dataclass(frozen=True)
class Run:
    """A batch."""

    status: int | None  # None: it was killed
    starting_s: float  # until numbers were reserved, or until it was killed before
    making_s: float  # from then on

    def __str__(self) -> str:
        return f"after {self.starting_s:.2f} s and {self.making_s:.2f} s of making lists"


@dataclass(frozen=True)
class Kill:
    """When: from the start, or from the moment on at which numbers are reserved."""

    starting: bool
    seconds: float

    @classmethod
    def at_random(cls, typical: Run, moments: random.Random) -> "Kill":
        starting = moments.random() < STARTING
        return cls(starting, moments.uniform(0, typical.starting_s if starting else typical.making_s))


async def run(ca: Site, kill: Kill | None) -> Run:
    reserved = await ca.owner.fetchval("SELECT max(next_crl_number) FROM partition")
    began = time.monotonic()
    command = [sys.executable, "-m", "issuer", "batch", "--now"]
    process = subprocess.Popen(command, env=ca.environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if await ca.owner.fetchval("SELECT max(next_crl_number) FROM partition") > reserved:
            break
        if kill is not None and kill.starting and time.monotonic() - began > kill.seconds:
            process.kill()
            process.wait()
            return Run(None, time.monotonic() - began, 0)
    making = time.monotonic()
    try:
        status: int | None = process.wait(None if kill is None else kill.seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        status = None
    return Run(status, making - began, time.monotonic() - making)


async def check(ca: Site, moments: random.Random) -> InForce:
    """What is in force is whole and sound."""
    number = await ca.owner.fetchval("SELECT publication_id FROM publication_v1")
    whole = await ca.owner.fetchrow(
        "SELECT count(*) AS objects, count(crl_number) AS lists, count(DISTINCT crl_number) AS numbers,"
        " bool_and(sha256(value) = sha256) AS sound, sum(entries) AS entries, max(crl_number) AS crl_number"
        " FROM published_object WHERE publication_id = $1",
        number,
    )
    assert whole is not None
    assert (whole["objects"], whole["lists"], whole["numbers"], whole["sound"]) == (OBJECTS, LISTS, 1, True), whole
    assert whole["entries"] >= REVOCATIONS, whole
    strays = await ca.owner.fetchval(
        "SELECT count(*) FROM published_object o LEFT JOIN publication p USING (publication_id)"
        " WHERE p.publication_id IS NULL"
    )
    assert strays == 0
    rows = await ca.owner.fetch(
        "SELECT value FROM published_object WHERE publication_id = $1 AND position = ANY($2)",
        *(number, moments.sample(range(1, OBJECTS), SAMPLES)),
    )
    certificate = await ca.owner.fetchval("SELECT certificate FROM ca_generation")
    for row in rows:
        openssl_verifies(certificate, row["value"])
    return InForce(number, whole["crl_number"])


def openssl_verifies(certificate: bytes, crl: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        ca, file = Path(directory) / "ca.pem", Path(directory) / "crl.der"
        ca.write_bytes(x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM))
        file.write_bytes(crl)
        command = ["openssl", "crl", "-inform", "DER", "-in", str(file), "-CAfile", str(ca), "-noout"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verify OK" in done.stderr, done.stderr


if __name__ == "__main__":
    asyncio.run(main())
