"""What `scripts/bench/ocsp` runs."""

import argparse
import asyncio
import base64
import contextlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.request import Request, urlopen

from cryptography.x509 import ocsp
from ocsp_certificate import answers_recorded, certificate_shown
from responder import SERVER_CORE, Load, Row, Site, free_ports, listens, path, run_program, show, site, weighed, wrk

CASES = ("repeated", "TLS", "signed", "revocations")
PROGRAMS = {"wrk": "wrk", "nginx": "nginx-light", "cfssl": "golang-cfssl", "openssl": "openssl", "cc": "gcc libssl-dev"}
REPEATED = 1000  # different certificates that are asked about again and again
WARM_UP_S = 2
REVOCATION_GOAL_MS = 100
HEADERS = {"Content-Type": "application/ocsp-request"}


@dataclass(frozen=True)
class Times:
    """How long, how often, how many."""

    seconds: float
    rounds: int
    certificates: int
    revocations: int


QUICK = Times(seconds=1, rounds=7, certificates=150_000, revocations=30)
FULL = Times(seconds=5, rounds=3, certificates=300_000, revocations=300)


async def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench/ocsp")
    parser.add_argument("--quick", action="store_true", help="seven rounds of 1 s each")
    parser.add_argument("--only", action="append", choices=CASES, help="these cases; may come several times")
    parser.add_argument("--json", type=Path, help="write the table to this file too")
    given = parser.parse_args()
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        sys.exit(f"missing: apt-get install --no-install-recommends {' '.join(missing)}")
    if (os.cpu_count() or 1) < 2:
        sys.exit("one core for the server and one for the load are needed; this machine has one core")
    show(await measure(QUICK if given.quick else FULL, given.only or CASES), given.json)


async def measure(times: Times, cases: Collection[str]) -> list[Row]:
    rows: list[Row] = []
    async with site(times.certificates) as ca:
        async with ca.running(1) as process:
            if "repeated" in cases:
                rows += await repeated(ca, process.pid, times)
            if "TLS" in cases:
                rows += await over_tls(ca, times)
        if "signed" in cases:
            rows += await signed_by_both(ca, times)
        if "revocations" in cases:
            async with ca.running(2, core=None):
                rows.append(await revocations(ca, times))
    return rows


# ---------------------------------------------------------------- kept answers


async def repeated(ca: Site, parent: int, times: Times) -> list[Row]:
    """The same certificates again and again, no nonce: beside cfssl and nginx."""
    rows: list[Row] = []
    answers = [await asyncio.to_thread(answer, ca, number) for number in range(REPEATED)]
    with cfssl(answers) as cfssl_port, nginx(len(answers[0])) as (nginx_port, nginx_parent):
        await listens(cfssl_port)
        await listens(nginx_port)
        for mode in ("post", "get"):
            questions = ca.write_questions(mode, range(REPEATED))
            posts = ca.write_questions("post", range(REPEATED))
            await asyncio.to_thread(wrk, ca.port, mode, questions, WARM_UP_S)  # all are kept from then on
            runs = {
                "prefca": partial(weighed, parent, partial(wrk, ca.port, mode, questions, times.seconds)),
                "cfssl": partial(wrk, cfssl_port, "post", posts, times.seconds),  # Debian's answers GET with HTTP 400
                "nginx": partial(weighed, nginx_parent, partial(wrk, nginx_port, mode, questions, times.seconds)),
            }
            loads = await interleaved(runs, times.rounds)
            per_s = {name: median(found, "per_s") for name, found in loads.items()}
            p99 = {name: median(found, "p99_ms") for name, found in loads.items()}
            cpu_us = {name: median(found, "cpu_us") for name, found in loads.items()}
            ours = per_s["prefca"]
            what = f"repeated, {mode.upper()}"
            rows += [
                Row(what, ours, per_s["cfssl"], "cfssl, POST", "/s", ours / per_s["cfssl"], "5"),
                Row(what, ours, per_s["nginx"], "nginx, static body", "/s", ours / per_s["nginx"], "0.9"),
                Row(
                    f"{what}, CPU",
                    cpu_us["prefca"],
                    cpu_us["nginx"],
                    "nginx, static body",
                    "us",
                    cpu_us["prefca"] / cpu_us["nginx"],
                    "<= 1.11",
                ),
                Row(
                    f"{what}, p99",
                    p99["prefca"],
                    p99["cfssl"],
                    "cfssl, POST",
                    "ms",
                    p99["prefca"] / p99["cfssl"],
                    "<= 1",
                ),
            ]
    rows.append(await with_idle_connections(ca, times, questions, ours))
    return rows


async def with_idle_connections(ca: Site, times: Times, questions: Path, without: float) -> Row:
    """A thousand connections that say nothing."""
    with contextlib.ExitStack() as open_connections:
        for _ in range(1000):
            open_connections.enter_context(socket.create_connection(("127.0.0.1", ca.port)))
        load = await asyncio.to_thread(wrk, ca.port, "get", questions, times.seconds)
    return Row(
        "repeated, GET, 1,000 idle connections",
        load.per_s,
        without,
        "prefca without",
        "/s",
        load.per_s / without,
        "0.9",
    )


def answer(ca: Site, number: int) -> bytes:
    """What the responder says of one certificate, asked with GET and POST; it must be good."""
    question = ca.question(number)
    with urlopen(f"http://127.0.0.1:{ca.port}{path(question)}") as response:
        to_get: bytes = response.read()
    with urlopen(Request(f"http://127.0.0.1:{ca.port}/", question, HEADERS)) as response:
        to_post: bytes = response.read()
    for octets in (to_get, to_post):
        assert ocsp.load_der_ocsp_response(octets).certificate_status is ocsp.OCSPCertStatus.GOOD
    return to_post


@contextlib.contextmanager
def cfssl(answers: list[bytes]) -> Iterator[int]:
    """`cfssl ocspserve` with signed answers; its port."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "responses"
        file.write_text("".join(base64.b64encode(each).decode() + "\n" for each in answers))
        (port,) = free_ports(1)
        with pinned(
            "cfssl", "ocspserve", "-address", "127.0.0.1", "-port", str(port), "-responses", str(file), "-loglevel", "5"
        ):
            yield port


@contextlib.contextmanager
def nginx(size: int) -> Iterator[tuple[int, int]]:
    """nginx that gives the same body to everybody; its port and the process that its worker is a child of."""
    with tempfile.TemporaryDirectory() as directory:
        (port,) = free_ports(1)
        configuration = Path(directory) / "nginx.conf"
        configuration.write_text(
            f"worker_processes 1; daemon off; pid {directory}/pid; error_log {directory}/error.log;"
            "events { worker_connections 4096; } http { access_log off; keepalive_requests 1000000000;"
            f" client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;"
            f" uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e; default_type application/ocsp-response;"
            f" server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 '{'x' * size}'; }} }} }}"
        )
        with pinned("nginx", "-c", str(configuration), "-e", f"{directory}/error.log") as process:
            yield port, process.pid


@contextlib.contextmanager
def pinned(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server on the server's core."""
    with subprocess.Popen(["taskset", "-c", SERVER_CORE, *command], stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


# ---------------------------------------------------------------- TLS


async def over_tls(ca: Site, times: Times) -> list[Row]:
    """Kept answers over TLS, without and with a client certificate, beside plain HTTP."""
    questions = ca.write_questions("post", range(REPEATED))
    async with certificate_shown(ca) as certificate:
        https = partial(wrk, ca.tls_port, "post", questions, times.seconds, scheme="https")
        runs = {
            "plain": partial(wrk, ca.port, "post", questions, times.seconds),
            "TLS": https,
            "TLS with client certificate": partial(https, environment=certificate),
        }
        loads = await interleaved(runs, times.rounds)
    plain = median(loads.pop("plain"), "per_s")
    shown = sum(load.requests for load in loads["TLS with client certificate"])
    assert answers_recorded(ca) >= shown, "the certificate was not what the party was recognised by"
    return [
        Row(f"repeated, POST, {how}", ours, plain, "prefca, plain HTTP", "/s", ours / plain, "0.5")
        for how, ours in ((how, median(found, "per_s")) for how, found in loads.items())
    ]


# ---------------------------------------------------------------- signatures


async def signed_by_both(ca: Site, times: Times) -> list[Row]:
    """First RSA-2048, then P-256."""
    async with ca.running(1) as process:
        rsa, rows = await signed(ca, process.pid, times, "RSA-2048")
    await ca.add_p256_delegate()
    async with ca.running(1) as process:
        p256, more = await signed(ca, process.pid, times, "P-256")
    rows += more
    alone = rows[0].peer
    for name, one, other in zip(("first touch", "nonce"), p256, rsa, strict=True):
        what = f"{name}, P-256 beside RSA-2048"
        rows.append(Row(what, one, alone, "openssl speed, RSA-2048", "/s", one / alone, "6"))
        rows.append(Row(what, one, other, "prefca, RSA-2048", "/s", one / other, "-"))
    return rows


async def signed(ca: Site, parent: int, times: Times, algorithm: str) -> tuple[tuple[float, float], list[Row]]:
    """Certificates that nobody has asked about, and nonces: beside signing alone, of which openssl counts CPU time."""
    many = ca.write_questions("post", range(REPEATED, ca.count))
    nonces = ca.write_questions("nonce", range(REPEATED))
    skip = 0
    touched: list[Load] = []
    nonced: list[Load] = []
    alone: list[float] = []
    for _ in range(times.rounds):
        new = partial(wrk, ca.port, "post", many, times.seconds, skip=skip)
        touched.append(await asyncio.to_thread(weighed, parent, new))
        skip += touched[-1].requests
        nonced.append(await asyncio.to_thread(weighed, parent, partial(wrk, ca.port, "nonce", nonces, times.seconds)))
        alone.append(await asyncio.to_thread(openssl_speed, "rsa2048" if algorithm == "RSA-2048" else "ecdsap256"))
    if skip > ca.count - REPEATED:
        print(f"note: {skip} questions about {ca.count - REPEATED} certificates: not all were new", file=sys.stderr)
    found = median(touched, "per_s"), median(nonced, "per_s")
    peer = statistics.median(alone)
    goal, cpu_goal = ("0.9", "<= 1.11") if algorithm == "RSA-2048" else ("-", "-")
    rows: list[Row] = []
    for case, loads in (("first touch", touched), ("nonce", nonced)):
        ours, cpu_us = median(loads, "per_s"), median(loads, "cpu_us")
        what = f"{case}, {algorithm}"
        rows.append(Row(what, ours, peer, "openssl speed", "/s", ours / peer, goal))
        rows.append(Row(f"{what}, CPU", cpu_us, 1e6 / peer, "openssl speed", "us", cpu_us * peer / 1e6, cpu_goal))
    return found, rows


def openssl_speed(algorithm: str) -> float:
    """Signatures a second on the server's core."""
    done = subprocess.run(
        ["taskset", "-c", SERVER_CORE, "openssl", "speed", "-seconds", "2", algorithm],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return float(done.splitlines()[-1].split()[-2])


# ---------------------------------------------------------------- revocations


async def revocations(ca: Site, times: Times) -> Row:
    """From COMMIT to the first `revoked` on every connection, with answers that were kept; both workers have some."""
    latencies: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        owner = await stack.enter_async_context(ca.owner())
        connections = [await stack.enter_async_context(asking(ca)) for _ in range(16)]
        for number in range(times.revocations):
            for ask in connections:
                assert await ask(number) is ocsp.OCSPCertStatus.GOOD
            await ca.revoke(owner, number)
            committed = time.perf_counter()
            await asyncio.gather(*(until_revoked(ask, number) for ask in connections))
            latencies.append((time.perf_counter() - committed) * 1e3)
    p99 = sorted(latencies)[int(len(latencies) * 0.99)]
    return Row(
        "revocation, COMMIT to revoked everywhere, p99",
        p99,
        REVOCATION_GOAL_MS,
        "goal",
        "ms",
        p99 / REVOCATION_GOAL_MS,
        "<= 1",
    )


Ask = Callable[[int], Awaitable[ocsp.OCSPCertStatus]]


async def until_revoked(ask: Ask, number: int) -> None:
    while await ask(number) is not ocsp.OCSPCertStatus.REVOKED:  # noqa: ASYNC110 - a client has no event to wait for
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def asking(ca: Site) -> AsyncIterator[Ask]:
    """A connection of one's own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ca.port)

    async def ask(number: int) -> ocsp.OCSPCertStatus:
        question = ca.question(number)
        head = (
            f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {HEADERS['Content-Type']}\r\nContent-Length: {len(question)}"
        )
        writer.write(head.encode() + b"\r\n\r\n" + question)
        answered = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", answered)
        assert length is not None
        return ocsp.load_der_ocsp_response(await reader.readexactly(int(length[1]))).certificate_status

    try:
        yield ask
    finally:
        writer.close()


# ---------------------------------------------------------------- figures


async def interleaved(runs: dict[str, Callable[[], Load]], rounds: int) -> dict[str, list[Load]]:
    """Each of them once a round: what the machine does besides hits all of them alike."""
    loads: dict[str, list[Load]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            loads[name].append(await asyncio.to_thread(run))
    return loads


def median(loads: list[Load], name: str) -> float:
    return statistics.median(getattr(load, name) for load in loads)


if __name__ == "__main__":
    run_program(main())
