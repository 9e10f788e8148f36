"""What an operator provides for the responder: keys in files or a token, TLS, and what is wrong with them."""

import asyncio
import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import ClientSession
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp

from ocsp.errors import StartError
from ocsp.provision import delegate_keys, recogniser, server_tls
from pkix.revocation import Good
from settings.load import Settings
from settings.sections import OCSPSection
from tests.support.ocsp import (
    CA,
    SERIAL,
    MemoryStore,
    PrivateKey,
    Served,
    eventually,
    key_store,
    request,
    rsa_key,
    served,
    verified,
)
from tests.support.parties import Identity, tls_client
from tests.support.softhsm import SoftHSM

NOW = datetime.now(UTC)
CA_1 = CA(NOW)
DELEGATE = SERIAL - 1
ASKED = request(CA_1.cert_id(SERIAL))
OLD, RENEWED = (Identity.new("localhost", host="localhost") for _ in range(2))


def settings(instance: Path, **section: object) -> Settings:
    return Settings(instance=instance, ocsp=OCSPSection.model_validate(section))


def store_with(key: PrivateKey) -> MemoryStore:
    """A public certificate, and a delegate with that key."""
    store = MemoryStore()
    store.add_ca(CA_1, CA_1.delegate(DELEGATE, key))
    store.add(SERIAL, Good(), public=True)
    return store


@pytest.mark.parametrize("key", [rsa_key("delegate"), ec.generate_private_key(ec.SECP256R1())], ids=["RSA", "P-256"])
async def test_a_delegate_signs_with_a_key_in_a_token(hsm: SoftHSM, tmp_path: Path, key: PrivateKey) -> None:
    """It is labelled with the serial number of the delegate."""
    file = tmp_path / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    hsm.import_key(file, f"{DELEGATE:016X}", "01")
    (tmp_path / "pin").write_text(hsm.pin + "\n")
    section = {"pkcs11_module": hsm.module, "pkcs11_token": hsm.label, "pkcs11_pin_file": "pin"}
    with delegate_keys(settings(tmp_path, **section)) as keys:
        async with served(store_with(key), keys) as responder, ClientSession() as session:
            answer = verified(await post(session, responder.url), CA_1)
    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD


async def post(session: ClientSession, url: str, tls: ssl.SSLContext | None = None) -> bytes:
    headers = {"Content-Type": "application/ocsp-request"}
    async with session.post(url, data=ASKED, headers=headers, ssl=tls or True) as response:
        return await response.read()


@pytest.mark.parametrize(
    ("section", "content", "complaint"),
    [
        ({}, None, "keys.passphrase: No such file or directory; put the passphrase of the responder's keys there"),
        ({"pkcs11_pin_file": "absent"}, None, "absent: No such file or directory; put the PIN of token prefca there"),
        ({"pkcs11_pin_file": "pin"}, "00000000", "PIN"),
        ({"pkcs11_pin_file": "pin", "pkcs11_token": "another"}, "00000000", "another"),
    ],
    ids=["no passphrase", "no PIN", "wrong PIN", "no such token"],
)
def test_keys_that_cannot_be_reached(
    hsm: SoftHSM, tmp_path: Path, section: dict[str, str], content: str | None, complaint: str
) -> None:
    """One line that says what to do."""
    if content is not None:
        (tmp_path / "pin").write_text(content)
    if section:
        section = {"pkcs11_module": str(hsm.module), "pkcs11_token": hsm.label} | section
    else:
        section = {"passphrase_file": "keys.passphrase"}
    with pytest.raises(StartError) as raised, delegate_keys(settings(tmp_path, **section)):
        pass
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def write_tls(instance: Path, server: Identity) -> None:
    certificate, key = server.write(instance / "new")
    (instance / "tls").mkdir(exist_ok=True)
    certificate.rename(instance / "tls" / "ocsp.pem")
    key.rename(instance / "tls" / "ocsp.key.pem")


async def shown_certificate(responder: Served) -> bytes:
    """What the HTTPS listener shows in a handshake."""
    (endpoint,) = responder.tls_endpoints
    loop = asyncio.get_running_loop()
    pem = await loop.run_in_executor(None, ssl.get_server_certificate, endpoint)
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


async def test_a_renewed_certificate_is_taken_over_without_a_restart(tmp_path: Path) -> None:
    """By SIGHUP, which loads everything again; connections that are open go on."""
    write_tls(tmp_path, OLD)
    keys, tls = key_store(tmp_path, (DELEGATE, rsa_key("delegate"))), tls_client(OLD)
    async with (
        served(store_with(rsa_key("delegate")), keys, instance=tmp_path) as responder,
        ClientSession() as open_one,
    ):
        verified(await post(open_one, responder.tls_url, tls), CA_1)
        assert await shown_certificate(responder) == OLD.der
        write_tls(tmp_path, RENEWED)
        assert await shown_certificate(responder) == OLD.der
        before = responder.refresh.snapshot
        responder.refresh.reload()
        await eventually(lambda: responder.refresh.snapshot is not before)
        assert await shown_certificate(responder) == RENEWED.der
        verified(await post(open_one, responder.tls_url, tls), CA_1)


async def test_a_broken_renewal_leaves_the_old_certificate_in_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And says so in the log."""
    write_tls(tmp_path, OLD)
    keys = key_store(tmp_path, (DELEGATE, rsa_key("delegate")))
    async with served(store_with(rsa_key("delegate")), keys, instance=tmp_path) as responder:
        (tmp_path / "tls" / "ocsp.pem").write_text("no certificate")
        before = responder.refresh.snapshot
        responder.refresh.reload()
        await eventually(lambda: responder.refresh.snapshot is not before)
        with caplog.at_level(logging.ERROR):
            assert await shown_certificate(responder) == OLD.der
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "tls_files_refused"
    ]


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ({"tls_certificate": "absent"}, "absent, "),
        ({"tls_key": "other.pem"}, "`ocsp.tls_key`"),
        ({"client_ca": "absent"}, "`ocsp.client_ca`"),
    ],
    ids=["no certificate", "key of another", "no CA for clients"],
)
def test_tls_files_that_cannot_be_used(tmp_path: Path, broken: dict[str, str], complaint: str) -> None:
    """One line that names the files and the keys of the configuration."""
    write_tls(tmp_path, OLD)
    RENEWED.write(tmp_path / "new")[1].rename(tmp_path / "other.pem")
    with pytest.raises(StartError) as raised:
        server_tls(settings(tmp_path, **broken), lambda: None)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["absent", "no PEM"])
def test_a_ca_for_clients_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    """One line again."""
    if content is not None:
        (tmp_path / "clients.pem").write_text(content)
    with pytest.raises(StartError, match=r"clients.pem: .*; put certificates in PEM there, or change `ocsp.client_ca`"):
        recogniser(settings(tmp_path, client_ca="clients.pem"), bytes(32)).__enter__()
