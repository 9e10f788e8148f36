"""`prefca ceremony`: several persons come together for operations, one after the other, and sign a record of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from issuer.cli.asking import means_for, print_facts
from issuer.cli.root import now, run, settings_of
from issuer.cli.secret_input import is_terminal, secret, typed
from issuer.errors import NotNowError, RefusedError
from issuer.installation import Installation, opened
from issuer.operations import agreement, consent
from issuer.operations.ceremony import Record, Room, as_html, as_markdown, obstacles, title
from issuer.operations.consent import Case, State
from issuer.operations.personal_key import opened_key
from issuer.rules.person import Operator
from issuer.rules.quorum import text as roles_text
from issuer.rules.request import words
from pkix.names import text
from pkix.signing import SigningError, sign
from pkix.software import write_secret
from settings.load import Settings


@dataclass(frozen=True, slots=True)
class _Ceremony:
    """What is to take place."""

    numbers: Sequence[int]
    place: str
    present: Sequence[str]
    witnesses: Sequence[str]
    is_rehearsal: bool
    share_files: Sequence[Path]
    began: datetime


@click.command("ceremony")
@click.argument("numbers", type=click.IntRange(1), nargs=-1, required=True)
@click.option("--place", required=True, help="Where it takes place, for the record.")
@click.option("--present", multiple=True, required=True, help="An operator who is there; repeat it for each.")
@click.option("--witness", "witnesses", multiple=True, help="Who else is there, by their full name.")
@click.option("--rehearse", "is_rehearsal", is_flag=True, help="With a CA of the test hierarchy.")
@click.option(
    "--share",
    "share_files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="To activate the key, a file; else you are asked.",
)
@click.option("--record", type=click.Path(file_okay=False, path_type=Path), required=True, help="The directory for it.")
@click.pass_context
def ceremony(
    context: click.Context,
    numbers: tuple[int, ...],
    place: str,
    present: tuple[str, ...],
    witnesses: tuple[str, ...],
    is_rehearsal: bool,
    share_files: tuple[Path, ...],
    record: Path,
) -> None:
    """Walk through operations NUMBERS, asked for before: who is there agrees, each is run, and all is recorded.

    What does not fit is told before anybody signs: the CA, its token, clocks, and persons who are missing. On a
    terminal each person is asked for their key; elsewhere they agree with `prefca operation approve`, and this is run
    again. Interrupted anywhere, it goes on where it was. The record (Markdown, HTML) is written at the end.
    """
    plan = _Ceremony(numbers, place, present, witnesses, is_rehearsal, share_files, now())
    made = run(_take_place(settings_of(context), plan))
    name = _unused(record, f"ceremony-{'-'.join(map(str, numbers))}")
    for ending, octets in ((".md", as_markdown(made)), (".html", as_html(made))):
        write_secret(record / f"{name}{ending}", octets.encode())
        click.echo(f"record: {record / f'{name}{ending}'}")


def _unused(directory: Path, name: str) -> str:
    """A record that was written, and perhaps signed, stays; another one is beside it."""
    names = chain([name], (f"{name}.{number}" for number in count(2)))
    return next(one for one in names if not any((directory / f"{one}{ending}").exists() for ending in (".md", ".html")))


async def _take_place(settings: Settings, plan: _Ceremony) -> Record:
    async with opened(settings) as installation:
        cases = [await agreement.find(installation, number) for number in plan.numbers]
        room = await _room(installation, plan)
        found = obstacles(room, [case for case in cases if not _is_over(case)])
        if found:
            raise RefusedError(f"the ceremony cannot begin: {'; '.join(found)}")
        for number in plan.numbers:
            await _walk(installation, number, plan, room.present)
        cases = [await agreement.find(installation, number) for number in plan.numbers]
    began = min([plan.began, *(one.at for case in cases for one in case.row.events)])
    return Record(
        *(title(plan.is_rehearsal), text(installation.authority.japanese_name), plan.place, began, now()),
        *(room.present, plan.witnesses, cases, plan.is_rehearsal),
    )


async def _room(installation: Installation, plan: _Ceremony) -> Room:
    moment, of_database = now(), await installation.operations.clock()
    known = {one.name: one for one in await agreement.operators(installation) if one.ended_at is None}
    generation = await installation.store.active_generation(installation.authority_id)
    key = x509.load_der_x509_certificate(generation.certificate).public_key() if generation else None
    signer = installation.settings.signer
    return Room(
        installation.authority.hierarchy != "test",
        plan.is_rehearsal,
        signer.kind,
        signer.activation_file is None,
        key.key_size if isinstance(key, rsa.RSAPublicKey) else None,
        moment - of_database,
        [known[name] for name in plan.present if name in known],
        [name for name in plan.present if name not in known],
    )


def _is_over(case: Case) -> bool:
    return case.state(now()) is State.DONE


async def _walk(installation: Installation, number: int, plan: _Ceremony, present: Sequence[Operator]) -> None:
    case = await agreement.find(installation, number)
    if _is_over(case):
        click.echo(f"{case.name} is done")
        return
    consent.require_open(case, now())
    for line in words(case.request):
        click.echo(line)
    while lacks := consent.lacking(case, now()):
        if not is_terminal():
            raise NotNowError(
                f"{roles_text(lacks)} have to agree to {case.name} (prefca operation approve {number});"
                " then run this again"
            )
        click.echo(f"{roles_text(lacks)} still have to agree")
        case = await _agree(installation, case, {one.name: one for one in present})
    facts = await agreement.run(installation, number, means_for(case.request.kind, plan.share_files))
    print_facts(facts, as_json=False)


async def _agree(installation: Installation, case: Case, present: dict[str, Operator]) -> Case:
    """One person comes to the terminal; whoever mistypes tries again."""
    who = present.get(typed("Who agrees (name)"))
    if who is None:
        click.echo("nobody of that name is here")
        return case
    try:
        file = Path(typed(f"Key file of {who.full_name}"))
        with opened_key(file, secret(None, "Its passphrase", "--passphrase-file")) as signer:
            signature = sign(signer, case.row.content)
        return await agreement.approve(installation, case.request.number, signature, (who, None), now())
    except (RefusedError, SigningError) as e:
        click.echo(str(e))
        return case


COMMANDS = (ceremony,)
