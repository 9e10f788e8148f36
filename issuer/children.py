"""Processes of ours that end with us, however we end."""

import asyncio
import contextlib
import ctypes
import logging
import signal
import sys
from asyncio.subprocess import Process
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
STOP_TIMEOUT_S: Final = 15

log = logging.getLogger("prefca.children")


async def start(module: str, *arguments: str, **streams: Any) -> Process:  # noqa: ANN401 - passed on as they are
    """Run a module of ours as a process; the kernel stops it with SIGTERM when this process is gone."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments), preexec_fn=_die_with_parent, **streams
    )


async def stop(process: Process) -> None:
    """Ask it to finish what it accepted; after a while, do not ask any more."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            log.warning("process_killed", extra={"pid": process.pid})
            process.kill()
            await process.wait()


def _die_with_parent() -> None:
    """In the child, before it becomes the program: SIGTERM when this process is gone, however it went."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
