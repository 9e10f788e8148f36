"""Setting up a CA: from an empty directory to a first publication. Interrupted anywhere, it goes on where it stopped.

Files come before the rows that name them: a key without a row is used again, a row never lacks its key.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from issuer.errors import NotNowError
from issuer.installation import ActiveKey
from issuer.keys import CAKeys, KeyAlgorithm
from issuer.profiles.authority import Authority, Kind
from issuer.profiles.profile import CA_SIGNING_YEARS, Issuer, self_signed, serial_number
from issuer.records.rows import Generation, new_certificate
from issuer.records.store import Store
from issuer.servers import delegate
from issuer.signing.certification import certify_self
from pkix.validity import counting_first_day, whole_second
from settings.load import Settings


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


@asynccontextmanager
async def making(store: Store) -> AsyncIterator[None]:
    """Nobody else makes a key of a CA meanwhile: a token takes two of one name, and knows neither by it then.

    Raises:
        NotNowError: somebody does.
    """
    if not await store.lock_making():
        raise NotNowError("a key of a CA is being made by somebody else; wait for that to end")
    try:
        yield
    finally:
        await store.unlock_making()


async def found(founding: Founding, keys: CAKeys) -> None:
    """Make the Governor's key and certificate, and record them with all partitions, at once.

    With them goes a first OCSP delegate, unless its key is to be in a token: that is made by `prefca ocsp-delegate`.
    Whoever calls this is `making` the key alone.
    """
    authority, store = founding.authority, founding.store
    known = await store.authority_id(authority)
    if known is not None and await store.has_key(known):
        return
    now = whole_second(founding.now)
    label = key_label(authority, 1)
    signer = keys.get_or_create(label)
    serial = serial_number(founding.random_octets(8))
    certificate = certify_self(signer, self_signed(authority, signer.public_key, serial, now))
    issuer = Issuer(authority, x509.load_der_x509_certificate(certificate))
    async with store.transaction():
        authority_id = known or await store.add_authority(authority, now)
        signs = counting_first_day(now, CA_SIGNING_YEARS)
        generation_id = await store.add_generation(authority_id, label, certificate, signs)
        generation = Generation(generation_id, authority_id, 1, label, certificate, signs.not_after)
        key = ActiveKey(generation, issuer, signer)
        partitions = {p.kind: p.partition_id for p in await store.partitions(authority_id)}
        new = [new_certificate(certificate, generation_id, partitions["ca"], Kind.SELF_SIGNED)]
        if not makes_no_delegate(founding.settings):
            made = _new_delegate(founding, key)
            new.append(new_certificate(made, generation_id, partitions["operations"], Kind.OCSP))
        await store.add_certificates(new, now)
        await store.record("authority_founded", now, label, {"hierarchy": authority.hierarchy})
        await store.record_many("certificate_issued", now, [(f"{c.serial:016X}", {"kind": c.kind}) for c in new])


def makes_no_delegate(settings: Settings) -> bool:
    """Its key would be in a token, perhaps of the module that the CA's key has open."""
    return settings.ocsp.pkcs11_module is not None


def _new_delegate(founding: Founding, key: ActiveKey) -> bytes:
    serial = serial_number(founding.random_octets(8))
    delegate.make_passphrase(founding.settings, founding.random_octets)
    public_key = delegate.new_key(founding.settings, serial, KeyAlgorithm.RSA_2048)
    return delegate.certified(key, public_key, serial, founding.now)
