"""`prefca compromise` of a key that signed a million certificates: from its start to lists in force, notices written.

cd scripts/bench; ../../.venv/bin/python issuer_compromise.py [CERTIFICATES]
"""

import asyncio
import sys

from issuer_lists import MUNICIPALITIES, Site, site

from issuer.installation import opened
from issuer.profiles.profile import MIN_SERIAL
from issuer.recovery.compromise import fingerprint

DEFAULT = 1_000_000


async def main(certificates: int) -> None:
    """Measure once: there is one key."""
    async with site() as ca:
        await _issue(ca, certificates)
        async with opened(ca.settings) as installation:
            generation = await installation.store.active_generation(installation.authority_id)
            assert generation is not None
            name = installation.authority.name.rfc4514_string()
        cost = ca.prefca(
            "compromise", "--name", name, "--fingerprint", fingerprint(generation), "--circumstances", "試験"
        )
        revoked = await ca.owner.fetchval("SELECT count(*) FROM revocation WHERE reason = 2")
        listed = await ca.owner.fetchval(
            "SELECT max(n) FROM (SELECT sum(entries) AS n FROM published_object GROUP BY publication_id) s"
        )
        print(f"{revoked} revoked, {listed} listed: {cost}")


async def _issue(ca: Site, certificates: int) -> None:
    """Certificates that nobody has, spread over the municipalities; serial numbers below those of real ones."""
    await ca.owner.execute(
        "WITH room AS (SELECT min(serial) - $1 AS size FROM certificate WHERE length(der) > 0),"
        " place AS (SELECT array_agg(partition_id ORDER BY partition_id) AS ids FROM partition WHERE code <> '')"
        " INSERT INTO certificate (serial, generation_id, partition_id, kind, not_before, not_after, spki_sha256,"
        " der, issued_at) SELECT $1 + ('x' || left(md5(n::text), 15))::bit(60)::bigint % size AS serial, 1,"
        " ids[1 + n % $3], 'resident', now(), now() + interval '3 years',"
        " decode(lpad(to_hex(n), 64, '0'), 'hex'), '', now()"
        " FROM room, place, generate_series(1::bigint, $2::bigint) n ORDER BY serial",
        *(MIN_SERIAL, certificates, MUNICIPALITIES),
    )
    await ca.owner.execute("VACUUM ANALYZE certificate")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT))
