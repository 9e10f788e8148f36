"""Files that others read at any moment: whole, or not there."""

import os
from pathlib import Path


def write_whole(file: Path, octets: bytes) -> None:
    """Put `octets` in place of what was there, in one step; raises OSError."""
    unfinished = file.with_name(f".{file.name}.new")
    unfinished.write_bytes(octets)
    unfinished.replace(file)


def sync_names(directory: Path) -> None:
    """The names of files in it reach the disk; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
