"""Measure prefca-repository beside slapd: answers a second."""

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import directories
from directories import Directory, crl_entries, small_entries
from ldap_results import Result
from ldap_slow_readers import slow_readers
from ldap_swap import swap
from ldaptor.protocols import pureldap

from pkix import der

LOAD_CORE = "1"
SEED = 20140401
FIRST_TOUCHES = 200_000  # more than any server answers in one run
LISTED = "certificateRevocationList"
EVERYTHING = pureldap.LDAPFilter_present("objectClass")
WARM_UP_S = 0.5  # of ldapload: its answers are not counted
SLOW_READERS = "64 readers of a 10 MB list at 1 KB/s"
SWAP = "publication swap, 2 workers"


@dataclass(frozen=True)
class Case:
    """What is asked, how, and how much better prefca is to be."""

    name: str
    requests: str  # name of a file of requests
    options: tuple[str, ...]  # of ldapload
    goal: float
    tls: bool = False


CASES = (
    Case("small entry, 8 connections", "small", ("-c8",), 2.5),
    Case("small entry, 64 connections", "small", ("-c64",), 2.5),
    Case("small entry, 8 connections, 16 in flight", "small", ("-c8", "-d16"), 12),
    Case("small entry, 8 connections beside 1,000 idle", "small", ("-c8", "-i1000"), 2),
    Case("100 KB list, 64 connections", "100k", ("-c64", "-m99000"), 1.5),
    Case("1 MB list, 8 connections", "1m", ("-c8", "-m990000"), 1.5),
    Case("1 MB list, 64 connections", "1m", ("-c64", "-m990000"), 1.5),
    Case("10 MB list, 8 connections", "10m", ("-c8", "-m9900000"), 1.5),
    Case("10 MB list, 64 connections", "10m", ("-c64", "-m9900000"), 1.5),
    Case("TLS, 100 KB list, 8 connections", "100k", ("-c8", "-m99000"), 1.2, tls=True),
    Case("TLS, 1 MB list, 8 connections", "1m", ("-c8", "-m990000"), 1.2, tls=True),
    Case("connect, bind, search, unbind, 8 at a time", "small", ("-c8", "-y"), 1.2),
    Case("TLS, connect, bind, search, unbind, 8 at a time", "small", ("-c8", "-y"), 1.2, tls=True),
    Case("first touch: searches never seen before, 8 connections", "new", ("-c8",), 0.25),
)


def main() -> None:
    """Run the cases that are asked for, or all."""
    parser = argparse.ArgumentParser(prog="scripts/bench/ldap", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 runs of 2 s for each case instead of 7 of 5 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="only cases whose name has this in it")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and so stop the servers
    runs, seconds = (3, 2.0) if arguments.quick else (7, 5.0)
    with tempfile.TemporaryDirectory(prefix="prefca-bench-") as scratch:
        Path(scratch).chmod(0o755)  # PostgreSQL runs under another account than root
        bench = Bench(Path(scratch), _compiled(Path(scratch)), runs, seconds)
        results = asyncio.run(_measure(bench, arguments.cases))
    if arguments.json is not None:
        told = [asdict(each) for each in results]
        arguments.json.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Measured:
    """One run of the load generator."""

    rate: float  # answers a second
    cpu_us: float  # of the server for each answer


@dataclass(frozen=True)
class Bench:
    """How measuring is done."""

    scratch: Path
    load: Path  # the load generator
    runs: int
    seconds: float

    def compare(self, case: Case, prefca: Directory, peer: Directory) -> Result:
        """Measure both in turns, since the speed of a machine varies."""
        ours: list[Measured] = []
        its: list[Measured] = []
        for _ in range(self.runs):
            ours.append(self.measure(case, prefca))
            its.append(self.measure(case, peer))
        rate, peer_rate = median(each.rate for each in ours), median(each.rate for each in its)
        cpu_ratio = median(each.cpu_us for each in its) / median(each.cpu_us for each in ours)
        return Result(case.name, rate, peer_rate, "answers/s", rate / peer_rate, f"{case.goal:g}", cpu_ratio)

    def measure(self, case: Case, server: Directory) -> Measured:
        """Put one server under load."""
        port = server.tls_port if case.tls else server.port
        arguments = [f"-p{port}", f"-f{self.scratch / case.requests}", f"-t{self.seconds}", *case.options]
        command = ["taskset", "-c", LOAD_CORE, self.load, f"-w{WARM_UP_S}", *arguments, *(("-T",) if case.tls else ())]
        before = server.cpu_s()
        done = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        spent = server.cpu_s() - before
        if done["errors"]:
            raise SystemExit(f"{case.name}: {done['errors']} wrong answers of {server.name}")
        rate = done["answers"] / done["seconds"]
        return Measured(rate, spent / (done["answers"] + rate * WARM_UP_S) * 1e6)


async def _measure(bench: Bench, wanted: Sequence[str]) -> list[Result]:
    values = list(directories.content())
    _write_requests(bench.scratch)
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}; medians of {bench.runs} runs of {bench.seconds} s")

    def is_wanted(name: str) -> bool:
        return not wanted or any(word in name for word in wanted)

    results: list[Result] = []

    def add(found: Iterable[Result]) -> None:
        for result in found:
            results.append(result)
            print(result.told(), flush=True)

    with directories.slapd(bench.scratch / "slapd", values) as peer:
        async with directories.prefca(bench.scratch / "instance", values) as prefca:
            for case in filter(lambda each: is_wanted(each.name), CASES):
                add([bench.compare(case, prefca, peer)])
            if is_wanted(SLOW_READERS):
                request = _message(_search(crl_entries("10m")[0], EVERYTHING, [LISTED]))
                add(
                    slow_readers(
                        SLOW_READERS, request, lambda server: bench.measure(CASES[0], server).rate, prefca, peer
                    )
                )
    if is_wanted(SWAP):
        instance, request = bench.scratch / "swapped", _message(_search(values[0].entry, EVERYTHING))
        async with directories.prefca(instance, values, workers=2) as prefca:
            add(await swap(SWAP, instance, request, values, prefca))
    return results


def _compiled(scratch: Path) -> Path:
    program, source = scratch / "ldapload", Path(__file__).with_name("ldapload.c")
    subprocess.run(["gcc", "-O2", "-o", program, source, "-lssl", "-lcrypto"], check=True)
    return program


# ---------------------------------------------------------------- requests


def _write_requests(scratch: Path) -> None:
    _write(scratch / "small", (_search(entry, EVERYTHING) for entry in small_entries()))
    for size in directories.CRL_SIZES:
        _write(scratch / size, (_search(entry, EVERYTHING, [LISTED]) for entry in crl_entries(size)))
    _write(scratch / "new", _new_searches())


def _new_searches() -> Iterator[bytes]:
    """Searches of small entries, each with another filter and other attributes; all find their entry."""
    chance = random.Random(SEED)  # noqa: S311 - the same searches in every run, no secret
    attributes = ["cACertificate", "authorityRevocationList", "ou", "objectClass", LISTED, "cn", "description"]
    true = pureldap.LDAPFilter_equalityMatch(
        pureldap.LDAPAttributeDescription("objectClass"), pureldap.LDAPAssertionValue("pkiCA")
    )
    for number in range(FIRST_TOUCHES):
        other = pureldap.LDAPFilter_equalityMatch(
            pureldap.LDAPAttributeDescription(chance.choice(["ou", "cn", "o"])),
            pureldap.LDAPAssertionValue(f"{number} {chance.random()}"),
        )
        operands = [true, pureldap.LDAPFilter_not(other)] if chance.random() < 0.5 else [other, true]
        combined = pureldap.LDAPFilter_and if operands[0] is true else pureldap.LDAPFilter_or
        asked = chance.sample(attributes, chance.randrange(1, len(attributes)))
        yield _search(chance.choice(small_entries()), combined(operands), asked)


def _search(base: str, search_filter: object, attributes: Sequence[str] = ()) -> bytes:
    octets: bytes = pureldap.LDAPSearchRequest(
        baseObject=base, scope=0, derefAliases=0, filter=search_filter, attributes=attributes
    ).toWire()
    return octets


def _message(operation: bytes) -> bytes:
    """With the message ID 1."""
    return der.sequence(der.integer(1), operation)


def _write(file: Path, searches: Iterable[bytes]) -> None:
    """In the form that ldapload reads: an anonymous bind, then the searches."""
    bind = pureldap.LDAPBindRequest().toWire()
    with file.open("wb") as out:
        for operation in (bind, *searches):
            out.write(len(operation).to_bytes(4, "big") + operation)


if __name__ == "__main__":
    main()
