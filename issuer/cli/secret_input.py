"""What only a person or a file knows: asked without echo. Never an argument, for those everybody can see."""

import getpass
import sys
from pathlib import Path

import click

from issuer.errors import RefusedError


def secret(file: Path | None, prompt: str, option: str) -> str:
    """A passphrase, PIN or share: the first line of `file`, else asked on the terminal.

    Raises:
        RefusedError: the file cannot be used, or there is no terminal.
    """
    if file is not None:
        try:
            return file.read_text().rstrip("\n")
        except (OSError, UnicodeDecodeError) as e:
            raise RefusedError(f"{file}: {e}; name a text file with {option}") from e
    if not sys.stdin.isatty():
        raise RefusedError(f"{prompt}: give it in a file with {option}, or run this on a terminal to be asked")
    return getpass.getpass(f"{prompt}: ")


def agreed(question: str, *, is_given: bool) -> bool:
    """Whether the person says yes.

    Raises:
        RefusedError: there is nobody to ask.
    """
    if is_given:
        return True
    if not sys.stdin.isatty():
        raise RefusedError("there is no terminal to ask you on; add --yes if you agree")
    return click.confirm(question)
