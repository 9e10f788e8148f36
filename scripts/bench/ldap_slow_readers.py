"""Clients that read ten megabytes at a kilobyte a second: what they cost a server, and those who are quicker."""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

from directories import Directory
from ldap_results import Result

READERS = 64
READ_BYTES = 1024
READ_EVERY_S = 1.0
SETTLE_S = 3.0
ALLOWED_BYTES = 5_000_000


def slow_readers(
    name: str, request: bytes, small: Callable[[Directory], float], prefca: Directory, peer: Directory
) -> Iterator[Result]:
    """Measure the memory that they cost, and the small searches of eight others meanwhile.

    Args:
        name: of the case.
        request: an LDAPMessage that asks for a large list.
        small: measures the rate of small searches at a server; may end in a subprocess.CalledProcessError.
        prefca: a running server.
        peer: another one, with the same content.
    """
    rises, rates = [], []
    for server in (prefca, peer):
        small(server)  # so that everything is in memory that is going to be
        before = server.memory_bytes()
        with _reading_slowly(server.port, request):
            time.sleep(SETTLE_S)
            try:
                rates.append(small(server))
            except subprocess.CalledProcessError:  # it does not answer any more
                rates.append(0.0)
            rises.append(server.memory_bytes() - before)
    ours, its = (rise / 1e6 for rise in rises)
    yield Result(f"{name}: memory", ours, its, "MB", rises[0] / ALLOWED_BYTES, "<= 1")
    ratio = rates[0] / max(rates[1], 1.0)  # who gives no answer at all counts for one a second
    yield Result(f"{name}: small searches meanwhile", *rates, "answers/s", ratio, "-")


@contextlib.contextmanager
def _reading_slowly(port: int, request: bytes) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(_asked(port, request)) for _ in range(READERS)]
        is_over = threading.Event()
        thread = threading.Thread(target=_read, args=(readers, is_over))
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


@contextlib.contextmanager
def _asked(port: int, request: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.sendall(request)
        one.setblocking(False)
        yield one


def _read(readers: list[socket.socket], is_over: threading.Event) -> None:
    while not is_over.wait(READ_EVERY_S):
        for one in readers:
            with contextlib.suppress(BlockingIOError):  # a server may be slower still
                one.recv(READ_BYTES)
