"""`prefca status`, `export`: lists and what is in force."""

import base64
import textwrap
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO, Final, TypeVar

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from issuer.alarm import Alarm, Sight, alarms
from issuer.cli.output import json_option, print_json, print_table, text
from issuer.cli.root import ALARM_STATUS, each, for_scripts, is_one_of_several, now, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import Installation, database, opened, records, require_database
from issuer.lists.batch import newest_not_of_the_future
from issuer.profiles.municipality import municipality
from issuer.records.rows import Publication, PublishedList
from issuer.residents.revocation import parse_serial
from issuer.schedule import Schedule
from issuer.servers import delegate
from issuer.watch import ca_sight, installation_sight
from issuer.which_ca import issuing_ca, with_list
from pkix.validity import UpdateWindow
from settings.load import Settings

JOURNAL: Final = "journal"  # beside the CAs: whose alarms those of the installation are, as the scheduler tells them

T = TypeVar("T")


@click.command()
@click.option("--check", "is_check", is_flag=True, help="Tell alarms only; exit status 5 while one stands.")
@json_option
@click.pass_context
def status(context: click.Context, is_check: bool, as_json: bool) -> None:
    """Show the CA, its keys, and for each list its number, dates, entries and size.

    With --check, for a monitoring program: are regular lists late, do those in force end soon, is the daily work with
    journals and archive done? With --ca, one of several CAs alone.
    """
    settings, is_whole = settings_of(context), not is_one_of_several(context)
    if is_check:
        _check(context, settings, is_whole=is_whole, as_json=as_json)
        return
    reports, shared, worst = run(_look(settings, _status, is_whole=is_whole))
    if as_json:
        _print_json(settings, reports, shared)
    else:
        for report in reports.values():
            _print(report)
        for alarm in shared.get(JOURNAL, ()):
            click.echo(f"ALARM {alarm}")
    context.exit(worst)


def _check(context: click.Context, settings: Settings, *, is_whole: bool, as_json: bool) -> None:
    of_cas, shared, worst = run(_look(settings, _alarms, is_whole=is_whole))
    found = of_cas | shared
    if as_json:
        told = {whose: [{"name": one.name, "message": one.message} for one in found[whose]] for whose in found}
        print_json(told if len(settings.cas) > 1 else list(chain.from_iterable(told.values())))
    else:
        for whose, alarms in found.items():
            click.echo(f"{whose}: " + ("; ".join(map(str, alarms)) or "no alarm"))
    context.exit(max(worst, ALARM_STATUS if any(found.values()) else 0))


async def _look(
    settings: Settings, work: Callable[[Settings], Coroutine[Any, Any, T]], *, is_whole: bool
) -> tuple[dict[str, T], dict[str, list[Alarm]], int]:
    """What `each` returns, and between that the alarms of the installation, unless one of its CAs is asked for."""
    require_database(settings)
    async with database(settings):  # started once for all
        results, worst = await each(settings, work)
        shared = {JOURNAL: await _alarms_of_installation(settings)} if is_whole else {}
        return results, shared, worst


async def _alarms_of_installation(settings: Settings) -> list[Alarm]:
    async with records(settings) as shared:
        return installation_sight.alarms(await installation_sight.installation_sight(shared), settings, now())


@dataclass(frozen=True, slots=True)
class _Report:
    facts: dict[str, dict[str, object]]
    alarms: list[str]
    lists: list[dict[str, object]]


def _print_json(settings: Settings, reports: Mapping[str, _Report], shared: Mapping[str, list[Alarm]]) -> None:
    told: dict[str, dict[str, Any]] = {
        ca: {**report.facts, "alarms": report.alarms, "lists": report.lists} for ca, report in reports.items()
    }
    for whose, standing in shared.items():
        place = told.setdefault(whose if len(settings.cas) > 1 else settings.ca.prefecture, {"alarms": []})
        place["alarms"] += map(str, standing)
    print_json(for_scripts(settings, told))


def _print(report: _Report) -> None:
    for heading, facts in report.facts.items():
        click.echo(f"{heading.replace('_', ' ')}: " + ", ".join(f"{k} {text(v)}" for k, v in facts.items()))
    for alarm in report.alarms:
        click.echo(f"ALARM {alarm}")
    columns = ["list", "name", "CRLNumber", "entries", "octets", "key", "thisUpdate", "next publication", "nextUpdate"]
    print_table(columns, [list(row.values()) for row in report.lists])


async def _alarms(settings: Settings) -> list[Alarm]:
    async with opened(settings) as installation:
        in_force = await installation.store.publication_in_force(installation.authority_id)
        return await _standing(installation, in_force)


async def _standing(installation: Installation, in_force: Publication | None) -> list[Alarm]:
    settings, moment = installation.settings, now()
    in_time = await newest_not_of_the_future(installation, moment)
    of_lists = alarms(Schedule.of(settings), Sight(moment, in_force=in_force, in_time=in_time), moment)
    return [*of_lists, *ca_sight.alarms(await ca_sight.ca_sight(installation), settings, moment)]


async def _status(settings: Settings) -> _Report:
    async with opened(settings) as installation:
        store, authority_id = installation.store, installation.authority_id
        generation = await store.active_generation(authority_id)
        signing = delegate.signing(await store.delegates(authority_id), generation, now())
        issued, revoked, valid = await store.counts(authority_id, now())
        publication = await store.publication_in_force(authority_id)
        lists = await store.published_lists(publication.publication_id) if publication else []
        authority = installation.authority
        facts: dict[str, dict[str, object]] = {
            "authority": {"name": authority.name.rfc4514_string(), "hierarchy": authority.hierarchy},
            "ca_certificate": _certificate(generation.certificate) if generation else {},
            "ocsp_delegate": _certificate(signing.certificate.der) if signing else {},
            "certificates": {"issued": issued, "revoked": revoked, "valid": valid},
            "publication": _publication(publication) if publication else {},
        }
        dated = dates(publication.window) if publication else {}
        standing = await _standing(installation, publication)
        return _Report(facts, [str(alarm) for alarm in standing], [list_row(made) | dated for made in lists])


def _publication(publication: Publication) -> dict[str, object]:
    return {"number": publication.publication_id, "cut_off": publication.cut_off, **dates(publication.window)}


def _certificate(der: bytes) -> dict[str, object]:
    certificate = x509.load_der_x509_certificate(der)
    return {
        "serial": f"{certificate.serial_number:016X}",
        "not_after": certificate.not_valid_after_utc,
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def list_row(made: PublishedList) -> dict[str, object]:
    """A list as a row of a table."""
    return {
        "list": made.code or made.kind,
        "name": municipality(made.code).name_ja if made.code else {"ca": "ARL", "operations": "CRL"}[made.kind],
        "crl_number": made.crl_number,
        "entries": made.entries,
        "size": made.size,
        "generation": made.generation,
    }


def dates(window: UpdateWindow) -> dict[str, object]:
    """Those of all lists of a publication."""
    return {
        "this_update": window.this_update,
        "next_publish": window.next_publish,
        "next_update": window.next_update,
    }


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
    armored = octets if der else pem(octets, "CERTIFICATE" if what in {"ca", "certificate"} else "X509 CRL")
    output.write(armored)


async def _find(settings: Settings, what: str, which: str) -> bytes:
    if what == "crl":
        settings = with_list(settings, which)
    if what == "certificate":
        serial = parse_serial(which)
        settings = settings.of((await issuing_ca(settings, [serial]))[serial])
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
    store = installation.store
    publication = await store.publication_in_force(installation.authority_id)
    if publication is not None:
        for made in await store.published_lists(publication.publication_id):
            if which == (made.code or made.kind):
                return await installation.lists.value(publication.publication_id, made.partition_id, made.generation)
    raise RefusedError(f"no list of {which} is in force; `prefca status` shows those that are")


def pem(octets: bytes, label: str) -> bytes:
    """Armored DER (RFC 7468)."""
    lines = textwrap.wrap(base64.b64encode(octets).decode(), 64)
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()


COMMANDS = (status, export)
