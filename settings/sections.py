"""The sections of prefca.toml, as frozen values. An unknown key is an error."""

import re
import shlex
from datetime import time
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MINUTES_A_DAY: Final = 1440


class Endpoint(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """As it is written in the file: `127.0.0.1:2560`, `[::1]:2560`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _endpoint(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'{value!r} is not an address; write "host:port", such as "127.0.0.1:2560"')
    return Endpoint(host, int(port))


def _optional_endpoint(value: object) -> object:
    return None if value == "" else _endpoint(value)


def _network(value: object) -> object:
    return ip_network(value) if isinstance(value, str) else value


def _words(value: object) -> object:
    """In the environment a list is written with commas."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _command(value: object) -> object:
    """A command line as a shell would split it, or its words."""
    return shlex.split(value) if isinstance(value, str) else value


def _time_of_day(value: object) -> object:
    """TOML has times of day of its own, written without quotes; those with a fraction are nobody's schedule."""
    text = value.isoformat() if isinstance(value, time) else str(value)
    if re.fullmatch("[0-9]{2}:[0-9]{2}(:[0-9]{2})?", text) is None:
        raise ValueError(f'{text!r} is not a time of day; write "hh:mm", such as "00:30"')
    return time.fromisoformat(text)


def _optional_time_of_day(value: object) -> object:
    return None if value in {"", None} else _time_of_day(value)


def _web_address(value: object) -> object:
    if isinstance(value, str) and value and re.fullmatch("https?://[^/\\s]+(/\\S*)?", value) is None:
        raise ValueError("this is not a web address; write one that begins with https:// or http://")
    return None if value == "" else value


ListenAddress = Annotated[Endpoint, BeforeValidator(_endpoint)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_words)]
RecognitionKind = Literal["network", "client-certificate", "signing-certificate", "password", "token"]
OptionalListenAddress = Annotated[Endpoint | None, BeforeValidator(_optional_endpoint)]
TimeOfDay = Annotated[time, BeforeValidator(_time_of_day)]
OptionalTimeOfDay = Annotated[time | None, BeforeValidator(_optional_time_of_day)]
OptionalWebAddress = Annotated[str | None, BeforeValidator(_web_address)]


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SignerSection(Section):
    """Where the CA's private keys live. PIN and passphrase come from a file or a prompt, never from here."""

    kind: Literal["software", "pkcs11"] = "software"
    passphrase_file: Path | None = None  # software: relative to the instance; none asks on the terminal
    module: Path | None = None  # pkcs11: the library of the token
    token: str | None = None  # pkcs11: its label
    pin_file: Path | None = None  # pkcs11: relative to the instance; none asks on the terminal
    activation_file: Path | None = None  # holds it while several persons have the key active; on a tmpfs, as in /run

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "pkcs11" and (self.module is None or self.token is None):
            raise ValueError('kind = "pkcs11" needs `module` and `token`')
        if self.kind == "software" and (self.module or self.token or self.pin_file):
            raise ValueError('`module`, `token` and `pin_file` go with kind = "pkcs11"')
        if self.kind == "pkcs11" and self.passphrase_file:
            raise ValueError('`passphrase_file` goes with kind = "software"')
        if self.activation_file and (self.pin_file or self.passphrase_file):
            raise ValueError("with `activation_file` there is neither `pin_file` nor `passphrase_file`; leave them out")
        return self


class DatabaseSection(Section):
    """PostgreSQL. Without a DSN, one that `prefca` starts in the instance directory."""

    dsn: str | None = None  # postgresql://host/name; with a user, every program connects as it and takes its own role
    owner: str = "prefca"  # the role that owns the schema and runs migrations, for a DSN without a user
    poll_ms: int = Field(200, ge=10)  # how often servers look for changes that nobody notifies them of, as on a standby

    @model_validator(mode="after")
    def _owner_of_a_dsn(self) -> Self:
        if self.dsn is None and self.owner != "prefca":
            raise ValueError("`owner` goes with `dsn`; the embedded database belongs to prefca")
        return self


class CRLSection(Section):
    """Dates and form of the lists (R-4-4-9-1, R-7-2-1)."""

    period_h: int = Field(24, ge=1)  # to the next regular list; relying parties read it in "next CRL publish"
    validity_h: int = Field(72, ge=1)  # to nextUpdate; after it relying parties reject the list
    retired_key_signs_crl: bool = False  # each list also signed by a retired key, while its certificates live

    @model_validator(mode="after")
    def _no_gap(self) -> Self:
        if self.period_h >= self.validity_h:
            raise ValueError("`period_h` must be less than `validity_h`, or relying parties see a gap between lists")
        return self


class ScheduleSection(Section):
    """When regular lists are published (R-4-4-3-1), by the clock of Japan."""

    daily_at: TimeOfDay = time()  # the moments are counted from here, every `crl.period_h`
    cut_off: OptionalTimeOfDay = None  # what was received by then is on the list of the next moment; None: `daily_at`
    alarm_after_min: int = Field(30, ge=1, le=720)  # how late a list may be before somebody is called

    @model_validator(mode="after")
    def _cut_off_comes_before(self) -> Self:
        if self.cut_off is not None:
            lead_min = (self.daily_at.hour - self.cut_off.hour) * 60 + self.daily_at.minute - self.cut_off.minute
            if lead_min % MINUTES_A_DAY > MINUTES_A_DAY // 2:
                raise ValueError("`cut_off` must lie at or before `daily_at`, by twelve hours at most")
        return self


class CASection(Section):
    """One certification authority; what it has of its own replaces the installation's table of that name."""

    prefecture: Literal["Tokyo-to", "Toyama-ken"] = "Tokyo-to"
    hierarchy: Literal["test", "production"] = "test"  # the policy OIDs of every certificate (R-1-2-1)
    authority_key_identifier: Literal["full", "key"] = "full"  # "full": as real ones; "key": paths through links, too
    link_lead_h: int = Field(168, ge=0)  # how long links are in the directory before a new key signs: clients keep old
    signer: SignerSection | None = None
    crl: CRLSection | None = None
    schedule: ScheduleSection | None = None


class OCSPSection(Section):
    """The responder."""

    listen: ListenAddress = Endpoint("127.0.0.1", 2560)
    tls_listen: OptionalListenAddress = Endpoint("127.0.0.1", 2562)  # HTTPS; "" switches it off
    tls_certificate: Path = Path("tls/ocsp.pem")  # relative to the instance
    tls_key: Path = Path("tls/ocsp.key.pem")
    admin_listen: OptionalListenAddress = Endpoint("127.0.0.1", 2561)  # /healthz, /readyz, /metrics; "" is off
    workers: int = Field(0, ge=0)  # processes that answer; 0 is one per core
    cache_mib: int = Field(128, ge=0)  # answers that a worker keeps; 0 keeps none, and signs each
    max_staleness_s: int = Field(60, ge=3)  # kept answers are not given when revocations were not heard of for so long
    response_validity_s: int = Field(300, ge=1)  # nextUpdate - thisUpdate: how long a client may trust an answer
    max_request_bytes: int = Field(65_536, ge=1024)
    max_request_certificates: int = Field(100, ge=1)  # CertIDs in one OCSPRequest
    idle_timeout_s: int = Field(30, ge=1)  # also for a request to arrive, once it has begun
    max_connections: int = Field(10_000, ge=1)  # of one worker
    max_connections_per_address: int | None = Field(None, ge=1)  # of one worker
    address_requests_per_s: float | None = Field(None, gt=0)  # of one worker; more are told to try later
    party_requests_per_s: float | None = Field(None, gt=0)
    password_lockout_failures: int = Field(10, ge=3, le=30)  # of one name from one address, in one worker
    password_lockout_s: int = Field(300, ge=1)  # how long it then cannot log in; earlier failures cost seconds
    recognition: Annotated[tuple[RecognitionKind, ...], BeforeValidator(_words)] = (
        *("network", "client-certificate", "signing-certificate", "password", "token"),
    )  # how relying parties are recognised; what is left out opens no door, whatever is registered
    client_ca: Path | None = None  # PEM: who must have issued parties' certificates; None: registering one is enough
    trusted_proxies: Networks = ()  # who ends TLS for us: what their headers say of the client is believed
    proxy_certificate_header: str = "Client-Cert"  # RFC 9440; as PEM or bare base64 too
    path: str = Field("/", pattern="^/[!-~]*$")  # below which GETs have their requests; any is served to POST
    responder_id: Literal["key", "name"] = "key"  # RFC 9919 wants "key"
    mixed_generations: bool = False  # answer about several keys of one CA at once: clients of RFC 6960 reject that
    archive_cutoff_days: int | None = Field(None, ge=1)  # how long statuses are kept after expiry, as answers say
    key_directory: Path = Path("keys/ocsp")  # relative to the instance: <serial in hex>.pem
    passphrase_file: Path = Path("secrets/ocsp-key.passphrase")
    pkcs11_module: Path | None = None  # with it, the keys are in a token, each labelled with <serial in hex>
    pkcs11_token: str | None = None
    pkcs11_pin_file: Path = Path("secrets/ocsp-token.pin")

    @model_validator(mode="after")
    def _token_has_a_module(self) -> Self:
        if (self.pkcs11_module is None) != (self.pkcs11_token is None):
            raise ValueError("`pkcs11_module` and `pkcs11_token` go together")
        return self


class RepositorySection(Section):
    """The directory."""

    listen: ListenAddress = Endpoint("127.0.0.1", 3890)
    tls_listen: OptionalListenAddress = Endpoint("127.0.0.1", 6360)  # LDAPS; `listen` offers StartTLS. "" is off
    admin_listen: OptionalListenAddress = Endpoint("127.0.0.1", 3891)  # /healthz, /readyz, /metrics; "" is off
    tls_certificate: Path = Path("tls/ldap.pem")  # relative to the instance
    tls_key: Path = Path("tls/ldap.key.pem")
    workers: int = Field(1, ge=0)  # processes that answer, each with the whole publication in memory; 0 is one per core
    cache_mib: int = Field(32, ge=1)  # of a worker: ready answers for anonymous readers, and as much for parties
    copy_file: Path = Path("repository/publication")  # relative to the instance: what a start without database serves
    max_connections: int = Field(10_000, ge=1)  # of one worker
    max_message_bytes: int = Field(65_536, ge=1024)  # of one LDAPMessage from a client
    search_size_limit_entries: int = Field(1000, ge=1)  # of one search, or of one page
    search_time_limit_s: int = Field(10, ge=1)
    max_connections_per_address: int = Field(1024, ge=1)  # of one worker
    bind_lockout_failures: int = Field(10, ge=3, le=30)  # of one name from one address, in one worker
    bind_lockout_s: int = Field(300, ge=1)  # how long it then cannot bind; earlier failures cost seconds
    password_memory_s: int = Field(60, ge=0)  # a password that was right is not verified again for so long; 0: always
    idle_timeout_s: int = Field(300, ge=1)


class SchedulerSection(Section):
    """`prefca scheduler`, which keeps the schedules of all CAs."""

    admin_listen: OptionalListenAddress = Endpoint("127.0.0.1", 2563)  # /healthz, /readyz, /metrics; "" is off
    webhook: OptionalWebAddress = None  # where alarms are posted as JSON
    look_every_s: int = Field(10, ge=1)  # at the database: how soon another machine takes the place of one that is gone
    retry_s: int = Field(30, ge=1)  # the pause after a batch that failed; it doubles with each further failure
    retry_max_s: int = Field(600, ge=1)  # up to this
    key_check_s: int = Field(300, ge=1)  # whether the CA's key can be used is seen so often


class JournalSection(Section):
    """The record of every access and operation (R-4-11-2-1)."""

    directory: Path = Path("journal")  # relative to the instance: segments; others' may be brought there too
    key_directory: Path = Path("keys/journal")  # what signs them; out of reach of whoever may write to `directory`
    archive: Path = Path("archive/journal")  # where collected segments go, compressed
    host: str = Field("", pattern="^[A-Za-z0-9.-]*$")  # begins the streams' names; needed where hosts share an archive
    sync_s: float = Field(1.0, ge=0)  # how much a machine that loses power may lose; 0: each answer waits for the disk
    auditor: str | None = None  # system account of the internal auditor, who alone views and deletes (R-4-11-5-2)
    operators: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()  # account@host; reviews tell of others
    night_from: TimeOfDay = time(22)  # by the clock of Japan: reviews tell of operators' acts at night
    night_until: TimeOfDay = time(6)

    def stream(self, name: str) -> str:
        """The name of the stream of a process."""
        return f"{self.host}.{name}" if self.host else name


class ArchiveSection(Section):
    """What is kept for ten years and longer (R-4-12-2)."""

    time_stamp_authority: OptionalWebAddress = None  # RFC 3161 over HTTP: it stamps the day's root, and media
    time_stamp_roots: Path | None = None  # PEM, relative to the instance: who must have certified the authority
    backup_command: Annotated[tuple[str, ...], BeforeValidator(_command)] = ()  # after each day's collection; no shell
    backup_timeout_min: int = Field(120, ge=1)

    @model_validator(mode="after")
    def _authority_has_roots(self) -> Self:
        if self.time_stamp_authority is not None and self.time_stamp_roots is None:
            raise ValueError("`time_stamp_authority` needs `time_stamp_roots`, or anybody's time stamp would do")
        return self


class OperationsSection(Section):
    """Operations on a key of the CA, that several persons agree to (R-5-2-2-1)."""

    valid_h: int = Field(72, ge=1, le=8760)  # what was agreed to may be done for so long, from when it was asked for


class LogSection(Section):
    """What a process says on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
