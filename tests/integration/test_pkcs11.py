"""Keys in a PKCS#11 token, with SoftHSM2 in the part of the HSM."""

import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pkcs11
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from pkcs11 import Attribute, ObjectClass

from pkix.cryptoki import Life, PinRefusedError
from pkix.pkcs11 import Token, open_token
from pkix.signing import NoSuchKeyError, SigningError, sign
from pkix.software import PrivateKey
from tests.support.softhsm import SoftHSM

MESSAGE = b"to be signed"

OPEN_AND_SIGN = """
import hashlib, sys
from pathlib import Path
from pkix.pkcs11 import open_token

module, label, pin = sys.argv[1:]
for _ in range(25):
    with open_token(Path(module), label, pin) as token:
        token.signer("ca").sign_digest(hashlib.sha256().digest())
"""


@pytest.fixture
def token(hsm: SoftHSM) -> Iterator[Token]:
    """Its token, logged in."""
    with open_token(hsm.module, hsm.label, hsm.pin) as token:
        yield token


def import_key(hsm: SoftHSM, key: PrivateKey, label: str, identifier: str = "01") -> None:
    file = hsm.directory / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    hsm.import_key(file, label, identifier)


def test_rsa_signature_of_a_token_verifies(token: Token) -> None:
    """What the token signs with RSA is PKCS#1 v1.5 with SHA-256 to a verifier."""
    signer = token.generate_rsa("ca")
    assert isinstance(signer.public_key, rsa.RSAPublicKey)
    signer.public_key.verify(sign(signer, MESSAGE), MESSAGE, padding.PKCS1v15(), hashes.SHA256())


def test_p256_signature_of_a_token_verifies(hsm: SoftHSM) -> None:
    """What the token signs with P-256 is a DER ECDSA signature with SHA-256 to a verifier."""
    key = ec.generate_private_key(ec.SECP256R1())
    import_key(hsm, key, "ec")
    with open_token(hsm.module, hsm.label, hsm.pin) as token:
        signer = token.signer("ec")
        assert signer.public_key == key.public_key()
        key.public_key().verify(sign(signer, MESSAGE), MESSAGE, ec.ECDSA(hashes.SHA256()))


def test_a_key_is_found_again_by_its_label(hsm: SoftHSM) -> None:
    """The next process, or the next log-in, signs with the same key."""
    with open_token(hsm.module, hsm.label, hsm.pin) as token:
        first, other = token.generate_rsa("ca").public_key, token.generate_rsa("ca-2").public_key
    with open_token(hsm.module, hsm.label, hsm.pin) as token:
        assert token.signer("ca").public_key == first
        assert token.signer("ca-2").public_key == other


@pytest.mark.req("R-6-1-1-2", "R-6-1-1-3", "R-6-1-1-4", "R-6-2-1-3")
def test_a_generated_key_cannot_leave_the_token_and_only_signs(hsm: SoftHSM) -> None:
    """The token itself says of the key: made inside, 2048 bits, secret, not extractable, for signatures only."""
    with open_token(hsm.module, hsm.label, hsm.pin) as token:
        signer = token.generate_rsa("ca")
    assert signer.public_key.key_size == 2048
    life = Life(hsm.module, hsm.label, hsm.pin)
    try:
        key = life.session().get_key(object_class=ObjectClass.PRIVATE_KEY, label="ca")
        yes = ("TOKEN", "PRIVATE", "LOCAL", "SENSITIVE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "SIGN")
        no = ("EXTRACTABLE", "SIGN_RECOVER", "DECRYPT", "UNWRAP", "DERIVE")
        assert {name: key[Attribute[name]] for name in yes} == dict.fromkeys(yes, True)
        assert {name: key[Attribute[name]] for name in no} == dict.fromkeys(no, False)
        with pytest.raises(pkcs11.AttributeSensitive):
            _ = key[Attribute.PRIVATE_EXPONENT]
    finally:
        life.end()


def test_a_key_is_never_made_over_another(token: Token) -> None:
    """A label that is taken stays with its key."""
    before = token.generate_rsa("ca").public_key
    with pytest.raises(SigningError, match="there is a key named ca already; choose another name"):
        token.generate_rsa("ca")
    assert token.signer("ca").public_key == before


def test_threads_sign_at_the_same_time(token: Token) -> None:
    """Each of several threads gets correct signatures over its own messages."""
    signer = token.generate_rsa("ca")
    assert isinstance(signer.public_key, rsa.RSAPublicKey)
    threads, start = 4, Barrier(4)

    def work(thread: int) -> list[tuple[bytes, bytes]]:
        start.wait()
        messages = [f"{thread}:{n}".encode() for n in range(25)]
        return [(message, sign(signer, message)) for message in messages]

    with ThreadPoolExecutor(threads) as pool:
        for message, signature in (pair for pairs in pool.map(work, range(threads)) for pair in pairs):
            signer.public_key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())


def test_processes_open_the_token_at_the_same_time(hsm: SoftHSM) -> None:
    """Eight processes that start together, and start again and again, all log in and sign."""
    with open_token(hsm.module, hsm.label, hsm.pin) as token:
        token.generate_rsa("ca")
    command = [sys.executable, "-c", OPEN_AND_SIGN, str(hsm.module), hsm.label, hsm.pin]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(8)]
    errors = [process.communicate(timeout=100)[1].decode() for process in processes]
    assert [(process.returncode, error) for process, error in zip(processes, errors, strict=True)] == [(0, "")] * 8


@pytest.mark.parametrize(
    ("module", "label", "message"),
    [
        pytest.param("/nowhere.so", "prefca", "/nowhere.so: No such file or directory; give the path", id="no module"),
        pytest.param(__file__, "prefca", "cannot be loaded as a PKCS#11 module .*; check the path", id="not a library"),
        pytest.param(
            None, "lost", r"no token is labelled lost; .*\(there is: prefca, twin, twin\)", id="no such token"
        ),
        pytest.param(None, "twin", "2 tokens are labelled twin; give each a label of its own", id="ambiguous token"),
    ],
)
def test_a_token_that_cannot_be_found(hsm: SoftHSM, module: str | None, label: str, message: str) -> None:
    """The message says what is wrong and what to do, and the next try starts afresh."""
    for pin in ("1111", "2222"):
        hsm.init_token("twin", pin)
    with pytest.raises(SigningError, match=message):
        open_token(Path(module) if module else hsm.module, label, hsm.pin)
    open_token(hsm.module, hsm.label, hsm.pin).close()


def test_a_wrong_pin_is_refused_and_never_shown(hsm: SoftHSM, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the message, nor the traceback, nor the log tells the PIN; the right one works afterwards."""
    wrong = hsm.pin[::-1]
    with pytest.raises(PinRefusedError, match="token prefca: wrong PIN; check it") as refusal:
        open_token(hsm.module, hsm.label, wrong)
    assert wrong not in "".join(traceback.format_exception(refusal.value)) + caplog.text
    with open_token(hsm.module, hsm.label, hsm.pin) as token:
        assert hsm.pin not in f"{token!r} {token.generate_rsa('ca')!r}"


@pytest.mark.parametrize(
    ("label", "message"),
    [
        pytest.param("twin", "2 private keys are named twin; give each a name of its own", id="several"),
        pytest.param("p384", "key p384 is neither an RSA nor a P-256 key; name one of these", id="another kind"),
    ],
)
def test_a_key_that_cannot_be_used(hsm: SoftHSM, label: str, message: str) -> None:
    """A key is unambiguous and of a kind that signs here, or the message says which it is."""
    import_key(hsm, ec.generate_private_key(ec.SECP256R1()), "twin", "01")
    import_key(hsm, ec.generate_private_key(ec.SECP256R1()), "twin", "02")
    import_key(hsm, ec.generate_private_key(ec.SECP384R1()), "p384", "03")
    with open_token(hsm.module, hsm.label, hsm.pin) as token, pytest.raises(SigningError, match=message):
        token.signer(label)


def test_a_key_that_is_not_there(token: Token) -> None:
    """It is told apart from other errors, the message names the keys there are, and it can be made then."""
    for label in ("ca-2", "ca-1"):
        token.generate_rsa(label)
    with pytest.raises(NoSuchKeyError, match=r"no private key is named ca-3; .*\(there is: ca-1, ca-2\)"):
        token.signer("ca-3")
    assert sign(token.generate_rsa("ca-3"), MESSAGE)


def test_a_token_comes_back(hsm: SoftHSM, token: Token) -> None:
    """While the token is away each call says so; once it is back the same signer works, with nothing opened anew."""
    signer = token.generate_rsa("ca")
    assert isinstance(signer.public_key, rsa.RSAPublicKey)
    with hsm.unplugged():
        with pytest.raises(SigningError, match=r"token prefca: .*; see that it is connected, then try again"):
            sign(signer, MESSAGE)
        for _ in range(2):
            with pytest.raises(SigningError, match=r"no token is labelled prefca; connect it .*\(there is: none\)"):
                sign(signer, MESSAGE)
    signer.public_key.verify(sign(signer, MESSAGE), MESSAGE, padding.PKCS1v15(), hashes.SHA256())


def test_a_token_that_was_away_between_two_calls_is_used_again(hsm: SoftHSM, token: Token) -> None:
    """A look-up that fails because the token went away ends nothing for good."""
    token.generate_rsa("ca")
    with hsm.unplugged(), pytest.raises(SigningError, match="named ca"):
        token.signer("ca")
    assert sign(token.signer("ca"), MESSAGE)


def test_a_refused_pin_is_not_sent_again(hsm: SoftHSM, token: Token) -> None:
    """A token that comes back with another PIN is asked once: real tokens lock themselves."""
    signer = token.generate_rsa("ca")
    with hsm.unplugged():
        hsm.init_token(hsm.label, "another")
        with pytest.raises(SigningError, match="see that it is connected"):
            sign(signer, MESSAGE)
        with pytest.raises(PinRefusedError):
            sign(signer, MESSAGE)
    with pytest.raises(SigningError, match="its PIN was refused; open it again with its PIN"):
        sign(signer, MESSAGE)


def test_a_closed_token_signs_nothing(hsm: SoftHSM) -> None:
    """After close the key is out of reach until the token is opened with its PIN."""
    with closing(open_token(hsm.module, hsm.label, hsm.pin)) as token:
        signer = token.generate_rsa("ca")
    with pytest.raises(SigningError, match="closed"):
        sign(signer, MESSAGE)


def test_a_process_opens_a_module_once_at_a_time(hsm: SoftHSM, token: Token) -> None:
    """A second opening is refused and leaves the first as it was."""
    signer = token.generate_rsa("ca")
    with pytest.raises(SigningError, match="this process uses the module already; close its token first"):
        open_token(hsm.module, hsm.label, hsm.pin)
    assert sign(signer, MESSAGE)
