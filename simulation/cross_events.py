"""What is done about the bridge: a pair of cross certificates, renewed whenever the CA has a new key (4-6 to 4-10)."""

from typing import Final

from issuer.cross import cross_certification, cross_operation
from issuer.cross.cross_register import By, find
from issuer.errors import RefusedError
from issuer.profiles.authority import Kind
from issuer.rules.cross_case import Application, Step, Trigger, in_force, superseded
from issuer.rules.operation import OperationKind
from pkix.revocation import CRLReason
from simulation.bridge import PARTNER
from simulation.operating import operate
from simulation.timetable import CrossCertify, CrossEvent, RevokeReplaced
from simulation.world import World

RECEPTION: Final = "山田花子"
EXAMINER: Final = "鈴木次郎"
APPROVER: Final = "田中雅子"
OPERATOR: Final = "佐藤健"


async def perform_cross_event(world: World, event: CrossEvent) -> None:
    """Do it now.

    Raises:
        RefusedError: it is refused.
        LintError, SigningError, NotNowError: as the performers.
    """
    match event:
        case CrossCertify():
            await _certify(world)
        case RevokeReplaced():
            await _revoke_replaced(world)


async def _certify(world: World) -> None:
    """A whole case, from the bridge's request to both receipts; it replaces the pair that there is."""
    installation, bridge, now = world.installation, world.bridge, world.clock.now
    old = in_force(await installation.cross.cases(installation.authority_id), now)
    renews = old[-1].case_id if old else None
    trigger = Trigger.OURS_CHANGES if old else None
    application = Application(PARTNER, bridge.request(), None, renews, trigger)
    case_id = (await cross_certification.receive(installation, application, RECEPTION, now)).case_id
    await cross_certification.examine(
        installation, By(case_id, EXAMINER, now), bridge.key_sha256, "登記事項証明書、電話"
    )
    await cross_certification.note(installation, By(case_id, APPROVER, now), Step.APPROVE, "審査結果のとおり")
    await cross_certification.note(installation, By(case_id, OPERATOR, now), Step.TEST, "成績書")
    parameters = cross_operation.issue_parameters(await find(installation, case_id), OPERATOR, None)
    await operate(world, OperationKind.CROSS_CERTIFICATE, parameters)
    theirs = await _theirs(world)
    await cross_certification.accept(installation, By(case_id, OPERATOR, now), theirs)
    await cross_certification.give_receipt(installation, By(case_id, RECEPTION, now))
    await cross_certification.take_receipt(installation, By(case_id, RECEPTION, now), b"%PDF-")


async def _theirs(world: World) -> bytes:
    """What the bridge certifies of the CA's key."""
    installation = world.installation
    await operate(world, OperationKind.CROSS_REQUEST, await cross_operation.request_parameters(installation))
    request = await installation.cross.newest_request(installation.authority_id)
    if request is None:
        raise RefusedError("there is no request of this CA")
    return world.bridge.certify(request, installation.authority.policy(Kind.CROSS), world.clock.now)


async def _revoke_replaced(world: World) -> None:
    """The CA's certificates of pairs that were replaced (R-4-10-1); what a compromise revoked is so already."""
    installation = world.installation
    cases = await installation.cross.cases(installation.authority_id)
    for case in (cases[number] for number in sorted(superseded(cases, world.clock.now))):
        if case.is_mutual:
            parameters = cross_operation.revoke_parameters(case, OPERATOR, CRLReason.SUPERSEDED, "governor")
            await operate(world, OperationKind.CROSS_REVOCATION, parameters)
