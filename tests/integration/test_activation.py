"""The CA's key is activated by several persons, for a time; nobody alone can use it."""

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from issuer.cli.root import run
from issuer.installation import opened
from issuer.operations import activation
from issuer.records.activation_store import Activation
from settings.load import INSTANCE_VARIABLE, Settings, load
from settings.sections import CASection, SignerSection
from tests.support.ca import NOW
from tests.support.command import DSN_VARIABLE, Ended, Prefca, select, start
from tests.support.database import Database
from tests.support.operators import write_staff
from tests.support.softhsm import SoftHSM

pytestmark = pytest.mark.req("R-6-2-1-7", "R-6-2-1-2")


@pytest.fixture
def hsm_ca(hsm: SoftHSM, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefca: Prefca) -> Path:
    """A CA with its key in a token, whose PIN is to be split; the PIN is in the file `pin` beside the instance."""
    instance = tmp_path / "instance"
    monkeypatch.setenv(INSTANCE_VARIABLE, str(instance))
    monkeypatch.setenv(DSN_VARIABLE, database.dsn)
    (tmp_path / "pin").write_text(hsm.pin)
    token = ("--signer", "pkcs11", "--module", hsm.module, "--token", hsm.label, "--pin-file", tmp_path / "pin")
    assert prefca("init", *token).status == 0
    file = instance / "prefca.toml"
    lines = file.read_text().splitlines()
    place = f'activation_file = "{tmp_path / "run" / "pin"}"'
    file.write_text("\n".join(place if line.startswith("pin_file") else line for line in lines))
    return instance


@pytest.fixture
def shares(hsm_ca: Path, tmp_path: Path, prefca: Prefca) -> list[Path]:
    """Three shares of a new PIN, of which two are needed."""
    out = tmp_path / "shares"
    split = ("--needed", "2", "--shares", "3", "--new-pin", "--pin-file", tmp_path / "pin", "--out", out)
    assert prefca("activation", "split", *split).status == 0
    return sorted(out.iterdir())


def given(*files: Path) -> list[str | Path]:
    """The options for shares in files."""
    return [part for file in files for part in ("--share", file)]


def test_two_of_three_activate_the_key_for_a_time(
    hsm_ca: Path, shares: list[Path], tmp_path: Path, prefca: Prefca
) -> None:
    """Until then nothing is signed; then lists are, by unattended programs; and after the end nothing again."""
    refused = prefca("batch", "--now")
    assert (refused.status, "the CA's key is not activated" in refused.complaint) == (4, True)
    assert "key_not_activated" in prefca("status", "--check").stdout

    assert prefca("activation", "start", "--json", *given(shares[0], shares[2])).json["shares"] == 2
    assert prefca("batch", "--now").status == 0
    assert (tmp_path / "run" / "pin").stat().st_mode & 0o777 == 0o600
    assert prefca("status", "--check").status == 0
    assert prefca("activation", "show", "--json").json["active"] is True

    assert prefca("activation", "end").status == 0
    assert not (tmp_path / "run" / "pin").exists()
    assert prefca("batch", "--now").status == 4


@pytest.mark.parametrize(
    ("which", "complaint"),
    [
        pytest.param([1], "2 shares are needed, and 1 given", id="one alone"),
        pytest.param([1, 1], "one share was given twice", id="one twice"),
    ],
)
def test_fewer_do_not(
    hsm_ca: Path, shares: list[Path], tmp_path: Path, prefca: Prefca, which: list[int], complaint: str
) -> None:
    """And the token hears nothing of it."""
    ended = prefca("activation", "start", *given(*(shares[number] for number in which)))
    assert (ended.status, complaint in ended.complaint) == (3, True)
    assert not (tmp_path / "run" / "pin").exists()


def test_the_pin_before_opens_the_token_no_more(
    hsm_ca: Path, shares: list[Path], tmp_path: Path, prefca: Prefca
) -> None:
    """Nobody knows the new one, whoever knew that."""
    split = ("--needed", "2", "--shares", "2", "--pin-file", tmp_path / "pin", "--out", tmp_path / "again")
    assert "wrong PIN" in prefca("activation", "split", *split, "--shares-lost").complaint


@pytest.mark.req("R-6-2-1-2", "R-4-11-1")
def test_nobody_splits_it_anew_alone_and_unseen(
    hsm_ca: Path, shares: list[Path], tmp_path: Path, prefca: Prefca
) -> None:
    """Whoever reads the PIN of an active key cannot take it from those who have shares, but with a trace."""
    assert prefca("activation", "start", *given(*shares[:2])).status == 0
    split = ("activation", "split", "--needed", "2", "--shares", "2", "--pin-file", tmp_path / "run" / "pin")
    ended = prefca(*split, "--out", tmp_path / "mine")
    assert (ended.status, "takes shares of before" in ended.complaint) == (3, True)
    assert prefca(*split, "--out", tmp_path / "mine", "--shares-lost").status == 0
    assert select("SELECT count(*) FROM operation_record WHERE kind = 'activation_data_split_without_shares'") == [(1,)]


def test_shares_are_renewed_by_those_who_have_them(
    hsm_ca: Path, shares: list[Path], tmp_path: Path, prefca: Prefca
) -> None:
    """As when one of them leaves: what that person had opens nothing any more."""
    out = tmp_path / "again"
    again = ("--needed", "2", "--shares", "2", "--new-pin", "--out", out)
    assert prefca("activation", "split", *again, *given(*shares[:2])).status == 0
    assert "of another secret" in prefca("activation", "start", *given(*shares[:2])).complaint
    assert prefca("activation", "start", *given(*sorted(out.iterdir()))).status == 0


def test_a_key_that_is_active_stays_so_with_the_new_pin(
    hsm_ca: Path, shares: list[Path], tmp_path: Path, prefca: Prefca
) -> None:
    """Nobody sends the token the PIN of before, until it locks itself."""
    assert prefca("activation", "start", *given(*shares[:2])).status == 0
    before = (tmp_path / "run" / "pin").read_text()
    again = ("activation", "split", "--needed", "2", "--shares", "2", "--new-pin", "--out", tmp_path / "again")
    assert prefca(*again, *given(*shares[:2])).status == 0
    assert (tmp_path / "run" / "pin").read_text() != before
    assert prefca("batch", "--now").status == 0


def test_a_pin_that_lies_in_a_file_is_not_renewed(hsm_ca: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Whoever reads that file would lock the token."""
    configuration = hsm_ca / "prefca.toml"
    configuration.write_text(configuration.read_text().replace("activation_file", "pin_file"))
    split = ("activation", "split", "--needed", "2", "--shares", "2", "--new-pin", "--pin-file", tmp_path / "pin")
    ended = prefca(*split, "--out", tmp_path / "shares")
    assert (ended.status, "set `signer.activation_file`" in ended.complaint) == (3, True)


def test_a_split_that_was_stopped_leaves_the_one_before(
    hsm_ca: Path, shares: list[Path], tmp_path: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While shares are handed over nothing has changed; and nobody is locked out, whenever it is stopped."""
    out = tmp_path / "again"
    out.mkdir()
    (out / "share-2.txt").write_text("in the way")
    again = ("activation", "split", "--needed", "2", "--shares", "2", "--new-pin", *given(*shares[:2]), "--out")
    assert prefca(*again, out).status != 0
    assert prefca("activation", "start", *given(*shares[1:])).status == 0

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("issuer.operations.activation.change_pin", stopped)
        assert prefca(*again, tmp_path / "lost").status != 0
    assert prefca(*again, tmp_path / "new").status == 0
    assert prefca("activation", "start", *given(*sorted((tmp_path / "new").iterdir()))).status == 0


def test_shares_are_not_poured_out(hsm_ca: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Where there is no terminal to show each to its person alone, they go into files or nowhere."""
    split = ("activation", "split", "--needed", "2", "--shares", "2", "--pin-file", tmp_path / "pin")
    ended = prefca(*split)
    assert (ended.status, ended.stdout, "add --out" in ended.complaint) == (3, "", True)


@pytest.mark.req("R-5-2-2-1")
def test_with_operators_four_persons_activate_it(
    hsm_ca: Path, shares: list[Path], tmp_path: Path, prefca: Prefca
) -> None:
    """Two key managers and two senior operators agree; the shares are entered when it is run."""
    staff = tmp_path / "staff"
    assert prefca("operator", "first", write_staff(staff)).status == 0
    assert "entered when the operation is run" in prefca("activation", "start", *given(*shares)).complaint
    number = str(prefca("activation", "start", "--days", "7", "--json").json["operation"])
    for name in ("keys1", "keys2", "senior1"):
        key = ("--key", staff / f"{name}.pem", "--passphrase-file", staff / "passphrase", "--yes", "--json")
        assert prefca("operation", "approve", number, *key).status == 0
    assert "1 senior-operator" in prefca("operation", "run", number, *given(*shares)).complaint
    key = ("--key", staff / "senior2.pem", "--passphrase-file", staff / "passphrase", "--yes", "--json")
    assert prefca("operation", "approve", number, *key).status == 0
    assert "2 shares are needed" in prefca("operation", "run", number, *given(shares[0])).complaint
    assert prefca("operation", "run", number, *given(*shares[1:])).status == 0
    assert prefca("batch", "--now").status == 0
    assert prefca("operation", "verify", "--all").status == 0


def watched(*arguments: str | Path, instance: Path) -> tuple[Ended, bytes]:
    """How a command ended, and all that others could see of its process meanwhile."""
    process = start(*arguments, instance=instance)
    seen = set()
    while process.poll() is None:
        for name in ("cmdline", "environ", "limits"):
            try:
                seen.add(Path(f"/proc/{process.pid}/{name}").read_bytes())
            except OSError:
                break
    stdout, stderr = process.communicate()
    return Ended(process.returncode, stdout, stderr), b"\n".join(seen)


def test_neither_pin_nor_share_is_seen_by_others(
    hsm_ca: Path, shares: list[Path], tmp_path: Path, prefca: Prefca, hsm: SoftHSM
) -> None:
    """Not in arguments, environment, output, log or records: only in the files that are for it."""
    started, seen = watched("activation", "start", *given(*shares[:2]), instance=hsm_ca)
    pin = (tmp_path / "run" / "pin").read_text().strip()
    batch, seen_of_batch = watched("batch", "--now", instance=hsm_ca)
    again, seen_of_split = watched(
        *("activation", "split", "--needed", "2", "--shares", "2", "--new-pin", "--out", tmp_path / "again"),
        *given(*shares[:2]),
        instance=hsm_ca,
    )
    assert (started.status, batch.status, again.status) == (0, 0, 0)
    secrets = [pin, hsm.pin, *(file.read_text().split()[-1] for file in [*shares, *(tmp_path / "again").iterdir()])]
    tables = ("operation_record", "operation", "operation_event", "activation_data")
    records = repr([select(f"SELECT * FROM {table}") for table in tables])
    for octets in (seen, seen_of_batch, seen_of_split):
        assert re.search(rb"Max core file size +0 +0", octets)
        assert b"activation" in octets or b"batch" in octets
        assert not any(secret.encode() in octets for secret in secrets)
    for text in (records, *(one.stdout + one.stderr for one in (started, batch, again))):
        assert not any(secret in text for secret in secrets)
    search: list[str | Path] = ["grep", "-rlF", pin, hsm_ca, tmp_path / "shares", tmp_path / "again"]
    assert subprocess.run(search, capture_output=True, check=False).stdout == b""


def test_the_scheduler_removes_the_pin_at_the_end(
    hsm_ca: Path, shares: list[Path], tmp_path: Path, prefca: Prefca
) -> None:
    """And whoever comes before it finds the key closed, though the file is still there."""
    assert prefca("activation", "start", "--days", "0.00002", *given(*shares[:2])).status == 0
    while prefca("activation", "show", "--json").json["active"]:
        pass
    assert (tmp_path / "run" / "pin").exists()
    (tmp_path / "run" / ".pin.new").write_text("what a process left that was killed")
    assert prefca("batch", "--now").status == 4

    async def look() -> None:
        async with opened(load(hsm_ca)) as installation:
            await activation.tidy(installation)

    run(look())
    assert list((tmp_path / "run").iterdir()) == []


SIGNER = SignerSection(kind="pkcs11", module=Path("m"), token="t", activation_file=Path("run/pin"))


@pytest.fixture
def activated(tmp_path: Path) -> Settings:
    """Settings with a file that has the PIN."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pin").write_text("1234")
    return Settings(instance=tmp_path, signer=SIGNER)


@pytest.mark.parametrize(
    ("newest", "alarms"),
    [
        pytest.param(None, ["key_not_activated"], id="never"),
        pytest.param(Activation(1, NOW, NOW + timedelta(hours=48), None), [], id="long enough"),
        pytest.param(Activation(1, NOW, NOW + timedelta(hours=47), None), ["activation_ending"], id="soon"),
        pytest.param(Activation(1, NOW, NOW, None), ["key_not_activated"], id="over"),
        pytest.param(Activation(1, NOW, NOW + timedelta(days=9), NOW), ["key_not_activated"], id="ended"),
    ],
)
def test_operators_are_called_before_the_end(activated: Settings, newest: Activation | None, alarms: list[str]) -> None:
    """Two lists before, so that four persons can come."""
    assert [alarm.name for alarm in activation.alarms(activated, newest, NOW)] == alarms


def test_a_restart_takes_the_file_away(activated: Settings) -> None:
    """It lay on a tmpfs; the key managers have to come."""
    activated.path(Path("run/pin")).unlink()
    found = activation.alarms(activated, Activation(1, NOW, NOW + timedelta(days=9), None), NOW)
    assert [alarm.name for alarm in found] == ["key_not_activated"]


def test_a_pin_in_a_file_is_no_secret_of_several() -> None:
    """A production CA with one calls for its operators; a test CA may have it."""
    signer = SignerSection(kind="pkcs11", module=Path("m"), token="t", pin_file=Path("pin"))
    for hierarchy, names in (("production", ["pin_in_file"]), ("test", [])):
        ca = CASection.model_validate({"hierarchy": hierarchy})
        settings = Settings(instance=Path("/nowhere"), ca=ca, signer=signer)
        assert [alarm.name for alarm in activation.alarms(settings, None, NOW)] == names
