"""From COMMIT at the primary to `revoked` at the responder of a standby, which is asked all the time."""

import argparse
import asyncio
import json
import os
import statistics
import time
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

from aiohttp import ClientSession

from issuer.records.migrate import migrate
from issuer.servers.inquiry import Responder
from pkix.validity import Validity, whole_second
from tests.support.ca import FoundedCA, found_ca, open_ca, settings_for
from tests.support.database import reachable_directory
from tests.support.ocsp import around
from tests.support.ocsp_program import Program, running
from tests.support.replica import Pair, replicated

GOAL_S = 1.0
ASK_S = 0.002
SETTLE_S = 2.0
IDLE_S = 10.0


def main() -> None:
    """Measure, print, and write the file that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="revocations (default: 100)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with replicated() as pair, reachable_directory() as instance:
        delays_s, idle = asyncio.run(_measured(pair, instance, arguments.rounds))
    p99 = delays_s[round(0.99 * (len(delays_s) - 1))]
    print(f"median {statistics.median(delays_s):.3f} s, p99 {p99:.3f} s; CPU of a worker that is not asked: {idle:.1%}")
    if arguments.json is not None:
        case = "revocation, COMMIT at the primary to revoked at a standby, p99"
        row = {"case": case, "prefca": p99, "unit": "s", "ratio": GOAL_S / p99, "goal": 1}
        arguments.json.write_text(json.dumps([row], indent=2))


async def _measured(pair: Pair, instance: Path, rounds: int) -> tuple[list[float], float]:
    """How long each revocation took, shortest first, and the CPU time a second of a worker that waits."""
    async with pair.primary.connect() as connection:
        await migrate(connection, _now())
    settings = settings_for(instance, pair.primary.database)
    await found_ca(settings, _now())
    async with open_ca(pair.primary.database, settings) as ca:
        await _register(ca)
        issued = await ca.issue(*range(rounds), now=_now())
        await pair.caught_up()
        async with running(ca.settings.instance, pair.standby.database) as (program, url), ClientSession() as session:
            await asyncio.sleep(SETTLE_S)
            responder = Responder(session, url)
            delays_s = [await _delay_s(ca, responder, each.serial) for each in issued]
            begun = _cpu_s(program)
            await asyncio.sleep(IDLE_S)
            return sorted(delays_s), (_cpu_s(program) - begun) / IDLE_S


async def _register(ca: FoundedCA) -> None:
    """Be a relying party."""
    parties, agreed = ca.installation.parties, Validity(*around(_now()))
    party = await parties.add_relying_party("bench", "", agreed, may_ocsp=True, may_crl=False, now=_now())
    await parties.add_network(party, ip_network("127.0.0.0/8"), _now())


async def _delay_s(ca: FoundedCA, responder: Responder, serial: int) -> float:
    """Of one revocation; the answer before it is kept by the responder."""
    issuer = ca.key.issuer.certificate
    assert await responder.revoked(issuer, [serial]) == {serial: None}
    await ca.revoke(serial, now=_now())
    committed = time.perf_counter()
    while (await responder.revoked(issuer, [serial]))[serial] is None:  # noqa: ASYNC110 - another process
        await asyncio.sleep(ASK_S)
    return time.perf_counter() - committed


def _cpu_s(program: Program) -> float:
    """What the worker has used."""
    parent = program.process.pid
    (worker,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _now() -> datetime:
    return whole_second(datetime.now(UTC))


if __name__ == "__main__":
    main()
