"""What `scripts/soak-issue` runs."""

import argparse
import asyncio
import base64
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer.installation import connected, database
from issuer.profiles.municipality import municipalities_of
from settings.load import Settings, load

NOTICES = 4_000  # of a file: some seconds of work
MOST_OCTETS = 4_000_000  # of results, about half of a file's, from one kill to the next
LATER_S = 0.5  # between the results that are waited for and the kill
PREFCA = Path(sys.executable).with_name("prefca")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/soak-issue")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prefca-soak-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL's account has to pass
        subprocess.run([PREFCA, "--instance", directory / "instance", "init"], check=True, stdout=subprocess.DEVNULL)
        asyncio.run(soak(directory, given.kills, random.Random(given.seed)))  # noqa: S311 - moments to kill at


async def soak(directory: Path, kills: int, moments: random.Random) -> None:
    """One file after the other, each with as many kills as it takes."""
    settings = load(directory / "instance")
    done = files = certificates = 0
    async with database(settings):
        while done < kills:
            notices, results = directory / f"{files}.jsonl", directory / f"{files}.results.jsonl"
            write_notices(notices, files)
            results.touch(mode=0o600)
            while (status := issue(directory, notices, results, moments)) is None:
                done += 1
            assert status == 0, f"`prefca issue` ended with status {status}"
            await check(settings, notices, results)
            files, certificates = files + 1, certificates + NOTICES
            print(f"{done} kills, {files} files, {certificates:,} certificates: each notice has one", flush=True)


def issue(directory: Path, notices: Path, results: Path, moments: random.Random) -> int | None:
    """Its exit status; None: it was killed after some results, or before any."""
    awaited_octets = results.stat().st_size + moments.randint(-MOST_OCTETS // 4, MOST_OCTETS)
    command = [PREFCA, "--instance", directory / "instance", "issue", notices, "--results", results]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and results.stat().st_size < awaited_octets:
            time.sleep(0.005)
        try:
            return process.wait(moments.uniform(0, LATER_S))
        except subprocess.TimeoutExpired:
            process.kill()
            return None


async def check(settings: Settings, notices: Path, results: Path) -> None:
    """Nothing is missing, nothing is there twice."""
    reported = {}
    with results.open() as lines:
        for number, line in enumerate(lines, 1):
            outcome = json.loads(line)
            assert outcome["line"] == number, f"line {outcome['line']} stands at {number}"
            assert outcome["result"] != "refused", outcome
            reported[outcome["notice_number"]] = outcome
    assert len(reported) == NOTICES
    assert not results.with_name(results.name + ".unfinished").exists()
    async with connected(settings) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(
            "SELECT h.notice_number, c.der, o.times FROM holder h JOIN certificate c USING (serial)"
            " LEFT JOIN (SELECT object, count(*) AS times FROM operation_record GROUP BY object) o"
            " ON o.object = upper(to_hex(h.serial)) WHERE h.notice_number LIKE $1",
            f"{notices.stem}-%",
        )
    assert len(rows) == NOTICES, f"{len(rows):,} certificates for {NOTICES:,} notices"
    for row in rows:
        assert row["times"] == 1, f"{row['times']} records of the issue for {row['notice_number']}"
        assert base64.b64decode(reported[row["notice_number"]]["certificate"]) == row["der"]


def write_notices(file: Path, seed: int) -> None:
    """Different persons with keys that nobody has the private half of."""
    place = municipalities_of("Tokyo-to")[0]
    with file.open("w") as lines:
        for number, spki in zip(range(NOTICES), public_keys(seed), strict=False):
            notice = {
                "notice_number": f"{seed}-{number}",
                "municipality": place.code,
                "name": "試験　太郎",
                "date_of_birth": "1980-02-17",
                "gender": "unknown",
                "address": f"{place.address_beginnings[0]}テスト町{seed}－{number}",
                "public_key": base64.b64encode(spki).decode(),
            }
            lines.write(json.dumps(notice, ensure_ascii=False) + "\n")


def public_keys(seed: int) -> Iterator[bytes]:
    """Each is made in microseconds."""
    for number in range(seed * NOTICES, (seed + 1) * NOTICES):
        key = rsa.RSAPublicNumbers(65537, 2**2047 + 2 * number + 1).public_key()
        yield key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


if __name__ == "__main__":
    main()
