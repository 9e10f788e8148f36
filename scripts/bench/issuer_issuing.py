"""Issuing in bulk beside the raw signing rate of the same key, with as many processes, in the same run.

Each figure is that of a long run of `prefca issue` less a short one: what a further certificate takes, without the
second and a half of CPU time in which processes start. CPU times are of all that took part, PostgreSQL too: on a
machine that is not idle they are the figure to look at.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from responder import Row, show

from issuer.installation import database
from issuer.keys import open_keys
from issuer.profiles.sample import sample_notices
from pkix.multi_buffer import LANES
from pkix.signing import sign_each
from settings.load import load

GOAL = "0.9"
PROCESSES = len(os.sched_getaffinity(0))
CA_KEY = "test-tokyo-to-1"
PIN = "73105920"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PREFCA = Path(sys.executable).with_name("prefca")


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    short: int  # notices of a run
    long: int
    rounds: int
    raw_s: float  # of the raw measurement before each run


QUICK = Size(short=2_000, long=20_000, rounds=1, raw_s=3)
FULL = Size(short=5_000, long=100_000, rounds=3, raw_s=10)


@dataclass(frozen=True)
class Rate:
    """How fast, and what each cost."""

    per_s: float
    cpu_us: float


def measure(*, quick: bool) -> list[Row]:
    """The rows of the signers that there are."""
    size = QUICK if quick else FULL
    module = next(Path("/usr/lib").glob("**/softhsm/libsofthsm2.so"), None)
    rows = issuing("software key", None, size)
    return rows + (issuing("SoftHSM", module, size) if module else [])


def issuing(signer: str, module: Path | None, size: Size) -> list[Row]:
    """Raw signing and whole runs in turns."""
    with tempfile.TemporaryDirectory(prefix="prefca-bench-") as directory:
        Path(directory).chmod(0o755)  # PostgreSQL's account has to pass
        return asyncio.run(_issuing(signer, Path(directory), module, size))


async def _issuing(signer: str, directory: Path, module: Path | None, size: Size) -> list[Row]:
    options = [] if module is None else softhsm(directory, module)
    prefca(directory, "init", *options)
    keys = public_keys()
    raw, side_by_side, issued = [], [], []
    async with database(load(directory / "instance")):  # so that one server runs through all, and its time is known
        for number in range(size.rounds):
            raw.append(raw_rate(directory, size.raw_s, 1))
            if module is None:
                side_by_side.append(raw_rate(directory, size.raw_s, LANES))
            issued.append(issuing_rate(directory, size, number, keys))
    rows = beside(f"issuing, {signer}", issued, raw, "raw signing", GOAL)
    return rows + (beside(f"issuing, {signer}", issued, side_by_side, "raw, side by side", "-") if side_by_side else [])


def beside(case: str, issued: list[Rate], raw: list[Rate], raw_name: str, goal: str) -> list[Row]:
    """Medians; above 1 the ratio is better than the bare signature."""
    ours, peer = (median(rate.per_s for rate in rates) for rates in (issued, raw))
    ours_us, peer_us = (median(rate.cpu_us for rate in rates) for rates in (issued, raw))
    return [
        Row(f"{case}, {PROCESSES} processes", ours, peer, raw_name, "/s", ours / peer, goal),
        Row(f"{case}, CPU time", ours_us, peer_us, raw_name, "µs", peer_us / ours_us, goal),
    ]


def softhsm(directory: Path, module: Path) -> list[str]:
    """A token of its own, and the options of `prefca init` for it."""
    (directory / "tokens").mkdir()
    (directory / "pin").write_text(PIN)
    configuration = f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    (directory / "softhsm2.conf").write_text(configuration)
    run(directory, "softhsm2-util", "--init-token", "--free", "--label", "bench", "--pin", PIN, "--so-pin", PIN)
    return ["--signer", "pkcs11", "--module", str(module), "--token", "bench", "--pin-file", str(directory / "pin")]


def public_keys() -> Iterator[bytes]:
    """Keys that nobody has the private half of: each is made in microseconds."""
    for number in count():
        key = rsa.RSAPublicNumbers(65537, 2**2047 + 2 * number + 1).public_key()
        yield key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def write_notices(directory: Path, seed: int, notices: int, keys: Iterator[bytes]) -> Path:
    """A notice file of persons who have no certificate yet."""
    file = directory / f"notices-{seed}.jsonl"
    with file.open("w") as lines:
        for notice in sample_notices("Tokyo-to", notices, random.Random(seed), keys):  # noqa: S311 - invents persons
            notice["address"] = f"{notice['address']}号室{seed + 1}"
            lines.write(json.dumps(notice, ensure_ascii=False) + "\n")
    return file


def raw_rate(directory: Path, seconds: float, at_once: int) -> Rate:
    """What the key can sign, by as many processes as issue, so many at once in each."""
    signing = [
        subprocess.Popen(
            [sys.executable, __file__, "raw", directory / "instance", str(seconds), str(at_once)],
            env=environment(directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    for process in signing:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in signing:  # all of them before the first is waited for
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [json.loads(process.communicate()[0]) for process in signing]
    signatures = sum(signatures for signatures, _ in counts)
    return Rate(signatures / seconds, sum(cpu_s for _, cpu_s in counts) / signatures * 1e6)


def sign_for(instance: Path, seconds: float, at_once: int) -> None:
    """Sign until the time is over; print how often, and the CPU time."""
    signer = open_keys(load(instance)).signer(CA_KEY)
    messages = [b"message"] * at_once
    sign_each(signer, messages)
    print("ready", flush=True)
    sys.stdin.readline()
    signatures, begin_s, cpu_s = 0, time.monotonic(), time.process_time()
    while time.monotonic() < begin_s + seconds:
        sign_each(signer, messages)
        signatures += at_once
    print(json.dumps([signatures, time.process_time() - cpu_s]))


def issuing_rate(directory: Path, size: Size, seed: int, keys: Iterator[bytes]) -> Rate:
    """What the certificates that a long run has more than a short one took."""
    short_s, short_cpu_s = issuing_run(directory, write_notices(directory, 2 * seed, size.short, keys), size.short)
    long_s, long_cpu_s = issuing_run(directory, write_notices(directory, 2 * seed + 1, size.long, keys), size.long)
    more = size.long - size.short
    return Rate(more / (long_s - short_s), (long_cpu_s - short_cpu_s) / more * 1e6)


def issuing_run(directory: Path, notices: Path, number: int) -> tuple[float, float]:
    """Seconds and CPU seconds of a run of `prefca issue`."""
    before_s, begin_s = cpu_of_others_s(directory), time.monotonic()
    process = subprocess.Popen(
        [PREFCA, "issue", notices, "--results", directory / "results.jsonl", "--json"],
        env=environment(directory),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    issued = json.load(process.stdout)["issued"]
    _, status, usage = os.wait4(process.pid, 0)
    passed_s = time.monotonic() - begin_s
    assert (issued, status) == (number, 0)
    return passed_s, usage.ru_utime + usage.ru_stime + cpu_of_others_s(directory) - before_s


def cpu_of_others_s(directory: Path) -> float:
    """What PostgreSQL has used, the sessions that ended too."""
    data = directory / "instance" / "database"
    postmaster = int((data / "data" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    own = fields_of(postmaster)
    running = sum(sum(fields_of(int(child))[:2]) for child in children)
    return (sum(own) + running) / TICKS_PER_S


def fields_of(pid: int) -> list[int]:
    """Utime, stime, cutime and cstime of a process (proc(5))."""
    return [int(field) for field in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]]


def prefca(directory: Path, *arguments: str) -> None:
    """Run a command to its end."""
    run(directory, str(PREFCA), *arguments)


def run(directory: Path, *command: str) -> None:
    """Run a program to its end."""
    subprocess.run(command, env=environment(directory), check=True, stdout=subprocess.DEVNULL)


def environment(directory: Path) -> dict[str, str]:
    """What all programs of the run need."""
    return {
        **os.environ,
        "PREFCA_INSTANCE": str(directory / "instance"),
        "SOFTHSM2_CONF": str(directory / "softhsm2.conf"),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["raw"]:
        sign_for(Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
    else:
        show(measure(quick="--quick" in sys.argv), None)
