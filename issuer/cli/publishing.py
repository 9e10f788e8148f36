"""`prefca batch`, `status`, `export`: lists and what is in force."""

import base64
import textwrap
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from issuer import batch
from issuer.authority import Kind
from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.root import now, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import Installation, active_key, opened
from issuer.municipality import municipality
from issuer.revocation import parse_serial
from issuer.rows import PublishedList
from pkix.validity import UpdateWindow
from settings.load import Settings


@click.command("batch")
@json_option
@click.pass_context
def batch_command(context: click.Context, as_json: bool) -> None:
    """Publish now: one CRL for each municipality, the ARL, the CRL of operations certificates, all at once.

    Killed at any point, the publication before stays in force; run it again.
    """
    published = run(_batch(settings_of(context)))
    if as_json:
        print_json(
            {
                "publication": published.publication_id,
                "lists": published.lists,
                "entries": published.entries,
                "size": published.size,
                **_dates(published.window),
            }
        )
    else:
        click.echo(
            f"publication {published.publication_id} is in force: {published.lists} lists with"
            f" {published.entries} entries, {published.size} octets; nextUpdate {_text(published.window.next_update)}"
        )


async def _batch(settings: Settings) -> batch.Published:
    async with opened(settings) as installation, active_key(installation) as key:
        return await batch.run(installation, key, now())


@click.command()
@json_option
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show the CA, its keys, and for each list its number, dates, entries and size."""
    report = run(_status(settings_of(context)))
    if as_json:
        print_json({**report.facts, "lists": report.lists})
        return
    for heading, facts in report.facts.items():
        click.echo(f"{heading.replace('_', ' ')}: " + ", ".join(f"{k} {_text(v)}" for k, v in facts.items()))
    print_table(["list", "name", "CRLNumber", "entries", "octets"], [list(row.values()) for row in report.lists])


@dataclass(frozen=True, slots=True)
class _Report:
    facts: dict[str, dict[str, object]]
    lists: list[dict[str, object]]


async def _status(settings: Settings) -> _Report:
    async with opened(settings) as installation:
        store, authority_id = installation.store, installation.authority_id
        generation = await store.active_generation(authority_id)
        delegates = await store.newest_certificates(authority_id, Kind.OCSP, 1)
        issued, revoked, valid = await store.counts(authority_id, now())
        publication = await store.publication_in_force(authority_id)
        lists = await store.lists_in_force(publication.publication_id) if publication else []
        authority = installation.authority
        facts: dict[str, dict[str, object]] = {
            "authority": {"name": authority.name.rfc4514_string(), "hierarchy": authority.hierarchy},
            "ca_certificate": _certificate(generation.certificate) if generation else {},
            "ocsp_delegate": _certificate(delegates[0].der) if delegates else {},
            "certificates": {"issued": issued, "revoked": revoked, "valid": valid},
            "publication": {"number": publication.publication_id, **_dates(publication.window)} if publication else {},
        }
        return _Report(facts, [_list_row(made) for made in lists])


def _certificate(der: bytes) -> dict[str, object]:
    certificate = x509.load_der_x509_certificate(der)
    return {
        "serial": f"{certificate.serial_number:016X}",
        "not_after": certificate.not_valid_after_utc,
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _list_row(made: PublishedList) -> dict[str, object]:
    return {
        "list": made.code or made.kind,
        "name": municipality(made.code).name_ja if made.code else {"ca": "ARL", "operations": "CRL"}[made.kind],
        "crl_number": made.crl_number,
        "entries": made.entries,
        "size": len(made.value),
    }


def _dates(window: UpdateWindow) -> dict[str, object]:
    return {
        "this_update": window.this_update,
        "next_publish": window.next_publish,
        "next_update": window.next_update,
    }


def _text(value: object) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else str(value)


@click.command()
@click.argument("what", type=click.Choice(["ca", "arl", "operations-crl", "crl", "certificate"]))
@click.argument("which", required=False)
@click.option("--der", is_flag=True, help="DER instead of PEM.")
@click.option("-o", "--output", type=click.File("wb"), default="-", help="A file.  [default: standard output]")
@click.pass_context
def export(context: click.Context, what: str, which: str | None, der: bool, output: BinaryIO) -> None:
    """Write the CA certificate, a list in force, or a certificate to a file.

    WHICH is a municipality's code for `crl`, a serial number for `certificate`.
    """
    if (which is None) == (what in {"crl", "certificate"}):
        raise click.UsageError("`crl` takes a municipality's code, `certificate` a serial number, the others nothing")
    octets = run(_find(settings_of(context), what, which or ""))
    armored = octets if der else _pem(octets, "CERTIFICATE" if what in {"ca", "certificate"} else "X509 CRL")
    output.write(armored)


async def _find(settings: Settings, what: str, which: str) -> bytes:
    async with opened(settings) as installation:
        if what == "certificate":
            return await _find_certificate(installation, parse_serial(which))
        if what == "ca":
            generation = await installation.store.active_generation(installation.authority_id)
            if generation is None:
                raise RefusedError("no key of this CA is active")
            return generation.certificate
        return await _find_list(installation, {"arl": "ca", "operations-crl": "operations"}.get(what, which))


async def _find_certificate(installation: Installation, serial: int) -> bytes:
    found = await installation.store.certificates(installation.authority_id, [serial] if serial < 1 << 63 else [])
    if serial not in found:
        raise RefusedError(f"{serial:016X} was never issued by this CA; check the serial number")
    return found[serial].der


async def _find_list(installation: Installation, which: str) -> bytes:
    publication = await installation.store.publication_in_force(installation.authority_id)
    lists = await installation.store.lists_in_force(publication.publication_id) if publication else []
    for made in lists:
        if which == (made.code or made.kind):
            return made.value
    raise RefusedError(f"no list of {which} is in force; `prefca status` shows those that are")


def _pem(octets: bytes, label: str) -> bytes:
    lines = textwrap.wrap(base64.b64encode(octets).decode(), 64)
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()


COMMANDS = (batch_command, status, export)
