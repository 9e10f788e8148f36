"""The first prefca.toml of an instance: what was chosen, and what else can be set, as comments."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from issuer.errors import RefusedError
from pkix.software import write_secret
from settings.load import FILE_NAME, Settings

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


def write_configuration(file: Path, choices: Choices) -> None:
    """Write `file`, readable by its owner only.

    Raises:
        RefusedError: the choices contradict each other.
    """
    text = _TEMPLATE.format(
        prefecture=_quoted(choices.prefecture or "Tokyo-to"),
        hierarchy=_quoted(choices.hierarchy or "test"),
        signer=_signer(choices),
        dsn='# dsn = "postgresql://host/prefca"  # without it, prefca runs a PostgreSQL of its own in this directory'
        if choices.dsn is None
        else f"dsn = {_quoted(choices.dsn)}",
    )
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_secret(file, text.encode())


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
    )
    for field in fields(Choices):
        chosen, found = getattr(choices, field.name), getattr(configured, field.name)
        if chosen is not None and (chosen.absolute() if isinstance(chosen, Path) else chosen) != found:
            raise RefusedError(
                f"--{field.name.replace('_', '-')} contradicts {settings.instance / FILE_NAME};"
                " leave the option out, or edit that file"
            )


def _signer(choices: Choices) -> str:
    if (choices.signer or "software") == "software":
        if choices.module or choices.token or choices.pin_file:
            raise RefusedError("--module, --token and --pin-file go with --signer pkcs11")
        return 'kind = "software"\npassphrase_file = "secrets/ca-key.passphrase"'
    if choices.module is None or choices.token is None:
        raise RefusedError("--signer pkcs11 needs --module (the library of the token) and --token (its label)")
    lines = ['kind = "pkcs11"', f"module = {_quoted(choices.module.absolute())}", f"token = {_quoted(choices.token)}"]
    if choices.pin_file is not None:
        lines.append(f"pin_file = {_quoted(choices.pin_file.absolute())}")
    return "\n".join(lines)


def _quoted(value: object) -> str:
    """A TOML basic string: JSON's escapes are a subset of TOML's."""
    return json.dumps(str(value), ensure_ascii=False)
