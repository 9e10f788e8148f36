"""The responder over loopback, with a store in memory."""

import asyncio
import base64
import hashlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import ClientResponse, ClientSession
from cryptography import x509
from cryptography.x509 import ocsp
from yarl import URL

from ocsp.delegates import KeyStore
from pkix.names import name
from pkix.revocation import CRLReason, Good, Revoked
from settings.sections import OCSPSection
from tests.support.ocsp import (
    CA,
    DAY,
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

NOW = datetime.now(UTC).replace(microsecond=0)
CA_1, CA_2 = CA(NOW), CA(NOW, generation_id=2)
STRANGER = CA(NOW, generation_id=9, subject=name(("C", "JP"), ("O", "Somebody else")))
DELEGATE, DELEGATE_2 = SERIAL - 1, SERIAL - 2
RESIDENT, REVOKED, PUBLIC, OF_CA_2, NEVER_ISSUED = (SERIAL + n for n in range(5))
SECTION = OCSPSection(max_request_bytes=4096, max_request_certificates=3, idle_timeout_s=1)


@pytest.fixture
def store() -> MemoryStore:
    """Two keys of a CA with one delegate each, four certificates, no relying party."""
    store = MemoryStore()
    store.add_ca(CA_1, CA_1.delegate(DELEGATE, rsa_key("delegate")))
    store.add_ca(CA_2, CA_2.delegate(DELEGATE_2, rsa_key("delegate 2")))
    store.add(RESIDENT, Good())
    store.add(REVOKED, Revoked(NOW - DAY, CRLReason.SUPERSEDED))
    store.add(PUBLIC, Good(), public=True)
    store.add(OF_CA_2, Good(), generation_id=2)
    return store


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    """The keys of both delegates."""
    directory = tmp_path_factory.mktemp("keys")
    return key_store(directory, (DELEGATE, rsa_key("delegate")), (DELEGATE_2, rsa_key("delegate 2")))


@pytest.fixture
async def responder(store: MemoryStore, keys: KeyStore) -> AsyncIterator[Served]:
    """It serves `store`."""
    async with served(store, keys, SECTION) as running:
        yield running


@pytest.fixture
def party(store: MemoryStore) -> None:
    """The tests are a relying party."""
    store.grant("verifier", "127.0.0.1/32", around(NOW))


class Client:
    """Asks as relying parties do."""

    def __init__(self, session: ClientSession, responder: Served) -> None:
        self._session = session
        self._url = responder.url

    async def send(self, method: str, url: str = "", **arguments: object) -> tuple[ClientResponse, bytes]:
        """Any HTTP request: the response and its body."""
        target = URL(self._url + url, encoded=True)
        async with self._session.request(method, target, **arguments) as response:  # type: ignore[arg-type]
            return response, await response.read()

    async def post(self, octets: bytes) -> bytes:
        """The OCSP answer to a POST."""
        response, body = await self.send("POST", data=octets, headers={"Content-Type": "application/ocsp-request"})
        assert (response.status, response.content_type) == (200, "application/ocsp-response")
        return body

    async def get(self, octets: bytes) -> tuple[ClientResponse, bytes]:
        """The HTTP response to a GET, with the OCSP answer."""
        response, body = await self.send("GET", quote(base64.b64encode(octets).decode(), safe=""))
        assert (response.status, response.content_type) == (200, "application/ocsp-response")
        return response, body


@pytest.fixture
async def client(responder: Served) -> AsyncIterator[Client]:
    """A client of `responder`."""
    async with ClientSession(skip_auto_headers=["Content-Type"]) as session:
        yield Client(session, responder)


@pytest.mark.req("R-4-4-4-2-1")
@pytest.mark.usefixtures("party")
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        (RESIDENT, "GOOD"),
        (REVOKED, "REVOKED"),
        (PUBLIC, "GOOD"),
        (NEVER_ISSUED, "UNKNOWN"),
        (OF_CA_2, "UNKNOWN"),
        (2**159, "UNKNOWN"),
        (-1, "UNKNOWN"),
    ],
    ids=["good", "revoked", "public", "never issued", "of another key", "20 octets", "negative"],
)
async def test_a_relying_party_gets_every_status(client: Client, serial: int, expected: str, algorithm: str) -> None:
    """Valid, unknown or revoked, in the hash algorithm of the question."""
    answer = verified(await client.post(request(CA_1.cert_id(serial, algorithm))), CA_1)
    assert answer.certificate_status.name == expected
    assert answer.serial_number == serial
    assert answer.hash_algorithm.name == algorithm
    assert answer.next_update_utc is not None
    assert answer.next_update_utc - answer.this_update_utc == timedelta(seconds=SECTION.response_validity_s)


@pytest.mark.req("R-4-4-4-2-1")
@pytest.mark.usefixtures("party")
async def test_a_revocation_shows_at_once(client: Client, store: MemoryStore) -> None:
    """Statuses are as of the query."""
    asked = request(CA_1.cert_id(RESIDENT))
    assert verified(await client.post(asked), CA_1).certificate_status is ocsp.OCSPCertStatus.GOOD
    store.add(RESIDENT, Revoked(NOW, CRLReason.KEY_COMPROMISE))
    answer = verified(await client.post(asked), CA_1)
    assert answer.revocation_reason is x509.ReasonFlags.key_compromise


@pytest.mark.usefixtures("party")
async def test_each_generation_is_spoken_for_by_a_delegate_of_its_own(client: Client) -> None:
    """RFC 6960, section 4.2.2.2: `verified` checks who signed the delegate."""
    verified(await client.post(request(CA_1.cert_id(RESIDENT))), CA_1)
    verified(await client.post(request(CA_2.cert_id(OF_CA_2))), CA_2)


@pytest.mark.usefixtures("party")
async def test_several_certificates_in_one_request(client: Client) -> None:
    """A foreign issuer beside ours is unknown."""
    asked = [CA_1.cert_id(REVOKED), STRANGER.cert_id(RESIDENT), CA_1.cert_id(RESIDENT, "sha1")]
    answer = verified(await client.post(request(*asked)), CA_1)
    assert [one.certificate_status.name for one in answer.responses] == ["REVOKED", "UNKNOWN", "GOOD"]


@pytest.mark.usefixtures("party")
@pytest.mark.parametrize(
    "cert_ids",
    [[STRANGER.cert_id(RESIDENT)], [CA_1.cert_id(RESIDENT, "md5")], [CA_1.cert_id(RESIDENT), CA_2.cert_id(OF_CA_2)]],
    ids=["foreign issuer", "unknown hash algorithm", "two generations"],
)
async def test_what_cannot_be_answered_authoritatively(client: Client, cert_ids: list[bytes]) -> None:
    """RFC 9919, section 3.2.3; for two generations no delegate may speak."""
    assert refused(await client.post(request(*cert_ids))) == "UNAUTHORIZED"


async def test_several_generations_in_one_request_for_clients_that_allow_it(store: MemoryStore, keys: KeyStore) -> None:
    """RFC 2560 does, RFC 6960 does not: `ocsp.mixed_generations`. The newest key's delegate speaks for all."""
    store.grant("verifier", "127.0.0.1/32", around(NOW))
    asked = request(CA_2.cert_id(OF_CA_2), CA_1.cert_id(REVOKED), CA_1.cert_id(OF_CA_2))
    section = OCSPSection(mixed_generations=True)
    async with served(store, keys, section) as responder, ClientSession() as session:
        answer = verified(await Client(session, responder).post(asked), CA_2)
    assert [one.certificate_status.name for one in answer.responses] == ["GOOD", "REVOKED", "UNKNOWN"]


async def test_no_delegate_speaks_for_another_ca(store: MemoryStore, keys: KeyStore) -> None:
    """Of several CAs at once nobody is told: no client, of whatever RFC, could accept the answer."""
    store.add_ca(STRANGER)
    store.grant("verifier", "127.0.0.1/32", around(NOW))
    asked = request(CA_1.cert_id(RESIDENT), STRANGER.cert_id(RESIDENT))
    async with served(store, keys, OCSPSection(mixed_generations=True)) as responder, ClientSession() as session:
        assert refused(await Client(session, responder).post(asked)) == "UNAUTHORIZED"


@pytest.mark.req("R-4-4-4-3", "R-2-8-2")
@pytest.mark.parametrize(
    ("serials", "answered"),
    [([PUBLIC], True), ([RESIDENT], False), ([REVOKED], False), ([NEVER_ISSUED], False), ([PUBLIC, RESIDENT], False)],
    ids=["public", "resident", "revoked resident", "never issued", "public and resident"],
)
async def test_strangers_get_public_statuses_only(client: Client, serials: list[int], *, answered: bool) -> None:
    """And cannot find out which serial numbers exist."""
    body = await client.post(request(*map(CA_1.cert_id, serials)))
    if answered:
        verified(body, CA_1)
    else:
        assert refused(body) == "UNAUTHORIZED"


@pytest.mark.req("R-4-4-4-3")
@pytest.mark.usefixtures("party")
async def test_a_withdrawn_right_ends_at_once(client: Client, responder: Served, store: MemoryStore) -> None:
    """On the open connection too."""
    asked = request(CA_1.cert_id(RESIDENT))
    verified(await client.post(asked), CA_1)
    store.withdraw("verifier")
    await eventually(lambda: responder.refresh.snapshot.access.caller("127.0.0.1", NOW).party is None)
    assert refused(await client.post(asked)) == "UNAUTHORIZED"


@pytest.mark.req("R-4-4-4-1-1")
@pytest.mark.parametrize("octets", [0, 1, 16, 32, 128, 129])
async def test_a_nonce_comes_back_or_is_malformed(client: Client, octets: int) -> None:
    """RFC 9654, section 2.1."""
    body = await client.post(request(CA_1.cert_id(PUBLIC), extensions=nonce(b"n" * octets)))
    if 1 <= octets <= 128:
        extensions = verified(body, CA_1).extensions
        assert extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * octets
    else:
        assert refused(body) == "MALFORMED_REQUEST"


@pytest.mark.parametrize("front", ["", "/", "//"])
async def test_get_with_slashes_inside_and_in_front(client: Client, front: str) -> None:
    """`//` in base64 is data and must reach the parser as it is."""
    octets = request(CA_1.cert_id(PUBLIC), extensions=nonce(b"\xff" * 30))
    path = base64.b64encode(octets).decode()
    assert "//" in path
    _, body = await client.send("GET", front + path)
    assert verified(body, CA_1).serial_number == PUBLIC


async def test_a_public_answer_to_get_may_be_cached(client: Client) -> None:
    """RFC 9919, section 7.2."""
    response, body = await client.get(request(CA_1.cert_id(PUBLIC)))
    assert response.headers["Cache-Control"] == "max-age=150, public, no-transform, must-revalidate"
    assert response.headers["ETag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    assert {"Date", "Last-Modified", "Expires", "Content-Length"} <= set(response.headers)


async def test_who_has_the_answer_still_is_told_so(client: Client, store: MemoryStore) -> None:
    """RFC 9919, section 7.2: a cache asks again with what it was told; after a revocation it gets another answer."""
    octets = request(CA_1.cert_id(PUBLIC))
    path = quote(base64.b64encode(octets).decode(), safe="")
    first, _ = await client.get(octets)
    known = {"If-None-Match": first.headers["ETag"]}
    response, body = await client.send("GET", path, headers=known)
    assert (response.status, body) == (304, b"")
    assert response.headers["ETag"] == first.headers["ETag"]
    assert response.headers["Expires"] == first.headers["Expires"]
    for other in ({"If-None-Match": '"another"'}, {"If-Modified-Since": first.headers["Last-Modified"]}):
        response, _ = await client.send("GET", path, headers=other)
        assert response.status == 200
    store.add(PUBLIC, Revoked(NOW, CRLReason.SUPERSEDED), public=True)
    await eventually_revoked(client, octets)
    response, body = await client.send("GET", path, headers=known)
    assert response.status == 200
    assert verified(body, CA_1).certificate_status is ocsp.OCSPCertStatus.REVOKED


async def eventually_revoked(client: Client, octets: bytes) -> None:
    """Wait until the change feed has told it."""
    async with asyncio.timeout(10):
        while verified((await client.get(octets))[1], CA_1).certificate_status is ocsp.OCSPCertStatus.GOOD:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.req("R-4-4-4-3")
@pytest.mark.usefixtures("party")
async def test_who_asks_about_a_resident_again_gets_the_whole_answer(client: Client) -> None:
    """There is nothing that a cache could ask with."""
    octets = request(CA_1.cert_id(RESIDENT))
    path = quote(base64.b64encode(octets).decode(), safe="")
    for header in ({"If-None-Match": "*"}, {"If-Modified-Since": "Wed, 01 Apr 2026 00:00:00 GMT"}):
        response, body = await client.send("GET", path, headers=header)
        assert response.status == 200
        assert verified(body, CA_1).serial_number == RESIDENT


@pytest.mark.parametrize("header", [{}, {"X-Any": "thing"}], ids=["shortcut", "aiohttp"])
@pytest.mark.parametrize("prefix", ["ocsp/", "ocsp//", ""])
async def test_a_get_below_a_path(store: MemoryStore, keys: KeyStore, prefix: str, header: dict[str, str]) -> None:
    """As in the address in certificates; without the path it is read as well."""
    octets = request(CA_1.cert_id(PUBLIC))
    path = prefix + base64.b64encode(octets).decode()
    async with served(store, keys, OCSPSection(path="/ocsp/")) as responder, ClientSession() as session:
        for _ in range(2):
            response, body = await Client(session, responder).send("GET", path, headers=header)
            assert response.status == 200
            assert verified(body, CA_1).serial_number == PUBLIC
        _, body = await Client(session, responder).send("GET", "other/" + path, headers=header)
        assert refused(body) == "MALFORMED_REQUEST"


@pytest.mark.req("R-4-4-4-3")
@pytest.mark.usefixtures("party")
@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (request(CA_1.cert_id(RESIDENT)), "private, no-store"),
        (request(CA_1.cert_id(PUBLIC), extensions=nonce(b"n" * 32)), "no-store"),
        (request(STRANGER.cert_id(RESIDENT)), "no-store"),
    ],
    ids=["restricted", "nonce", "refusal"],
)
async def test_other_answers_are_not_cached(client: Client, octets: bytes, expected: str) -> None:
    """Neither what is for one party nor what is for one request."""
    response, _ = await client.get(octets)
    assert response.headers["Cache-Control"] == expected


async def test_head_has_the_headers_of_get(client: Client) -> None:
    """And no body."""
    path = quote(base64.b64encode(request(CA_1.cert_id(PUBLIC))).decode(), safe="")
    response, body = await client.send("HEAD", path)
    assert (response.status, body) == (200, b"")
    assert int(response.headers["Content-Length"]) > 500


@pytest.mark.req("R-4-11-2-1")
@pytest.mark.usefixtures("party")
@pytest.mark.parametrize(("serial", "expected"), [(PUBLIC, 200), (RESIDENT, 405)], ids=["public", "restricted"])
async def test_head_provides_no_status(client: Client, responder: Served, serial: int, expected: int) -> None:
    """Its record is not one that reports and fees count; of a resident not even the length of the answer is told."""
    octets = request(CA_1.cert_id(serial))
    path = quote(base64.b64encode(octets).decode(), safe="")
    await client.get(octets)
    response, _ = await client.send("HEAD", path)
    assert response.status == expected
    records = [(r.result, r.party, r.object, r.size) for r in responder.journal.records[1:]]
    assert records == [("head", "verifier", f"{serial:016X}", 0)]
    assert expected == 200 or int(response.headers["Content-Length"]) < 500


@pytest.mark.parametrize(
    ("method", "url", "octets"),
    [
        ("GET", "", None),
        ("GET", "favicon.ico", None),
        ("POST", "", b""),
        ("POST", "", b"hello"),
        ("POST", "", b"0" * 4096),
    ],
    ids=["GET nothing", "GET no base64", "POST nothing", "POST nonsense", "POST as much as is allowed"],
)
async def test_nonsense_is_malformed(client: Client, method: str, url: str, octets: bytes | None) -> None:
    """An OCSP answer, HTTP 200."""
    response, body = await client.send(method, url, data=octets)
    assert response.status == 200
    assert refused(body) == "MALFORMED_REQUEST"


async def test_too_many_certificates_are_malformed(client: Client) -> None:
    """`ocsp.max_request_certificates`."""
    assert refused(await client.post(request(*[CA_1.cert_id(PUBLIC)] * 4))) == "MALFORMED_REQUEST"


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("method", "headers", "data", "status"),
    [
        ("PUT", {}, b"", 405),
        ("OPTIONS", {}, b"", 405),
        ("POST", {"Content-Type": "text/plain"}, b"", 415),
        ("POST", {}, b"0" * 4097, 413),
        ("POST", {"Expect": "something"}, b"0", 417),
    ],
    ids=["PUT", "OPTIONS", "media type", "too large", "unknown expectation"],
)
async def test_http_errors(client: Client, method: str, headers: dict[str, str], data: bytes, status: int) -> None:
    """Only where an OCSP answer is impossible."""
    response, _ = await client.send(method, headers=headers, data=data)
    assert response.status == status
    assert ("Allow" in response.headers) == (status == 405)


async def test_a_body_in_chunks_is_bounded_too(client: Client) -> None:
    """Its length is not announced."""
    octets = request(CA_1.cert_id(PUBLIC))
    _, body = await client.send("POST", data=chunks(octets[:10], octets[10:]))
    verified(body, CA_1)
    response, _ = await client.send("POST", data=chunks(*[b"0" * 1000] * 5))
    assert response.status == 413


async def test_a_client_that_expects_100_continue_gets_it(client: Client) -> None:
    """Curl does so for larger requests."""
    _, body = await client.send("POST", data=request(CA_1.cert_id(PUBLIC)), expect100=True)
    verified(body, CA_1)


async def exchange(responder: Served, *segments: bytes) -> bytes:
    """What comes back on a raw connection until the server closes it."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*responder.endpoint)
        for segment in segments:
            writer.write(segment)
            await writer.drain()
            await asyncio.sleep(0.01)
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
    return received


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([], b""),
        ([b"POST / HT"], b""),
        ([b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"], b"HTTP/1.1 408"),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"], b"HTTP/1.0 400"),
        ([b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"], b"HTTP/1.0 400"),
    ],
    ids=["says nothing", "stops in the head", "stops before the body", "speaks TLS", "broken chunks"],
)
async def test_peers_that_do_not_speak_http(
    responder: Served, segments: list[bytes], expected: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """They are refused or cut off after `ocsp.idle_timeout_s`, without a traceback in the log."""
    with caplog.at_level(logging.INFO):
        received = await exchange(responder, *segments)
    assert received.startswith(expected)
    assert expected or not received
    assert not [record for record in caplog.records if record.exc_info or record.levelno > logging.INFO]


async def test_one_connection_serves_many_requests(responder: Served) -> None:
    """Also sent ahead, also in pieces."""
    octets = request(CA_1.cert_id(PUBLIC))
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(octets)
    both = head + b"\r\n" + octets + head + b"Connection: close\r\n\r\n" + octets
    received = await exchange(responder, both[:50], both[50:150], both[150:])
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 2


@pytest.mark.req("R-4-11-2-1", "R-4-11-2-2")
async def test_every_certificate_asked_about_is_in_the_journal(
    client: Client, responder: Served, store: MemoryStore
) -> None:
    """Who asked, from where, about what, with which result."""
    await client.post(request(*map(CA_1.cert_id, [RESIDENT, REVOKED])))
    store.grant("verifier", "127.0.0.0/8", around(NOW))
    await eventually(lambda: responder.refresh.snapshot.access.caller("127.0.0.1", NOW).party is not None)
    body = await client.post(request(*map(CA_1.cert_id, [RESIDENT, REVOKED, NEVER_ISSUED])))
    await client.post(b"nonsense")
    assert [(r.result, r.party, r.object, r.size) for r in responder.journal.records] == [
        ("unauthorized", None, f"{RESIDENT:016X}", 5),
        ("unauthorized", None, f"{REVOKED:016X}", 0),
        ("good", "verifier", f"{RESIDENT:016X}", len(body)),
        ("revoked", "verifier", f"{REVOKED:016X}", 0),
        ("unknown", "verifier", f"{NEVER_ISSUED:016X}", 0),
        ("malformedRequest", None, "", 5),
    ]
    assert {(r.kind, r.origin) for r in responder.journal.records} == {("ocsp_request", "127.0.0.1")}


@pytest.mark.req("R-2-1-4-10", "R-4-5-1")
@pytest.mark.usefixtures("party")
@pytest.mark.parametrize(
    ("serials", "teller"),
    [((REVOKED, RESIDENT), REVOKED), ((NEVER_ISSUED, REVOKED, RESIDENT), REVOKED), ((NEVER_ISSUED,), NEVER_ISSUED)],
    ids=["known", "unknown first", "unknown"],
)
async def test_the_octets_of_an_answer_are_recorded_once(
    client: Client, responder: Served, serials: tuple[int, ...], teller: int
) -> None:
    """However many certificates it is about, and by one that the report counts, if there is any."""
    body = await client.post(request(*map(CA_1.cert_id, serials)))
    told = {record.object: record.size for record in responder.journal.records}
    assert told == {f"{serial:016X}": len(body) * (serial == teller) for serial in serials}


async def test_no_answer_leaves_without_its_record(client: Client, responder: Served) -> None:
    """A full disk stops answers, not the record of them."""
    responder.journal.full = True
    assert refused(await client.post(request(CA_1.cert_id(PUBLIC)))) == "TRY_LATER"
    responder.journal.full = False
    verified(await client.post(request(CA_1.cert_id(PUBLIC))), CA_1)


async def test_without_the_database_try_later(client: Client, store: MemoryStore) -> None:
    """And as before when it is back."""
    store.away = True
    assert refused(await client.post(request(CA_1.cert_id(PUBLIC)))) == "TRY_LATER"
    store.away = False
    verified(await client.post(request(CA_1.cert_id(PUBLIC))), CA_1)


async def test_without_a_delegate_try_later(
    client: Client, responder: Served, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged once, and the other generation is served on."""
    store.add(DELEGATE, Revoked(NOW, CRLReason.KEY_COMPROMISE), public=True)
    await eventually(lambda: responder.refresh.snapshot.issuers.delegate(CA_1.generation, NOW) is None)
    for _ in range(2):
        assert refused(await client.post(request(CA_1.cert_id(PUBLIC)))) == "TRY_LATER"
    assert [record.getMessage() for record in caplog.records].count("no_delegate") == 1
    assert refused(await client.post(request(CA_2.cert_id(OF_CA_2)))) == "UNAUTHORIZED"


async def test_a_bug_is_an_internal_error(
    client: Client, store: MemoryStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OCSP answer for the client, a traceback for us."""

    async def broken(_: object) -> object:
        raise RuntimeError("a bug")

    monkeypatch.setattr(store, "statuses", broken)
    assert refused(await client.post(request(CA_1.cert_id(PUBLIC)))) == "INTERNAL_ERROR"
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]


async def test_an_answer_is_no_longer_good_than_its_signer(store: MemoryStore, tmp_path: Path) -> None:
    """NextUpdate stays inside the delegate's validity."""
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=200)
    soon = SERIAL - 3
    store = MemoryStore()
    store.add_ca(CA_1, CA_1.delegate(soon, rsa_key("delegate"), (NOW - DAY, end)))
    store.add(PUBLIC, Good(), public=True)
    async with served(store, key_store(tmp_path, (soon, rsa_key("delegate")))) as responder, ClientSession() as session:
        body = await Client(session, responder).post(request(CA_1.cert_id(PUBLIC)))
    assert verified(body, CA_1).next_update_utc == end


@pytest.mark.usefixtures("party")
async def test_a_stopping_server_answers_what_it_accepted(store: MemoryStore, keys: KeyStore) -> None:
    """A slow look-up is in progress when it is told to stop."""
    go_on = asyncio.Event()
    asked = asyncio.Event()
    statuses = store.statuses

    async def slow(serials: set[int]) -> object:
        asked.set()
        await go_on.wait()
        return await statuses(serials)

    store.statuses = slow  # type: ignore[assignment, method-assign]
    async with ClientSession() as session:
        async with served(store, keys) as responder:
            answer = asyncio.create_task(Client(session, responder).post(request(CA_1.cert_id(RESIDENT))))
            await asked.wait()
            asyncio.get_running_loop().call_later(0.05, go_on.set)
        verified(await answer, CA_1)
