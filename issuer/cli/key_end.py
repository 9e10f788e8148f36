"""`prefca key check`, `back-up`, `destroy`: whether the key can be used, its copies, its end."""

from pathlib import Path

import click

from issuer.cli.asking import ask
from issuer.cli.output import json_option, print_json
from issuer.cli.root import now, run, settings_of
from issuer.errors import RefusedError
from issuer.generations.key_end import destruction, recipients_of
from issuer.installation import opened
from issuer.rules.operation import OperationKind, Parameters
from issuer.signing import key_probe
from settings.load import Settings


@click.command()
@json_option
@click.pass_context
def check(context: click.Context, as_json: bool) -> None:
    """See whether the key can be used, and is the right one. The scheduler does so all the time (`ca_key_away`)."""
    run(_check(settings_of(context)))
    if as_json:
        print_json({"usable": True})
    else:
        click.echo("the key can be used")


async def _check(settings: Settings) -> None:
    async with opened(settings) as installation:
        await key_probe.probe(installation, now())


@click.command("back-up")
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--recipient",
    "recipients",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificate of a person (PEM, RSA), twice or more: all of them together open the copy.",
)
@click.option(
    "--files",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The directory of the token's files, where it has some.  [default: key files of the instance]",
)
@json_option
@click.pass_context
def back_up(
    context: click.Context, target: Path, recipients: tuple[Path, ...], source: Path | None, as_json: bool
) -> None:
    """Copy the CA's key, encrypted, to TARGET (R-6-2-1-4). An HSM without files has a tool of its own for that.

    It is opened with `openssl cms -decrypt`, by the last recipient first; see docs/recovery.md.
    """
    settings = settings_of(context)
    pem = "".join(file.read_text() for file in recipients)
    recipients_of(pem)
    if source is None and settings.signer.kind != "software":
        raise RefusedError("the key is in a token: name the directory of its files, --files, or use the token's tool")
    parameters: Parameters = {
        "source": str((source or settings.instance / "keys" / "ca").absolute()),
        "target": str(target.absolute()),
        "recipients": pem,
    }
    ask(context, OperationKind.BACK_UP_KEY, parameters, as_json=as_json)


@click.command()
@click.argument("number", type=click.IntRange(1))
@json_option
@click.pass_context
def destroy(context: click.Context, number: int, as_json: bool) -> None:
    """Delete the private key NUMBER, which was replaced or compromised, where it is; for good (R-6-2-1-9).

    Its certificate stays, and so does what it signed. Copies of it are destroyed by those who keep them.
    """
    ask(context, OperationKind.DESTROY_KEY, run(_parameters(settings_of(context), number)), as_json=as_json)


async def _parameters(settings: Settings, number: int) -> Parameters:
    async with opened(settings) as installation:
        return await destruction(installation, number)
