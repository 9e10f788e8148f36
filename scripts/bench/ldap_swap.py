"""A new publication: how long until every worker serves it, and whether memory returns to the level before."""

import asyncio
import contextlib
import dataclasses
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from directories import Directory, Value, publish
from ldap_results import Result

from settings.load import load

CONNECTIONS = 32  # over the workers, whichever accepts them: none of two is left out
SWAPS = 5
SETTLE_S = 3.0
ALLOWED_S = 1.0
ALLOWED_BYTES = 10_000_000


async def swap(name: str, instance: Path, request: bytes, values: Sequence[Value], prefca: Directory) -> list[Result]:
    """Publish everything anew a few times.

    Args:
        name: of the case.
        instance: of the server.
        request: an LDAPMessage that asks for the entry of the first value.
        values: what is published; each time all of them are other ones.
        prefca: the running server.
    """
    settings = load(instance, {})
    took: list[float] = []
    levels: list[int] = []
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_client(prefca.port)) for _ in range(CONNECTIONS)]
        for number in range(SWAPS + 1):
            mark = b"publication %d" % number
            committed = await publish(settings, [_marked(each, mark) for each in values])
            took.append(max(_seen(each, request, mark) for each in clients) - committed)
            await asyncio.sleep(SETTLE_S)
            levels.append(prefca.memory_bytes())
    # The first one makes room for two publications at a time.
    seconds, rise = median(took[1:]), max(levels[1:]) - levels[0]
    return [
        Result(f"{name}: COMMIT to served by every worker", seconds * 1000, None, "ms", seconds / ALLOWED_S, "<= 1"),
        Result(f"{name}: memory", rise / 1e6, None, "MB", rise / ALLOWED_BYTES, "<= 1"),
    ]


def _marked(value: Value, mark: bytes) -> Value:
    return dataclasses.replace(value, der=value.der[: -len(mark)] + mark)


@contextlib.contextmanager
def _client(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
        yield one


def _seen(client: socket.socket, request: bytes, mark: bytes) -> float:
    """When this client is first shown the mark."""
    while True:
        client.sendall(request)
        if mark in client.recv(65_536):
            return time.monotonic()
