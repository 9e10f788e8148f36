"""Where signatures are made.

A key in this process signs in the event loop, for a millisecond at a time, and then lets the loop see to connections:
handing a signature over to a thread and back costs more than P-256 takes, and all cores have a worker already. A key in
a token signs in threads, for whoever waits for a token does not compute.
"""

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from ocsp.metrics import Metrics
from pkix.signing import Signer, sign
from pkix.software import SoftwareSigner

AT_A_TIME_S: Final = 0.001
TOKEN_THREADS: Final = 4


class _Job(NamedTuple):
    signer: Signer
    to_be_signed: bytes
    signature: "asyncio.Future[bytes]"
    begun: float


class Signatures:
    """Signs for one event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._loop = asyncio.get_running_loop()
        self._metrics = metrics
        self._jobs: deque[_Job] = deque()
        self._threads = ThreadPoolExecutor(TOKEN_THREADS, thread_name_prefix="token")

    def sign(self, signer: Signer, to_be_signed: bytes) -> "asyncio.Future[bytes]":
        """The signature over `to_be_signed`; SigningError if the key cannot be used now."""
        begun = time.perf_counter()
        if not isinstance(signer, SoftwareSigner):
            signature = self._loop.run_in_executor(self._threads, sign, signer, to_be_signed)
            signature.add_done_callback(lambda _: self._metrics.signature(time.perf_counter() - begun))
            return signature
        if not self._jobs:
            self._loop.call_soon(self._work)
        job = _Job(signer, to_be_signed, self._loop.create_future(), begun)
        self._jobs.append(job)
        return job.signature

    def close(self) -> None:
        """Wait for the token."""
        self._threads.shutdown()

    def _work(self) -> None:
        until = time.perf_counter() + AT_A_TIME_S
        now = 0.0
        while self._jobs and now < until:
            job = self._jobs.popleft()
            if not job.signature.cancelled():
                job.signature.set_result(sign(job.signer, job.to_be_signed))
            now = time.perf_counter()
            self._metrics.signature(now - job.begun)
        if self._jobs:
            self._loop.call_soon(self._work)
