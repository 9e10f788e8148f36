"""A backup becomes an installation again, on another machine (R-4-14-1, R-4-14-3).

    files checked -> instance -> database (one transaction) -> numbers jumped over (another one) -> done

Killed at any point, the same command goes on. Whatever was done after the backup is lost here, but not elsewhere: lists
were published and answers given under numbers that nobody here knows. So all numbers jump, further than anything can
have counted; operations that persons agreed to are withdrawn; and what exported lists tell of revocations can be
entered again (`issuer.lists.list_entry`).
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from issuer.errors import RefusedError
from issuer.installation import connected, database, origin
from issuer.postgres.dump import load as load_dump
from issuer.records.instance_store import InstanceStore
from issuer.records.store import Store
from issuer.recovery.backup_tree import check_files, copy, read_manifest
from issuer.recovery.instance_backup import ARCHIVE, DUMP, INSTANCE, SECRETS
from issuer.rules.request import parse
from issuer.whole import write_whole
from pkix.validity import whole_second
from settings.load import Settings, load

GAP: Final = 1_000_000  # lists every minute for nearly two years
MARKER: Final = "restore.unfinished"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored."""

    settings: Settings
    manifest: Mapping[str, Any]
    files: int


async def restore(backup: Path, secrets: Path | None, instance: Path, now: datetime) -> Restored:
    """Restore a backup into an instance that is not there yet, and a database that is empty.

    Raises:
        RefusedError: the backup is damaged, or something is there already.
        NotNowError: PostgreSQL is away, or pg_restore failed.
        OSError: a file cannot be read or written.
    """
    manifest = read_manifest(backup)
    _check(backup, manifest, secrets)
    progress = _begin(instance, backup.name)
    settings = _put_files(backup, manifest, secrets, instance)
    async with database(settings):
        if progress != "loading":
            async with connected(settings, "owner") as connection:
                store = InstanceStore(connection)
                if store.server_major < manifest["server_major"]:
                    raise RefusedError(
                        f"the backup is of PostgreSQL {manifest['server_major']}, and this is {store.server_major};"
                        " restore into that version or a later one"
                    )
                if not await store.is_empty():
                    raise RefusedError("the database is not empty; a backup is restored into an empty one only")
                await store.make_roles(list(manifest["roles"]))
                _note(instance, backup.name, "loading")
        async with connected(settings, "owner") as connection:
            store = InstanceStore(connection)
            if await store.is_empty():
                await load_dump(settings, backup / DUMP, store.server_major)
            if not await store.was_restored_from(backup.name):
                await _require_content(store, manifest)
                await _jump(store, Store(connection, origin()), backup.name, now)
    (instance / MARKER).unlink()
    return Restored(settings, manifest, len(manifest["files"]) + len(manifest["archive"]))


def _check(backup: Path, manifest: Mapping[str, Any], secrets: Path | None) -> None:
    findings = check_files(backup, manifest["files"]) + check_files(backup.parent / ARCHIVE, manifest["archive"])
    if secrets is not None:
        findings += check_files(secrets, read_manifest(secrets)["secrets"])
    if findings:
        more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
        raise RefusedError(f"the backup is damaged: {findings[0]}{more}; take another one")


def _begin(instance: Path, name: str) -> str:
    """How far a restoration of this backup was, in an instance that has nothing else."""
    marker = instance / MARKER
    if marker.exists():
        begun = json.loads(marker.read_bytes())
        if begun["backup"] != name:
            raise RefusedError(f"{instance} is half restored from {begun['backup']}; go on with that, or delete it")
        return str(begun["progress"])
    if instance.exists() and any(instance.iterdir()):
        raise RefusedError(f"{instance} is not empty; a backup is restored into a directory that is not there yet")
    instance.mkdir(mode=0o755, parents=True, exist_ok=True)
    _note(instance, name, "files")
    return "files"


def _note(instance: Path, name: str, progress: str) -> None:
    write_whole(instance / MARKER, json.dumps({"backup": name, "progress": progress}).encode())


def _put_files(backup: Path, manifest: Mapping[str, Any], secrets: Path | None, instance: Path) -> Settings:
    of_instance = [name.removeprefix(f"{INSTANCE}/") for name in manifest["files"] if name != DUMP]
    for name in of_instance:
        copy(backup / INSTANCE / name, instance / name)
    if secrets is not None:
        for name in read_manifest(secrets)["secrets"]:
            copy(secrets / name, instance / SECRETS / name)
    os.sync()
    settings = load(instance)
    for name in manifest["archive"]:
        copy(backup.parent / ARCHIVE / name, settings.path(settings.journal.archive) / name)
    return settings


async def _require_content(store: InstanceStore, manifest: Mapping[str, Any]) -> None:
    """The database has what was loaded: a run that goes on may have been led to another one, perhaps in use."""
    newest = await store.newest_record()
    if (newest and newest.record_id) != (manifest["newest_record"] and manifest["newest_record"]["number"]):
        raise RefusedError(
            "the database is not the one that this restoration began with; set PREFCA_DATABASE__DSN as before"
        )


async def _jump(store: InstanceStore, operations: Store, backup: str, now: datetime) -> None:
    async with operations.transaction():
        await store.jump(GAP)
        # They may have been done after the backup: nobody here knows, and the signatures would still do.
        reason, moment = f"restored from {backup}: see whether it was done, and ask for it anew", whole_second(now)
        for number, content in await store.withdraw_operations(reason, origin(), moment):
            await operations.record("operation_withdrawn", moment, _named(number, content), {"reason": reason})
        await operations.record("restored", now, backup, {"numbers_left_out": GAP})


def _named(number: int, content: bytes) -> str:
    try:
        return f"{number} {parse(content).kind}"
    except RefusedError:  # somebody changed it; that is no reason to have no installation
        return str(number)
