"""`prefca backup`, `restore`, `verify-instance`: an installation as a whole."""

from pathlib import Path

import click

from issuer.cli.output import json_option, print_json
from issuer.cli.root import REFUSED_STATUS, each, now, run, settings_of, target_of
from issuer.installation import opened
from issuer.recovery import instance_backup, restoration
from issuer.recovery.instance_check import Checked, check_authority, check_files, check_journals
from issuer.recovery.restoration import GAP, Restored
from settings.load import Settings


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--secrets", type=click.Path(file_okay=False, path_type=Path), help="Where secrets go; else left out.")
@json_option
@click.pass_context
def backup(context: click.Context, directory: Path, secrets: Path | None, as_json: bool) -> None:
    """Back up the installation into DIRECTORY, beside earlier backups: the database, files and journals.

    Archived journals are copied once for all backups. Passphrases and PINs go to another directory, for another place,
    or are left out. A token is backed up by its own means. While it runs everything else goes on.
    """
    made = run(instance_backup.back_up(settings_of(context), directory, secrets, now()))
    facts = {
        "backup": str(made.directory),
        "secrets": made.secrets and str(made.secrets),
        "files": made.files,
        "octets": made.octets,
        "manifest_sha256": made.manifest_sha256,
        "outside": list(made.outside),
    }
    if as_json:
        print_json(facts)
        return
    click.echo(f"{made.files} files with {made.octets} octets are in {made.directory}")
    click.echo(f"SHA-256 of its manifest: {made.manifest_sha256}")
    click.echo(f"secrets are in {made.secrets}" if made.secrets else "secrets are not in it; --secrets takes them")
    for path in made.outside:
        click.echo(f"not in it: {path}")


@click.command()
@click.argument("source", metavar="BACKUP", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--secrets", type=click.Path(exists=True, file_okay=False, path_type=Path), help="The backup of the secrets."
)
@json_option
@click.pass_context
def restore(context: click.Context, source: Path, secrets: Path | None, as_json: bool) -> None:
    """Restore BACKUP, or the newest one of a directory, as the installation --instance, which is not there yet.

    The database has to be empty: the embedded one is made, another one is named by PREFCA_DATABASE__DSN. All numbers
    jump, because what was counted since the backup is unknown. Killed at any point, run it again.
    """
    chosen = instance_backup.newest(source)
    of_secrets = instance_backup.secrets_of(chosen, secrets) if secrets else None
    restored = run(restoration.restore(chosen, of_secrets, target_of(context).instance, now()))
    facts = _facts(chosen, restored)
    if as_json:
        print_json(facts)
        return
    click.echo(f"{restored.files} files and the database of {chosen} are in {restored.settings.instance}")
    click.echo(f"numbers of lists, publications and changes go on {GAP:,} higher: what was published since is unknown")
    for missing in _possibly_missing(restored):
        click.echo(missing)
    click.echo("next: put the token and the secrets in their places, then `prefca verify-instance`")


def _facts(chosen: Path, restored: Restored) -> dict[str, object]:
    manifest = restored.manifest
    named = ("made_at", "newest_record", "authorities", "signers", "outside")
    return {"backup": str(chosen), "files": restored.files, "gap": GAP} | {name: manifest[name] for name in named}


def _possibly_missing(restored: Restored) -> list[str]:
    """What happened after the backup, and how to find it."""
    manifest, newest = restored.manifest, restored.manifest["newest_record"]
    lines = [f"whatever was done after {manifest['made_at']} is missing"]
    if newest:
        lines.append(f"the newest record is {newest['kind']} of {newest['at']}, number {newest['number']}")
    lines += [
        f"{one['prefecture']}: the newest lists are of {one['this_update']}, CRLNumber {one['newest_number']}"
        for one in manifest["authorities"]
    ]
    return [
        *lines,
        "later revocations are on the lists that were published: `prefca crl enter DIRECTORY` enters them again",
    ]


@click.command("verify-instance")
@click.option("--in-force", "is_quick", is_flag=True, help="Of all lists only those in force.")
@json_option
@click.pass_context
def verify_instance(context: click.Context, is_quick: bool, as_json: bool) -> None:
    """Prove that the installation is whole, as after a restoration; exit status 3 if it is not.

    Each key of the CA opens, signs, and is the one of its certificate; certificates chain; every list verifies, with
    its entries; no CRLNumber will come twice; OCSP delegates have their keys; journals are unbroken; files are there.
    """
    settings = settings_of(context)

    async def work(one: Settings) -> list[Checked]:
        async with opened(one) as installation:
            return [made async for made in check_authority(installation, now(), all_lists=not is_quick)]

    results, status = run(each(settings, work))
    results["installation"] = [check_files(settings), run(check_journals(settings))]
    if as_json:
        print_json({of: [_told(one) for one in made] for of, made in results.items()})
    else:
        for of, made in results.items():
            for one in made:
                click.echo(f"{of}: {one.what}: " + ("; ".join(one.findings) or f"{one.count} are right"))
    is_wrong = any(one.findings for made in results.values() for one in made)
    context.exit(max(status, REFUSED_STATUS if is_wrong else 0))


def _told(one: Checked) -> dict[str, object]:
    return {"what": one.what, "checked": one.count, "findings": list(one.findings)}


COMMANDS = (backup, restore, verify_instance)
