"""One answer, from the question to the signature.

The order: whose certificates are these → what is recorded of them now → may the caller know → sign. Nothing is
remembered from one request to the next.
"""

import logging
from collections.abc import Awaitable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from ocsp.access import Caller, Right
from ocsp.errors import (
    AccessDeniedError,
    NoDelegateError,
    NotOurIssuerError,
    SeveralIssuersError,
    SignatureRequiredError,
)
from ocsp.issuers import Delegate, Generation, Issuers
from ocsp.request import OCSPRequest
from ocsp.response import USUAL_FORM, Answer, ResponseForm, ValidityInterval, assemble, response_data
from ocsp.status import SERIALS, IssuedCertificate, SingleResponse, single_response
from pkix.signing import Signer

_logger = logging.getLogger(__name__)


class StatusSource(Protocol):
    """Where statuses are read."""

    async def statuses(self, serials: Collection[int]) -> dict[int, IssuedCertificate]:
        """What is recorded now of those that were ever issued; raises StoreUnavailableError."""


class Signing(Protocol):
    """Where signatures are made, so that the event loop goes on meanwhile."""

    def sign(self, signer: Signer, to_be_signed: bytes) -> Awaitable[bytes]:
        """The signature; raises SigningError."""


class Responder:
    """Answers requests."""

    def __init__(
        self,
        statuses: StatusSource,
        response_validity: timedelta,
        signing: Signing,
        form: ResponseForm = USUAL_FORM,
    ) -> None:
        self._statuses = statuses
        self._response_validity = response_validity
        self._signing = signing
        self._form = form
        self._speechless: set[int] = set()  # generations without a delegate, of which that is logged

    async def answer(self, request: OCSPRequest, caller: Caller, issuers: Issuers, now: datetime) -> Answer:
        """Answer `request` as of `now`, in whole seconds.

        Raises:
            NotOurIssuerError: no certificate is of a generation in `issuers`.
            SeveralIssuersError: they are of more than one, and that is not answered here.
            StoreUnavailableError: the statuses cannot be read.
            AccessDeniedError: `caller` may not be told.
            SignatureRequiredError: nor that, but he may say who he is.
            NoDelegateError: nobody can sign.
        """
        named = [issuers.generation(cert_id) for cert_id in request.cert_ids]
        generation = _asked_about(named, mixes=self._form.mixes_generations)
        serials = {cert_id.serial_number for cert_id in request.cert_ids if cert_id.serial_number in SERIALS}
        issued = await self._statuses.statuses(serials)
        singles = tuple(
            single_response(cert_id, issuer, issued) for cert_id, issuer in zip(request.cert_ids, named, strict=True)
        )
        authorize(caller, singles)
        delegate = self._delegate(generation, issuers, now, request.preferred_algorithms)
        # An answer is no longer good than the certificate of its signer.
        interval = ValidityInterval(now, min(now + self._response_validity, delegate.validity.not_after))
        tbs = response_data(singles, delegate, interval, request.nonce, self._form)
        signature = await self._signing.sign(delegate.signer, tbs)
        return Answer(assemble(tbs, signature, delegate), singles, interval, has_nonce=request.nonce is not None)

    def _delegate(self, generation: Generation, issuers: Issuers, now: datetime, preferred: Sequence[str]) -> Delegate:
        delegate = issuers.delegate(generation, now, preferred)
        if delegate is not None:
            self._speechless.discard(generation.generation_id)
            return delegate
        if generation.generation_id not in self._speechless:
            self._speechless.add(generation.generation_id)
            _logger.error("no_delegate", extra={"generation_id": generation.generation_id})
        raise NoDelegateError(f"no delegate of generation {generation.generation_id} can be used now")


def _asked_about(named: Iterable[Generation | None], *, mixes: bool) -> Generation:
    """The generation of ours among the issuers that a request names; the newest of one CA, if it may `mix` several.

    Raises:
        NotOurIssuerError: there is none.
        SeveralIssuersError: there are several, and it may not, or they are of several CAs.
    """
    ours = {generation.generation_id: generation for generation in named if generation is not None}
    if not ours:
        raise NotOurIssuerError("no issuer of ours is named")
    if len(ours) > 1 and not (mixes and len({each.certificate.subject for each in ours.values()}) == 1):
        raise SeveralIssuersError("several issuers are named; ask about each of them on its own")
    return ours[max(ours)]


def authorize(caller: Caller, singles: Iterable[SingleResponse]) -> None:
    """Let pass what is public, and parties with the right (R-4-4-4-3).

    Raises:
        SignatureRequiredError: somebody shows nothing who could.
        AccessDeniedError: otherwise.
    """
    if Right.OCSP in caller.rights or all(single.public for single in singles):
        return
    if caller.signature_expected:
        raise SignatureRequiredError("a status that is not public, asked for by nobody knows whom")
    raise AccessDeniedError("a status that is not public needs the right ocsp")
