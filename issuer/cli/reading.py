"""Files that people name, read up to a limit."""

from pathlib import Path

import click

from issuer.errors import RefusedError

file_argument = click.Path(exists=True, dir_okay=False, path_type=Path)


def read(file: Path, max_octets: int) -> bytes:
    """Its octets.

    Raises:
        RefusedError: there are too many.
    """
    with file.open("rb") as stream:
        octets = stream.read(max_octets + 1)
    if len(octets) > max_octets:
        raise RefusedError(f"{file} has more than {max_octets:,} octets; it is not what is asked for")
    return octets
