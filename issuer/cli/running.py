"""`prefca sample` and `prefca up`: a CA to look at, and its servers."""

import json
import random
import secrets
import shlex
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Final
from urllib.parse import quote

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer.cli.credentials import give_network, give_password
from issuer.cli.output import progress
from issuer.cli.parties import AGREEMENT, bind_name, register
from issuer.cli.root import current_settings, each, now, run, settings_of
from issuer.errors import RefusedError
from issuer.installation import ActiveKey, Installation, configured_authority, opened, require_database
from issuer.lists import batch
from issuer.profiles.municipality import municipalities_of
from issuer.profiles.sample import sample_notices
from issuer.residents.registration import Issued, open_desk
from issuer.residents.registration import register as register_residents
from issuer.residents.revocation import RevocationOrder, revoke
from issuer.schedule import Schedule
from issuer.servers import service_ca
from issuer.signing.key_use import used_key
from issuer.watch import supervision
from pkix.names import text
from pkix.revocation import CRLReason
from pkix.software import write_secret
from pkix.validity import Validity
from settings.load import Settings, load

SAMPLE_PARTY: Final = "sample-verifier"
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
GOOD_LINE: Final = 1  # of the notices
REVOKED_LINE: Final = 2  # the first one
REVOKE_EVERY: Final = 5
PASSWORD_OCTETS: Final = 16


@click.command()
@click.option("--count", type=click.IntRange(2), default=70, show_default=True, help="How many residents.")
@click.pass_context
def sample(context: click.Context, count: int) -> None:
    """Fill a test CA with invented residents: issue, revoke every fifth, publish, register a relying party.

    What a visitor needs goes to <instance>/sample/: certificates, notices, a bind password; what is of a second CA goes
    to a directory of its name in there. Run again, it does nothing.
    """
    settings = settings_of(context)

    async def work(one: Settings) -> Path | None:
        directory = _sample_directory(one)
        if (directory / "README").exists():
            return None
        await _sample(one, directory, count)
        return directory

    made, status = run(each(settings, work))
    for directory in made.values():
        if directory is None:
            click.echo("the samples are there already")
        else:
            click.echo(f"{count} sample certificates are issued, every fifth revoked; see {directory}")
    context.exit(status)


def _sample_directory(settings: Settings) -> Path:
    """Where the samples of a CA are; the first CA of the file was the only one once, and has the plain name."""
    directory = settings.instance / "sample"
    is_first = settings.ca.prefecture == load(settings.instance).prefectures[0]
    return directory if is_first else directory / settings.ca.prefecture


async def _sample(settings: Settings, directory: Path, count: int) -> None:
    if settings.ca.hierarchy != "test":
        raise RefusedError("samples are for the test hierarchy only")
    require_database(settings)
    notices = _notices(settings, directory, count)
    async with opened(settings) as installation, used_key(installation, "sample", now) as key:
        desk = await open_desk(installation, key, now, secrets.token_bytes)
        with notices.open("rb") as lines:
            outcomes = [outcome async for batch_ in register_residents(desk, lines) for outcome in batch_]
        issued = {outcome.line: outcome for outcome in outcomes if isinstance(outcome, Issued)}
        _export(directory, key, issued)
        await _revoke_some(installation, issued)
        moment = now()
        await batch.run(installation, key, moment, next_publish=Schedule.of(settings).next(moment))
        await _register_party(installation)
    (directory / "README").write_text("Invented residents of a test CA. Nothing here is of use anywhere else.\n")


def _notices(settings: Settings, directory: Path, count: int) -> Path:
    """Invent residents and their keys. The keys' private halves are nobody's: they are forgotten here."""
    file = directory / "notices.jsonl"
    if file.exists():
        return file
    directory.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool, progress("keys") as bar:
        keys = bar.track(pool.map(lambda _: _public_key(), range(count)), total=count, description="making key pairs")
        invented = sample_notices(settings.ca.prefecture, count, random.Random(secrets.token_bytes(16)), keys)  # noqa: S311 - invents persons
        text = "".join(json.dumps(notice, ensure_ascii=False) + "\n" for notice in invented)
    write_secret(file, text.encode())
    return file


def _public_key() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def _revoke_some(installation: Installation, issued: dict[int, Issued]) -> None:
    for number, line in enumerate(range(REVOKED_LINE, max(issued) + 1, REVOKE_EVERY)):
        if (outcome := issued.get(line)) is None:  # a run before this one revoked it
            continue
        reason = list(CRLReason)[number % len(CRLReason)]
        order = RevocationOrder([outcome.serial], reason, now().replace(microsecond=0))
        await revoke(installation, order, now())


async def _register_party(installation: Installation) -> None:
    """A verifier that is recognised on this machine, and binds with a password."""
    if any(party.name == SAMPLE_PARTY for party in await installation.parties.relying_parties()):
        return
    password_file = installation.settings.instance / "sample" / "verifier.password"
    if not password_file.exists():
        write_secret(password_file, secrets.token_hex(PASSWORD_OCTETS).encode())
    async with installation.store.transaction():
        begin = now() - timedelta(minutes=1)
        agreed = Validity(begin, begin + 10 * AGREEMENT)
        party = await register(installation, SAMPLE_PARTY, "テスト用署名検証者", agreed, frozenset({"ocsp", "crl"}))
        await give_password(installation, party, SAMPLE_PARTY, password_file.read_text())
        for network in LOOPBACK:
            await give_network(installation, party, SAMPLE_PARTY, ip_network(network))


def _export(directory: Path, key: ActiveKey, issued: dict[int, Issued]) -> None:
    """The files that the printed examples use, before the revocation: what is revoked is not handed out again."""
    (directory / "ca.pem").write_bytes(key.issuer.certificate.public_bytes(Encoding.PEM))
    for name, line in (("good", GOOD_LINE), ("revoked", REVOKED_LINE)):
        if line in issued:
            certificate = x509.load_der_x509_certificate(issued[line].certificate)
            (directory / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))


@click.command()
@click.pass_context
def up(context: click.Context) -> None:
    """Run the OCSP responder and the LDAP repository, with the embedded PostgreSQL, until Ctrl-C."""
    current = current_settings(context)
    settings = current.settings
    require_database(settings)
    service_ca.ensure(settings.instance / "tls", ["localhost", "127.0.0.1", "::1"], now())
    run(supervision.supervise(current, now, lambda: click.echo(_what_to_try(settings))))


def _what_to_try(settings: Settings) -> str:
    """A table of what listens where, and lines to paste: they work as they are."""
    ldap = f"ldap://{settings.repository.listen}"
    listening = [
        ("OCSP", f"http://{settings.ocsp.listen}/"),
        *([("OCSP", f"https://{settings.ocsp.tls_listen}/")] if settings.ocsp.tls_listen else ()),
        ("LDAP", f"{ldap}/ (StartTLS)"),
        *([("LDAPS", f"ldaps://{settings.repository.tls_listen}/")] if settings.repository.tls_listen else ()),
    ]
    return "\n".join(
        [
            "",
            *(_is_up(one) for one in settings.each()),
            *(f"  {what:<6}{where}" for what, where in listening),
            *(line for one in settings.each() for line in _lines_to_paste(one)),
            "",
            "Ctrl-C stops everything.",
        ]
    )


def _is_up(settings: Settings) -> str:
    authority = configured_authority(settings)
    return f"{authority.hierarchy} CA of {settings.ca.prefecture} is up: {text(authority.name)}"


def _lines_to_paste(settings: Settings) -> list[str]:
    """What to ask about one CA."""
    authority, samples = configured_authority(settings), _sample_directory(settings)
    ldap, tls = f"ldap://{settings.repository.listen}", settings.instance / "tls"
    municipality = authority.distribution_point(municipalities_of(settings.ca.prefecture)[0])
    ocsp_line = (
        f"openssl ocsp -issuer {samples}/ca.pem -CAfile {samples}/ca.pem -url http://{settings.ocsp.listen}/"
        f" -cert {samples}"
    )
    bound = f"LDAPTLS_CACERT={tls}/service-ca.pem ldapsearch -x -ZZ -LLL -H {ldap}"
    sample_lines = [
        "",
        "A certificate that is good, and one that was revoked:",
        f"  {ocsp_line}/good.pem",
        f"  {ocsp_line}/revoked.pem",
        "A municipality's CRL, for a relying party that binds:",
        f"  {bound} -D {shlex.quote(bind_name(SAMPLE_PARTY))} -y {settings.instance}/sample/verifier.password"
        f" -b {shlex.quote(text(municipality))} -s base certificateRevocationList",
    ]
    return [
        *(sample_lines if (samples / "README").exists() else ()),
        "The CA certificate and the ARL, for everybody:",
        f"  ldapsearch -x -LLL -H {ldap} -b {shlex.quote(text(authority.name))} -s base",
        f"  curl -s '{ldap}/{quote(text(authority.name), safe='=,')}?cACertificate,authorityRevocationList?base'",
    ]


COMMANDS = (sample, up)
