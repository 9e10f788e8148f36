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
from pkix.validity import day_in_japan, zulu
from settings.load import Settings

LATE: Final = timedelta(hours=26)  # what is to be done daily (R-4-11-6), since it was last done
REVIEW_LATE: Final = timedelta(days=8)  # since the last day reviewed (R-4-11-3: weekly), with a day to do it
NAMES: Final = (
    *("journal_not_collected", "journal_not_stamped", "backup_late"),
    *("archive_not_exported", "archive_media_not_read"),  # issuer.archive.media_alarm
    "audit_review_late",
)


@dataclass(frozen=True, slots=True)
class InstallationSight:
    """How far the work with journals and archive is; the archive began with `media.began`."""

    collected_until: datetime | None  # None: nothing was collected yet
    unstamped_since: datetime | None  # the oldest root that no time stamp proves; None: there is none
    backed_up_at: datetime | None
    media: MediaSight
    unreviewed_since: datetime | None  # the beginning of what no review has; None: there is nothing


async def installation_sight(shared: Records) -> InstallationSight:
    """What the database says now."""
    return InstallationSight(
        await shared.journals.collected_until(),
        await shared.journals.unstamped_since(),
        await shared.backups.last(),
        await shared.media.sight(),
        await shared.audits.unreviewed_since(),
    )


def alarms(sight: InstallationSight, settings: Settings, now: datetime) -> list[Alarm]:
    """All alarms that stand.

    journal_not_collected    nothing was collected for 26 hours
    journal_not_stamped      an authority is configured, and has stamped no root for 26 hours
    backup_late              a backup is configured, and none succeeded for 26 hours
    audit_review_late        an auditor is configured, and the last day that he reviewed is more than 8 days ago

    Args:
        sight: of the installation.
        settings: of all its CAs.
        now: the time.
    """
    is_production = any(ca.hierarchy == "production" for ca in settings.cas)
    of_media = media_alarm.alarms(sight.media, now, is_required=is_production)
    return [*_late(sight, settings, now), *of_media, *_unreviewed(sight, settings, now)]


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


def _unreviewed(sight: InstallationSight, settings: Settings, now: datetime) -> Iterator[Alarm]:
    """Nothing of what a review would show: it is nobody's but the auditor's (R-4-11-7)."""
    if settings.journal.auditor is None or sight.unreviewed_since is None:
        return
    first = day_in_japan(sight.unreviewed_since)
    if day_in_japan(now) - (first - timedelta(days=1)) > REVIEW_LATE:
        message = f"{first} and later days wait for the internal auditor's weekly review; run `prefca audit review`"
        yield Alarm("audit_review_late", message)


def _is_late(since: datetime | None, now: datetime) -> bool:
    """Since when something waits; None: there was never anything to do."""
    return since is not None and now - since > LATE
