"""Persons with keys, who agree to operations."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

from issuer.acts import PERFORMERS
from issuer.operations import agreement
from issuer.operations.agreement import Means, Order
from issuer.operations.consent import Case
from issuer.operations.operators import registration
from issuer.rules.operation import QUORUM, OperationKind, Parameters, Role
from pkix.signing import sign
from pkix.software import PrivateKey, SoftwareSigner
from tests.support.ca import NOW, FoundedCA
from tests.support.command import Prefca

PASSPHRASE = "a passphrase of one person"
# Enough for every quorum, and more senior operators than are needed.
STAFF: Mapping[str, Sequence[str]] = {
    "manager": ["manager"],
    "keys1": ["key-manager"],
    "keys2": ["key-manager"],
    "keys3": ["key-manager"],
    "reception": ["reception"],
    "examiner": ["examiner"],
    "approver": ["approver"],
    "senior1": ["senior-operator"],
    "senior2": ["senior-operator"],
    "senior3": ["senior-operator"],
    "auditor": ["auditor"],
}


@cache
def person_key(name: str) -> PrivateKey:
    """The key of a person, made once: RSA for the first senior operator, P-256 for all others."""
    if name == "senior1":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def write_staff(directory: Path, staff: Mapping[str, Sequence[str]] = STAFF) -> Path:
    """The file for `prefca operator first`, with keys and passphrases beside it; NAME.pem and NAME.p12 are keys."""
    directory.mkdir(exist_ok=True)
    tables = []
    for name, roles in staff.items():
        write_key(directory, name)
        tables.append(
            f'[[operator]]\nname = "{name}"\nfull_name = "{name} 太郎"\nroles = {list(roles)}\nkey = "{name}.pub"'
        )
    (directory / "passphrase").write_text(PASSPHRASE + "\n")
    (directory / "staff.toml").write_text("\n".join(tables))
    return directory / "staff.toml"


def write_key(directory: Path, name: str) -> None:
    """The key of a person as files."""
    key, how = person_key(name), BestAvailableEncryption(PASSPHRASE.encode())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (directory / f"{name}.pub").write_bytes(public)
    (directory / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    (directory / f"{name}.p12").write_bytes(pkcs12.serialize_key_and_certificates(None, key, None, None, how))


@dataclass
class Clock:
    """Tells the time that a test sets."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        """What it shows."""
        return self.now


@dataclass
class Desk:
    """A CA with operators, and what they do."""

    ca: FoundedCA
    clock: Clock = field(default_factory=Clock)

    @property
    def means(self) -> Means:
        """What operations are done with."""
        return Means(PERFORMERS, self.clock, secrets.token_bytes)

    async def register_first(self, staff: Mapping[str, Sequence[str]] = STAFF) -> None:
        """What `prefca operator first` does."""
        orders = [
            Order(OperationKind.REGISTER_OPERATOR, registration(name, name, roles, person_key(name).public_key()))
            for name, roles in staff.items()
        ]
        await agreement.first_operators(self.ca.installation, orders, self.means)

    async def request(self, kind: OperationKind, parameters: Parameters) -> int:
        """Ask for an operation; its number."""
        case = await agreement.request(self.ca.installation, Order(kind, parameters), self.means)
        return case.request.number

    async def approve(
        self, number: int, name: str, role: Role | None = None, content: bytes | None = None, key: str | None = None
    ) -> Case:
        """A person agrees: by default to what is asked for, with their own key."""
        case = await agreement.find(self.ca.installation, number)
        operator = [one for one in case.operators.values() if one.name == name][-1]
        signature = sign(SoftwareSigner(person_key(key or name)), case.row.content if content is None else content)
        return await agreement.approve(self.ca.installation, number, signature, (operator, role), self.clock())

    async def run(self, number: int) -> Mapping[str, object]:
        """Do it."""
        return await agreement.run(self.ca.installation, number, self.means)

    async def agreed(self, kind: OperationKind, parameters: Parameters, *names: str) -> int:
        """Ask for an operation, and let these persons agree."""
        number = await self.request(kind, parameters)
        for name in names:
            await self.approve(number, name)
        return number


def who_agree(kind: OperationKind) -> list[str]:
    """As many of each role as the rule asks for."""
    by_role = {role: [name for name, roles in STAFF.items() if role in roles] for role in QUORUM[kind]}
    return [name for role, count in QUORUM[kind].items() for name in by_role[role][:count]]


def agree(prefca: Prefca, directory: Path, number: int, *names: str, ca: Sequence[str] = ()) -> None:
    """These persons agree to an operation, with the files of `write_staff`, and the last one runs it."""
    for name in names:
        key = ("--key", directory / f"{name}.pem", "--passphrase-file", directory / "passphrase", "--yes", "--json")
        agreed = prefca(*ca, "operation", "approve", str(number), *key)
        assert agreed.status == 0, agreed
    done = prefca(*ca, "operation", "run", str(number))
    assert done.status == 0, done


def found_by_operators(prefca: Prefca, directory: Path, *ca: str) -> None:
    """A CA that `prefca init` has registered gets operators and, agreed to by those who have to, its key."""
    assert prefca(*ca, "operator", "first", write_staff(directory)).status == 0
    number = prefca(*ca, "found", "--json").json["operation"]
    agree(prefca, directory, number, *who_agree(OperationKind.FOUND), ca=ca)
