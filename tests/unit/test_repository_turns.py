"""The end of a turn: what is recorded leaves."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

from repository.turns import Turns


class Sender:
    """Tells what became of it."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.became: list[str] = []

    def flush(self) -> None:
        """Send, or fail."""
        if self.fails:
            raise ValueError("a bug")
        self.became.append("flushed")

    def abort(self) -> None:
        """Close."""
        self.became.append("aborted")


def test_a_connection_that_fails_costs_no_other_its_answer() -> None:
    """It is closed; those that asked before and after it are served."""
    journal = cast("Any", SimpleNamespace(flush=lambda: None))
    turns = Turns(cast("asyncio.AbstractEventLoop", None), journal, time.time)
    senders = [Sender(), Sender(fails=True), Sender()]
    turns.begin()
    for sender in senders:
        turns.flush_soon(sender)
    turns.end()
    assert [sender.became for sender in senders] == [["flushed"], ["aborted"], ["flushed"]]
