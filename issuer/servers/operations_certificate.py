"""Certificates of servers besides OCSP delegates: the 官職証明書検証サーバ (R-1-3-2-3), whose keys are elsewhere."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from issuer.alarm import Alarm
from issuer.operations.act import Act, Facts
from issuer.profiles.authority import Kind
from issuer.profiles.profile import certificate_validation_server, serial_number
from issuer.records.rows import CertificateRow, new_certificate
from issuer.rules.operation import Parameters
from issuer.servers import delegate
from issuer.servers.delegate import RENEW_BEFORE, asked_for, given_key, requested_key
from issuer.signing.ca_key import require_in_use
from issuer.signing.certification import certify
from issuer.signing.key_use import used_key
from pkix.validity import whole_second

TELL_AFTER: Final = timedelta(days=30)  # the end of the last one: then its server is taken to be gone


def parameters(request: bytes) -> Parameters:
    """What is asked for, for those who agree to it: a certificate for the key of a certification request.

    Raises:
        RefusedError: it is none, its signature is wrong, or its key is neither RSA-2048 nor P-256.
    """
    return {**asked_for(requested_key(request)), "server": Kind.CVS.value}


async def perform(act: Act) -> Facts:
    """Certify the key of a server: of the OCSP responder as `delegate.perform`, or of this one.

    Raises:
        RefusedError: its key is of another kind, or the CA's key may not be used for it.
        LintError: the certificate breaks its profile.
        SigningError: the key cannot be used now.
    """
    if act.parameters["server"] != Kind.CVS:
        return await delegate.perform(act)
    installation, now = act.installation, whole_second(act.clock())
    public_key = given_key(str(act.parameters["public_key"]))
    serial = serial_number(act.random_octets(8))
    async with used_key(installation, "operations", act.clock) as key:
        require_in_use(key.generation, now)
        certificate = certify(key, certificate_validation_server(key.issuer, public_key, serial, now), Kind.CVS)
    partitions = {one.kind: one.partition_id for one in await installation.store.partitions(installation.authority_id)}
    row = new_certificate(certificate, key.generation.generation_id, partitions["operations"], Kind.CVS)
    facts = {"serial": f"{serial:016X}", "not_after": row.validity.not_after}
    async with installation.store.transaction():
        await installation.store.require_active(key.generation.generation_id)
        await installation.store.add_certificates([row], now)
        await installation.store.record("certificate_issued", now, f"{serial:016X}", {"kind": Kind.CVS})
        await act.settle(facts)
    return facts


def alarms(certificates: Iterable[CertificateRow], now: datetime) -> list[Alarm]:
    """The last certificate of a server ends soon, or has just ended; none stands where there is no server."""
    end = max((one.not_after for one in certificates if one.revoked is None), default=None)
    if end is None or end - now >= RENEW_BEFORE or now - end > TELL_AFTER:
        return []
    advice = "run `prefca operations-certificate create --for cvs`, or revoke it if the server is gone"
    return [Alarm("cvs_certificate_ending", f"the last one ends at {end:%Y-%m-%dT%H:%M:%SZ}; {advice}")]
