"""The program `prefca-ocsp` as operators run it, with a real database."""

import asyncio
import signal
import socket
from itertools import count
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp

from ocsp.access import ClientCertificate
from pkix.revocation import CRLReason, Revoked
from tests.support import journal
from tests.support.database import Database
from tests.support.ocsp import CA, SERIAL, Records, around, key_store, out_of_reach, refused, request, rsa_key, verified
from tests.support.ocsp_program import ASKED, CA_1, DELEGATE, KEY, NOW, Program, running, start
from tests.support.parties import Identity
from tests.support.softhsm import SoftHSM


async def post(url: str, octets: bytes) -> bytes:
    async with ClientSession() as session:
        return await ask(session, url, octets)


async def ask(session: ClientSession, url: str, octets: bytes | None = None) -> bytes:
    headers = {"Content-Type": "application/ocsp-request"}
    async with session.post(url, data=octets or ASKED, headers=headers) as response:
        return await response.read()


async def asked_until_revoked(url: str) -> int:
    """How many answers came until SERIAL was revoked: the change feed takes a few milliseconds."""
    async with asyncio.timeout(10):
        for number in count(1):
            if verified(await post(url, ASKED), CA_1).certificate_status is ocsp.OCSPCertStatus.REVOKED:
                return number
    raise AssertionError


@pytest.mark.req("R-4-4-4-2-1", "R-4-11-2-1")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_what_is_in_the_database_until_it_is_stopped(
    ocsp_instance: Path, database: Database, ocsp_records: Records, number: signal.Signals
) -> None:
    """Good, then revoked; each answer is in the journal; exit code 0."""
    async with running(ocsp_instance, database) as (program, url):
        assert verified(await post(url, ASKED), CA_1).certificate_status is ocsp.OCSPCertStatus.GOOD
        await ocsp_records.revoke(SERIAL, Revoked(NOW.replace(microsecond=0), CRLReason.SUPERSEDED))
        answers = 1 + await asked_until_revoked(url)
        lines = journal.records(ocsp_instance)
        assert [(line["party"], line["result"]) for line in lines] == [
            *[("verifier", "good")] * (answers - 1),
            ("verifier", "revoked"),
        ]
        assert await program.stop(number) == 0


@pytest.mark.usefixtures("ocsp_records")
async def test_it_starts_without_a_database_and_waits_for_it(ocsp_instance: Path, database: Database) -> None:
    """The order in which programs start does not matter."""
    async with out_of_reach(database):
        program = await start(ocsp_instance, database)
        url = f"http://{(await program.event('listening'))['endpoints']}/"
        assert refused(await post(url, ASKED)) == "TRY_LATER"
    await program.event("loaded")
    verified(await post(url, ASKED), CA_1)
    assert await program.stop() == 0


async def test_hangup_loads_keys_that_came_later(
    ocsp_instance: Path, database: Database, ocsp_records: Records
) -> None:
    """Such as one restored from its backup."""
    second = CA(NOW, generation_id=2)
    await ocsp_records.add_ca(second, second.delegate(SERIAL - 2, KEY))
    async with running(ocsp_instance, database) as (program, url):
        assert [event["event"] for event in program.events].count("delegate_refused") == 1
        assert refused(await post(url, request(second.cert_id(SERIAL)))) == "TRY_LATER"
        key_store(ocsp_instance / "keys", (SERIAL - 2, KEY))
        program.process.send_signal(signal.SIGHUP)
        await program.event("loaded")
        verified(await post(url, request(second.cert_id(SERIAL))), second)


async def failed(program: Program) -> tuple[int, str]:
    """Exit code, and the last line on standard error."""
    async with asyncio.timeout(30):
        _, errors = await program.process.communicate()
    return program.process.returncode or 0, errors.decode().splitlines()[-1]


@pytest.mark.usefixtures("ocsp_records")
async def test_an_address_in_use_is_named(ocsp_instance: Path, database: Database) -> None:
    """With the variable to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, line = await failed(await start(ocsp_instance, database, PREFCA_OCSP__LISTEN=address))
    assert code == 1
    assert line.startswith(f"prefca-ocsp: cannot listen on {address}: ")
    assert line.endswith(", or change PREFCA_OCSP__LISTEN in the environment")


@pytest.mark.usefixtures("ocsp_records")
async def test_without_the_passphrase_it_does_not_start(ocsp_instance: Path, database: Database) -> None:
    """Whether there is a database or not."""
    (ocsp_instance / "secrets" / "ocsp-key.passphrase").unlink()
    code, line = await failed(await start(ocsp_instance, database))
    assert code == 1
    assert "ocsp-key.passphrase" in line
    assert "`ocsp.passphrase_file`" in line


@pytest.mark.usefixtures("ocsp_records")
async def test_with_the_key_of_another_delegate_it_does_not_start(ocsp_instance: Path, database: Database) -> None:
    """It says which file to restore."""
    file = next((ocsp_instance / "keys" / "ocsp").iterdir())
    file.unlink()
    key_store(ocsp_instance / "keys", (DELEGATE.serial, rsa_key("other")))
    code, line = await failed(await start(ocsp_instance, database))
    assert code == 1
    assert line.startswith("prefca-ocsp: no answer could be signed: ")
    assert str(file) in line


@pytest.mark.req("R-4-4-4-3")
async def test_workers_serve_https_with_a_key_in_a_token(
    ocsp_instance: Path, database: Database, ocsp_records: Records, tmp_path: Path, hsm: SoftHSM
) -> None:
    """Each logs in for itself; a party that is registered later is recognised by all of them."""
    file = hsm.directory / "key.pem"
    file.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    hsm.import_key(file, f"{DELEGATE.serial:016X}", "01")
    (ocsp_instance / "secrets" / "ocsp-token.pin").write_text(hsm.pin)
    server, party = Identity.new("localhost", host="localhost"), Identity.new("verifier")
    certificate, key = server.write(ocsp_instance / "tls")
    environment = {
        "PREFCA_OCSP__PKCS11_MODULE": str(hsm.module),
        "PREFCA_OCSP__PKCS11_TOKEN": hsm.label,
        "PREFCA_OCSP__TLS_LISTEN": "127.0.0.1:0",
        "PREFCA_OCSP__TLS_CERTIFICATE": str(certificate),
        "PREFCA_OCSP__TLS_KEY": str(key),
        "PREFCA_OCSP__WORKERS": "2",
        "PREFCA_OCSP__RECOGNITION": "client-certificate",
    }
    async with running(ocsp_instance, database, **environment) as (program, urls):
        port = urls.rstrip("/").rpartition(":")[2]
        await ocsp_records.grant("other-verifier", ClientCertificate(party.der), around(NOW))
        await program.event("loaded")
        await program.event("loaded")
        for _ in range(8):  # the kernel decides which worker gets a connection
            connector = TCPConnector(ssl=party.client(tmp_path / "party", server))
            async with ClientSession(connector=connector) as session:
                verified(await ask(session, f"https://localhost:{port}/"), CA_1)
        assert await program.stop() == 0
    assert {record["party"] for record in journal.records(ocsp_instance)} == {"other-verifier"}


@pytest.mark.req("R-4-14-1", "R-2-6-4")
async def test_a_token_that_was_away_is_used_again(
    ocsp_instance: Path, database: Database, ocsp_records: Records, hsm: SoftHSM
) -> None:
    """Meanwhile clients are told to try later; the same process goes on afterwards."""
    file = hsm.directory / "key.pem"
    file.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    hsm.import_key(file, f"{DELEGATE.serial:016X}", "01")
    (ocsp_instance / "secrets" / "ocsp-token.pin").write_text(hsm.pin)
    environment = {
        "PREFCA_OCSP__PKCS11_MODULE": str(hsm.module),
        "PREFCA_OCSP__PKCS11_TOKEN": hsm.label,
        "PREFCA_OCSP__CACHE_MIB": "0",
        "PREFCA_OCSP__WORKERS": "1",
    }
    async with running(ocsp_instance, database, **environment) as (program, url):
        async with ClientSession() as session:
            verified(await ask(session, url), CA_1)
            with hsm.unplugged():
                for _ in range(3):
                    assert refused(await ask(session, url)) == "TRY_LATER"
            verified(await ask(session, url), CA_1)
        assert await program.stop() == 0


async def test_without_any_delegate_it_does_not_start(ocsp_instance: Path, database: Database) -> None:
    """The issuer has to make one."""
    code, line = await failed(await start(ocsp_instance, database))
    assert code == 1
    assert "`prefca ocsp-delegate create`" in line


async def test_a_wrong_configuration_is_named(ocsp_instance: Path, database: Database) -> None:
    """Exit code 2."""
    code, line = await failed(await start(ocsp_instance, database, PREFCA_OCSP__LISTEN="nowhere"))
    assert code == 2
    assert line.startswith("prefca-ocsp: environment variable PREFCA_OCSP__LISTEN: 'nowhere' is not an address")


@pytest.mark.req("R-4-4-4-1-1")
@pytest.mark.usefixtures("ocsp_records")
@pytest.mark.parametrize(
    "options", [[], ["-sha256"], ["-no_nonce"], ["-path", "/somewhere"]], ids=["SHA-1", "SHA-256", "no nonce", "path"]
)
async def test_openssl_believes_the_answers(ocsp_instance: Path, database: Database, options: list[str]) -> None:
    """It knows the CA only."""
    ca_file = ocsp_instance / "ca.pem"
    ca_file.write_bytes(CA_1.certificate.public_bytes(Encoding.PEM))
    async with running(ocsp_instance, database) as (_, url):
        openssl = await asyncio.create_subprocess_exec(
            *("openssl", "ocsp", *(o for o in options if o.startswith("-sha")), "-issuer", str(ca_file)),
            *("-serial", str(SERIAL), "-serial", str(SERIAL + 1), "-CAfile", str(ca_file), "-url", url),
            *(o for o in options if not o.startswith("-sha")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, judgement = await openssl.communicate()
    assert openssl.returncode == 0, judgement
    assert b"Response verify OK" in judgement
    assert f"{SERIAL}: good".encode() in output
    assert f"{SERIAL + 1}: unknown".encode() in output
