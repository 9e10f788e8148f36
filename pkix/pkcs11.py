"""Keys inside a PKCS#11 token: an HSM in production, SoftHSM2 in tests and for a try.

Theory of operation. A Token holds one life of its module (`pkix.cryptoki`). A thread borrows a session of its own to
sign with, and what it looked up stays with the session. After any failure the life is over: once no thread is inside
the module, the next call leaves it and logs in anew, which is what a module needs after its token went away and came
back.

A forked child would share its parent's life: start processes with spawn.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import (
    Attribute,
    AttributeSensitive,
    AttributeTypeInvalid,
    KeyType,
    Mechanism,
    MechanismFlag,
    Object,
    ObjectClass,
    PKCS11Error,
    Session,
    SignMixin,
)

from pkix import cryptoki, der
from pkix.signing import NoSuchKeyError, PublicKey, SigningError

RSA_BITS: Final = 2048  # R-6-1-1-2
P256: Final = der.object_identifier("1.2.840.10045.3.1.7")
P256_POINT_OCTETS: Final = 65  # 04 || x || y
SHA256_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017, section 9.2, note 1


class Token:
    """A token whose user is logged in, from `open_token` to `close`. Any thread may use it; calls block."""

    def __init__(self, module: Path, label: str, pin: str) -> None:
        self.label = label
        self._module = module
        self._pin: str | None = pin  # None: closed, or refused once; then it is never sent again
        self._life: cryptoki.Life | None = None  # None: log in first
        self._idle: list[_Session] = []  # append and pop are atomic
        self._failed = False  # this life is over as soon as nobody is busy
        self._busy = 0  # threads inside the module
        self._turn = threading.Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def signer(self, label: str) -> "Pkcs11Signer":
        """The key pair named `label`.

        Raises:
            NoSuchKeyError: there is none.
            SigningError: the token is gone, there are several such keys, or it is neither RSA nor P-256.
        """
        with self.session() as session:
            session.private_key(label)
            return Pkcs11Signer(self, label, session.public_key(label))

    def unconfined(self, label: str) -> list[str]:
        """Which of the attributes that keep a private key in the token the one named `label` has not (R-6-2-1-3).

        Raises:
            NoSuchKeyError: there is none.
            SigningError: the token is gone, or there are several such keys.
        """
        with self.session() as session:
            return session.unconfined(label)

    def destroy(self, label: str) -> None:
        """Delete the key pair named `label`, for good (R-6-2-1-9). What is not there any more is not missed.

        Raises:
            SigningError: the token is write-protected, or gone.
        """
        with self.session() as session:
            session.destroy(label)

    def generate_rsa(self, label: str) -> "Pkcs11Signer":
        """Make an RSA-2048 key pair whose private key never leaves the token and only signs (R-6-1-1-2 to R-6-1-1-4).

        Raises:
            SigningError: the token has a key named `label` already, is write-protected, or gone.
        """
        with self.session() as session:
            session.generate_rsa(label)
        return self.signer(label)

    def generate_p256(self, label: str) -> "Pkcs11Signer":
        """Make a P-256 key pair with the same properties.

        Raises:
            SigningError: the token has a key named `label` already, has no such curve, is write-protected, or gone.
        """
        with self.session() as session:
            session.generate_p256(label)
        return self.signer(label)

    def change_pin(self, new: str) -> None:
        """Set another PIN of the normal user.

        Raises:
            SigningError: the token takes no such PIN, or is gone.
        """
        with self.session() as session:
            session.change_pin(self._pin or "", new)
        self._pin = new

    @contextmanager
    def session(self) -> "Iterator[_Session]":
        """A session for one thread, logged in; anew if the last life ended.

        Raises:
            SigningError: the token failed, now or while the session was used.
        """
        life = self._enter()
        try:
            session = self._borrow(life)
            yield session
        except SigningError:
            self._failed = True  # a key that is not found may be a token that is gone
            raise
        except PKCS11Error as e:
            self._failed = True
            reason = cryptoki.cause(e)
            raise SigningError(f"token {self.label}: {reason}; see that it is connected, then try again") from e
        else:
            self._idle.append(session)
        finally:
            with self._turn:
                self._busy -= 1
                self._turn.notify_all()

    def close(self) -> None:
        """Log out and leave the module, once no thread is inside. The Token is of no use afterwards."""
        with self._turn:
            self._pin = None
            self._turn.wait_for(lambda: self._busy == 0)
            self._end_life()

    def _enter(self) -> cryptoki.Life:
        with self._turn:
            self._turn.wait_for(lambda: not self._failed or self._busy == 0)
            if self._failed:
                self._end_life()
            if self._life is None:
                self._life = self._log_in()
            self._busy += 1
            return self._life

    def _borrow(self, life: cryptoki.Life) -> "_Session":
        try:
            return self._idle.pop()
        except IndexError:  # as many sessions as threads ever signed at once
            return _Session(life.session())

    def _log_in(self) -> cryptoki.Life:
        if self._pin is None:
            raise SigningError(f"token {self.label}: closed, or its PIN was refused; open it again with its PIN")
        try:
            return cryptoki.Life(self._module, self.label, self._pin)
        except cryptoki.PinRefusedError:
            self._pin = None
            raise

    def _end_life(self) -> None:
        if self._life is not None:
            self._life.end()
        self._life, self._failed = None, False
        self._idle.clear()


def open_token(module: Path, label: str, pin: str) -> Token:
    """Log in to the token named `label`.

    Args:
        module: the PKCS#11 library of the token.
        label: its label, up to 32 octets.
        pin: of its normal user; kept, to log in anew after the token was away.

    Raises:
        PinRefusedError: the PIN is wrong, locked or expired.
        SigningError: the module is missing or cannot be loaded, this process has it open already, or no token, or more
            than one, has that label.
    """
    token = Token(module, label, pin)
    with token.session():
        return token


class Pkcs11Signer:
    """A key pair in a token. The digest goes in, the signature comes out."""

    def __init__(self, token: Token, label: str, public_key: PublicKey) -> None:
        self.public_key = public_key
        self._token = token
        self._label = label

    def sign_digest(self, digest: bytes) -> bytes:
        """The signature over a SHA-256 digest of 32 octets.

        Raises:
            SigningError: the token cannot be used now. A later call logs in anew.
        """
        with self._token.session() as session:
            key = session.private_key(self._label)
            if isinstance(self.public_key, rsa.RSAPublicKey):
                return key.sign(SHA256_DIGEST_INFO + digest, mechanism=Mechanism.RSA_PKCS)
            raw = key.sign(digest, mechanism=Mechanism.ECDSA)
        middle = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:middle], "big"), int.from_bytes(raw[middle:], "big"))


class _Session:
    """A session of one thread at a time, and the private keys found in it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._private_keys: dict[str, SignMixin] = {}

    def private_key(self, label: str) -> SignMixin:
        """The private key named `label`; searched for once."""
        if label not in self._private_keys:
            key = self._only(ObjectClass.PRIVATE_KEY, label)
            if not isinstance(key, SignMixin):
                raise SigningError(f"private key {label} is not one that may sign; name another key")
            self._private_keys[label] = key
        return self._private_keys[label]

    def public_key(self, label: str) -> PublicKey:
        """The public key named `label`."""
        key = self._only(ObjectClass.PUBLIC_KEY, label)
        kind = key[Attribute.KEY_TYPE]
        if kind == KeyType.RSA:
            n, e = (int.from_bytes(key[number], "big") for number in (Attribute.MODULUS, Attribute.PUBLIC_EXPONENT))
            return rsa.RSAPublicNumbers(e, n).public_key()
        if kind == KeyType.EC and key[Attribute.EC_PARAMS] == P256:
            # An OCTET STRING around the point; some tokens leave its header out.
            point = key[Attribute.EC_POINT][-P256_POINT_OCTETS:]
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        raise SigningError(f"key {label} is neither an RSA nor a P-256 key; name one of these")

    def unconfined(self, label: str) -> list[str]:
        """The attributes of the private key that are not as they must be."""
        key = self.private_key(label)
        return [attribute.name for attribute, wanted in _CONFINED.items() if _attribute(key, attribute) is not wanted]

    def destroy(self, label: str) -> None:
        """Delete the objects of a key pair."""
        with self._read_write() as session:
            for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
                for key in session.get_objects({Attribute.CLASS: kind, Attribute.LABEL: label}):
                    key.destroy()
        self._private_keys.pop(label, None)

    def generate_rsa(self, label: str) -> None:
        """Make an RSA key pair in the token."""
        with self._writable(label) as session:
            session.generate_keypair(KeyType.RSA, RSA_BITS, **_key_pair(label))

    def generate_p256(self, label: str) -> None:
        """Make a P-256 key pair in the token."""
        with self._writable(label) as session:
            curve = session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: P256}, local=True)
            curve.generate_keypair(**_key_pair(label))

    def change_pin(self, old: str, new: str) -> None:
        """Set another PIN (C_SetPIN, which needs a read/write session)."""
        writable = self._session.token.open(rw=True)
        try:
            writable.set_pin(old, new)
        finally:
            writable.close()

    @contextmanager
    def _writable(self, label: str) -> Iterator[Session]:
        """A session that may make a key pair of this name."""
        if self._find(ObjectClass.PRIVATE_KEY, label) or self._find(ObjectClass.PUBLIC_KEY, label):
            raise SigningError(f"there is a key named {label} already; choose another name")
        with self._read_write() as session:
            yield session

    @contextmanager
    def _read_write(self) -> Iterator[Session]:
        session = self._session.token.open(rw=True)
        try:
            yield session
        finally:
            session.close()

    def _find(self, kind: ObjectClass, label: str) -> list[Object]:
        return list(self._session.get_objects({Attribute.CLASS: kind, Attribute.LABEL: label}))

    def _only(self, kind: ObjectClass, label: str) -> Object:
        found = self._find(kind, label)
        if len(found) == 1:
            return found[0]
        what = kind.name.lower().replace("_", " ")
        if found:
            raise SigningError(f"{len(found)} {what}s are named {label}; give each a name of its own")
        there = ", ".join(
            sorted(str(key[Attribute.LABEL]) for key in self._session.get_objects({Attribute.CLASS: kind}))
        )
        raise NoSuchKeyError(f"no {what} is named {label}; correct the name (there is: {there or 'none'})")


# How a private key is that was made in the token, never leaves it, and only signs (R-6-1-1-1, R-6-1-1-4, R-6-2-1-3).
_CONFINED: Final = {
    Attribute.LOCAL: True,
    Attribute.SENSITIVE: True,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.NEVER_EXTRACTABLE: True,
}


def _attribute(key: Any, attribute: Attribute) -> object:  # noqa: ANN401 - untyped library
    """The value of an attribute; None: the token does not tell it."""
    try:
        value: object = key[attribute]
    except (AttributeTypeInvalid, AttributeSensitive):
        return None
    return value


def _key_pair(label: str) -> dict[str, Any]:
    """What a key pair is made with: the private key never leaves the token, and only signs."""
    return {
        "label": label,
        "id": label.encode(),
        "store": True,
        "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
        "private_template": {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.SIGN_RECOVER: False},
    }
