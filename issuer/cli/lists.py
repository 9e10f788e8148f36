"""`prefca crl`: every list that was published, 失効情報ファイル: found, shown, compared, exported, verified."""

import contextlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import aiohttp
import click

from issuer.cli.list_choice import (
    COUNT,
    NO_SUCH_LIST,
    Choice,
    choice_of,
    chosen,
    date_option,
    found,
    key_option,
    name_of,
    number_option,
    period_options,
    selection_options,
)
from issuer.cli.list_files import MANIFEST, SUMS, ListFiles, filename_of
from issuer.cli.output import json_option, print_json, print_table, progress, text
from issuer.cli.publishing import dates, pem
from issuer.cli.root import REFUSED_STATUS, each, for_scripts, now, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import opened
from issuer.lists.list_audit import Inquiry, Verified, open_audit
from issuer.lists.list_entry import SUFFIXES, Entered
from issuer.lists.list_entry import enter as enter_lists
from issuer.profiles.scan import revocations, take_apart
from issuer.records.list_store import KeptList
from issuer.servers.inquiry import Responder
from issuer.which_ca import with_list
from pkix.revocation import Revoked
from settings.load import Settings

SAMPLE: Final = 100  # entries of each list


@click.group()
def crl() -> None:
    """Find, show, compare, export and verify lists: every one that was published is kept."""


@crl.command("list")
@period_options
@click.option("--limit", type=COUNT, default=100, show_default=True, help="How many, the newest first.")
@json_option
@click.pass_context
def list_command(context: click.Context, /, limit: int, as_json: bool, **choice: Any) -> None:  # noqa: ANN401 - options
    """List what was published, the newest first."""
    asked = Choice(**choice, is_all=True)
    settings = _settings_of(context, asked)
    newest, status = run(each(settings, lambda one: _newest(one, asked, limit)))
    rows = {prefecture: [_row(kept) for kept in lists] for prefecture, lists in newest.items()}
    if as_json:
        print_json(for_scripts(settings, rows))
    else:
        _print_lists(rows, of_several=len(settings.cas) > 1)
    context.exit(status)


def _print_lists(rows: Mapping[str, list[dict[str, object]]], *, of_several: bool) -> None:
    columns = ["list", "name", "CRLNumber", "entries", "octets", "key", "thisUpdate", "next publication", "nextUpdate"]
    lists = [([ca] if of_several else []) + [*row.values()][:-1] for ca, its in rows.items() for row in its]
    print_table([*(["CA"] if of_several else []), *columns, "published"], lists)


def _settings_of(context: click.Context, choice: Choice) -> Settings:
    """Those of the CA that has the list which is asked for, if it says so by itself."""
    return with_list(settings_of(context), choice.municipality)


async def _newest(settings: Settings, choice: Choice, limit: int) -> list[KeptList]:
    async with chosen(settings, choice) as (installation, selection):
        return await installation.lists.newest(installation.authority_id, selection, limit)


@crl.command()
@click.argument("which")
@number_option
@date_option
@key_option
@click.option("--entries", type=click.IntRange(0), default=10, show_default=True, help="How many of them to show.")
@json_option
@click.pass_context
def show(context: click.Context, /, which: str, entries: int, as_json: bool, **choice: Any) -> None:  # noqa: ANN401 - options
    """Show the list in force, or another one, of WHICH: a municipality by code or name, `ca` or `operations`."""
    asked = Choice(**choice, municipality=which)
    kept, octets = run(_one(_settings_of(context, asked), asked))
    first = [_entry(*each) for each in islice(_entries(octets), entries)]
    if as_json:
        print_json(_row(kept) | {"revoked": first})
        return
    for name, value in _row(kept).items():
        click.echo(f"{name.replace('_', ' ')}: {text(value)}")
    print_table(["serial", "revoked at", "reason", "invalidity date"], [list(entry.values()) for entry in first])
    if kept.entries > len(first):
        click.echo(f"… and {kept.entries - len(first)} more")


async def _one(settings: Settings, choice: Choice) -> tuple[KeptList, bytes]:
    async with opened(settings) as installation:
        kept = await found(installation, choice)
        return kept, await installation.lists.octets(kept)


@crl.command()
@click.argument("which")
@click.argument("old")
@click.argument("new")
@json_option
@click.pass_context
def diff(context: click.Context, which: str, old: str, new: str, as_json: bool) -> None:
    """Tell which serials came and went between two lists of WHICH; OLD and NEW are CRLNumbers or dates."""
    choices = [choice_of(which, value) for value in (old, new)]
    (before, octets_before), (after, octets_after) = run(_both(_settings_of(context, choices[0]), choices))
    listed, listed_after = dict(_entries(octets_before)), dict(_entries(octets_after))
    added = [_entry(serial, listed_after[serial]) for serial in sorted(listed_after.keys() - listed.keys())]
    removed = [_entry(serial, listed[serial]) for serial in sorted(listed.keys() - listed_after.keys())]
    if as_json:
        print_json({"old": _row(before), "new": _row(after), "added": added, "removed": removed})
        return
    for sign, changed in (("+", added), ("-", removed)):
        for entry in changed:
            click.echo(" ".join((sign, str(entry["serial"]), text(entry["revoked_at"]), str(entry["reason"]))))
    click.echo(f"{before.crl_number} to {after.crl_number}: {len(added)} added, {len(removed)} removed")


async def _both(settings: Settings, choices: list[Choice]) -> list[tuple[KeptList, bytes]]:
    async with opened(settings) as installation:
        both = [await found(installation, choice) for choice in choices]
        return [(kept, await installation.lists.octets(kept)) for kept in both]


@crl.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@selection_options
@click.option("--der", is_flag=True, help="DER instead of PEM.")
@click.pass_context
def export(context: click.Context, /, directory: Path, der: bool, **choice: Any) -> None:  # noqa: ANN401 - options
    """Write lists to files of DIRECTORY, whose names sort by list and number.

    SHA256SUMS is for `sha256sum -c`; manifest.jsonl says of each file what it is. Both go on naming what was exported
    there before, and a file with other content is never overwritten. Run it again after an interruption.
    """
    asked = Choice(**choice)
    count = run(_export(_settings_of(context, asked), asked, ListFiles(directory), der=der))
    click.echo(f"{count} lists are in {directory}, named in {MANIFEST} and {SUMS}")


async def _export(settings: Settings, choice: Choice, files: ListFiles, *, der: bool) -> int:
    count, prefecture = 0, settings.ca.prefecture
    async with chosen(settings, choice) as (installation, selection):
        with progress("lists") as bar:
            task = bar.add_task("exporting", total=None)
            async for kept in installation.lists.lists(installation.authority_id, selection):
                octets = await installation.lists.octets(kept)
                name = filename_of(kept, prefecture, der=der)
                armored = octets if der else pem(octets, "X509 CRL")
                files.add(kept, armored, name=name, row={"ca": prefecture} | _row(kept))
                count += 1
                bar.advance(task)
    if not count:
        raise RefusedError(NO_SUCH_LIST)
    files.name_all()
    return count


@crl.command()
@selection_options
@click.option("--ocsp", metavar="URL", help="Ask this responder about entries, too.")
@click.option(
    "--sample", type=click.IntRange(0), help=f"About how many of each list, with --ocsp; 0: all.  [default: {SAMPLE}]"
)
@json_option
@click.pass_context
def verify(
    context: click.Context,
    /,
    ocsp: str | None,
    sample: int | None,
    as_json: bool,
    **choice: Any,  # noqa: ANN401 - options
) -> None:
    """Verify lists: signature, chain, numbers, dates, digest, and that entries are what the database says.

    Exit status 3 if anything is wrong, or if there is no such list.
    """
    if sample is not None and ocsp is None:
        raise click.UsageError("--sample is of the entries that --ocsp asks about; say whom to ask")
    asked = Choice(**choice)
    settings = _settings_of(context, asked)
    size = SAMPLE if sample is None else sample
    verified, status = run(each(settings, lambda one: _verify(one, asked, ocsp, size or None)))
    if not status and not any(count for count, _ in verified.values()):
        raise RefusedError(NO_SUCH_LIST)  # a monitoring program would take nothing for nothing wrong
    findings = {prefecture: _findings(wrong) for prefecture, (_, wrong) in verified.items()}
    if as_json:
        told = {
            prefecture: {"verified": count, "wrong": len(wrong), "findings": findings[prefecture]}
            for prefecture, (count, wrong) in verified.items()
        }
        print_json(for_scripts(settings, told))
    else:
        for prefecture, (count, wrong) in verified.items():
            if wrong:
                rows = [list(finding.values()) for finding in findings[prefecture]]
                print_table(["list", "name", "CRLNumber", "finding"], rows)
            of_ca = f"{prefecture}: " if len(settings.cas) > 1 else ""
            click.echo(f"{of_ca}{count} lists verified, {len(wrong) or 'none'} wrong")
    is_wrong = any(wrong for _, wrong in verified.values())
    context.exit(max(status, REFUSED_STATUS if is_wrong else 0))


def _findings(wrong: list[Verified]) -> list[dict[str, object]]:
    return [
        {"list": one.kept.label, "name": name_of(one.kept.label), "crl_number": one.kept.crl_number, "finding": finding}
        for one in wrong
        for finding in one.findings
    ]


async def _verify(
    settings: Settings, choice: Choice, url: str | None, sample: int | None
) -> tuple[int, list[Verified]]:
    count, wrong = 0, []
    async with contextlib.AsyncExitStack() as stack:
        installation, selection = await stack.enter_async_context(chosen(settings, choice))
        inquiry = None
        if url is not None:
            inquiry = Inquiry(Responder(await stack.enter_async_context(aiohttp.ClientSession()), url), sample)
        audit = await open_audit(installation, now(), inquiry)
        bar = stack.enter_context(progress("lists"))
        task = bar.add_task("verifying", total=None)
        async for one in audit.verify(selection):
            count += 1
            bar.advance(task)
            if one.findings:
                wrong.append(one)
    return count, wrong


@crl.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
@click.pass_context
def enter(context: click.Context, directory: Path, as_json: bool) -> None:
    """Enter again the revocations that are on the lists in DIRECTORY and not in the database: after a restoration.

    Lists are files as `crl export` writes them, PEM or DER. A key of this CA must have signed them. Numbers of new
    lists go on above theirs. Exit status 3 if a file is none, or names certificates that the database lacks.
    """
    files = sorted(file for file in directory.iterdir() if file.suffix in SUFFIXES)
    settings = settings_of(context)

    async def work(one: Settings) -> Entered:
        async with opened(one) as installation:
            return await enter_lists(installation, files, now())

    results, status = run(each(settings, work))
    foreign = set.intersection(*(result.others for result in results.values())) if results else set()
    refused = sorted(
        {refusal for result in results.values() for refusal in result.refused}
        | {f"{file}: no key of this CA signed it" for file in foreign}
    )
    if as_json:
        print_json(for_scripts(settings, {ca: _entered(result, refused) for ca, result in results.items()}))
    else:
        for ca, result in results.items():
            click.echo(f"{ca}: {result.entered} revocations entered from {result.lists} lists")
            for serial in result.unknown:
                click.echo(
                    f"prefca: {serial:016X} is revoked, and of no certificate here; see docs/recovery.md", err=True
                )
        for refusal in refused:
            click.echo(f"prefca: {refusal}", err=True)
    is_incomplete = refused or any(result.unknown for result in results.values())
    context.exit(max(status, REFUSED_STATUS if is_incomplete else 0))


def _entered(result: Entered, refused: list[str]) -> dict[str, object]:
    return {
        "lists": result.lists,
        "entered": result.entered,
        "unknown": [f"{serial:016X}" for serial in result.unknown],
        "refused": refused,
        "numbers": result.numbers,
    }


def _row(kept: KeptList) -> dict[str, object]:
    return {
        "list": kept.label,
        "name": name_of(kept.label),
        "crl_number": kept.crl_number,
        "entries": kept.entries,
        "size": kept.size,
        "generation": kept.generation,
        **dates(kept.publication.window),
        "published_at": kept.published_at,
        "sha256": kept.sha256.hex(),
    }


def _entries(octets: bytes) -> Iterator[tuple[int, Revoked]]:
    return revocations(take_apart(octets).entries.tobytes())


def _entry(serial: int, status: Revoked) -> dict[str, object]:
    return {
        "serial": f"{serial:016X}",
        "revoked_at": status.at,
        "reason": status.reason.label,
        "invalidity_date": status.invalidity_date or "",
    }


COMMANDS = (crl,)
