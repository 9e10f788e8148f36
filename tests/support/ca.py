"""A CA to test with: in memory with a software key, or founded in a database; and notices for it."""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer.generations.founding import Founding, found
from issuer.installation import ActiveKey, Installation, active_key, configured_authority, connected, opened
from issuer.keys import open_keys
from issuer.lists import batch
from issuer.profiles.authority import Authority, Hierarchy
from issuer.profiles.municipality import PREFECTURES, PrefectureName
from issuer.profiles.notice import Notice, parse_notice
from issuer.profiles.profile import MIN_SERIAL, Issuer, self_signed
from issuer.records.rows import Generation
from issuer.records.store import Store
from issuer.residents import revocation
from issuer.residents.registration import Issued, Outcome, open_desk, register
from issuer.residents.revocation import NotRevoked, RevocationOrder, RevokedNow
from issuer.signing.certification import certify_self
from pkix.revocation import CRLReason
from pkix.software import SoftwareSigner, write_secret
from settings.load import Settings
from settings.sections import CASection, DatabaseSection, SignerSection
from tests.support.database import Database, fresh_database, reachable_directory

NOW = datetime(2026, 4, 1, 3, 0, 0, tzinfo=UTC)  # noon in Japan
PASSPHRASE_FILE = Path("secrets/ca-key.passphrase")


@cache
def rsa_key(_use: str) -> rsa.RSAPrivateKey:
    """A private key for each use, made once: each costs a tenth of a second."""
    return rsa.generate_private_key(65537, 2048)


def public_key(number: int) -> bytes:
    """DER of a SubjectPublicKeyInfo, another one for each number, for nothing: nobody has the private half."""
    key = rsa.RSAPublicNumbers(65537, 2**2047 + 2 * number + 1).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def notice_fields(number: int = 1, **changes: object) -> dict[str, object]:
    """A notice of another person with another key for each number; None leaves a field out."""
    fields = {
        "notice_number": f"N-{number}",
        "municipality": "132217",
        "name": "黒桐　幹也",
        "date_of_birth": "1980-02-17",
        "gender": "male",
        "address": f"東京都清瀬市テスト町{number}－２－３",
        "public_key": base64.b64encode(public_key(number)).decode(),
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def notice_line(number: int = 1, **changes: object) -> bytes:
    """The same as a line of a notice file."""
    return json.dumps(notice_fields(number, **changes), ensure_ascii=False).encode() + b"\n"


def notice(number: int = 1, **changes: object) -> Notice:
    """The same, read by the CA of Tokyo."""
    return parse_notice(notice_line(number, **changes), prefecture="Tokyo-to", today=date(2026, 4, 1))


def software_ca(
    prefecture: PrefectureName = "Tokyo-to",
    hierarchy: Hierarchy = "test",
    founded: datetime = NOW,
    key: str = "ca",
) -> ActiveKey:
    """A CA in memory."""
    authority = Authority(PREFECTURES[prefecture], hierarchy)
    signer = SoftwareSigner(rsa_key(key))
    der = certify_self(signer, self_signed(authority, signer.public_key, MIN_SERIAL, founded))
    certificate = x509.load_der_x509_certificate(der)
    generation = Generation(1, 1, 1, "in-memory", der, certificate.not_valid_after_utc)
    return ActiveKey(generation, Issuer(authority, certificate), signer)


@dataclass(frozen=True)
class FoundedCA:
    """A CA with its database, as one process has it open."""

    database: Database
    settings: Settings
    installation: Installation
    key: ActiveKey

    async def register(self, *lines: bytes, now: datetime = NOW) -> list[Outcome]:
        """What `prefca issue` does with these lines."""
        desk = await open_desk(self.installation, self.key, lambda: now, secrets.token_bytes)
        return [outcome async for outcomes in register(desk, lines) for outcome in outcomes]

    async def issue(self, *numbers: int, now: datetime = NOW, **changes: object) -> list[Issued]:
        """Certificates for the notices of these numbers."""
        outcomes = await self.register(*(notice_line(number, **changes) for number in numbers), now=now)
        issued = [outcome for outcome in outcomes if isinstance(outcome, Issued)]
        assert len(issued) == len(numbers), outcomes
        return issued

    async def revoke(
        self,
        *serials: int,
        reason: CRLReason = CRLReason.CESSATION_OF_OPERATION,
        now: datetime = NOW,
        received_at: datetime | None = None,
    ) -> list[RevokedNow | NotRevoked]:
        """What `prefca revoke` does."""
        order = RevocationOrder(serials, reason, received_at or now)
        return await revocation.revoke(self.installation, order, now)

    async def publish(self, now: datetime = NOW) -> batch.Published:
        """What `prefca batch --now` does."""
        return await batch.run(self.installation, self.key, now)

    async def lists(self) -> dict[str, x509.CertificateRevocationList]:
        """The lists in force, by municipality code, "ca" and "operations"."""
        store, lists = self.installation.store, self.installation.lists
        publication = await store.publication_in_force(self.installation.authority_id)
        if publication is None:
            return {}
        number = publication.publication_id
        return {
            made.code or made.kind: x509.load_der_x509_crl(
                await lists.value(number, made.partition_id, made.generation)
            )
            for made in reversed(await store.published_lists(number))  # of one that two keys signed the first
        }

    async def query(self, sql: str, *arguments: Any) -> Any:
        """One value out of the database, read as its owner."""
        async with self.database.connect("owner") as connection:
            return await connection.fetchval(sql, *arguments)

    @asynccontextmanager
    async def another_process(self) -> AsyncIterator["FoundedCA"]:
        """The same CA on a connection of its own."""
        async with opened(self.settings) as installation:
            yield replace(self, installation=installation)


def settings_for(instance: Path, database: Database, prefecture: PrefectureName = "Tokyo-to") -> Settings:
    """The configuration of a CA with a software key, without a file."""
    return Settings(
        instance=instance,
        ca=CASection(prefecture=prefecture),
        signer=SignerSection(passphrase_file=PASSPHRASE_FILE),
        database=DatabaseSection(dsn=database.dsn),
    )


async def found_ca(settings: Settings, now: datetime = NOW) -> None:
    """Found the CA that the settings name."""
    passphrase = settings.path(PASSPHRASE_FILE)
    if not passphrase.exists():
        write_secret(passphrase, b"correct horse battery staple\n")
    async with connected(settings) as connection:
        store = Store(connection, "tester@test")
        await found(
            Founding(settings, configured_authority(settings), store, now, secrets.token_bytes), open_keys(settings)
        )


@asynccontextmanager
async def open_ca(database: Database, settings: Settings) -> AsyncIterator[FoundedCA]:
    """A founded CA, open."""
    async with opened(settings) as installation, active_key(installation) as key:
        yield FoundedCA(database, settings, installation, key)


@pytest.fixture(scope="session")
def founded_template(postgres_instance: Path) -> Iterator[tuple[Path, Database]]:
    """An instance directory with the keys, and a database to copy, of a test CA of Tokyo founded at NOW."""
    with reachable_directory() as instance, asyncio.Runner() as runner:
        creation = fresh_database(postgres_instance)
        database = runner.run(creation.__aenter__())
        runner.run(found_ca(settings_for(instance, database)))
        yield instance, database
        runner.run(creation.__aexit__(None, None, None))


@pytest.fixture
async def ca(founded_template: tuple[Path, Database]) -> AsyncIterator[FoundedCA]:
    """A test CA of Tokyo, founded at NOW, for this test alone."""
    instance, template = founded_template
    async with (
        fresh_database(template.instance, template.name) as database,
        open_ca(database, settings_for(instance, database)) as ca,
    ):
        yield ca
