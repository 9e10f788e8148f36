"""One answer, from the question to the signature and from there to the end.

The order: whose certificates are these → what is recorded of them now → may the caller know → draft → sign → answer.
Statuses and signatures come from outside, many at a time. Nothing is remembered from one request to the next.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import repeat
from typing import NamedTuple

from ocsp.access import Caller, Right
from ocsp.errors import (
    AccessDeniedError,
    NoDelegateError,
    NotOurIssuerError,
    SeveralIssuersError,
    SignatureRequiredError,
)
from ocsp.issuers import Generation, Issuers
from ocsp.request import OCSPRequest
from ocsp.response import USUAL_FORM, Answer, ResponseForm, ValidityInterval, Voice, assemble, response_data
from ocsp.status import SERIALS, IssuedCertificate, SingleResponse, single_response

_logger = logging.getLogger(__name__)


class Subject(NamedTuple):
    """Whom a request is about."""

    request: OCSPRequest
    issuers: Issuers
    named: Sequence[Generation | None]  # the issuer of each certificate asked about; None is none of ours
    generation: Generation  # whose delegate is to answer

    @property
    def serials(self) -> list[int]:
        """The serial numbers that may be known."""
        return [number for _, _, _, number, _ in self.request.cert_ids if number in SERIALS]


class Draft(NamedTuple):
    """An answer without its signature."""

    request: OCSPRequest
    singles: tuple[SingleResponse, ...]
    public: bool  # may anybody be told?
    voice: Voice
    to_be_signed: bytes

    @property
    def answer(self) -> Answer:
        """What it says."""
        return Answer(self.singles, self.voice.interval, self.request.nonce is not None, self.public)

    def response(self, signature: bytes) -> bytes:
        """The DER of the OCSPResponse."""
        return assemble(self.to_be_signed, signature, self.voice)


class Responder:
    """Drafts answers."""

    def __init__(self, response_validity: timedelta, form: ResponseForm = USUAL_FORM) -> None:
        self._response_validity = response_validity
        self._form = form
        self._now: datetime | None = None
        self._issuers: Issuers | None = None
        self._voices: dict[tuple[int, tuple[str, ...]], Voice] = {}  # of that moment, and of these issuers
        self._speechless: set[int] = set()  # generations without a delegate, of which that is logged

    def subject(self, request: OCSPRequest, issuers: Issuers) -> Subject:
        """Whom `request` is about.

        Raises:
            NotOurIssuerError: no certificate is of a generation in `issuers`.
            SeveralIssuersError: they are of more than one, and that is not answered here.
        """
        named = [issuers.generation(cert_id) for cert_id in request.cert_ids]
        return Subject(request, issuers, named, _asked_about(named, mixes=self._form.mixes_generations))

    def draft(self, subject: Subject, issued: Mapping[int, IssuedCertificate], caller: Caller, now: datetime) -> Draft:
        """Answer as of `now`, in whole seconds.

        Args:
            subject: whom the request is about.
            issued: what is recorded of the serial numbers of the request.
            caller: who asks.
            now: the moment of `issued`.

        Raises:
            AccessDeniedError: `caller` may not be told.
            SignatureRequiredError: nor that, but he may say who he is.
            NoDelegateError: nobody can sign.
        """
        request = subject.request
        singles = tuple(map(single_response, request.cert_ids, subject.named, repeat(issued)))
        public = all([single.public for single in singles])  # noqa: C419 - a generator takes twice as long
        authorize(caller, public=public)
        voice = self._voice(subject.generation, subject.issuers, now, request.preferred_algorithms)
        return Draft(request, singles, public, voice, response_data(singles, voice, request.nonce))

    def _voice(self, generation: Generation, issuers: Issuers, now: datetime, preferred: tuple[str, ...]) -> Voice:
        if now != self._now or issuers is not self._issuers:
            self._now, self._issuers = now, issuers
            self._voices.clear()
        key = (generation.generation_id, preferred)
        voice = self._voices.get(key)
        if voice is None:
            voice = self._voices[key] = self._new_voice(generation, issuers, now, preferred)
        return voice

    def _new_voice(self, generation: Generation, issuers: Issuers, now: datetime, preferred: Sequence[str]) -> Voice:
        delegate = issuers.delegate(generation, now, preferred)
        if delegate is not None:
            self._speechless.discard(generation.generation_id)
            # An answer is no longer good than the certificate of its signer.
            until = min(now + self._response_validity, delegate.validity.not_after)
            return Voice(delegate, ValidityInterval(now, until), self._form)
        if generation.generation_id not in self._speechless:
            self._speechless.add(generation.generation_id)
            _logger.error("no_delegate", extra={"generation_id": generation.generation_id})
        raise NoDelegateError(f"no delegate of generation {generation.generation_id} can be used now")


def _asked_about(named: Sequence[Generation | None], *, mixes: bool) -> Generation:
    """The generation of ours among the issuers that a request names; the newest of one CA, if it may `mix` several.

    Raises:
        NotOurIssuerError: there is none.
        SeveralIssuersError: there are several, and it may not, or they are of several CAs.
    """
    if len(named) == 1 and named[0] is not None:  # as nearly always
        return named[0]
    ours = {generation.generation_id: generation for generation in named if generation is not None}
    if not ours:
        raise NotOurIssuerError("no issuer of ours is named")
    if len(ours) > 1 and not (mixes and len({each.certificate.subject for each in ours.values()}) == 1):
        raise SeveralIssuersError("several issuers are named; ask about each of them on its own")
    return ours[max(ours)]


def authorize(caller: Caller, *, public: bool) -> None:
    """Let pass what is public, and parties with the right (R-4-4-4-3).

    Raises:
        SignatureRequiredError: somebody shows nothing who could.
        AccessDeniedError: otherwise.
    """
    if public or Right.OCSP in caller.rights:
        return
    if caller.signature_expected:
        raise SignatureRequiredError("a status that is not public, asked for by nobody knows whom")
    but = "" if caller.failure is None else f", but {caller.failure}"
    raise AccessDeniedError(f"a status that is not public needs the right ocsp{but}")
