"""What is seen of the installation besides its CAs, and what somebody has to do about it.

All of it is in the database: it is told by the scheduler of the host that collects, and where no scheduler lives.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from issuer.alarm import Alarm
from issuer.archive import media_alarm
from issuer.installation import Records
from issuer.rules.media import MediaSight
from pkix.validity import zulu
from settings.load import Settings

LATE: Final = timedelta(hours=26)  # what is to be done daily (R-4-11-6), since it was last done
NAMES: Final = (
    *("journal_not_collected", "journal_not_stamped", "backup_late"),
    *("archive_not_exported", "archive_media_not_read"),  # issuer.archive.media_alarm
)


@dataclass(frozen=True, slots=True)
class InstallationSight:
    """How far the work with journals and archive is; the archive began with `media.began`."""

    collected_until: datetime | None  # None: nothing was collected yet
    unstamped_since: datetime | None  # the oldest root that no time stamp proves; None: there is none
    backed_up_at: datetime | None
    media: MediaSight


async def installation_sight(shared: Records) -> InstallationSight:
    """What the database says now."""
    return InstallationSight(
        await shared.journals.collected_until(),
        await shared.journals.unstamped_since(),
        await shared.backups.last(),
        await shared.media.sight(),
    )


def alarms(sight: InstallationSight, settings: Settings, now: datetime) -> list[Alarm]:
    """All alarms that stand.

    journal_not_collected    nothing was collected for 26 hours
    journal_not_stamped      an authority is configured, and has stamped no root for 26 hours
    backup_late              a backup is configured, and none succeeded for 26 hours

    Args:
        sight: of the installation.
        settings: of all its CAs.
        now: the time.
    """
    is_production = any(ca.hierarchy == "production" for ca in settings.cas)
    return [*_late(sight, settings, now), *media_alarm.alarms(sight.media, now, is_required=is_production)]


def _late(sight: InstallationSight, settings: Settings, now: datetime) -> Iterator[Alarm]:
    began, section = sight.media.began, settings.archive
    collected, unstamped, backup = sight.collected_until, sight.unstamped_since, sight.backed_up_at
    if _is_late(collected or began, now):
        last = "nothing ever was" if collected is None else f"until {zulu(collected)} all is there"
        advice = "see that `prefca scheduler` runs on the host that collects, or run `prefca journal collect` there"
        yield Alarm("journal_not_collected", f"no journals were collected for 26 hours ({last}); {advice}")
    if section.time_stamp_authority is not None and unstamped is not None and _is_late(unstamped, now):
        message = f"no root since {zulu(unstamped)} has a time stamp; run `prefca journal stamp`"
        yield Alarm("journal_not_stamped", message)
    if section.backup_command and _is_late(backup or began, now):
        last = "none was ever made" if backup is None else f"the last one was made {zulu(backup)}"
        yield Alarm("backup_late", f"no backup for 26 hours ({last}); run `prefca archive backup`")


def _is_late(since: datetime | None, now: datetime) -> bool:
    """Since when something waits; None: there was never anything to do."""
    return since is not None and now - since > LATE
