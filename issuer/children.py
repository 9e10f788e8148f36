"""Processes of ours that end with us, however we end."""

import asyncio
import contextlib
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any, Final

STOP_TIMEOUT_S: Final = 15

log = logging.getLogger("prefca.children")


async def start(module: str, *arguments: str, **streams: Any) -> Process:  # noqa: ANN401 - passed on as they are
    """Run a module of ours as a process; the kernel stops it with SIGTERM when this process is gone.

    With -P, because -m alone looks for modules in the current directory first, which is anybody's.
    """
    command = (sys.executable, "-P", "-m", "issuer.child", str(os.getpid()), module, *arguments)
    return await asyncio.create_subprocess_exec(*command, **streams)


class FailedError(Exception):
    """A command failed; the message is what it said last."""

    def __init__(self, reason: str, status: int | None, said: bytes = b"") -> None:
        super().__init__(reason)
        self.status = status  # None: it did not end in time
        self.said = said  # on standard output


async def command(*arguments: str, timeout_s: float) -> dict[str, Any]:
    """Run `prefca` with these arguments, which ask for JSON; what it says.

    Raises:
        FailedError: it failed, or did not end.
    """
    process = await start("issuer", *arguments, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(timeout_s):
            said, complained = await process.communicate()
    except TimeoutError as e:
        reason = f"it did not end within {timeout_s:.0f} s and was stopped; see whether token or database hang"
        raise FailedError(reason, None) from e
    finally:
        await stop(process)
    if process.returncode != 0:
        last_line = complained.decode(errors="replace").rstrip().rpartition("\n")[2]
        reason = last_line.removeprefix("prefca: ") or f"it ended with status {process.returncode}"
        raise FailedError(reason, process.returncode, said)
    result: dict[str, Any] = json.loads(said)
    return result


async def stop(process: Process) -> None:
    """Ask it to finish what it accepted; after a while, do not ask any more."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            log.warning("process_killed", extra={"pid": process.pid})
            process.kill()
            await process.wait()
