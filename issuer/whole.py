"""Files that others read at any moment: whole, or not there."""

import os
from pathlib import Path


def write_whole(file: Path, octets: bytes, *, mode: int = 0o666) -> None:
    """Put `octets` in place of what was there, in one step, for whom `mode` and the umask allow; raises OSError."""
    unfinished = file.with_name(f".{file.name}.new")
    unfinished.unlink(missing_ok=True)  # of a process that was killed: its mode would stay
    unfinished.touch(mode)
    unfinished.write_bytes(octets)
    unfinished.replace(file)


def sync_names(directory: Path) -> None:
    """The names of files in it reach the disk; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
