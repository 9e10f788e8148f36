"""`prefca ocsp-delegate`: whose keys sign the responder's answers."""

from collections.abc import Sequence
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from issuer.cli.asking import ask
from issuer.cli.output import json_option, print_json, print_table
from issuer.cli.root import now, run, settings_of
from issuer.generations import delegates_ahead
from issuer.installation import opened
from issuer.keys import KeyAlgorithm
from issuer.records.rows import DelegateRow
from issuer.rules.operation import OperationKind, Parameters
from issuer.servers import delegate
from pkix.signing import SigningError
from settings.load import Settings


@click.group("ocsp-delegate")
def ocsp_delegate() -> None:
    """Certify keys that sign the responder's answers, for a year each. Make the next one a month before the end.

    A running responder takes over a new delegate by itself, and the newest signs. `prefca revoke` ends one at once.
    """


@ocsp_delegate.command()
@click.option(
    "--algorithm",
    type=click.Choice([each.value for each in KeyAlgorithm]),
    help="Kind of key to make; P-256 signs many times faster, but old clients know RSA only.  [default: rsa2048]",
)
@click.option(
    "--csr",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certify the key of this PKCS #10 request, which is elsewhere, instead of a new one.",
)
@click.option(
    "--ahead",
    is_flag=True,
    help="Those of the years until the last certificates of the CA's key end, and the first of the key prepared next.",
)
@click.option(
    "--key", "number", type=click.IntRange(1), help="With --ahead, of this key.  [default: the one that signs]"
)
@json_option
@click.pass_context
def create(
    context: click.Context, algorithm: str | None, csr: Path | None, ahead: bool, number: int | None, as_json: bool
) -> None:
    """Certify a delegate.

    Its key is made where the responder looks for it: in `ocsp.key_directory`, or in the token of `ocsp.pkcs11_token`.
    """
    if csr is not None and (algorithm is not None or ahead):
        raise click.UsageError("--algorithm and --ahead go with new keys, --csr brings one; leave one of them out")
    if number is not None and not ahead:
        raise click.UsageError("--key goes with --ahead")
    if ahead:
        kind = algorithm or KeyAlgorithm.RSA_2048.value
        parameters = run(_ahead(settings_of(context), number, kind))
        ask(context, OperationKind.DELEGATES_AHEAD, parameters, as_json=as_json)
        return
    asked = delegate.requested_key(csr.read_bytes()) if csr else KeyAlgorithm(algorithm or KeyAlgorithm.RSA_2048)
    ask(context, OperationKind.OPERATIONS_CERTIFICATE, delegate.asked_for(asked), as_json=as_json)


async def _ahead(settings: Settings, number: int | None, algorithm: str) -> Parameters:
    async with opened(settings) as installation:
        return await delegates_ahead.asked_for(installation, number, algorithm, now())


@ocsp_delegate.command("list")
@json_option
@click.pass_context
def list_command(context: click.Context, as_json: bool) -> None:
    """Show all delegates, the newest first, and where the responder looks for their keys."""
    settings = settings_of(context)
    rows = _rows(settings, run(_delegates(settings)))
    if as_json:
        print_json(rows)
        return
    columns = ["serial", "CA key", "algorithm", "not before", "not after", "revoked", "key"]
    print_table(columns, [["" if cell is None else cell for cell in row.values()] for row in rows])


async def _delegates(settings: Settings) -> list[DelegateRow]:
    async with opened(settings) as installation:
        return await installation.store.delegates(installation.authority_id)


def _rows(settings: Settings, delegates: Sequence[DelegateRow]) -> list[dict[str, object]]:
    try:
        found = delegate.has_keys(settings, [one.certificate.serial for one in delegates])
    except SigningError as e:
        click.echo(f"where the keys are is not known: {e}", err=True)
        found = {}
    return [_row(settings, one, has_key=found.get(one.certificate.serial)) for one in delegates]


def _row(settings: Settings, one: DelegateRow, *, has_key: bool | None) -> dict[str, object]:
    serial, revoked = one.certificate.serial, one.certificate.revoked
    certificate = x509.load_der_x509_certificate(one.certificate.der)
    is_rsa = isinstance(certificate.public_key(), rsa.RSAPublicKey)
    return {
        "serial": f"{serial:016X}",
        "generation": one.generation,
        "algorithm": KeyAlgorithm.RSA_2048 if is_rsa else KeyAlgorithm.P256,
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
        "revoked_at": revoked.at if revoked else None,
        "key": {True: delegate.place(settings, serial), False: "not here", None: None}[has_key],
    }


COMMANDS = (ocsp_delegate,)
