"""`prefca relying-party credential`: what a party is recognised by (R-4-4-4-3)."""

import secrets
import sys
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final

import asyncpg
import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.parties import as_row, bind_name, registered, relying_party
from issuer.cli.root import now, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import Records, records
from issuer.records.party_store import CertificateUse, CredentialRow, RelyingPartyRow
from settings.load import Settings
from settings.passwords import hash_of

IPNetwork = IPv4Network | IPv6Network
SHORTEST_PREFIX_BITS: Final = {4: 8, 6: 16}  # of one party's network, by version of IP: a wider one is a slip

MIN_PASSWORD_CHARACTERS: Final = 12
TOKEN_OCTETS: Final = 32
TOKEN_PREFIX: Final = "prefca_"  # noqa: S105 - so that scanners find tokens that lie about

CERTIFICATE = click.Path(exists=True, dir_okay=False, path_type=Path)


@relying_party.group()
def credential() -> None:
    """Manage what parties are recognised by. A credential that ends, ends at once."""


@credential.group("add")
def add_group() -> None:
    """Let a party be recognised by one more thing."""


@add_group.command()
@click.argument("name")
@click.option("--password-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its first line.")
@click.pass_context
def password(context: click.Context, name: str, password_file: Path | None) -> None:
    """Set the password of NAME, for LDAP binds and OCSP over TLS; without a file you are asked for it."""
    if password_file is not None:
        try:
            secret = password_file.read_text(encoding="utf-8").partition("\n")[0]
        except UnicodeDecodeError as e:
            raise RefusedError(f"{password_file} is not UTF-8 text; write the password there as text") from e
    elif sys.stdin.isatty():
        secret = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        raise click.UsageError("give --password-file, or run the command on a terminal to be asked")
    if len(secret) < MIN_PASSWORD_CHARACTERS:
        raise RefusedError(f"the password is too short; use at least {MIN_PASSWORD_CHARACTERS} characters")
    run(_add_password(settings_of(context), name, secret))
    click.echo(f"{name} binds as {bind_name(name)} with that password")


@add_group.command()
@click.argument("name")
@click.argument("network")
@click.pass_context
def network(context: click.Context, name: str, network: str) -> None:
    """Recognise NAME by asking from NETWORK, such as 192.0.2.0/24: for closed networks."""
    try:
        parsed = ip_network(network)
    except ValueError as e:
        raise RefusedError(f"{e}; write a network such as 192.0.2.0/24") from e
    shortest = SHORTEST_PREFIX_BITS[parsed.version]
    if parsed.prefixlen < shortest:
        raise RefusedError(f"{parsed} is no closed network; name those of {name}, each of /{shortest} or smaller")
    run(_add_network(settings_of(context), name, parsed))
    click.echo(f"{name} is recognised when it asks from {parsed}")


async def _add_password(settings: Settings, name: str, secret: str) -> None:
    async with records(settings) as shared, shared.store.transaction():
        party = await registered(shared, name)
        await give_password(shared, party.relying_party_id, name, secret)


async def _add_network(settings: Settings, name: str, source: IPNetwork) -> None:
    async with records(settings) as shared, shared.store.transaction():
        party = await registered(shared, name)
        await give_network(shared, party.relying_party_id, name, source)


async def give_password(shared: Records, relying_party_id: int, name: str, secret: str) -> None:
    """Let a party bind with a password, kept as an Argon2id hash."""
    await shared.parties.add_password(relying_party_id, hash_of(secret), now())
    await shared.store.record("credential_added", now(), name, {"kind": "password"})


async def give_network(shared: Records, relying_party_id: int, name: str, source: IPNetwork) -> None:
    """Let a party be recognised by where it asks from."""
    await shared.parties.add_network(relying_party_id, source, now())
    await shared.store.record("credential_added", now(), name, {"kind": "network", "network": str(source)})


@add_group.command()
@click.argument("name")
@json_option
@click.pass_context
def token(context: click.Context, name: str, as_json: bool) -> None:
    """Make a bearer token with which NAME asks for statuses over TLS, and print it. It is shown this once."""
    made = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_OCTETS)
    number = run(_add_token(settings_of(context), name, made))
    if as_json:
        print_json({"credential": number, "token": made})
    else:
        click.echo(made)


async def _add_token(settings: Settings, name: str, token: str) -> int:
    async with records(settings) as shared, shared.store.transaction():
        party = await registered(shared, name)
        number = await shared.parties.add_token(party.relying_party_id, sha256(token.encode()).digest(), now())
        await shared.store.record("credential_added", now(), name, {"kind": "token", "credential": number})
        return number


def _certificate_command(use: CertificateUse, purpose: str) -> None:
    @add_group.command(use, help=f"Recognise NAME by the CERTIFICATE (PEM or DER) {purpose}.")
    @click.argument("name")
    @click.argument("certificate", type=CERTIFICATE)
    @click.pass_context
    def command(context: click.Context, name: str, certificate: Path) -> None:
        parsed = _usable(certificate)
        run(_add_certificate(settings_of(context), name, use, parsed))
        click.echo(f"{name} is recognised by {parsed.subject.rfc4514_string()}")


_certificate_command("client-certificate", "that it shows in TLS")
_certificate_command("signing-certificate", "that it signs OCSP requests with")


def _usable(file: Path) -> x509.Certificate:
    """The certificate in `file`."""
    octets = file.read_bytes()
    try:
        pem = b"-----BEGIN" in octets
        certificate = x509.load_pem_x509_certificate(octets) if pem else x509.load_der_x509_certificate(octets)
        key = certificate.public_key()
    except ValueError as e:
        raise RefusedError(f"{file}: no certificate in PEM or DER; give the party's certificate") from e
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise RefusedError(f"{file}: neither an RSA nor an EC key; use a certificate with one of these")
    if certificate.not_valid_after_utc <= now():
        raise RefusedError(f"{file}: ended on {certificate.not_valid_after_utc:%Y-%m-%d}; use one that is valid")
    return certificate


async def _add_certificate(settings: Settings, name: str, use: CertificateUse, certificate: x509.Certificate) -> None:
    der = certificate.public_bytes(Encoding.DER)
    async with records(settings) as shared, shared.store.transaction():
        party = await registered(shared, name)
        try:
            number = await shared.parties.add_party_certificate(party.relying_party_id, use, der, now())
        except asyncpg.UniqueViolationError as e:
            raise RefusedError(
                "this certificate is registered already; `prefca relying-party show` tells for whom, "
                "`prefca relying-party credential end` ends that"
            ) from e
        detail = {"kind": use, "credential": number, "sha256": sha256(der).hexdigest()}
        await shared.store.record("credential_added", now(), name, detail)


@credential.command("list")
@click.argument("name")
@json_option
@click.pass_context
def list_command(context: click.Context, name: str, as_json: bool) -> None:
    """List the credentials of NAME, also those that have ended."""
    rows = [describe(row) for row in run(_credentials(settings_of(context), name))]
    if as_json:
        print_json(rows)
    else:
        print_table(list(rows[0]) if rows else [], [[cell or "" for cell in row.values()] for row in rows])


async def _credentials(settings: Settings, name: str) -> list[CredentialRow]:
    async with records(settings) as shared:
        party = await registered(shared, name)
        return await shared.parties.credentials(party.relying_party_id)


def describe(row: CredentialRow) -> dict[str, object]:
    """A credential for people and scripts, without anything secret."""
    return {
        "credential": row.credential_id,
        "kind": row.kind,
        "recognised_by": _recognised_by(row),
        "created_at": row.created_at,
        "ended_at": row.ended_at,
    }


def _recognised_by(row: CredentialRow) -> str:
    if row.network is not None:
        return str(row.network)
    if row.certificate is None:
        return ""
    certificate = x509.load_der_x509_certificate(row.certificate)
    subject, end = certificate.subject.rfc4514_string(), certificate.not_valid_after_utc
    return f"{subject}, until {end:%Y-%m-%d}, SHA-256 {sha256(row.certificate).hexdigest()}"


@credential.command()
@click.argument("name")
@click.argument("number", type=int)
@click.pass_context
def end(context: click.Context, name: str, number: int) -> None:
    """End credential NUMBER of NAME, for good."""
    run(_end(settings_of(context), name, number))
    click.echo(f"credential {number} of {name} has ended")


async def _end(settings: Settings, name: str, number: int) -> None:
    async with records(settings) as shared, shared.store.transaction():
        party = await registered(shared, name)
        if not await shared.parties.end_credential(party.relying_party_id, number, now()):
            raise RefusedError(f"{name} has no credential {number}; `prefca relying-party credential list {name}`")
        await shared.store.record("credential_ended", now(), name, {"credential": number})


@relying_party.command()
@click.argument("name")
@json_option
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> None:
    """Show NAME: agreement, rights, and what it is recognised by."""
    party, credentials = run(_party(settings_of(context), name))
    shown = as_row(party) | {"credentials": [describe(row) for row in credentials if row.ended_at is None]}
    if as_json:
        print_json(shown)
        return
    rights = " ".join(["ocsp"] * party.may_ocsp + ["crl"] * party.may_crl)
    click.echo(f"{name} ({party.description}) is {party.state}, with the rights: {rights}")
    click.echo(f"agreement from {party.agreed_from:%Y-%m-%dT%H:%M:%SZ} until {party.agreed_until:%Y-%m-%dT%H:%M:%SZ}")
    for row in credentials:
        if row.ended_at is None:
            click.echo(f"credential {row.credential_id}: {row.kind} {_recognised_by(row)}".rstrip())


async def _party(settings: Settings, name: str) -> tuple[RelyingPartyRow, list[CredentialRow]]:
    async with records(settings) as shared, shared.store.snapshot():
        party = await registered(shared, name)
        return party, await shared.parties.credentials(party.relying_party_id)


COMMANDS = (relying_party,)
