"""Passwords that were right are remembered for a moment; who waits has a turn."""

import asyncio
from collections.abc import Callable

import pytest

from repository import passwords
from repository.authentication import VerifyPassword
from repository.passwords import PasswordMemory, PasswordVerifier

KEY = bytes(32)
HASH, OTHER_HASH = "$argon2id$a", "$argon2id$b"


class Clock:
    """Seconds, as the test wants them."""

    now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_a_right_password_is_remembered_for_a_while() -> None:
    """Only together with its hash: a credential that was replaced is verified anew."""
    clock = Clock()
    memory = PasswordMemory(KEY, 60, clock)
    assert memory.matching(b"secret", (HASH,)) is None
    memory.add(b"secret", HASH)
    clock.now += 59
    assert memory.matching(b"secret", (OTHER_HASH, HASH)) == HASH
    assert memory.matching(b"secret", (OTHER_HASH,)) is None
    assert memory.matching(b"Secret", (HASH,)) is None
    clock.now += 1
    assert memory.matching(b"secret", (HASH,)) is None


def test_the_memory_can_be_switched_off() -> None:
    """And then keeps nothing."""
    memory = PasswordMemory(KEY, 0, Clock())
    memory.add(b"secret", HASH)
    assert memory.matching(b"secret", (HASH,)) is None


def test_the_memory_contains_neither_password_nor_hash() -> None:
    """Only what the key of this process makes of them."""
    memory = PasswordMemory(KEY, 60, Clock())
    memory.add(b"secret", HASH)
    kept = repr(vars(memory))
    assert "secret" not in kept
    assert HASH not in kept


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords that were really verified, in order; "right" is right."""
    seen: list[bytes] = []

    def matching(password: bytes, hashes: tuple[str, ...]) -> str | None:
        seen.append(password)
        return hashes[0] if password == b"right" else None

    monkeypatch.setattr(passwords, "matching", matching)
    return seen


@pytest.fixture
def verifier() -> Callable[[], PasswordVerifier]:
    """Made within the loop."""
    return lambda: PasswordVerifier(PasswordMemory(KEY, 60, Clock()))


async def matching(verifier: PasswordVerifier, password: bytes, address: str) -> str | None:
    """What a bind with HASH that nobody refuses is told."""
    told: list[str | None] = []
    await verifier.verify(VerifyPassword(password, (HASH,), address), lambda: False, told.append)
    (found,) = told
    return found


async def test_a_client_that_binds_again_and_again_costs_one_verification(
    verified: list[bytes], verifier: Callable[[], PasswordVerifier]
) -> None:
    """Also one that does so on many connections at a time."""
    under_test = verifier()
    found = await asyncio.gather(*(matching(under_test, b"right", "192.0.2.1") for _ in range(20)))
    assert found == [HASH] * 20
    assert verified == [b"right"]
    under_test.close()


async def test_nobody_waits_behind_all_connections_of_somebody_else(
    verified: list[bytes], verifier: Callable[[], PasswordVerifier]
) -> None:
    """Each address has one turn, however many binds it has sent before."""
    under_test = verifier()
    guesses = [asyncio.ensure_future(matching(under_test, b"%d" % i, "192.0.2.1")) for i in range(20)]
    await asyncio.sleep(0)
    assert await matching(under_test, b"right", "198.51.100.1") == HASH
    assert verified.index(b"right") <= 2
    assert await asyncio.gather(*guesses) == [None] * 20
    under_test.close()


async def test_who_is_locked_out_when_the_turn_comes_costs_no_work(
    verified: list[bytes], verifier: Callable[[], PasswordVerifier]
) -> None:
    """The bind before has told how it ended, however many were sent at once."""
    under_test = verifier()
    told: list[str | None] = []
    binds = [VerifyPassword(b"%d" % i, (HASH,), "192.0.2.1") for i in range(20)]
    await asyncio.gather(*(under_test.verify(each, lambda: len(told) >= 3, told.append) for each in binds))
    assert told == [None] * 20
    assert verified == [b"0", b"1", b"2"]
    under_test.close()
