"""How long a key of the CA is used for certificates: five years (R-4-13-1, R-6-3-1-2). Lists it signs until its end.

What has to be done before is told long before: half a year for the next key, two months for its turn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from issuer.alarm import Alarm
from issuer.errors import RefusedError
from issuer.profiles.generation import State
from issuer.records.rows import Generation, KeyRow
from pkix.validity import zulu

TELL_BEFORE: Final = timedelta(days=183)  # a new key takes a ceremony and its certificate's way to relying parties
SWITCH_BEFORE: Final = timedelta(days=60)  # time enough to repeat what fails
PUBLISH_WITHIN: Final = timedelta(days=2)  # the next regular lists have it


@dataclass(frozen=True, slots=True)
class KeySight:
    """What is known of the keys of a CA."""

    keys: tuple[KeyRow, ...]  # the oldest first
    shown_since: datetime | None = None  # when the directory began to show the planned key's certificates, all of them

    @property
    def active(self) -> KeyRow | None:
        """The key that signs now."""
        return self._only(State.ACTIVE)

    @property
    def planned(self) -> KeyRow | None:
        """The key that was prepared to follow it."""
        return self._only(State.PLANNED)

    def _only(self, state: State) -> KeyRow | None:
        return next((key for key in self.keys if key.state is state), None)


def require_in_use(generation: Generation, now: datetime) -> None:
    """Certificates are signed only while the key may be used for them.

    Raises:
        RefusedError: its time has ended.
    """
    if now > generation.signs_until:
        raise RefusedError(f"{_ended(generation)}; lists are still published")


def alarms(sight: KeySight, now: datetime) -> list[Alarm]:
    """What has to be done about the keys.

    ca_key_ending           the key's time ends in half a year, and none is prepared
    ca_key_switch_due       its time ends in two months, and the prepared key has not taken over
    ca_key_ended            it has ended: nothing is issued
    ca_key_unpublished      a key was prepared two days ago, and the directory does not show its certificates
    ca_certificate_ending   a self-signed certificate ends in half a year that certificates in use need
    """
    return [*_of_use(sight, now), *_of_planned(sight, now), *_of_certificates(sight, now)]


def _of_use(sight: KeySight, now: datetime) -> Iterator[Alarm]:
    if sight.active is None:
        return
    generation = sight.active.generation
    left = generation.signs_until - now
    if left < timedelta(0):
        yield Alarm("ca_key_ended", _ended(generation))
    elif sight.planned is not None and left < SWITCH_BEFORE:
        text = f"the CA's key issues until {_until(generation)}; run `prefca key switch` before"
        yield Alarm("ca_key_switch_due", text)
    elif sight.planned is None and left < TELL_BEFORE:
        text = f"the CA's key issues until {_until(generation)}; prepare a new key of the CA with `prefca key prepare`"
        yield Alarm("ca_key_ending", text)


def _of_planned(sight: KeySight, now: datetime) -> Iterator[Alarm]:
    planned = sight.planned
    if planned is not None and sight.shown_since is None and now - planned.signs_from > PUBLISH_WITHIN:
        text = (
            f"the certificates of the CA's next key, prepared at {zulu(planned.signs_from)}, are not in the directory;"
            " see that lists are published, or run `prefca batch --now`"
        )
        yield Alarm("ca_key_unpublished", text)


def _of_certificates(sight: KeySight, now: datetime) -> Iterator[Alarm]:
    for key in sight.keys:
        is_needed = key.state is State.ACTIVE or (key.residents_until is not None and key.residents_until >= now)
        if is_needed and key.state is not State.COMPROMISED and key.not_after - now < TELL_BEFORE:
            number, ends = key.generation.number, zulu(key.not_after)
            text = (
                f"the certificate of the CA's key {number} ends at {ends}; certificates and lists that need it end then"
            )
            yield Alarm("ca_certificate_ending", text)


def _ended(generation: Generation) -> str:
    return f"the CA's key issued until {_until(generation)}, 5 years; the CA needs a new key before it issues again"


def _until(generation: Generation) -> str:
    return zulu(generation.signs_until)
