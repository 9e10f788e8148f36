"""Names are encoded as real JPKI certificates encode them, and written as RFC 4514 writes them."""

import pytest
from cryptography import x509

from pkix import names

CRLDP = names.name(
    ("C", "JP"), ("O", "JPKI"), ("OU", "Tokyo-to"), ("OU", "CRL Distribution Points"), ("CN", "Chiyoda-ku CRLDP")
)


def test_the_bridge_ca_of_2003_octet_for_octet() -> None:
    """The country is a PrintableString, all else UTF8String, each in a RelativeDistinguishedName of its own."""
    bridge = names.name(("C", "JP"), ("O", "JPKI"), ("OU", "Prefectural Association For JPKI"), ("OU", "BridgeCA"))
    assert bridge.public_bytes() == (
        b"\x30\x5a"
        b"\x31\x0b\x30\x09\x06\x03\x55\x04\x06\x13\x02JP"
        b"\x31\x0d\x30\x0b\x06\x03\x55\x04\x0a\x0c\x04JPKI"
        b"\x31\x29\x30\x27\x06\x03\x55\x04\x0b\x0c\x20Prefectural Association For JPKI"
        b"\x31\x11\x30\x0f\x06\x03\x55\x04\x0b\x0c\x08BridgeCA"
    )


@pytest.mark.parametrize(
    ("kind", "value", "octets"),
    [
        pytest.param("C", "JP", b"\x06\x03\x55\x04\x06\x13\x02JP", id="countryName"),
        pytest.param("O", "JPKI", b"\x06\x03\x55\x04\x0a\x0c\x04JPKI", id="organizationName"),
        pytest.param("OU", "X", b"\x06\x03\x55\x04\x0b\x0c\x01X", id="organizationalUnitName"),
        pytest.param("L", "Tokyo-to", b"\x06\x03\x55\x04\x07\x0c\x08Tokyo-to", id="localityName"),
        pytest.param("CN", "東京", b"\x06\x03\x55\x04\x03\x0c\x06\xe6\x9d\xb1\xe4\xba\xac", id="commonName"),
    ],
)
def test_string_types(kind: str, value: str, octets: bytes) -> None:
    """PrintableString (0x13) for the country, UTF8String (0x0c) for everything else."""
    assert names.name((kind, value)).public_bytes().endswith(octets)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(
            CRLDP, "CN=Chiyoda-ku CRLDP,OU=CRL Distribution Points,OU=Tokyo-to,O=JPKI,C=JP", id="distribution point"
        ),
        pytest.param(
            names.name(("C", "JP"), ("O", "公的個人認証サービス"), ("OU", "東京都知事")),
            "OU=東京都知事,O=公的個人認証サービス,C=JP",
            id="Japanese",
        ),
        pytest.param(names.name(("CN", 'a,b+c"d\\e<f>g;h')), r"CN=a\,b\+c\"d\\e\<f\>g\;h", id="specials"),
        pytest.param(names.name(("CN", " #x ")), r"CN=\ #x\ ", id="spaces at the ends"),
        pytest.param(names.name(("CN", "#x")), r"CN=\#x", id="number sign in front"),
        pytest.param(names.name(), "", id="empty"),
    ],
)
def test_rfc_4514_text(value: x509.Name, text: str) -> None:
    """The last RelativeDistinguishedName comes first, and specials are escaped (RFC 4514, sections 2.1 and 2.4)."""
    assert names.text(value) == text


def test_text_leads_back_to_the_same_octets() -> None:
    """An entry's DN names its Name without loss."""
    assert x509.Name.from_rfc4514_string(names.text(CRLDP)).public_bytes() == CRLDP.public_bytes()


@pytest.mark.parametrize(
    ("kind", "value", "error"),
    [
        pytest.param("ST", "Tokyo-to", KeyError, id="type that JPKI does not use"),
        pytest.param("C", "JPN", ValueError, id="country of three letters"),
        pytest.param("CN", "x" * 65, ValueError, id="beyond ub-common-name"),
        pytest.param("CN", "", ValueError, id="empty value"),
    ],
)
def test_names_that_the_profile_does_not_allow(kind: str, value: str, error: type[Exception]) -> None:
    """Wrong types and values beyond the upper bounds are refused before anything is signed."""
    with pytest.raises(error):
        names.name((kind, value))


def test_a_directory_name_is_the_same_name() -> None:
    """[4] EXPLICIT around the octets of the Name."""
    assert names.directory_name(CRLDP).value.public_bytes() == CRLDP.public_bytes()
