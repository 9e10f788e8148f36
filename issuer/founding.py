"""Setting up a CA: from an empty directory to a first publication. Interrupted anywhere, it goes on where it stopped.

Files come before the rows that name them: a key without a row is used again, a row never lacks its key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer.authority import Authority, Kind
from issuer.certification import certify, certify_self
from issuer.installation import ActiveKey
from issuer.keys import CA_KEY_BITS, CAKeys
from issuer.profile import CA_SIGNING_YEARS, Issuer, ocsp_delegate, self_signed, serial_number
from issuer.rows import Generation, NewCertificate
from issuer.store import Store
from pkix import software
from pkix.software import write_secret
from pkix.validity import Validity, counting_first_day, whole_second
from settings.load import Settings

OCSP_PASSPHRASE_OCTETS: Final = 24


@dataclass(frozen=True, slots=True)
class Founding:
    """What a CA is set up with."""

    settings: Settings
    authority: Authority
    store: Store
    now: datetime
    random_octets: Callable[[int], bytes]


def key_label(authority: Authority, number: int) -> str:
    """The label of a generation's key: `test-tokyo-to-1`."""
    return f"{authority.hierarchy}-{authority.prefecture.name_romaji.lower()}-{number}"


async def found(founding: Founding, keys: CAKeys) -> None:
    """Make the Governor's key and certificate and a first OCSP delegate; record them with all partitions, at once."""
    authority, store = founding.authority, founding.store
    if await store.authority_id(authority) is not None:
        return
    now = whole_second(founding.now)
    label = key_label(authority, 1)
    signer = keys.get_or_create(label)
    serial = serial_number(founding.random_octets(8))
    certificate = certify_self(signer, self_signed(authority, signer.public_key, serial, now))
    issuer = Issuer(authority, x509.load_der_x509_certificate(certificate))
    async with store.transaction():
        authority_id = await store.add_authority(authority, now)
        signs = counting_first_day(now, CA_SIGNING_YEARS)
        generation_id = await store.add_generation(authority_id, label, certificate, signs)
        generation = Generation(generation_id, authority_id, 1, label, certificate, signs.not_after)
        key = ActiveKey(generation, issuer, signer)
        partitions = {p.kind: p.partition_id for p in await store.partitions(authority_id)}
        delegate = _new_delegate(founding, key)
        new = [
            _row(certificate, generation_id, partitions["ca"], Kind.SELF_SIGNED),
            _row(delegate, generation_id, partitions["operations"], Kind.OCSP),
        ]
        await store.add_certificates(new, now)
        await store.record("authority_founded", now, label, {"hierarchy": authority.hierarchy})
        await store.record_many("certificate_issued", now, [(f"{c.serial:016X}", {"kind": c.kind}) for c in new])


def _new_delegate(founding: Founding, key: ActiveKey) -> bytes:
    """A delegate's certificate, its key written where the responder looks for it: named by the serial number."""
    settings, serial = founding.settings, serial_number(founding.random_octets(8))
    passphrase_file = settings.path(settings.ocsp.passphrase_file)
    if not passphrase_file.exists():
        write_secret(passphrase_file, founding.random_octets(OCSP_PASSPHRASE_OCTETS).hex().encode() + b"\n")
    delegate_key = rsa.generate_private_key(65537, CA_KEY_BITS)
    software.store(
        settings.path(settings.ocsp.key_directory) / f"{serial:016X}.pem",
        delegate_key,
        passphrase_file.read_bytes().rstrip(b"\n"),
    )
    builder = ocsp_delegate(key.issuer, delegate_key.public_key(), serial, whole_second(founding.now))
    return certify(key, builder, Kind.OCSP)


def _row(der: bytes, generation_id: int, partition_id: int, kind: Kind) -> NewCertificate:
    certificate = x509.load_der_x509_certificate(der)
    return NewCertificate(
        certificate.serial_number,
        generation_id,
        partition_id,
        kind,
        Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc),
        certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        der,
    )
