"""The register of cross-certification: how a case is found and moved along. `cross_case.moved` alone decides."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer.errors import RefusedError
from issuer.installation import Installation
from issuer.profiles.certification_request import CrossRequest, cross_request
from issuer.records.cross_store import Left
from issuer.rules.cross_case import Case, Done, Step, moved
from pkix.signing import PublicKey
from pkix.validity import whole_second


@dataclass(frozen=True, slots=True)
class By:
    """Who does something in which case, and when."""

    case_id: int
    person: str
    now: datetime


async def find(installation: Installation, case_id: int) -> Case:
    """The case with that number.

    Raises:
        RefusedError: there is none.
    """
    cases = await installation.cross.cases(installation.authority_id)
    if case_id not in cases:
        raise RefusedError(f"there is no case {case_id}; `prefca cross list` shows all")
    return cases[case_id]


async def do(installation: Installation, case: Case, step: Step, by: By, left: Left) -> Case:
    """Move the case along, and record it; the case as it is then.

    Raises:
        RefusedError: the step does not come now, or not by this person.
    """
    state, role = moved(case, step, by.person)
    done = Done(step, state, whole_second(by.now), by.person.strip(), role, left.detail)
    async with installation.store.transaction():
        await installation.cross.add_step(case, done, left)
        kind = f"cross_{step.replace('-', '_')}"
        await installation.store.record(kind, done.at, f"case {case.case_id}", {"person": done.person, "role": role})
    return await find(installation, case.case_id)


def fingerprint(key: PublicKey) -> str:
    """SHA-256 of a SubjectPublicKeyInfo, hexadecimal."""
    return sha256_of(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def request_of(case: Case) -> CrossRequest:
    """What the other CA asks for."""
    return cross_request(case.application.request)


def sha256_of(octets: bytes) -> str:
    """Hexadecimal."""
    return sha256(octets).hexdigest()
