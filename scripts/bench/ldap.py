"""Measure prefca-repository beside slapd: answers a second."""

import argparse
import asyncio
import json
import os
import platform
import random
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import directories
from directories import Directory, crl_entries, small_entries
from ldaptor.protocols import pureldap

LOAD_CORE = "1"
SEED = 20140401
FIRST_TOUCHES = 200_000  # more than any server answers in one run
LISTED = "certificateRevocationList"


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
    runs, seconds = (3, 2.0) if arguments.quick else (7, 5.0)
    with tempfile.TemporaryDirectory(prefix="prefca-bench-") as scratch:
        Path(scratch).chmod(0o755)  # PostgreSQL runs under another account than root
        bench = Bench(Path(scratch), _compiled(Path(scratch)), runs, seconds)
        results = asyncio.run(_measure(bench, arguments.cases))
    if arguments.json is not None:
        told = [{**asdict(each), "peer_name": "slapd"} for each in results]
        arguments.json.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Result:
    """What a case came to, in medians."""

    case: str
    prefca: float
    peer: float
    unit: str
    ratio: float  # how much better prefca is
    goal: float

    def told(self) -> str:
        """For people, and for the table in docs/performance.md."""
        rates = f"prefca {self.prefca:10,.0f}  slapd {self.peer:10,.0f} {self.unit}"
        return f"{self.case:58} {rates:48} {self.ratio:6.2f} × (goal {self.goal:g} ×)"


@dataclass(frozen=True)
class Bench:
    """How measuring is done."""

    scratch: Path
    load: Path  # the load generator
    runs: int
    seconds: float

    def compare(self, case: Case, prefca: Directory, peer: Directory) -> Result:
        """Measure both in turns, since the speed of a machine varies."""
        rates: dict[str, list[float]] = {prefca.name: [], peer.name: []}
        for _ in range(self.runs):
            for server in (prefca, peer):
                rates[server.name].append(self._rate(case, server))
        ours, its = median(rates[prefca.name]), median(rates[peer.name])
        return Result(case.name, ours, its, "answers/s", ours / its, case.goal)

    def _rate(self, case: Case, server: Directory) -> float:
        port = server.tls_port if case.tls else server.port
        arguments = [f"-p{port}", f"-f{self.scratch / case.requests}", f"-t{self.seconds}", *case.options]
        command = ["taskset", "-c", LOAD_CORE, self.load, *arguments, *(("-T",) if case.tls else ())]
        done = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        if done["errors"]:
            raise SystemExit(f"{case.name}: {done['errors']} wrong answers of {server.name}")
        rate: float = done["answers"] / done["seconds"]
        return rate


async def _measure(bench: Bench, wanted: Sequence[str]) -> list[Result]:
    values = list(directories.content())
    _write_requests(bench.scratch)
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}; medians of {bench.runs} runs of {bench.seconds} s")
    results = []
    with directories.slapd(bench.scratch / "slapd", values) as peer:
        async with directories.prefca(bench.scratch / "instance", values) as prefca:
            steps = {case.name: partial(bench.compare, case, prefca, peer) for case in CASES}
            for name, step in steps.items():
                if not wanted or any(word in name for word in wanted):
                    results.append(step())
                    print(results[-1].told(), flush=True)
    return results


def _compiled(scratch: Path) -> Path:
    program, source = scratch / "ldapload", Path(__file__).with_name("ldapload.c")
    subprocess.run(["gcc", "-O2", "-o", program, source, "-lssl", "-lcrypto"], check=True)
    return program


# ---------------------------------------------------------------- requests


def _write_requests(scratch: Path) -> None:
    everything = pureldap.LDAPFilter_present("objectClass")
    _write(scratch / "small", (_search(entry, everything) for entry in small_entries()))
    for size in directories.CRL_SIZES:
        _write(scratch / size, (_search(entry, everything, [LISTED]) for entry in crl_entries(size)))
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


def _write(file: Path, searches: Iterable[bytes]) -> None:
    """In the form that ldapload reads: an anonymous bind, then the searches."""
    bind = pureldap.LDAPBindRequest().toWire()
    with file.open("wb") as out:
        for operation in (bind, *searches):
            out.write(len(operation).to_bytes(4, "big") + operation)


if __name__ == "__main__":
    main()
