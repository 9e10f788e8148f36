"""The part of registration that needs no database, so that many processes can do it side by side.

What goes in and out crosses process boundaries by the million, so it is tuples.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from cryptography import x509

from issuer.profiles.authority import Kind
from issuer.profiles.lint import LintError, check_certificate
from issuer.profiles.municipality import municipality
from issuer.profiles.notice import parse_notice
from issuer.profiles.notice_line import NoticeError
from issuer.profiles.profile import RESIDENT_YEARS, Issuer, resident_common_name
from issuer.profiles.template import Template, validity_der
from issuer.residents.lines import Line
from pkix.signing import Signer, sign_each, signed, verify
from pkix.validity import JST, counting_first_day


class Unreadable(NamedTuple):
    """A line that is no notice, and why."""

    line: int
    notice_number: str | None
    code: str
    message: str


class Application(NamedTuple):
    """A notice that was read, ready to be decided on."""

    line: int
    notice_number: str | None
    notice_id: bytes
    person: bytes
    renewal: bool
    municipality: str  # code
    common_name: str
    date_of_birth: str
    gender: str
    address: str
    spki_sha256: bytes
    tail: bytes  # of the to-be-signed part (issuer.profiles.template)


class Order(NamedTuple):
    """A certificate to be made."""

    serial: int
    subject_number: int
    municipality: str
    tail: bytes


class Clerk:
    """Reads notices and makes certificates, for one CA with its key."""

    def __init__(self, issuer: Issuer, signer: Signer) -> None:
        self._issuer = issuer
        self._signer = signer
        self._templates: dict[str, Template] = {}
        self._linted: dict[str, bytes] = {}  # by municipality, the validity of a certificate that was

    def read(self, lines: Iterable[Line], now: datetime) -> list[Unreadable | Application]:
        """Read notices."""
        return [self._read(line, now) for line in lines]

    def certify(self, orders: Iterable[Order], now: datetime) -> list[bytes]:
        """The certificates, DER, signed and checked. Blocks while the token signs.

        The first one of each municipality and second is held against the whole profile before it is signed: the others
        differ from it in octets whose form is known.

        Raises:
            LintError: one breaks the profile.
            SigningError: the key cannot be used now.
        """
        ordered = list(orders)
        validity = validity_der(counting_first_day(now, RESIDENT_YEARS))
        to_be_signed = [self._to_be_signed(order, validity, now) for order in ordered]
        signatures = sign_each(self._signer, to_be_signed)
        return [self._certified(*one) for one in zip(ordered, to_be_signed, signatures, strict=True)]

    def _read(self, line: Line, now: datetime) -> Unreadable | Application:
        prefecture = self._issuer.authority.prefecture.name_romaji
        try:
            notice = parse_notice(line.content, prefecture=prefecture, today=now.astimezone(JST).date())
        except NoticeError as e:
            return Unreadable(line.number, e.notice_number, e.code, e.message)
        code = notice.municipality.code
        return Application(
            line.number,
            notice.notice_number,
            notice.notice_id,
            notice.person,
            notice.renewal,
            code,
            notice.name.value,
            notice.date_of_birth,
            notice.gender,
            notice.address.value,
            hashlib.sha256(notice.spki).digest(),
            self._template(code, now).tail(notice),
        )

    def _template(self, code: str, now: datetime) -> Template:
        if code not in self._templates:
            self._templates[code] = Template.of(self._issuer, municipality(code), now)
        return self._templates[code]

    def _to_be_signed(self, order: Order, validity: bytes, now: datetime) -> bytes:
        common_name = resident_common_name(order.municipality, order.subject_number, now)
        template = self._template(order.municipality, now)
        to_be_signed = template.to_be_signed(order.serial, validity, common_name, order.tail)
        if self._linted.get(order.municipality) != validity:
            check_certificate(signed(to_be_signed, self._signer.public_key, b"\x00"), Kind.RESIDENT, self._issuer)
            self._linted[order.municipality] = validity
        return to_be_signed

    def _certified(self, order: Order, to_be_signed: bytes, signature: bytes) -> bytes:
        key = self._signer.public_key
        certificate = signed(to_be_signed, key, signature)
        if x509.load_der_x509_certificate(certificate).serial_number != order.serial:
            raise LintError("a certificate was made whose serial number is not the one that was ordered")
        if not verify(key, signature, [to_be_signed]):
            raise LintError("a signature does not verify with the issuer's public key; check the token")
        return certificate
