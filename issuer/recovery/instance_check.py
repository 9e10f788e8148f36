"""That an installation is whole: its keys, certificates, lists, numbers, delegates, journals and files fit together."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from issuer import children
from issuer.errors import IssuerError
from issuer.installation import Installation, opened_keys
from issuer.key_proof import require_own
from issuer.keys import CAKeys, delegate_label, open_delegate_keys
from issuer.lists.list_audit import open_audit
from issuer.profiles.authority import Kind
from issuer.profiles.generation import State
from issuer.profiles.lint import LintError
from issuer.records.list_store import Selection
from issuer.records.rows import CertificateRow, KeyRow
from issuer.recovery.restoration import MARKER
from pkix.signing import SigningError
from settings.load import ConfigurationError, Settings

SAMPLE: Final = 1000  # residents' certificates, the newest, whose signature is verified
JOURNAL_TIMEOUT_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was looked at."""

    what: str
    count: int
    findings: tuple[str, ...]  # none: it is right


async def check_authority(installation: Installation, now: datetime, *, all_lists: bool) -> AsyncIterator[Checked]:
    """Check one CA; every thing is looked at, whatever is wrong with the ones before."""
    authority_id = installation.authority_id
    keys = await installation.generations.keys(authority_id)
    yield await _keys(installation, keys)
    yield await _certificates(installation, keys)
    yield await _delegates(installation, now)
    yield await _lists(installation, now, all_lists=all_lists)
    behind = await installation.recovery.numbers_behind(authority_id)
    yield Checked("CRLNumbers", 1, tuple(f"the next number of {label} was published already" for label in behind))


async def _keys(installation: Installation, keys: list[KeyRow]) -> Checked:
    kept = [one.generation for one in keys if one.state is not State.DESTROYED]
    findings = []
    try:
        async with opened_keys(installation) as opened:
            for one in kept:
                certificate = x509.load_der_x509_certificate(one.certificate)
                findings += await asyncio.to_thread(_wrong_key, opened, one.key_reference, certificate)
    except (SigningError, IssuerError, ConfigurationError) as e:
        findings.append(str(e))
    return Checked("keys of the CA", len(kept), tuple(findings))


def _wrong_key(keys: CAKeys, label: str, certificate: x509.Certificate) -> list[str]:
    try:
        require_own(keys.signer(label), certificate, label)
    except (SigningError, IssuerError) as e:
        return [str(e)]
    return []


async def _certificates(installation: Installation, keys: list[KeyRow]) -> Checked:
    issuers = [x509.load_der_x509_certificate(one.generation.certificate) for one in keys]
    rows = [
        row
        for kind in Kind
        for row in await installation.store.newest_certificates(installation.authority_id, kind, SAMPLE)
    ]
    findings = await asyncio.to_thread(lambda: list(itertools.chain(*(_chain(row, issuers) for row in rows))))
    return Checked("certificates", len(rows), tuple(findings))


def _chain(row: CertificateRow, issuers: list[x509.Certificate]) -> Iterator[str]:
    certificate = x509.load_der_x509_certificate(row.der)
    if certificate.serial_number != row.serial:
        yield f"certificate {row.serial:016X}: it has another serial number"
    if not any(_is_issued_by(certificate, issuer) for issuer in issuers):
        yield f"certificate {row.serial:016X}: no key of this CA signed it"


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


async def _delegates(installation: Installation, now: datetime) -> Checked:
    """The keys of those that may still sign, where the responder of this installation looks for them."""
    delegates = [one.certificate for one in await installation.store.delegates(installation.authority_id)]
    valid = [one for one in delegates if one.revoked is None and one.not_after >= now]
    return await asyncio.to_thread(_delegate_keys, installation.settings, valid)


def _delegate_keys(settings: Settings, delegates: list[CertificateRow]) -> Checked:
    findings = []
    try:
        with closing(open_delegate_keys(settings)) as opened:
            for one in delegates:
                certificate = x509.load_der_x509_certificate(one.der)
                findings += _wrong_key(opened, delegate_label(one.serial), certificate)
    except (SigningError, IssuerError, ConfigurationError) as e:
        findings.append(str(e))
    return Checked("OCSP delegates", len(delegates), tuple(findings))


async def _lists(installation: Installation, now: datetime, *, all_lists: bool) -> Checked:
    try:
        audit = await open_audit(installation, now)
    except LintError as e:
        return Checked("lists", 0, (f"a certificate of the CA: {e}",))
    in_force = audit.in_force
    if in_force is None:
        return Checked("lists", 0, ("nothing was ever published; run `prefca batch --now`",))
    selection = Selection() if all_lists else Selection(publication_id=in_force.publication_id)
    count, findings = 0, []
    async with installation.store.snapshot():
        async for one in audit.verify(selection):
            count += 1
            findings += [f"list {one.kept.label} {one.kept.crl_number}: {finding}" for finding in one.findings]
    return Checked("lists", count, tuple(findings))


def check_files(settings: Settings) -> Checked:
    """Certificates for TLS can be read, and no restoration was broken off."""
    ocsp, repository = settings.ocsp, settings.repository
    wanted = [
        *([ocsp.tls_certificate, ocsp.tls_key] if ocsp.tls_listen else []),
        *(repository.tls_certificate, repository.tls_key),
    ]
    findings = [f"{settings.path(path)}: is not there" for path in wanted if not settings.path(path).exists()]
    if (settings.instance / MARKER).exists():
        findings.append("it is half restored; run `prefca restore` again")
    return Checked("files", len(wanted), tuple(findings))


async def check_journals(settings: Settings) -> Checked:
    """What `prefca journal verify` finds."""
    arguments = ("--instance", str(settings.instance), "journal", "verify", "--json")
    try:
        told = await children.command(*arguments, timeout_s=JOURNAL_TIMEOUT_S)
    except children.FailedError as e:
        if not e.said:
            return Checked("segments of journals", 0, (f"journals: {e}",))
        told = json.loads(e.said)
    return Checked("segments of journals", told["segments"], tuple(told["findings"]))
