"""What `prefca init` writes into prefca.toml.

At first what was chosen, and what else can be set, as comments; later another CA. By then the file is its operator's:
comments, order and layout stay. TOML has several ways to say one thing, and only the usual one is edited; for any other
the operator is told what to write.
"""

import json
import os
import re
import stat
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from issuer.errors import RefusedError
from pkix.software import write_secret
from settings.load import FILE_NAME, Settings, load, parse

_CA: Final = re.compile(r"^[ \t]*\[[ \t]*ca[ \t]*\]", re.MULTILINE)
_OF_A_CA: Final = re.compile(r"^[ \t]*\[\[?[ \t]*ca[ \t]*[.\]]", re.MULTILINE)  # [[ca]], [ca.signer]
_NEXT_TABLE: Final = re.compile(r"^(?:[ \t]*#.*\n)*[ \t]*\[", re.MULTILINE)  # with the comment above it

_TEMPLATE = """\
# Configuration of one prefca installation. Every key can also be set in the environment, as PREFCA_<SECTION>__<KEY>.
# Lines that begin with "#" show the defaults. An unknown key stops every program.

[ca]
prefecture = {prefecture}
hierarchy = {hierarchy}              # "test": test policy OIDs, and "Test" in every name of the CA

[signer]
{signer}

[database]
{dsn}

[crl]
# period_h = 24                     # to the next regular lists
# validity_h = 72                   # to nextUpdate: after it relying parties reject a list

[schedule]
# daily_at = "00:00"                # by the clock of Japan: when lists are published
# cut_off = ""                      # what was received by then is on them; "" is daily_at

[scheduler]
# webhook = ""                      # where alarms are posted, as JSON: "https://…"

[ocsp]
# listen = "127.0.0.1:2560"
# tls_listen = "127.0.0.1:2562"     # HTTPS; "" switches it off
# response_validity_s = 300

[repository]
# listen = "127.0.0.1:3890"         # LDAP with StartTLS
# tls_listen = "127.0.0.1:6360"     # LDAPS

[log]
# level = "info"
# format = "text"                   # or "json"
"""


@dataclass(frozen=True, slots=True)
class Choices:
    """What `prefca init` was told; None is the default."""

    prefecture: str | None = None
    hierarchy: str | None = None
    signer: str | None = None
    module: Path | None = None
    token: str | None = None
    pin_file: Path | None = None
    dsn: str | None = None
    activation_file: Path | None = None


def write_configuration(file: Path, choices: Choices) -> None:
    """Write `file`, readable by its owner only.

    Raises:
        RefusedError: the choices contradict each other.
    """
    text = _TEMPLATE.format(
        prefecture=_quoted(choices.prefecture or "Tokyo-to"),
        hierarchy=_quoted(choices.hierarchy or "test"),
        signer=_signer(choices, "secrets/ca-key.passphrase"),
        dsn='# dsn = "postgresql://host/prefca"  # without it, prefca runs a PostgreSQL of its own in this directory'
        if choices.dsn is None
        else f"dsn = {_quoted(choices.dsn)}",
    )
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_secret(file, text.encode())


def add_ca(instance: Path, choices: Choices) -> None:
    """Add the CA of `choices.prefecture` to the configuration of an instance; without a signer it has the others' one.

    Raises:
        RefusedError: the choices contradict the file or each other, or the file is not of the usual form.
        ConfigurationError: such a CA cannot be, or something was wrong before.
    """
    before, file = load(instance), instance / FILE_NAME
    check_choices(Choices(dsn=choices.dsn), before.each()[0])
    text, table = file.read_text(), _ca_table(choices)
    if _OF_A_CA.search(text):
        added = _with_table(text, table)
        after = parse(added, instance)
        if all(after.of(prefecture) == before.of(prefecture) for prefecture in before.prefectures):
            _replace(file.resolve(), added)
            return
    raise RefusedError(
        f"{file} is not of the form that can be added to; write one [[ca]] table there for each CA, for this one"
        f" {' '.join(table.split())}, and run the command again"
    )


def _ca_table(choices: Choices) -> str:
    lines = ["[[ca]]", f"prefecture = {_quoted(choices.prefecture)}"]
    lines.append(f"hierarchy = {_quoted(choices.hierarchy or 'test')}")
    if choices.signer or choices.module or choices.token or choices.pin_file or choices.activation_file:
        lines += ["[ca.signer]", _signer(choices, f"secrets/{choices.prefecture}-key.passphrase".lower())]
    return "\n".join(lines)


def _with_table(text: str, table: str) -> str:
    """The text with the table behind those of the other CAs."""
    text = _CA.sub("[[ca]]", text)
    *_, last = _OF_A_CA.finditer(text)
    behind = _NEXT_TABLE.search(text, last.end())
    place = behind.start() if behind else len(text)
    return f"{text[:place].rstrip()}\n\n{table}\n\n{text[place:]}".rstrip("\n") + "\n"


def _replace(file: Path, text: str) -> None:
    """Put another text in place of the one before, in one step, with the same owner and mode."""
    before, unfinished = file.stat(), file.with_name(f"{file.name}.new")
    unfinished.unlink(missing_ok=True)
    write_secret(unfinished, text.encode())
    os.chown(unfinished, before.st_uid, before.st_gid)
    unfinished.chmod(stat.S_IMODE(before.st_mode))
    unfinished.replace(file)


def check_choices(choices: Choices, settings: Settings) -> None:
    """What is chosen again must be what the configuration says: a set-up that was interrupted is simply repeated.

    Raises:
        RefusedError: one choice differs.
    """
    signer = settings.signer
    configured = Choices(
        settings.ca.prefecture,
        settings.ca.hierarchy,
        signer.kind,
        signer.module,
        signer.token,
        settings.path(signer.pin_file) if signer.pin_file else None,
        settings.database.dsn,
        settings.path(signer.activation_file) if signer.activation_file else None,
    )
    for field in fields(Choices):
        chosen, found = getattr(choices, field.name), getattr(configured, field.name)
        if chosen is not None and (chosen.absolute() if isinstance(chosen, Path) else chosen) != found:
            raise RefusedError(
                f"--{field.name.replace('_', '-')} contradicts {settings.instance / FILE_NAME};"
                " leave the option out, or edit that file"
            )


def _signer(choices: Choices, passphrase_file: str) -> str:
    if (choices.signer or "software") == "software":
        if choices.module or choices.token or choices.pin_file or choices.activation_file:
            raise RefusedError("--module, --token, --pin-file and --activation-file go with --signer pkcs11")
        return f'kind = "software"\npassphrase_file = {_quoted(passphrase_file)}'
    if choices.module is None or choices.token is None:
        raise RefusedError("--signer pkcs11 needs --module (the library of the token) and --token (its label)")
    lines = ['kind = "pkcs11"', f"module = {_quoted(choices.module.absolute())}", f"token = {_quoted(choices.token)}"]
    if choices.pin_file is not None:
        lines.append(f"pin_file = {_quoted(choices.pin_file.absolute())}")
    if choices.activation_file is not None:
        lines.append(f"activation_file = {_quoted(choices.activation_file.absolute())}")
    return "\n".join(lines)


def _quoted(value: object) -> str:
    """A TOML basic string: JSON's escapes are a subset of TOML's."""
    return json.dumps(str(value), ensure_ascii=False)
