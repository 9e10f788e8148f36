"""The shortcut in front of aiohttp: every case both ways, with an answer that was kept and with a new one."""

import asyncio
import base64
import contextlib
import itertools
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from ocsp.access import SigningCertificate
from ocsp.answering import LOOKED_UP_AT_ONCE
from ocsp.delegates import KeyStore
from ocsp.errors import StoreUnavailableError
from ocsp.status import IssuedCertificate
from pkix.revocation import CRLReason, Good, Revoked
from pkix.signing import SigningError
from pkix.software import SoftwareSigner
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
from tests.support.parties import Identity, signed

NOW = datetime.now(UTC).replace(microsecond=0)
CA_1 = CA(NOW)
DELEGATE = SERIAL - 1
RESIDENT, REVOKED, PUBLIC, NEVER_ISSUED = (SERIAL + n for n in range(4))
KEY = ec.generate_private_key(ec.SECP256R1())
SECTION = OCSPSection(max_request_bytes=4096, idle_timeout_s=1, response_validity_s=300)
END = b"\r\n\r\n"
ORIGIN = "127.0.0.1"


@pytest.fixture
def store() -> MemoryStore:
    """A CA with one delegate and three certificates; the tests are a relying party."""
    store = MemoryStore()
    store.add_ca(CA_1, CA_1.delegate(DELEGATE, KEY))
    store.add(RESIDENT, Good())
    store.add(REVOKED, Revoked(NOW - DAY, CRLReason.SUPERSEDED))
    store.add(PUBLIC, Good(), public=True)
    store.grant("verifier", f"{ORIGIN}/32", around(NOW))
    return store


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    """The key of the delegate."""
    return key_store(tmp_path_factory.mktemp("keys"), (DELEGATE, KEY))


@pytest.fixture
async def responder(store: MemoryStore, keys: KeyStore) -> AsyncIterator[Served]:
    """It serves `store`."""
    async with served(store, keys, SECTION) as running:
        yield running


@dataclass(frozen=True)
class Response:
    """An HTTP response, as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def certificate_status(self) -> str:
        """What is said of the one certificate."""
        return verified(self.body, CA_1).certificate_status.name


class Raw:
    """A connection, octet by octet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, octets: bytes) -> None:
        """Write a segment."""
        self._writer.write(octets)

    async def receive(self) -> Response:
        """The next response."""
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(END)).decode()
            line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            headers = dict(each.split(": ", 1) for each in lines)
            assert len(headers) == len(lines)
            body = await self._reader.readexactly(int(headers["Content-Length"]))
        return Response(int(line.split()[1]), headers, body)

    async def ask(self, octets: bytes) -> Response:
        """One request, one response."""
        self.send(octets)
        return await self.receive()

    def send_no_more(self) -> None:
        """Shut down this side, and go on reading."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Leave without a word: with a TCP reset."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def rest(self) -> bytes:
        """What comes until the server closes the connection."""
        async with asyncio.timeout(10):
            return await self._reader.read()


@asynccontextmanager
async def connected(responder: Served) -> AsyncIterator[Raw]:
    """A connection to the responder."""
    reader, writer = await asyncio.open_connection(*responder.endpoint)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


@pytest.fixture
async def raw(responder: Served) -> AsyncIterator[Raw]:
    """One connection."""
    async with connected(responder) as connection:
        yield connection


def post(octets: bytes, *headers: str, version: str = "1.1") -> bytes:
    """A POST, as clients send it."""
    lines = [f"POST / HTTP/{version}", "Host: x", "Content-Type: application/ocsp-request", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(octets)}", "", ""]).encode() + octets


def get(octets: bytes, *headers: str) -> bytes:
    """A GET, as clients send it."""
    path = quote(base64.b64encode(octets).decode(), safe="")
    return "\r\n".join([f"GET /{path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


Ask = Callable[[bytes], Awaitable[Response]]


@pytest.fixture(params=list(itertools.product(["shortcut", "aiohttp"], ["POST", "GET"])), ids="-".join)
def ask(request: pytest.FixtureRequest, raw: Raw, responder: Served) -> Ask:
    """Ask on one of the ways; the header `X-Any`, which means nothing, is enough to go to aiohttp."""
    way, method = request.param
    headers = ["X-Any: thing"] if way == "aiohttp" else []

    async def asked(octets: bytes) -> Response:
        before = responder.server.requests_count
        response = await raw.ask((post if method == "POST" else get)(octets, *headers))
        assert responder.server.requests_count - before == (way == "aiohttp")
        assert response.status == 200
        return response

    return asked


def about(*serials: int) -> bytes:
    """A request without a nonce."""
    return request(*map(CA_1.cert_id, serials))


@pytest.mark.parametrize("serial", [RESIDENT, REVOKED, PUBLIC])
async def test_a_kept_answer_is_the_one_that_was_signed(ask: Ask, responder: Served, serial: int) -> None:
    """Except for the date; and it is signed once."""
    first = await ask(about(serial))
    again = await ask(about(serial))
    assert again.body == first.body
    assert again.headers | {"Date": ""} == first.headers | {"Date": ""}
    assert responder.means.metrics.cache_hits == 1
    assert again.certificate_status == ("REVOKED" if serial == REVOKED else "GOOD")


async def test_an_answer_is_dated_when_it_leaves(ask: Ask, responder: Served) -> None:
    """Also one that was signed before (RFC 9110, section 6.6.1)."""
    for _ in range(4):
        earliest = datetime.now(UTC).replace(microsecond=0)
        answer = await ask(about(RESIDENT))
        assert earliest <= parsedate_to_datetime(answer.headers["Date"]) <= datetime.now(UTC)
        await asyncio.sleep(0.4)  # so two of them leave in different seconds
    assert responder.means.metrics.cache_hits == 3


@pytest.mark.parametrize(
    "octets",
    [about(RESIDENT), about(PUBLIC), about(REVOKED), b"nonsense"],
    ids=["resident", "public", "revoked", "nonsense"],
)
async def test_both_ways_send_the_same_headers(raw: Raw, octets: bytes) -> None:
    """Nobody can tell which way his answer went."""
    for make in (post, get):
        answers = [await raw.ask(make(octets, *headers)) for headers in ((), ("X-Any: thing",), ())]
        assert len({tuple((answer.headers | {"Date": ""}).items()) for answer in answers}) == 1
        assert len({answer.body for answer in answers}) == 1


BASE64 = base64.b64encode(about(PUBLIC)).decode()
LENGTH = f"Content-Length: {len(about(PUBLIC))}"
CHUNKED = b"%x\r\n%b\r\n0\r\nAuthorization: x\r\n\r\n" % (len(about(PUBLIC)), about(PUBLIC))
REQUESTS: dict[str, tuple[str, list[str], bytes]] = {
    "URL-encoded": (f"GET /{quote(BASE64, safe='')} HTTP/1.1", [], b""),
    "every character URL-encoded": (f"GET /{''.join(f'%{ord(each):02X}' for each in BASE64)} HTTP/1.1", [], b""),
    "encoded twice": (f"GET /{quote(quote(BASE64, safe=''))} HTTP/1.1", [], b""),
    "half an escape": (f"GET /{BASE64}%2 HTTP/1.1", [], b""),
    "slashes": (f"GET //{BASE64} HTTP/1.1", [], b""),
    "dots": (f"GET /a/../{BASE64} HTTP/1.1", [], b""),
    "query": (f"GET /{BASE64}?a=b HTTP/1.1", [], b""),
    "fragment": (f"GET /{BASE64}#a HTTP/1.1", [], b""),
    "user and host": (f"GET //a@b/{BASE64} HTTP/1.1", [], b""),
    "absolute": (f"GET http://y/{BASE64} HTTP/1.1", [], b""),
    "GET with a body": (f"GET /{BASE64} HTTP/1.1", ["Content-Length: 5"], b"GET /"),
    "two lengths": ("POST / HTTP/1.1", [LENGTH, LENGTH], about(PUBLIC)),
    "length and chunks": ("POST / HTTP/1.1", [LENGTH, "Transfer-Encoding: chunked"], CHUNKED),
    "chunks and trailers": ("POST / HTTP/1.1", ["Transfer-Encoding: chunked"], CHUNKED),
    "two hosts": ("POST / HTTP/1.1", [LENGTH, "Host: y"], about(PUBLIC)),
    "upgrade": ("POST / HTTP/1.1", [LENGTH, "Upgrade: h2c", "Connection: Upgrade"], about(PUBLIC)),
    "kept alive in HTTP/1.0": ("POST / HTTP/1.0", [LENGTH, "Connection: keep-alive"], about(PUBLIC)),
    "expectation in HTTP/1.0": ("POST / HTTP/1.0", [LENGTH, "Expect: 100-continue"], about(PUBLIC)),
}


@pytest.mark.parametrize(("line", "headers", "body"), REQUESTS.values(), ids=REQUESTS)
async def test_both_ways_read_the_same(responder: Served, line: str, headers: list[str], body: bytes) -> None:
    """Whatever stands there: the answers are the same, and so is what follows as the next request."""
    answers = []
    for more in ([], ["X-Any: thing"]):
        async with connected(responder) as raw:
            raw.send("\r\n".join([line, "Host: x", *headers, *more, "", ""]).encode() + body)
            first = await raw.receive()
            with contextlib.suppress(ConnectionResetError):
                raw.send(post(about(PUBLIC), "Connection: close"))
                answers.append((first.status, first.body, (await raw.rest()).count(b"HTTP/1.1 200")))
    assert answers[0] == answers[1]


@pytest.mark.req("R-4-4-4-2-1")
async def test_a_revocation_shows_at_once(ask: Ask, responder: Served, store: MemoryStore) -> None:
    """Although an answer was kept."""
    for _ in range(2):
        assert (await ask(about(RESIDENT))).certificate_status == "GOOD"
    store.add(RESIDENT, Revoked(NOW, CRLReason.KEY_COMPROMISE))
    await eventually(lambda: responder.refresh.position == len(store._changes))
    for _ in range(2):
        assert (await ask(about(RESIDENT))).certificate_status == "REVOKED"


@pytest.mark.req("R-4-4-4-2-1")
async def test_a_revocation_while_an_answer_is_made_is_not_missed(
    ask: Ask, responder: Served, store: MemoryStore
) -> None:
    """That answer was true when it was asked for; the next one is not kept from it."""
    statuses = store.statuses

    async def overtaken(serials: set[int]) -> object:
        found = await statuses(serials)
        store.statuses = statuses  # type: ignore[method-assign]
        store.add(RESIDENT, Revoked(NOW, CRLReason.KEY_COMPROMISE))
        await eventually(lambda: responder.refresh.position == len(store._changes))
        return found

    store.statuses = overtaken  # type: ignore[assignment, method-assign]
    assert (await ask(about(RESIDENT))).certificate_status == "GOOD"
    assert (await ask(about(RESIDENT))).certificate_status == "REVOKED"


async def test_what_is_issued_is_known_at_once(ask: Ask, store: MemoryStore) -> None:
    """Nobody is told of a new certificate, so `unknown` is not kept."""
    assert (await ask(about(NEVER_ISSUED))).certificate_status == "UNKNOWN"
    store.add(NEVER_ISSUED, Good())
    assert (await ask(about(NEVER_ISSUED))).certificate_status == "GOOD"


@pytest.mark.parametrize("warm", [False, True])
async def test_a_nonce_is_answered_anew(ask: Ask, responder: Served, *, warm: bool) -> None:
    """Also the same one."""
    octets = request(CA_1.cert_id(PUBLIC), extensions=nonce(b"n" * 32))
    if warm:
        await ask(octets)
    verified((await ask(octets)).body, CA_1)
    assert (responder.means.metrics.cache_hits, len(responder.cache)) == (0, 0)


@pytest.mark.req("R-4-4-4-3")
@pytest.mark.parametrize("warm", [False, True])
async def test_a_right_that_is_withdrawn_ends_at_once(
    ask: Ask, responder: Served, store: MemoryStore, *, warm: bool
) -> None:
    """On an open connection, for an answer that is there already. What is public is still told."""
    if warm:
        for _ in range(2):
            await ask(about(RESIDENT))
    store.withdraw("verifier")
    await eventually(lambda: responder.refresh.position == len(store._changes))
    assert refused((await ask(about(RESIDENT))).body) == "UNAUTHORIZED"
    verified((await ask(about(PUBLIC))).body, CA_1)


@pytest.mark.req("R-4-4-4-3")
async def test_a_right_ends_with_its_agreement(ask: Ask, responder: Served, store: MemoryStore) -> None:
    """Without anybody saying so."""
    store.withdraw("verifier")
    end = datetime.now(UTC) + timedelta(seconds=0.7)
    store.grant("verifier", f"{ORIGIN}/32", (NOW - DAY, end))
    await eventually(lambda: responder.refresh.position == len(store._changes))
    for _ in range(2):
        verified((await ask(about(RESIDENT))).body, CA_1)
    await asyncio.sleep((end - datetime.now(UTC)).total_seconds())
    assert refused((await ask(about(RESIDENT))).body) == "UNAUTHORIZED"


@pytest.mark.req("R-4-4-4-3")
async def test_a_right_that_comes_is_there_at_once(ask: Ask, responder: Served, store: MemoryStore) -> None:
    """What somebody else has been told already, he is told from what was kept."""
    await ask(about(RESIDENT))
    store.withdraw("verifier")
    await eventually(lambda: responder.refresh.position == len(store._changes))
    assert refused((await ask(about(RESIDENT))).body) == "UNAUTHORIZED"
    store.grant("another", f"{ORIGIN}/32", around(NOW))
    await eventually(lambda: responder.refresh.position == len(store._changes))
    verified((await ask(about(RESIDENT))).body, CA_1)
    assert [record.party for record in responder.journal.records] == ["verifier", None, "another"]


async def test_an_answer_is_made_anew_from_its_middle_on(store: MemoryStore, keys: KeyStore) -> None:
    """Whoever gets it then has the other half to use it."""
    async with (
        served(store, keys, SECTION.model_copy(update={"response_validity_s": 2, "idle_timeout_s": 30})) as responder,
        connected(responder) as raw,
    ):
        first = await raw.ask(post(about(PUBLIC)))
        await asyncio.sleep(1.1)
        again = await raw.ask(post(about(PUBLIC)))
    assert verified(again.body, CA_1).this_update_utc > verified(first.body, CA_1).this_update_utc


async def test_a_revoked_delegate_speaks_no_more(ask: Ask, responder: Served, store: MemoryStore) -> None:
    """Not in answers that it signed before."""
    for _ in range(2):
        await ask(about(PUBLIC))
    store.add(DELEGATE, Revoked(NOW, CRLReason.KEY_COMPROMISE), public=True)
    await eventually(lambda: responder.refresh.position == len(store._changes))
    assert refused((await ask(about(PUBLIC))).body) == "TRY_LATER"


async def test_without_the_database_what_is_kept_is_given_on(ask: Ask, store: MemoryStore) -> None:
    """The rest is to be tried later, and is there again when the database is."""
    kept = await ask(about(RESIDENT))
    store.away = True
    assert (await ask(about(RESIDENT))).body == kept.body
    assert refused((await ask(about(REVOKED))).body) == "TRY_LATER"
    store.away = False
    assert (await ask(about(REVOKED))).certificate_status == "REVOKED"


async def test_without_the_database_answers_are_given_until_their_end(store: MemoryStore, keys: KeyStore) -> None:
    """Not only until their middle; caches are told how long that is."""
    async with (
        served(store, keys, SECTION.model_copy(update={"response_validity_s": 4, "idle_timeout_s": 30})) as responder,
        connected(responder) as raw,
    ):
        kept = await raw.ask(get(about(PUBLIC)))
        store.away = True
        await asyncio.sleep(2.2)
        late = await raw.ask(get(about(PUBLIC)))
    assert late.body == kept.body
    assert late.headers["Cache-Control"].startswith(("max-age=0,", "max-age=1,"))


@pytest.mark.req("R-4-11-2-1", "R-4-11-2-2")
async def test_every_answer_is_in_the_journal(ask: Ask, responder: Served) -> None:
    """A kept one like a new one, each certificate asked about."""
    octets = about(RESIDENT, REVOKED)
    answers = [await ask(octets) for _ in range(3)]
    size = len(answers[0].body)
    told = [("good", f"{RESIDENT:016X}", size), ("revoked", f"{REVOKED:016X}", 0)]
    records = responder.journal.records
    assert [(record.result, record.object, record.size) for record in records] == told * 3
    assert {(record.kind, record.party, record.origin) for record in records} == {("ocsp_request", "verifier", ORIGIN)}
    assert all(abs(record.at - datetime.now(UTC)) < timedelta(minutes=1) for record in records)


@pytest.mark.parametrize("warm", [False, True])
async def test_no_answer_leaves_without_its_record(ask: Ask, responder: Served, *, warm: bool) -> None:
    """A full disk stops answers; and what was not given is not recorded later."""
    if warm:
        await ask(about(PUBLIC))
    before = len(responder.journal.records)
    responder.journal.full = True
    for _ in range(5):
        assert refused((await ask(about(PUBLIC))).body) == "TRY_LATER"
    responder.journal.full = False
    verified((await ask(about(PUBLIC))).body, CA_1)
    assert len(responder.journal.records) == before + 1


@pytest.mark.parametrize("warm", [False, True])
async def test_limits_hold(store: MemoryStore, keys: KeyStore, *, warm: bool) -> None:
    """A kept answer counts like a new one, and either way like the other."""
    section = SECTION.model_copy(update={"address_requests_per_s": 3})
    async with served(store, keys, section) as responder, connected(responder) as raw:
        numbers = [0, 0, 0, 0, 0, 0] if warm else [0, 1, 2, 0, 1, 2]
        octets = [about((RESIDENT, REVOKED, PUBLIC)[number]) for number in numbers]
        made = [post(one, *headers) for one, headers in zip(octets, itertools.cycle([(), ("X-Any: thing",)]))]
        statuses = [ocsp.load_der_ocsp_response((await raw.ask(one)).body).response_status.name for one in made]
    assert statuses[:3] == ["SUCCESSFUL"] * 3
    assert "TRY_LATER" in statuses[3:]


async def test_a_party_has_its_limit(store: MemoryStore, keys: KeyStore) -> None:
    """On the shortcut too."""
    section = SECTION.model_copy(update={"party_requests_per_s": 2})
    async with served(store, keys, section) as responder, connected(responder) as raw:
        answers = [await raw.ask(post(about(PUBLIC))) for _ in range(4)]
    assert refused(answers[3].body) == "TRY_LATER"
    verified(answers[1].body, CA_1)


async def test_an_address_pays_once_for_a_question_that_its_party_may_not_ask(
    store: MemoryStore, keys: KeyStore
) -> None:
    """Somebody else at that address has what is left."""
    other = Identity.new("other")
    store.grant("other", SigningCertificate(other.der), around(NOW))
    section = SECTION.model_copy(update={"address_requests_per_s": 3, "party_requests_per_s": 1})
    async with served(store, keys, section) as responder, connected(responder) as raw:
        bodies = [
            (await raw.ask(post(octets))).body for octets in (*[about(RESIDENT)] * 2, signed(about(PUBLIC), other))
        ]
    verified(bodies[0], CA_1)
    assert refused(bodies[1]) == "TRY_LATER"
    verified(bodies[2], CA_1)


async def test_who_asks_meanwhile_is_gathered(store: MemoryStore, responder: Served) -> None:
    """The statuses for many questions are looked up together; each gets its own answer."""
    serials = range(SERIAL + 100, SERIAL + 140)
    for serial in serials:
        store.add(serial, Good())
    statuses, look_ups = store.statuses, []

    async def counted(asked: Collection[int]) -> dict[int, IssuedCertificate]:
        look_ups.append(asked)
        await asyncio.sleep(0.05)
        return await statuses(asked)

    store.statuses = counted  # type: ignore[assignment, method-assign]
    async with AsyncExitStack() as stack:
        raws = [await stack.enter_async_context(connected(responder)) for _ in serials]
        answers = await asyncio.gather(
            *(raw.ask(post(about(serial))) for raw, serial in zip(raws, serials, strict=True))
        )
    assert [verified(answer.body, CA_1).serial_number for answer in answers] == list(serials)
    assert len(look_ups) < len(serials) / 2


async def test_everybody_is_told_that_a_key_cannot_be_used(responder: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those for whom there was no place in the first look-up."""

    def gone(*_: object) -> list[bytes]:
        raise SigningError("the token is gone")

    monkeypatch.setattr(SoftwareSigner, "sign_digests", gone)
    async with AsyncExitStack() as stack:
        raws = [await stack.enter_async_context(connected(responder)) for _ in range(2 * LOOKED_UP_AT_ONCE)]
        answers = await asyncio.gather(*(raw.ask(post(about(RESIDENT))) for raw in raws))
    assert {refused(answer.body) for answer in answers} == {"TRY_LATER"}


async def test_nobody_waits_for_a_second_try(store: MemoryStore, responder: Served) -> None:
    """Who asks while a look-up is failing is told together with those it is for, and what is kept is given."""
    failing, tries = asyncio.Event(), 0

    async def failed(_: object) -> dict[int, IssuedCertificate]:
        nonlocal tries
        tries += 1
        await failing.wait()
        raise StoreUnavailableError("away")

    async with connected(responder) as first, connected(responder) as second:
        store.statuses = failed  # type: ignore[assignment, method-assign]
        for raw in (first, second):
            raw.send(post(about(RESIDENT)))
            await asyncio.sleep(0.05)
        failing.set()
        assert [refused((await raw.receive()).body) for raw in (first, second)] == ["TRY_LATER"] * 2
    assert tries == 1


# ---------------------------------------------------------------- framing


SERIALS = (RESIDENT, REVOKED, PUBLIC)


async def warmed(raw: Raw) -> None:
    """Let everything be kept that can be."""
    for serial, make in itertools.product(SERIALS, (post, get)):
        await raw.ask(make(about(serial)))


async def expect(raw: Raw, *serials: int) -> None:
    """The next answers are about these."""
    assert [verified((await raw.receive()).body, CA_1).serial_number for _ in serials] == list(serials)


@pytest.mark.parametrize("make", [post, get])
async def test_a_request_may_come_in_pieces(raw: Raw, make: Callable[..., bytes]) -> None:
    """Cut anywhere, also between head and body, and what comes next is understood."""
    await warmed(raw)
    octets = make(about(RESIDENT))
    for cut in (1, 3, 20, octets.find(END), octets.find(END) + 2, octets.find(END) + 4, len(octets) - 1):
        raw.send(octets[:cut])
        await asyncio.sleep(0.01)
        raw.send(octets[cut:])
        await expect(raw, *([RESIDENT] if octets else []))
        raw.send(post(about(PUBLIC)))
        await expect(raw, PUBLIC)


async def test_a_body_in_a_segment_of_its_own_needs_no_aiohttp(raw: Raw, responder: Served) -> None:
    """Many clients write head and body one after the other."""
    for serial in (RESIDENT, RESIDENT, PUBLIC):
        octets = post(about(serial))
        end = octets.find(END) + len(END)
        raw.send(octets[:end])
        await asyncio.sleep(0.01)
        raw.send(octets[end:])
        await expect(raw, serial)
    assert responder.server.requests_count == 0


async def test_requests_may_be_sent_ahead(raw: Raw) -> None:
    """In one segment or several; answers come in their order."""
    await warmed(raw)
    ahead = [post(about(serial)) if n % 2 else get(about(serial)) for n, serial in enumerate(SERIALS * 3)]
    raw.send(b"".join(ahead))
    await expect(raw, *SERIALS * 3)
    raw.send(post(about(PUBLIC)))
    await expect(raw, PUBLIC)


async def test_what_is_sent_ahead_waits_for_an_answer_that_is_made(raw: Raw, store: MemoryStore) -> None:
    """The second answer is kept already, and still comes second."""
    await raw.ask(post(about(PUBLIC)))
    statuses, go_on = store.statuses, asyncio.Event()

    async def slow(serials: set[int]) -> object:
        await go_on.wait()
        return await statuses(serials)

    store.statuses = slow  # type: ignore[assignment, method-assign]
    raw.send(post(about(RESIDENT)))
    await asyncio.sleep(0.02)
    raw.send(post(about(PUBLIC)))
    await asyncio.sleep(0.02)
    raw.send(post(about(PUBLIC))[:50])
    await asyncio.sleep(0.02)
    go_on.set()
    await expect(raw, RESIDENT, PUBLIC)
    raw.send(post(about(PUBLIC))[50:])
    await expect(raw, PUBLIC)


async def test_what_is_sent_ahead_is_answered_when_the_database_is_away(raw: Raw, store: MemoryStore) -> None:
    """The second question comes to its turn while the first one is being refused."""

    async def slowly_failing(_: object) -> dict[int, IssuedCertificate]:
        await asyncio.sleep(0.1)
        raise StoreUnavailableError("away")

    store.statuses = slowly_failing  # type: ignore[assignment, method-assign]
    raw.send(post(about(RESIDENT)))
    await asyncio.sleep(0.02)
    raw.send(post(about(REVOKED)))
    assert [refused((await raw.receive()).body) for _ in range(2)] == ["TRY_LATER"] * 2


async def test_a_request_inside_the_body_of_another_is_no_request(raw: Raw, responder: Served) -> None:
    """Also when it comes as a segment of its own, in octets that were answered before."""
    await warmed(raw)
    inner = post(about(RESIDENT))
    outer = post(inner)
    end = outer.find(END) + len(END)
    records = len(responder.journal.records)
    for head in (outer[:end], outer[:end].replace(b"Host: x", b"Host: x\r\nX-Any: thing")):
        raw.send(head)
        await asyncio.sleep(0.01)
        raw.send(inner)
        assert refused((await raw.receive()).body) == "MALFORMED_REQUEST"
    assert [record.result for record in responder.journal.records[records:]] == ["malformedRequest"] * 2
    raw.send(post(about(PUBLIC)))
    await expect(raw, PUBLIC)


async def test_the_request_line_of_another_request_is_no_body(raw: Raw) -> None:
    """Although it has an answer, and all else is as before."""
    line = get(about(PUBLIC)).partition(b"\r\n")[0]
    await raw.ask(get(about(PUBLIC)))
    for body in (b"0" * len(line), line, line):
        assert refused((await raw.ask(post(body))).body) == "MALFORMED_REQUEST"
    await raw.ask(post(about(PUBLIC)))
    tail = get(b"").partition(b" HTTP/1.1")[2]
    raw.send(about(PUBLIC) + tail)
    assert (await raw.rest()).startswith(b"HTTP/1.0 400")


async def test_another_head_of_the_same_length_is_read(raw: Raw) -> None:
    """The octets before told nothing about the end of the connection."""
    for _ in range(3):
        await raw.ask(post(about(PUBLIC), "User-Agent: abcde"))
    raw.send(post(about(PUBLIC), "Connection: close"))
    verified((await raw.rest()).partition(END)[2], CA_1)


@pytest.mark.parametrize(
    "octets",
    [post(b"0" * 4097), b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n", get(about(PUBLIC))],
    ids=["too large", "method", "no HTTP", "an answer"],
)
async def test_no_response_tells_versions(raw: Raw, octets: bytes) -> None:
    """Of what the responder is made of."""
    assert (await raw.ask(octets)).headers["Server"] == "prefca"


async def test_chunks_and_expectations_are_left_to_aiohttp(raw: Raw) -> None:
    """And the connection goes on."""
    await warmed(raw)
    octets = about(RESIDENT)
    chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    raw.send(chunked % (len(octets), octets))
    await expect(raw, RESIDENT)
    raw.send(post(about(PUBLIC)))
    await expect(raw, PUBLIC)


@pytest.mark.parametrize("octets", [post(about(RESIDENT), "Connection: close"), post(about(RESIDENT), version="1.0")])
async def test_a_connection_that_is_to_end_ends(raw: Raw, octets: bytes) -> None:
    """After the answer."""
    await warmed(raw)
    raw.send(octets)
    received = await raw.rest()
    assert verified(received.partition(END)[2], CA_1).serial_number == RESIDENT


async def test_a_body_that_never_comes_is_told_so(raw: Raw) -> None:
    """As on the way without a shortcut."""
    await warmed(raw)
    octets = post(about(RESIDENT))
    raw.send(octets[: octets.find(END) + len(END)])
    assert (await raw.rest()).startswith(b"HTTP/1.1 408")


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(raw: Raw) -> None:
    """`ocsp.idle_timeout_s`: kept answers count as activity."""
    for _ in range(4):
        await raw.ask(post(about(PUBLIC)))
        await asyncio.sleep(0.4)
    assert await raw.rest() == b""


async def test_a_request_that_is_too_large_is_refused(raw: Raw) -> None:
    """By aiohttp, in HTTP."""
    assert (await raw.ask(post(b"0" * (SECTION.max_request_bytes + 1)))).status == 413


@pytest.mark.parametrize("seed", range(12))
async def test_any_requests_cut_anywhere_are_answered_in_order(responder: Served, seed: int) -> None:
    """Plain ones and others, new and kept, ahead and one by one."""
    choose = random.Random(seed)
    makers = [(make, headers) for make in (post, get) for headers in ((), ("X-Any: thing",))]
    async with connected(responder) as raw:
        for _ in range(6):
            serials = choose.choices(SERIALS, k=choose.randrange(1, 6))
            made = [(serial, choose.choice(makers)) for serial in serials]
            stream = b"".join(make(about(serial), *headers) for serial, (make, headers) in made)
            cuts = sorted(choose.sample(range(1, len(stream)), choose.randrange(0, 5)))
            for begin, end in itertools.pairwise([0, *cuts, len(stream)]):
                raw.send(stream[begin:end])
                await asyncio.sleep(choose.choice([0, 0, 0.002]))
            await expect(raw, *serials)


async def test_keys_of_both_kinds_sign(store: MemoryStore, tmp_path: Path) -> None:
    """RSA-2048 as well as P-256."""
    store = MemoryStore()
    store.add_ca(CA_1, CA_1.delegate(DELEGATE, rsa_key("delegate")))
    store.add(PUBLIC, Good(), public=True)
    keys = key_store(tmp_path, (DELEGATE, rsa_key("delegate")))
    async with served(store, keys) as responder, connected(responder) as raw:
        assert (await raw.ask(post(about(PUBLIC)))).certificate_status == "GOOD"


@pytest.mark.parametrize("way", ["shortcut", "aiohttp"])
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.req("R-4-11-2-1")
async def test_a_peer_that_sends_no_more_is_answered(
    responder: Served, store: MemoryStore, *, way: str, warm: bool
) -> None:
    """Then the connection ends; and the record tells of an answer that was given."""
    if warm:
        async with connected(responder) as raw:
            raw.send(post(about(PUBLIC)))
            await raw.receive()
    given = len(responder.journal.records)
    store.hold_back()
    async with connected(responder) as raw:
        raw.send(post(about(PUBLIC), *(["X-Any: thing"] if way == "aiohttp" else [])))
        raw.send_no_more()
        await asyncio.sleep(0.05)
        store.may_answer.set()
        assert (await raw.receive()).certificate_status == "GOOD"
        assert await raw.rest() == b""
    assert len(responder.journal.records) == given + 1


@pytest.mark.req("R-4-11-2-1")
async def test_an_answer_to_a_peer_that_has_gone_leaves_no_record(responder: Served, store: MemoryStore) -> None:
    """It was not given."""
    store.hold_back()
    async with connected(responder) as raw:
        raw.send(post(about(PUBLIC)))
        await store.asked.wait()
        raw.reset()
    await eventually(lambda: not responder.server.connections)
    store.may_answer.set()
    await eventually(lambda: len(responder.means.cache) == 1)
    await asyncio.sleep(0)
    assert responder.journal.records == []


@pytest.mark.req("R-4-4-4-3")
async def test_a_right_that_is_withdrawn_while_the_store_is_asked_is_worth_nothing(
    ask: Ask, responder: Served, store: MemoryStore
) -> None:
    """The party is to ask again, and then it is refused."""
    query = store.statuses

    async def statuses(serials: Collection[int]) -> dict[int, IssuedCertificate]:
        store.withdraw("verifier")
        await eventually(lambda: not responder.refresh.snapshot.access.caller(ORIGIN, NOW).rights)
        return await query(serials)

    store.statuses = statuses  # type: ignore[method-assign]
    assert refused((await ask(about(RESIDENT))).body) == "TRY_LATER"
    assert refused((await ask(about(RESIDENT))).body) == "UNAUTHORIZED"


@pytest.mark.parametrize("headers", [(), ("X-Any: thing",)], ids=["shortcut", "aiohttp"])
async def test_a_stopping_server_leaves_no_request_unanswered(
    store: MemoryStore, keys: KeyStore, headers: tuple[str, ...]
) -> None:
    """Of clients that ask on and on until they are told that an answer is the last one; who is silent is let go."""

    async def ask_on(raw: Raw) -> int:
        answered = 1
        while (await raw.ask(post(about(PUBLIC), *headers))).headers.get("Connection") != "close":
            answered += 1
        assert await raw.rest() == b""
        return answered

    async with AsyncExitStack() as clients:
        async with served(store, keys, SECTION) as responder:
            raws = [await clients.enter_async_context(connected(responder)) for _ in range(20)]
            asking = [asyncio.create_task(ask_on(raw)) for raw in raws]
            silent = await clients.enter_async_context(connected(responder))
            assert (await silent.ask(get(about(PUBLIC)))).status == 200
        assert sum(await asyncio.gather(*asking)) > len(raws)
        assert await silent.rest() == b""


async def test_what_was_sent_ahead_is_answered_by_a_stopping_server(store: MemoryStore, keys: KeyStore) -> None:
    """All that has arrived; and only the last answer says that it is the last."""
    async with AsyncExitStack() as clients:
        async with served(store, keys, SECTION) as responder:
            raw = await clients.enter_async_context(connected(responder))
            store.hold_back()
            raw.send(b"".join(post(about(serial)) for serial in SERIALS))
            await store.asked.wait()
            asyncio.get_running_loop().call_later(0.05, store.may_answer.set)
        answers = [await raw.receive() for _ in SERIALS]
    assert [verified(answer.body, CA_1).serial_number for answer in answers] == list(SERIALS)
    assert [answer.headers.get("Connection") for answer in answers] == [None, None, "close"]


class Gone(asyncio.Transport):
    """What uvloop makes of a connection that was reset before it was accepted: it has no address any more."""

    def __init__(self) -> None:
        super().__init__()
        self.is_aborted = False

    def abort(self) -> None:
        """Close."""
        self.is_aborted = True


async def test_a_connection_that_is_reset_before_it_is_accepted_costs_nothing(responder: Served) -> None:
    """It is closed, and does not count for anybody."""
    connection, transport = responder.server(), Gone()
    connection.connection_made(transport)
    connection.connection_lost(None)
    assert transport.is_aborted
    assert responder.server.connections == []
