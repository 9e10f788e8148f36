"""A prefca responder to measure: an installation of its own, many certificates, questions for them."""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from issuer.installation import active_key, opened
from issuer.postgres.embedded import postgres
from issuer.profiles.authority import Kind
from issuer.profiles.profile import MIN_SERIAL, ocsp_delegate, serial_number
from pkix import der, software
from pkix.certid import issuer_hashes
from pkix.signing import sign, signed, tbs_certificate
from settings.database import connect_arguments
from settings.load import Settings, load

SHA_1 = "1.3.14.3.2.26"
NONCE = "1.3.6.1.5.5.7.48.1.2"
NONCE_OCTETS = 16
FIRST_SERIAL = MIN_SERIAL + 10**12
HERE = Path(__file__).parent
SERVER_CORE, LOAD_CORE = "0", "1"


@dataclass(frozen=True)
class Site:
    """A CA with certificates that nobody has, and what to ask about them."""

    settings: Settings
    issuer: bytes  # the beginning of a CertID
    count: int
    port: int
    tls_port: int
    admin_port: int

    @property
    def instance(self) -> Path:
        return self.settings.instance

    def question(self, number: int, nonce: bytes = b"") -> bytes:
        """The DER of an OCSPRequest, as simple clients send it: SHA-1."""
        cert_id = der.sequence(self.issuer, der.integer(FIRST_SERIAL + number))
        extension = der.explicit(2, der.sequence(der.extension(NONCE, der.octet_string(nonce)))) if nonce else b""
        return der.sequence(der.sequence(der.sequence(der.sequence(cert_id)), extension))

    def write_questions(self, name: str, numbers: Sequence[int]) -> Path:
        """A file for ocsp.lua; `name` is post, get or nonce."""
        file = self.instance / f"{name}-{len(numbers)}.txt"
        with file.open("w") as lines:
            for number in numbers:
                question = self.question(number, bytes(NONCE_OCTETS) if name == "nonce" else b"")
                lines.write((path(question) if name == "get" else question.hex()) + "\n")
        return file

    @contextlib.asynccontextmanager
    async def owner(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection to the database."""
        connection = await asyncpg.connect(**connect_arguments(self.settings, "owner"))
        try:
            yield connection
        finally:
            await connection.close()

    async def revoke(self, connection: asyncpg.Connection, number: int) -> None:
        """Revoke one certificate, as `prefca revoke` does to the tables."""
        await connection.execute(
            "INSERT INTO revocation (serial, partition_id, reason, received_at, revoked_at, not_after, entry)"
            " SELECT serial, partition_id, 1, now(), now(), not_after, '\\x30270208'::bytea || int8send(serial)"
            " FROM certificate WHERE serial = $1",
            FIRST_SERIAL + number,
        )

    @contextlib.asynccontextmanager
    async def running(self, workers: int, core: str | None = SERVER_CORE) -> AsyncIterator[subprocess.Popen[str]]:
        """`prefca-ocsp`, pinned to a core."""
        environment = os.environ | {
            "PREFCA_OCSP__LISTEN": f"127.0.0.1:{self.port}",
            "PREFCA_OCSP__TLS_LISTEN": f"127.0.0.1:{self.tls_port}",
            "PREFCA_OCSP__ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}",
            "PREFCA_LOG__LEVEL": "warning",
        }
        command = [sys.executable, "-m", "ocsp", "--instance", str(self.instance), "--workers", str(workers)]
        pinned = ["taskset", "-c", core] if core is not None else []
        with subprocess.Popen([*pinned, *command], env=environment, text=True) as process:
            try:
                await listens(self.port)
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait()

    async def add_p256_delegate(self) -> None:
        """From now on, a P-256 key signs."""
        key = ec.generate_private_key(ec.SECP256R1())
        serial = serial_number(secrets.token_bytes(8))
        now = datetime.now(UTC).replace(microsecond=0)
        async with opened(self.settings) as installation, active_key(installation) as ca:
            tbs = tbs_certificate(ocsp_delegate(ca.issuer, key.public_key(), serial, now))
            certificate = signed(tbs, ca.signer.public_key, sign(ca.signer, tbs))
        section = self.settings.ocsp
        passphrase = self.settings.path(section.passphrase_file).read_bytes().strip()
        software.store(self.settings.path(section.key_directory) / f"{serial:016X}.pem", key, passphrase)
        async with self.owner() as connection:
            await connection.execute(
                "INSERT INTO certificate (serial, generation_id, partition_id, kind, not_before, not_after,"
                " spki_sha256, der, issued_at) SELECT $1, 1, partition_id, $2, $3, $4, $5, $6, $3"
                " FROM partition WHERE kind = 'operations'",
                *(serial, Kind.OCSP.value, now, now + timedelta(days=365), hashlib.sha256(tbs).digest(), certificate),
            )


def path(question: bytes) -> str:
    """What a GET asks for (RFC 6960, appendix A.1)."""
    return "/" + quote(base64.b64encode(question).decode(), safe="")


@contextlib.asynccontextmanager
async def site(count: int) -> AsyncIterator[Site]:
    """A fresh installation with `count` residents; this machine is a relying party."""
    with tempfile.TemporaryDirectory(prefix="prefca-bench-") as directory:
        Path(directory).chmod(0o755)  # PostgreSQL runs under another account than root
        instance = Path(directory) / "instance"
        prefca(instance, "init")
        prefca(instance, "relying-party", "add", "bench", "--right", "ocsp")
        prefca(instance, "relying-party", "credential", "add", "network", "bench", "127.0.0.0/8")
        settings = load(instance)
        async with contextlib.AsyncExitStack() as stack:
            with on_core(LOAD_CORE):  # which PostgreSQL inherits: it is no part of what is measured
                await stack.enter_async_context(postgres(instance))
            connection = await asyncpg.connect(**connect_arguments(settings, "owner"))
            await connection.execute(
                "INSERT INTO certificate (serial, generation_id, partition_id, kind, not_before, not_after,"
                " spki_sha256, der, issued_at) SELECT $1::bigint + n, 1, partition_id, 'resident', now(),"
                " now() + interval '3 years', sha256(n::text::bytea), '', now()"
                " FROM generate_series(0, $2::bigint - 1) n,"
                " (SELECT min(partition_id) AS partition_id FROM partition WHERE kind = 'municipality') one",
                *(FIRST_SERIAL, count),
            )
            await connection.execute("ANALYZE certificate")
            certificate = await connection.fetchval("SELECT certificate FROM ca_generation")
            await connection.close()
            yield Site(settings, _issuer(certificate), count, *free_ports(3))


@contextlib.contextmanager
def on_core(core: str) -> Iterator[None]:
    """Processes that are started in this context stay on a core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def prefca(instance: Path, *arguments: str) -> None:
    """Run a command, silently."""
    environment = os.environ | {"PREFCA_INSTANCE": str(instance)}
    subprocess.run([sys.executable, "-m", "issuer", *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)


def _issuer(certificate: bytes) -> bytes:
    hashes = next(h for h in issuer_hashes(x509.load_der_x509_certificate(certificate)) if h.algorithm == SHA_1)
    return b"".join(
        (
            der.sequence(der.object_identifier(SHA_1), der.NULL),
            der.octet_string(hashes.name_hash),
            der.octet_string(hashes.key_hash),
        )
    )


def run_program(main: Coroutine[None, None, None]) -> None:
    """Run it; SIGTERM ends it as Ctrl-C does, so that no server stays behind."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        asyncio.run(main)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def free_ports(number: int) -> Iterator[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return iter([each.getsockname()[1] for each in sockets])


async def listens(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    case: str
    prefca: float
    peer: float
    peer_name: str
    unit: str
    ratio: float
    goal: str


def show(rows: Sequence[Row], file: Path | None) -> None:
    """Print a table, and write it to `file`."""
    for row in rows:
        figures = f"{row.prefca:10.1f} {row.unit:3} {row.peer_name:23} {row.peer:10.1f} {row.ratio:7.2f}"
        print(f"{row.case:46} {figures}  goal {row.goal}")
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


@dataclass(frozen=True)
class Load:
    """What a load generator measured."""

    per_s: float
    p50_ms: float
    p99_ms: float
    requests: int
    errors: int
    cpu_us: float = 0.0  # of the server, an answer, if that was looked at: other work on the machine changes it less


def weighed(parent: int, run: Callable[[], Load]) -> Load:
    """A run with the CPU time of a server's workers, the children of `parent`."""
    before = _cpu_s(parent)
    load = run()
    return replace(load, cpu_us=(_cpu_s(parent) - before) / load.requests * 1e6)


def _cpu_s(parent: int) -> float:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    fields = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split() for child in children]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def wrk(  # noqa: PLR0913 - what wrk can be told
    port: int,
    mode: str,
    questions: Path,
    seconds: float,
    *,
    skip: int = 0,
    scheme: str = "http",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Load:
    """wrk with one thread on its own core and 32 connections.

    Args:
        port: of the server, on loopback.
        mode: post, get or nonce.
        questions: a file for ocsp.lua.
        seconds: how long.
        skip: with which question to begin.
        scheme: http or https.
        environment: further variables.

    Raises:
        RuntimeError: an answer was no HTTP 200, or none came.
    """
    options = ["-t1", "-c32", f"-d{seconds}s", "--latency", "-s", str(HERE / "ocsp.lua")]
    done = subprocess.run(
        ["taskset", "-c", LOAD_CORE, "wrk", *options, f"{scheme}://127.0.0.1:{port}/"],
        env=os.environ | {"MODE": mode, "REQUESTS": str(questions), "SKIP": str(skip)} | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    result = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    load = Load(**json.loads(result.removeprefix("RESULT ")))
    if load.errors or not load.requests:
        raise RuntimeError(f"{load.errors} errors in {load.requests} requests to port {port}")
    return load
