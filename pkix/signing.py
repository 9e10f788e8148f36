"""Signing in three steps, so that a key may live anywhere: encode the to-be-signed part, sign it, assemble.

A Signer signs a SHA-256 digest: hashing is done outside the token, so that a list of 400 MB costs it one small call.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn, Protocol, runtime_checkable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from pkix import der

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
DIGEST: Final = Prehashed(hashes.SHA256())
SHA256_WITH_RSA_OID: Final = "1.2.840.113549.1.1.11"
ECDSA_WITH_SHA256_OID: Final = "1.2.840.10045.4.3.2"
SHA256_WITH_RSA: Final = der.sequence(der.object_identifier(SHA256_WITH_RSA_OID), der.NULL)
ECDSA_WITH_SHA256: Final = der.sequence(der.object_identifier(ECDSA_WITH_SHA256_OID))


class SigningError(Exception):
    """The key could not sign: token gone, session closed, wrong PIN. The message says what to do."""


class NoSuchKeyError(SigningError):
    """There is no key with that name."""


class Signer(Protocol):
    """A private key, wherever it lives."""

    @property
    def public_key(self) -> PublicKey:
        """Its public half."""

    def sign_digest(self, digest: bytes) -> bytes:
        """The signature over a SHA-256 digest of 32 octets.

        Raises:
            SigningError: the key cannot be used now.
        """


@runtime_checkable
class SeveralSigner(Signer, Protocol):
    """A private key that may sign several digests in less time than one after the other."""

    def sign_digests(self, digests: Sequence[bytes]) -> list[bytes]:
        """The signatures over SHA-256 digests, in their order; raises SigningError."""


def algorithm_oid(key: PublicKey) -> str:
    """The dotted OID of signatures by `key`, with SHA-256."""
    return SHA256_WITH_RSA_OID if isinstance(key, rsa.RSAPublicKey) else ECDSA_WITH_SHA256_OID


def algorithm_identifier(key: PublicKey) -> bytes:
    """The DER AlgorithmIdentifier of signatures by `key`, with SHA-256."""
    return SHA256_WITH_RSA if isinstance(key, rsa.RSAPublicKey) else ECDSA_WITH_SHA256


def sign(signer: Signer, *to_be_signed: bytes) -> bytes:
    """The signature over the joined octets, hashed here."""
    digest = hashlib.sha256()
    for octets in to_be_signed:
        digest.update(octets)
    return signer.sign_digest(digest.digest())


def sign_each(signer: Signer, to_be_signed: Iterable[bytes]) -> list[bytes]:
    """The signatures over each of them, in their order; raises SigningError."""
    digests = [hashlib.sha256(octets).digest() for octets in to_be_signed]
    if isinstance(signer, SeveralSigner):
        return signer.sign_digests(digests)
    return [signer.sign_digest(digest) for digest in digests]


def verify(key: PublicKey, signature: bytes, to_be_signed: Iterable[bytes | memoryview]) -> bool:
    """Is `signature` one by `key` over the joined octets?"""
    digest = hashlib.sha256()
    for octets in to_be_signed:
        digest.update(octets)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest.digest(), padding.PKCS1v15(), DIGEST)
        else:
            key.verify(signature, digest.digest(), ec.ECDSA(DIGEST))
    except InvalidSignature:
        return False
    return True


def signed(to_be_signed: bytes, key: PublicKey, signature: bytes) -> bytes:
    """SIGNED{…}: a Certificate or CertificateList from its to-be-signed part (RFC 5280, sections 4.1 and 5.1)."""
    return der.sequence(to_be_signed, algorithm_identifier(key), der.bit_string(signature))


class _Recorder(rsa.RSAPrivateKey):
    """A key that signs nothing and keeps what it was asked to sign.

    pyca accepts any subclass of RSAPrivateKey ("Cloud KMS and HSM asymmetric keys" in its documentation), so its
    builders encode the to-be-signed part for us.
    """

    to_be_signed: bytes

    def sign(self, data: Any, padding: Any, algorithm: Any) -> bytes:  # noqa: ANN401, ARG002 - the signature is pyca's
        self.to_be_signed = bytes(data)
        return b"\x00"

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError("there is no key here")

    decrypt = private_bytes = private_numbers = public_key = _refuse
    __copy__ = __deepcopy__ = _refuse

    @property
    def key_size(self) -> int:
        return self._refuse()


def tbs_certificate(builder: x509.CertificateBuilder) -> bytes:
    """The DER of TBSCertificate, to be signed with RSA and SHA-256."""
    recorder = _Recorder()
    builder.sign(recorder, hashes.SHA256())
    return recorder.to_be_signed


def tbs_cert_list(builder: x509.CertificateRevocationListBuilder) -> bytes:
    """The DER of TBSCertList, to be signed with RSA and SHA-256."""
    recorder = _Recorder()
    builder.sign(recorder, hashes.SHA256())
    return recorder.to_be_signed
