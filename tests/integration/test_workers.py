"""Workers and their parent: addresses, starting, stopping."""

import argparse
import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import settings.workers
from settings.sections import Endpoint
from settings.workers import (
    CannotListenError,
    Place,
    Sockets,
    Workers,
    WorkerState,
    address_of,
    bind,
    bound,
    count,
)


@pytest.mark.parametrize(
    "place", [Place(0, 7, {}), Place(3, 12, {"listen": 8, "tls_listen": 9})], ids=["no sockets", "sockets"]
)
def test_a_worker_reads_what_its_parent_wrote(place: Place) -> None:
    """In one argument of the command line."""
    assert Place.parse(str(place)) == place


@pytest.mark.parametrize("text", ["2", "0"])
def test_a_number_of_workers_is_read(text: str) -> None:
    """0 is one per core."""
    assert count(text) == int(text)


@pytest.mark.parametrize("text", ["-1", "two", "", "1.5"])
def test_what_is_no_number_of_workers_is_refused(text: str) -> None:
    """And the message says what would be one."""
    with pytest.raises(argparse.ArgumentTypeError, match="write 2, or 0"):
        count(text)


def test_a_socket_that_is_only_bound_accepts_nobody() -> None:
    """Workers of one address begin to listen when they can answer; until then it refuses."""
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(each) for each in bind("ocsp", "listen", Endpoint("127.0.0.1", 0), count=2)
        )
        assert address_of(first) == address_of(second)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(first.getsockname())


def test_an_address_where_somebody_listens_is_not_shared() -> None:
    """Not even with a server that would share it with its own workers."""
    with ExitStack() as stack:
        (one, _) = (stack.enter_context(each) for each in bind("ocsp", "listen", Endpoint("127.0.0.1", 0), count=2))
        one.listen()
        with pytest.raises(CannotListenError, match=r"address already in use.*`repository\.listen`"):
            bind("repository", "listen", Endpoint(*one.getsockname()), count=2)


WORKER = """
import asyncio, signal, sys
from settings.workers import WORKER_OPTION, Place, answer_parent

place = Place.parse(sys.argv[sys.argv.index(WORKER_OPTION) + 1])
with open(sys.argv[1], "a") as starts:
    starts.write(f"{place.number}\\n")
if sys.argv[2] == "cannot":
    sys.exit(7)
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[2] == "stubborn" else signal.SIG_DFL)
asyncio.run(answer_parent(place.control, lambda: {"number": place.number}))
"""


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    """Where workers write that they were started."""
    return tmp_path / "starts"


def workers(starts: Path, kind: str, sockets: Sequence[Sockets] = ({}, {}, {})) -> Workers:
    """A parent of small workers."""
    return Workers((sys.executable, "-c", WORKER, str(starts), kind), sockets)


def stop() -> None:
    """As an operator does; to be called once the parent listens to that."""
    os.kill(os.getpid(), signal.SIGTERM)


async def test_what_keeps_one_worker_from_starting_is_said_once(starts: Path) -> None:
    """The first starts alone; its exit status is that of the program."""
    assert await workers(starts, "cannot").run(lambda: None) == 7
    assert await asyncio.to_thread(starts.read_text) == "0\n"


async def test_all_workers_are_asked_and_stopped(starts: Path) -> None:
    """Each tells its own state, and SIGTERM ends the program with success."""
    asked: list[asyncio.Task[dict[int, WorkerState]]] = []
    parent = workers(starts, "ordinary")

    def when_ready() -> None:
        asked.append(asyncio.ensure_future(parent.states()))
        asked[0].add_done_callback(lambda _: stop())

    assert await parent.run(when_ready) == 0
    assert asked[0].result() == {number: WorkerState(1, {"number": number}) for number in range(3)}


async def test_a_worker_that_does_not_stop_is_killed(starts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left behind, and nobody can connect any more."""
    monkeypatch.setattr(settings.workers, "STOP_TIMEOUT_S", 0.1)
    with bound("ocsp", {"listen": Endpoint("127.0.0.1", 0)}, 2) as sockets:
        one = sockets[0]["listen"]
        assert await workers(starts, "stubborn", sockets).run(stop) == 0
        assert one.fileno() == -1


async def test_a_worker_that_the_machine_has_no_room_for_is_started_later(
    starts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes nobody with it: the parent tries again."""
    parent = workers(starts, "ordinary", ({},))
    create = asyncio.create_subprocess_exec

    async def no_room(*_: object, **__: object) -> None:
        monkeypatch.setattr(asyncio, "create_subprocess_exec", last_start)
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    async def last_start(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await create(*arguments, **options)
        stop()
        return process

    def when_ready() -> None:
        monkeypatch.setattr(asyncio, "create_subprocess_exec", no_room)
        parent._workers[0].kill()

    assert await parent.run(when_ready) == 0
    assert (await parent.states())[0].starts == 2
