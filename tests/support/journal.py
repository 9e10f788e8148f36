"""What servers have written down."""

import json
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
