"""The first configuration file of an instance says what was chosen, and nothing else."""

import stat
from pathlib import Path

import pytest

from issuer.configuration import Choices, add_ca, check_choices, write_configuration
from issuer.errors import RefusedError
from settings.load import ConfigurationError, Settings, load
from settings.sections import DatabaseSection, SignerSection


def written(directory: Path, choices: Choices) -> Settings:
    write_configuration(directory / "prefca.toml", choices)
    return load(directory, {})


def test_without_choices_it_is_a_test_ca_of_tokyo_with_a_software_key(tmp_path: Path) -> None:
    """Everything that was not chosen is the default of the program."""
    signer = SignerSection(passphrase_file=Path("secrets/ca-key.passphrase"))
    assert written(tmp_path, Choices()) == Settings(instance=tmp_path, signer=signer)


def test_every_choice_is_in_the_file(tmp_path: Path) -> None:
    """What was chosen is what every program reads, whatever characters are in it."""
    token, dsn = 'a "quoted" \\ 鍵 token', "postgresql://ca:p%22w@db.example,standby.example/prefca?sslmode=verify-full"
    choices = Choices("Toyama-ken", "production", "pkcs11", Path("/opt/my hsm/module.so"), token, tmp_path / "pin", dsn)
    settings = written(tmp_path, choices)
    assert (settings.ca.prefecture, settings.ca.hierarchy) == ("Toyama-ken", "production")
    assert settings.signer == SignerSection(
        kind="pkcs11", module=Path("/opt/my hsm/module.so"), token=token, pin_file=tmp_path / "pin"
    )
    assert settings.database == DatabaseSection(dsn=dsn)


def test_paths_do_not_depend_on_where_later_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative ones are written in full."""
    monkeypatch.chdir(tmp_path)
    settings = written(tmp_path, Choices(signer="pkcs11", module=Path("m.so"), token="t", pin_file=Path("pin")))
    assert (settings.signer.module, settings.signer.pin_file) == (tmp_path / "m.so", tmp_path / "pin")


def test_a_token_whose_pin_is_asked_for_needs_no_file(tmp_path: Path) -> None:
    """Nothing is put in the place of what was not chosen."""
    settings = written(tmp_path, Choices(signer="pkcs11", module=Path("/m.so"), token="t"))
    assert settings.signer.pin_file is None
    assert settings.signer.passphrase_file is None


@pytest.mark.parametrize(
    ("choices", "advice"),
    [
        (Choices(module=Path("/m.so")), "--signer pkcs11"),
        (Choices(signer="software", token="t"), "--signer pkcs11"),
        (Choices(pin_file=Path("/pin")), "--signer pkcs11"),
        (Choices(signer="pkcs11"), "--module"),
        (Choices(signer="pkcs11", module=Path("/m.so")), "--token"),
        (Choices(signer="pkcs11", token="t"), "--module"),
    ],
    ids=["module, no pkcs11", "token, software", "PIN, no pkcs11", "pkcs11 alone", "no token", "no module"],
)
def test_choices_that_do_not_fit_together_are_refused(choices: Choices, advice: str, tmp_path: Path) -> None:
    """And nothing is written."""
    with pytest.raises(RefusedError, match=advice):
        write_configuration(tmp_path / "new" / "prefca.toml", choices)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """A DSN may hold a password."""
    written(tmp_path, Choices())
    assert stat.S_IMODE((tmp_path / "prefca.toml").stat().st_mode) == 0o600


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    """Somebody may have edited it."""
    written(tmp_path, Choices())
    with pytest.raises(FileExistsError):
        write_configuration(tmp_path / "prefca.toml", Choices(prefecture="Toyama-ken"))
    assert load(tmp_path, {}).ca.prefecture == "Tokyo-to"


def test_every_default_that_the_file_shows_is_the_real_one(tmp_path: Path) -> None:
    """Its comments, switched on, change nothing; only the example of a DSN is one."""
    settings = written(tmp_path, Choices())
    file = tmp_path / "prefca.toml"
    lines = file.read_text().splitlines()
    shown = [line.removeprefix("# ") if " = " in line and "# dsn" not in line else line for line in lines]
    assert shown != lines
    file.write_text("\n".join(shown))
    assert load(tmp_path, {}) == settings


CHOSEN = Choices("Toyama-ken", "test", "pkcs11", Path("/m.so"), "t", Path("/pin"), "postgresql:///ca")


@pytest.mark.parametrize("again", [Choices(), CHOSEN, Choices(token="t")], ids=["nothing", "everything", "one"])
def test_the_same_may_be_chosen_again(again: Choices, tmp_path: Path) -> None:
    """A set-up that was interrupted is repeated with the same command."""
    check_choices(again, written(tmp_path, CHOSEN))


@pytest.mark.parametrize(
    ("again", "option"),
    [
        (Choices(prefecture="Tokyo-to"), "--prefecture"),
        (Choices(hierarchy="production"), "--hierarchy"),
        (Choices(signer="software"), "--signer"),
        (Choices(module=Path("/other.so")), "--module"),
        (Choices(token="other"), "--token"),
        (Choices(pin_file=Path("/other")), "--pin-file"),
        (Choices(dsn="postgresql:///other"), "--dsn"),
    ],
    ids=lambda value: value if isinstance(value, str) else "another",
)
def test_a_choice_that_contradicts_the_file_is_refused(again: Choices, option: str, tmp_path: Path) -> None:
    """The message names the option: what stands in the file is not changed in passing."""
    settings = written(tmp_path, CHOSEN)
    with pytest.raises(RefusedError, match=f"{option} contradicts .*prefca.toml"):
        check_choices(again, settings)


TOYAMA = Choices(prefecture="Toyama-ken")
TOYAMA_IN_A_TOKEN = Choices("Toyama-ken", "production", "pkcs11", Path("/m.so"), "t", Path("/pin"))


@pytest.mark.parametrize("choices", [TOYAMA, TOYAMA_IN_A_TOKEN], ids=["defaults", "everything"])
def test_a_ca_is_added_beside_the_others(choices: Choices, tmp_path: Path) -> None:
    """It is what was chosen; the one that was there is what it was."""
    before = written(tmp_path, Choices())
    add_ca(tmp_path, choices)
    after = load(tmp_path, {})
    assert after.prefectures == ("Tokyo-to", "Toyama-ken")
    assert after.of("Tokyo-to") == before
    toyama = after.of("Toyama-ken")
    check_choices(choices, toyama)
    assert (toyama.signer == before.signer) is (choices is TOYAMA)


def test_a_software_key_beside_a_token_has_a_passphrase_of_its_own(tmp_path: Path) -> None:
    """The installation has none to share."""
    written(tmp_path, Choices(signer="pkcs11", module=Path("/m.so"), token="t"))
    add_ca(tmp_path, Choices("Toyama-ken", signer="software"))
    after = load(tmp_path, {})
    assert after.of("Toyama-ken").signer.passphrase_file == Path("secrets/toyama-ken-key.passphrase")
    assert after.of("Tokyo-to").signer.kind == "pkcs11"


WRITE_IT = r"write one \[\[ca\]\] table there"
ADDED = '[[ca]]\nprefecture = "Toyama-ken"\nhierarchy = "test"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[ca]\n", f"[[ca]]\n\n{ADDED}"),
        (
            "# Ours.\n[ca]  # of Tokyo\n# hierarchy = 'test'\n\n# Of the operators.\n[database]\n# dsn\n",
            f"# Ours.\n[[ca]]  # of Tokyo\n# hierarchy = 'test'\n\n{ADDED}\n# Of the operators.\n[database]\n# dsn\n",
        ),
        (
            "[ca]\n[log]\n[ca.crl]\nperiod_h = 12\n[ocsp]",
            f"[[ca]]\n[log]\n[ca.crl]\nperiod_h = 12\n\n{ADDED}\n[ocsp]\n",
        ),
        ("[[ca]]\nprefecture = 'Tokyo-to'", f"[[ca]]\nprefecture = 'Tokyo-to'\n\n{ADDED}"),
    ],
    ids=["alone", "comments", "a table of its own further down", "[[ca]] already"],
)
def test_nothing_else_in_the_file_changes(text: str, expected: str, tmp_path: Path) -> None:
    """Comments stay with what they are about."""
    (tmp_path / "prefca.toml").write_text(text)
    add_ca(tmp_path, TOYAMA)
    assert (tmp_path / "prefca.toml").read_text() == expected


def test_whoever_could_read_the_file_can_read_it_still(tmp_path: Path) -> None:
    """Mode and place are kept, also behind a link."""
    file = tmp_path / "elsewhere.toml"
    file.write_text("[ca]\n")
    file.chmod(0o640)
    (tmp_path / "prefca.toml").symlink_to(file)
    add_ca(tmp_path, TOYAMA)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert (tmp_path / "prefca.toml").is_symlink()
    assert load(tmp_path, {}).prefectures == ("Tokyo-to", "Toyama-ken")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("text", "choices", "error", "advice"),
    [
        ("", TOYAMA, RefusedError, r'write one \[\[ca\]\] table there .* prefecture = "Toyama-ken" hierarchy = "test"'),
        ("ca = { prefecture = 'Tokyo-to' }", TOYAMA, RefusedError, WRITE_IT),
        ('[ca]\n[database]\ndsn = """\n[ca]\n"""', TOYAMA, RefusedError, WRITE_IT),
        ('[[ca]]\n[database]\ndsn = """\n[ca.crl]\n[log]\n"""', TOYAMA, RefusedError, WRITE_IT),
        ("[ca]\n[log]", Choices("Toyama-ken", dsn="postgresql:///other"), RefusedError, "--dsn contradicts"),
        ("[ca]", Choices("Toyama-ken", token="t"), RefusedError, "--signer pkcs11"),
        ("[ca]", Choices("Toyama-ken", "production"), ConfigurationError, '"production" needs `signer.kind` "pkcs11"'),
        ("[ca]\nx = 1", TOYAMA, ConfigurationError, "`ca.x`: unknown key"),
    ],
    ids=[
        "no table",
        "inline table",
        "a header in a string",
        "headers in a string",
        "another database",
        "half a signer",
        "production without token",
        "broken before",
    ],
)
def test_what_cannot_be_added_leaves_the_file_as_it_was(
    text: str, choices: Choices, error: type[Exception], advice: str, tmp_path: Path
) -> None:
    """One line says what to do instead."""
    (tmp_path / "prefca.toml").write_text(text)
    with pytest.raises(error, match=advice) as raised:
        add_ca(tmp_path, choices)
    assert "\n" not in str(raised.value)
    assert (tmp_path / "prefca.toml").read_text() == text
