"""The results file of a notice file: one JSON object for each line, in their order, written batch by batch.

Beside it lies, while it is not complete, a note of how far it is: a run that was killed goes on from there, if it gets
the same notices for the same task and CA, whichever of its keys signs. They are the same if their file has the same
size and time of modification. Nothing depends on it: a run that begins anew finds what was done in the database.
"""

import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from issuer.errors import NotNowError, RefusedError
from issuer.whole import write_whole

Work = Mapping[str, str | int]

NOTE_SUFFIX: Final = ".unfinished"
_STANDARD_STREAMS: Final = (1, 2)  # descriptors of standard output and standard error
_text: Final = json.JSONEncoder(ensure_ascii=False).encode


class Written(NamedTuple):
    """The outcome of a line as the file has it."""

    line: int
    result: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """What the file has: all lines up to `line`."""

    line: int = 0
    results: Mapping[str, int] = field(default_factory=dict)  # how many lines have which

    def after(self, outcomes: Sequence[Written]) -> "Done":
        """With these too."""
        results = Counter(self.results) + Counter(outcome.result for outcome in outcomes)
        return Done(outcomes[-1].line if outcomes else self.line, dict(results))


class Results:
    """The file, open at its end."""

    def __init__(self, stream: BinaryIO, note: Path, work: Work, done: Done) -> None:
        self.done = done
        self._stream = stream
        self._note = note
        self._work = work

    def add(self, outcomes: Sequence[Written]) -> None:
        """Write the outcomes of a batch."""
        self._stream.write(b"".join(outcome.octets for outcome in outcomes))
        self._stream.flush()
        self.done = self.done.after(outcomes)
        done = {"line": self.done.line, "results": self.done.results}
        note = {"work": self._work, "octets": self._stream.tell(), "done": done}
        write_whole(self._note, json.dumps(note).encode())


@contextmanager
def open_results(file: Path, notices: BinaryIO, task: str, ca_certificate: bytes) -> Iterator[Results]:
    """The results of these notices at this CA: those of an interrupted run, to go on with, else an empty file.

    Only its owner can read the file: certificates are personal data.

    Args:
        file: where they are.
        notices: open.
        task: what is done for them.
        ca_certificate: what the CA is known by; it stays the same when another of its keys takes over.

    Raises:
        RefusedError: the file is the notices themselves or a standard stream, or cannot be written or gone on with.
        NotNowError: another run writes it.
    """
    work = _work(notices, task, ca_certificate)
    note = file.with_name(file.name + NOTE_SUFFIX)
    with _opened(file) as stream:
        _take(stream, file, notices)
        done = _resumed(stream, note, work)
        yield Results(stream, note, work, done)
        note.unlink(missing_ok=True)


def written(line: int, notice_number: str | None, result: str, **more: str) -> Written:
    """An outcome for the file, with the members that every one has, and more."""
    members = {"line": line, "notice_number": notice_number, "result": result, **more}
    return Written(line, result, _text(members).encode() + b"\n")


def _opened(file: Path) -> BinaryIO:
    try:
        file.touch(mode=0o600)
        if not file.is_file():
            raise RefusedError(f"{file}: is no ordinary file; give another one with --results")
        return file.open("r+b")
    except OSError as e:
        reason = f"{file}: cannot be written ({e.strerror}); mend that, or give another file with --results"
        raise RefusedError(reason) from e


def _take(stream: BinaryIO, file: Path, notices: BinaryIO) -> None:
    """Be the only one that writes the file, as long as it is open."""
    status = os.fstat(stream.fileno())
    if notices.seekable() and os.path.samestat(status, os.fstat(notices.fileno())):
        raise RefusedError(f"{file}: are the notices themselves; give another file with --results")
    if _is_standard_stream(status):
        raise RefusedError(
            f"{file}: is where messages of this command go, which would stand among the results;"
            " give a file of their own with --results"
        )
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        raise NotNowError(f"{file}: another run writes it; wait for it, or give another file with --results") from e
    os.fchmod(stream.fileno(), 0o600)


def _is_standard_stream(status: os.stat_result) -> bool:
    """Whether it is the file that standard output or standard error was redirected to, as /dev/stdout may be."""
    for descriptor in _STANDARD_STREAMS:
        with suppress(OSError):  # closed
            if os.path.samestat(status, os.fstat(descriptor)):
                return True
    return False


def _work(notices: BinaryIO, task: str, ca_certificate: bytes) -> Work:
    """What is done here; a pipe's content is never the same again."""
    if not notices.seekable():
        return {}
    status = os.fstat(notices.fileno())
    ca = hashlib.sha256(ca_certificate).hexdigest()
    return {"task": task, "ca": ca, "notices_octets": status.st_size, "notices_modified_ns": status.st_mtime_ns}


def _resumed(stream: BinaryIO, note: Path, work: Work) -> Done:
    """How far the file is, positioned and cut off there."""
    done, octets = Done(), 0
    try:
        noted = json.loads(note.read_text())
        if work and noted["work"] == work and noted["octets"] <= stream.seek(0, os.SEEK_END):
            done, octets = Done(**noted["done"]), noted["octets"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no note, or none that can be read: from the beginning
    stream.seek(octets)
    stream.truncate()
    return done
