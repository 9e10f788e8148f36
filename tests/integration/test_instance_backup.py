"""`prefca backup`, `restore`, `crl enter` where the drill does not get: other servers, kills, what is missing."""

import asyncio
import fcntl
import json
import os
import shutil
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from issuer.errors import NotNowError, RefusedError
from issuer.installation import connected
from issuer.postgres.dump import without_password
from issuer.profiles.crl import ListOrder, certificate_list
from issuer.records.instance_store import InstanceStore
from issuer.recovery import restoration
from issuer.recovery.instance_backup import back_up
from issuer.recovery.restoration import GAP, MARKER, Restored, restore
from pkix.validity import UpdateWindow
from settings.load import INSTANCE_VARIABLE, load
from tests.support.ca import notice_line, software_ca
from tests.support.command import DSN_VARIABLE, Prefca, select, start
from tests.support.database import Database, fresh_database
from tests.support.operators import write_staff

NOW = datetime(2026, 4, 1, 3, 0, 0, tzinfo=UTC)
NUMBER = "SELECT min(next_crl_number) FROM partition"


@pytest.fixture
async def both(supported_postgres: Path) -> AsyncIterator[tuple[Database, Database]]:
    """Two databases without schema, there."""
    async with (
        fresh_database(supported_postgres, template="template1") as one,
        fresh_database(supported_postgres, "template1") as other,
    ):
        yield one, other


@pytest.fixture
async def empty(postgres_instance: Path) -> AsyncIterator[Database]:
    """A database without schema."""
    async with fresh_database(postgres_instance, template="template1") as database:
        yield database


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The instance directory of the other machine."""
    return tmp_path / "elsewhere"


def backed_up(instance: Path, media: Path, now: datetime = NOW) -> Path:
    """A backup, with the secrets beside it."""
    return asyncio.run(back_up(load(instance), media / "backups", media / "secrets", now)).directory


def restored_from(backup: Path, secrets: Path | None, instance: Path, now: datetime) -> Restored:
    return asyncio.run(restore(backup, secrets, instance, now))


@pytest.mark.req("R-4-14-3", "R-4-14-1")
def test_a_backup_is_restored_with_any_server(
    both: tuple[Database, Database], elsewhere: Path, tmp_path: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rights, journals and lists; it is proved whole there."""
    instance = tmp_path / "instance"
    monkeypatch.setenv(DSN_VARIABLE, both[0].dsn)
    monkeypatch.setenv(INSTANCE_VARIABLE, str(instance))
    assert prefca("init").status == 0
    assert prefca("journal", "collect").status == 0
    assert prefca("operator", "first", write_staff(tmp_path / "staff")).status == 0
    operation = prefca("ocsp-delegate", "create", "--json").json["operation"]
    backup = backed_up(instance, tmp_path)
    (number,) = select(NUMBER)[0]
    monkeypatch.setenv(DSN_VARIABLE, both[1].dsn)
    monkeypatch.setenv(INSTANCE_VARIABLE, str(elsewhere))
    restored = restored_from(backup, tmp_path / "secrets" / backup.name, elsewhere, NOW)
    assert restored.manifest["authorities"][0]["newest_number"] == number - 1
    assert select(NUMBER) == [(number + GAP,)]
    checked = prefca("verify-instance", "--json").json
    assert [one["findings"] for of in checked.values() for one in of] == [[]] * 7
    assert {one["what"]: one["checked"] for one in checked["installation"]}["segments of journals"] >= 1
    assert select("SELECT count(*)::int FROM ocsp_delegate_v1", user="prefca_ocsp") == [(1,)]
    assert prefca("batch", "--now").status == 0
    refused = prefca("operation", "run", str(operation))
    assert (refused.status, "was withdrawn" in refused.complaint) == (3, True), "it may have been done since"
    assert prefca("operation", "verify", "--all").status == 0


def test_a_backup_of_a_later_server_is_refused(
    instance: Path, elsewhere: Path, tmp_path: Path, empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is done to the database."""
    backup = backed_up(instance, tmp_path)
    monkeypatch.setattr(InstanceStore, "server_major", 15)
    monkeypatch.setenv(DSN_VARIABLE, empty.dsn)
    with pytest.raises(RefusedError, match="the backup is of PostgreSQL 18, and this is 15; restore into that version"):
        restored_from(backup, None, elsewhere, NOW)


@pytest.mark.req("R-4-14-1", "R-4-12-2-3")
def test_the_archive_is_copied_once(instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """A second backup shares the segments of the first, and each can be restored by itself."""
    prefca("journal", "collect")
    first = backed_up(instance, tmp_path)
    prefca("batch", "--now")
    prefca("journal", "collect")
    second = backed_up(instance, tmp_path, NOW + timedelta(days=1))
    archives = [json.loads((one / "manifest.json").read_text())["archive"] for one in (first, second)]
    assert archives[0].items() < archives[1].items()
    assert len(list((tmp_path / "backups" / "archive").glob("**/*.zst"))) == len(archives[1])


@pytest.mark.req("R-6-4-1-1")
def test_secrets_are_in_no_backup_wherever_they_lie(
    instance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passphrase that does not lie with the others is left out, and named."""
    before = instance / "secrets" / "ca-key.passphrase"
    elsewhere = before.rename(instance / "ca.passphrase")
    passphrase = elsewhere.read_bytes().strip()
    configuration = instance / "prefca.toml"
    configuration.write_text(configuration.read_text().replace("secrets/ca-key.passphrase", "ca.passphrase"))
    made = asyncio.run(back_up(load(instance), tmp_path / "backups", None, NOW))
    assert made.outside == (str(elsewhere),)
    files = [file for file in made.directory.rglob("*") if file.is_file()]
    assert [file for file in files if passphrase in file.read_bytes()] == []
    assert not (made.directory / "instance" / "secrets").exists()


@pytest.mark.parametrize("step", ["load_dump", "_jump"])
def test_a_restoration_that_was_killed_is_gone_on_with(
    instance: Path,
    elsewhere: Path,
    tmp_path: Path,
    empty: Database,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """While the database was loaded, or before its numbers jumped: they jump once."""
    backup = backed_up(instance, tmp_path)
    (number,) = select(NUMBER)[0]
    monkeypatch.setenv(DSN_VARIABLE, empty.dsn)
    with monkeypatch.context() as broken:

        async def killed(*_: object) -> None:
            raise NotNowError(step)

        broken.setattr(restoration, step, killed)
        with pytest.raises(NotNowError, match=step):
            restored_from(backup, None, elsewhere, NOW)
    assert (elsewhere / MARKER).exists()
    restored_from(backup, None, elsewhere, NOW)
    assert select(NUMBER) == [(number + GAP,)]
    with pytest.raises(RefusedError, match="is not empty"):
        restored_from(backup, None, elsewhere, NOW)
    assert select(NUMBER) == [(number + GAP,)]


def test_a_database_that_has_something_is_left_alone(instance: Path, elsewhere: Path, tmp_path: Path) -> None:
    """The one of the installation that was backed up, for example."""
    before = select(NUMBER)
    backup = backed_up(instance, tmp_path)
    for _ in range(2):
        with pytest.raises(RefusedError, match="the database is not empty"):
            restored_from(backup, None, elsewhere, NOW)
    assert select(NUMBER) == before


def test_a_restoration_goes_on_in_no_other_database(
    instance: Path, elsewhere: Path, tmp_path: Path, empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When PREFCA_DATABASE__DSN was forgotten the second time: what is in use somewhere keeps its numbers."""
    backup, in_use = backed_up(instance, tmp_path), os.environ[DSN_VARIABLE]
    before = select(NUMBER)

    async def killed(*_: object) -> None:
        raise NotNowError

    with monkeypatch.context() as broken:
        broken.setenv(DSN_VARIABLE, empty.dsn)
        broken.setattr(restoration, "load_dump", killed)
        with pytest.raises(NotNowError):
            restored_from(backup, None, elsewhere, NOW)
    monkeypatch.setenv(DSN_VARIABLE, in_use)
    with pytest.raises(RefusedError, match="not the one that this restoration began with"):
        restored_from(backup, None, elsewhere, NOW)
    assert select(NUMBER) == before


@pytest.mark.req("R-6-4-1-1")
def test_an_earlier_backup_is_opened_by_its_own_secrets(
    instance: Path, elsewhere: Path, tmp_path: Path, empty: Database, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passphrases may have changed since."""
    passphrase = instance / "secrets" / "ca-key.passphrase"
    before, backup = passphrase.read_bytes(), backed_up(instance, tmp_path)
    passphrase.write_text("another one\n")
    backed_up(instance, tmp_path, NOW + timedelta(days=1))
    monkeypatch.setenv(DSN_VARIABLE, empty.dsn)
    monkeypatch.setenv(INSTANCE_VARIABLE, str(elsewhere))
    assert prefca("restore", backup, "--secrets", tmp_path / "secrets").status == 0
    assert (elsewhere / "secrets" / "ca-key.passphrase").read_bytes() == before
    assert prefca("key", "check").status == 0


def test_two_backups_do_not_go_to_one_place_at_once(instance: Path, tmp_path: Path) -> None:
    """They share the archive; elsewhere, or later, it goes."""
    (tmp_path / "backups").mkdir()
    descriptor = os.open(tmp_path / "backups", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(NotNowError, match="another backup goes to"):
        backed_up(instance, tmp_path)
    os.close(descriptor)
    backed_up(instance, tmp_path)


@pytest.mark.req("R-4-14-3")
def test_what_a_killed_backup_left_is_removed_by_the_next(instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Half a backup, and half of its secrets; what else lies there stays."""
    media, secrets = tmp_path / "backups", tmp_path / "secrets"
    process = start("backup", media, "--secrets", secrets, instance=instance, dsn=os.environ[DSN_VARIABLE])
    while not (found := list(media.glob("*.unfinished"))) and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert found
    assert found[0].exists()
    (secrets / found[0].name).mkdir(parents=True)
    (media / "notes.unfinished").mkdir()
    assert prefca("backup", media, "--secrets", secrets).status == 0
    assert [one.name for one in media.glob("*.unfinished")] == ["notes.unfinished"]
    assert list(secrets.glob("*.unfinished")) == []
    (made,) = (one.name for one in secrets.iterdir())
    assert (media / made / "manifest.json").exists()


@pytest.mark.req("R-4-14-1", "R-4-14-2")
def test_a_compromise_that_the_backup_lacks_is_told(
    instance: Path,
    elsewhere: Path,
    tmp_path: Path,
    empty: Database,
    prefca: Prefca,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before its revocations are entered as if they were single ones: the key issues nothing, OCSP goes on."""
    backup, lists = backed_up(instance, tmp_path), tmp_path / "lists"
    status = prefca("status", "--json").json
    named = ("--name", status["authority"]["name"], "--fingerprint", status["ca_certificate"]["sha256"])
    assert prefca("compromise", *named).status == 0
    prefca("crl", "export", lists, "--der")
    monkeypatch.setenv(DSN_VARIABLE, empty.dsn)
    monkeypatch.setenv(INSTANCE_VARIABLE, str(elsewhere))
    restored_from(backup, tmp_path / "secrets" / backup.name, elsewhere, NOW)
    refused = prefca("crl", "enter", lists)
    assert refused.status == 3
    assert "was compromised; nothing was entered, run `prefca compromise --key 1` first" in refused.complaint
    assert select("SELECT count(*)::int FROM revocation") == [(0,)]
    assert prefca("compromise", *named).status == 0
    assert prefca("crl", "enter", lists, "--json").json["entered"] == 0
    assert select("SELECT count(*)::int FROM ocsp_delegate_v1") == [(1,)]


def test_every_number_and_every_reader_jumps(instance: Path) -> None:
    """Those of publications, records and changes, too; readers that were further hear of everything anew."""
    sequences = "SELECT sequencename, last_value FROM pg_sequences WHERE data_type = 'bigint'::regtype"
    before, (last,) = dict(select(sequences)), select("SELECT last FROM change_counter")[0]

    async def jump() -> None:
        async with connected(load(instance), "owner") as connection, connection.transaction():
            await InstanceStore(connection).jump(GAP)

    asyncio.run(jump())
    after = dict(select(sequences))
    assert {name: (after[name] or 0) - (value or 0) for name, value in before.items()} == dict.fromkeys(before, GAP)
    kinds = [kind for (kind,) in select(f"SELECT kind FROM change WHERE number > {last + GAP} ORDER BY kind")]
    assert kinds == ["access", "generation", "publication", "revocation"]


@pytest.mark.req("R-4-14-1", "R-4-4-2-4")
def test_what_the_backup_lacks_altogether_is_named(
    instance: Path,
    elsewhere: Path,
    tmp_path: Path,
    empty: Database,
    prefca: Prefca,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A certificate that was issued and revoked after the backup; lists of strangers and other files."""
    backup = backed_up(instance, tmp_path)
    notices, lists = tmp_path / "notices.jsonl", tmp_path / "lists"
    notices.write_bytes(notice_line(1))
    prefca("issue", notices, "--results", tmp_path / "results.jsonl")
    serial = json.loads((tmp_path / "results.jsonl").read_text())["serial"]
    prefca("revoke", serial, "--reason", "1")
    prefca("batch", "--now")
    prefca("crl", "export", lists, "--der")
    monkeypatch.setenv(DSN_VARIABLE, empty.dsn)
    monkeypatch.setenv(INSTANCE_VARIABLE, str(elsewhere))
    restored_from(backup, tmp_path / "secrets" / backup.name, elsewhere, NOW)
    ended = prefca("crl", "enter", lists, "--json")
    told = json.loads(ended.stdout)
    assert (ended.status, told["entered"], told["unknown"], told["refused"]) == (3, 0, [serial], [])
    shutil.rmtree(lists)
    lists.mkdir()
    (lists / "broken.crl").write_bytes(b"0\x00")
    stranger = software_ca()
    window = UpdateWindow(NOW, NOW + timedelta(days=1), NOW + timedelta(days=3))
    (idp,) = select("SELECT idp FROM partition WHERE kind = 'ca'")[0]
    (lists / "strange.crl").write_bytes(
        certificate_list(stranger.issuer, ListOrder(idp, 9, window, ()), stranger.signer)
    )
    ended = prefca("crl", "enter", lists)
    assert (ended.status, "no key of this CA signed it" in ended.stderr) == (3, True)
    assert "broken.crl: it is no CertificateList" in ended.stderr


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("postgresql://host/prefca", ("postgresql://host/prefca", None)),
        ("postgresql://a:p%40ss@host:1/prefca?x=1", ("postgresql://a@host:1/prefca?x=1", "p@ss")),
        ("postgresql:///prefca?host=%2Frun", ("postgresql:///prefca?host=%2Frun", None)),
    ],
)
def test_a_password_is_no_argument_of_another_program(dsn: str, expected: tuple[str, str | None]) -> None:
    """Everybody may read the arguments of a process."""
    assert without_password(dsn) == expected


def test_a_password_in_the_query_is_refused() -> None:
    """It says where it belongs."""
    with pytest.raises(RefusedError, match=r"put it in ~/\.pgpass"):
        without_password("postgresql:///prefca?password=secret")
