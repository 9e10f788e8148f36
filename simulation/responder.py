"""The OCSP responder in this process, as its program puts it together, and a client that verifies what it says.

Between question and answer is everything but HTTP: octets in, rights, statuses, a signature, octets out.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp

from ocsp import provision
from ocsp.access import Caller
from ocsp.answering import Answering, Means, Question
from ocsp.cache import AnswerCache
from ocsp.delegates import Keys
from ocsp.metrics import Metrics
from ocsp.refresh import Refresh
from ocsp.reply import Reply
from ocsp.signing import Signatures
from ocsp.store import Store
from pkix import der
from pkix.certid import issuer_hashes
from pkix.revocation import CertStatus, CRLReason, Good, Revoked, Unknown
from pkix.signing import Signer, verify
from pkix.validity import Validity
from settings.database import connect_arguments
from settings.load import Settings
from simulation.sight import Refusal, Told
from simulation.world import Clock

CLIENT: Final = "127.0.0.1"  # a relying party is recognised by it
CACHE_BYTES: Final = 2**20
MEMORY_KEY: Final = bytes(32)  # of passwords, which nobody shows here
_REASONS: Final = {reason.label: reason for reason in CRLReason}


class KeptKeys:
    """Keys of delegates, each decrypted once."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._kept: dict[int, Signer] = {}

    def signer(self, serial: int) -> Signer:
        """See `ocsp.delegates.Keys`."""
        if serial not in self._kept:
            self._kept[serial] = self._keys.signer(serial)
        return self._kept[serial]

    def place(self, serial: int) -> str:
        """See `ocsp.delegates.Keys`."""
        return self._keys.place(serial)


class Responder:
    """Answers at the moment of its clock."""

    def __init__(self, refresh: Refresh, answering: Answering, clock: Clock) -> None:
        self._refresh = refresh
        self._answering = answering
        self._clock = clock

    async def load(self) -> None:
        """Take up keys, delegates and rights, as at SIGHUP."""
        await self._refresh.load()

    async def answer(self, octets: bytes) -> Reply:
        """The reply to the octets of an OCSPRequest."""
        caller = self._refresh.snapshot.access.caller(CLIENT, self._clock.now)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def deliver(made: Reply, _: Caller) -> None:
            reply.set_result(made)

        self._answering.ask(Question("POST", octets, None, caller, deliver))
        return await reply


@contextlib.asynccontextmanager
async def responder(settings: Settings, clock: Clock) -> AsyncIterator[Responder]:
    """The responder of an installation."""
    section, metrics = settings.ocsp, Metrics()
    cache = AnswerCache(CACHE_BYTES, section.max_staleness_s)
    with contextlib.ExitStack() as stack:
        arguments = connect_arguments(settings, "prefca_ocsp")
        store = stack.enter_context(contextlib.closing(Store(arguments, settings.database.poll_ms / 1000)))
        keys = KeptKeys(stack.enter_context(provision.delegate_keys(settings)))
        refresh = Refresh(store, keys, clock, cache)
        means = Means(
            knowledge=refresh,
            statuses=store,
            recogniser=stack.enter_context(provision.recogniser(settings, MEMORY_KEY)),
            limits=provision.rate_limits(section),
            responder=provision.responder(section),
            signing=stack.enter_context(contextlib.closing(Signatures(metrics, lambda: None))),
            cache=cache,
            metrics=metrics,
            clock=clock.seconds,
        )
        answering = Answering(means, section.max_request_certificates, "")
        working = asyncio.create_task(answering.run())
        try:
            yield Responder(refresh, answering, clock)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


def request(issuer: x509.Certificate, serials: Sequence[int]) -> bytes:
    """The DER of an OCSPRequest about certificates of one key, named by SHA-1 as most clients do."""
    hashes, *_ = issuer_hashes(issuer)
    algorithm = der.sequence(der.object_identifier(hashes.algorithm), der.NULL)
    named = algorithm + der.octet_string(hashes.name_hash) + der.octet_string(hashes.key_hash)
    singles = (der.sequence(der.sequence(named, der.integer(serial))) for serial in serials)
    return der.sequence(der.sequence(der.sequence(*singles)))


def heard(octets: bytes, asked: int, issuers: Mapping[int, x509.Certificate]) -> Sequence[Told] | Refusal:
    """What an answer says to whoever verifies it.

    Args:
        octets: DER of an OCSPResponse.
        asked: the generation that was named as the issuer.
        issuers: the certificate of each generation.

    Raises:
        InvalidSignature: it is not signed by the delegate that it brings along.
    """
    response = ocsp.load_der_ocsp_response(octets)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return Refusal(asked, response.response_status.name)
    (delegate,) = response.certificates
    key = delegate.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) or not verify(
        key, response.signature, [response.tbs_response_bytes]
    ):
        raise InvalidSignature
    signer = next((number for number, issuer in issuers.items() if _is_issued_by(delegate, issuer)), None)
    return [
        Told(
            single.serial_number,
            asked,
            _status(single),
            Validity(single.this_update_utc, single.next_update_utc or single.this_update_utc),
            delegate.serial_number,
            signer,
        )
        for single in response.responses
    ]


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _status(single: ocsp.OCSPSingleResponse) -> CertStatus:
    match single.certificate_status:
        case ocsp.OCSPCertStatus.GOOD:
            return Good()
        case ocsp.OCSPCertStatus.REVOKED:
            if single.revocation_time_utc is None or single.revocation_reason is None:
                raise ValueError("revoked, but not since when or why")
            return Revoked(single.revocation_time_utc, _REASONS[single.revocation_reason.value])
        case ocsp.OCSPCertStatus.UNKNOWN:
            return Unknown()
