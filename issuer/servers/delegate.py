"""OCSP delegates: whose keys sign the responder's answers (R-1-3-2-4; RFC 6960, section 4.2.2.2).

First there is the key, then the certificate, then its record. So a running responder, which hears of the record, finds
the key of a new delegate where it looks for it, and takes the delegate over without a restart.
"""

import base64
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from issuer.alarm import Alarm
from issuer.errors import RefusedError
from issuer.installation import ActiveKey
from issuer.keys import CA_KEY_BITS, CAKeys, KeyAlgorithm, delegate_label, open_delegate_keys
from issuer.operations.act import Act, Facts
from issuer.profiles.authority import Kind
from issuer.profiles.certification_request import load_request
from issuer.profiles.generation import State
from issuer.profiles.profile import ocsp_delegate, serial_number
from issuer.records.rows import DelegateRow, Generation, KeyRow, new_certificate
from issuer.rules.operation import Parameters
from issuer.signing.ca_key import require_in_use
from issuer.signing.certification import certify
from issuer.signing.key_use import used_key
from pkix.signing import NoSuchKeyError, PublicKey
from pkix.software import write_secret
from pkix.validity import whole_second, zulu
from settings.load import Settings

RENEW_BEFORE: Final = timedelta(days=30)  # the end: time enough for a ceremony
OVERLAP: Final = RENEW_BEFORE  # of delegates that were made in advance: time enough to find a key that was lost
SECOND: Final = timedelta(seconds=1)
_PASSPHRASE_OCTETS: Final = 24


def requested_key(octets: bytes) -> PublicKey:
    """The key of a CertificationRequest (RFC 2986), DER or PEM; of its contents nothing else is used.

    Raises:
        RefusedError: it is none, its signature is wrong, or its key is neither RSA-2048 nor P-256.
    """
    return _usable(load_request(octets).public_key())


def make_passphrase(settings: Settings, random_octets: Callable[[int], bytes]) -> None:
    """Make the passphrase of the responder's key files, if there is none yet."""
    file = settings.path(settings.ocsp.passphrase_file)
    if settings.ocsp.pkcs11_module is None and not file.exists():
        write_secret(file, random_octets(_PASSPHRASE_OCTETS).hex().encode() + b"\n")


def new_key(settings: Settings, serial: int, algorithm: KeyAlgorithm) -> PublicKey:
    """Make the key of the delegate `serial` where the responder looks for it.

    Raises:
        SigningError: token or passphrase cannot be used.
    """
    with closing(open_delegate_keys(settings)) as keys:
        return keys.get_or_create(delegate_label(serial), algorithm).public_key


def certified(key: ActiveKey, public_key: PublicKey, serial: int, now: datetime) -> bytes:
    """The certificate of a delegate, DER.

    Raises:
        LintError: it breaks its profile.
        SigningError: the CA's key cannot be used now.
    """
    return certify(key, ocsp_delegate(key.issuer, public_key, serial, whole_second(now)), Kind.OCSP)


def asked_for(asked: PublicKey | KeyAlgorithm) -> Parameters:
    """What is signed to certify a delegate: the key to certify, or what kind of key to make."""
    if isinstance(asked, KeyAlgorithm):
        return {"server": "ocsp", "algorithm": asked.value, "public_key": None}
    encoded = asked.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {"server": "ocsp", "algorithm": None, "public_key": base64.b64encode(encoded).decode()}


async def perform(act: Act) -> Facts:
    """Certify a delegate by the key that signs now, and record it.

    Its key is elsewhere, or it is made where the responder looks for it. One that was made and not certified, by a
    process that was killed, is used by nobody.

    Raises:
        RefusedError: the CA has no active key, its time of use has ended, or the delegate's key cannot be certified.
        SigningError: a key cannot be made or used now.
        LintError: the certificate breaks its profile.
    """
    installation, now = act.installation, act.clock()
    settings, store, serial = installation.settings, installation.store, serial_number(act.random_octets(8))
    public_key = _key_to_certify(act, serial)
    async with used_key(installation, "delegate", act.clock) as key:
        require_in_use(key.generation, now)
        certificate = certified(key, public_key, serial, now)
        partitions = {one.kind: one.partition_id for one in await store.partitions(installation.authority_id)}
    row = new_certificate(certificate, key.generation.generation_id, partitions["operations"], Kind.OCSP)
    facts = {"serial": delegate_label(serial), "not_after": row.validity.not_after, "key": place(settings, serial)}
    if act.parameters["algorithm"] is None:
        facts["next"] = f"{_how_to_place_key(settings, serial)}; then send SIGHUP to the responder"
    async with store.transaction():
        await store.require_active(key.generation.generation_id)
        await store.add_certificates([row], now)
        await store.record("certificate_issued", now, delegate_label(serial), {"kind": Kind.OCSP})
        await act.settle(facts)
    return facts


def _key_to_certify(act: Act, serial: int) -> PublicKey:
    settings, parameters = act.installation.settings, act.parameters
    if parameters["server"] != "ocsp":
        raise RefusedError(f"no certificate can be made for a server of the kind {parameters['server']!r}")
    if parameters["public_key"] is None:
        make_passphrase(settings, act.random_octets)
        return new_key(settings, serial, KeyAlgorithm(str(parameters["algorithm"])))
    return given_key(str(parameters["public_key"]))


def given_key(encoded: str) -> PublicKey:
    """The key that `asked_for` encoded.

    Raises:
        RefusedError: it is none, or neither RSA-2048 nor P-256.
    """
    try:
        return _usable(load_der_public_key(base64.b64decode(encoded)))
    except ValueError as e:
        raise RefusedError(f"the key to certify is none ({e}); ask anew, with the request") from e


def _usable(key: object) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size == CA_KEY_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise RefusedError("the key of the request is neither RSA-2048 nor P-256; make one of these")


def _how_to_place_key(settings: Settings, serial: int) -> str:
    if settings.ocsp.pkcs11_module is not None:
        return f"label its key {delegate_label(serial)} in token {settings.ocsp.pkcs11_token}"
    passphrase = settings.path(settings.ocsp.passphrase_file)
    return f"put its key there: openssl pkcs8 -topk8 -in KEY -passout file:{passphrase} -out {place(settings, serial)}"


def place(settings: Settings, serial: int) -> str:
    """Where the responder looks for the key of the delegate `serial`, for people."""
    section, label = settings.ocsp, delegate_label(serial)
    if section.pkcs11_module is not None:
        return f"token {section.pkcs11_token}, key {label}"
    return str(settings.path(section.key_directory) / f"{label}.pem")


def has_keys(settings: Settings, serials: Iterable[int]) -> dict[int, bool]:
    """Which delegates have their keys where the responder of this installation looks for them.

    Raises:
        SigningError: the token cannot be used.
    """
    section = settings.ocsp
    if section.pkcs11_module is None:
        directory = settings.path(section.key_directory)
        return {serial: (directory / f"{delegate_label(serial)}.pem").exists() for serial in serials}
    with closing(open_delegate_keys(settings)) as keys:
        return {serial: _has_key(keys, serial) for serial in serials}


def signing(delegates: Iterable[DelegateRow], generation: Generation | None, now: datetime) -> DelegateRow | None:
    """Which delegate of a key of the CA signs now: the newest one in its validity."""
    return max(
        (
            one
            for one in delegates
            if generation is not None
            and one.generation == generation.number
            and one.certificate.revoked is None
            and one.not_before <= now <= one.certificate.not_after
        ),
        key=lambda one: one.not_before,
        default=None,
    )


def covered_until(key: KeyRow, delegates: Iterable[DelegateRow], now: datetime) -> datetime:
    """Until when there is always a delegate of a key of the CA, from now on; `now`: there is none."""
    covered = now
    of_this_key = [one for one in delegates if one.generation == key.generation.number]
    for one in sorted(of_this_key, key=lambda one: one.not_before):
        if one.certificate.revoked is None and one.not_before <= covered + SECOND:
            covered = max(covered, one.certificate.not_after)
    return covered


def alarms(keys: Iterable[KeyRow], delegates: Iterable[DelegateRow], now: datetime) -> list[Alarm]:
    """What is wrong with the delegates of the key that signs now, and of those whose certificates still live."""
    delegates = list(delegates)
    found: list[Alarm] = []
    for key in keys:
        covered = covered_until(key, delegates, now)
        if key.state is State.ACTIVE:
            found += _of_active(covered, now)
        elif key.state in {State.RETIRED, State.DESTROYED}:
            found += _of_replaced(key, covered, now)
    return found


def _of_active(covered: datetime, now: datetime) -> list[Alarm]:
    if covered <= now:
        return [Alarm("no_ocsp_delegate", "no OCSP delegate is valid; run `prefca ocsp-delegate create`")]
    if covered - now < RENEW_BEFORE:
        text = f"the last OCSP delegate ends at {zulu(covered)}; run `prefca ocsp-delegate create`"
        return [Alarm("ocsp_delegate_ending", text)]
    return []


def _of_replaced(key: KeyRow, covered: datetime, now: datetime) -> list[Alarm]:
    """Of a key that signs residents' certificates no more: the delegates that it needs it has from before."""
    if key.residents_until is None or key.residents_until <= max(covered, now):
        return []
    number, ends = key.generation.number, zulu(key.residents_until)
    what = f"certificates of the CA's key {number} live until {ends}, its OCSP delegates"
    remedy = "restore what was revoked or lost, or tell relying parties to use lists"
    if key.state is State.RETIRED and now <= key.generation.signs_until:
        remedy = f"run `prefca ocsp-delegate create --ahead --key {number}`"
    if covered <= now:
        return [Alarm("no_ocsp_delegate", f"{what} have ended; {remedy}")]
    return [Alarm("ocsp_delegate_gap", f"{what} only until {zulu(covered)}; {remedy}")]


def _has_key(keys: CAKeys, serial: int) -> bool:
    try:
        keys.signer(delegate_label(serial))
    except NoSuchKeyError:
        return False
    return True
