"""The file and the environment into one frozen `Settings`."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from settings.sections import (
    ArchiveSection,
    CASection,
    CRLSection,
    DatabaseSection,
    JournalSection,
    LogSection,
    OCSPSection,
    OperationsSection,
    RepositorySection,
    SchedulerSection,
    ScheduleSection,
    SignerSection,
)

FILE_NAME: Final = "prefca.toml"
PREFIX: Final = "PREFCA_"
INSTANCE_VARIABLE: Final = "PREFCA_INSTANCE"
CA_VARIABLE: Final = "PREFCA_CA"

_Key = tuple[str, str]  # section and key


class ConfigurationError(Exception):
    """The configuration cannot be used; the message says which key, and what to write instead."""


def _tables(value: object) -> object:
    """`[ca]` is one table, `[[ca]]` several."""
    return value if isinstance(value, list | tuple) else (value,)


class Settings(BaseModel):
    """The whole configuration of one installation; `of` narrows it to one of its CAs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instance: Path  # the directory that holds everything: file, keys, database
    cas: Annotated[tuple[CASection, ...], BeforeValidator(_tables)] = Field((CASection(),), alias="ca", min_length=1)
    signer: SignerSection = SignerSection()
    database: DatabaseSection = DatabaseSection()
    crl: CRLSection = CRLSection()
    schedule: ScheduleSection = ScheduleSection()
    ocsp: OCSPSection = OCSPSection()
    repository: RepositorySection = RepositorySection()
    scheduler: SchedulerSection = SchedulerSection()
    journal: JournalSection = JournalSection()
    archive: ArchiveSection = ArchiveSection()
    operations: OperationsSection = OperationsSection()
    log: LogSection = LogSection()

    @model_validator(mode="after")
    def _production_has_a_token(self) -> Self:
        for ca in self.cas:
            if ca.hierarchy == "production" and (ca.signer or self.signer).kind != "pkcs11":
                raise ValueError('`ca.hierarchy` "production" needs `signer.kind` "pkcs11": its key lives in an HSM')
        return self

    @model_validator(mode="after")
    def _one_ca_for_a_prefecture(self) -> Self:
        if len(set(self.prefectures)) < len(self.cas):
            raise ValueError("two `[[ca]]` are of one prefecture; leave one out")
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
            ("scheduler.admin_listen", self.scheduler.admin_listen),
        ):
            if endpoint is None or endpoint.port == 0:
                continue
            if endpoint in taken:
                raise ValueError(f"`{key}` and `{taken[endpoint]}` are both {endpoint}; give each its own port")
            taken[endpoint] = key
        return self

    @property
    def prefectures(self) -> tuple[str, ...]:
        """Whose CAs there are."""
        return tuple(ca.prefecture for ca in self.cas)

    @property
    def ca(self) -> CASection:
        """The one CA of these settings.

        Raises:
            ConfigurationError: there are several, and nobody said which.
        """
        if len(self.cas) > 1:
            raise ConfigurationError(f"there are several CAs here; say which with --ca {' or '.join(self.prefectures)}")
        return self.cas[0]

    def of(self, prefecture: str) -> Self:
        """The same for the CA of one prefecture: its own tables are in the place of the installation's.

        Raises:
            ConfigurationError: there is no such CA.
        """
        ca = next((ca for ca in self.cas if ca.prefecture == prefecture), None)
        if ca is None:
            raise ConfigurationError(
                f"there is no CA of {prefecture} in {self.instance / FILE_NAME}; take {' or '.join(self.prefectures)}"
            )
        own = {"signer": ca.signer, "crl": ca.crl, "schedule": ca.schedule}
        return self.model_copy(update={"cas": (ca,)} | {name: table for name, table in own.items() if table})

    def each(self) -> list[Self]:
        """The settings of every CA."""
        return [self.of(prefecture) for prefecture in self.prefectures]

    def path(self, relative: Path) -> Path:
        """A path of the configuration: relative ones are below the instance directory."""
        return self.instance / relative


def load(instance: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read `instance`/prefca.toml (which may be absent), then PREFCA_<SECTION>__<KEY> of the environment.

    Returns:
        Settings of all CAs; of one CA if there is one only.

    Raises:
        ConfigurationError: an unknown key or variable, a value out of range, a contradiction, a broken file.
    """
    file = instance / FILE_NAME
    try:
        text = file.read_text() if file.exists() else ""
    except OSError as e:
        raise ConfigurationError(f"{file}: cannot be read ({e.strerror}); mend that, or correct --instance") from e
    except UnicodeDecodeError as e:
        raise ConfigurationError(f"{file}: {e}") from e
    return parse(text, instance, environment)


def parse(text: str, instance: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """The same for a file that says `text`."""
    file = instance / FILE_NAME
    data: dict[str, Any] = {}
    variables: Mapping[_Key, str] = {}
    try:
        data = tomllib.loads(text)
        if "instance" in data:
            raise ConfigurationError(
                f"{file}: unknown key `instance`; the directory that holds the file is the instance"
            )
        variables = _overlay(data, environment)
        settings = Settings.model_validate(data | {"instance": instance.resolve()})
    except ValidationError as e:
        has_several_cas = isinstance(data.get("ca"), list)
        raise ConfigurationError(_plain(e, file, variables, has_several_cas=has_several_cas)) from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigurationError(f"{file}: {e}") from e
    return settings if len(settings.cas) > 1 else settings.of(settings.ca.prefecture)


def place_of(key: str, environment: Mapping[str, str] = os.environ) -> str:
    """Where a key is changed, for messages: in the file, or in the variable that goes before it."""
    variable = PREFIX + key.replace(".", "__").upper()
    return f"{variable} in the environment" if variable in environment else f"`{key}` in {FILE_NAME}"


def _overlay(data: dict[str, Any], environment: Mapping[str, str]) -> Mapping[_Key, str]:
    """Put the variables over what the file says; which of them set what."""
    sections = {field.alias or name for name, field in Settings.model_fields.items()} - {"instance"}
    names = {}
    for name, value in environment.items():
        if not name.startswith(PREFIX) or name in {INSTANCE_VARIABLE, CA_VARIABLE}:
            continue
        section, _, key = name.removeprefix(PREFIX).lower().partition("__")
        if section not in sections or not key:
            raise ConfigurationError(
                f"environment variable {name} sets nothing; write {PREFIX}<SECTION>__<KEY> with a section of "
                + ", ".join(sorted(sections))
            )
        table = data.setdefault(section, {})
        if section == "ca" and isinstance(table, list):
            raise ConfigurationError(f"environment variable {name} says not which CA; change `[[ca]]` in {FILE_NAME}")
        if isinstance(table, dict):  # if it is something else, the file's mistake is told first
            table[key] = value
            names[section, key] = name
    return names


def _plain(error: ValidationError, file: Path, variables: Mapping[_Key, str], *, has_several_cas: bool) -> str:
    """All findings in one line, each with the key or the variable to mend."""
    of_file, of_variables = [], []
    for finding in error.errors():
        loc = finding["loc"]
        if loc[:1] == ("ca",) and not has_several_cas:
            loc = (*loc[:1], *loc[2:])  # `[ca]` has no number
        what = "unknown key" if finding["type"] == "extra_forbidden" else finding["msg"].removeprefix("Value error, ")
        names = [name for key, name in variables.items() if key[: len(loc)] == loc[:2]]
        if names and len(loc) > 1:
            of_variables += [f"environment variable {name}: {what}" for name in names]
            continue
        key = ".".join(str(part) for part in loc)
        also = f" (environment variables that go before the file: {', '.join(names)})" if names else ""
        of_file.append((f"`{key}`: {what}" if key else what) + also)
    return "; ".join([*([f"{file}: {'; '.join(of_file)}"] if of_file else ()), *of_variables])
