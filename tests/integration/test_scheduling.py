"""`prefca batch`, `status` and `scheduler` as operators use them."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from issuer.cli import archive, journal, publishing, scheduling
from issuer.installation import Installation
from issuer.signing.key_use import UsedKey, used_list_key
from issuer.watch.keeper import BatchFailedError
from issuer.watch.scheduler import run_batch
from pkix.validity import JST
from settings.load import load
from tests.support.command import ROOT, Prefca, select
from tests.support.running import eventually

TOKYO_LISTS = 64
STOP_TIMEOUT_S = 20


@pytest.fixture
def moment(instance: Path, monkeypatch: pytest.MonkeyPatch) -> datetime:
    """A moment of the schedule that has just passed, after the first publication."""
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    time.sleep((moment - datetime.now(UTC)).total_seconds())
    monkeypatch.setenv("PREFCA_SCHEDULE__DAILY_AT", f"{moment.astimezone(JST):%H:%M:%S}")
    return moment


def publications() -> int:
    """How many there ever were."""
    return len(select("SELECT FROM publication"))


def let_lists_be_late(age: str) -> None:
    """Put lists of that age in force, as if nobody had published since."""
    select(
        "INSERT INTO publication (authority_id, cut_off, this_update, next_publish, next_update, published_at)"
        " SELECT authority_id, at, at, at + interval '24 h', at + interval '72 h', at"
        f" FROM authority, date_trunc('second', now() - interval '{age}') AS at RETURNING publication_id"
    )


def rfc3339(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.req("R-4-4-3-1", "R-4-4-9-1")
def test_regular_lists_are_published_once(moment: datetime, prefca: Prefca) -> None:
    """With the cut-off of the schedule; asked again, the batch says when there is something to do."""
    published = prefca("batch", "--json").json
    assert (published["lists"], published["cut_off"]) == (TOKYO_LISTS, rfc3339(moment))
    tomorrow = rfc3339(moment + timedelta(days=1))
    assert published["next_publish"] == tomorrow
    again = prefca("batch")
    assert (again.status, again.stdout) == (
        0,
        f"nothing is due before {tomorrow}: publication {published['publication']} is in force;"
        " `prefca batch --now` publishes all the same\n",
    )
    assert prefca("batch", "--json").json == {
        "publication": None,
        "in_force": published["publication"],
        "next_at": tomorrow,
    }


@pytest.mark.req("R-4-4-3-1")
def test_what_another_batch_published_meanwhile_is_not_published_again(
    moment: datetime, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look and the batch somebody published: there is nothing to do, and nothing wrong."""
    count = publications()

    @asynccontextmanager
    async def slowly(installation: Installation, *others: Any) -> AsyncIterator[UsedKey]:
        await run_batch(installation.settings, "--now")
        async with used_list_key(installation, *others) as key:
            yield key

    monkeypatch.setattr(scheduling, "used_list_key", slowly)
    ended = prefca("batch")
    assert ended.status == 0
    assert ended.stdout.startswith(f"nothing is due before {rfc3339(moment + timedelta(days=1))}: ")
    assert publications() == count + 1


@pytest.mark.req("R-4-4-9-2")
def test_a_list_outside_the_schedule_does_not_move_it(moment: datetime, prefca: Prefca) -> None:
    """It says the moment of the next regular one."""
    tomorrow = rfc3339(moment + timedelta(days=1))
    published = prefca("batch", "--now", "--json").json
    assert (published["publication"] is not None, published["next_publish"]) == (True, tomorrow)


def set_clock(ahead: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `prefca batch` have a clock that differs from the database's."""
    monkeypatch.setattr(scheduling, "now", lambda: datetime.now(UTC) + ahead)


@pytest.mark.req("R-4-4-9-1", "R-7-2-1")
@pytest.mark.parametrize("ahead", [timedelta(days=400), timedelta(minutes=-6)], ids=["ahead", "behind"])
@pytest.mark.parametrize("options", [(), ("--now",)], ids=["regular", "at once"])
def test_a_clock_that_is_not_the_databases_publishes_nothing(
    ahead: timedelta, options: tuple[str, ...], instance: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, no number is used up, and the right one publishes as before."""
    before = publications()
    set_clock(ahead, monkeypatch)
    refused = prefca("batch", *options)
    assert refused.status == 4
    assert refused.complaint.startswith(f"the clock of this machine shows {datetime.now(UTC) + ahead:%Y-%m-%dT}")
    assert refused.complaint.endswith("; set the one that is wrong (NTP)")
    assert publications() == before
    set_clock(timedelta(minutes=2), monkeypatch)
    assert prefca("batch", "--now").status == 0
    assert select("SELECT DISTINCT next_crl_number FROM partition") == [(3,)]


@pytest.mark.req("R-4-4-3-1")
def test_a_single_list_is_never_published(shared_instance: Path, prefca: Prefca) -> None:
    """The line says why, and how to look at one."""
    ended = prefca("batch", "--now", "--only", "131016")
    assert ended.status == 3
    assert ended.complaint.startswith("a batch publishes all lists together or none")
    assert ended.complaint.endswith("add --dry-run to look at this list")


def test_a_dry_run_shows_the_lists_and_publishes_nothing(instance: Path, prefca: Prefca) -> None:
    """All of them or one, with the numbers that they would have; a number is not used up."""
    before = publications()
    for _ in range(2):
        made = prefca("batch", "--dry-run", "--json").json
        assert [(one["crl_number"], one["entries"]) for one in made["lists"]] == [(2, 0)] * TOKYO_LISTS
    for only in "131016", "千代田区", "Chiyoda-ku":
        shown = prefca("batch", "--dry-run", "--now", "--only", only).stdout.splitlines()
        assert shown[1].split()[:4] == ["131016", "千代田区", "2", "0"]
        assert shown[2].startswith("Tokyo-to: nothing was published; received until ")
    refused = prefca("batch", "--dry-run", "--only", "162019")
    assert refused.status == 3
    assert refused.complaint.startswith("'162019' has no list here; write a municipality's code or name")
    assert publications() == before


def test_status_shows_number_dates_entries_and_size_of_each_list(shared_instance: Path, prefca: Prefca) -> None:
    """As a table for people, and for scripts."""
    lists = prefca("status", "--json").json["lists"]
    assert len(lists) == TOKYO_LISTS
    (chiyoda,) = [one for one in lists if one["list"] == "131016"]
    columns = [
        "list",
        "name",
        "crl_number",
        "entries",
        "size",
        "generation",
        "this_update",
        "next_publish",
        "next_update",
    ]
    assert list(chiyoda) == columns
    (row,) = [line for line in prefca("status").stdout.splitlines() if line.startswith("131016")]
    assert row.split() == [str(chiyoda[column]) for column in columns]


@pytest.mark.req("R-2-1-2-21", "R-4-4-10")
def test_a_monitoring_program_learns_of_late_lists(instance: Path, prefca: Prefca) -> None:
    """By exit status 5, a line, or JSON; before they end."""
    well = prefca("status", "--check")
    assert (well.status, well.stdout) == (0, "Tokyo-to: no alarm\njournal: no alarm\n")
    let_lists_be_late("60 h")
    late = prefca("status", "--check")
    assert late.status == 5
    assert late.stdout.startswith("Tokyo-to: late: new lists were due at ")
    told = prefca("status", "--check", "--json")
    assert told.status == 5
    assert '"expiring"' in told.stdout
    assert "ALARM late: new lists were due at " in prefca("status").stdout


@pytest.mark.req("R-4-11-6")
@pytest.mark.usefixtures("instance")
def test_a_monitoring_program_learns_of_daily_work_that_no_scheduler_does(
    prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Journals that are not collected, roots without a time stamp, backups."""

    def told() -> set[str]:
        ended = prefca("status", "--check", "--json")
        names = {one["name"] for one in json.loads(ended.stdout)}
        assert ended.status == (5 if names else 0)
        return names - {"late", "expiring", "expired"}

    def after(days: int) -> None:
        moment = datetime.now(UTC) + timedelta(days=days)
        for module in (archive, journal, publishing):
            monkeypatch.setattr(module, "now", lambda: moment)

    monkeypatch.setenv("PREFCA_ARCHIVE__BACKUP_COMMAND", "true")
    monkeypatch.setenv("PREFCA_ARCHIVE__TIME_STAMP_AUTHORITY", "http://127.0.0.1:1/")
    monkeypatch.setenv("PREFCA_ARCHIVE__TIME_STAMP_ROOTS", "tsa.pem")
    assert told() == set()
    after(2)
    assert told() == {"journal_not_collected", "backup_late"}
    assert "ALARM backup_late: no backup for 26 hours (none was ever made); " in prefca("status").stdout
    assert prefca("journal", "collect").status == 0
    assert told() == {"backup_late"}
    after(4)
    assert told() == {"journal_not_collected", "journal_not_stamped", "backup_late"}
    assert prefca("archive", "backup").status == 0
    assert told() == {"journal_not_collected", "journal_not_stamped"}


async def test_a_batch_of_the_scheduler_is_a_process_of_its_own(instance: Path, moment: datetime) -> None:
    """What it says is passed on, whether it works or not."""
    settings = load(instance)
    assert (await run_batch(settings))["lists"] == TOKYO_LISTS
    assert (await run_batch(settings))["publication"] is None
    assert (await run_batch(settings, "--now"))["lists"] == TOKYO_LISTS
    (instance / "secrets" / "ca-key.passphrase").unlink()
    with pytest.raises(BatchFailedError, match="put the secret there") as failure:
        await run_batch(settings, "--now")
    assert failure.value.status == 4


class Program:
    """A running `prefca scheduler`."""

    def __init__(self, log: Path, stdin: int | None) -> None:
        self._log = log
        command = [sys.executable, "-m", "issuer", "scheduler"]
        with log.open("w") as stderr:
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=stdin, stderr=stderr)

    def has_said(self, event: str) -> bool:
        """Whether its log has that event."""
        return f" prefca.scheduler {event} " in self._log.read_text()

    def has_said_of_settings(self, text: str) -> bool:
        """Whether a line about its settings has that."""
        lines = self._log.read_text().splitlines()
        return any(text in line for line in lines if " prefca.settings " in line)

    def publishes_at(self, daily_at: str) -> bool:
        """Whether it said last that it will publish then, hh:mm in Japan."""
        next_moment = datetime.fromisoformat(self._log.read_text().rpartition(" next=")[2].split()[0])
        return f"{next_moment.astimezone(JST):%H:%M}" == daily_at


@contextmanager
def schedulers(
    directory: Path, count: int, monkeypatch: pytest.MonkeyPatch, stdin: int | None = None
) -> Iterator[list[Program]]:
    """As many machines as that, which look each second."""
    settings: dict[str, Any] = {"LOOK_EVERY_S": 1, "ADMIN_LISTEN": "127.0.0.1:0"}
    for key, value in settings.items():
        monkeypatch.setenv(f"PREFCA_SCHEDULER__{key}", str(value))
    with ExitStack() as stack:
        programs = [Program(directory / f"scheduler-{number}.log", stdin) for number in range(count)]
        for program in programs:
            stack.callback(program.process.wait, STOP_TIMEOUT_S)
            stack.callback(program.process.terminate)
        yield programs


def publishes_once(runner: Program) -> None:
    """Lists that are late, as soon as it sees that they are."""
    let_lists_be_late("30 h")
    count = publications()
    eventually(lambda: runner.has_said("published"), "lists are published")
    assert publications() == count + 1


@pytest.mark.req("R-2-6-4", "R-4-4-10", "R-4-14-1")
def test_a_machine_that_dies_is_replaced(instance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two schedulers one publishes late lists; after kill -9 of that one, the other one does."""
    with schedulers(tmp_path, 2, monkeypatch) as programs:
        (first,) = eventually(lambda: [one for one in programs if one.has_said("runner")], "one publishes")
        publishes_once(first)
        (other,) = (one for one in programs if one is not first)
        assert not other.has_said("runner")
        first.process.kill()
        eventually(lambda: other.has_said("runner"), "the other one publishes")
        publishes_once(other)


def test_a_scheduler_stops_when_it_is_told_to(instance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With status 0."""
    with schedulers(tmp_path, 1, monkeypatch) as (program,):
        eventually(lambda: program.has_said("runner"), "it runs")
        program.process.terminate()
        assert program.process.wait(STOP_TIMEOUT_S) == 0


def test_a_scheduler_whose_terminal_is_closed_stops(
    instance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGHUP tells it that, too; nobody would see it go on."""
    window, terminal = pty.openpty()
    with schedulers(tmp_path, 1, monkeypatch, stdin=terminal) as (program,):
        os.close(terminal)
        eventually(lambda: program.has_said("runner"), "it runs")
        os.close(window)
        program.process.send_signal(signal.SIGHUP)
        assert program.process.wait(STOP_TIMEOUT_S) == 0


@pytest.mark.req("R-4-4-3-1", "R-2-1-2-22")
def test_a_new_schedule_needs_no_restart(instance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At SIGHUP, or a moment after the file was written. With a file that is wrong the schedule before goes on."""
    file = instance / "prefca.toml"
    text = file.read_text()

    def write(daily_at: str) -> None:
        file.write_text(text.replace('# daily_at = "00:00"', f'daily_at = "{daily_at}"'))

    with schedulers(tmp_path, 1, monkeypatch) as (program,):
        eventually(lambda: program.has_said("runner"), "it runs")
        assert program.publishes_at("00:00")
        write("25:00")
        program.process.send_signal(signal.SIGHUP)
        eventually(lambda: program.has_said_of_settings(f"settings_refused reason={file}: `schedule.daily_at`"), "why")
        write("12:34")
        program.process.send_signal(signal.SIGHUP)
        eventually(lambda: program.publishes_at("12:34"), "it goes by the file")
        write("01:23")
        eventually(lambda: program.publishes_at("01:23"), "it has noticed")
        assert not program.has_said("published")


def test_a_scheduler_needs_something_to_schedule(
    tmp_path: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped instance is told at once."""
    ended = prefca("--instance", tmp_path / "nowhere", "scheduler")
    assert ended.status == 3
    assert "run `prefca init`, or correct --instance" in ended.complaint
