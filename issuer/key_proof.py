"""That a key is what it is taken for: proved each time it is opened, before it signs anything that counts."""

from uuid import uuid4

from cryptography import x509

from issuer.errors import RefusedError
from pkix.signing import Signer, sign, verify

_PURPOSE = b"prefca: proof of possession\x00"  # begins no certificate and no list


def require_own(signer: Signer, certificate: x509.Certificate, key_reference: str) -> None:
    """The key has the public half that the certificate names, and signs what that verifies.

    A token tells of a public key whatever is stored there under its label; only a signature over octets that were never
    signed before shows which private key answers.

    Raises:
        SigningError: the key cannot be used now.
        RefusedError: it is another key.
    """
    nonce = _PURPOSE + uuid4().bytes
    public_key = certificate.public_key()
    if signer.public_key != public_key or not verify(signer.public_key, sign(signer, nonce), [nonce]):
        raise RefusedError(f"key {key_reference} is not the one of the CA's certificate; restore the right key")
