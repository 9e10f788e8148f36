"""The group `prefca`: which instance, which of its CAs, and how errors end."""

import asyncio
import logging
import resource
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from issuer.cli.commands import Commands
from issuer.cli.on_record import on_record, works_on
from issuer.errors import IssuerError, NotNowError, RefusedError
from issuer.installation import database, require_database
from issuer.keys import RefusedPinError
from issuer.profiles.lint import LintError
from issuer.profiles.municipality import PREFECTURES
from issuer.watch.current import CurrentSettings
from pkix.signing import SigningError
from settings import log
from settings.load import CA_VARIABLE, INSTANCE_VARIABLE, ConfigurationError, Settings, load
from settings.sections import SignerSection

T = TypeVar("T")

BUG_STATUS: Final = 1
CONFIGURATION_STATUS: Final = 2
REFUSED_STATUS: Final = RefusedError.exit_status
NOT_NOW_STATUS: Final = NotNowError.exit_status
ALARM_STATUS: Final = 5  # of `status --check`
INTERRUPTED_STATUS: Final = 130

_STATUS: Final[dict[type[Exception], int]] = {
    ConfigurationError: CONFIGURATION_STATUS,
    SigningError: NOT_NOW_STATUS,
    LintError: REFUSED_STATUS,
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a command works on; no CA is each of the instance."""

    instance: Path = Path("instance")
    ca: str | None = None


# Behind a \b click leaves the lines as they are.
_HELP: Final = """A prefectural certification authority (都道府県単位認証局): issue, revoke, publish.

\b
A first round:
  prefca init                      set up a test CA of Tokyo in ./instance
  prefca issue notices.jsonl       issue what a municipality's notices ask for
  prefca revoke 5A…F1 --reason 1   revoke a certificate, for good
  prefca batch --now               publish one CRL for each municipality, and the ARL
  prefca up                        run the OCSP responder and the LDAP repository

\b
Exit status: 0 done, 1 a fault of prefca, 2 configuration or usage, 3 refused by a rule, 4 not now,
5 an alarm stands.
"""


@click.group(
    cls=Commands, help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option(
    "--instance",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("instance"),
    envvar=INSTANCE_VARIABLE,
    show_default=True,
    show_envvar=True,
    help="The directory that holds configuration, keys and database.",
)
@click.option(
    "--ca",
    type=click.Choice(sorted(PREFECTURES)),
    envvar=CA_VARIABLE,
    show_envvar=True,
    help="Whose CA, if the instance has several.",
)
@click.version_option(package_name="prefca")
@click.pass_context
def prefca(context: click.Context, instance: Path, ca: str | None) -> None:
    """Remember the target for the command that follows."""
    context.obj = Target(instance, ca)
    context.with_resource(on_record(context, now))


def target_of(context: click.Context) -> Target:
    """What the command works on."""
    return context.find_object(Target) or Target()


def settings_of(context: click.Context, *, quiet: bool = True) -> Settings:
    """The configuration that the command works with; logging is set up on the way.

    It is that of the CA which --ca names, else of all. A command for one CA reads `.ca` of it, which refuses when there
    are several. One that ends by itself tells its result, so it logs warnings and errors only.
    """
    settings = read_settings(context)
    log.set_up(settings.log, at_least="warning" if quiet else None)
    works_on(context, settings)
    return settings


def read_settings(context: click.Context) -> Settings:
    """The same as the file says now, and nothing is set up."""
    target = target_of(context)
    settings = load(target.instance)
    return settings if target.ca is None else settings.of(target.ca)


def current_settings(context: click.Context) -> CurrentSettings:
    """The same for a command that runs until it is told to stop, and takes up what changes meanwhile."""
    settings_of(context, quiet=False)  # logs from the beginning
    return CurrentSettings(partial(read_settings, context))


def is_one_of_several(context: click.Context) -> bool:
    """Does --ca name one, where there are others?"""
    target = target_of(context)
    return target.ca is not None and len(load(target.instance).cas) > 1


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part."""
    return asyncio.run(work)


async def each(settings: Settings, work: Callable[[Settings], Coroutine[Any, Any, T]]) -> tuple[dict[str, T], int]:
    """Do the work for each CA, one after the other: what fails for one is told, and still done for the others.

    Returns:
        The results by prefecture, of those that did not fail, and the worst exit status.

    Raises:
        Exception: whatever `work` raises, if there is one CA only.
    """
    if len(settings.cas) == 1:
        return {settings.ca.prefecture: await work(settings)}, 0
    results: dict[str, T] = {}
    refused: list[SignerSection] = []  # whose PIN is wrong: to send it again for the next CA may lock the token
    worst = 0
    require_database(settings)
    async with database(settings):  # started once for all
        for one in settings.each():
            if one.signer in refused:
                _complain(f"{one.ca.prefecture}: not tried, for its token refused the PIN; mend that first")
                continue
            try:
                results[one.ca.prefecture] = await work(one)
            except Exception as e:  # noqa: BLE001 - `_explained` tells what it is
                message, status = _explained(e)
                _complain(f"{one.ca.prefecture}: {message}")
                worst = max(worst, status)
                if isinstance(e, RefusedPinError):
                    refused.append(one.signer)
    return results, worst


def for_scripts(settings: Settings, results: Mapping[str, object]) -> object:
    """What `each` returned, as JSON: the result of a single CA as it is, several by their prefectures."""
    return results if len(settings.cas) > 1 else results[settings.ca.prefecture]


def now() -> datetime:
    """The one clock of all commands."""
    return datetime.now(UTC)


def main() -> None:
    """Run `prefca`. What a person can mend is one line on standard error, with its exit status."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # PINs, shares and keys are in memory; children inherit it
    try:
        sys.exit(prefca(prog_name="prefca", standalone_mode=False))  # the status of context.exit(), or None
    except click.ClickException as e:
        _misused(e)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted; what was not reported as done is not done", INTERRUPTED_STATUS)
    except Exception as e:  # noqa: BLE001 - the boundary
        _fail(*_explained(e))


def _explained(error: Exception) -> tuple[str, int]:
    """What to tell people, and the exit status; a fault of ours is logged with its traceback."""
    if isinstance(error, IssuerError):
        return str(error), error.exit_status
    for kind, status in _STATUS.items():
        if isinstance(error, kind):
            return str(error), status
    if isinstance(error, OSError):
        return f"{error.filename or 'input/output'}: {error.strerror or error}", BUG_STATUS
    logging.getLogger("prefca").error("unexpected_error", exc_info=error)
    return "a fault of prefca itself; please report it with the lines above", BUG_STATUS


def _misused(error: click.ClickException) -> None:
    """What click complains of, in one line; a group without a command shows its help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        sys.exit(error.exit_code)
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f" (`{context.command_path} --help` tells more)" if context else ""
    _fail(error.format_message().rstrip(".") + hint, error.exit_code)


def _fail(message: str, status: int) -> None:
    _complain(message)
    sys.exit(status)


def _complain(message: str) -> None:
    click.echo("prefca: " + " ".join(message.split()), err=True)
