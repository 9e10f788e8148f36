"""Media that were not made or not read again: where they have to be, or ever were."""

from datetime import datetime

from issuer.alarm import Alarm
from issuer.rules import media
from issuer.rules.media import MediaSight


def alarms(sight: MediaSight, now: datetime, *, is_required: bool) -> list[Alarm]:
    """What somebody has to do about media.

    archive_not_exported      a month is on no medium 31 days after it could have been
    archive_media_not_read    a month is on no medium that was made or read again within a year, or was found damaged

    Args:
        sight: of all media.
        now: the time.
        is_required: media have to be made here; else only whoever made some is told.
    """
    if not (is_required or sight.exports):
        return []
    found = []
    missing = media.not_exported(sight, now)
    if missing is not None:
        message = f"{missing:%Y-%m} of the archive is on no external medium; run `prefca archive export`"
        found.append(Alarm("archive_not_exported", message))
    unread = media.not_read(sight, now)
    if unread is not None:
        where = f"medium {unread.export.medium}, last in {unread.export.directory}"
        message = (
            f"{where}, was found damaged, and no other has {unread.month:%Y-%m}; run `prefca archive export`, then"
            " `prefca archive check --record`"
            if unread.is_damaged
            else f"nobody has read {unread.month:%Y-%m} on external media for a year; run `prefca archive check"
            f" --record` with {where}"
        )
        found.append(Alarm("archive_media_not_read", message))
    return found
