"""An installation that is set up and open: database, authority, keys. Every command works on one."""

import contextlib
import os
import pwd
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

import asyncpg
from cryptography import x509

from issuer.errors import NotNowError, RefusedError
from issuer.key_proof import require_own
from issuer.keys import CAKeys, open_keys, secret_of
from issuer.postgres import embedded
from issuer.profiles.authority import Authority
from issuer.profiles.municipality import PREFECTURES
from issuer.profiles.profile import Issuer
from issuer.records.activation_store import ActivationStore
from issuer.records.audit_store import AuditStore
from issuer.records.backup_store import BackupStore
from issuer.records.cross_store import CrossStore
from issuer.records.generation_store import GenerationStore
from issuer.records.journal_store import JournalStore
from issuer.records.list_store import ListStore
from issuer.records.media_store import MediaStore
from issuer.records.migrate import is_current
from issuer.records.operation_store import OperationStore
from issuer.records.party_store import PartyStore
from issuer.records.recovery_store import RecoveryStore
from issuer.records.rows import Generation
from issuer.records.store import Store
from pkix.signing import Signer
from settings.database import FAILURES, Role, connect_arguments
from settings.load import Settings

CONNECT_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Records:
    """The database that all CAs of an installation share."""

    store: Store
    parties: PartyStore
    lists: ListStore
    generations: GenerationStore
    operations: OperationStore
    activations: ActivationStore
    cross: CrossStore
    recovery: RecoveryStore
    media: MediaStore
    journals: JournalStore
    backups: BackupStore
    audits: AuditStore


@dataclass(frozen=True, slots=True)
class Installation(Records):
    """One CA with what commands need to act for it."""

    settings: Settings
    authority: Authority
    authority_id: int


@dataclass(frozen=True, slots=True)
class ActiveKey:
    """A generation that signs now, with its key."""

    generation: Generation
    issuer: Issuer
    signer: Signer
    retired: tuple["ActiveKey", ...] = ()  # those before it that sign each list, too


@contextlib.asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[None]:
    """The configured PostgreSQL; the embedded one is started or joined, and stopped by its last user."""
    if settings.database.dsn is not None:
        yield
        return
    async with embedded.postgres(settings.instance):
        yield


def require_database(settings: Settings) -> None:
    """Only `prefca init` makes a database: whoever mistypes the instance gets no empty one.

    Raises:
        RefusedError: there is none.
    """
    if settings.database.dsn is None and not (settings.instance / "database" / "data").exists():
        raise RefusedError(f"nothing is set up in {settings.instance}; run `prefca init`, or correct --instance")


@contextlib.asynccontextmanager
async def connected(
    settings: Settings, role: Role | Literal["owner"] = "prefca_issuer"
) -> AsyncIterator[asyncpg.Connection]:
    """A connection as `role`.

    Raises:
        NotNowError: PostgreSQL does not let us in.
    """
    try:
        connection = await asyncpg.connect(**connect_arguments(settings, role), timeout=CONNECT_TIMEOUT_S)
    except asyncpg.InvalidAuthorizationSpecificationError as e:
        raise NotNowError(f"PostgreSQL refuses us ({e}); run `prefca init` first, or correct `database.dsn`") from e
    except (ValueError, *FAILURES) as e:
        raise NotNowError(f"PostgreSQL cannot be reached ({e}); start it, or correct `database.dsn`") from e
    try:
        yield connection
    except (
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,  # shut down by its operator
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,  # it ended while a query was being sent
        ConnectionError,
    ) as e:
        raise NotNowError(f"PostgreSQL went away ({e}); what was not reported as done is not done: run it again") from e
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


@contextlib.asynccontextmanager
async def records(settings: Settings) -> AsyncIterator[Records]:
    """The shared records, ready to work on.

    Raises:
        NotNowError: PostgreSQL is away.
        RefusedError: nothing is set up here yet, or the schema is of another version.
    """
    require_database(settings)
    async with database(settings), connected(settings) as connection:
        if not await is_current(connection):
            raise RefusedError("the database has no schema of this version; run `prefca init`")
        yield Records(
            Store(connection, origin()),
            PartyStore(connection),
            ListStore(connection),
            GenerationStore(connection),
            OperationStore(connection),
            ActivationStore(connection),
            CrossStore(connection),
            RecoveryStore(connection),
            MediaStore(connection),
            JournalStore(connection),
            BackupStore(connection),
            AuditStore(connection),
        )


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Installation]:
    """The CA of these settings, ready to act for.

    Raises:
        ConfigurationError: the settings are those of several CAs.
        NotNowError: PostgreSQL is away.
        RefusedError: the CA is not set up here yet, or the schema is of another version.
    """
    authority = configured_authority(settings)
    async with records(settings) as shared:
        authority_id = await shared.store.authority_id(authority)
        if authority_id is None:
            raise RefusedError(
                f"no {authority.hierarchy} CA of {authority.prefecture.name_romaji} is set up here; run `prefca init`"
            )
        yield Installation(
            *(shared.store, shared.parties, shared.lists, shared.generations),
            *(shared.operations, shared.activations, shared.cross, shared.recovery),
            *(shared.media, shared.journals, shared.backups, shared.audits),
            *(settings, authority, authority_id),
        )


@contextlib.asynccontextmanager
async def active_key(installation: Installation, secret: str | None = None) -> AsyncIterator[ActiveKey]:
    """The key that signs now; `secret` opens it (`secret_for`).

    Raises:
        SigningError: token or key cannot be used.
        RefusedError: there is no active key, or it does not belong to its certificate.
    """
    generation = await installation.store.active_generation(installation.authority_id)
    if generation is None:
        raise RefusedError(
            "no key of this CA is active; `prefca init` or `prefca found` makes a first one, `prefca status` tells more"
        )
    async with opened_keys(installation, secret) as keys:
        yield key_of(installation, generation, keys)


@contextlib.asynccontextmanager
async def list_key(installation: Installation, secret: str | None = None) -> AsyncIterator[ActiveKey]:
    """The key that signs lists now: the active one, or, after its compromise and before there is a new one, still it.

    Raises:
        SigningError: token or key cannot be used.
        RefusedError: there is no such key, or it does not belong to its certificate.
    """
    generation = await installation.recovery.list_signer(installation.authority_id)
    if generation is None:
        raise RefusedError("no key of this CA is active or can sign lists; `prefca status` tells what to do")
    async with opened_keys(installation, secret) as keys:
        yield key_of(installation, generation, keys)


def key_of(installation: Installation, generation: Generation, keys: CAKeys) -> ActiveKey:
    """A generation with its key.

    Raises:
        SigningError: the key is missing or cannot be used.
        RefusedError: it does not belong to the certificate.
    """
    certificate = x509.load_der_x509_certificate(generation.certificate)
    signer = keys.signer(generation.key_reference)
    require_own(signer, certificate, generation.key_reference)
    return ActiveKey(generation, Issuer(installation.authority, certificate), signer)


def configured_authority(settings: Settings) -> Authority:
    """The authority that the configuration names.

    Raises:
        ConfigurationError: it names several.
    """
    return Authority(
        PREFECTURES[settings.ca.prefecture],
        settings.ca.hierarchy,
        identifies_key_alone=settings.ca.authority_key_identifier == "key",
    )


def origin() -> str:
    """Who acts, from where: the origin of an operation record (R-4-11-2-2)."""
    return f"{account()}@{socket.gethostname()}"


def account() -> str:
    """The system account that this process runs under, whatever its environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container that was given a bare number
        return str(os.getuid())


async def secret_for(installation: Installation) -> str:
    """What opens the keys of the CA now: where several persons activate them, only while they are.

    Raises:
        NotNowError: the keys are not activated.
        SigningError: a file cannot be used.
        ConfigurationError: no place to take it from.
    """
    file = installation.settings.signer.activation_file
    if file is not None and not await installation.activations.is_active(installation.authority_id):
        raise NotNowError("the CA's key is not activated; `prefca activation start` asks the key managers")
    return secret_of(installation.settings)


@contextlib.asynccontextmanager
async def opened_keys(installation: Installation, secret: str | None = None) -> AsyncIterator[CAKeys]:
    """The keys of the CA; `secret` opens them, without it that of `secret_for`.

    Raises:
        NotNowError: the keys are not activated.
        SigningError: token or passphrase cannot be used.
    """
    keys = open_keys(installation.settings, await secret_for(installation) if secret is None else secret)
    try:
        yield keys
    finally:
        keys.close()
