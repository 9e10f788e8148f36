"""What is seen of one CA besides its lists, and what somebody has to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from issuer.alarm import Alarm
from issuer.cross import cross_renewal
from issuer.installation import Installation, configured_authority
from issuer.operations import activation
from issuer.profiles.authority import Kind
from issuer.records.activation_store import Activation
from issuer.records.recovery_store import Compromise, KeyProbe
from issuer.records.rows import CertificateRow, DelegateRow
from issuer.recovery import compromise
from issuer.rules.cross_case import Case
from issuer.servers import delegate, operations_certificate
from issuer.signing import ca_key, key_probe
from issuer.signing.ca_key import KeySight
from issuer.signing.key_sight import key_sight
from settings.load import Settings

_SERVERS: Final = 20  # of their newest certificates one is the last to end


@dataclass(frozen=True, slots=True)
class CASight:
    """Its keys, and the certificates that have to be renewed."""

    keys: KeySight
    delegates: tuple[DelegateRow, ...]
    compromises: tuple[Compromise, ...]
    probe: KeyProbe | None
    activation: Activation | None  # the newest
    cross: Mapping[int, Case]
    servers: tuple[CertificateRow, ...]


async def ca_sight(installation: Installation) -> CASight:
    """What the database says now."""
    store, authority_id = installation.store, installation.authority_id
    return CASight(
        await key_sight(installation),
        tuple(await store.delegates(authority_id)),
        tuple(await installation.recovery.compromises(authority_id)),
        await installation.recovery.key_sight(authority_id),
        await installation.activations.newest(authority_id),
        await installation.cross.cases(authority_id),
        tuple(await store.newest_certificates(authority_id, Kind.CVS, _SERVERS)),
    )


def alarms(sight: CASight, settings: Settings, now: datetime) -> list[Alarm]:
    """All alarms that stand; those of lists are `issuer.alarm.alarms`."""
    active = None if sight.keys.active is None else sight.keys.active.generation
    return [
        *delegate.alarms(sight.keys.keys, sight.delegates, now),
        *ca_key.alarms(sight.keys, now),
        *compromise.alarms(sight.compromises, sight.keys),
        *key_probe.alarms(sight.probe),
        *activation.alarms(settings, sight.activation, now),
        *cross_renewal.alarms(sight.cross, configured_authority(settings), active, now),
        *operations_certificate.alarms(sight.servers, now),
    ]
