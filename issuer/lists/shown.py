"""What the repository shows besides lists: the CA's own certificates, and pairs of cross certificates (R-2-6-1-2)."""

from datetime import datetime

from issuer.installation import Installation
from issuer.records.rows import NewObject
from issuer.rules.cross_case import in_force
from issuer.rules.cross_pair import certificate_pair, end_of
from pkix.names import text


async def certificates_shown(installation: Installation, now: datetime) -> list[NewObject]:
    """The values at the CA's entry, in the order in which they are shown (RFC 4523, section 5.2).

    Of pairs those of which neither half has ended.

    """
    # Of the keys before and after, too, so that verifiers have a path from whichever they trust (RFC 4210, 4.4).
    self_issued = await installation.generations.self_issued(installation.authority_id, now)
    entry = text(installation.authority.name)
    cases = await installation.cross.cases(installation.authority_id)
    pairs = [
        certificate_pair(case.theirs, case.ours)
        for case in in_force(cases, now)
        if case.theirs and case.ours and min(map(end_of, (case.theirs, case.ours))) >= now
    ]
    return [
        *(
            NewObject(entry, "cACertificate", one.certificate, public=True, generation=one.generation)
            for one in self_issued
        ),
        *(NewObject(entry, "crossCertificatePair", pair, public=True) for pair in pairs),
    ]
