"""Reading requests that differ from an earlier one in serial number and nonce only, as those of one client do.

The strict parser reads the first of them, and where its serial number and its nonce stand is remembered as a form. What
has the same octets everywhere else, and values of the same length there, is the same DER with other values: the strict
parser would read just that, in six times as long.
"""

from dataclasses import dataclass
from typing import Final

from ocsp.request import CertID, OCSPRequest, parse_request

MAX_LENGTHS: Final = 256
MAX_FORMS: Final = 4  # of one length


@dataclass(frozen=True, slots=True)
class _Form:
    """What like requests have in common. Positions are octets from the beginning."""

    cert_id_begin: int
    before_serial: bytes
    serial_end: int  # of the CertID as well
    before_nonce: bytes  # what follows the serial number
    extn_value: slice  # where that of the nonce stands; at the end and empty, if there is none
    after_nonce: bytes
    first: OCSPRequest

    def read(self, octets: bytes) -> OCSPRequest | None:
        """What is asked by octets of the same length; None if they are of another form."""
        begin, end = len(self.before_serial), self.serial_end
        if (
            not octets.startswith(self.before_serial)
            or not octets.startswith(self.before_nonce, end)
            or not octets.endswith(self.after_nonce)
            or not 0 < octets[begin] < 0x80  # the shortest encoding of a positive number, whatever follows
        ):
            return None
        ((hash_algorithm, name_hash, key_hash, _, _),), nonce, preferred_algorithms, _ = self.first
        serial = int.from_bytes(octets[begin:end], "big")
        return OCSPRequest(
            (CertID(hash_algorithm, name_hash, key_hash, serial, octets[self.cert_id_begin : end]),),
            None if nonce is None else octets[self.extn_value],
            preferred_algorithms,
        )


class RequestReader:
    """Reads requests, and remembers their forms."""

    def __init__(self, max_certificates: int) -> None:
        self._max_certificates = max_certificates
        self._forms: dict[int, list[_Form]] = {}  # by length of the request

    def read(self, octets: bytes) -> OCSPRequest:
        """What `parse_request` reads; raises MalformedRequestError."""
        for form in self._forms.get(len(octets), ()):
            request = form.read(octets)
            if request is not None:
                return request
        request = parse_request(octets, max_certificates=self._max_certificates)
        self._remember(octets, request)
        return request

    def _remember(self, octets: bytes, request: OCSPRequest) -> None:
        form = _form(octets, request)
        if form is None:
            return
        if len(self._forms) >= MAX_LENGTHS:
            self._forms.clear()
        forms = self._forms.setdefault(len(octets), [])
        forms.append(form)
        del forms[:-MAX_FORMS]


def _form(octets: bytes, request: OCSPRequest) -> _Form | None:
    """The form of a request about one certificate; None if it has none, or may have several."""
    cert_id, *others = request.cert_ids
    serial, nonce = cert_id.serial_number, request.nonce
    if others or request.signature is not None or serial <= 0 or octets.count(cert_id.der) != 1:
        return None
    digits = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    if not digits[0]:
        return None
    begin = octets.index(cert_id.der)
    end = begin + len(cert_id.der)
    extn_value = slice(len(octets), len(octets))
    value_begin = len(octets)
    if nonce is not None:
        # An OCTET STRING inside, of which all but the header may change; that of 128 octets is longer: 04 81 80.
        if nonce[0] != 0x04 or not nonce[1] == len(nonce) - 2 < 0x80 or octets.count(nonce) != 1:
            return None
        extn_value = slice(octets.index(nonce), octets.index(nonce) + len(nonce))
        value_begin = extn_value.start + 2
    return _Form(
        cert_id_begin=begin,
        before_serial=octets[: end - len(digits)],
        serial_end=end,
        before_nonce=octets[end:value_begin],
        extn_value=extn_value,
        after_nonce=octets[extn_value.stop :],
        first=request,
    )
