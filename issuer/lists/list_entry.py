"""Revocations that are on published lists and not in the database, entered again: after a restoration (R-4-14-1).

A revocation is final (R-4-4-2-4), so what a list says that a key of this CA signed stays true, whatever a backup lost.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from issuer.errors import RefusedError
from issuer.installation import Installation
from issuer.profiles.lint import LintError, check_signature
from issuer.profiles.scan import ScanError, revocations, take_apart
from issuer.records.recovery_store import NotRevoked
from issuer.records.rows import NewRevocation
from pkix.revocation import Revoked, revoked_entry
from pkix.signing import PublicKey

AT_A_TIME: Final = 10_000
SUFFIXES: Final = frozenset({".pem", ".crl", ".der"})


@dataclass(slots=True)
class Entered:
    """What came of it."""

    lists: int = 0  # of this CA
    entered: int = 0
    unknown: list[int] = field(default_factory=list)  # serial numbers of certificates that the database lacks
    refused: list[str] = field(default_factory=list)  # files that are no lists, and why
    others: set[str] = field(default_factory=set)  # files whose list no key of this CA signed
    numbers: dict[str, int] = field(default_factory=dict)  # the highest CRLNumber by list


async def enter(installation: Installation, files: Iterable[Path], now: datetime) -> Entered:
    """Enter what the lists in these files have and the database has not; numbers go on above theirs.

    Raises:
        OSError: a file cannot be read.
        RefusedError: an ARL says that a key was compromised, which the database does not know.
    """
    files, done = list(files), Entered()
    keys = [x509.load_der_x509_certificate(der) for der in await _certificates(installation)]
    partitions = {row.idp: row for row in await installation.store.partitions(installation.authority_id)}
    await _require_compromises_known(installation, files, keys)
    for file in files:
        try:
            found = _read(file.read_bytes(), keys)
            partition = partitions[found.idp]
        except (LintError, ScanError, ValueError) as e:
            done.refused.append(f"{file}: {e}")
            continue
        except (KeyError, x509.ExtensionNotFound, _OfAnotherCAError):
            done.others.add(str(file))
            continue
        label = partition.code or partition.kind
        done.lists += 1
        done.numbers[label] = max(found.crl_number, done.numbers.get(label, 0))
        async with installation.store.transaction():
            await installation.recovery.raise_crl_number(partition.partition_id, found.crl_number)
        entries = revocations(found.entries)
        while some := dict(islice(entries, AT_A_TIME)):
            await _enter(installation, some, now, done)
    return done


async def _require_compromises_known(
    installation: Installation, files: Iterable[Path], certificates: Iterable[x509.Certificate]
) -> None:
    """What follows from a compromise is more than entries: nothing is issued, delegates go on answering.

    Entered one by one they would look as if only they were revoked.

    Raises:
        RefusedError: a list has the certificate of a key of the CA that is not compromised here.
    """
    keys = await installation.generations.keys(installation.authority_id)
    known = {one.generation_id for one in await installation.recovery.compromises(installation.authority_id)}
    trusted = {
        x509.load_der_x509_certificate(one.generation.certificate).serial_number: one.generation
        for one in keys
        if one.generation.generation_id not in known
    }
    (arl,) = (row.idp for row in await installation.store.partitions(installation.authority_id) if row.kind == "ca")
    for file in files:
        try:
            found = _read(file.read_bytes(), certificates)
        except (LintError, ScanError, ValueError, x509.ExtensionNotFound, _OfAnotherCAError):
            continue  # told of when it is entered
        listed = dict(revocations(found.entries)) if found.idp == arl else {}
        for key in (trusted[serial] for serial in trusted.keys() & listed.keys()):
            raise RefusedError(
                f"{file} says that key {key.key_reference} was compromised; nothing was entered, run"
                f" `prefca compromise --key {key.number}` first"
            )


async def _certificates(installation: Installation) -> list[bytes]:
    return list((await installation.lists.ca_certificates(installation.authority_id)).values())


class _OfAnotherCAError(Exception):
    """No key of this CA signed the list."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A list that a key of this CA signed."""

    idp: bytes
    crl_number: int
    entries: bytes


def _read(octets: bytes, certificates: Iterable[x509.Certificate]) -> _Found:
    if octets.lstrip().startswith(b"-----"):
        octets = x509.load_pem_x509_crl(octets).public_bytes(Encoding.DER)
    parts = take_apart(octets)
    crl = x509.load_der_x509_crl(parts.without_entries)
    identifier = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    for certificate in certificates:
        own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        if own == identifier:
            check_signature(octets, cast("PublicKey", certificate.public_key()))
            number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            point = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
            return _Found(point.public_bytes(), number, parts.entries.tobytes())
    raise _OfAnotherCAError


async def _enter(installation: Installation, listed: Mapping[int, Revoked], now: datetime, done: Entered) -> None:
    store = installation.store
    async with store.transaction():
        await store.lock_certificates(listed)
        missing = await installation.recovery.not_revoked(installation.authority_id, list(listed))
        new = [
            NewRevocation(
                one.serial,
                one.partition_id,
                listed[one.serial].at,  # when its reception ended is not on a list; it was no later
                listed[one.serial],
                one.not_after,
                revoked_entry(one.serial, listed[one.serial]),
            )
            for one in missing
            if isinstance(one, NotRevoked)
        ]
        await store.add_revocations(new)
        await store.record_many(
            "revocation_entered", now, [(f"{r.serial:016X}", {"reason": r.status.reason}) for r in new]
        )
    done.entered += len(new)
    done.unknown += [one for one in missing if isinstance(one, int)]
