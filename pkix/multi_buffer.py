"""Eight signatures side by side, where there are AVX-512 IFMA and Intel's Cryptography Primitives Library.

Its functions named mb8 ("multi-buffer") work on eight numbers in the lanes of 512-bit registers, in constant time:
eight signatures take little more than twice as long as one. It comes in two packages, `ipp-crypto` and the runtime of
the compiler that it was made with. Without it, or on other processors, no key has lanes.
"""

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

LANES: Final = 8
USUAL_EXPONENT: Final = 65537
RSA_OCTETS: Final = 256
P256_OCTETS: Final = 32
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # SEC 2, section 2.4.2
DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017, section 9.2, SHA-256
BEFORE_DIGEST: Final = b"\x00\x01" + b"\xff" * (RSA_OCTETS - len(DIGEST_INFO) - 32 - 3) + b"\x00" + DIGEST_INFO

RSA_2K, NIST_P256 = 1, 5  # enum MBX_ALGO
RUNTIME: Final = ("libintlc.so.", "libimf.so", "libirng.so", "libsvml.so")  # what it is linked with, in this order

_Pointers = ctypes.c_void_p * LANES


class Lanes(Protocol):
    """A private key that signs up to eight digests at once."""

    def sign(self, digests: Sequence[bytes]) -> list[bytes] | None:
        """The signatures over one to eight SHA-256 digests, in their order; None: they could not be made here."""


def lanes_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> Lanes | None:
    """The lanes of an RSA-2048 or P-256 key, if this machine has them."""
    library = _library()
    if library is None:
        return None
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.private_numbers()
        return _RSALanes(library, numbers) if _is_usual(numbers) and _has(library, RSA_2K) else None
    is_p256 = isinstance(key.curve, ec.SECP256R1)
    return _P256Lanes(library, key.private_numbers()) if is_p256 and _has(library, NIST_P256) else None


class _Memory:
    """Room for a number in each lane."""

    def __init__(self, octets: int) -> None:
        self._size = octets
        self._memory = ctypes.create_string_buffer(LANES * octets)
        begin = ctypes.addressof(self._memory)
        self.pointers = _Pointers(*range(begin, begin + LANES * octets, octets))

    def fill(self, lanes: Sequence[bytes]) -> None:
        """Put octets into every lane; those that are left get the last ones, too. Raises ValueError: too many."""
        self._memory.raw = b"".join(lanes) + lanes[-1] * (LANES - len(lanes))

    def clear(self) -> None:
        """Forget what was there."""
        ctypes.memset(self._memory, 0, len(self._memory))

    def __iter__(self) -> Iterator[bytes]:
        octets = self._memory.raw
        return (octets[begin : begin + self._size] for begin in range(0, len(octets), self._size))


def _everywhere(number: int, octets: int) -> _Memory:
    """A number in every lane, in the octet order of the processor."""
    memory = _Memory(octets)
    memory.fill([number.to_bytes(octets, "little")])
    return memory


class _RSALanes:
    """RSASSA-PKCS1-v1_5 (RFC 8017, section 8.2.1), by the Chinese Remainder Theorem.

    A fault in one half of that gives away the key to whoever sees the signature, so each one is verified first.
    """

    def __init__(self, library: ctypes.CDLL, numbers: rsa.RSAPrivateNumbers) -> None:
        factors = (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
        self._factors = [_everywhere(number, RSA_OCTETS // 2) for number in factors]
        self._modulus = _everywhere(numbers.public_numbers.n, RSA_OCTETS)
        self._messages, self._signatures, self._opened = _Memory(RSA_OCTETS), _Memory(RSA_OCTETS), _Memory(RSA_OCTETS)
        self._private, self._public = library.mbx_rsa_private_crt_mb8, library.mbx_rsa_public_mb8
        self._lock = threading.Lock()

    def sign(self, digests: Sequence[bytes]) -> list[bytes] | None:
        with self._lock:
            self._messages.fill([BEFORE_DIGEST + digest for digest in digests])
            messages, signatures = self._messages.pointers, self._signatures.pointers
            factors = (one.pointers for one in self._factors)
            bits, method = 8 * RSA_OCTETS, None
            if self._private(messages, signatures, *factors, bits, method, None):
                return None
            if self._public(signatures, self._opened.pointers, self._modulus.pointers, bits, method, None):
                return None
            if list(self._opened) != list(self._messages):
                return None
            return list(self._signatures)[: len(digests)]


class _P256Lanes:
    """ECDSA with P-256 (FIPS 186-5, section 6.4.1); its secret numbers are drawn as in appendix A.3.2 there."""

    def __init__(self, library: ctypes.CDLL, numbers: ec.EllipticCurvePrivateNumbers) -> None:
        self._key = _everywhere(numbers.private_value, P256_OCTETS)
        self._digests, self._secrets = _Memory(P256_OCTETS), _Memory(P256_OCTETS)
        self._r, self._s = _Memory(P256_OCTETS), _Memory(P256_OCTETS)
        self._sign = library.mbx_nistp256_ecdsa_sign_mb8
        self._lock = threading.Lock()

    def sign(self, digests: Sequence[bytes]) -> list[bytes] | None:
        with self._lock:
            self._digests.fill(digests)
            self._secrets.fill(_secret_numbers())
            inputs = (self._digests.pointers, self._secrets.pointers, self._key.pointers)
            status = self._sign(self._r.pointers, self._s.pointers, *inputs, None)
            self._secrets.clear()
            if status:
                return None
            both = zip(self._r, self._s, digests, strict=False)
            return [encode_dss_signature(int.from_bytes(r), int.from_bytes(s)) for r, s, _ in both]


def _secret_numbers() -> list[bytes]:
    """A number for each lane, from 1 to the order of the group less 1, each as likely as any other."""
    while True:
        octets = os.urandom(LANES * P256_OCTETS)  # noqa: TID251 - no caller may know them, or give one twice
        drawn = [octets[begin : begin + P256_OCTETS] for begin in range(0, len(octets), P256_OCTETS)]
        if all(0 < int.from_bytes(one, "little") < P256_ORDER for one in drawn):
            return drawn


def _is_usual(numbers: rsa.RSAPrivateNumbers) -> bool:
    """Are its size, its factors' and its exponent those that the library has a method for?"""
    public = numbers.public_numbers
    halves = numbers.p.bit_length() == numbers.q.bit_length() == 4 * RSA_OCTETS
    return halves and public.n.bit_length() == 8 * RSA_OCTETS and public.e == USUAL_EXPONENT


def _has(library: ctypes.CDLL, algorithm: int) -> bool:
    """Does this processor have what the library needs for an algorithm?"""
    widths: int = library.mbx_get_algo_info(algorithm)
    return bool(widths & LANES)


@cache
def _library() -> ctypes.CDLL | None:
    """The library, if it is installed and can be loaded here."""
    try:
        for name in RUNTIME:
            ctypes.CDLL(str(_file("intel-cmplr-lib-rt", name)))
        library = ctypes.CDLL(str(_file("ipp-crypto", "libcrypto_mb.so.")))
    except (OSError, LookupError, metadata.PackageNotFoundError):
        return None
    pointers, number, buffer = _Pointers, ctypes.c_int, ctypes.c_void_p
    library.mbx_rsa_private_crt_mb8.argtypes = [*[pointers] * 7, number, buffer, buffer]
    library.mbx_rsa_public_mb8.argtypes = [*[pointers] * 3, number, buffer, buffer]
    library.mbx_nistp256_ecdsa_sign_mb8.argtypes = [*[pointers] * 5, buffer]
    library.mbx_get_algo_info.restype = ctypes.c_uint64
    return library


def _file(package: str, begins: str) -> Path:
    """The file of a package whose name begins so; raises PackageNotFoundError or LookupError: it is not installed."""
    for file in metadata.files(package) or ():
        if file.name.startswith(begins):
            return Path(str(file.locate()))
    raise LookupError(f"{package} has no {begins}")
