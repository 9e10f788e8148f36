"""Days and months of Japan, as options say them."""

from datetime import date, datetime, timedelta
from typing import Final

import click

from pkix.validity import JST

DAY: Final = click.DateTime(["%Y-%m-%d"])
MONTH: Final = click.DateTime(["%Y-%m"])


def days(begin: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
    """From the beginning of one day in Japan to the end of another.

    Raises:
        UsageError: the other is the earlier one.
    """
    if begin is not None and end is not None and end < begin:
        raise click.UsageError("the day of --to is before that of --from")
    return (
        None if begin is None else begin.replace(tzinfo=JST),
        None if end is None else end.replace(tzinfo=JST) + timedelta(days=1),
    )


def today(moment: datetime) -> date:
    """The day in Japan."""
    return moment.astimezone(JST).date()
