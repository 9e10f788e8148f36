"""Files that others read at any moment: whole, or not there."""

from pathlib import Path


def write_whole(file: Path, octets: bytes) -> None:
    """Put `octets` in place of what was there, in one step; raises OSError."""
    unfinished = file.with_name(f".{file.name}.new")
    unfinished.write_bytes(octets)
    unfinished.replace(file)
