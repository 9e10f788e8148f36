"""The to-be-signed part of residents' certificates without a builder for each, for bulk issuing.

A template is cut out of one certificate that `profile.resident` described, and the octets of each resident are
put in between. So the profile stays in one place, and both ways give the same octets.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Self

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from issuer.profiles.characters import Recorded
from issuer.profiles.municipality import Municipality
from issuer.profiles.notice import Notice
from issuer.profiles.profile import MIN_SERIAL, PERSONAL_DATA, Issuer, personal_texts, resident, resident_common_name
from pkix import der
from pkix.signing import tbs_certificate
from pkix.validity import Validity

_KEY_BITS_AT: Final = 24  # in the SubjectPublicKeyInfo of an RSA key of 1,024 to 8,192 bits
_SERIAL_HEADER: Final = der.header(0x02, 8)
_UTF8_STRING: Final = 0x0C
_SUBJECT_ALTERNATIVE_NAME: Final = der.object_identifier("2.5.29.17")
_PERSONAL_DATA: Final = tuple(map(der.object_identifier, PERSONAL_DATA))


@dataclass(frozen=True, slots=True)
class Template:
    """What the certificates of one municipality's residents have in common, in DER."""

    version: bytes
    signature_and_issuer: bytes
    subject: bytes  # without the contents of commonName, which ends it
    key_usage: bytes  # these three are extensions
    policies_to_authority_key: bytes
    subject_key: bytes  # without the 20 octets that end it

    @classmethod
    def of(cls, issuer: Issuer, municipality: Municipality, now: datetime) -> Self:
        """The template for a municipality; `now` may be any time at which the issuer issues."""
        specimen = _specimen(issuer, municipality)
        to_be_signed = tbs_certificate(resident(issuer, specimen, MIN_SERIAL, 0, now))
        version, _, signature, name, _, subject, _, tagged = der.elements(der.contents(to_be_signed))
        key_usage, _, *middle, subject_key = der.elements(der.contents(der.contents(tagged)))
        common_name = resident_common_name(municipality.code, 0, now)
        return cls(
            version,
            signature + name,
            subject.removesuffix(common_name.encode()),
            key_usage,
            b"".join(middle),
            subject_key.removesuffix(_key_identifier(specimen.spki)),
        )

    def tail(self, notice: Notice) -> bytes:
        """SubjectPublicKeyInfo and extensions: all that depends on the notice alone."""
        extensions = der.sequence(
            self.key_usage,
            der.sequence(_SUBJECT_ALTERNATIVE_NAME, der.octet_string(_general_names(notice))),
            self.policies_to_authority_key,
            self.subject_key,
            _key_identifier(notice.spki),
        )
        return notice.spki + der.explicit(3, extensions)

    def to_be_signed(self, serial: int, validity: bytes, common_name: str, tail: bytes) -> bytes:
        """TBSCertificate (RFC 5280, section 4.1).

        Args:
            serial: of 8 octets (issuer.profiles.profile).
            validity: its DER, see `validity_der`.
            common_name: as `issuer.profiles.profile.resident_common_name` gives it.
            tail: from this template.
        """
        return der.sequence(
            self.version,
            _SERIAL_HEADER,
            serial.to_bytes(8, "big"),
            self.signature_and_issuer,
            validity,
            self.subject,
            common_name.encode(),
            tail,
        )


def validity_der(validity: Validity) -> bytes:
    """Validity (RFC 5280, section 4.1.2.5)."""
    return der.sequence(der.time(validity.not_before), der.time(validity.not_after))


def _specimen(issuer: Issuer, municipality: Municipality) -> Notice:
    """Somebody there, with the issuer's own key."""
    spki = issuer.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    nobody = Recorded("", "")
    return Notice(municipality, nobody, "", "", nobody, spki, renewal=False, notice_number=None)


def _general_names(notice: Notice) -> bytes:
    return der.sequence(*map(_other_name, _PERSONAL_DATA, personal_texts(notice)))


@lru_cache(maxsize=8192)  # of dates of birth, genders and flags there are few
def _other_name(oid: bytes, text: str) -> bytes:
    return der.explicit(0, oid, der.explicit(0, der.element(_UTF8_STRING, text.encode())))


def _key_identifier(spki: bytes) -> bytes:
    """SHA-1 of the key bits (RFC 5280, section 4.2.1.2, method 1)."""
    return hashlib.sha1(spki[_KEY_BITS_AT:], usedforsecurity=False).digest()
