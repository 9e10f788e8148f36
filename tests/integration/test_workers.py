"""What a worker is told of itself, and which addresses a server can have."""

import argparse
import socket
from contextlib import ExitStack

import pytest

from settings.sections import Endpoint
from settings.workers import CannotListenError, Place, address_of, bind, count


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
