"""Verifying lists that were published, one in memory at a time.

Each is held against its record and the keys of the CA, against the list before it, against the revocations in the
database, and, if wanted, against what an OCSP responder says of its entries.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from cryptography import x509

from issuer.installation import Installation
from issuer.lists.list_check import check_entries, check_issuer, check_octets, check_statuses, check_succession
from issuer.profiles.profile import Issuer
from issuer.profiles.scan import revocations, take_apart
from issuer.records.list_store import KeptList, Selection
from issuer.records.rows import Publication
from issuer.records.store import LATE_REVOCATION
from issuer.schedule import MAX_SKEW, is_of_the_future
from issuer.servers.inquiry import Responder
from pkix.revocation import Revoked
from pkix.validity import zulu


@dataclass(frozen=True, slots=True)
class Verified:
    """A list that was looked at; without findings it is right."""

    kept: KeptList
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Whom to ask, and about how many entries of each list; None is all."""

    responder: Responder
    sample: int | None


@dataclass(frozen=True, slots=True)
class ListAudit:
    """What the lists of one CA are held against."""

    installation: Installation
    certificates: dict[int, x509.Certificate]  # of the CA, by the number of its key
    in_force: Publication | None
    now: datetime
    inquiry: Inquiry | None

    async def verify(self, selection: Selection) -> AsyncIterator[Verified]:
        """Verify what is selected, partition by partition, in the order of publication. Inside a transaction.

        Raises:
            NotNowError: the responder does not answer now.
            RefusedError: the responder tells us nothing.
        """
        lists = self.installation.lists
        before: KeptList | None = None
        last: KeptList | None = None
        async for kept in lists.lists(self.installation.authority_id, selection):
            if last is None or last.partition_id != kept.partition_id:
                before = await lists.before(kept)
            elif last.publication != kept.publication:  # else it is the same list, signed by another key
                before = last
            yield Verified(kept, tuple([finding async for finding in self._findings(kept, before)]))
            last = kept

    async def _findings(self, kept: KeptList, before: KeptList | None) -> AsyncIterator[str]:
        async for finding in self._findings_of_record(kept, before):
            yield finding
        octets = await self.installation.lists.octets(kept)
        issuers = {number: Issuer(self.installation.authority, one) for number, one in self.certificates.items()}
        unsound = await asyncio.to_thread(list, check_octets(kept, octets, issuers))
        for finding in unsound:
            yield finding
        if unsound:
            return  # what its entries say means nothing
        for finding in await self._findings_of_entries(kept, before, octets):
            yield finding
        if self.inquiry is not None:
            for finding in await self._disagreements(kept, octets, self.inquiry):
                yield finding

    async def _findings_of_entries(self, kept: KeptList, before: KeptList | None, octets: bytes) -> list[str]:
        made_at = kept.published_at + MAX_SKEW
        if before is not None and before.published_at > made_at:  # by a clock that was ahead: it decided nothing
            before = await self.installation.lists.before(kept, made_at)
        previous = None if before is None else before.publication
        findings: list[str] = []
        for now in (None, made_at):  # what was received later is no matter, but to lists after a clock that was ahead
            due = await self.installation.store.entries(kept.partition_id, kept.publication.cut_off, previous, now)
            decided_by = kept.publication.window.this_update - LATE_REVOCATION
            findings = await asyncio.to_thread(list, check_entries(octets, due.blocks, decided_by))
            if not findings:
                break
        return findings

    async def _findings_of_record(self, kept: KeptList, before: KeptList | None) -> AsyncIterator[str]:
        if before is not None:
            is_back = kept.publication.window.this_update < before.publication.window.this_update
            number = kept.publication.publication_id
            is_said = is_back and await self.installation.lists.replaced_lists_of_the_future(number)
            for finding in check_succession(before, kept, may_go_back=is_said):
                yield finding
        if self.in_force is None or kept.publication.publication_id != self.in_force.publication_id:
            return
        window = kept.publication.window
        if window.next_update < self.now:
            yield f"it ended at {zulu(window.next_update)}, and no list has followed"
        if is_of_the_future(kept.publication, self.now):
            yield f"its thisUpdate {zulu(window.this_update)} lies in the future: a clock was ahead, or is behind now"

    async def _disagreements(self, kept: KeptList, octets: bytes, inquiry: Inquiry) -> list[str]:
        listed = _sample(octets, kept, inquiry.sample)
        numbers = await self.installation.lists.key_numbers_of(listed.keys())
        told: dict[int, Revoked | None] = {}
        for number, certificate in self.certificates.items():
            serials = [serial for serial in listed if numbers.get(serial) == number]
            told |= await inquiry.responder.revoked(certificate, serials)
        return list(check_statuses(listed, told))


async def open_audit(installation: Installation, now: datetime, inquiry: Inquiry | None = None) -> ListAudit:
    """Make everything ready to verify lists of a CA.

    Raises:
        LintError: a certificate of the CA itself is not sound.
    """
    rows = await installation.lists.ca_certificates(installation.authority_id)
    certificates = {number: x509.load_der_x509_certificate(der) for number, der in rows.items()}
    for certificate in certificates.values():
        check_issuer(certificate)
    in_force = await installation.store.publication_in_force(installation.authority_id)
    return ListAudit(installation, certificates, in_force, now, inquiry)


def _sample(octets: bytes, kept: KeptList, size: int | None) -> dict[int, Revoked]:
    """So many entries of a list, evenly spread; all for None."""
    step = 1 if size is None else max(1, kept.entries // size)
    return dict(islice(revocations(take_apart(octets).entries.tobytes()), 0, None, step))
