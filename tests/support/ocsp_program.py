"""A `prefca-ocsp` process to ask, and what it serves: a certificate of a CA with one delegate."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from aiohttp import ClientSession

from tests.support.ocsp import CA, PASSPHRASE, SERIAL, Records, around, key_store, request, rsa_key

NOW = datetime.now(UTC)
CA_1 = CA(NOW)
KEY = rsa_key("delegate")
DELEGATE = CA_1.delegate(SERIAL - 1, KEY)
ASKED = request(CA_1.cert_id(SERIAL))


def set_up(instance: Path) -> None:
    """Make a directory that of an installation with the key of DELEGATE."""
    key_store(instance / "keys", (DELEGATE.serial, KEY))
    (instance / "secrets").mkdir()
    (instance / "secrets" / "ocsp-key.passphrase").write_bytes(PASSPHRASE + b"\n")


async def fill(records: Records) -> None:
    """Record CA_1 with DELEGATE, and a certificate; whoever asks from this machine is a relying party."""
    await records.add_ca(CA_1, DELEGATE)
    await records.add(SERIAL)
    await records.grant("verifier", "127.0.0.0/8", around(NOW))


class Reachable(Protocol):
    """A database."""

    @property
    def dsn(self) -> str:
        """Where it is."""


@dataclass
class Program:
    """A running `prefca-ocsp`."""

    process: asyncio.subprocess.Process
    events: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""  # once it listens
    admin: str = ""  # URL of the admin listener

    async def event(self, name: str) -> dict[str, Any]:
        """The next event of that name in its log."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            async for line in self.process.stderr:
                self.events.append(json.loads(line))
                if self.events[-1]["event"] == name:
                    return self.events[-1]
        raise AssertionError(f"no event {name}: {self.events}")

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    async def look(self, path: str) -> tuple[int, str]:
        """HTTP status and body of the admin listener."""
        async with ClientSession() as session, session.get(self.admin + path) as response:
            return response.status, await response.text()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()


async def start(instance: Path, database: Reachable, *options: str, **environment: str) -> Program:
    """Start the program on free ports."""
    settings = {
        "PREFCA_DATABASE__DSN": database.dsn,
        "PREFCA_OCSP__LISTEN": "127.0.0.1:0",
        "PREFCA_OCSP__ADMIN_LISTEN": "127.0.0.1:0",
        "PREFCA_OCSP__WORKERS": "1",
        "PREFCA_OCSP__TLS_LISTEN": "",
        "PREFCA_LOG__FORMAT": "json",
    }
    return Program(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ocsp", "--instance", str(instance), *options),
            env=os.environ | settings | environment,
            stderr=asyncio.subprocess.PIPE,
        )
    )


@asynccontextmanager
async def running(
    instance: Path, database: Reachable, *options: str, **environment: str
) -> AsyncIterator[tuple[Program, str]]:
    """The program, and its URL."""
    program = await start(instance, database, *options, **environment)
    try:
        listening = await program.event("listening")
        program.url, program.admin = f"http://{listening['endpoints']}/", f"http://{listening['admin']}/"
        yield program, program.url
    finally:
        if program.process.returncode is None:
            program.process.kill()
            await program.process.wait()
