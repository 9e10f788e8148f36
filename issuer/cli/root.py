"""The group `prefca`: which instance, and how errors end."""

import asyncio
import logging
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from issuer.errors import IssuerError, NotNowError, RefusedError
from issuer.lint import LintError
from pkix.signing import SigningError
from settings import log
from settings.load import INSTANCE_VARIABLE, ConfigurationError, Settings, load

T = TypeVar("T")

BUG_STATUS: Final = 1
CONFIGURATION_STATUS: Final = 2
REFUSED_STATUS: Final = RefusedError.exit_status
NOT_NOW_STATUS: Final = NotNowError.exit_status
INTERRUPTED_STATUS: Final = 130

_STATUS: Final[dict[type[Exception], int]] = {
    ConfigurationError: CONFIGURATION_STATUS,
    SigningError: NOT_NOW_STATUS,
    LintError: REFUSED_STATUS,
}


# Behind a \b click leaves the lines as they are.
_HELP: Final = """A prefectural certification authority (都道府県単位認証局): issue, revoke, publish.

\b
A first round:
  prefca init                      set up a test CA of Tokyo in ./instance
  prefca issue notices.jsonl       issue what a municipality's notices ask for
  prefca revoke 5A…F1 --reason 1   revoke a certificate, for good
  prefca batch                     publish one CRL for each municipality, and the ARL
  prefca up                        run the OCSP responder and the LDAP repository

\b
Exit status: 0 done, 1 a fault of prefca, 2 configuration or usage, 3 refused by a rule, 4 not now.
"""


@click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--instance",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("instance"),
    envvar=INSTANCE_VARIABLE,
    show_default=True,
    show_envvar=True,
    help="The directory that holds configuration, keys and database.",
)
@click.version_option(package_name="prefca")
@click.pass_context
def prefca(context: click.Context, instance: Path) -> None:
    """Remember the instance for the command that follows."""
    context.obj = instance


def settings_of(context: click.Context, *, quiet: bool = True) -> Settings:
    """The configuration of the instance that the command works on; logging is set up on the way.

    A command that ends by itself tells its result, so it logs warnings and errors only.
    """
    settings = load(context.find_object(Path) or Path("instance"))
    log.set_up(settings.log, at_least="warning" if quiet else None)
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part."""
    return asyncio.run(work)


def now() -> datetime:
    """The one clock of all commands."""
    return datetime.now(UTC)


def main() -> None:
    """Run `prefca`. What a person can mend is one line on standard error, with its exit status."""
    try:
        sys.exit(prefca(prog_name="prefca", standalone_mode=False))  # the status of context.exit(), or None
    except click.ClickException as e:
        _misused(e)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted; what was not reported as done is not done", INTERRUPTED_STATUS)
    except IssuerError as e:
        _fail(str(e), e.exit_status)
    except tuple(_STATUS) as e:
        _fail(str(e), next(status for kind, status in _STATUS.items() if isinstance(e, kind)))
    except OSError as e:
        _fail(f"{e.filename or 'input/output'}: {e.strerror or e}", BUG_STATUS)
    except Exception:
        logging.getLogger("prefca").exception("unexpected_error")
        _fail("a fault of prefca itself; please report it with the lines above", BUG_STATUS)


def _misused(error: click.ClickException) -> None:
    """What click complains of, in one line; a group without a command shows its help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        sys.exit(error.exit_code)
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f" (`{context.command_path} --help` tells more)" if context else ""
    _fail(error.format_message().rstrip(".") + hint, error.exit_code)


def _fail(message: str, status: int) -> None:
    click.echo("prefca: " + " ".join(message.split()), err=True)
    sys.exit(status)
