"""The file and the environment into one frozen `Settings`."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from settings.sections import (
    CASection,
    CRLSection,
    DatabaseSection,
    LogSection,
    OCSPSection,
    RepositorySection,
    SignerSection,
)

FILE_NAME: Final = "prefca.toml"
PREFIX: Final = "PREFCA_"
INSTANCE_VARIABLE: Final = "PREFCA_INSTANCE"


class ConfigurationError(Exception):
    """The configuration cannot be used; the message says which key, and what to write instead."""


class Settings(BaseModel):
    """The whole configuration of one installation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instance: Path  # the directory that holds everything: file, keys, database
    ca: CASection = CASection()
    signer: SignerSection = SignerSection()
    database: DatabaseSection = DatabaseSection()
    crl: CRLSection = CRLSection()
    ocsp: OCSPSection = OCSPSection()
    repository: RepositorySection = RepositorySection()
    log: LogSection = LogSection()

    @model_validator(mode="after")
    def _production_has_a_token(self) -> Self:
        if self.ca.hierarchy == "production" and self.signer.kind != "pkcs11":
            raise ValueError('`ca.hierarchy` "production" needs `signer.kind` "pkcs11": its key lives in an HSM')
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        taken: dict[tuple[str, int], str] = {}
        for key, endpoint in (
            ("ocsp.listen", self.ocsp.listen),
            ("ocsp.tls_listen", self.ocsp.tls_listen),
            ("ocsp.admin_listen", self.ocsp.admin_listen),
            ("repository.listen", self.repository.listen),
            ("repository.tls_listen", self.repository.tls_listen),
            ("repository.admin_listen", self.repository.admin_listen),
        ):
            if endpoint is None or endpoint.port == 0:
                continue
            if endpoint in taken:
                raise ValueError(f"`{key}` and `{taken[endpoint]}` are both {endpoint}; give each its own port")
            taken[endpoint] = key
        return self

    def path(self, relative: Path) -> Path:
        """A path of the configuration: relative ones are below the instance directory."""
        return self.instance / relative


def load(instance: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read `instance`/prefca.toml (which may be absent), then PREFCA_<SECTION>__<KEY> of the environment.

    Raises:
        ConfigurationError: an unknown key or variable, a value out of range, a contradiction, a broken file.
    """
    file = instance / FILE_NAME
    try:
        data = tomllib.loads(file.read_text()) if file.exists() else {}
        if "instance" in data:
            raise ConfigurationError(
                f"{file}: unknown key `instance`; the directory that holds the file is the instance"
            )
        _overlay(data, environment)
        return Settings.model_validate(data | {"instance": instance.resolve()})
    except ValidationError as e:
        raise ConfigurationError(f"{file}: {_plain(e)}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as e:
        raise ConfigurationError(f"{file}: {e}") from e


def _overlay(data: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Put the variables over what the file says."""
    sections = Settings.model_fields.keys() - {"instance"}
    for name, value in environment.items():
        if not name.startswith(PREFIX) or name == INSTANCE_VARIABLE:
            continue
        section, _, key = name.removeprefix(PREFIX).lower().partition("__")
        if section not in sections or not key:
            raise ConfigurationError(
                f"environment variable {name} sets nothing; write {PREFIX}<SECTION>__<KEY> with a section of "
                + ", ".join(sorted(sections))
            )
        table = data.setdefault(section, {})
        if isinstance(table, dict):  # if it is something else, the file's mistake is told first
            table[key] = value


def _plain(error: ValidationError) -> str:
    """All findings in one line, each with its key."""
    findings = []
    for finding in error.errors():
        key = ".".join(str(part) for part in finding["loc"])
        what = "unknown key" if finding["type"] == "extra_forbidden" else finding["msg"].removeprefix("Value error, ")
        findings.append(f"`{key}`: {what}" if key else what)
    return "; ".join(findings)
