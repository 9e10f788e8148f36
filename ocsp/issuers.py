"""Whose certificates are asked about, and which delegate may speak of them.

A generation is one key of the CA; its certificates are spoken of by delegates that the same key signed (RFC 6960,
section 4.2.2.2), also years after the next generation took over.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from ocsp.request import CertID
from pkix.certid import issuer_hashes
from pkix.signing import Signer, algorithm_oid
from pkix.validity import Validity


@dataclass(frozen=True, slots=True)
class Generation:
    """One key of the CA."""

    generation_id: int
    certificate: x509.Certificate  # self-signed
    is_active: bool = False  # it signs certificates now: each CA has one such key


@dataclass(frozen=True, slots=True)
class Delegate:
    """An Authorized Responder: certificate, checked, and its key."""

    serial: int
    generation_id: int
    validity: Validity
    certificate: bytes  # DER
    name: bytes  # DER of its subject: ResponderID byName
    key_hash: bytes  # 20 octets: ResponderID byKey
    signer: Signer


class Issuers:
    """Everybody whose certificates are answered for."""

    def __init__(self, generations: Sequence[Generation], delegates: Iterable[Delegate]) -> None:
        self._generations = {
            (hashes.algorithm, hashes.name_hash, hashes.key_hash): generation
            for generation in generations
            for hashes in issuer_hashes(generation.certificate)
        }
        self._active = [generation for generation in generations if generation.is_active]
        self.names = {generation.generation_id: generation.certificate.subject for generation in generations}
        self._newest_first = sorted(delegates, key=lambda delegate: delegate.validity.not_before, reverse=True)
        self.delegates = tuple(self._newest_first)
        self.delegate_serials = frozenset(delegate.serial for delegate in self._newest_first)

    def generation(self, cert_id: CertID) -> Generation | None:
        """The generation that `cert_id` names as issuer, by hashes of its name and key; None is no issuer of ours."""
        return self._generations.get((cert_id.hash_algorithm, cert_id.issuer_name_hash, cert_id.issuer_key_hash))

    def delegate(self, generation: Generation, now: datetime, preferred: Sequence[str] = ()) -> Delegate | None:
        """Who speaks for `generation` now.

        Of its delegates in their validity the one whose signatures the client prefers, else the newest: the operator's
        choice (RFC 6960, section 4.4.7.2).

        Args:
            generation: one key of the CA.
            now: the moment.
            preferred: dotted OIDs of signature algorithms, the dearest first.
        """
        able: dict[str, Delegate] = {}
        for delegate in self._newest_first:
            if delegate.generation_id == generation.generation_id and now in delegate.validity:
                able.setdefault(algorithm_oid(delegate.signer.public_key), delegate)
        return next((able[oid] for oid in preferred if oid in able), next(iter(able.values()), None))

    def has_delegate(self, now: datetime) -> bool:
        """Can anything at all be signed now?"""
        return any(now in delegate.validity for delegate in self._newest_first)

    def have_delegates(self, now: datetime) -> bool:
        """Can be answered now for the present key of every CA, and for anything at all?"""
        return self.has_delegate(now) and all(self.delegate(generation, now) for generation in self._active)
