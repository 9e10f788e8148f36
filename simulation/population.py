"""The residents: invented persons, and which certificate each of them holds."""

import base64
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer.profiles.municipality import PrefectureName
from issuer.profiles.sample import sample_notices
from simulation.timetable import Random

RENEWS_BEFORE: Final = timedelta(days=60)  # the end
RENEWS_OF_100: Final = 30  # each time that counters are open and the end is near; who never comes is without in the end
_MOST_PERSONS: Final = 10**6
_BACK_AT_ONCE: Final = 30


@dataclass(slots=True)
class Resident:
    """A person with a certificate."""

    fields: dict[str, Any]  # of the last notice
    serial: int
    not_after: datetime


class Population:
    """Everybody who holds a certificate, in the municipalities with these codes."""

    def __init__(self, prefecture: PrefectureName, codes: Collection[str], random: Random) -> None:
        self._random = random
        self._keys = _public_keys()
        everybody = sample_notices(prefecture, _MOST_PERSONS, random, self._keys)
        self._newcomers = (notice for notice in everybody if notice["municipality"] in codes)
        self._notices = count(1)
        self.holders: dict[int, Resident] = {}  # by serial number
        self.without: list[dict[str, Any]] = []  # whose certificates were revoked with the CA's key

    def newcomers(self, number: int) -> list[dict[str, Any]]:
        """Notices of so many persons, and of some of those who lost their certificate."""
        again, self.without = self.without[:_BACK_AT_ONCE], self.without[_BACK_AT_ONCE:]
        new = [next(self._newcomers) for _ in range(number)]
        return [self._anew(fields, renewal=False) for fields in again] + new

    def lose(self, serials: Iterable[int]) -> None:
        """These certificates were revoked with the key of the CA that signed them; their holders come back."""
        self.without += [self.holders.pop(serial).fields for serial in serials]

    def renewals(self, now: datetime) -> list[Resident]:
        """Those who come to renew a certificate that ends soon."""
        near = [one for one in self.holders.values() if now <= one.not_after < now + RENEWS_BEFORE]
        return [one for one in near if self._random.randint(1, 100) <= RENEWS_OF_100]

    def renewed(self, resident: Resident) -> dict[str, Any]:
        """The notice of a renewal."""
        return self._anew(resident.fields, renewal=True)

    def some(self, number: int, now: datetime) -> list[Resident]:
        """Some who hold a valid certificate."""
        valid = [one for one in self.holders.values() if now <= one.not_after]
        return self._random.sample(valid, min(number, len(valid)))

    def _anew(self, fields: dict[str, Any], *, renewal: bool) -> dict[str, Any]:
        """The notice of the same person with another key."""
        key = base64.b64encode(next(self._keys)).decode()
        return fields | {"notice_number": f"AGAIN-{next(self._notices)}", "public_key": key, "renewal": renewal}


def line(fields: dict[str, Any]) -> bytes:
    """A line of a notice file."""
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def _public_keys() -> Iterator[bytes]:
    """Keys for nothing: nobody has a private half."""
    for number in count(1):
        key = rsa.RSAPublicNumbers(65537, 2**2047 + 2 * number + 1).public_key()
        yield key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
