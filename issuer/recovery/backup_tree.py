"""Files of a backup: copied and hashed in one reading, durable before they are named.

A manifest is JSON: what the backup is of, and the SHA-256 of every file.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from issuer.errors import RefusedError
from issuer.whole import sync_names

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
_BLOCK_OCTETS: Final = 1 << 20
_COMPARED: Final = {"sha256", "size", "mode"}

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Copied:
    """A file as it is in the backup."""

    sha256: str
    size: int  # octets
    mode: int  # permissions


def copy(source: Path, target: Path) -> Copied:
    """Copy a file, durably; what is said of it is of the octets that were copied.

    Raises:
        OSError: it cannot be read or written.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as octets, _private(target) as output:
        while block := octets.read(_BLOCK_OCTETS):
            digest.update(block)
            size += len(block)
            output.write(block)
        output.flush()
        os.fsync(output.fileno())
        mode = stat.S_IMODE(os.fstat(octets.fileno()).st_mode)
    target.chmod(mode)
    return Copied(digest.hexdigest(), size, mode)


def copy_tree(source: Path, target: Path, names: Iterable[Path]) -> dict[str, Copied]:
    """Copy files by their names below `source`; one that is gone meanwhile is left out.

    Raises:
        OSError: one cannot be read or written.
    """
    copied = {}
    for name in names:
        try:
            copied[str(name)] = copy(source / name, target / name)
        except FileNotFoundError:  # as a segment that was just collected
            (target / name).unlink(missing_ok=True)
    return copied


def files_below(root: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """The names of ordinary files, as they are below `root`; links are not followed."""
    return sorted(path.relative_to(root) for path in _walk(root, root, wanted))


def _walk(root: Path, directory: Path, wanted: Callable[[Path], bool]) -> Iterator[Path]:
    for path in directory.iterdir():
        if not wanted(path.relative_to(root)):
            continue
        kind = path.lstat().st_mode
        if stat.S_ISDIR(kind):
            yield from _walk(root, path, wanted)
        elif stat.S_ISREG(kind):
            yield path


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, hexadecimal; raises OSError."""
    with file.open("rb") as octets:
        return hashlib.file_digest(octets, "sha256").hexdigest()


def write_manifest(directory: Path, facts: Facts) -> str:
    """Write the manifest; its SHA-256, hexadecimal."""
    octets = json.dumps({"format": FORMAT, **facts}, ensure_ascii=False, indent=1).encode() + b"\n"
    with _private(directory / MANIFEST) as output:
        output.write(octets)
        output.flush()
        os.fsync(output.fileno())
    sync_names(directory)
    return hashlib.sha256(octets).hexdigest()


def read_manifest(directory: Path) -> Facts:
    """The manifest of a backup.

    Raises:
        RefusedError: there is none, or it is of another form.
    """
    try:
        facts = json.loads((directory / MANIFEST).read_bytes())
    except OSError as e:
        raise RefusedError(f"{directory} is no backup ({e.strerror}); give the directory that has {MANIFEST}") from e
    except ValueError as e:
        raise RefusedError(f"{directory / MANIFEST} is damaged: {e}; take another backup") from e
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise RefusedError(f"{directory / MANIFEST} is of another form; use the prefca that made it")
    return facts


def check_files(directory: Path, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong with the files of a backup."""
    return [finding for name, said in files.items() if (finding := _wrong_with(directory, name, said)) is not None]


def _wrong_with(directory: Path, name: str, said: Mapping[str, Any]) -> str | None:
    if Path(name).is_absolute() or ".." in Path(name).parts or said.keys() != _COMPARED:
        return f"{name}: the manifest says what none of ours says"
    try:
        return None if sha256_of(directory / name) == said["sha256"] else f"{name}: its SHA-256 is another one"
    except OSError as e:
        return f"{name}: {e.strerror}"


def _private(file: Path) -> BinaryIO:
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
