"""`prefca operations-certificate`: certificates of servers whose keys are elsewhere."""

from pathlib import Path

import click

from issuer.cli.asking import ask
from issuer.cli.certificates import print_certificates
from issuer.cli.output import json_option
from issuer.cli.reading import file_argument, read
from issuer.profiles.authority import Kind
from issuer.profiles.certification_request import MAX_REQUEST_OCTETS
from issuer.rules.operation import OperationKind
from issuer.servers import operations_certificate


@click.group("operations-certificate")
def operations_certificate_group() -> None:
    """Certify the server that validates officials' certificates (官職証明書検証サーバ), for a year each time.

    Renew a month before the end. `prefca revoke` ends a certificate; `prefca export certificate` writes it to a file.
    """


@operations_certificate_group.command("create")
@click.option("--for", "server", type=click.Choice([Kind.CVS.value]), required=True, help="Which server.")
@click.option("--csr", type=file_argument, required=True, help="Its PKCS #10 request; the key stays where it is.")
@json_option
@click.pass_context
def create(context: click.Context, server: str, csr: Path, as_json: bool) -> None:  # noqa: ARG001 - one server so far
    """Certify the key of a request."""
    parameters = operations_certificate.parameters(read(csr, MAX_REQUEST_OCTETS))
    ask(context, OperationKind.OPERATIONS_CERTIFICATE, parameters, as_json=as_json)


@operations_certificate_group.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, the newest first.")
@json_option
@click.pass_context
def list_command(context: click.Context, limit: int, as_json: bool) -> None:
    """List the newest of them with their status."""
    print_certificates(context, Kind.CVS, limit, as_json=as_json)


COMMANDS = (operations_certificate_group,)
