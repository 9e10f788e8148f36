"""The daily backup: an operator's command, run by the scheduler after the collection (R-4-11-6, R-4-12-2-4)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from issuer import children
from issuer.alarm import Alarm, Channel
from issuer.children import FailedError
from issuer.rules.media import MediaSight
from issuer.watch import collector, installation_sight
from issuer.watch.collector import Collector
from issuer.watch.installation_sight import InstallationSight
from settings.load import Settings, load
from settings.sections import ArchiveSection
from tests.support.command import Prefca, select
from tests.support.segments import answered, written

pytestmark = pytest.mark.req("R-4-11-6", "R-4-12-2-4")
COMMAND = "PREFCA_ARCHIVE__BACKUP_COMMAND"
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        ("sh -c 'cp -r journal copied'", 0, ""),
        ("sh -c 'echo first; echo no medium >&2; exit 7'", 4, "sh ended with status 7: no medium; mend it"),
        ("/no/such/program --now", 4, "/no/such/program: No such file"),
    ],
    ids=["done", "failed", "missing"],
)
def test_the_command_runs_in_the_instance_and_its_outcome_is_on_record(
    instance: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch, command: str, status: int, told: str
) -> None:
    """What it printed last is told if it failed."""
    (instance / "journal").mkdir(exist_ok=True)
    monkeypatch.setenv(COMMAND, command)
    ended = prefca("archive", "backup")
    assert (ended.status, told in ended.stderr) == (status, True), ended
    assert (instance / "copied").exists() == (status == 0)
    assert select("SELECT result FROM operation_record WHERE kind = 'backup'") == [("refused" if status else "done",)]
    assert select("SELECT count(*)::int FROM backup_run") == [(0 if status else 1,)]


def test_without_a_command_there_is_no_backup(shared_instance: Path, prefca: Prefca) -> None:
    """And it says what to set."""
    assert shared_instance.exists()
    ended = prefca("archive", "backup")
    assert (ended.status, "set `archive.backup_command`" in ended.complaint) == (2, True)


async def test_the_scheduler_backs_up_once_a_day_after_the_collection(
    instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is copied has the journals of the day before; a scheduler that is started again does not repeat it."""
    monkeypatch.setattr(collector, "LOOK_EVERY_S", 0.02)
    monkeypatch.setenv(COMMAND, "sh -c 'ls archive/journal/ocsp-0 >> copied'")
    written(instance, "ocsp-0", answered("tester"))
    for _ in range(2):
        journals = Collector(load(instance), lambda: datetime.now(UTC), [])
        keeping = asyncio.create_task(journals.keep())
        async with asyncio.timeout(30):
            while journals.backed_up_at is None:  # noqa: ASYNC110 - no event for tests
                await asyncio.sleep(0.02)
        keeping.cancel()
    assert (instance / "copied").read_text() == "ocsp-0-00000001.jsonl.zst\n"


class Days:
    """A collector whose commands are played, and a clock that moves an hour with each look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **section: object) -> None:
        self.failures: dict[str, FailedError] = {}
        self.alarms: list[set[str]] = []
        self._now = datetime(2026, 10, 14, 15, 5, tzinfo=UTC)  # just after midnight in Japan
        monkeypatch.setattr(collector, "LOOK_EVERY_S", 0)
        monkeypatch.setattr(children, "command", self._command)
        settings = Settings(instance=tmp_path, archive=ArchiveSection.model_validate(section))
        self._collector = Collector(settings, lambda: self._now, [_Noting(self.alarms)])
        self._began = self._now
        self._backed_up_at: datetime | None = None
        monkeypatch.setattr(Collector, "_last_backup", self._never)
        monkeypatch.setattr(collector, "records", self._records)
        monkeypatch.setattr(installation_sight, "installation_sight", self._sight)

    async def pass_by(self, hours: int) -> list[set[str]]:
        """The alarms at the end of each hour."""
        keeping = asyncio.create_task(self._collector.keep())
        begin = len(self.alarms)
        for hour in range(hours):
            while len(self.alarms) <= begin + hour:  # noqa: ASYNC110 - the collector's own pace
                await asyncio.sleep(0)
            self._now += HOUR
        keeping.cancel()
        return self.alarms[begin : begin + hours]

    async def _command(self, *arguments: str, timeout_s: float) -> dict[str, object]:
        failure = self.failures.get(arguments[3])
        if failure is not None:
            raise failure
        if arguments[3] == "backup":
            self._backed_up_at = self._now
        return {"segments": 1, "records": 5, "root": 1, "done_at": self._now.isoformat()}

    async def _never(self, _: Collector | None = None) -> None:
        return None

    @contextlib.asynccontextmanager
    async def _records(self, _: Settings) -> AsyncIterator[None]:
        yield

    async def _sight(self, _: None) -> InstallationSight:
        return InstallationSight(self._now, None, self._backed_up_at, MediaSight(self._began, (), {}), None)


class _Noting(Channel):
    def __init__(self, alarms: list[set[str]]) -> None:
        super().__init__(lambda _: asyncio.sleep(0))
        self._alarms = alarms

    async def tell(self, standing: Sequence[Alarm], now: datetime) -> None:
        self._alarms.append({alarm.name for alarm in standing})


async def test_a_backup_that_fails_is_an_alarm_and_26_hours_without_one_are_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both end with the next one that succeeds."""
    days = Days(monkeypatch, tmp_path, backup_command="true")
    assert await days.pass_by(20) == [set()] * 20
    days.failures["backup"] = FailedError("the backup failed: no medium", 4)
    told = await days.pass_by(30)
    assert told[:4] == [set()] * 4
    assert told[5] == {"backup_failed"}
    assert told[-1] == {"backup_failed", "backup_late"}
    del days.failures["backup"]
    assert (await days.pass_by(3))[-1] == set()


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (FailedError("the journals are collected on another host", 3), set()),
        (FailedError("", 3, b'{"refused": ["line 6"]}'), {"journal_tampered", "backup_failed", "backup_late"}),
    ],
    ids=["another host", "tampered"],
)
async def test_only_the_host_that_collects_tells_what_is_late(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: FailedError, told: set[str]
) -> None:
    """Also while a segment is refused."""
    days = Days(monkeypatch, tmp_path, backup_command="true")
    days.failures |= {"collect": failure, "backup": FailedError("the backup failed: no medium", 4)}
    assert (await days.pass_by(30))[-1] == told


async def test_backups_go_on_while_a_segment_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It may take days until somebody has looked into it."""
    days = Days(monkeypatch, tmp_path, backup_command="true")
    days.failures["collect"] = FailedError("", 3, b'{"refused": ["line 6"]}')
    assert await days.pass_by(60) == [{"journal_tampered"}] * 60


async def test_an_authority_for_time_stamps_that_is_away_is_an_alarm_after_an_hour(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not at once; backups go on meanwhile."""
    days = Days(
        monkeypatch,
        tmp_path,
        backup_command="true",
        time_stamp_authority="http://127.0.0.1:1/tsa",
        time_stamp_roots="tsa.pem",
    )
    days.failures["stamp"] = FailedError("cannot be reached", 4)
    told = await days.pass_by(30)
    assert (told[0], told[2], told[-1]) == (set(), {"journal_not_stamped"}, {"journal_not_stamped"})
    del days.failures["stamp"]
    assert (await days.pass_by(2))[-1] == set()
