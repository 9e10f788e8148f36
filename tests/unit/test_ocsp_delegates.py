"""Which delegates may sign: certificate, key file and passphrase must fit together."""

from datetime import UTC, datetime

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from ocsp.delegates import DelegateCertificate, KeyStore, load
from pkix.certid import key_identifier
from tests.support.ocsp import CA, DAY, PASSPHRASE, SERIAL, key_store, rsa_key

NOW = datetime(2026, 4, 1, 12, 0, 0, tzinfo=UTC)
CA_1, CA_2 = CA(NOW), CA(NOW, generation_id=2)
KEY = rsa_key("delegate")
RIGHT = CA_1.delegate(SERIAL, KEY)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    """The key of delegate SERIAL."""
    return key_store(tmp_path_factory.mktemp("keys"), (SERIAL, KEY))


def test_a_delegate_with_its_key_is_loaded(keys: KeyStore) -> None:
    """Its file is named by its serial number, as the issuer writes it."""
    loaded = load([RIGHT], [CA_1.generation], keys, NOW)
    (delegate,) = loaded.delegates
    assert not loaded.refusals
    assert keys.file(SERIAL).name == f"{SERIAL:016X}.pem"
    assert delegate.certificate == RIGHT.der
    assert delegate.key_hash == key_identifier(KEY.public_key())
    assert NOW in delegate.validity


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (CA_1.delegate(SERIAL, KEY, usage=()), "not for OCSP signing"),
        (CA_1.delegate(SERIAL, KEY, usage=[ExtendedKeyUsageOID.SERVER_AUTH]), "not for OCSP signing"),
        (DelegateCertificate(SERIAL, 1, CA_2.delegate(SERIAL, KEY).der), "not signed by its CA's key"),
        (CA_2.delegate(SERIAL, KEY), "not signed by its CA's key"),
        (CA_1.delegate(SERIAL, rsa_key("other")), "not the key of delegate"),
        (CA_1.delegate(SERIAL + 1, KEY), "restore the key file"),
    ],
    ids=["no usage", "another usage", "another key of the CA", "unknown generation", "wrong key", "no key file"],
)
def test_a_delegate_that_cannot_be_used_is_refused(
    keys: KeyStore, certificate: DelegateCertificate, reason: str
) -> None:
    """With a line that says why; the others are loaded all the same."""
    good = CA_1.delegate(SERIAL, KEY)
    loaded = load([certificate, good], [CA_1.generation], keys, NOW)
    assert [delegate.certificate for delegate in loaded.delegates] == [good.der]
    (refusal,) = loaded.refusals
    assert reason in refusal
    assert "\n" not in refusal


def test_a_wrong_passphrase_is_refused(keys: KeyStore) -> None:
    """And it is not in the message."""
    loaded = load([RIGHT], [CA_1.generation], KeyStore(keys.directory, lambda: b"wrong"), NOW)
    assert not loaded.delegates
    assert "passphrase" in loaded.refusals[0]
    assert "wrong passphrase" in loaded.refusals[0]
    assert PASSPHRASE.decode() not in loaded.refusals[0] + repr(keys)


def test_an_ended_delegate_is_left_out_without_a_word(keys: KeyStore) -> None:
    """Every year leaves one behind; one to come is loaded, its time will tell."""
    ended = CA_1.delegate(SERIAL, KEY, (NOW - 9 * DAY, NOW - DAY))
    coming = CA_1.delegate(SERIAL, KEY, (NOW + DAY, NOW + 9 * DAY))
    loaded = load([ended, coming], [CA_1.generation], keys, NOW)
    assert [delegate.certificate for delegate in loaded.delegates] == [coming.der]
    assert not loaded.refusals
