"""Operations on the CA's key for cross-certification: our certificate for the other CA, its end, and our own request.

Each is asked for with parameters that say everything, and performed when those who must have agreed to exactly these.
"""

from datetime import UTC, date, datetime
from typing import Final

from cryptography import x509

from issuer.cross.cross_register import By, do, find, fingerprint, request_of, sha256_of
from issuer.errors import RefusedError
from issuer.installation import Installation
from issuer.operations.act import Act, Facts
from issuer.profiles.authority import Kind
from issuer.profiles.certification_request import signed_request
from issuer.profiles.profile import cross, serial_number
from issuer.records.cross_store import Left
from issuer.records.rows import new_certificate
from issuer.residents.revocation import NotRevoked, RevocationOrder, revoke
from issuer.rules.cross_case import Case, Step, moved
from issuer.rules.operation import Parameters
from issuer.signing.ca_key import require_in_use
from issuer.signing.certification import certify
from issuer.signing.key_use import used_key
from pkix.names import text
from pkix.revocation import CRLReason, Revoked
from pkix.validity import JST, whole_second

REASONS: Final = (CRLReason.CA_COMPROMISE, CRLReason.SUPERSEDED, CRLReason.CESSATION_OF_OPERATION)  # R-4-10-1
REQUESTERS: Final = ("bca", "governor")  # R-4-10-2


def issue_parameters(case: Case, person: str, valid_from: date | None) -> Parameters:
    """What is asked for, for those who agree to it (R-4-7-1).

    Args:
        case: whose request is granted.
        person: who issues.
        valid_from: 有効とする日 in Japan; None: when it is signed.
    """
    request = request_of(case)
    return {
        "case": case.case_id,
        "partner": case.application.partner,
        "subject": text(request.name),
        "key_sha256": fingerprint(request.key),
        "policy": case.application.policy,
        "valid_from": None if valid_from is None else valid_from.isoformat(),
        "by": person,
    }


async def perform_issue(act: Act) -> Facts:
    """Certify the other CA's key.

    Raises:
        RefusedError: the case is not there yet, its request is another one, or the day has passed.
        LintError: the certificate breaks its profile.
        SigningError: the key cannot be used now.
    """
    installation, asked = act.installation, act.parameters
    case, now = await find(installation, int(asked["case"] or 0)), whole_second(act.clock())
    by = By(case.case_id, str(asked["by"]), now)
    request, day = (
        request_of(case),
        None if asked["valid_from"] is None else date.fromisoformat(str(asked["valid_from"])),
    )
    if issue_parameters(case, by.person, day) != asked:
        raise RefusedError(f"case {case.case_id} is about another request than was agreed to; ask anew")
    moved(case, Step.ISSUE, by.person)
    serial = serial_number(act.random_octets(8))
    async with used_key(installation, "cross", act.clock) as key:
        require_in_use(key.generation, now)
        builder = cross(key.issuer, request.subject(case.application.policy), serial, _effective(day, now))
        certificate = certify(key, builder, Kind.CROSS)
    partitions = {one.kind: one.partition_id for one in await installation.store.partitions(installation.authority_id)}
    row = new_certificate(certificate, key.generation.generation_id, partitions["ca"], Kind.CROSS)
    facts = {"case": case.case_id, "serial": f"{serial:016X}", "not_after": row.validity.not_after}
    async with installation.store.transaction():
        await installation.store.require_active(key.generation.generation_id)
        await installation.store.add_certificates([row], now)
        await installation.store.record("certificate_issued", now, f"{serial:016X}", {"kind": Kind.CROSS})
        await do(installation, case, Step.ISSUE, by, Left({"serial": f"{serial:016X}"}, serial=serial))
        await act.settle(facts)
    return facts


def _effective(day: date | None, now: datetime) -> datetime:
    """When a certificate that is valid from a day in Japan begins."""
    today = now.astimezone(JST).date()
    if day is None or day == today:
        return now
    if day < today:
        raise RefusedError(f"the certificate was to be valid from {day}, which has passed; ask anew with another day")
    return datetime(day.year, day.month, day.day, tzinfo=JST).astimezone(UTC)


async def request_parameters(installation: Installation) -> Parameters:
    """What is asked for, for those who agree to it.

    Raises:
        RefusedError: no key is active.
    """
    generation = await installation.store.active_generation(installation.authority_id)
    if generation is None:
        raise RefusedError("no key of this CA is active; run `prefca init`")
    return {"key": generation.key_reference, "subject": text(installation.authority.name)}


async def perform_request(act: Act) -> Facts:
    """Make a request for this CA's own key, for the other CA (4-6). The key signs, and does nothing else (R-6-1-1-4).

    Raises:
        RefusedError: the key's time has ended.
        SigningError: the key cannot be used now.
    """
    installation, now = act.installation, whole_second(act.clock())
    async with used_key(installation, "request", act.clock) as key:
        require_in_use(key.generation, now)
        if act.parameters["key"] != key.generation.key_reference:
            raise RefusedError("another key of the CA signs now than was agreed to; ask anew")
        request = signed_request(installation.authority.name, key.signer)
    async with installation.store.transaction():
        number = await installation.cross.add_request(key.generation.generation_id, now, request)
        await installation.store.record("cross_requested", now, key.generation.key_reference, {"request": number})
        facts = {
            "request": number,
            "subject": text(installation.authority.name),
            "key_sha256": fingerprint(key.signer.public_key),
            "sha256": sha256_of(request),
        }
        await act.settle(facts)
    return facts


def revoke_parameters(case: Case, person: str, reason: CRLReason, requested_by: str) -> Parameters:
    """What is asked for, for those who agree to it (R-4-10-1, R-4-10-2).

    Raises:
        RefusedError: the reason is none of a cross certificate.
    """
    if reason not in REASONS:
        known = ", ".join(f"{each.value} {each.label}" for each in REASONS)
        raise RefusedError(f"a cross certificate is not revoked for {reason.label}; take one of {known}")
    return {
        "case": case.case_id,
        "partner": case.application.partner,
        "serial": _serial(case),
        "reason": reason.label,
        "requested_by": requested_by,
        "by": person,
    }


async def perform_revoke(act: Act) -> Facts:
    """Revoke our certificate for the other CA: it goes on the next ARL, and the pair leaves the repository.

    Raises:
        RefusedError: it was never issued, its case is ended, or it has expired.
    """
    installation, asked, now = act.installation, act.parameters, whole_second(act.clock())
    case = await find(installation, int(asked["case"] or 0))
    reason = next(each for each in REASONS if each.label == asked["reason"])
    by = By(case.case_id, str(asked["by"]), now)
    moved(case, Step.REVOKE, by.person)
    if asked["serial"] != _serial(case):
        raise RefusedError(f"case {case.case_id} has another certificate than was agreed to; ask anew")
    async with installation.store.transaction():
        # With the key, when that was compromised, it is revoked already: the case is ended all the same.
        status = case.revoked or await _revoked(installation, case, reason, now)
        detail = {"reason": status.reason.label, "requested_by": asked["requested_by"]}
        await do(installation, case, Step.REVOKE, by, Left(detail))
        facts = {"case": case.case_id, "serial": _serial(case), "reason": detail["reason"], "revoked_at": status.at}
        await act.settle(facts)
    return facts


async def _revoked(installation: Installation, case: Case, reason: CRLReason, now: datetime) -> Revoked:
    order = RevocationOrder([int(_serial(case), 16)], reason, now)
    (outcome,) = await revoke(installation, order, now)
    if isinstance(outcome, NotRevoked):
        raise RefusedError(f"{_serial(case)} {outcome.message}")
    return outcome.status


def _serial(case: Case) -> str:
    if case.ours is None:
        raise RefusedError(f"in case {case.case_id} nothing was issued yet; `prefca cross reject` ends it")
    return f"{x509.load_der_x509_certificate(case.ours).serial_number:016X}"
