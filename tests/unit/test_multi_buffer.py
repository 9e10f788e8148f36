"""Signatures that are made side by side are those that are made one by one."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from pkix import multi_buffer
from pkix.multi_buffer import LANES, lanes_of
from pkix.signing import verify
from pkix.software import PrivateKey, SoftwareSigner
from tests.support.keys import p256_key, rsa_key

KEYS: list[Callable[[], PrivateKey]] = [rsa_key, p256_key]
MESSAGES = [b"answer %d" % number for number in range(2 * LANES + 3)]
DIGESTS = [hashlib.sha256(message).digest() for message in MESSAGES]

needs_lanes = pytest.mark.skipif(lanes_of(rsa_key()) is None, reason="this processor has no AVX-512 IFMA")


@pytest.fixture
def library_is_missing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def missing(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr(multi_buffer, "_file", missing)
    multi_buffer._library.cache_clear()
    yield
    multi_buffer._library.cache_clear()


def assert_signed(signer: SoftwareSigner, signatures: list[bytes], messages: list[bytes]) -> None:
    """There is one signature for each message, in their order."""
    assert [verify(signer.public_key, one, [message]) for one, message in zip(signatures, messages, strict=True)] == [
        True
    ] * len(messages)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("count", [0, 1, 2, 3, LANES - 1, LANES, LANES + 1, len(MESSAGES)])
def test_each_digest_gets_its_signature(key: Callable[[], PrivateKey], count: int) -> None:
    """However many there are, whether the machine signs them side by side or not."""
    signer = SoftwareSigner(key())
    assert_signed(signer, signer.sign_digests(DIGESTS[:count]), MESSAGES[:count])


@pytest.mark.usefixtures("library_is_missing")
@pytest.mark.parametrize("key", KEYS)
def test_without_the_library_they_are_made_one_by_one(key: Callable[[], PrivateKey]) -> None:
    """The packages are wanted by nobody: without them the same comes out, later."""
    assert lanes_of(key()) is None
    signer = SoftwareSigner(key())
    assert_signed(signer, signer.sign_digests(DIGESTS), MESSAGES)


@needs_lanes
@pytest.mark.parametrize("key", KEYS)
def test_lanes_sign_each_digest(key: Callable[[], PrivateKey]) -> None:
    """Also if not every lane has a digest of its own."""
    lanes = lanes_of(key())
    assert lanes is not None
    for count in range(1, LANES + 1):
        signatures = lanes.sign(DIGESTS[:count])
        assert signatures is not None
        assert_signed(SoftwareSigner(key()), signatures, MESSAGES[:count])


@needs_lanes
def test_no_secret_number_comes_twice() -> None:
    """Two ECDSA signatures with one secret number give away the key: r would be the same."""
    lanes = lanes_of(p256_key())
    assert lanes is not None
    rs = [decode_dss_signature(one)[0] for _ in range(50) for one in lanes.sign([DIGESTS[0]] * LANES) or ()]
    assert len(set(rs)) == len(rs) == 50 * LANES


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: rsa.generate_private_key(65537, 3072), id="RSA-3072"),
        pytest.param(lambda: rsa.generate_private_key(3, 2048), id="another exponent"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP384R1()), id="P-384"),
    ],
)
def test_other_keys_have_no_lanes(key: Callable[[], PrivateKey]) -> None:
    """The library is asked for what it was tried with."""
    assert lanes_of(key()) is None


@needs_lanes
@pytest.mark.parametrize("lane", range(LANES))
def test_a_faulty_signature_never_leaves(monkeypatch: pytest.MonkeyPatch, lane: int) -> None:
    """A bit that flips in one lane while RSA is computed would give away the key: everything is signed anew."""
    lanes = lanes_of(rsa_key())
    assert isinstance(lanes, multi_buffer._RSALanes)
    compute = lanes._private

    def with_a_fault(*arguments: object) -> int:
        status: int = compute(*arguments)
        made = list(lanes._signatures)
        made[lane] = bytes(octet ^ (place == 100) for place, octet in enumerate(made[lane]))
        lanes._signatures.fill(made)
        return status

    monkeypatch.setattr(lanes, "_private", with_a_fault)
    assert lanes.sign(DIGESTS[:LANES]) is None
    signer = SoftwareSigner(rsa_key())
    monkeypatch.setattr(signer, "_lanes", lanes)
    assert_signed(signer, signer.sign_digests(DIGESTS), MESSAGES)


@needs_lanes
@pytest.mark.parametrize("key", KEYS)
def test_threads_do_not_disturb_each_other(key: Callable[[], PrivateKey]) -> None:
    """One signer has one memory to compute in, and lets go of the interpreter while it does."""
    signer = SoftwareSigner(key())
    digests = [DIGESTS[begin : begin + LANES] for begin in range(LANES)]
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(signer.sign_digests, digests * 10))
    for begin, signatures in enumerate(made):
        assert_signed(signer, signatures, MESSAGES[begin % LANES : begin % LANES + LANES])
