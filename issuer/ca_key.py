"""How long a key of the CA is used for certificates: five years (R-4-13-1, R-6-3-1-2). Lists it signs until its end."""

from datetime import datetime, timedelta
from typing import Final

from issuer.alarm import Alarm
from issuer.errors import RefusedError
from issuer.rows import Generation

TELL_BEFORE: Final = timedelta(days=183)  # a new key takes a ceremony and its certificate's way to relying parties


def require_in_use(generation: Generation, now: datetime) -> None:
    """Certificates are signed only while the key may be used for them.

    Raises:
        RefusedError: its time has ended.
    """
    if now > generation.signs_until:
        raise RefusedError(f"{_ended(generation)}; lists are still published")


def alarms(generation: Generation | None, now: datetime) -> list[Alarm]:
    """What has to be done about the key that signs now: its time ends in half a year, or has ended."""
    if generation is None or generation.signs_until - now >= TELL_BEFORE:
        return []
    if now > generation.signs_until:
        return [Alarm("ca_key_ended", _ended(generation))]
    return [Alarm("ca_key_ending", f"the CA's key issues until {_until(generation)}; prepare a new key of the CA")]


def _ended(generation: Generation) -> str:
    return f"the CA's key issued until {_until(generation)}, 5 years; the CA needs a new key before it issues again"


def _until(generation: Generation) -> str:
    return f"{generation.signs_until:%Y-%m-%dT%H:%M:%SZ}"
