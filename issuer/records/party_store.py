"""All SQL about relying parties and what they are recognised by."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

import asyncpg

from pkix.validity import Validity


@dataclass(frozen=True, slots=True)
class RelyingPartyRow:
    """A registered party and how many credentials it has."""

    relying_party_id: int
    name: str
    description: str
    agreed_from: datetime
    agreed_until: datetime
    state: str
    may_ocsp: bool
    may_crl: bool
    credentials: tuple[str, ...]  # kinds, with the network of a network


CertificateUse = Literal["client-certificate", "signing-certificate"]


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """Something that a party is recognised by."""

    credential_id: int
    kind: str
    network: IPv4Network | IPv6Network | None
    certificate: bytes | None
    created_at: datetime
    ended_at: datetime | None


class PartyStore:
    """Relying parties, as role prefca_issuer; transactions are the caller's."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add_relying_party(  # noqa: PLR0913 - the columns of its row
        self, name: str, description: str, agreed: Validity, *, may_ocsp: bool, may_crl: bool, now: datetime
    ) -> int:
        """Register a party.

        Raises:
            asyncpg.UniqueViolationError: the name is taken.
            asyncpg.CheckViolationError: the name has other characters than letters, digits and . _ -
        """
        relying_party_id: int = await self._connection.fetchval(
            "INSERT INTO relying_party"
            " (name, description, agreed_from, agreed_until, state, may_ocsp, may_crl, created_at)"
            " VALUES ($1, $2, $3, $4, 'active', $5, $6, $7) RETURNING relying_party_id",
            name,
            description,
            agreed.not_before,
            agreed.not_after,
            may_ocsp,
            may_crl,
            now,
        )
        return relying_party_id

    async def add_password(self, relying_party_id: int, secret_hash: str, now: datetime) -> None:
        """Give a party a password in place of the one it may have."""
        await self._connection.execute(
            "UPDATE credential SET ended_at = $2"
            " WHERE relying_party_id = $1 AND kind = 'password' AND ended_at IS NULL",
            relying_party_id,
            now,
        )
        await self._connection.execute(
            "INSERT INTO credential (relying_party_id, kind, secret_hash, created_at) VALUES ($1, 'password', $2, $3)",
            relying_party_id,
            secret_hash,
            now,
        )

    async def add_network(self, relying_party_id: int, network: IPv4Network | IPv6Network, now: datetime) -> None:
        """Let a party be recognised by where it asks from."""
        await self._connection.execute(
            "INSERT INTO credential (relying_party_id, kind, network, created_at) VALUES ($1, 'network', $2, $3)",
            relying_party_id,
            network,
            now,
        )

    async def add_token(self, relying_party_id: int, digest: bytes, now: datetime) -> int:
        """Let a party be recognised by a token, of which only the SHA-256 is kept; the number of the credential."""
        number: int = await self._connection.fetchval(
            "INSERT INTO credential (relying_party_id, kind, fingerprint, created_at) VALUES ($1, 'token', $2, $3)"
            " RETURNING credential_id",
            relying_party_id,
            digest,
            now,
        )
        return number

    async def add_party_certificate(
        self, relying_party_id: int, use: CertificateUse, certificate: bytes, now: datetime
    ) -> int:
        """Let a party be recognised by a certificate; the number of the credential.

        Raises:
            asyncpg.UniqueViolationError: somebody is recognised by it already.
        """
        number: int = await self._connection.fetchval(
            "INSERT INTO credential (relying_party_id, kind, fingerprint, certificate, created_at)"
            " VALUES ($1, $2, sha256($3), $3, $4) RETURNING credential_id",
            relying_party_id,
            use,
            certificate,
            now,
        )
        return number

    async def credentials(self, relying_party_id: int) -> list[CredentialRow]:
        """What a party is recognised by, and was."""
        rows = await self._connection.fetch(
            "SELECT credential_id, kind, network, certificate, created_at, ended_at FROM credential"
            " WHERE relying_party_id = $1 ORDER BY credential_id",
            relying_party_id,
        )
        return [CredentialRow(*row.values()) for row in rows]

    async def end_credential(self, relying_party_id: int, credential_id: int, now: datetime) -> bool:
        """End a credential. False: the party has none of that number which is in force."""
        done = await self._connection.execute(
            "UPDATE credential SET ended_at = $3"
            " WHERE relying_party_id = $1 AND credential_id = $2 AND ended_at IS NULL",
            relying_party_id,
            credential_id,
            now,
        )
        return bool(done == "UPDATE 1")

    async def change_relying_party(
        self, name: str, description: str | None, agreed_until: datetime | None, rights: Collection[str]
    ) -> bool:
        """Change what is not None, and the rights if there are any; a withdrawn party stays as it is.

        Raises:
            asyncpg.CheckViolationError: the agreement would end before it begins.
        """
        done = await self._connection.execute(
            "UPDATE relying_party SET description = coalesce($2, description),"
            " agreed_until = coalesce($3, agreed_until),"
            " may_ocsp = CASE WHEN cardinality($4::text[]) = 0 THEN may_ocsp ELSE 'ocsp' = ANY($4) END,"
            " may_crl = CASE WHEN cardinality($4::text[]) = 0 THEN may_crl ELSE 'crl' = ANY($4) END"
            " WHERE name = $1 AND state <> 'withdrawn'",
            name,
            description,
            agreed_until,
            list(rights),
        )
        return bool(done == "UPDATE 1")

    async def set_relying_party_state(self, name: str, state: str) -> bool:
        """Suspend, resume or withdraw; a withdrawn party stays withdrawn. False: no party to which that applies."""
        done = await self._connection.execute(
            "UPDATE relying_party SET state = $2 WHERE name = $1 AND state <> 'withdrawn'", name, state
        )
        return bool(done == "UPDATE 1")

    async def relying_parties(self) -> list[RelyingPartyRow]:
        """All registered parties."""
        rows = await self._connection.fetch(
            "SELECT p.relying_party_id, p.name, p.description, p.agreed_from, p.agreed_until, p.state, p.may_ocsp,"
            " p.may_crl, array_remove(array_agg(coalesce(c.network::text, c.kind) ORDER BY c.credential_id), NULL)"
            " AS credentials FROM relying_party p LEFT JOIN credential c"
            " ON c.relying_party_id = p.relying_party_id AND c.ended_at IS NULL"
            " GROUP BY p.relying_party_id ORDER BY p.name"
        )
        return [RelyingPartyRow(*row.values()) for row in rows]
