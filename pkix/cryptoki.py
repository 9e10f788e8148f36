"""One life of a PKCS#11 module in this process: C_Initialize … C_Login … C_Finalize. For `pkix.pkcs11` only.

Section numbers are those of PKCS #11 Cryptographic Token Interface Base Specification 2.40.
"""

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pkcs11
from pkcs11 import PKCS11Error, _pkcs11

from pkix.signing import SigningError

CKF_OS_LOCKING_OK: Final = 0x02
CKR_CRYPTOKI_ALREADY_INITIALIZED: Final = 0x191

PIN_REFUSED: Final[dict[type[Exception], str]] = {
    pkcs11.PinIncorrect: "wrong PIN; check it before you try again, tokens lock themselves after a few wrong ones",
    pkcs11.PinInvalid: "wrong PIN: it has characters that the token does not allow; check it",
    pkcs11.PinLenRange: "wrong PIN: the token expects another length; check it",
    pkcs11.PinLocked: "the PIN is locked; have the token's security officer set a new one",
    pkcs11.PinExpired: "the PIN has expired; set a new one with the token's own tool",
}


class PinRefusedError(SigningError):
    """The token did not accept the PIN. To send the same again may lock it."""


class Life:
    """A module in use, with one of its tokens logged in.

    A process has one life of a module at a time. The session that logged in stays open: closing it logs out the others.

    Raises:
        PinRefusedError: the PIN is wrong, locked or expired.
        SigningError: the module is missing, cannot be loaded or is in use by this process; no token, or more than one,
            has that label; the token fails.
    """

    def __init__(self, module: Path, label: str, pin: str) -> None:
        with alone(module):
            self._library = _load(module)
            try:
                self._token = _token(self._library, label)
                self._login = _log_in(self._token, pin)
            except BaseException:
                self.end()
                raise

    def session(self) -> pkcs11.Session:
        """A further session; it is logged in as well.

        Raises:
            PKCS11Error: the token fails.
        """
        return self._token.open()

    def end(self) -> None:
        """Close every session, log out and leave the module. No thread may be inside it (section 5.4, C_Finalize)."""
        self._library.finalize()


def cause(error: PKCS11Error) -> str:
    """What the module said, in one line: the name of the return value, rarely a text. The PIN is never in it."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def alone(module: Path) -> Iterator[None]:
    """No other process is between C_Initialize and C_Login with this module.

    SoftHSM rewrites a token at each log-in, and a process that starts meanwhile finds no token. The lock is on the
    module's own file: that is there, is the same for all, and needs no right to write anywhere.
    """
    try:
        descriptor = os.open(module, os.O_RDONLY)
    except OSError as e:
        raise SigningError(f"{module}: {e.strerror}; give the path of the token's PKCS#11 module") from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _load(module: Path) -> "_Library":
    try:
        return _Library(str(module.absolute()))
    except PKCS11Error as e:
        raise SigningError(f"{module}: cannot be loaded as a PKCS#11 module ({cause(e)}); check the path") from e


def _token(library: "_Library", label: str) -> pkcs11.Token:
    try:
        tokens = list(library.get_tokens())
    except PKCS11Error as e:
        raise SigningError(f"no token can be listed ({cause(e)}); check the device and its settings") from e
    named = [token for token in tokens if token.label == label]
    if len(named) == 1:
        return named[0]
    if named:
        raise SigningError(f"{len(named)} tokens are labelled {label}; give each a label of its own")
    there = ", ".join(sorted(token.label for token in tokens if token.label)) or "none"
    raise SigningError(f"no token is labelled {label}; connect it or correct the label (there is: {there})")


def _log_in(token: pkcs11.Token, pin: str) -> pkcs11.Session:
    try:
        return token.open(user_pin=pin)
    except tuple(PIN_REFUSED) as e:
        raise PinRefusedError(f"token {token.label}: {PIN_REFUSED[type(e)]}") from e
    except PKCS11Error as e:
        raise SigningError(f"token {token.label}: log-in failed ({cause(e)}); check the token with its own tool") from e


class _InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS (section 3.7)."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


class _FunctionList(ctypes.Structure):
    """The beginning of CK_FUNCTION_LIST (section 3.6)."""

    _fields_ = (
        ("version", ctypes.c_ubyte * 2),
        ("C_Initialize", ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)),
        ("C_Finalize", ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)),
    )


class _Library(_pkcs11.lib):
    """A module initialized for several threads.

    python-pkcs11 calls C_Initialize(NULL), which promises a single thread, and yet releases the GIL in every call.
    """

    def __init__(self, path: str) -> None:
        functions = ctypes.POINTER(_FunctionList)()
        ctypes.CDLL(path).C_GetFunctionList(ctypes.byref(functions))
        self._functions = functions.contents
        super().__init__(path)

    def initialize(self) -> None:
        """Called by the base class before anything else."""
        status = self._functions.C_Initialize(ctypes.byref(_InitializeArgs(flags=CKF_OS_LOCKING_OK)))
        if status == CKR_CRYPTOKI_ALREADY_INITIALIZED:
            raise SigningError(f"{self.so}: this process uses the module already; close its token first")
        if status:
            raise SigningError(f"{self.so}: C_Initialize failed with 0x{status:08X}; check the module's own settings")

    def finalize(self) -> None:
        """Leave the module. Its answer changes nothing: there is no way back in but C_Initialize."""
        self._functions.C_Finalize(None)
