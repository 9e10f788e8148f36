"""Threads that sign: the event loop goes on meanwhile, for keys release the interpreter's lock while they work.

A thread takes what has gathered and hands several signatures back at once: waking the loop costs as much as a P-256
signature.
"""

import asyncio
import time
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple

from ocsp.metrics import Metrics
from pkix.signing import Signer, sign

AT_ONCE = 8


class _Job(NamedTuple):
    signer: Signer
    to_be_signed: bytes
    begun: float
    signature: "asyncio.Future[bytes]"


class _Done(NamedTuple):
    job: _Job
    outcome: bytes | Exception


class SigningThreads:
    """Signs in threads of its own, for one event loop."""

    def __init__(self, number: int, metrics: Metrics) -> None:
        self._loop = asyncio.get_running_loop()
        self._metrics = metrics
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [Thread(target=self._run, name="signing", daemon=True) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def sign(self, signer: Signer, to_be_signed: bytes) -> "asyncio.Future[bytes]":
        """The signature over `to_be_signed`; SigningError if the key cannot be used now."""
        job = _Job(signer, to_be_signed, time.perf_counter(), self._loop.create_future())
        self._jobs.put(job)
        return job.signature

    def close(self) -> None:
        """Let the threads end after what they have begun."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            done = [_signed(job)]
            try:
                while len(done) < AT_ONCE and (job := self._jobs.get_nowait()) is not None:
                    done.append(_signed(job))
            except Empty:
                pass
            self._loop.call_soon_threadsafe(self._deliver, done)
            if job is None:
                return

    def _deliver(self, done: list[_Done]) -> None:
        now = time.perf_counter()
        for job, outcome in done:
            self._metrics.signature(now - job.begun)
            if job.signature.cancelled():
                continue
            if isinstance(outcome, Exception):
                job.signature.set_exception(outcome)
            else:
                job.signature.set_result(outcome)


def _signed(job: _Job) -> _Done:
    try:
        return _Done(job, sign(job.signer, job.to_be_signed))
    except Exception as e:  # noqa: BLE001 - whatever it is, whoever waits for the signature gets it
        return _Done(job, e)
