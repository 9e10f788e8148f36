"""Names, passwords and tokens in the Authorization header."""

import asyncio
from base64 import b64encode
from collections.abc import Iterator

import argon2
import pytest

import ocsp.credentials
from ocsp.credentials import BearerToken, NameAndPassword, PasswordVerifier, parse_authorization
from ocsp.errors import TooManyRequestsError
from settings import passwords

PASSWORD = b"correct horse battery"
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=64).hash(PASSWORD)
OTHER = argon2.PasswordHasher(time_cost=1, memory_cost=64).hash(b"another")


def basic(content: bytes) -> str:
    return "Basic " + b64encode(content).decode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (basic(b"verifier:correct horse"), NameAndPassword("verifier", b"correct horse")),
        (basic(b"verifier:a:b"), NameAndPassword("verifier", b"a:b")),
        (basic("税務課:パスワード".encode()), NameAndPassword("税務課", "パスワード".encode())),
        (basic(b":"), NameAndPassword("", b"")),
        ("BASIC   dmVyaWZpZXI6eA==", NameAndPassword("verifier", b"x")),
        (basic(b"verifier"), None),
        (basic(b"\xff:x"), None),
        ("Basic ???", None),
        ("Basic", None),
        ("Bearer prefca_abc", BearerToken("prefca_abc")),
        ("Digest username=verifier", None),
        ("", None),
    ],
)
def test_the_header_is_read(value: str, expected: object) -> None:
    """RFC 7617 and RFC 6750; anything else is nothing."""
    assert parse_authorization(value) == expected


def test_a_secret_is_not_in_the_representation() -> None:
    """Which is what gets into logs and tracebacks."""
    shown = repr([NameAndPassword("verifier", PASSWORD), BearerToken("prefca_abc")])
    assert "correct" not in shown
    assert "prefca_abc" not in shown


class Clock:
    """Stands still unless told otherwise."""

    now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


class Hasher:
    """Argon2 that counts."""

    def __init__(self) -> None:
        self.calls = 0

    def has_hash(self, password: bytes, secret_hash: str) -> bool:
        """As argon2 does it, faster."""
        self.calls += 1
        return (secret_hash, password) in ((HASH, PASSWORD), (OTHER, b"another"))


@pytest.fixture
def hasher(monkeypatch: pytest.MonkeyPatch) -> Hasher:
    """In place of Argon2."""
    hasher = Hasher()
    monkeypatch.setattr(passwords, "has_hash", hasher.has_hash)
    return hasher


@pytest.fixture
def clock() -> Clock:
    """Of the verifier."""
    return Clock()


@pytest.fixture
def verifier(clock: Clock) -> Iterator[PasswordVerifier]:
    """With an empty memory."""
    verifier = PasswordVerifier(bytes(32), clock)
    yield verifier
    verifier.close()


async def test_a_password_is_verified_with_argon2(verifier: PasswordVerifier) -> None:
    """Against each of the hashes."""
    assert await verifier.matching(PASSWORD, [OTHER, HASH]) == HASH
    assert await verifier.matching(b"wrong", [OTHER, HASH]) is None
    assert await verifier.matching(PASSWORD, ["no hash"]) is None


async def test_what_was_verified_is_remembered_for_a_while(
    verifier: PasswordVerifier, hasher: Hasher, clock: Clock
) -> None:
    """Then it is verified again. A wrong password is verified each time."""
    for _ in range(3):
        assert await verifier.matching(PASSWORD, [HASH]) == HASH
    assert hasher.calls == 1
    clock.now = ocsp.credentials.REMEMBERED_S
    assert await verifier.matching(PASSWORD, [HASH]) == HASH
    assert hasher.calls == 2
    for _ in range(2):
        assert await verifier.matching(b"wrong", [HASH]) is None
    assert hasher.calls == 4


async def test_what_was_verified_is_remembered_for_that_hash_only(verifier: PasswordVerifier, hasher: Hasher) -> None:
    """A credential that was replaced is of no use any more."""
    assert await verifier.matching(PASSWORD, [HASH]) == HASH
    assert await verifier.matching(PASSWORD, [OTHER]) is None


async def test_an_unknown_name_takes_its_time_too(verifier: PasswordVerifier, hasher: Hasher) -> None:
    """Or the time would tell which names exist."""
    assert await verifier.matching(PASSWORD, []) is None
    assert hasher.calls == 1


async def test_the_same_password_is_verified_once_for_all_who_wait(verifier: PasswordVerifier, hasher: Hasher) -> None:
    """A party that opens many connections at once."""
    answers = await asyncio.gather(*(verifier.matching(PASSWORD, [HASH]) for _ in range(100)))
    assert answers == [HASH] * 100
    assert hasher.calls == 1


async def test_a_flood_of_passwords_is_turned_away(verifier: PasswordVerifier, hasher: Hasher) -> None:
    """`tryLater`, and the next one is verified as ever."""
    guesses = (verifier.matching(b"%d" % n, [HASH]) for n in range(200))
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {type(None), TooManyRequestsError}
    assert hasher.calls == ocsp.credentials.MAX_WAITING
    assert await verifier.matching(PASSWORD, [HASH]) == HASH


async def test_memory_is_bounded(verifier: PasswordVerifier, hasher: Hasher, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is verified again."""
    monkeypatch.setattr(ocsp.credentials, "MAX_REMEMBERED", 1)
    for password, secret_hash in ((PASSWORD, HASH), (b"another", OTHER), (PASSWORD, HASH)):
        assert await verifier.matching(password, [secret_hash]) == secret_hash
    assert hasher.calls == 3
