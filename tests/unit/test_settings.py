"""One file and the environment make one configuration, or every program stops with one line that says why."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, time
from ipaddress import ip_network
from pathlib import Path

import pytest

from settings import log
from settings.database import MAX_SOCKET_PATH_BYTES, Role, connect_arguments, socket_directory
from settings.load import ConfigurationError, Settings, load
from settings.sections import DatabaseSection, Endpoint, LogSection, SignerSection

TOKEN = '[signer]\nkind = "pkcs11"\nmodule = "/opt/hsm.so"\ntoken = "ca"\n'
TWO = """
[[ca]]
[[ca]]
prefecture = "Toyama-ken"
hierarchy = "production"
[ca.signer]
kind = "pkcs11"
module = "/opt/hsm.so"
token = "toyama"
[ca.crl]
period_h = 12
[ca.schedule]
daily_at = "01:00"
[signer]
passphrase_file = "secrets/tokyo"
[crl]
validity_h = 96
[schedule]
daily_at = "03:00"
cut_off = "02:00"
"""


def configured(directory: Path, text: str = "", **environment: str) -> Settings:
    (directory / "prefca.toml").write_text(text)
    return load(directory, environment)


def test_without_a_file_everything_is_the_default(tmp_path: Path) -> None:
    """A test CA on this machine only."""
    settings = load(tmp_path, {})
    assert settings == Settings(instance=tmp_path)
    assert (settings.ca.hierarchy, settings.ocsp.listen) == ("test", Endpoint("127.0.0.1", 2560))


@pytest.mark.req("R-4-4-9-1", "R-7-2-1")
def test_the_dates_of_lists_are_those_of_the_rule_by_default(tmp_path: Path) -> None:
    """A list a day, valid for three."""
    assert (load(tmp_path, {}).crl.period_h, load(tmp_path, {}).crl.validity_h) == (24, 72)


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    """A variable replaces one key and leaves the others of its section."""
    text = '[ocsp]\nlisten = "127.0.0.1:1"\nidle_timeout_s = 7\n'
    settings = configured(tmp_path, text, PREFCA_OCSP__LISTEN="[::1]:2", PREFCA_CA__PREFECTURE="Toyama-ken")
    assert settings.ocsp.listen == Endpoint("::1", 2)
    assert settings.ocsp.idle_timeout_s == 7
    assert settings.ca.prefecture == "Toyama-ken"


def test_variables_of_others_are_left_alone(tmp_path: Path) -> None:
    """Those that name the instance and the CA are the command line's."""
    others = {"PREFCA_INSTANCE": "/elsewhere", "PREFCA_CA": "Toyama-ken", "PATH": "/bin", "PREFCAX": "1"}
    assert configured(tmp_path, **others) == Settings(instance=tmp_path)


def test_lists_are_written_with_commas_in_the_environment(tmp_path: Path) -> None:
    """And in brackets in the file."""
    section = configured(
        tmp_path, '[ocsp]\nrecognition = ["network", "token"]', PREFCA_OCSP__TRUSTED_PROXIES="192.0.2.1/32, ::1/128"
    ).ocsp
    assert section.recognition == ("network", "token")
    assert section.trusted_proxies == (ip_network("192.0.2.1/32"), ip_network("::1/128"))
    assert configured(tmp_path, PREFCA_OCSP__RECOGNITION="").ocsp.recognition == ()


@pytest.mark.req("R-4-4-3-1")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (time(), None)),
        ('daily_at = "04:30"\ncut_off = "04:00"', (time(4, 30), time(4))),
        ("daily_at = 04:30:15", (time(4, 30, 15), None)),
        ('cut_off = "23:30"', (time(), time(23, 30))),
        ('cut_off = ""', (time(), None)),
    ],
    ids=["default", "text", "TOML has times of its own", "on the day before", "none"],
)
def test_the_schedule_is_told_by_times_of_day(tmp_path: Path, text: str, expected: tuple[time, time | None]) -> None:
    """When lists are published, and what was received by when is on them."""
    section = configured(tmp_path, f"[schedule]\n{text}").schedule
    assert (section.daily_at, section.cut_off) == expected


@pytest.mark.parametrize(
    ("text", "environment", "finding"),
    [
        ('[ocsp]\nrecognition = ["face"]', {}, "`ocsp.recognition.0`.*'network'"),
        ('[ocsp]\ntrusted_proxies = ["192.0.2.1/24"]', {}, "`ocsp.trusted_proxies.0.*host bits"),
        ('[ocsp]\npkcs11_token = "t"', {}, "`ocsp`: `pkcs11_module` and `pkcs11_token` go together"),
        ('[ocsp]\ntls_listen = "127.0.0.1:2560"', {}, "`ocsp.tls_listen` and `ocsp.listen` are both 127.0.0.1:2560"),
        ("[ocsp]\nlisten_on = 1", {}, "`ocsp.listen_on`: unknown key"),
        ("[oscp]\n", {}, "`oscp`: unknown key"),
        ('instance = "/tmp"', {}, "unknown key `instance`"),
        ("ocsp = 1", {}, "`ocsp`"),
        ("ocsp = 1", {"PREFCA_OCSP__LISTEN": "127.0.0.1:1"}, "`ocsp`"),
        ("", {"PREFCA_OCSP__LISTEN_ON": "x"}, "^environment variable PREFCA_OCSP__LISTEN_ON: unknown key$"),
        (
            "[ocsp]\nworkers = 1\ncache_mib = -1",
            {"PREFCA_OCSP__WORKERS": "many"},
            "prefca.toml: `ocsp.cache_mib`: [^;]*; environment variable PREFCA_OCSP__WORKERS: Input",
        ),
        ("", {"PREFCA_OCSP__RECOGNITION": "face"}, "^environment variable PREFCA_OCSP__RECOGNITION: Input"),
        ("", {"PREFCA_CA__PREFECTURE": "Osaka-fu"}, "environment variable PREFCA_CA__PREFECTURE: Input"),
        (
            "",
            {"PREFCA_CRL__PERIOD_H": "72", "PREFCA_OCSP__WORKERS": "1"},
            r"`crl`: .* gap between lists \(environment variables that go before the file: PREFCA_CRL__PERIOD_H\)$",
        ),
        (
            "",
            {"PREFCA_OCSP__LISTEN": "127.0.0.1:3890"},
            r"are both 127.0.0.1:3890; .* \(environment variables that go before the file: PREFCA_OCSP__LISTEN\)$",
        ),
        (
            "",
            {"PREFCA_OCSP_LISTEN": "x"},
            "environment variable PREFCA_OCSP_LISTEN sets nothing; write PREFCA_<SECTION>",
        ),
        ("", {"PREFCA_OSCP__LISTEN": "x"}, "environment variable PREFCA_OSCP__LISTEN sets nothing"),
        ("", {"PREFCA_OCSP__": "x"}, "environment variable PREFCA_OCSP__ sets nothing"),
        ('[ca]\nprefecture = "Osaka-fu"', {}, "`ca.prefecture`.*Tokyo-to"),
        ('[[ca]]\n[[ca]]\nprefecture = "Osaka-fu"', {}, "`ca.1.prefecture`.*Tokyo-to"),
        ("[[ca]]\n[[ca]]", {}, "two `\\[\\[ca]]` are of one prefecture"),
        ("ca = []", {}, "`ca`"),
        ("[ca.signer]\nkey = 1", {}, "`ca.signer.key`: unknown key"),
        ('[ca]\nhierarchy = "production"', {}, '"production" needs `signer.kind` "pkcs11"'),
        (
            f'[[ca]]\nhierarchy = "production"\n[ca.signer]\nkind = "software"\n{TOKEN}',
            {},
            '"production" needs `signer.kind` "pkcs11"',
        ),
        (
            TWO,
            {"PREFCA_CA__HIERARCHY": "test"},
            "PREFCA_CA__HIERARCHY says not which CA; change `",
        ),
        ('[ocsp]\nlisten = "127.0.0.1"', {}, "`ocsp.listen`.*host:port"),
        ('[ocsp]\nlisten = "127.0.0.1:65536"', {}, "`ocsp.listen`.*host:port"),
        ("[ocsp]\nlisten = 2560", {}, "`ocsp.listen`"),
        ("[ocsp]\nresponse_validity_s = 0", {}, "`ocsp.response_validity_s`.*greater than or equal to 1"),
        ("[crl]\nperiod_h = 72", {}, "`crl`: `period_h` must be less than `validity_h`"),
        ('[ocsp]\nlisten = "127.0.0.1:3890"', {}, "`repository.listen` and `ocsp.listen` are both 127.0.0.1:3890"),
        ('[repository]\nlisten = "127.0.0.1:6360"', {}, "`repository.tls_listen` and `repository.listen`"),
        ('[schedule]\ndaily_at = "24:00"', {}, "`schedule.daily_at`"),
        ('[schedule]\ndaily_at = "0:00"', {}, "`schedule.daily_at`: '0:00' is not a time of day; write \"hh:mm\""),
        ("[schedule]\ndaily_at = 0", {}, "`schedule.daily_at`: '0' is not a time of day"),
        ("[schedule]\ndaily_at = 00:00:00.5", {}, "`schedule.daily_at`: .* is not a time of day"),
        ('[schedule]\ncut_off = "00:01"', {}, "`schedule`: `cut_off` must lie at or before `daily_at`"),
        ('[scheduler]\nwebhook = "ops@example.jp"', {}, "`scheduler.webhook`: .*write one that begins with https://"),
        ('[scheduler]\nadmin_listen = "127.0.0.1:2560"', {}, "`scheduler.admin_listen` and `ocsp.listen` are both"),
        ('[signer]\nkind = "pkcs11"', {}, "`signer`.*needs `module` and `token`"),
        ('[signer]\ntoken = "t"', {}, "`signer`.*pkcs11"),
        (
            '[signer]\nkind = "pkcs11"\nmodule = "/m"\ntoken = "t"\npassphrase_file = "p"',
            {},
            "`signer`.*passphrase_file",
        ),
        ("[ocsp", {}, "prefca.toml: Expected"),
        ("[ocsp]\nlisten = 1\nlisten = 2", {}, "prefca.toml: Cannot overwrite"),
    ],
    ids=str,
)
def test_what_cannot_be_used_stops_every_program(
    text: str, environment: dict[str, str], finding: str, tmp_path: Path
) -> None:
    """One line names the key or the variable, and says what is wrong with it."""
    with pytest.raises(ConfigurationError, match=finding) as raised:
        configured(tmp_path, text, **environment)
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Once, with the reason."""
    file = tmp_path / "prefca.toml"
    file.mkdir()
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path, {})
    assert str(raised.value) == f"{file}: cannot be read (Is a directory); mend that, or correct --instance"


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    """No traceback for what an editor did."""
    (tmp_path / "prefca.toml").write_bytes("[ca] # 東京".encode("shift_jis"))
    with pytest.raises(ConfigurationError, match=r"prefca\.toml"):
        load(tmp_path, {})


def test_every_finding_is_told_at_once(tmp_path: Path) -> None:
    """Nobody wants to start a program once for each mistake."""
    with pytest.raises(ConfigurationError, match=r"`ca\.town`.*; `log\.level`"):
        configured(tmp_path, '[ca]\ntown = 1\n[log]\nlevel = "loud"')


def test_listeners_without_a_fixed_port_do_not_contradict_each_other(tmp_path: Path) -> None:
    """Port 0 is whichever is free; and the same port on two addresses is two places."""
    both = configured(tmp_path, '[ocsp]\nlisten = "127.0.0.1:0"\n[repository]\nlisten = "127.0.0.1:0"')
    assert both.ocsp.listen == both.repository.listen
    configured(tmp_path, '[ocsp]\nlisten = "127.0.0.2:3890"')


@pytest.mark.parametrize("endpoint", ["127.0.0.1:2560", "[::1]:2560", "ocsp.example:1"])
def test_an_address_is_shown_as_it_is_written(endpoint: str, tmp_path: Path) -> None:
    """IPv6 in brackets."""
    assert str(configured(tmp_path, f'[ocsp]\nlisten = "{endpoint}"').ocsp.listen) == endpoint


def test_relative_paths_are_below_the_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a program is started, and however the instance was named."""
    monkeypatch.chdir(tmp_path)
    settings = load(Path(), {})
    assert settings.path(Path("keys/ocsp")) == tmp_path / "keys" / "ocsp"
    assert settings.path(Path("/etc/pin")) == Path("/etc/pin")


@pytest.mark.parametrize(
    ("dsn", "role", "user", "session_role"),
    [
        (None, "prefca_ocsp", "prefca_ocsp", None),
        ("postgresql://db/prefca", "prefca_issuer", "prefca_issuer", None),
        ("postgresql://db/prefca", "owner", "prefca", None),
        ("postgresql://ca@db/prefca", "prefca_issuer", None, "prefca_issuer"),
        ("postgresql://ca:secret@db1,db2/prefca", "prefca_repository", None, "prefca_repository"),
        ("postgresql://ca@db/prefca", "owner", None, None),
    ],
    ids=["embedded", "no user", "no user, owner", "user", "user, two hosts", "user, owner"],
)
def test_every_program_works_in_its_own_role(
    dsn: str | None, role: Role, user: str | None, session_role: str | None, tmp_path: Path
) -> None:
    """It connects as that role, or takes it in its session; writers go to the primary, and keep no lock for ever."""
    arguments = connect_arguments(Settings(instance=tmp_path, database=DatabaseSection(dsn=dsn)), role)
    assert arguments.get("user") == user
    assert arguments["server_settings"].get("role") == session_role
    assert ("target_session_attrs" in arguments) is (role in {"owner", "prefca_issuer"})
    assert ("idle_in_transaction_session_timeout" in arguments["server_settings"]) is (role == "prefca_issuer")
    assert arguments["server_settings"]["application_name"] == f"prefca {role.removeprefix('prefca_')}"


@pytest.mark.parametrize(
    ("instance", "is_below"),
    [
        (Path("/srv/prefca"), True),
        (Path("/srv") / ("x" * (MAX_SOCKET_PATH_BYTES - len("/srv//database/run/.s.PGSQL.5432"))), True),
        (Path("/srv") / ("x" * (MAX_SOCKET_PATH_BYTES - len("/srv//database/run/.s.PGSQL.5432") + 1)), False),
        (Path("/srv/東京都認証局/一つ目の試験環境のとても長い名前のディレクトリ"), False),
        (Path("/srv/a,b"), False),
    ],
    ids=["short", "just short enough", "an octet too long", "too long in octets", "comma"],
)
def test_the_socket_of_the_database_has_a_path_that_the_kernel_takes(instance: Path, is_below: bool) -> None:
    """Below the instance if that does, else a short one of its own."""
    directory = socket_directory(instance)
    assert (instance in directory.parents) is is_below
    assert len(bytes(directory / ".s.PGSQL.5432")) <= MAX_SOCKET_PATH_BYTES
    assert "," not in str(directory)
    assert directory != socket_directory(Path("/srv/another"))


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The logger of all, put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def event(root: logging.Logger, *, failed: bool = False) -> str:
    """An event as the handler of `root` writes it."""
    cause = (ValueError, ValueError("as an example"), None) if failed else None
    record = logging.LogRecord("prefca.up", logging.INFO, "", 0, "published", None, cause)
    record.created = datetime(2026, 4, 1, 0, 0, 0, 123_000, tzinfo=UTC).timestamp()
    record.__dict__ |= {"publication": 7, "名": "東京都"}
    return root.handlers[0].format(record)


def test_an_event_is_a_line_for_people(root_logger: logging.Logger) -> None:
    """Time in UTC, level, logger, name of the event, its data."""
    log.set_up(LogSection())
    assert event(root_logger) == "2026-04-01T00:00:00.123Z info prefca.up published publication=7 名=東京都"
    assert "ValueError: as an example" in event(root_logger, failed=True)


def test_an_event_is_json_for_programs(root_logger: logging.Logger) -> None:
    """One object on one line, a traceback inside it."""
    log.set_up(LogSection(format="json"))
    assert json.loads(event(root_logger)) == {
        "at": "2026-04-01T00:00:00.123Z",
        "level": "info",
        "logger": "prefca.up",
        "event": "published",
        "publication": 7,
        "名": "東京都",
    }
    failed = event(root_logger, failed=True)
    assert "\n" not in failed
    assert "as an example" in json.loads(failed)["traceback"]


@pytest.mark.parametrize(
    ("level", "at_least", "shown"),
    [
        ("info", None, ["info", "error"]),
        ("debug", None, ["debug", "info", "error"]),
        ("info", "warning", ["error"]),
    ],
    ids=["as configured", "debug", "a command that tells its result itself"],
)
def test_levels_below_the_configured_one_are_left_out(
    level: str, at_least: str | None, shown: list[str], root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a short command says warnings and errors only."""
    log.set_up(LogSection.model_validate({"level": level}), at_least="warning" if at_least else None)
    for name in ("debug", "info", "error"):
        getattr(logging.getLogger("test"), name)("event")
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == shown


def test_each_ca_has_what_is_its_own_and_otherwise_what_all_have(tmp_path: Path) -> None:
    """A table of its own takes the place of the common one."""
    both = configured(tmp_path, TWO + "[ocsp]\nidle_timeout_s = 7\n")
    tokyo, toyama = both.each()
    assert [tokyo, toyama] == [both.of("Tokyo-to"), both.of("Toyama-ken")]
    assert (tokyo.ca.prefecture, tokyo.ca.hierarchy) == ("Tokyo-to", "test")
    assert (toyama.ca.prefecture, toyama.ca.hierarchy) == ("Toyama-ken", "production")
    assert tokyo.signer == SignerSection(passphrase_file=Path("secrets/tokyo"))
    assert toyama.signer == SignerSection(kind="pkcs11", module=Path("/opt/hsm.so"), token="toyama")
    assert (tokyo.crl.period_h, tokyo.crl.validity_h) == (24, 96)
    assert (toyama.crl.period_h, toyama.crl.validity_h) == (12, 72)
    assert (tokyo.schedule.daily_at, tokyo.schedule.cut_off) == (time(3), time(2))
    assert (toyama.schedule.daily_at, toyama.schedule.cut_off) == (time(1), None)
    assert tokyo.ocsp == toyama.ocsp == both.ocsp


def test_with_several_cas_nothing_is_done_for_one_of_them_by_accident(tmp_path: Path) -> None:
    """Whoever asks for the CA is told to say which; narrowed settings know no other one."""
    both = configured(tmp_path, TWO)
    with pytest.raises(ConfigurationError, match="several CAs here; say which with --ca Tokyo-to or Toyama-ken"):
        _ = both.ca
    with pytest.raises(ConfigurationError, match=r"no CA of Osaka-fu in .*prefca\.toml; take Tokyo-to or Toyama-ken"):
        both.of("Osaka-fu")
    with pytest.raises(ConfigurationError, match=r"take Tokyo-to$"):
        both.of("Tokyo-to").of("Toyama-ken")


@pytest.mark.parametrize("header", ["[ca]", "[[ca]]"])
def test_one_ca_needs_no_name(header: str, tmp_path: Path) -> None:
    """Its own tables hold from the start, and the environment can change it."""
    text = f'{header}\nprefecture = "Toyama-ken"\n[ca.crl]\nperiod_h = 12\n'
    settings = configured(tmp_path, text)
    assert (settings.ca.prefecture, settings.crl.period_h) == ("Toyama-ken", 12)
    assert settings.each() == [settings]
    if header == "[ca]":
        assert configured(tmp_path, text, PREFCA_CA__PREFECTURE="Tokyo-to").ca.prefecture == "Tokyo-to"
