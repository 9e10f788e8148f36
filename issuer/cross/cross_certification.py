"""What people record in a case of cross-certification: each step once, with what it leaves, in one transaction.

receive, examine, approve, test          what they found
accept, give_receipt, take_receipt       the other CA's certificate for us, and the receipts (R-4-8-1)
"""

import re
from dataclasses import replace
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import CertificatePoliciesOID

from issuer.cross.cross_papers import receipt
from issuer.cross.cross_register import By, do, find, fingerprint, request_of, sha256_of
from issuer.errors import RefusedError
from issuer.installation import Installation
from issuer.profiles.authority import Kind
from issuer.profiles.certification_request import cross_request
from issuer.records.cross_store import Left
from issuer.rules.cross_case import Application, Case, Step, moved
from issuer.rules.cross_pair import check_issued_to_this_ca, load_certificate
from pkix.names import text

MAX_RECEIPT_OCTETS: Final = 10_000_000
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*)){1,30}")
_FINGERPRINT: Final = re.compile("[0-9a-f]{64}")


# ---------------------------------------------------------------- up to the approval


async def receive(installation: Installation, application: Application, person: str, now: datetime) -> Case:
    """Open a case with the other CA's request (受付).

    Raises:
        RefusedError: the request is none of a CA, is our own, its policy is no OID, or the case that it renews has no
            pair.
    """
    request = cross_request(application.request)
    if request.name == installation.authority.name:
        raise RefusedError("the request names this CA itself; give the one that the other CA made")
    if application.policy is not None:
        _require_policy(application.policy)
    if not application.partner.strip():
        raise RefusedError("the other CA has no name; give --partner, as people and the web are to read it")
    cases = await installation.cross.cases(installation.authority_id)
    if application.renews is not None and not (application.renews in cases and cases[application.renews].is_mutual):
        raise RefusedError(f"case {application.renews} has no pair to renew; `prefca cross list` shows those that have")
    async with installation.store.transaction():
        kept = replace(application, request=request.der)  # it may have come as PEM
        case_id = await installation.cross.add_case(installation.authority_id, kept)
        case = Case(case_id, kept, ())
        detail = {"subject": text(request.name), "key_sha256": fingerprint(request.key)}
        return await do(installation, case, Step.RECEIVE, By(case_id, person, now), Left(detail))


async def examine(installation: Installation, by: By, key_sha256: str, evidence: str) -> Case:
    """Record how it was found that the other CA's operator and key are genuine (審査; R-4-7-1, R-6-1-1-5).

    Args:
        installation: of the CA.
        by: the examiner.
        key_sha256: of the key, as the other CA told it by another way than the request.
        evidence: what was checked, and how.

    Raises:
        RefusedError: the key of the request is another one, or nothing was checked.
    """
    case = await find(installation, by.case_id)
    told, found = "".join(key_sha256.lower().replace(":", "").split()), fingerprint(request_of(case).key)
    if not _FINGERPRINT.fullmatch(told):
        raise RefusedError("--key-sha256 is not a SHA-256; write its 64 hexadecimal digits")
    if told != found:
        raise RefusedError(f"the key of the request has another SHA-256, {found}; do not trust it, ask the other CA")
    _require_words(evidence, "--evidence")
    return await do(installation, case, Step.EXAMINE, by, Left({"key_sha256": found, "evidence": evidence}))


async def note(installation: Installation, by: By, step: Step, words: str) -> Case:
    """Do a step that leaves nothing but words: approve, test, fail-test, reject.

    Raises:
        RefusedError: the step does not come now, or there are no words.
    """
    _require_words(words, "--note")
    return await do(installation, await find(installation, by.case_id), step, by, Left({"note": words}))


# ---------------------------------------------------------------- their certificate for us, and the receipts


async def accept(installation: Installation, by: By, certificate: bytes) -> Case:
    """Accept what the other CA issued to us, after every check (R-4-8-1).

    Raises:
        RefusedError: ours is not issued yet, or the certificate is wrong.
    """
    case = await find(installation, by.case_id)
    moved(case, Step.ACCEPT, by.person)
    theirs, generation = (
        load_certificate(certificate),
        await installation.store.active_generation(installation.authority_id),
    )
    if generation is None:
        raise RefusedError("no key of this CA is active; run `prefca init`")
    ours = x509.load_der_x509_certificate(case.ours or b"")
    own = x509.load_der_x509_certificate(generation.certificate)
    check_issued_to_this_ca(theirs, ours, own, installation.authority.policy(Kind.CROSS), by.now)
    detail = {
        "serial": f"{theirs.serial_number:X}",
        "sha256": theirs.fingerprint(hashes.SHA256()).hex(),
        "not_after": f"{theirs.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
    }
    left = Left(detail, theirs.public_bytes(Encoding.DER))
    return await do(installation, case, Step.ACCEPT, by, left)


async def give_receipt(installation: Installation, by: By) -> Case:
    """Our receipt (受領書) for the certificate that was accepted: PDF.

    Raises:
        RefusedError: none was accepted yet.
    """
    case = await find(installation, by.case_id)
    moved(case, Step.GIVE_RECEIPT, by.person)
    theirs = x509.load_der_x509_certificate(case.theirs or b"")
    paper = receipt(installation.authority, case, theirs, by.now)
    return await do(installation, case, Step.GIVE_RECEIPT, by, _paper(paper))


async def take_receipt(installation: Installation, by: By, paper: bytes) -> Case:
    """The other CA's receipt for our certificate, whatever its form.

    Raises:
        RefusedError: ours is not issued yet, or the receipt is empty.
    """
    if not paper:
        raise RefusedError("the receipt is empty; give the file that the other CA sent")
    case = await find(installation, by.case_id)
    return await do(installation, case, Step.TAKE_RECEIPT, by, _paper(paper))


def _paper(paper: bytes) -> Left:
    return Left({"sha256": sha256_of(paper), "octets": len(paper)}, paper)


def _require_policy(dotted: str) -> None:
    """Raises RefusedError if no certificate can map it (RFC 5280, section 4.2.1.5)."""
    try:
        is_policy = _OID.fullmatch(dotted) and x509.ObjectIdentifier(dotted) != CertificatePoliciesOID.ANY_POLICY
    except ValueError:  # an arc that there cannot be
        is_policy = False
    if not is_policy:
        raise RefusedError(f"{dotted!r} is not the identifier of a policy; write it with dots, as 1.2.392.200149")


def _require_words(words: str, option: str) -> None:
    if not words.strip():
        raise RefusedError(f"{option} is empty; write down what was found")
