"""What is held in memory follows the database."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ocsp.access import Grant
from ocsp.cache import AnswerCache
from ocsp.delegates import KeyStore
from ocsp.errors import StoreUnavailableError
from ocsp.refresh import Change, Refresh
from pkix.revocation import CRLReason, Revoked
from pkix.signing import Signer
from tests.support.ocsp import CA, SERIAL, MemoryStore, around, eventually, key_store, rsa_key

NOW = datetime(2026, 4, 1, 12, 0, 0, tzinfo=UTC)
CA_1, CA_2 = CA(NOW), CA(NOW, generation_id=2)
KEY = rsa_key("delegate")
ORIGIN = "192.0.2.1"


@pytest.fixture
def store() -> MemoryStore:
    """A CA with one delegate."""
    store = MemoryStore()
    store.add_ca(CA_1, CA_1.delegate(SERIAL, KEY))
    return store


@pytest.fixture
async def refresh(store: MemoryStore, tmp_path: Path) -> AsyncIterator[Refresh]:
    """Loaded, and following."""
    refresh = Refresh(store, key_store(tmp_path, (SERIAL, KEY), (SERIAL + 1, KEY)), lambda: NOW, AnswerCache(2**20, 60))
    await refresh.load()
    following = asyncio.create_task(refresh.follow())
    yield refresh
    following.cancel()


class Told:
    """Remembers what it was told instead of answers."""

    def __init__(self) -> None:
        self.forgotten: list[int] = []
        self.cleared = 0
        self.confirmed: list[float] = []

    def forget(self, serials: Iterable[int]) -> None:
        """Revoked."""
        self.forgotten += serials

    def clear(self) -> None:
        """New keys or delegates."""
        self.cleared += 1

    def confirm(self, at: float) -> None:
        """All was heard."""
        self.confirmed.append(at)

    @property
    def trusted_until(self) -> float:
        """A minute."""
        return self.confirmed[-1] + 60 if self.confirmed else 0


def speaks(refresh: Refresh, ca: CA) -> bool:
    return refresh.snapshot.issuers.delegate(ca.generation, NOW) is not None


async def test_a_new_generation_is_taken_over(store: MemoryStore, refresh: Refresh) -> None:
    """With its delegate, without a restart."""
    assert not speaks(refresh, CA_2)
    store.add_ca(CA_2, CA_2.delegate(SERIAL + 1, KEY))
    await eventually(lambda: speaks(refresh, CA_2))


async def test_a_revoked_delegate_stops_to_speak(store: MemoryStore, refresh: Refresh) -> None:
    """Its certificate has id-pkix-ocsp-nocheck: nobody else would notice."""
    store.add(SERIAL, Revoked(NOW, CRLReason.KEY_COMPROMISE), public=True)
    await eventually(lambda: not speaks(refresh, CA_1))


@pytest.mark.req("R-4-4-4-3")
async def test_a_right_comes_and_goes(store: MemoryStore, refresh: Refresh) -> None:
    """At once."""

    def party() -> str | None:
        return refresh.snapshot.access.caller(ORIGIN, NOW).party

    store.grant("verifier", "192.0.2.0/24", around(NOW))
    await eventually(lambda: party() == "verifier")
    store.withdraw("verifier")
    await eventually(lambda: party() is None)


async def test_what_changed_while_the_database_was_away_is_not_missed(store: MemoryStore, refresh: Refresh) -> None:
    """The number of a change is the truth, not the notification."""
    store.away = True
    store.add_ca(CA_2, CA_2.delegate(SERIAL + 1, KEY))
    await asyncio.sleep(0)
    assert speaks(refresh, CA_1)
    store.away = False
    store.wake()
    await eventually(lambda: speaks(refresh, CA_2))


@pytest.mark.req("R-4-4-4-3")
async def test_a_change_behind_many_others_is_not_late(store: MemoryStore, refresh: Refresh) -> None:
    """A batch of revocations comes in several pieces, with one notification."""
    for serial in range(SERIAL + 10, SERIAL + 20):
        store.add(serial, Revoked(NOW, CRLReason.SUPERSEDED))
    store.grant("verifier", "192.0.2.0/24", around(NOW))
    await eventually(lambda: refresh.snapshot.access.caller(ORIGIN, NOW).party == "verifier")


async def test_nothing_is_known_before_the_first_load(store: MemoryStore, tmp_path: Path) -> None:
    """And a load that failed is tried again."""
    store.away = True
    refresh = Refresh(store, key_store(tmp_path, (SERIAL, KEY)), lambda: NOW, AnswerCache(2**20, 60))
    with pytest.raises(StoreUnavailableError):
        await refresh.load()
    with pytest.raises(StoreUnavailableError):
        _ = refresh.snapshot
    following = asyncio.create_task(refresh.follow())
    store.away = False
    store.wake()
    await eventually(lambda: not following.done() and _loaded(refresh))
    assert speaks(refresh, CA_1)
    following.cancel()


async def test_a_delegate_takes_over_when_its_time_comes(store: MemoryStore, tmp_path: Path) -> None:
    """Without a restart, also if its key is put to its place only before: it was certified in advance."""
    now, begins = NOW, NOW + timedelta(days=300)
    store.add_ca(CA_2, CA_2.delegate(SERIAL + 1, KEY, (begins, begins + timedelta(days=365))))
    refresh = Refresh(store, key_store(tmp_path, (SERIAL, KEY)), lambda: now, AnswerCache(2**20, 60))
    await refresh.load()
    assert len(refresh.refusals) == 1
    key_store(tmp_path, (SERIAL + 1, KEY))
    following = asyncio.create_task(refresh.follow())
    for moment, speaking in ((begins - timedelta(seconds=1), False), (begins, True)):
        now = moment
        store.wake()
        await eventually(lambda: (_speaker(refresh, CA_2, now) is not None) == speaking)  # noqa: B023
    following.cancel()


def _speaker(refresh: Refresh, ca: CA, now: datetime) -> int | None:
    delegate = None if refresh.known is None else refresh.known.issuers.delegate(ca.generation, now)
    return None if delegate is None else delegate.serial


async def test_reload_finds_a_key_that_was_put_there(store: MemoryStore, tmp_path: Path) -> None:
    """What SIGHUP does."""
    keys = key_store(tmp_path)
    refresh = Refresh(store, keys, lambda: NOW, AnswerCache(2**20, 60))
    await refresh.load()
    assert not speaks(refresh, CA_1)
    assert len(refresh.refusals) == 1
    following = asyncio.create_task(refresh.follow())
    key_store(tmp_path, (SERIAL, KEY))
    refresh.reload()
    await eventually(lambda: speaks(refresh, CA_1))
    following.cancel()


def _loaded(refresh: Refresh) -> bool:
    try:
        return refresh.snapshot is not None
    except StoreUnavailableError:
        return False


@pytest.mark.req("R-4-4-4-2-1")
async def test_kept_answers_are_dropped_by_what_the_feed_tells(store: MemoryStore, tmp_path: Path) -> None:
    """Revocations one by one; whatever happened before a load, all at once; and what was heard is confirmed."""
    told = Told()
    refresh = Refresh(store, key_store(tmp_path, (SERIAL, KEY), (SERIAL + 1, KEY)), lambda: NOW, told)
    await refresh.load()
    assert (told.forgotten, told.cleared, told.confirmed) == ([], 1, [NOW.timestamp()])
    following = asyncio.create_task(refresh.follow())
    store.add(SERIAL + 10, Revoked(NOW, CRLReason.SUPERSEDED))
    store.add(SERIAL + 11, Revoked(NOW, CRLReason.SUPERSEDED))
    await eventually(lambda: told.forgotten == [SERIAL + 10, SERIAL + 11])
    assert told.cleared == 1
    store.add_ca(CA_2, CA_2.delegate(SERIAL + 1, KEY))
    await eventually(lambda: told.cleared == 2)
    refresh.reload()
    await eventually(lambda: told.cleared == 3)
    confirmed = len(told.confirmed)
    store.away = True
    store.wake()
    await asyncio.sleep(0.05)
    assert len(told.confirmed) == confirmed
    following.cancel()


@pytest.mark.req("R-4-4-4-2-1", "R-4-4-1-3")
async def test_everything_is_forgotten_when_thousands_are_revoked_at_once(store: MemoryStore, tmp_path: Path) -> None:
    """The feed names no serial number then; delegates may be among them."""
    told = Told()
    refresh = Refresh(store, key_store(tmp_path, (SERIAL, KEY)), lambda: NOW, told)
    await refresh.load()
    following = asyncio.create_task(refresh.follow())
    store.revoke_all(Revoked(NOW, CRLReason.CA_COMPROMISE))
    await eventually(lambda: told.cleared > 1 and not speaks(refresh, CA_1))
    assert told.forgotten == []
    following.cancel()


@pytest.mark.req("R-4-4-4-2-1")
async def test_a_feed_that_lost_its_end_is_read_from_the_beginning(store: MemoryStore, tmp_path: Path) -> None:
    """A standby was promoted that lacked the last change; another one has its number now. Nothing kept is trusted."""
    told = Told()
    refresh = Refresh(store, key_store(tmp_path, (SERIAL, KEY)), lambda: NOW, told)
    store.grant("verifier", "192.0.2.0/24", around(NOW))
    await refresh.load()
    following = asyncio.create_task(refresh.follow())
    store.lose_last_change()
    store.add(SERIAL + 10, Revoked(NOW, CRLReason.SUPERSEDED))
    await eventually(lambda: told.cleared == 2)
    store.lose_last_change()
    store.wake()
    await eventually(lambda: told.cleared == 3)
    assert refresh.position == 1
    following.cancel()


@pytest.mark.req("R-4-4-4-2-1", "R-4-4-4-3")
async def test_what_is_known_is_nothing_when_it_is_too_old(
    store: MemoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A standby that fell behind by more than `max_staleness_s` answers every query, and none of it counts."""
    refresh = Refresh(store, key_store(tmp_path, (SERIAL, KEY)), lambda: NOW, AnswerCache(2**20, 60))

    def is_current() -> bool:
        try:
            return refresh.snapshot is not None
        except StoreUnavailableError:
            return False

    store.lag = None
    await refresh.load()
    assert not is_current()
    following = asyncio.create_task(refresh.follow())
    with caplog.at_level(logging.INFO, "ocsp.refresh"):
        for lag, expected in ((59, True), (60, True), (61, False), (3, True)):
            store.lag = timedelta(seconds=lag)
            store.wake()
            await eventually(lambda expected=expected: is_current() is expected)  # type: ignore[misc]
    assert [record.getMessage() for record in caplog.records] == ["current", "outdated", "current"]
    store.lag = None  # a moment long it cannot tell
    store.wake()
    await asyncio.sleep(0.05)
    assert is_current()
    refresh.reload()  # nor of what is new to us
    await eventually(lambda: not is_current())
    following.cancel()


class Held:
    """Keys in a token that may not answer."""

    def __init__(self, keys: KeyStore) -> None:
        self.may_answer = threading.Event()
        self._keys = keys
        self.place = keys.place

    def signer(self, serial: int) -> Signer:
        """See ocsp.delegates.Keys."""
        self.may_answer.wait(10)
        return self._keys.signer(serial)


@pytest.mark.req("R-4-4-4-3")
async def test_a_token_that_hangs_keeps_no_old_right_alive(store: MemoryStore, tmp_path: Path) -> None:
    """One that ends together with a change of keys ends at once; and as the feed is not heard, all ends in a while."""
    now, changes = [NOW], store.changes

    async def all_changes(*, since: int) -> list[Change]:
        return [change for number in range(since, 5) for change in (await changes(since=number))[:1]]

    store.changes = all_changes  # type: ignore[method-assign]
    keys = Held(key_store(tmp_path, (SERIAL, KEY), (SERIAL + 1, KEY)))
    refresh = Refresh(store, keys, lambda: now[0], AnswerCache(2**20, 60))
    store.grant("verifier", "192.0.2.0/24", around(NOW))
    keys.may_answer.set()
    await refresh.load()
    following = asyncio.create_task(refresh.follow())
    keys.may_answer.clear()
    store.add_ca(CA_2, CA_2.delegate(SERIAL + 1, KEY))
    store.withdraw("verifier")
    await eventually(lambda: refresh.snapshot.access.caller(ORIGIN, NOW).party is None)
    assert not speaks(refresh, CA_2)
    now[0] += timedelta(seconds=61)
    with pytest.raises(StoreUnavailableError):
        _ = refresh.snapshot
    keys.may_answer.set()
    await eventually(lambda: _loaded(refresh) and speaks(refresh, CA_2))
    following.cancel()


class Moving(MemoryStore):
    """Its connection is lost again and again, in the middle."""

    moves = False

    async def changes(self, *, since: int) -> list[Change]:
        """On a new connection."""
        self.connection += self.moves
        return await super().changes(since=since)

    async def grants(self) -> list[Grant]:
        """On another one."""
        self.connection += self.moves
        return await super().grants()


@pytest.mark.req("R-4-4-4-2-1")
async def test_one_server_does_not_vouch_for_what_another_one_said(tmp_path: Path) -> None:
    """What was read after the connection was made anew confirms nothing, and is not what everything is loaded from."""
    store, told = Moving(), Told()
    store.add_ca(CA_1, CA_1.delegate(SERIAL, KEY))
    refresh = Refresh(store, key_store(tmp_path, (SERIAL, KEY)), lambda: NOW, told)
    store.moves = True
    with pytest.raises(StoreUnavailableError):
        await refresh.load()
    store.moves = False
    await refresh.load()
    following = asyncio.create_task(refresh.follow())
    store.moves = True
    number = store.connection
    store.wake()
    await eventually(lambda: store.connection > number)
    assert len(told.confirmed) == 1
    store.moves = False
    store.wake()
    await eventually(lambda: len(told.confirmed) == 2)
    following.cancel()
