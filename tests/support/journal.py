"""What servers have written down."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from journal.reading import SegmentReader


def records(instance: Path, stream: str = "*") -> list[dict[str, Any]]:
    """The records of the segments that are not collected yet, without those of starts and stops, after all checks."""
    found = []
    for file in sorted((instance / "journal").glob(f"{stream}-????????.jsonl")):
        reader = SegmentReader()
        with file.open("rb") as lines:
            found += [json.loads(record) for line in lines for record in reader.feed(line)]
    return [record for record in found if not record["kind"].endswith(("_started", "_stopped"))]


@contextmanager
def full_disk(octets: int, process: int = 0) -> Iterator[None]:
    """No file of a process, by its id, may grow beyond so many octets; 0 is this one."""
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(process, resource.RLIMIT_FSIZE, before)
