"""What only a person or a file knows: asked without echo. Never an argument, for those everybody can see."""

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from issuer.errors import RefusedError
from issuer.rules.shares import parse


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


def entered_shares(files: Sequence[Path]) -> tuple[str, ...]:
    """Shares of a PIN: from files, else asked for one after the other until somebody enters nothing.

    Raises:
        RefusedError: a file cannot be used, or there is no terminal.
    """
    if files:
        return tuple(secret(file, "Share", "--share") for file in files)
    found: list[str] = []
    while typed := secret(None, f"Share {len(found) + 1} (nothing: that was the last)", "--share"):
        parse(typed)  # so that whoever mistyped it is still here
        found.append(typed)
    return tuple(found)


def is_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def typed(prompt: str) -> str:
    """A line that everybody may see."""
    return str(click.prompt(prompt))


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
