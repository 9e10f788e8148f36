"""The settings of a program that runs for long: when a changed file is taken up, and when it is not."""

import asyncio
from pathlib import Path

import pytest

from issuer.watch.current import CurrentSettings
from settings import log
from settings.load import FILE_NAME, Settings, parse

BEFORE, AFTER = "[crl]\nperiod_h = 12\n", "[crl]\nperiod_h = 6\n"
BROKEN = "[crl]\nperiod_h ="


@pytest.mark.parametrize(
    ("texts", "is_told", "refusals"),
    [
        ([BEFORE, AFTER, AFTER], False, 0),
        ([BEFORE, "", AFTER, AFTER], False, 0),
        ([BEFORE, BROKEN, AFTER, AFTER], False, 0),
        ([BEFORE, BROKEN, BROKEN, BROKEN, AFTER, AFTER], False, 1),
        ([BEFORE, AFTER], True, 0),
        ([BEFORE, BROKEN, BROKEN, AFTER, AFTER], True, 1),
    ],
    ids=["steady", "being emptied", "being written", "broken", "told", "broken when told"],
)
async def test_settings_are_taken_up(
    texts: list[str],
    is_told: bool,
    refusals: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the file says the same at two looks, or at the one that somebody asks for; why they cannot be is said once."""
    monkeypatch.setattr(log, "set_up", lambda _: None)
    (tmp_path / FILE_NAME).touch()
    remaining = list(texts)

    def read() -> Settings:
        settings = parse(remaining.pop(0), tmp_path, {})
        section = settings.scheduler.model_copy(update={"look_every_s": 0.001})
        return settings.model_copy(update={"scheduler": section})

    current = CurrentSettings(read)
    if is_told:
        current.reload()
    async with asyncio.timeout(10):
        await current.changed()
    assert (current.settings.crl.period_h, remaining) == (6, [])
    refused = [record for record in caplog.records if record.message == "settings_refused"]
    assert len(refused) == refusals
    assert all(str(tmp_path / FILE_NAME) in vars(record)["reason"] for record in refused)


async def test_a_file_that_is_gone_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without it everything would have its default, and the scheduler would be that of another CA."""
    (tmp_path / FILE_NAME).write_text(AFTER)
    current = CurrentSettings(lambda: parse((tmp_path / FILE_NAME).read_text(), tmp_path, {}))
    (tmp_path / FILE_NAME).unlink()
    current.reload()
    with caplog.at_level("INFO"), pytest.raises(TimeoutError):
        await asyncio.wait_for(current.changed(), 0.05)
    assert caplog.messages == ["settings_unchanged"]
