"""A backup of a whole installation (R-4-14-1, R-4-14-3): database, configuration, keys in files, journals, archive.

    DIRECTORY/<moment>/manifest.json   what it is of, and the SHA-256 of every file; written last
    DIRECTORY/<moment>/database.dump   of pg_dump, one snapshot
    DIRECTORY/<moment>/instance/…      files of the instance
    DIRECTORY/archive/…                collected segments of the journals: they never change, and are copied once

The order keeps the parts of one another: the notes of journals before their segments, so that no note tells of more
than there is; both before the snapshot, so that no act in a segment is missing in the database; and of the archive what
the snapshot tells of. Secrets go to a directory of their own, or are left out. A token is backed up by its own means.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from issuer.errors import NotNowError, RefusedError
from issuer.installation import connected, database, origin, require_database
from issuer.postgres.dump import dump
from issuer.records.instance_store import InstanceStore
from issuer.records.migrate import is_current
from issuer.records.store import Store
from issuer.recovery.backup_tree import MANIFEST, Copied, copy, copy_tree, files_below, sha256_of, write_manifest
from issuer.whole import sync_names
from settings.load import Settings

DUMP: Final = "database.dump"
INSTANCE: Final = "instance"
ARCHIVE: Final = "archive"
SECRETS: Final = Path("secrets")
# The database is dumped, the archive copied once for all backups, and the directory makes its own copy anew.
_LEFT_OUT: Final = frozenset({Path("database"), Path("repository"), SECRETS})
_UNFINISHED: Final = ".unfinished"


@dataclass(frozen=True, slots=True)
class BackUp:
    """A backup that was made."""

    directory: Path
    secrets: Path | None
    manifest_sha256: str
    files: int
    octets: int
    outside: tuple[str, ...]  # paths of the configuration that are in no backup


async def back_up(settings: Settings, directory: Path, secrets: Path | None, now: datetime) -> BackUp:
    """Make one.

    Args:
        settings: of the installation.
        directory: that holds backups; it is made if it is not there.
        secrets: that holds the backups of secrets; None: they are left out.
        now: names it.

    Raises:
        RefusedError: nothing is set up here, or a directory lies inside the instance.
        NotNowError: PostgreSQL is away, another backup goes there, or pg_dump failed.
        OSError: a file cannot be read or written.
    """
    require_database(settings)
    for one in (directory, *([secrets] if secrets else [])):
        if settings.instance in (one.resolve(), *one.resolve().parents):
            raise RefusedError(f"{one} lies inside the instance; a backup belongs elsewhere, best on another machine")
    name = f"{now:%Y%m%dT%H%M%SZ}"
    async with database(settings), connected(settings, "owner") as connection:
        if not await is_current(connection):
            raise RefusedError("the database has no schema of this version; run `prefca init`")
        with _alone(directory), _unfinished(directory, name) as place:
            facts, files = await _copy_all(settings, InstanceStore(connection), place, directory)
            outside = _outside(settings)
            manifest = {"made_at": f"{now:%Y-%m-%dT%H:%M:%SZ}", "host": socket.gethostname(), **facts}
            manifest |= {"outside": outside, **{kind: _said(copied) for kind, copied in files.items()}}
            digest = write_manifest(place, manifest)
        kept = await asyncio.to_thread(_copy_secrets, settings, secrets, name) if secrets else None
        detail = {"manifest_sha256": digest, "host": socket.gethostname()}
        await Store(connection, origin()).record("backed_up", now, name, detail)
    copied = [one for group in files.values() for one in group.values()]
    return BackUp(directory / name, kept, digest, len(copied), sum(one.size for one in copied), tuple(outside))


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """No other backup goes there meanwhile: they share the archive, and tidy up after those that were killed.

    Raises:
        NotNowError: one does.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise NotNowError(f"another backup goes to {directory}; wait for it to end") from e
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _unfinished(directory: Path, name: str) -> Iterator[Path]:
    """A directory that has its name only when it is complete; whoever makes one is `_alone` in `directory`.

    So what others left there that were killed is nobody's, and is removed.
    """
    for left in directory.glob(f"[0-9]*T[0-9]*Z{_UNFINISHED}"):
        shutil.rmtree(left)
    place = directory / f"{name}{_UNFINISHED}"
    if (directory / name).exists():
        raise NotNowError(f"{directory / name} is there already; run it again")
    place.mkdir(mode=0o700)
    try:
        yield place
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    place.rename(directory / name)
    sync_names(directory)


async def _copy_all(
    settings: Settings, store: InstanceStore, place: Path, directory: Path
) -> tuple[dict[str, object], dict[str, dict[str, Copied]]]:
    files = await asyncio.to_thread(_copy_instance, settings, place / INSTANCE)
    async with store.exported_snapshot() as snapshot:
        newest = await store.newest_record()
        facts = {
            "server_major": store.server_major,
            "migrations": await store.migrations(),
            "roles": await store.roles(),
            "authorities": [
                one | {"this_update": f"{one['this_update']:%Y-%m-%dT%H:%M:%SZ}"} for one in await store.publications()
            ],
            "newest_record": newest
            and {
                "number": newest.record_id,
                "at": f"{newest.at:%Y-%m-%dT%H:%M:%SZ}",
                "kind": newest.kind,
                "object": newest.object,
            },
            "signers": [
                one.signer.model_dump(mode="json", include={"kind", "module", "token"}) for one in settings.each()
            ],
        }
        archived = await store.archived_files()
        await dump(settings, place / DUMP, snapshot, store.server_major)
    (place / DUMP).chmod(0o600)
    dumped = Copied(sha256_of(place / DUMP), (place / DUMP).stat().st_size, 0o600)
    archive = await asyncio.to_thread(
        _copy_archive, settings.path(settings.journal.archive), directory / ARCHIVE, archived
    )
    of_place = {f"{INSTANCE}/{name}": one for name, one in files.items()} | {DUMP: dumped}
    return facts, {"files": of_place, "archive": archive}


def _copy_instance(settings: Settings, place: Path) -> dict[str, Copied]:
    """Everything but what is left out; keys first, for the notes of journals lie among them."""
    left_out = _LEFT_OUT | {_below(settings, path) for path in (settings.journal.archive, *_secret_files(settings))}
    names = files_below(settings.instance, lambda name: name not in left_out)
    keys = [name for name in names if name.is_relative_to("keys")]
    return copy_tree(settings.instance, place, [*keys, *(name for name in names if not name.is_relative_to("keys"))])


def _copy_archive(archive: Path, target: Path, names: list[str]) -> dict[str, Copied]:
    """What is not there yet; the digest of the others is taken anew, so that the manifest says what is there."""
    copied = {}
    for name in names:
        kept = target / name
        if not kept.exists():
            partial = kept.with_name(f"{kept.name}.partial")
            copy(archive / name, partial)
            partial.rename(kept)
        copied[name] = Copied(sha256_of(kept), kept.stat().st_size, 0o600)
    return copied


def _copy_secrets(settings: Settings, directory: Path, name: str) -> Path:
    source = settings.path(SECRETS)
    with _alone(directory), _unfinished(directory, name) as place:
        names = files_below(source, lambda _: True) if source.exists() else []
        write_manifest(place, {"secrets": _said(copy_tree(source, place, names))})
    return directory / name


def _said(files: Mapping[str, Copied]) -> dict[str, dict[str, object]]:
    return {name: asdict(copied) for name, copied in files.items()}


def _below(settings: Settings, path: Path) -> Path | None:
    """A path of the configuration, as it is below the instance; None: it lies elsewhere."""
    resolved = settings.path(path)
    return resolved.relative_to(settings.instance) if resolved.is_relative_to(settings.instance) else None


def _secret_files(settings: Settings) -> list[Path]:
    """Passphrases and PINs, wherever they lie."""
    named = [
        *(settings.ocsp.passphrase_file, settings.ocsp.pkcs11_pin_file),
        *(one.signer.passphrase_file for one in settings.each()),
        *(one.signer.pin_file for one in settings.each()),
        *(one.signer.activation_file for one in settings.each()),
    ]
    return [path for path in named if path is not None]


def _outside(settings: Settings) -> list[str]:
    """Paths of the configuration that are in no backup: outside the instance, or secrets apart from the others."""
    ocsp, repository, journal = settings.ocsp, settings.repository, settings.journal
    named = [
        *(ocsp.tls_certificate, ocsp.tls_key, ocsp.key_directory, ocsp.client_ca),
        *(repository.tls_certificate, repository.tls_key, journal.directory, journal.key_directory),
    ]
    paths = {path for path in named if path is not None and _below(settings, path) is None}
    paths |= {
        path for path in _secret_files(settings) if not settings.path(path).is_relative_to(settings.path(SECRETS))
    }
    paths -= {one.signer.activation_file for one in settings.each()}  # it comes and goes
    return sorted(str(settings.path(path)) for path in paths)


def secrets_of(backup: Path, directory: Path) -> Path:
    """The secrets that were backed up together with a backup, which they open; else the newest ones.

    Raises:
        RefusedError: there are none.
    """
    together = directory / backup.resolve().name
    return together if (together / MANIFEST).exists() else newest(directory)


def newest(directory: Path) -> Path:
    """The newest backup of a directory that holds backups; a backup itself is that.

    Raises:
        RefusedError: there is none.
    """
    if (directory / MANIFEST).exists():
        return directory
    found = sorted(one.parent for one in directory.glob(f"*/{MANIFEST}") if not one.parent.name.endswith(_UNFINISHED))
    if not found:
        raise RefusedError(f"{directory} has no backup; `prefca backup` makes one")
    return found[-1]
