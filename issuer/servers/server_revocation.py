"""Revoking a certificate that is no resident's, but of the CA's servers (5-2-1-1 (6))."""

from collections.abc import Iterable
from datetime import UTC, datetime

from issuer.errors import RefusedError
from issuer.installation import Installation
from issuer.operations.act import Act, Facts
from issuer.profiles.authority import Kind
from issuer.residents.revocation import NotRevoked, RevocationOrder, parse_reason, parse_serial, revoke
from issuer.rules.operation import Parameters

_MOMENT = "%Y-%m-%dT%H:%M:%SZ"


async def not_residents(installation: Installation, serials: Iterable[int]) -> set[int]:
    """Those of them whose revocation several persons agree to; what nobody issued is not among them.

    Raises:
        RefusedError: one is a cross certificate, to whose revocation others have to agree.
    """
    found = await installation.store.certificates(installation.authority_id, [one for one in serials if one < 1 << 63])
    for serial, row in found.items():
        if row.kind is Kind.CROSS:
            raise RefusedError(f"{serial:016X} is a cross certificate; use `prefca cross revoke`")
    return {serial for serial, row in found.items() if row.kind is not Kind.RESIDENT}


def revocation_of(order: RevocationOrder) -> Parameters:
    """What is signed to revoke them."""
    since = order.invalidity_date
    return {
        "serials": ",".join(f"{serial:016X}" for serial in order.serials),
        "reason": order.reason.label,
        "received_at": f"{order.received_at:{_MOMENT}}",
        "invalidity_date": None if since is None else f"{since:{_MOMENT}}",
    }


async def perform(act: Act) -> Facts:
    """Perform REVOKE_CERTIFICATE, of all or none.

    Raises:
        RefusedError: one of them cannot be revoked.
    """
    parameters, since = act.parameters, act.parameters["invalidity_date"]
    serials = [parse_serial(serial) for serial in str(parameters["serials"]).split(",")]
    reason, received_at = parse_reason(str(parameters["reason"])), _moment(str(parameters["received_at"]))
    order = RevocationOrder(serials, reason, received_at, None if since is None else _moment(str(since)))
    await not_residents(act.installation, serials)
    facts: dict[str, object] = {}
    async with act.installation.store.transaction():
        for outcome in await revoke(act.installation, order, act.clock()):
            if isinstance(outcome, NotRevoked):
                raise RefusedError(f"{outcome.serial:016X} {outcome.message}")
            facts[f"{outcome.serial:016X}"] = f"revoked: {outcome.status.reason.label}"
        await act.settle(facts)
    return facts


def _moment(text: str) -> datetime:
    try:
        return datetime.strptime(text, _MOMENT).replace(tzinfo=UTC)
    except ValueError as e:
        raise RefusedError(f"{e}; write a moment like 2026-04-01T03:00:00Z") from e
