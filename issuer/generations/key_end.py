"""Copies of the CA's key, and its end: by several persons, on record (R-6-2-1-4, R-6-2-1-9)."""

import asyncio
import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from issuer.errors import RefusedError
from issuer.installation import Installation, opened_keys
from issuer.keys import quiet_token
from issuer.operations.act import Act, Facts
from issuer.profiles.generation import State
from issuer.records.rows import KeyRow
from issuer.rules.operation import Parameters
from pkix.software import write_secret
from settings.load import Settings

MAX_OCTETS: Final = 64 << 20  # of a token's files; one has some kilobytes
MIN_RECIPIENTS: Final = 2


async def destruction(installation: Installation, number: int) -> Parameters:
    """What is signed to destroy a key.

    Raises:
        RefusedError: there is none of that number.
    """
    keys = await installation.generations.keys(installation.authority_id)
    found = next((one.generation for one in keys if one.generation.number == number), None)
    if found is None:
        raise RefusedError(f"this CA has no key number {number}; `prefca key list` shows its keys")
    return {"generation": number, "key": found.key_reference}


async def destroy(act: Act) -> Facts:
    """Delete a key that has nothing left to sign, in the token or its file; its state is `destroyed` from then on.

    Parameters: `generation`, its number; `key`, what it is called.

    Raises:
        RefusedError: it is not replaced yet, lists in force are still signed by it, or the parameters are of no key.
        SigningError: the token cannot be used now; nothing is recorded, and it may be done again.
    """
    installation, label = act.installation, str(act.parameters["key"])
    key = await replaced(installation, act.parameters)
    await installation.store.record("key_destruction", act.clock(), label)
    async with opened_keys(installation) as keys:
        keys.destroy(label)
    facts = {
        "key": label,
        "state": State.DESTROYED,
        "still_to_destroy": "every backup of it, and its token if that goes",
    }
    async with installation.store.transaction():
        await installation.generations.move(key.generation.generation_id, State.DESTROYED)
        await installation.store.record("key_destroyed", act.clock(), label)
        await act.settle(facts)
    return facts


async def replaced(installation: Installation, parameters: Parameters) -> KeyRow:
    """The key that is to be destroyed.

    Raises:
        RefusedError: there is none, or it is still needed.
    """
    keys = await installation.generations.keys(installation.authority_id)
    asked = (parameters["generation"], parameters["key"])
    key = next((one for one in keys if (one.generation.number, one.generation.key_reference) == asked), None)
    if key is None:
        raise RefusedError(f"this CA has no key {asked[0]} that is called {asked[1]}; `prefca key list` shows its keys")
    if key.state not in {State.RETIRED, State.COMPROMISED}:
        raise RefusedError(f"key {asked[1]} is {key.state}; only one that was replaced or compromised is destroyed")
    if all(one.state is not State.ACTIVE for one in keys):
        raise RefusedError("no other key of this CA signs; the next one has to take over before, `prefca key switch`")
    in_force = await installation.store.publication_in_force(installation.authority_id)
    lists = await installation.store.published_lists(in_force.publication_id) if in_force else []
    if any(one.generation == key.generation.number for one in lists):
        signs_too = key.state is State.RETIRED and installation.settings.crl.retired_key_signs_crl
        also = "set `crl.retired_key_signs_crl = false`, then " if signs_too else ""
        raise RefusedError(
            f"lists in force are signed by key {asked[1]}; {also}publish with the new key, `prefca batch --now`"
        )
    if any(one.finished_at is None for one in await installation.recovery.compromises(installation.authority_id)):
        raise RefusedError("a compromise is not finished; run `prefca compromise --resume` first")
    return key


async def back_up(act: Act) -> Facts:
    """Copy the files that hold the key, encrypted so that all recipients together open them (CMS, RFC 5652).

    Parameters: `source`, the directory of the token's files, or of key files; `target`, the file to be written;
    `recipients`, certificates, PEM: each is one envelope around the one before.

    Raises:
        RefusedError: too few recipients, no RSA keys, no such directory, or the file is there already.
        OSError: a file cannot be read or written.
    """
    installation, parameters = act.installation, act.parameters
    source, target = Path(str(parameters["source"])), Path(str(parameters["target"]))
    recipients = recipients_of(str(parameters["recipients"]))
    digest = await asyncio.to_thread(_copy, installation.settings, source, target, recipients)
    opened_by = [recipient.fingerprint(hashes.SHA256()).hex() for recipient in recipients]
    await installation.store.record(
        "key_backed_up", act.clock(), str(target), {"sha256": digest, "source": str(source), "recipients": opened_by}
    )
    return {"file": str(target), "sha256": digest, "opened_by": " then ".join(reversed(opened_by))}


def _copy(settings: Settings, source: Path, target: Path, recipients: list[x509.Certificate]) -> str:
    with quiet_token(settings):
        octets = packed(source)
    for recipient in recipients:
        octets = enveloped(octets, recipient)
    try:
        write_secret(target, octets)
    except FileExistsError as e:
        raise RefusedError(f"{target} is there already; name another file") from e
    return hashlib.sha256(octets).hexdigest()


def recipients_of(pem: str) -> list[x509.Certificate]:
    """Whose keys open a copy, all together.

    Raises:
        RefusedError: too few, one twice, or keys that are not RSA.
    """
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError as e:
        raise RefusedError(f"the recipients are no certificates ({e}); give one PEM file for each person") from e
    public_keys = [one.public_key() for one in found]
    keys = {key.public_numbers() for key in public_keys if isinstance(key, rsa.RSAPublicKey)}
    if len(found) < MIN_RECIPIENTS or len(keys) < len(found):
        raise RefusedError("give certificates of two persons or more, each with an RSA key of their own (R-6-2-1-4)")
    return found


def packed(source: Path) -> bytes:
    """The files of a directory as one, a tar archive.

    Raises:
        RefusedError: it is none, has nothing, or too much to be a token.
        OSError: one cannot be read.
    """
    files = sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
    if not files or sum(path.stat().st_size for path in files) > MAX_OCTETS:
        raise RefusedError(f"{source} does not hold the files of a token or a key; name the directory that does")
    octets = io.BytesIO()
    with tarfile.open(fileobj=octets, mode="w") as archive:
        for path in files:
            archive.add(path, arcname=str(path.relative_to(source)), recursive=False)
    return octets.getvalue()


def enveloped(octets: bytes, recipient: x509.Certificate) -> bytes:
    """EnvelopedData (RFC 5652, section 6), DER: only the recipient's key opens it. AES-256, RSA."""
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(octets).add_recipient(recipient)
    options: Iterable[pkcs7.PKCS7Options] = [pkcs7.PKCS7Options.Binary]
    return builder.set_content_encryption_algorithm(AES256).encrypt(Encoding.DER, options)
