"""Where a server appends its records: one segment file per process start.

Records gather in memory and reach the kernel with one write per batch, before the answers they tell of leave: killing
the process then loses nothing. Nothing is forced to disk record by record (the loss of a machine loses the last
seconds); chaining, sealing and collecting are the business of a process of its own, which follows these files.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import Self

from journal.record import Record


class Journal:
    """A segment that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._batch: list[bytes] = []
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @classmethod
    def open(cls, directory: Path, process: str, started: datetime) -> Self:
        """Open `directory`/<process>-<start>.jsonl, such as repository-20140401T000000Z.jsonl.

        Args:
            directory: made if it is not there.
            process: name of the process, unique among those that run at one time.
            started: aware UTC.

        Raises:
            OSError: the directory cannot be made or written.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(directory / f"{process}-{started:%Y%m%dT%H%M%SZ}.jsonl")

    def append(self, record: Record) -> None:
        """Add a record to the batch; it is safe only after `flush`."""
        self._batch.append(record.line())

    def append_line(self, line: bytes) -> None:
        """The same for a record that is a line already, joined from the fragments of `journal.record`."""
        self._batch.append(line)

    def flush(self) -> None:
        """Hand the batch to the kernel.

        Raises:
            OSError: the disk is full or gone. What was not written stays in the batch, so the caller withholds its
                answers and may flush again.
        """
        if not self._batch:
            return
        rest = b"".join(self._batch)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        finally:
            self._batch = [rest] if rest else []

    def close(self) -> None:
        """Flush and close."""
        try:
            self.flush()
        finally:
            os.close(self._file)
