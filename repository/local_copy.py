"""The last publication on the local disk: what a server that starts while PostgreSQL is away can still serve.

Stored: a change of the form is a new magic line, and an old file is then as good as none. The file is the magic line,
the SHA-256 of the index, the index (one line of JSON), and the values one after the other. Each value has its own
SHA-256 in the index, which `snapshot.build` checks.

Who has which rights is not kept: they may have ended since, so binds have to wait for the database.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from repository.errors import CorruptPublicationError
from repository.snapshot import PublishedObject

_MAGIC: Final = b"prefca publication 2\n"


@dataclass(frozen=True, slots=True)
class Publication:
    """Everything in force at one moment, of all authorities."""

    ids: tuple[int, ...]
    next_update: datetime | None  # the first moment at which a list in it is out of date; None: there is none
    objects: Sequence[PublishedObject]


def write(path: Path, publication: Publication) -> None:
    """Put a publication in the place of the one before; a reader sees one of them whole, also after a crash.

    Raises:
        OSError: the disk is full, or the directory cannot be written.
    """
    index = json.dumps({
        "ids": publication.ids,
        "next_update": publication.next_update and publication.next_update.isoformat(),
        "objects": [
            (each.entry_dn, each.attribute, each.sha256.hex(), each.public, len(each.value), *_moments(each))
            for each in publication.objects
        ],
    }).encode()  # fmt: skip
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "wb", opener=_private) as file:
            file.writelines((_MAGIC, hashlib.sha256(index).hexdigest().encode(), b"\n", index, b"\n"))
            file.writelines(each.value for each in publication.objects)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path) -> Publication:
    """Read what `write` left.

    Raises:
        OSError: there is nothing, or it cannot be read.
        CorruptPublicationError: it is damaged, or of another form. Values are not looked at.
    """
    with path.open("rb") as file:
        if file.readline() != _MAGIC:
            raise CorruptPublicationError(f"{path} is not of this version of prefca")
        digest, index = file.readline().rstrip(b"\n"), file.readline().rstrip(b"\n")
        if hashlib.sha256(index).hexdigest().encode() != digest:
            raise CorruptPublicationError(f"{path}: the index differs from its sha256")
        kept = json.loads(index)
        objects = [
            PublishedObject(
                *(entry_dn, attribute, file.read(size), bytes.fromhex(sha256), public),
                *map(datetime.fromisoformat, moments),
            )
            for entry_dn, attribute, sha256, public, size, *moments in kept["objects"]
        ]
    next_update = kept["next_update"] and datetime.fromisoformat(kept["next_update"])
    return Publication(tuple(kept["ids"]), next_update, objects)


def _moments(published: PublishedObject) -> tuple[str, str]:
    return published.published_at.isoformat(), published.first_published_at.isoformat()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # it holds lists that not everybody may read
