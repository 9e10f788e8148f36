"""Answers that are kept say what a new one would."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ocsp.cache import ENTRY_OVERHEAD_BYTES, AnswerCache
from ocsp.reply import Reply, told
from ocsp.request import CertID
from ocsp.response import Answer, ValidityInterval
from ocsp.status import SingleResponse
from pkix.revocation import Good

NOW = 1_000_000.0
STALENESS_S = 60


def kept(*serials: int, fresh_s: float = 150, valid_s: float = 300) -> Reply:
    """An answer of NOW about `serials`."""
    moment = datetime.fromtimestamp(NOW, UTC)
    singles = tuple(SingleResponse(CertID("", b"", b"", serial, b""), Good(), public=True) for serial in serials)
    interval = ValidityInterval(moment, moment + timedelta(seconds=valid_s))
    reply = told(b"the answer", Answer(singles, interval, has_nonce=False, public=True), "POST")
    return replace(reply, fresh_until=NOW + fresh_s)


@pytest.fixture
def cache() -> AnswerCache:
    """It heard of all changes up to NOW."""
    cache = AnswerCache(1_000_000, STALENESS_S)
    cache.confirm(NOW)
    return cache


def test_an_answer_is_given_again_until_its_middle_and_holds_until_its_end(cache: AnswerCache) -> None:
    """Whoever gets it last has the other half to use it."""
    cache.keep(b"question", kept(1), cache.ticket)
    cache.confirm(NOW + 1000)
    assert cache.fresh(b"question", NOW + 149) is not None
    assert cache.fresh(b"question", NOW + 150) is None
    assert cache.valid(b"question", NOW + 299) is not None
    assert cache.valid(b"question", NOW + 300) is None


@pytest.mark.req("R-4-4-4-2-1")
def test_a_revocation_drops_every_answer_about_that_certificate(cache: AnswerCache) -> None:
    """Also the one that speaks of others too."""
    cache.keep(b"1", kept(1), cache.ticket)
    cache.keep(b"1 otherwise", kept(1), cache.ticket)
    cache.keep(b"1 and 2", kept(1, 2), cache.ticket)
    cache.keep(b"2", kept(2), cache.ticket)
    cache.forget([1, 99])
    assert [cache.fresh(question, NOW) is None for question in (b"1", b"1 otherwise", b"1 and 2", b"2")] == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.req("R-4-4-4-2-1")
@pytest.mark.parametrize("what", ["forget", "clear"])
def test_an_answer_that_a_change_has_overtaken_is_not_kept(cache: AnswerCache, what: str) -> None:
    """Its status was read before the change, and its signature was ready after it."""
    ticket = cache.ticket
    if what == "forget":
        cache.forget([1])
    else:
        cache.clear()
    cache.keep(b"question", kept(1), ticket)
    assert cache.fresh(b"question", NOW) is None


def test_without_word_from_the_feed_nothing_is_given(cache: AnswerCache) -> None:
    """And again, when it is there again."""
    cache.keep(b"question", kept(1), cache.ticket)
    assert cache.fresh(b"question", NOW + STALENESS_S - 1) is not None
    assert cache.fresh(b"question", NOW + STALENESS_S) is None
    assert cache.valid(b"question", NOW + STALENESS_S) is None
    cache.confirm(NOW + STALENESS_S)
    assert cache.fresh(b"question", NOW + STALENESS_S) is not None


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    """What is kept anew is young again."""
    cache = AnswerCache(3 * (ENTRY_OVERHEAD_BYTES + 200), STALENESS_S)
    cache.confirm(NOW)
    for question in (b"a", b"b", b"c", b"a", b"d"):
        cache.keep(question, kept(1), cache.ticket)
    assert [cache.fresh(question, NOW) is not None for question in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]
    assert len(cache) == 3
    assert cache.size_bytes <= 3 * (ENTRY_OVERHEAD_BYTES + 200)


def test_nothing_is_left_of_what_was_dropped(cache: AnswerCache) -> None:
    """Not even what it was found by."""
    cache.keep(b"question", kept(1, 2), cache.ticket)
    cache.forget([2])
    assert (len(cache), cache.size_bytes) == (0, 0)
    cache.keep(b"question", kept(1), cache.ticket)
    cache.forget([2])
    assert len(cache) == 1


def test_a_cache_without_room_keeps_nothing() -> None:
    """`ocsp.cache_mib = 0`."""
    cache = AnswerCache(0, STALENESS_S)
    cache.confirm(NOW)
    cache.keep(b"question", kept(1), cache.ticket)
    assert len(cache) == 0
