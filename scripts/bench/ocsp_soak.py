"""What `scripts/bench/soak` runs."""

import argparse
import asyncio
import random
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop
from cryptography.x509 import ocsp
from responder import NONCE_OCTETS, Row, Site, run_program, show, site

CERTIFICATES = 2000
CONNECTIONS = 32
LOAD_SHARE = 0.8
NONCE_SHARE = 0.02  # of the questions
VISIBLE_S = 0.1  # a revocation must be seen so soon after COMMIT
WARM_UP_SHARE = 0.25  # of the time: memory may still rise
MEMORY_GOAL = 1.05
MAXIMUM_S = 5.0


@dataclass
class Watch:
    """What has happened."""

    revoked: dict[int, float] = field(default_factory=dict)  # number of a certificate: moment of COMMIT
    answers: int = 0
    errors: int = 0
    stale: int = 0
    memory: list[int] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection that asks, and looks at every answer."""

    def __init__(self, ca: Site, watch: Watch, seed: int) -> None:
        self._ca = ca
        self._watch = watch
        self._random = random.Random(seed)  # noqa: S311 - chooses questions
        self._asked: deque[tuple[int, float]] = deque()
        self._received = b""
        self.idle = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self.idle.set()

    def ask(self) -> None:
        """About any certificate, now and then with a nonce."""
        number = self._random.randrange(CERTIFICATES)
        nonce = self._random.randbytes(NONCE_OCTETS) if self._random.random() < NONCE_SHARE else b""
        question = self._ca.question(number, nonce)
        self._asked.append((number, time.monotonic()))
        self.idle.clear()
        head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nContent-Length: "
        self._transport.write(f"{head}{len(question)}\r\n\r\n".encode() + question)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        begin = self._received.find(b"Content-Length: ") + 16
        length = int(self._received[begin : self._received.find(b"\r\n", begin)])
        if len(self._received) < end + length:
            return
        body, self._received = self._received[end : end + length], self._received[end + length :]
        self._judge(body)
        self.idle.set()

    def _judge(self, body: bytes) -> None:
        number, asked_at = self._asked.popleft()
        watch = self._watch
        watch.answers += 1
        response = ocsp.load_der_ocsp_response(body)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            watch.errors += 1
        elif response.certificate_status is ocsp.OCSPCertStatus.GOOD:
            committed = watch.revoked.get(number)
            if committed is not None and committed + VISIBLE_S < asked_at:
                watch.stale += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        self._watch.errors += bool(self._asked)
        self.idle.set()


async def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench/soak")
    parser.add_argument("--quick", action="store_true", help="one minute instead of ten")
    parser.add_argument("--json", type=Path, help="write the table to this file too")
    given = parser.parse_args()
    seconds = 60 if given.quick else 600
    watch = Watch()
    async with site(CERTIFICATES) as ca, ca.running(1) as process:
        loop = asyncio.get_running_loop()
        clients = [
            (await loop.create_connection(lambda n=n: Client(ca, watch, n), "127.0.0.1", ca.port))[1]
            for n in range(CONNECTIONS)
        ]
        await load(clients, watch, None, MAXIMUM_S)  # until answers are kept
        maximum = await load(clients, watch, None, MAXIMUM_S)
        rate = maximum * LOAD_SHARE
        print(f"maximum {maximum:.0f}/s of this client, load {rate:.0f}/s for {seconds} s", flush=True)
        async with asyncio.TaskGroup() as tasks:
            others = [
                tasks.create_task(revoke_each_second(ca, watch)),
                tasks.create_task(weigh_each_second(process.pid, watch)),
            ]
            reached = await load(clients, watch, rate, seconds)
            for other in others:
                other.cancel()
    settled = watch.memory[int(len(watch.memory) * WARM_UP_SHARE)]
    growth = max(watch.memory[-10:]) / settled
    rows = [
        Row("errors", watch.errors, watch.answers, "answers", "", 0.0, "0"),
        Row("stale answers", watch.stale, len(watch.revoked), "revocations", "", 0.0, "0"),
        Row("memory", watch.memory[-1] / 1e6, settled / 1e6, "after a quarter", "MB", growth, f"<= {MEMORY_GOAL}"),
        Row("answers", reached, rate, "load", "/s", reached / rate, "0.95"),
    ]
    show(rows, given.json)
    sys.exit(bool(watch.errors or watch.stale or growth > MEMORY_GOAL))


async def load(clients: list[Client], watch: Watch, rate: float | None, seconds: float) -> float:
    """Ask for some time, at `rate` or as fast as it goes; answers a second."""
    begun, before = time.monotonic(), watch.answers
    due = iter(range(10**12))

    async def ask_on(client: Client) -> None:
        while time.monotonic() < begun + seconds:
            await client.idle.wait()
            if rate is not None:
                await asyncio.sleep(begun + next(due) / rate - time.monotonic())
            client.ask()
        await client.idle.wait()

    await asyncio.gather(*map(ask_on, clients))
    return (watch.answers - before) / (time.monotonic() - begun)


async def revoke_each_second(ca: Site, watch: Watch) -> None:
    async with ca.owner() as connection:
        for number in range(CERTIFICATES):
            await ca.revoke(connection, number)
            watch.revoked[number] = time.monotonic()
            await asyncio.sleep(1)


async def weigh_each_second(parent: int, watch: Watch) -> None:
    """Resident memory of the workers."""
    while True:
        watch.memory.append(resident_bytes(parent))
        await asyncio.sleep(1)


def resident_bytes(parent: int) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    lines = [line for child in children for line in Path(f"/proc/{child}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    run_program(main())
