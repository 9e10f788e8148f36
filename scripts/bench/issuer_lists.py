"""Lists from the database to the publication, beside `openssl ca -gencrl`, which makes one list of a text file.

A CA with its key in SoftHSM; revocations are spread over the 62 municipalities of Tokyo. Times are those of the whole
command `prefca batch`, its start included, and memory is the most that its process had. CPU times have PostgreSQL's.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import asyncpg
from issuer_issuing import cpu_of_others_s
from plot import log_log
from responder import Row

from issuer.installation import opened
from issuer.postgres.embedded import postgres
from issuer.profiles.profile import MIN_SERIAL
from issuer.residents.revocation import revoke_generation
from pkix.revocation import CRLReason
from settings.database import connect_arguments
from settings.load import Settings, load

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
ROUNDS = 3
OPENSSL_MOST = 1_000_000  # it has ten million in memory, and that is six gigabytes
WANTED_S = {1_000_000: 1.5, 10_000_000: 10.0}
MEMORY_MB = 200
PIN = "73105920"
MUNICIPALITIES = 62


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    wall_s: float
    cpu_s: float
    peak_mb: float

    def __str__(self) -> str:
        return f"{self.wall_s:.2f} s, CPU {self.cpu_s:.2f} s, {self.peak_mb:.0f} MB"


def cost(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    complaint = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with status {process.returncode}: {complaint.decode()}")
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3)


# ---------------------------------------------------------------- a CA


@dataclass(frozen=True)
class Site:
    """The CA."""

    settings: Settings
    owner: asyncpg.Connection
    environment: dict[str, str]

    def prefca(self, *arguments: str) -> Cost:
        """What a command costs; of PostgreSQL its CPU time."""
        directory = self.settings.instance.parent
        before_s = cpu_of_others_s(directory)
        own = cost([sys.executable, "-m", "issuer", *arguments], self.environment)
        return replace(own, cpu_s=own.cpu_s + cpu_of_others_s(directory) - before_s)

    async def fill(self, revoked: int) -> float:
        """Have so many revocations, of certificates that nobody has; seconds that revoking them took."""
        there = await self.owner.fetchval("SELECT count(*) FROM revocation")
        await self.owner.execute(
            # Serial numbers below those of real certificates: the last one on each list is real, and is looked at.
            "WITH room AS (SELECT min(serial) - $1 AS size FROM certificate WHERE length(der) > 0),"
            " place AS (SELECT array_agg(partition_id ORDER BY partition_id) AS ids FROM partition WHERE code <> '')"
            " INSERT INTO certificate (serial, generation_id, partition_id, kind, not_before, not_after, spki_sha256,"
            " der, issued_at) SELECT $1 + ('x' || left(md5(n::text), 15))::bit(60)::bigint % size AS serial, 1,"
            " ids[1 + n % $4], 'resident', now(), now() + interval '3 years',"
            " decode(lpad(to_hex(n), 64, '0'), 'hex'), '', now()"
            " FROM room, place, generate_series($2::bigint, $3::bigint) n ORDER BY serial",
            *(MIN_SERIAL, there, revoked - 1, MUNICIPALITIES),
        )
        began = time.perf_counter()
        async with opened(self.settings) as installation:
            generation = await installation.store.active_generation(installation.authority_id)
            assert generation is not None
            await revoke_generation(installation, generation, CRLReason.SUPERSEDED, datetime.now(UTC))
        took_s = time.perf_counter() - began
        await self.owner.execute("VACUUM ANALYZE revocation")  # as autovacuum would within minutes
        return took_s


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """A fresh installation with a resident in each municipality."""
    with tempfile.TemporaryDirectory(prefix="prefca-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL's account has to pass
        environment = os.environ | {"PREFCA_INSTANCE": str(directory / "instance")} | token(directory / "token")
        pin = directory / "pin"
        pin.write_text(PIN)
        key = ("--signer", "pkcs11", "--module", module(), "--token", "bench", "--pin-file", str(pin))
        cost([sys.executable, "-m", "issuer", "init", *key], environment)
        cost([sys.executable, "-m", "issuer", "sample", "--count", str(MUNICIPALITIES)], environment)
        settings = load(directory / "instance")
        async with postgres(settings.instance):
            owner = await asyncpg.connect(**connect_arguments(settings, "owner"))
            try:
                yield Site(settings, owner, environment)
            finally:
                await owner.close()


def module() -> str:
    found = next(Path("/usr/lib").glob("**/softhsm/libsofthsm2.so"), None)
    if found is None:
        sys.exit("missing: apt-get install --no-install-recommends softhsm2")
    return str(found)


def token(directory: Path) -> dict[str, str]:
    """A new token "bench"; the environment in which it is seen."""
    (directory / "tokens").mkdir(parents=True)
    file = directory / "softhsm2.conf"
    file.write_text(f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    environment = {"SOFTHSM2_CONF": str(file)}
    options = ["--init-token", "--free", "--label", "bench", "--pin", PIN, "--so-pin", PIN]
    cost(["softhsm2-util", *options], os.environ | environment)
    return environment


# ---------------------------------------------------------------- openssl ca


class OpenSSL:
    """`openssl ca` with a key and a text database of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        subject = ("-subj", "/CN=peer", "-keyout", directory / "key.pem", "-out", directory / "ca.pem")
        cost(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-batch", *subject])
        self._configuration = directory / "ca.cnf"
        self._configuration.write_text(
            f"[ca]\ndefault_ca = peer\n[peer]\ndatabase = {directory}/index\ncrlnumber = {directory}/number\n"
            "default_md = sha256\ncrl_extensions = extensions\n[extensions]\nauthorityKeyIdentifier = keyid\n"
        )
        (directory / "number").write_text("01\n")
        (directory / "index.attr").write_text("unique_subject = no\n")

    def gencrl(self, entries: int) -> Cost:
        """One list of so many entries."""
        with (self._directory / "index").open("w") as index:
            for number in range(entries):
                index.write(f"R\t491231235959Z\t261101000000Z,superseded\t{MIN_SERIAL + number:016X}\tunknown\t/CN=x\n")
        key = ("-keyfile", self._directory / "key.pem", "-cert", self._directory / "ca.pem")
        out = ("-crldays", "3", "-out", self._directory / "crl.pem")
        return cost(["openssl", "ca", "-gencrl", "-batch", "-config", self._configuration, *key, *out])


# ---------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Measured:
    """Lists of one size."""

    entries: int
    revoking_s: float  # of what was added for this size
    batches: list[Cost]
    openssl: list[Cost]

    @property
    def wall_s(self) -> float:
        return median(cost.wall_s for cost in self.batches)

    @property
    def openssl_s(self) -> float:
        """For as many entries; of ten million it is not asked."""
        return median(cost.wall_s for cost in self.openssl) * self.entries / min(self.entries, OPENSSL_MOST)


async def measure(*, quick: bool) -> list[Measured]:
    """Each size some times, in turns with openssl."""
    measured = []
    with tempfile.TemporaryDirectory(prefix="prefca-bench-") as directory:
        peer = OpenSSL(Path(directory))
        async with site() as ca:
            for entries in SIZES[:-1] if quick else SIZES:
                revoking_s = await ca.fill(entries)
                print(f"{entries:,} revoked in {revoking_s:.1f} s", file=sys.stderr)
                size = Measured(entries, revoking_s, [], [])
                for _ in range(ROUNDS):
                    size.batches.append(ca.prefca("batch", "--now"))
                    size.openssl.append(peer.gencrl(min(entries, OPENSSL_MOST)))
                    print(f"{entries:,}: {size.batches[-1]}; openssl: {size.openssl[-1]}", file=sys.stderr)
                measured.append(size)
    return measured


def rows(measured: Sequence[Measured]) -> list[Row]:
    """Against openssl, and against what is wanted of time and memory; entries beyond the first size need no start."""
    found = []
    first = measured[0]
    for each in measured:
        case, ours, theirs = f"62 lists of {each.entries:,}", each.wall_s, each.openssl_s
        cpu_us = median(cost.cpu_s for cost in each.batches) / each.entries * 1e6
        peer_us = median(cost.cpu_s for cost in each.openssl) / min(each.entries, OPENSSL_MOST) * 1e6
        memory = max(cost.peak_mb for cost in each.batches)
        found += [
            Row(case, ours, theirs, "openssl ca -gencrl", "s", theirs / ours, "-"),
            Row(f"{case}, CPU an entry", cpu_us, peer_us, "openssl ca -gencrl", "µs", peer_us / cpu_us, "-"),
            Row(f"{case}, memory", memory, MEMORY_MB, "goal", "MB", MEMORY_MB / memory, "1"),
        ]
        if each.entries in WANTED_S:
            wanted, more = WANTED_S[each.entries], each.entries - first.entries
            entry_us, peer_us = (ours - first.wall_s) / more * 1e6, (theirs - first.openssl_s) / more * 1e6
            found += [
                Row(
                    f"{case}, each further entry",
                    entry_us,
                    peer_us,
                    "openssl ca -gencrl",
                    "µs",
                    peer_us / entry_us,
                    "5",
                ),
                Row(f"{case}, time", ours, wanted, "goal", "s", wanted / ours, "1"),
            ]
    return found


def plot(measured: Sequence[Measured]) -> str:
    """Time over size."""
    lines = {
        "prefca batch: database to publication, 62 lists": [(each.entries, each.wall_s) for each in measured],
        "openssl ca -gencrl: one list": [
            (each.entries, each.openssl_s) for each in measured if each.entries <= OPENSSL_MOST
        ],
    }
    return log_log("Lists of many revocations", "entries", "seconds", lines)
