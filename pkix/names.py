"""Name (RFC 5280, section 4.1.2.4): one attribute in each RelativeDistinguishedName, as JPKI writes them.

countryName is a PrintableString, everything else UTF8String (pyca's defaults), in the order C, O, OU, …
"""

from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

_TYPES: Final = {
    "C": NameOID.COUNTRY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "L": NameOID.LOCALITY_NAME,
    "CN": NameOID.COMMON_NAME,
}


def name(*pairs: tuple[str, str]) -> x509.Name:
    """A Name from ("C", "JP"), ("O", "JPKI"), …, most significant first.

    Raises:
        KeyError: an attribute type other than C, O, OU, L, CN.
        ValueError: an empty value, a country of other than two characters, a CN of more than 64 octets in UTF-8.
    """
    return x509.Name([x509.NameAttribute(_TYPES[kind], value) for kind, value in pairs])


def text(value: x509.Name) -> str:
    """The Name as RFC 4514 text, most specific first: the DN of its entry in the directory."""
    return value.rfc4514_string()


def directory_name(value: x509.Name) -> x509.DirectoryName:
    """The Name as a GeneralName."""
    return x509.DirectoryName(value)
