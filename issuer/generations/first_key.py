"""Founding a CA as an operation: its first key, in the token, and the first lists (R-6-1-1-1, R-2-1-2-16).

A production CA is set up in three steps: the database and the CA's names (`prefca init`), its operators, then this,
agreed to by them. Interrupted anywhere, it is run again and goes on where it stopped.
"""

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from issuer.errors import RefusedError
from issuer.generations.founding import Founding, found, key_label, makes_no_delegate, making
from issuer.installation import Installation, opened_keys
from issuer.lists import batch
from issuer.operations.act import Act, Facts
from issuer.rules.operation import Parameters
from issuer.schedule import Schedule
from issuer.signing.key_use import used_key
from pkix.names import text


def foundation(installation: Installation) -> Parameters:
    """What is signed to found the CA."""
    signer = installation.settings.signer
    return {
        "ca": text(installation.authority.name),
        "key": key_label(installation.authority, 1),
        "algorithm": "rsa2048",  # R-6-1-1-2
        "token": signer.token if signer.kind == "pkcs11" else None,
        "module": str(signer.module) if signer.kind == "pkcs11" else None,  # another one might keep the key elsewhere
        "ocsp_delegate": None if makes_no_delegate(installation.settings) else "rsa2048",
    }


async def perform(act: Act) -> Facts:
    """Perform FOUND.

    Raises:
        RefusedError: the CA has another name, token or settings than when it was agreed to, or it was founded before.
        SigningError: the key cannot be made or used now.
        NotNowError: the token's PIN is not activated, or somebody else makes a key.
    """
    installation, store = act.installation, act.installation.store
    if dict(act.parameters) != dict(foundation(installation)):
        raise RefusedError("name, token or settings of the CA are others than when this was asked for; ask for it anew")
    async with making(store), opened_keys(installation) as keys:
        work = Founding(installation.settings, installation.authority, store, act.clock(), act.random_octets)
        await found(work, keys)
    if await store.publication_in_force(installation.authority_id) is None:
        async with used_key(installation, "lists", act.clock) as key:
            moment = act.clock()
            next_publish = Schedule.of(installation.settings).next(moment)
            await batch.run(installation, key, moment, next_publish=next_publish)
    generation = await store.active_generation(installation.authority_id)
    if generation is None:
        raise RefusedError("this CA was founded before; `prefca key list` shows its keys")
    certificate = x509.load_der_x509_certificate(generation.certificate)
    return {
        "key": generation.key_reference,
        "serial": f"{certificate.serial_number:016X}",
        "not_after": certificate.not_valid_after_utc,
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }
