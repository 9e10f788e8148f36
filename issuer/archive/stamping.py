"""The newest root of the journals gets a time stamp of an authority that others trust (R-4-12-2-5; RFC 3161).

Each root names the one before, so that one time stamp proves all roots up to it: an authority that is away for days
leaves nothing open when it is back, and one stamp a day is enough.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import aiohttp
from cryptography.x509 import Certificate, load_pem_x509_certificates

from issuer.errors import NotNowError, RefusedError
from issuer.records.journal_store import JournalStore, StampRow
from issuer.records.store import Store
from issuer.rules.time_stamp import NoTimeStampError, request, stamped_at
from settings.load import ConfigurationError, Settings

TIMEOUT = aiohttp.ClientTimeout(total=30)
MAX_RESPONSE_OCTETS = 65_536
QUERY, REPLY = "application/timestamp-query", "application/timestamp-reply"  # RFC 3161, section 3.4


@dataclass(frozen=True, slots=True)
class TimeStampAuthority:
    """Who stamps, and who says so."""

    address: str
    roots: Sequence[Certificate]


def authority(settings: Settings) -> TimeStampAuthority:
    """The authority of an installation.

    Raises:
        ConfigurationError: it has none.
    """
    address = settings.archive.time_stamp_authority
    if address is None:
        raise ConfigurationError("there is no authority for time stamps; set `archive.time_stamp_authority`")
    return TimeStampAuthority(address, trusted(settings))


def trusted(settings: Settings) -> Sequence[Certificate]:
    """Whose time stamps count; none if nothing is configured.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    file = settings.archive.time_stamp_roots
    return () if file is None else certificates(settings.path(file))


def certificates(file: Path) -> Sequence[Certificate]:
    """The certificates of a file in PEM.

    Raises:
        ConfigurationError: there are none.
    """
    try:
        return load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as e:
        raise ConfigurationError(f"{file}: no certificates in PEM; put there who certified the authority") from e


async def stamp_newest(
    store: JournalStore, operations: Store, authority: TimeStampAuthority, clock: Callable[[], datetime]
) -> StampRow | None:
    """Have the newest root stamped; None if there is none, or it has its stamp already.

    Raises:
        NotNowError: the authority is away.
        RefusedError: its answer proves nothing.
    """
    roots = await store.roots()
    if not roots or roots[-1].number in await store.stamps():
        return None
    newest = roots[-1]
    response, at = await stamp(authority, newest.statement)
    row = StampRow(newest.number, response, at)
    async with operations.transaction():
        await store.add_stamp(row, clock())
        await operations.record("journal_stamped", clock(), f"root {newest.number}")
    return row


async def stamp(authority: TimeStampAuthority, statement: bytes) -> tuple[bytes, datetime]:
    """What the authority answers for a statement, after all checks, and when it was stamped.

    Raises:
        NotNowError: the authority is away.
        RefusedError: its answer proves nothing.
    """
    asked = request(statement)
    response = await _ask(authority.address, asked.as_bytes())
    try:
        return response, stamped_at(response, statement, authority.roots, asked.nonce)
    except NoTimeStampError as e:
        raise RefusedError(f"no time stamp by {authority.address}: {e}; see `archive.time_stamp_roots`") from e


async def _ask(address: str, query: bytes) -> bytes:
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.post(address, data=query, headers={"Content-Type": QUERY, "Accept": REPLY}) as answer,
        ):
            if not answer.ok:
                raise NotNowError(f"the authority for time stamps at {address} answered {answer.status}; try again")
            return await _read(answer.content)
    except TimeoutError as e:
        raise NotNowError(f"the authority for time stamps at {address} did not answer in time; try again") from e
    except (aiohttp.ClientError, OSError) as e:
        raise NotNowError(
            f"the authority for time stamps at {address} cannot be reached ({type(e).__name__}); try again"
        ) from e


async def _read(content: aiohttp.StreamReader) -> bytes:
    """All of an answer, in whatever portions it comes; what is longer than any time stamp is cut off."""
    octets = b""
    while block := await content.read(MAX_RESPONSE_OCTETS - len(octets)):
        octets += block
    return octets
