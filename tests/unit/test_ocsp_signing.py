"""Signatures of the responder: each question gets its own, whoever signs beside it."""

import asyncio
from functools import cache

import pytest

from ocsp.errors import KeyUnavailableError
from ocsp.metrics import Metrics
from ocsp.signing import Outcome, Signatures
from pkix.signing import SigningError, verify
from pkix.software import SoftwareSigner
from tests.support.keys import p256_key, rsa_key


@cache
def signers() -> list[SoftwareSigner]:
    """Two delegates, as during the change from RSA to P-256."""
    return [SoftwareSigner(rsa_key()), SoftwareSigner(p256_key())]


async def signed(questions: list[tuple[SoftwareSigner, bytes]]) -> list[Outcome]:
    """The outcomes for all of them, in their order."""
    signatures = Signatures(Metrics(), lambda: None)
    outcomes: dict[int, Outcome] = {}
    are_done = asyncio.Event()

    def done(number: int, outcome: Outcome) -> None:
        outcomes[number] = outcome
        if len(outcomes) == len(questions):
            are_done.set()

    for number, (signer, to_be_signed) in enumerate(questions):
        signatures.sign(signer, to_be_signed, lambda outcome, number=number: done(number, outcome))  # type: ignore[misc]
    await are_done.wait()
    signatures.close()
    return [outcomes[number] for number in range(len(questions))]


@pytest.mark.parametrize("in_a_row", [1, 2, 5, 8, 13, 40])
async def test_each_answer_has_the_signature_of_its_delegate(in_a_row: int) -> None:
    """Many at once, some of one delegate and some of another, in whatever order."""
    questions = [(signers()[number // in_a_row % 2], b"answer %d" % number) for number in range(40)]
    outcomes = await signed(questions)
    for (signer, to_be_signed), outcome in zip(questions, outcomes, strict=True):
        assert isinstance(outcome, bytes)
        assert verify(signer.public_key, outcome, [to_be_signed])


async def test_a_key_that_fails_fails_its_own_answers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its questions are told to try later, those of another delegate get their answers."""
    well, ill = signers()

    def gone(_: object) -> list[bytes]:
        raise SigningError("the key is gone")

    monkeypatch.setattr(ill, "sign_digests", gone)
    outcomes = await signed([(signer, b"an answer") for signer in [well, ill, ill, well, ill]])
    assert [isinstance(outcome, KeyUnavailableError) for outcome in outcomes] == [False, True, True, False, True]
    assert all(verify(well.public_key, outcome, [b"an answer"]) for outcome in outcomes if isinstance(outcome, bytes))
