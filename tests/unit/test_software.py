"""A key file gives its key to those who know the passphrase, and is never overwritten."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from pkix.signing import SigningError, sign, verify
from pkix.software import PrivateKey, load, store, write_secret
from tests.support.keys import p256_key, rsa_key

PASSPHRASE = b"a passphrase"


@pytest.mark.parametrize("key", [rsa_key, p256_key])
def test_a_stored_key_signs_after_loading(tmp_path: Path, key: Callable[[], PrivateKey]) -> None:
    """Store, load, sign: the signature is the key's own."""
    file = tmp_path / "keys" / "ca.pem"
    store(file, key(), PASSPHRASE)
    signer = load(file, PASSPHRASE)
    assert signer.public_key == key().public_key()
    assert verify(key().public_key(), sign(signer, b"a list"), [b"a list"])


@pytest.mark.req("R-6-2-1-4")
def test_a_stored_key_is_encrypted_and_for_its_owner_only(tmp_path: Path) -> None:
    """Encrypted PKCS#8, mode 0600, in a directory of mode 0700, and no partial file beside it."""
    file = tmp_path / "keys" / "ca.pem"
    store(file, p256_key(), PASSPHRASE)
    assert file.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(file.parent.iterdir()) == [file]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """The first key stays, whole, and nothing is left over from the second."""
    file = tmp_path / "ca.pem"
    store(file, p256_key(), PASSPHRASE)
    with pytest.raises(FileExistsError):
        store(file, ec.generate_private_key(ec.SECP256R1()), PASSPHRASE)
    assert load(file, PASSPHRASE).public_key == p256_key().public_key()
    assert list(tmp_path.iterdir()) == [file]


def test_a_secret_is_written_whole(tmp_path: Path) -> None:
    """Any content, octet for octet."""
    content = bytes(range(256)) * 100
    write_secret(tmp_path / "pin", content)
    assert (tmp_path / "pin").read_bytes() == content


def pem(key: PrivateKey | ed25519.Ed25519PrivateKey, passphrase: bytes | None) -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "No such file or directory; restore the key file from its backup", id="missing"),
        pytest.param(b"", "not an encrypted PKCS#8 key", id="empty"),
        pytest.param(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "not an encrypted PKCS#8 key", id="cut"),
        pytest.param(
            pem(p256_key(), b"another"), "wrong passphrase .*; check the passphrase file", id="wrong passphrase"
        ),
        pytest.param(pem(p256_key(), None), "not an encrypted PKCS#8 key", id="not encrypted"),
        pytest.param(
            pem(ec.generate_private_key(ec.SECP384R1()), PASSPHRASE), "neither an RSA nor a P-256 key", id="P-384"
        ),
        pytest.param(
            pem(ed25519.Ed25519PrivateKey.generate(), PASSPHRASE), "neither an RSA nor a P-256 key", id="Ed25519"
        ),
    ],
)
def test_a_file_that_gives_no_key(tmp_path: Path, content: bytes | None, message: str) -> None:
    """One line that names the file and says what to do, without the passphrase."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SigningError, match=message) as refusal:
        load(file, PASSPHRASE)
    text = str(refusal.value)
    assert text.startswith(f"{file}: ")
    assert "\n" not in text
    assert PASSPHRASE.decode() not in text
