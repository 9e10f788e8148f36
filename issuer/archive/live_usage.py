"""What servers of this machine write to their journals right now."""

from pathlib import Path
from typing import Final

from issuer.rules.usage import Amount, UsageCounter, Use
from journal.reading import TamperedError, lines_of, open_segment
from journal.record import records_in

SEGMENTS: Final = "**/*.jsonl"


class UsageFollower:
    """Counts what is added to segments, also to those that begin later. What was there before is left out."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._offsets = {file: file.stat().st_size for file in directory.glob(SEGMENTS)}

    def read(self) -> dict[Use, Amount]:
        """What was added since the last call.

        Raises:
            OSError: a segment cannot be read.
        """
        counter = UsageCounter()
        offsets = {}
        for file in self._directory.glob(SEGMENTS):
            try:
                offsets[file] = _count(file, self._offsets.get(file, 0), counter)
            except (FileNotFoundError, TamperedError):
                continue  # it was just collected, or is no file
        self._offsets = offsets
        return counter.totals()


def _count(file: Path, offset: int, counter: UsageCounter) -> int:
    """Count the whole lines behind an offset; where they end."""
    with open_segment(file) as segment:
        segment.seek(offset)
        for line in lines_of(segment):
            if not line.endswith(b"\n"):
                break
            for record in records_in(line):
                counter.add(record)
            offset += len(line)
    return offset
