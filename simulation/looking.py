"""How all sides are seen at a moment: the database, the directory, and the responder about some of the certificates."""

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import timedelta
from ipaddress import ip_network
from itertools import islice
from typing import Final

from cryptography import x509

from issuer.installation import connected
from issuer.profiles.authority import Kind
from pkix.validity import Validity
from simulation.directory import Searcher
from simulation.responder import CLIENT, Responder, heard, request, responder
from simulation.sight import SERVING_STATES, Certificate, Refusal, Sight, Told, spoken_for
from simulation.store import Records, Shown
from simulation.timetable import Random
from simulation.world import World

KEPT: Final = timedelta(days=7)  # certificates that expired within: entries stay on lists for some time
ASKED_A_DAY: Final = 6  # of each key
ASKED_AT_ONCE: Final = 50
NEVER_ISSUED: Final = 2**62 + 1
PARTY: Final = "simulated-verifier"


class Observer:
    """Sees all sides of a world."""

    def __init__(self, world: World, records: Records, shown: Shown, searcher: Searcher, asked: Responder) -> None:
        self._world = world
        self._records = records
        self._shown = shown
        self._searcher = searcher
        self._responder = asked

    async def look(self, *, everything: bool) -> Sight:
        """What is seen now; the responder is asked about `everything`, or about a sample."""
        now, installation = self._world.clock.now, self._world.installation
        in_force = await installation.store.publication_in_force(installation.authority_id)
        if in_force is None:
            raise ValueError("nothing is published yet")
        keys = await self._records.keys()
        issuers = {number: x509.load_der_x509_certificate(own) for number, (_, own) in keys.items()}
        certificates = await self._records.certificates(now - KEPT)
        found = self._searcher.found(await self._shown.objects(), issuers)
        # Of a planned key's own certificates nothing is told before it has a delegate; nor of a compromised one's, nor
        # of a retired one's after its last delegate, when its residents' certificates have ended: the ARL tells then.
        able = spoken_for(certificates.values(), now)
        able |= {
            one.generation_id
            for one in certificates.values()
            if one.kind is Kind.RESIDENT and one.validity.not_after >= now
            if keys[one.generation_id][0].state in SERVING_STATES
        }
        asked = (one for one in certificates.values() if one.generation_id in able)
        told, refusals = await self._asked(asked, issuers, everything=everything)
        return Sight(
            at=now,
            cut_off=in_force.cut_off,
            keys={number: key for number, (key, _) in keys.items()},
            certificates=certificates,
            lists=found.lists,
            published=found.published,
            linked=found.linked,
            pairs=found.pairs,
            told=tuple(told),
            refusals=tuple(refusals),
        )

    async def _asked(
        self, certificates: Iterable[Certificate], issuers: Mapping[int, x509.Certificate], *, everything: bool
    ) -> tuple[list[Told], list[Refusal]]:
        """What the responder says of certificates of each key that has any which are valid."""
        now = self._world.clock.now
        of_key: dict[int, list[int]] = defaultdict(list)
        for one in certificates:
            if one.validity.not_after >= now:
                of_key[one.generation_id].append(one.serial)
        await self._responder.load()
        told: list[Told] = []
        refusals: list[Refusal] = []
        for generation, serials in of_key.items():
            chosen = serials if everything else _sample(serials, self._world.random)
            for some in _chunks([*chosen, NEVER_ISSUED]):
                answer = heard(
                    (await self._responder.answer(request(issuers[generation], some))).body, generation, issuers
                )
                if isinstance(answer, Refusal):
                    refusals.append(answer)
                else:
                    told += answer
        return told, refusals


@contextlib.asynccontextmanager
async def observer(world: World) -> AsyncIterator[Observer]:
    """Who sees all sides of a world; a relying party is registered for it."""
    await _register_party(world)
    installation = world.installation
    searcher = Searcher(await installation.store.partitions(installation.authority_id))
    async with (
        connected(world.settings) as issuer,
        connected(world.settings, "prefca_repository") as directory,
        responder(world.settings, world.clock) as asked,
    ):
        yield Observer(world, Records(issuer, installation.authority_id), Shown(directory), searcher, asked)


async def _register_party(world: World) -> None:
    now, parties = world.clock.now, world.installation.parties
    agreed = Validity(now, now + timedelta(days=36_500))
    async with world.installation.store.transaction():
        number = await parties.add_relying_party(PARTY, PARTY, agreed, may_ocsp=True, may_crl=True, now=now)
        await parties.add_network(number, ip_network(CLIENT), now)


def _sample(serials: list[int], random: Random) -> list[int]:
    return random.sample(serials, min(ASKED_A_DAY, len(serials)))


def _chunks(serials: Iterable[int]) -> Iterable[list[int]]:
    rest = iter(serials)
    while some := list(islice(rest, ASKED_AT_ONCE)):
        yield some
