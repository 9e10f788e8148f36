"""The delegates' keys in a PKCS#11 token."""

from dataclasses import dataclass

from ocsp.delegates import key_name
from pkix.pkcs11 import Token
from pkix.signing import Signer


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """Key pairs in a token, each labelled with the serial number of its delegate."""

    token: Token

    def signer(self, serial: int) -> Signer:
        """The key of one delegate.

        Raises:
            SigningError: it is not there, or the token cannot be used.
        """
        return self.token.signer(key_name(serial))

    def place(self, serial: int) -> str:
        """Its label, and that of the token."""
        return f"token {self.token.label}, key {key_name(serial)}"
