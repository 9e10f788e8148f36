"""Which requests are plain, and where they end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocsp.framing import MAX_HEAD_BYTES, MAX_KNOWN_HEADS, Head, Heads, get_target, read_head

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (POST + b"\r\n", Head(5, plain=True)),
        (b"POST /ocsp/ HTTP/1.1\r\nhost:x\r\ncontent-length:\t05 \r\n\r\n", Head(5, plain=True)),
        (POST + b"Content-Type: application/OCSP-request\r\nConnection: Keep-Alive\r\n\r\n", Head(5, plain=True)),
        (POST + b"User-Agent: Java/17\r\nAccept: text/html, *; q=.2\r\nPragma: no-cache\r\n\r\n", Head(5, plain=True)),
        (b"\r\nHost: x\r\n\r\n", Head(0, plain=True)),
        (b"HEAD /MEUw HTTP/1.1\r\nHost: x\r\n\r\n", Head(0, plain=False)),
        (POST + b"Authorization: Basic eDp5\r\n\r\n", Head(5, plain=False)),
        (POST + b"X-Forwarded-For: 192.0.2.1\r\n\r\n", Head(5, plain=False)),
        (POST + b"Expect: 100-continue\r\n\r\n", Head(5, plain=False)),
        (POST + b"Connection: close\r\n\r\n", Head(5, plain=False)),
        (POST + b"Content-Type: text/plain\r\n\r\n", Head(5, plain=False)),
        (POST + b"If-None-Match: x\r\n\r\n", Head(5, plain=False)),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", Head(5, plain=False)),
    ],
    ids=[
        "POST", "spaces", "usual headers", "headers without influence", "GET", "HEAD", "credentials", "proxy", "expect",
        "close", "media type", "condition", "no Host",
    ],
)  # fmt: skip
def test_what_a_head_says(head: bytes, expected: Head) -> None:
    """Plain is only what cannot change the answer."""
    assert read_head(head) == expected


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\r\n\r\n\r\n",
        POST,
        POST + b"\r\n\r\n\r\n",
        POST + b"Content-Length: 5\r\n\r\n",
        POST + b"Host: y\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n",
        POST + b"Upgrade: websocket\r\n\r\n",
        POST + b"Accept : x\r\n\r\n",
        POST + b" folded\r\n\r\n",
        POST + b"Accept: a\nContent-Length: 6\r\n\r\n",
        POST + b"Accept: a\rContent-Length: 6\r\n\r\n",
        POST + b"Accept: \x00\r\n\r\n",
        POST + b"nothing\r\n\r\n",
        POST.replace(b"5", b"+5") + b"\r\n",
        POST.replace(b"5", b"5, 5") + b"\r\n",
        POST.replace(b"5", b"0x5") + b"\r\n",
        POST.replace(b"5", b"") + b"\r\n",
        POST.replace(b"1.1", b"1.0") + b"\r\n",
        POST.replace(b"POST", b"PUT") + b"\r\n",
        POST.replace(b"POST /", b"POST http://x/") + b"\r\n",
        b"\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
        POST + b"A: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_left_to_aiohttp(head: bytes) -> None:
    """Whatever two readers could read in two ways."""
    assert read_head(head).body_octets is None


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (b"GET /MEUw%3D HTTP/1.1", "/MEUw%3D"),
        (b"GET / HTTP/1.1", "/"),
        (b"GET /a HTTP/1.0", None),
        (b"GET http://x/a HTTP/1.1", None),
        (b"GET /a b HTTP/1.1", None),
        (b"GET /\xff HTTP/1.1", None),
        (b"GET /MEUw#a HTTP/1.1", None),
        (b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1", None),
        (b"GET /a", None),
        (b"", None),
    ],
)
def test_the_target_of_a_get(line: bytes, target: str | None) -> None:
    """In origin-form only."""
    assert get_target(line) == target


def test_splitting() -> None:
    """The question of a GET is its request line: all else repeats from client to client."""
    heads = Heads()
    assert heads.split(POST + b"\r\nhello") == (Head(5, plain=True), b"hello")
    assert heads.split(POST + b"\r\n") == (Head(5, plain=True), b"")
    assert heads.split(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n") == (Head(0, plain=True), b"GET /a HTTP/1.1")
    ahead, _ = heads.split(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n")
    assert ahead.body_octets is None


def test_heads_are_remembered_in_bounded_memory() -> None:
    """Every client may send another one."""
    heads = Heads()
    for number in range(MAX_KNOWN_HEADS + 10):
        heads.split(POST + b"User-Agent: %d\r\n\r\n" % number)
    assert len(heads._known) <= MAX_KNOWN_HEADS


@given(st.binary(max_size=300))
def test_any_octets_are_split_into_what_they_were(data: bytes) -> None:
    """Never an exception; and what has a clear end is one whole request."""
    head, question = Heads().split(data)
    if head.body_octets is not None:
        assert question in data


@given(st.lists(st.sampled_from([b"\r\n", b"\n", b":", b" ", b"POST / HTTP/1.1", b"Host", b"Content-Length", b"5"])))
def test_a_plain_head_has_one_length_and_one_end(parts: list[bytes]) -> None:
    """Made of what heads are made of."""
    data = b"".join(parts)
    head = read_head(data)
    if head.plain:
        assert data.endswith(b"\r\n\r\n")
        assert data.lower().count(b"content-length") <= 1
        assert data.count(b"\n") == data.count(b"\r\n")
