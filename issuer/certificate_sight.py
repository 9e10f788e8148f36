"""What is known of cross certificates and of those of servers, for alarms."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from issuer import cross_renewal, operations_certificate
from issuer.alarm import Alarm
from issuer.authority import Authority, Kind
from issuer.cross_case import Case
from issuer.installation import Installation
from issuer.rows import CertificateRow, Generation

_SERVERS: Final = 20  # of their newest certificates one is the last to end


@dataclass(frozen=True, slots=True)
class CertificateSight:
    """Of one CA."""

    cases: Mapping[int, Case]
    servers: tuple[CertificateRow, ...]

    def alarms(self, authority: Authority, active: Generation | None, now: datetime) -> list[Alarm]:
        """What has to be done about them."""
        return [
            *cross_renewal.alarms(self.cases, authority, active, now),
            *operations_certificate.alarms(self.servers, now),
        ]


async def certificate_sight(installation: Installation) -> CertificateSight:
    """What the database says now."""
    authority_id = installation.authority_id
    servers = await installation.store.newest_certificates(authority_id, Kind.CVS, _SERVERS)
    return CertificateSight(await installation.cross.cases(authority_id), tuple(servers))
