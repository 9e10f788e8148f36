"""`prefca ceremony`: several persons come together for operations, one after the other, and sign a record of it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from issuer import ceremonies
from issuer.ceremonies import Plan
from issuer.cli.asking import means, means_for, print_facts
from issuer.cli.root import now, run, settings_of
from issuer.cli.secret_input import is_terminal, secret, typed
from issuer.errors import NotNowError, RefusedError
from issuer.installation import Installation, opened
from issuer.lists import batch
from issuer.operations import agreement, consent, policy
from issuer.operations.agreement import Order
from issuer.operations.ceremony import Room, Step, obstacles
from issuer.operations.ceremony_paper import Gathering, Paper, moment, record, script
from issuer.operations.consent import Case
from issuer.operations.personal_key import Card, opened_key
from issuer.rules.operation import OperationKind
from issuer.rules.person import Operator
from issuer.rules.quorum import text as roles_text
from issuer.rules.request import words
from issuer.schedule import Schedule
from issuer.signing.key_use import used_list_key
from pkix.names import text
from pkix.signing import SigningError, sign
from pkix.software import write_secret
from settings.load import Settings

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--place", required=True, help="Where it takes place, for the record."),
    click.option("--present", multiple=True, required=True, help="An operator who is there; repeat it for each."),
    click.option("--witness", "witnesses", multiple=True, help="Who else is there, by their full name."),
    click.option("--rehearse", "is_rehearsal", is_flag=True, help="Print the script, and what is in the way; no more."),
    click.option("--share", "share_files", type=_FILE, multiple=True, help="To activate the key; else you are asked."),
    click.option("--card-module", type=_FILE, help="The PKCS#11 library of cards that persons agree with."),
    click.option(
        "--record", "directory", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where it goes."
    ),
)


@dataclass(frozen=True, slots=True)
class _Held:
    """How a ceremony is held, by the options of each."""

    place: str
    present: Sequence[str]
    witnesses: Sequence[str]
    is_rehearsal: bool
    share_files: Sequence[Path]
    card_module: Path | None
    directory: Path


def _held(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of `_Held`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def ceremony() -> None:
    """Lead persons who come together through a ceremony (鍵セレモニー), and write its record (Markdown, HTML).

    What does not fit is told before anybody signs: settings, token, clocks, and persons who are missing. On a terminal
    each person is asked for their key; elsewhere they agree with `prefca operation approve`, and the same command is
    run again. Interrupted anywhere, it goes on where it was. --rehearse prints the script (手順書) and changes nothing.
    """


@ceremony.command()
@_held
@click.pass_context
def found(context: click.Context, /, **how: Any) -> None:  # noqa: ANN401 - the options of _Held
    """Make the CA's first key, its certificate and first lists."""
    _hold(context, _Held(**how), lambda installation: ceremonies.found(installation, now()))


@ceremony.command()
@_held
@click.pass_context
def renew(context: click.Context, /, **how: Any) -> None:  # noqa: ANN401 - the options of _Held
    """Make the CA's next key, with link certificates and OCSP delegates, and publish them."""
    _hold(context, _Held(**how), lambda installation: ceremonies.renew(installation, now()))


@ceremony.command()
@_held
@click.pass_context
def switch(context: click.Context, /, **how: Any) -> None:  # noqa: ANN401 - the options of _Held
    """Let the prepared key take over, and publish its first lists: `ca.link_lead_h` after `renew`."""
    _hold(context, _Held(**how), lambda installation: ceremonies.switch(installation, now()))


@ceremony.command()
@click.argument("case_id", metavar="CASE", type=click.IntRange(1))
@click.option("--valid-from", type=click.DateTime(["%Y-%m-%d"]), help="The day, in Japan.  [default: when signed]")
@click.option("--by", "person", required=True, help="The person who issues.")
@_held
@click.pass_context
def cross(context: click.Context, /, case_id: int, valid_from: datetime | None, person: str, **how: Any) -> None:  # noqa: ANN401 - the options of _Held
    """Certify the bridge's key, in a CASE of `prefca cross` whose connection test was passed."""
    by = (person, None if valid_from is None else valid_from.date())
    _hold(context, _Held(**how), lambda installation: ceremonies.cross(installation, now(), case_id, by))


@ceremony.command()
@click.argument("number", type=click.IntRange(1))
@_held
@click.pass_context
def destroy(context: click.Context, /, number: int, **how: Any) -> None:  # noqa: ANN401 - the options of _Held
    """Delete the private key NUMBER, which was replaced or compromised, for good."""
    _hold(context, _Held(**how), lambda installation: ceremonies.destroy(installation, now(), number))


@ceremony.command()
@click.argument("numbers", type=click.IntRange(1), nargs=-1, required=True)
@_held
@click.pass_context
def walk(context: click.Context, /, numbers: tuple[int, ...], **how: Any) -> None:  # noqa: ANN401 - the options of _Held
    """Walk through operations NUMBERS of any kind, which were asked for before."""
    _hold(context, _Held(**how), lambda installation: ceremonies.walk(installation, numbers))


def _hold(context: click.Context, held: _Held, plan: Callable[[Installation], Awaitable[Plan]]) -> None:
    taken = run(_take_place(settings_of(context), held, plan))
    if taken is None:
        return
    numbers, paper = taken
    name = _unused(held.directory, f"ceremony-{'-'.join(map(str, numbers))}")
    for ending, octets in ((".md", paper.markdown()), (".html", paper.html())):
        write_secret(held.directory / f"{name}{ending}", octets.encode())
        click.echo(f"record: {held.directory / f'{name}{ending}'}")


def _unused(directory: Path, name: str) -> str:
    """A record that was written, and perhaps signed, stays; another one is beside it."""
    names = chain([name], (f"{name}.{number}" for number in count(2)))
    return next(one for one in names if not any((directory / f"{one}{ending}").exists() for ending in (".md", ".html")))


async def _take_place(
    settings: Settings, held: _Held, plan: Callable[[Installation], Awaitable[Plan]]
) -> tuple[list[int], Paper] | None:
    """Hold it; the numbers of its operations, and its record; of a rehearsal there is none."""
    async with opened(settings) as installation:
        began, planned, room = now(), await plan(installation), await _room(installation, held)
        ca = text(installation.authority.japanese_name)
        gathering = Gathering(ca, room.is_production, held.place, room.present, held.witnesses)
        click.echo(script(gathering, planned.steps, began, publishes=planned.publishes).markdown())
        if found := [*obstacles(room, planned.steps), *planned.obstacles]:
            raise RefusedError(f"the ceremony cannot begin: {'; '.join(found)}")
        if held.is_rehearsal:
            return None
        cases = [await _walk(installation, step, held, room.present) for step in planned.steps]
        published = await _published(installation) if planned.publishes else {}
    began = min([began, *(one.at for case in cases for one in case.row.events)])
    return [case.request.number for case in cases], record(gathering, (began, now()), cases, published)


async def _room(installation: Installation, held: _Held) -> Room:
    at, of_database = now(), await installation.operations.clock()
    known = {one.name: one for one in await agreement.operators(installation) if one.ended_at is None}
    generation = await installation.store.active_generation(installation.authority_id)
    key = x509.load_der_x509_certificate(generation.certificate).public_key() if generation else None
    settings, agreed = installation.settings, policy.agreed(await agreement.cases(installation))
    return Room(
        is_production=installation.authority.hierarchy != "test",
        signer=settings.signer.kind,
        pin_in_file=settings.signer.activation_file is None,
        key_bits=key.key_size if isinstance(key, rsa.RSAPublicKey) else None,
        crl_hours=(settings.crl.period_h, settings.crl.validity_h),
        is_policy_agreed=agreed is None or agreed.request.parameters["settings_sha256"] == policy.digest(settings),
        clock_difference=at - of_database,
        present=[known[name] for name in held.present if name in known],
        unknown=[name for name in held.present if name not in known],
    )


async def _walk(installation: Installation, step: Step, held: _Held, present: Sequence[Operator]) -> Case:
    """One operation, to its end."""
    if step.case is not None and step.is_over:
        click.echo(f"{step.name} is done")
        return step.case
    case = step.case or await agreement.request(installation, Order(step.kind, step.parameters), means())
    consent.require_open(case, now())
    for line in words(case.request):
        click.echo(line)
    while lacks := consent.lacking(case, now()):
        if not is_terminal():
            raise NotNowError(
                f"{roles_text(lacks)} have to agree to {case.name} (prefca operation approve {case.request.number});"
                " then run this again"
            )
        click.echo(f"{roles_text(lacks)} still have to agree")
        case = await _agree(installation, case, {one.name: one for one in present}, held.card_module)
    shares = held.share_files if step.kind is OperationKind.ACTIVATE else ()
    print_facts(await agreement.run(installation, case.request.number, means_for(step.kind, shares)), as_json=False)
    return await agreement.find(installation, case.request.number)


async def _agree(
    installation: Installation, case: Case, present: Mapping[str, Operator], card_module: Path | None
) -> Case:
    """One person comes to the terminal; whoever mistypes tries again."""
    who = present.get(typed("Who agrees (name)"))
    if who is None:
        click.echo("nobody of that name is here")
        return case
    try:
        place = _place_of_key(who, card_module)
        what = "PIN" if isinstance(place, Card) else "passphrase"
        with opened_key(place, secret(None, f"Its {what}", "prefca operation approve")) as signer:
            signature = sign(signer, case.row.content)
        return await agreement.approve(installation, case.request.number, signature, (who, None), now())
    except (RefusedError, SigningError) as e:
        click.echo(str(e))
        return case


def _place_of_key(who: Operator, card_module: Path | None) -> Path | Card:
    if card_module is None:
        return Path(typed(f"Key file of {who.full_name}"))
    place = typed(f"Key file of {who.full_name} (or: card)")
    if place != "card":
        return Path(place)
    return Card(card_module, typed("Label of the card"), typed("Label of the key on it"))


async def _published(installation: Installation) -> dict[str, str]:
    """Lists at once, and what the record tells of them."""
    async with used_list_key(installation, "lists", now) as key:
        at = now()
        made = await batch.run(installation, key, at, next_publish=Schedule.of(installation.settings).next(at))
    click.echo(f"publication {made.publication_id} is in force: {made.lists} lists")
    return {
        "公開番号": str(made.publication_id),
        "失効リスト": f"{made.lists}件（失効情報 {made.entries}件）",
        "発行日時": moment(made.window.this_update),
        "有効期限": moment(made.window.next_update),
    }


COMMANDS = (ceremony,)
