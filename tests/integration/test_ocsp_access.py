"""Who is told residents' statuses: every way to be recognised, over loopback, with answers kept and not kept."""

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import random
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import argon2
import pytest
from aiohttp import ClientConnectorError, ClientSession, ClientSSLError, ServerDisconnectedError, TCPConnector
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import load_der_ocsp_response
from multidict import CIMultiDict
from yarl import URL

import ocsp.server
import settings.admin
from ocsp.access import ClientCertificate, Credential, Network, Password, SigningCertificate, Token
from ocsp.delegates import KeyStore
from pkix.names import name
from pkix.revocation import CRLReason, Good, Revoked
from settings.sections import OCSPSection
from tests.support.ocsp import (
    CA,
    SERIAL,
    MemoryStore,
    Served,
    around,
    eventually,
    key_store,
    nonce,
    refused,
    request,
    rsa_key,
    served,
    verified,
)
from tests.support.parties import ECDSA_WITH_SHA256, Identity, signed, tls_client

pytestmark = pytest.mark.req("R-4-4-4-3")

NOW = datetime.now(UTC).replace(microsecond=0)
CA_1 = CA(NOW)
DELEGATE, RESIDENT, PUBLIC = SERIAL - 1, SERIAL, SERIAL + 1
ASKED = request(CA_1.cert_id(RESIDENT))
SERVER = Identity.new("localhost", host="localhost")
PARTY, STRANGER = Identity.new("verifier"), Identity.new("stranger")
PARTY_RSA = Identity.new("verifier with RSA", key=rsa_key("verifier"))
PASSWORD, TOKEN = "correct horse battery", "prefca_token"
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=64).hash(PASSWORD)
ORIGIN = "203.0.113.7"
PEM = PARTY.certificate.public_bytes(Encoding.PEM).decode()
DER_BASE64 = base64.b64encode(PARTY.der).decode()


@pytest.fixture
def store() -> MemoryStore:
    """A resident's certificate and a public one; no relying party."""
    store = MemoryStore()
    store.add_ca(CA_1, CA_1.delegate(DELEGATE, rsa_key("delegate")))
    store.add(RESIDENT, Good())
    store.add(PUBLIC, Good(), public=True)
    return store


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    """The key of the delegate."""
    return key_store(tmp_path_factory.mktemp("keys"), (DELEGATE, rsa_key("delegate")))


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    """With the files of the HTTPS listener."""
    certificate, key = SERVER.write(tmp_path / "tls")
    certificate.rename(tmp_path / "tls" / "ocsp.pem")
    key.rename(tmp_path / "tls" / "ocsp.key.pem")
    return tmp_path


@pytest.fixture(params=[128, 0], ids=["kept", "not kept"])
def cache_mib(request: pytest.FixtureRequest) -> int:
    """Whether answers come from the cache."""
    size: int = request.param
    return size


@asynccontextmanager
async def responding(store: MemoryStore, keys: KeyStore, instance: Path, **settings: object) -> AsyncIterator[Served]:
    async with served(store, keys, OCSPSection.model_validate(settings), instance) as responder:
        yield responder


class Client:
    """Asks as a relying party does, on connections that stay open."""

    def __init__(self, session: ClientSession, url: str, headers: Mapping[str, str]) -> None:
        self._session = session
        self._url = url
        self._headers = CIMultiDict(headers)
        self._headers["Content-Type"] = "application/ocsp-request"

    async def ask(self, octets: bytes = ASKED) -> str:
        """The answer in a word: GOOD, or why there is none."""
        async with self._session.post(self._url, data=octets, headers=self._headers) as response:
            assert response.status == 200
            return word(await response.read())


def word(octets: bytes) -> str:
    try:
        return refused(octets)
    except AssertionError:
        return verified(octets, CA_1).certificate_status.name


@asynccontextmanager
async def client(
    url: str, tls: ssl.SSLContext | None = None, headers: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Client]:
    """A client of `url`, which sends `headers` along."""
    async with ClientSession(connector=TCPConnector(ssl=tls or True)) as session:
        yield Client(session, url, headers)


def port_of(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def token(text: str = TOKEN) -> Token:
    return Token(hashlib.sha256(text.encode()).digest())


# ---------------------------------------------------------------- TLS


async def test_a_registered_client_certificate_is_recognised(
    store: MemoryStore, keys: KeyStore, instance: Path, tmp_path: Path, cache_mib: int
) -> None:
    """Again and again on one connection; whoever shows none is told what is public."""
    store.grant("verifier", ClientCertificate(PARTY.der), around(NOW))
    async with responding(store, keys, instance, cache_mib=cache_mib) as responder:
        async with client(responder.tls_url, PARTY.client(tmp_path / "c", SERVER)) as party:
            assert [await party.ask() for _ in range(3)] == ["GOOD"] * 3
            assert {record.party for record in responder.journal.records} == {"verifier"}
        async with client(responder.tls_url, tls_client(SERVER)) as stranger:
            assert await stranger.ask() == "UNAUTHORIZED"
            assert await stranger.ask(request(CA_1.cert_id(PUBLIC))) == "GOOD"


async def test_a_certificate_registered_later_is_accepted_from_then_on(
    store: MemoryStore, keys: KeyStore, instance: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The listener is not restarted for it. Before, the handshake refuses it, and the log says why."""
    caplog.set_level("INFO")
    tls = PARTY.client(tmp_path / "c", SERVER)
    async with responding(store, keys, instance) as responder:
        async with client(responder.tls_url, tls) as party:
            with pytest.raises((ClientSSLError, ClientConnectorError, ServerDisconnectedError, OSError)):
                await party.ask()
        await eventually(lambda: "handshake_failed" in caplog.messages)
        (reason,) = [vars(record)["reason"] for record in caplog.records if record.message == "handshake_failed"]
        assert "self-signed certificate" in reason
        store.grant("verifier", ClientCertificate(PARTY.der), around(NOW))
        await eventually(lambda: bool(responder.refresh.snapshot.access.client_certificates))
        async with client(responder.tls_url, tls) as party:
            assert await party.ask() == "GOOD"


async def test_under_a_ca_for_clients_a_certificate_must_be_registered_as_well(
    store: MemoryStore, keys: KeyStore, instance: Path, tmp_path: Path
) -> None:
    """`ocsp.client_ca` opens the handshake to all that it issued, and no more than that."""
    authority = Identity.new("CA of the parties")
    (instance / "clients.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    party, other = (Identity.new(name, issuer=authority) for name in ("verifier", "other"))
    store.grant("verifier", ClientCertificate(party.der), around(NOW))
    async with responding(store, keys, instance, client_ca="clients.pem") as responder:
        for who, expected in ((party, "GOOD"), (other, "UNAUTHORIZED")):
            async with client(responder.tls_url, who.client(tmp_path / expected, SERVER)) as asking:
                assert await asking.ask() == expected


@pytest.mark.parametrize("way", ["password", "token", "client certificate"])
async def test_a_right_that_ends_ends_on_open_connections(
    store: MemoryStore, keys: KeyStore, instance: Path, tmp_path: Path, cache_mib: int, way: str
) -> None:
    """The answer was given a moment before, and is kept."""
    credentials: dict[str, Credential] = {
        "password": Password(HASH),
        "token": token(),
        "client certificate": ClientCertificate(PARTY.der),
    }
    header = {"password": basic("verifier", PASSWORD), "token": f"Bearer {TOKEN}"}.get(way)
    tls = tls_client(SERVER) if header else PARTY.client(tmp_path / "c", SERVER)
    store.grant("verifier", credentials[way], around(NOW))
    async with (
        responding(store, keys, instance, cache_mib=cache_mib) as responder,
        client(responder.tls_url, tls, headers={"Authorization": header} if header else {}) as party,
    ):
        assert [await party.ask(), await party.ask()] == ["GOOD", "GOOD"]
        before = responder.refresh.snapshot
        store.withdraw("verifier")
        await eventually(lambda: responder.refresh.snapshot is not before)
        assert await party.ask() == "UNAUTHORIZED"


@pytest.mark.parametrize("told", ["one by one", "with thousands"])
async def test_a_certificate_of_this_ca_that_was_revoked_is_worth_nothing(
    store: MemoryStore, keys: KeyStore, instance: Path, told: str
) -> None:
    """From then on, also if the credential was not ended. One with that serial number from elsewhere is another."""
    key = rsa_key("own")
    own = Identity(key, CA_1.issue(PUBLIC, key, name(("C", "JP"), ("CN", "own")), around(NOW)))
    elsewhere = CA(NOW, subject=name(("C", "JP"), ("CN", "elsewhere")))
    other = Identity(key, elsewhere.issue(PUBLIC, key, name(("C", "JP"), ("CN", "other")), around(NOW)))
    store.grant("own", SigningCertificate(own.der), around(NOW))
    store.grant("other", SigningCertificate(other.der), around(NOW))
    async with responding(store, keys, instance) as responder, client(responder.url) as party:
        assert await party.ask(signed(ASKED, own)) == "GOOD"
        before = responder.refresh.snapshot
        revoked = Revoked(NOW, CRLReason.KEY_COMPROMISE)
        if told == "one by one":
            store.add(PUBLIC, revoked, public=True)
        else:
            store.certificates[PUBLIC] = store.certificates[PUBLIC]._replace(status=revoked)
            store._changed("revocation")
        await eventually(lambda: responder.refresh.snapshot is not before)
        assert await party.ask(signed(ASKED, own)) == "UNAUTHORIZED"
        assert await party.ask(signed(ASKED, other)) == "GOOD"
    async with responding(store, keys, instance) as responder, client(responder.url) as party:
        assert await party.ask(signed(ASKED, own)) == "UNAUTHORIZED"


@pytest.mark.parametrize("octets", [b"", b"\x16\x03\x01"], ids=["silent", "stuck"])
async def test_a_slow_handshake_is_cut_off(
    store: MemoryStore, keys: KeyStore, instance: Path, monkeypatch: pytest.MonkeyPatch, octets: bytes
) -> None:
    """After seconds, not minutes: it costs memory, and no limit of connections counts it yet."""
    monkeypatch.setattr(ocsp.server, "HANDSHAKE_TIMEOUT_S", 0.1)
    async with responding(store, keys, instance) as responder, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(responder.tls_url))
        writer.write(octets)
        assert await reader.read() == b""
        writer.close()


# ---------------------------------------------------------------- name and password, tokens


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (basic("verifier", PASSWORD), "GOOD"),
        (f"bearer {TOKEN}", "GOOD"),
        (basic("verifier", "something else"), "UNAUTHORIZED"),
        (basic("nobody", PASSWORD), "UNAUTHORIZED"),
        (basic("verifier", ""), "UNAUTHORIZED"),
        ("Bearer something else", "UNAUTHORIZED"),
        ("Bearer", "UNAUTHORIZED"),
        ("Basic ???", "UNAUTHORIZED"),
        ("Digest username=verifier", "UNAUTHORIZED"),
    ],
    ids=["password", "token", "wrong", "unknown name", "empty", "wrong token", "no token", "no base64", "scheme"],
)
async def test_credentials_are_recognised_over_tls(
    store: MemoryStore, keys: KeyStore, instance: Path, authorization: str, expected: str
) -> None:
    """Twice the same: what was verified a moment ago is not verified again, what was not is."""
    store.grant("verifier", Password(HASH), around(NOW))
    store.grant("verifier", token(), around(NOW))
    async with (
        responding(store, keys, instance) as responder,
        client(responder.tls_url, tls_client(SERVER), headers={"Authorization": authorization}) as party,
    ):
        assert [await party.ask(), await party.ask()] == [expected, expected]


async def test_credentials_are_worth_nothing_where_others_can_read_them(
    store: MemoryStore, keys: KeyStore, instance: Path
) -> None:
    """Over plain HTTP, so that nobody gets used to that."""
    store.grant("verifier", token(), around(NOW))
    async with (
        responding(store, keys, instance) as responder,
        client(responder.url, headers={"Authorization": f"Bearer {TOKEN}"}) as party,
    ):
        assert await party.ask() == "UNAUTHORIZED"


async def test_a_password_is_in_no_log(
    store: MemoryStore, keys: KeyStore, instance: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a right one nor a wrong one, whatever becomes of the request."""
    caplog.set_level("DEBUG")
    store.grant("verifier", Password(HASH), around(NOW))
    async with responding(store, keys, instance) as responder:
        for secret in (PASSWORD, "something else"):
            header = basic("verifier", secret)
            async with client(responder.tls_url, tls_client(SERVER), headers={"Authorization": header}) as party:
                await party.ask()
                await party.ask(b"nonsense")
            text = "\n".join(repr(vars(record)) for record in caplog.records)
            assert secret not in text
            assert header.removeprefix("Basic ") not in text


def as_told_by_a_proxy(origin: str, password: str) -> dict[str, str]:
    return {
        "Authorization": basic("verifier", password),
        "X-Forwarded-For": origin,
        "X-Forwarded-Proto": "https",
    }


async def test_guesses_lock_out_one_name_from_one_address(
    store: MemoryStore, keys: KeyStore, instance: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if they come all at once; the owner of the name is not disturbed elsewhere, and the lockout ends."""
    caplog.set_level("INFO")
    store.grant("verifier", Password(HASH), around(NOW))
    settings = {"trusted_proxies": "127.0.0.1/32", "password_lockout_failures": 3, "password_lockout_s": 2}
    async with AsyncExitStack() as stack:
        responder = await stack.enter_async_context(responding(store, keys, instance, **settings))
        guessing, knowing, elsewhere = [
            await stack.enter_async_context(client(responder.url, headers=as_told_by_a_proxy(origin, password)))
            for origin, password in ((ORIGIN, "a guess"), (ORIGIN, PASSWORD), ("203.0.113.8", PASSWORD))
        ]
        assert await asyncio.gather(*(guessing.ask() for _ in range(8))) == ["UNAUTHORIZED"] * 8
        reasons = [vars(record)["reason"] for record in caplog.records if record.message == "refused"]
        told = Counter(next(word for word in ("too many", "wrong password") if word in reason) for reason in reasons)
        assert told == {"wrong password": 3, "too many": 5}
        assert await knowing.ask() == "UNAUTHORIZED"
        assert await elsewhere.ask() == "GOOD"
        async with asyncio.timeout(10):
            while await knowing.ask() != "GOOD":  # noqa: ASYNC110 - time has to pass
                await asyncio.sleep(0.1)


SECRET = "prefca_a_secret_token"
NO_HEADERS = {
    "bare line feed": f"Authorization: Bearer {SECRET}\nX: y",
    "control character": f"Authorization: Bearer {SECRET}\x01",
    "NUL": f"Authorization: Bearer {SECRET}\x00",
    "space before the colon": f"Authorization : Bearer {SECRET}",
    "no colon": f"Authorization Bearer {SECRET}",
    "too long": f"Authorization: Bearer {SECRET}" + "x" * 8190,
    "folded": f"Authorization:\r\n Bearer {SECRET}\x01",
}


@pytest.mark.parametrize(
    ("headers", "octets", "is_tls", "because"),
    [
        ({}, signed(ASKED, STRANGER), False, "the signer is not registered"),
        ({}, signed(ASKED, STRANGER, certificates=[PARTY.der]), False, "the signature is not one of the registered"),
        ({}, signed(ASKED, PARTY), False, "the certificate of the signer has no path"),
        ({"Authorization": basic("verifier", SECRET)}, ASKED, True, "unknown name or wrong password"),
        ({"Authorization": basic("nobody", SECRET)}, ASKED, True, "unknown name or wrong password"),
        ({"Authorization": f"Bearer {SECRET}"}, ASKED, True, "nobody has this token"),
        ({"Authorization": f"Secret {SECRET}"}, ASKED, True, "neither a password nor a token"),
        ({"X-Forwarded-For": ORIGIN, "Client-Cert": DER_BASE64}, ASKED, False, "the client certificate has no path"),
        ({"X-Forwarded-For": ORIGIN, "Client-Cert": "MAA="}, ASKED, False, "the client certificate is not registered"),
    ],
    ids=[
        *("unknown signer", "bad signature", "no path", "wrong password", "unknown name", "unknown token", "scheme"),
        *("client certificate without a path", "unknown client certificate"),
    ],
)
async def test_the_log_says_what_was_worth_nothing(
    store: MemoryStore,
    keys: KeyStore,
    instance: Path,
    caplog: pytest.LogCaptureFixture,
    headers: dict[str, str],
    octets: bytes,
    because: str,
    *,
    is_tls: bool,
) -> None:
    """And no secret; who asks is told nothing more than `unauthorized`."""
    caplog.set_level("INFO")
    (instance / "clients.pem").write_bytes(STRANGER.certificate.public_bytes(Encoding.PEM))
    for each in (SigningCertificate(PARTY.der), ClientCertificate(PARTY.der), Password(HASH), token()):
        store.grant("verifier", each, around(NOW))
    proxies = "127.0.0.0/8" if "Client-Cert" in headers else ""
    async with responding(store, keys, instance, client_ca="clients.pem", trusted_proxies=proxies) as responder:
        url, tls = (responder.tls_url, tls_client(SERVER)) if is_tls else (responder.url, None)
        async with client(url, tls, headers=headers) as party:
            assert await party.ask(octets) == "UNAUTHORIZED"
    (reason,) = [vars(record)["reason"] for record in caplog.records if record.message == "refused"]
    assert because in reason
    assert SECRET not in "\n".join(repr(vars(record)) for record in caplog.records)


@asynccontextmanager
async def administered() -> AsyncIterator[int]:
    """The port of an admin listener."""

    async def told() -> Any:
        return ""

    bound = socket.create_server(("127.0.0.1", 0))
    async with settings.admin.listening(bound, settings.admin.Looks(told, told, told)):
        yield bound.getsockname()[1]


async def sent(port: int, head: str) -> bytes:
    """What comes back for a request with this head until the connection is closed."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n".encode())
        received = await reader.read()
        writer.close()
    return received


@pytest.mark.parametrize("head", NO_HEADERS.values(), ids=NO_HEADERS)
async def test_what_is_no_header_is_in_no_log(
    store: MemoryStore, keys: KeyStore, instance: Path, caplog: pytest.LogCaptureFixture, head: str
) -> None:
    """Credentials may be in it. Neither the responder nor its admin listener quotes it; that it came, both log."""
    caplog.set_level("DEBUG")
    async with responding(store, keys, instance) as responder, administered() as admin:
        for port in (port_of(responder.url), admin):
            caplog.clear()
            answer = await sent(port, head)
            formatter = logging.Formatter()
            text = "\n".join(formatter.format(record) + repr(vars(record)) for record in caplog.records)
            assert answer.startswith(b"HTTP/1.0 400") == bool(text)
            assert SECRET not in text


async def test_a_peer_that_leaves_is_no_error(
    store: MemoryStore, keys: KeyStore, instance: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of a request: the log says that it has left."""
    caplog.set_level("INFO")
    async with responding(store, keys, instance) as responder, asyncio.timeout(10):
        store.hold_back()
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(responder.url))
        length = f"Content-Length: {len(ASKED)}\r\nExpect: 100-continue"  # no plain request
        writer.write(f"POST / HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode() + ASKED)
        await store.asked.wait()
        reset = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.transport.abort()
        await eventually(lambda: all(one.transport is None for one in responder.server.connections))
        store.may_answer.set()
        await eventually(lambda: "peer_left" in caplog.messages)
    assert "http_error" not in caplog.messages


@pytest.mark.req("R-4-11-2-1", "R-4-11-2-2")
@pytest.mark.parametrize(
    ("credential", "header", "octets"),
    [
        (Network(ip_network("127.0.0.0/8")), None, ASKED),
        (ClientCertificate(PARTY.der), None, ASKED),
        (SigningCertificate(PARTY.der), None, signed(ASKED, PARTY)),
        (Password(HASH), basic("verifier", PASSWORD), ASKED),
        (token(), f"Bearer {TOKEN}", ASKED),
    ],
    ids=lambda each: each.kind.value if hasattr(each, "kind") else "",
)
async def test_the_journal_says_how_a_party_was_recognised(
    store: MemoryStore,
    keys: KeyStore,
    instance: Path,
    tmp_path: Path,
    cache_mib: int,
    credential: Credential,
    header: str | None,
    octets: bytes,
) -> None:
    """Of a kept answer as of a new one."""
    store.grant("verifier", credential, around(NOW))
    is_shown = isinstance(credential, ClientCertificate)
    tls = PARTY.client(tmp_path / "c", SERVER) if is_shown else tls_client(SERVER)
    async with (
        responding(store, keys, instance, cache_mib=cache_mib) as responder,
        client(responder.tls_url, tls, headers={"Authorization": header} if header else {}) as party,
    ):
        assert [await party.ask(octets) for _ in range(2)] == ["GOOD"] * 2
        records = [json.loads(record.line()) for record in responder.journal.records]
        assert [(record["party"], record["by"]) for record in records] == [("verifier", credential.kind)] * 2


# ---------------------------------------------------------------- signed requests


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (signed(ASKED, PARTY), "GOOD"),
        (signed(ASKED, PARTY_RSA), "GOOD"),
        (signed(ASKED, PARTY, certificates=[]), "GOOD"),
        (signed(ASKED, PARTY, certificates=[STRANGER.der, PARTY.der]), "GOOD"),
        (signed(request(CA_1.cert_id(RESIDENT), extensions=nonce(b"n" * 32)), PARTY), "GOOD"),
        (signed(ASKED, STRANGER), "UNAUTHORIZED"),
        (signed(ASKED, STRANGER, certificates=[PARTY.der]), "UNAUTHORIZED"),
        (signed(ASKED, STRANGER, certificates=[]), "UNAUTHORIZED"),
        (signed(ASKED, PARTY, certificates=[b"\x30\x00"]), "UNAUTHORIZED"),
        (signed(ASKED, PARTY_RSA, algorithm="1.2.840.113549.1.1.5"), "UNAUTHORIZED"),
        (signed(ASKED, PARTY_RSA, algorithm=ECDSA_WITH_SHA256), "UNAUTHORIZED"),
        (signed(ASKED, PARTY)[:-1] + b"\x00", "UNAUTHORIZED"),
        (ASKED, "SIG_REQUIRED"),
        (signed(request(CA_1.cert_id(PUBLIC)), STRANGER), "GOOD"),
        (request(CA_1.cert_id(PUBLIC)), "GOOD"),
    ],
    ids=[
        *("P-256", "RSA", "no certificate comes along", "several come along", "nonce"),
        *("stranger", "with the certificate of another", "stranger without", "no certificate", "SHA-1"),
        *("another algorithm", "changed", "not signed", "public, signed by a stranger", "public, not signed"),
    ],
)
async def test_signed_requests(
    store: MemoryStore, keys: KeyStore, instance: Path, cache_mib: int, octets: bytes, expected: str
) -> None:
    """RFC 6960, section 4.1.2. Once somebody signs, who does not is asked to."""
    store.grant("verifier", SigningCertificate(PARTY.der), around(NOW))
    store.grant("verifier", SigningCertificate(PARTY_RSA.der), around(NOW))
    async with responding(store, keys, instance, cache_mib=cache_mib) as responder, client(responder.url) as party:
        assert [await party.ask(octets), await party.ask(octets)] == [expected, expected]


async def test_a_signing_certificate_must_lead_to_the_ca_for_clients(
    store: MemoryStore, keys: KeyStore, instance: Path
) -> None:
    """`ocsp.client_ca`: also over a certificate that comes along."""
    authority = Identity.new("CA of the parties")
    (instance / "clients.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    under = Identity.new("verifier", issuer=authority)
    for each in (under, PARTY):
        store.grant("verifier", SigningCertificate(each.der), around(NOW))
    async with (
        responding(store, keys, instance, client_ca="clients.pem") as responder,
        client(responder.url) as party,
    ):
        assert await party.ask(signed(ASKED, under)) == "GOOD"
        assert await party.ask(signed(ASKED, PARTY)) == "UNAUTHORIZED"


async def test_a_signed_request_is_asked_for_only_where_it_helps(
    store: MemoryStore, keys: KeyStore, instance: Path
) -> None:
    """Nobody signs here: `unauthorized`, as ever."""
    store.grant("verifier", token(), around(NOW))
    async with responding(store, keys, instance) as responder, client(responder.url) as party:
        assert await party.ask() == "UNAUTHORIZED"


# ---------------------------------------------------------------- behind a proxy


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Forwarded-For": ORIGIN, "Client-Cert": f":{DER_BASE64}:"}, "GOOD"),
        ({"X-Forwarded-For": ORIGIN, "Client-Cert": quote(PEM, safe="")}, "GOOD"),
        ({"X-Forwarded-For": ORIGIN, "Client-Cert": DER_BASE64}, "GOOD"),
        ({"X-Forwarded-For": ORIGIN, "Client-Cert": base64.b64encode(STRANGER.der).decode()}, "UNAUTHORIZED"),
        ({"X-Forwarded-For": ORIGIN, "Client-Cert": "???"}, "UNAUTHORIZED"),
        ({"Client-Cert": DER_BASE64}, "UNAUTHORIZED"),
        ({"X-Forwarded-For": ORIGIN, "X-Forwarded-Proto": "https", "Authorization": f"Bearer {TOKEN}"}, "GOOD"),
        ({"X-Forwarded-For": ORIGIN, "Authorization": f"Bearer {TOKEN}"}, "UNAUTHORIZED"),
        ({"X-Forwarded-For": "192.0.2.1"}, "GOOD"),
        ({"X-Forwarded-For": f"192.0.2.1, {ORIGIN}"}, "UNAUTHORIZED"),
        ({"X-Forwarded-For": "192.0.2.1, 127.0.0.1"}, "GOOD"),
        ({"X-Forwarded-For": "192.0.2.1, somewhere"}, "UNAUTHORIZED"),
        ({"X-Forwarded-For": "somewhere, 192.0.2.1"}, "UNAUTHORIZED"),
        ({"X-Forwarded-For": "127.0.0.2, 127.0.0.1"}, "GOOD"),
        ({}, "UNAUTHORIZED"),
    ],
    ids=[
        *("RFC 9440", "PEM, URL-encoded", "bare base64", "certificate of a stranger", "no certificate", "no address"),
        *("token over https", "token over http", "network", "what the client claims", "two proxies", "no such address"),
        *("no such address in front", "a client on the proxy itself", "nothing"),
    ],
)
async def test_a_trusted_proxy_speaks_for_its_clients(
    store: MemoryStore, keys: KeyStore, instance: Path, headers: dict[str, str], expected: str
) -> None:
    """It is nobody itself, even where the network is registered that it stands in."""
    store.grant("verifier", ClientCertificate(PARTY.der), around(NOW))
    store.grant("verifier", token(), around(NOW))
    store.grant("verifier", "192.0.2.0/24", around(NOW))
    store.grant("proxy", "127.0.0.0/8", around(NOW))
    async with (
        responding(store, keys, instance, trusted_proxies="127.0.0.0/8") as responder,
        client(responder.url, headers=headers) as party,
    ):
        assert [await party.ask(), await party.ask()] == [expected, expected]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", ORIGIN)], "UNAUTHORIZED"),
        ([("X-Forwarded-For", ORIGIN), ("X-Forwarded-For", "192.0.2.1")], "GOOD"),
        ([("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "127.0.0.1")], "GOOD"),
        ([("X-Forwarded-For", ORIGIN), *[("Client-Cert", DER_BASE64)] * 2], "UNAUTHORIZED"),
        ([("X-Forwarded-For", ORIGIN), ("Client-Cert", DER_BASE64), ("Client-Cert", "")], "UNAUTHORIZED"),
        (
            [
                *(("X-Forwarded-For", ORIGIN), ("Authorization", f"Bearer {TOKEN}")),
                *(("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")),
            ],
            "UNAUTHORIZED",
        ),
    ],
    ids=[
        *("the client's own line first", "the proxy's line counts", "two proxies", "two certificates"),
        *("the proxy saw no certificate", "two protocols"),
    ],
)
async def test_a_proxy_may_add_lines_to_those_of_its_client(
    store: MemoryStore, keys: KeyStore, instance: Path, lines: list[tuple[str, str]], expected: str
) -> None:
    """RFC 9110, section 5.3; as `option forwardfor` of HAProxy does."""
    store.grant("verifier", ClientCertificate(PARTY.der), around(NOW))
    store.grant("verifier", token(), around(NOW))
    store.grant("verifier", "192.0.2.0/24", around(NOW))
    async with (
        responding(store, keys, instance, trusted_proxies="127.0.0.0/8") as responder,
        client(responder.url, headers=CIMultiDict(lines)) as party,
    ):
        assert [await party.ask(), await party.ask()] == [expected, expected]


async def test_a_certificate_that_a_proxy_shows_must_lead_to_the_ca_for_clients(
    store: MemoryStore, keys: KeyStore, instance: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`ocsp.client_ca`: no handshake of ours has looked at it. Else who shows it is known by his network."""
    caplog.set_level("INFO")
    authority = Identity.new("CA of the parties")
    (instance / "clients.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    under, ended = (Identity.new("verifier", issuer=authority, ended=each) for each in (False, True))
    for each in (under, ended, PARTY):
        store.grant("verifier", ClientCertificate(each.der), around(NOW))
    store.grant("by network", "192.0.2.1/32", around(NOW))
    async with responding(store, keys, instance, trusted_proxies="127.0.0.0/8", client_ca="clients.pem") as responder:
        for who, origin, expected in (
            (under, ORIGIN, ("GOOD", "verifier")),
            (ended, ORIGIN, ("UNAUTHORIZED", None)),
            (PARTY, ORIGIN, ("UNAUTHORIZED", None)),
            (PARTY, "192.0.2.1", ("GOOD", "by network")),
        ):
            headers = {"X-Forwarded-For": origin, "Client-Cert": base64.b64encode(who.der).decode()}
            async with client(responder.url, headers=headers) as party:
                assert [await party.ask(), await party.ask()] == [expected[0]] * 2
            assert responder.journal.records[-1].party == expected[1]
    assert caplog.messages.count("no_path") == 2  # for each certificate once


async def test_nobody_else_is_believed_what_he_says_of_himself(
    store: MemoryStore, keys: KeyStore, instance: Path
) -> None:
    """Headers of a proxy from somebody who is none."""
    store.grant("verifier", ClientCertificate(PARTY.der), around(NOW))
    store.grant("verifier", "192.0.2.0/24", around(NOW))
    async with (
        responding(store, keys, instance) as responder,
        client(responder.url, headers={"X-Forwarded-For": "192.0.2.1", "Client-Cert": DER_BASE64}) as party,
    ):
        assert await party.ask() == "UNAUTHORIZED"
        assert {record.origin for record in responder.journal.records} == {"127.0.0.1"}


# ---------------------------------------------------------------- switches and limits


@pytest.mark.parametrize("left", ["network", "client-certificate", "signing-certificate", "password", "token"])
async def test_a_way_that_is_switched_off_opens_no_door(
    store: MemoryStore, keys: KeyStore, instance: Path, tmp_path: Path, left: str
) -> None:
    """Whatever is registered: `ocsp.recognition` leaves one way."""
    for credential in (
        *("127.0.0.1/32", ClientCertificate(PARTY.der), SigningCertificate(PARTY.der)),
        *(Password(HASH), token()),
    ):
        store.grant("verifier", credential, around(NOW))
    async with responding(store, keys, instance, recognition=left) as responder:
        answers: dict[str, str] = {}
        async with client(responder.url) as asking:
            answers["network"] = await asking.ask()
            answers["signing-certificate"] = await asking.ask(signed(ASKED, PARTY))
        async with client(responder.tls_url, PARTY.client(tmp_path / "c", SERVER)) as asking:
            answers["client-certificate"] = await asking.ask()
        for way, header in {"password": basic("verifier", PASSWORD), "token": f"Bearer {TOKEN}"}.items():
            async with client(responder.tls_url, tls_client(SERVER), headers={"Authorization": header}) as asking:
                answers[way] = await asking.ask()
    recognised = {way for way, answer in answers.items() if answer == "GOOD"}
    assert recognised == (set(answers) if left == "network" else {left})


async def test_an_address_that_asks_too_often_waits(
    store: MemoryStore, keys: KeyStore, instance: Path, cache_mib: int
) -> None:
    """`tryLater`, also for what is public and kept; and it is in the journal."""
    asked = request(CA_1.cert_id(PUBLIC))
    settings = {"cache_mib": cache_mib, "address_requests_per_s": 0.01}
    async with responding(store, keys, instance, **settings) as responder, client(responder.url) as party:
        assert [await party.ask(asked), await party.ask(asked)] == ["GOOD", "TRY_LATER"]
        assert [record.result for record in responder.journal.records] == ["good", "tryLater"]


@pytest.mark.parametrize("headers", [{}, {"X-Any": "thing"}], ids=["plain", "not plain"])
async def test_nonsense_counts_as_well(
    store: MemoryStore, keys: KeyStore, instance: Path, headers: dict[str, str]
) -> None:
    """`tryLater` from then on, for nonsense and for a question; the record of a question says what it is about."""
    async with (
        responding(store, keys, instance, address_requests_per_s=0.01) as responder,
        client(responder.url, headers=headers) as party,
    ):
        answers = [await party.ask(octets) for octets in (b"nonsense", b"nonsense", ASKED)]
        assert answers == ["MALFORMED_REQUEST", "TRY_LATER", "TRY_LATER"]
        assert [record.object for record in responder.journal.records] == ["", "", f"{RESIDENT:016X}"]


async def test_a_party_that_asks_too_often_waits_wherever_it_asks_from(
    store: MemoryStore, keys: KeyStore, instance: Path, cache_mib: int
) -> None:
    """Others do not."""
    store.grant("verifier", "127.0.0.1/32", around(NOW))
    store.grant("verifier", token(), around(NOW))
    store.grant("other", SigningCertificate(PARTY.der), around(NOW))
    settings = {"cache_mib": cache_mib, "party_requests_per_s": 0.01}
    async with responding(store, keys, instance, **settings) as responder:
        async with client(responder.url) as party:
            assert [await party.ask(), await party.ask()] == ["GOOD", "TRY_LATER"]
        async with client(responder.tls_url, tls_client(SERVER), headers={"Authorization": f"Bearer {TOKEN}"}) as party:
            assert await party.ask() == "TRY_LATER"
        async with client(responder.url) as party:
            assert await party.ask(signed(ASKED, PARTY)) == "GOOD"


async def test_connections_beyond_the_limit_are_refused_until_one_ends(
    store: MemoryStore, keys: KeyStore, instance: Path
) -> None:
    """One that is there is not disturbed."""
    async with responding(store, keys, instance, max_connections_per_address=2) as responder:
        first, second = [await asyncio.open_connection(*responder.endpoint) for _ in range(2)]
        await asyncio.sleep(0.05)
        refused_reader, refused_writer = await asyncio.open_connection(*responder.endpoint)
        with contextlib.suppress(ConnectionResetError):
            assert await refused_reader.read() == b""
        refused_writer.close()
        for reader, writer in (first, second):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
        async with client(responder.url) as party:
            assert await party.ask(request(CA_1.cert_id(PUBLIC))) == "GOOD"


async def test_a_client_that_does_not_read_its_answers_is_cut_off(
    store: MemoryStore, keys: KeyStore, instance: Path
) -> None:
    """`ocsp.idle_timeout_s`; whatever it has asked for is given up."""
    octets = request(CA_1.cert_id(PUBLIC))
    asked = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(octets), octets)
    async with responding(store, keys, instance, idle_timeout_s=1) as responder:
        with socket.create_connection(responder.endpoint) as silent:
            silent.setblocking(False)
            loop = asyncio.get_running_loop()

            async def ask_on() -> None:
                while True:
                    await loop.sock_sendall(silent, asked * 100)

            async with asyncio.timeout(60):
                with pytest.raises((ConnectionResetError, BrokenPipeError)):
                    await ask_on()


async def test_a_client_that_sends_octet_by_octet_is_cut_off(
    store: MemoryStore, keys: KeyStore, instance: Path
) -> None:
    """However busy it looks: a request must arrive within `ocsp.idle_timeout_s`."""
    async with responding(store, keys, instance, idle_timeout_s=1) as responder:
        reader, writer = await asyncio.open_connection(*responder.endpoint)
        writer.write(b"GET /")
        ended = asyncio.create_task(reader.read())
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                while not ended.done():
                    writer.write(b"M")
                    await writer.drain()
                    await asyncio.sleep(0.05)
        with contextlib.suppress(ConnectionResetError):
            assert await ended == b""
        writer.close()


# ---------------------------------------------------------------- whatever arrives

OCSP_REQUEST = {"Content-Type": "application/ocsp-request"}
SAMPLES = [
    ASKED,
    request(CA_1.cert_id(PUBLIC), CA_1.cert_id(PUBLIC, "sha1"), extensions=nonce(b"n" * 32)),
    signed(request(CA_1.cert_id(PUBLIC), extensions=nonce(b"n" * 16)), PARTY),
]


async def test_whatever_arrives_is_answered(
    store: MemoryStore, keys: KeyStore, instance: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Damaged requests, by POST and GET: an OCSP answer each time, and never a traceback in the log."""
    dice = random.Random(20140401)
    store.grant("verifier", SigningCertificate(PARTY.der), around(NOW))
    with caplog.at_level(logging.WARNING):
        async with responding(store, keys, instance) as responder, ClientSession() as session:
            for _ in range(300):
                octets = bytearray(dice.choice(SAMPLES))
                for _ in range(dice.randint(1, 3)):
                    at = dice.randrange(len(octets))
                    octets[at : at + dice.randint(0, 2)] = dice.randbytes(dice.randint(0, 2))
                path = quote(base64.b64encode(octets).decode(), safe="")
                for sent in (
                    session.post(
                        responder.url, data=bytes(octets), headers={"Content-Type": "application/ocsp-request"}
                    ),
                    session.get(URL(responder.url + path, encoded=True)),
                ):
                    async with sent as response:
                        assert response.status == 200
                        assert load_der_ocsp_response(await response.read()).response_status.name != "INTERNAL_ERROR"
    assert not caplog.records
