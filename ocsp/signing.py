"""Where signatures are made.

A key in this process signs in the event loop, for some milliseconds at a time, and then lets the loop see to
connections: handing a signature over to a thread and back costs more than P-256 takes, and all cores have a worker
already. What waits is signed side by side where the machine can do that (`pkix.multi_buffer`). What is made at a time
is handed on together, so that many answers share a turn and what a processor remembers of either kind of work serves
all of them. A key in a token signs in threads, for whoever waits for a token does not compute.
"""

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple, TypeVar

from ocsp.errors import KeyUnavailableError
from ocsp.metrics import Metrics
from pkix.multi_buffer import LANES
from pkix.signing import Signer, SigningError, sign
from pkix.software import SoftwareSigner

AT_A_TIME_S: Final = 0.003
TOKEN_THREADS: Final = 4

_logger = logging.getLogger(__name__)

Outcome = bytes | Exception  # a signature, or why there is none


class _Job(NamedTuple):
    signer: SoftwareSigner
    to_be_signed: bytes
    done: Callable[[Outcome], None]
    begun: float


_Made = TypeVar("_Made")


class Signatures:
    """Signs for one event loop."""

    def __init__(self, metrics: Metrics, after_some: Callable[[], None]) -> None:
        """Prepare it; `after_some` is called before the event loop goes on."""
        self._loop = asyncio.get_running_loop()
        self._metrics = metrics
        self._after_some = after_some
        self._jobs: deque[_Job] = deque()
        self._in_token = 0
        self._is_failing = False
        self._threads = ThreadPoolExecutor(TOKEN_THREADS, thread_name_prefix="token")

    def __len__(self) -> int:
        """How many are not made yet."""
        return len(self._jobs) + self._in_token

    def sign(self, signer: Signer, to_be_signed: bytes, done: Callable[[Outcome], None]) -> None:
        """Let `done` have the signature over `to_be_signed`, or the reason why there is none."""
        begun = time.perf_counter()
        if not isinstance(signer, SoftwareSigner):
            self._in_token += 1
            signature = self._loop.run_in_executor(self._threads, sign, signer, to_be_signed)
            signature.add_done_callback(partial(self._signed_by_token, done, begun))
            return
        if not self._jobs:
            self._loop.call_soon(self._work)
        self._jobs.append(_Job(signer, to_be_signed, done, begun))

    def close(self) -> None:
        """Wait for the token."""
        self._threads.shutdown()

    def _work(self) -> None:
        made: list[tuple[_Job, Outcome]] = []
        until = time.perf_counter() + AT_A_TIME_S
        now = 0.0
        while self._jobs and now < until:
            jobs = self._take()
            made.extend(zip(jobs, self._signed_here(jobs), strict=True))
            now = time.perf_counter()
            for job in jobs:
                self._metrics.signature(now - job.begun)
        if self._jobs:
            self._loop.call_soon(self._work)
        for job, outcome in made:
            job.done(outcome)
        self._after_some()

    def _take(self) -> list[_Job]:
        """The next ones of one signer, as many as can be signed side by side."""
        signer = self._jobs[0].signer
        jobs: list[_Job] = []
        while self._jobs and self._jobs[0].signer is signer and len(jobs) < LANES:
            jobs.append(self._jobs.popleft())
        return jobs

    def _signed_here(self, jobs: Sequence[_Job]) -> Sequence[Outcome]:
        digests = [hashlib.sha256(job.to_be_signed).digest() for job in jobs]
        made = self._made(partial(jobs[0].signer.sign_digests, digests))
        return [made] * len(jobs) if isinstance(made, Exception) else made

    def _signed_by_token(
        self, done: Callable[[Outcome], None], begun: float, signature: "asyncio.Future[bytes]"
    ) -> None:
        self._in_token -= 1
        self._metrics.signature(time.perf_counter() - begun)
        done(self._made(signature.result))

    def _made(self, make: Callable[[], _Made]) -> _Made | Exception:
        """What a key makes, or why it does not."""
        try:
            made = make()
        except SigningError as e:
            if not self._is_failing:  # told once, not for each question
                _logger.warning("key_unavailable", extra={"reason": str(e)})
            self._is_failing = True
            return KeyUnavailableError(str(e))
        except Exception as e:  # noqa: BLE001 - whoever waits for it must hear of it
            return e
        if self._is_failing:
            _logger.warning("key_available")
            self._is_failing = False
        return made
