"""Every field of every certificate profile, as real JPKI certificates and the rule have it."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from issuer.profiles.authority import Hierarchy, Kind
from issuer.profiles.municipality import municipality
from issuer.profiles.profile import (
    MAX_SERIAL,
    MIN_SERIAL,
    Issuer,
    link,
    ocsp_delegate,
    resident,
    resident_subject,
    serial_number,
)
from issuer.signing.certification import certify
from pkix import der
from pkix.certid import subject_public_key
from pkix.distribution import Scope, issuing_distribution_point
from pkix.validity import Validity
from tests.support.ca import NOW, notice, public_key, rsa_key, software_ca

SERIAL = 0x5A00000000000001


def resident_certificate(hierarchy: Hierarchy = "test", **changes: object) -> x509.Certificate:
    ca = software_ca(hierarchy=hierarchy)
    builder = resident(ca.issuer, notice(1, **changes), SERIAL, 42, NOW)
    return x509.load_der_x509_certificate(certify(ca, builder, Kind.RESIDENT))


def delegate_certificate(hierarchy: Hierarchy = "test") -> x509.Certificate:
    ca = software_ca(hierarchy=hierarchy)
    builder = ocsp_delegate(ca.issuer, rsa_key("ocsp").public_key(), SERIAL, NOW)
    return x509.load_der_x509_certificate(certify(ca, builder, Kind.OCSP))


def extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes:
    """The DER of an extension's value."""
    value = certificate.extensions.get_extension_for_oid(oid).value
    assert isinstance(value, x509.ExtensionType)
    return value.public_bytes()


def layout(certificate: x509.Certificate) -> list[tuple[str, bool]]:
    """Names and criticality of the extensions, in their order."""
    return [(e.oid._name, e.critical) for e in certificate.extensions]


@pytest.mark.req("R-4-2-2-1", "R-7-1-1")
def test_a_resident_certificate_has_the_extensions_of_real_cards_in_their_order() -> None:
    """KeyUsage and certificatePolicies are critical, the others are not."""
    assert layout(resident_certificate()) == [
        ("keyUsage", True),
        ("subjectAltName", False),
        ("certificatePolicies", True),
        ("issuerAltName", False),
        ("cRLDistributionPoints", False),
        ("authorityKeyIdentifier", False),
        ("subjectKeyIdentifier", False),
    ]


@pytest.mark.req("R-7-1-1")
def test_a_resident_certificate_has_the_basic_fields_of_the_rule() -> None:
    """Version 3, the serial number it was given, SHA-256 with RSA, the Governor's name, the resident's key."""
    ca, certificate = software_ca(), resident_certificate()
    assert certificate.version is x509.Version.v3
    assert certificate.serial_number == SERIAL
    assert certificate.signature_algorithm_oid.dotted_string == "1.2.840.113549.1.1.11"
    assert certificate.issuer.public_bytes() == ca.issuer.authority.name.public_bytes()
    assert der.sequence(  # the key is the notice's, octet for octet
        der.sequence(der.object_identifier("1.2.840.113549.1.1.1"), der.NULL),
        der.bit_string(subject_public_key(certificate.public_key())),
    ) == public_key(1)
    certificate.verify_directly_issued_by(ca.issuer.certificate)


@pytest.mark.req("R-4-2-2-1", "R-3-1-2-2", "R-3-1-8-3")
def test_the_personal_data_are_six_other_names_in_the_order_of_real_cards() -> None:
    """commonName, dateOfBirth, gender, address, then the flags of substitutes of both texts, each a UTF8String."""
    certificate = resident_certificate(
        name="髙橋　花", name_substitutes={"髙": "高"}, gender="female", address="東京都清瀬市テスト町１"
    )
    prefix, name, address = "060A2A83088C9B55080505", "高橋　花".encode(), "東京都清瀬市テスト町１".encode()
    values = b"".join(
        (
            bytes.fromhex(f"A01C {prefix}01 A00E 0C0C") + name,
            bytes.fromhex(f"A019 {prefix}04 A00B 0C09") + b"319800217",
            bytes.fromhex(f"A011 {prefix}03 A003 0C01") + b"2",
            bytes.fromhex(f"A031 {prefix}05 A023 0C21") + address,
            bytes.fromhex(f"A014 {prefix}02 A006 0C04") + b"1000",
            bytes.fromhex(f"A01B {prefix}06 A00D 0C0B") + b"00000000000",
        )
    )
    san = extension(certificate, ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    assert san.hex() == (bytes.fromhex("3081B2") + values).hex()


@pytest.mark.req("R-1-2-1")
@pytest.mark.parametrize(
    ("hierarchy", "arc"), [("test", 0), ("production", 1)], ids=["test hierarchy", "production hierarchy"]
)
def test_a_resident_certificate_names_the_policy_of_its_hierarchy_with_the_cps(hierarchy: Hierarchy, arc: int) -> None:
    """One policy, with the address of the operating rule as its qualifier."""
    cps = b"http://www.jpki.go.jp/cps.html"
    qualifier = der.sequence(der.object_identifier("1.3.6.1.5.5.7.2.1"), bytes((0x16, len(cps))) + cps)
    policy = der.sequence(der.object_identifier(f"1.2.392.200149.8.5.1.{arc}.10"), der.sequence(qualifier))
    policies = extension(resident_certificate(hierarchy=hierarchy), ExtensionOID.CERTIFICATE_POLICIES)
    assert policies == der.sequence(policy)


@pytest.mark.req("R-4-2-2-1")
def test_a_resident_key_signs_and_says_so() -> None:
    """DigitalSignature and nonRepudiation, as on real cards."""
    assert extension(resident_certificate(), ExtensionOID.KEY_USAGE) == bytes.fromhex("030206C0")


@pytest.mark.req("R-3-1-2-1")
def test_the_issuer_is_named_in_japanese_too() -> None:
    """IssuerAltName is the subjectAltName of the CA's own certificate: one directoryName."""
    ca = software_ca()
    expected = x509.IssuerAlternativeName([x509.DirectoryName(ca.issuer.authority.japanese_name)])
    assert extension(resident_certificate(), ExtensionOID.ISSUER_ALTERNATIVE_NAME) == expected.public_bytes()
    assert extension(ca.issuer.certificate, ExtensionOID.SUBJECT_ALTERNATIVE_NAME) == expected.public_bytes()


@pytest.mark.req("R-4-4-4-4-2")
def test_the_list_of_a_resident_is_the_one_of_the_municipality() -> None:
    """One DistributionPoint with one directoryName, in the octets of the list's IssuingDistributionPoint."""
    points = extension(resident_certificate(), ExtensionOID.CRL_DISTRIBUTION_POINTS)
    point = software_ca().issuer.authority.distribution_point(municipality("132217"))
    (distribution_point,) = der.elements(der.contents(points))
    (name,) = der.elements(der.contents(distribution_point))
    idp = issuing_distribution_point(point, Scope.USER).public_bytes()
    assert next(der.elements(der.contents(idp))) == name
    assert point.public_bytes() in name


@pytest.mark.req("R-4-2-2-1")
def test_the_authority_key_identifier_has_all_three_parts() -> None:
    """The CA's subjectKeyIdentifier, its own issuer name and its serial number."""
    ca = software_ca()
    aki = resident_certificate().extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = ca.issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert aki.key_identifier == own.digest
    assert aki.authority_cert_issuer == [x509.DirectoryName(ca.issuer.authority.name)]
    assert aki.authority_cert_serial_number == ca.issuer.certificate.serial_number


@pytest.mark.parametrize(
    "certificate", [resident_certificate, delegate_certificate, lambda: software_ca().issuer.certificate]
)
def test_the_subject_key_identifier_is_the_sha1_of_the_key_bits(certificate: Callable[[], x509.Certificate]) -> None:
    """20 octets, RFC 5280, section 4.2.1.2, method 1: also what OCSP calls byKey."""
    made = certificate()
    expected = hashlib.sha1(subject_public_key(made.public_key())).digest()
    assert made.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest == expected


@pytest.mark.req("R-3-1-1", "R-3-1-4")
def test_a_subject_is_country_prefecture_municipality_and_a_unique_number() -> None:
    """CN: time of issue in Japan, 5 digits of the municipality's code, 9 digits that nobody else has."""
    subject = resident_certificate().subject
    assert [(attribute.oid, attribute.value) for attribute in subject] == [
        (NameOID.COUNTRY_NAME, "JP"),
        (NameOID.LOCALITY_NAME, "Tokyo-to"),
        (NameOID.LOCALITY_NAME, "Kiyose-shi"),
        (NameOID.COMMON_NAME, "20260401120000" + "13221" + "000000042"),
    ]


@pytest.mark.req("R-3-1-4")
def test_two_certificates_of_one_second_have_different_subjects() -> None:
    """The running number tells them apart."""
    assert resident_subject(notice(), 0, NOW) != resident_subject(notice(), 999_999_999, NOW)


@pytest.mark.req("R-3-1-1")
@pytest.mark.parametrize("certificate", [resident_certificate, delegate_certificate], ids=["resident", "OCSP delegate"])
def test_names_are_utf8_except_the_country(certificate: Callable[[], x509.Certificate]) -> None:
    """CountryName is a PrintableString (tag 13), everything else UTF8String (tag 0C), one attribute in each RDN."""
    made = certificate()
    for name in (made.issuer, made.subject):
        rdns = [list(der.elements(der.contents(rdn))) for rdn in der.elements(der.contents(name.public_bytes()))]
        values = [list(der.elements(der.contents(attribute)))[1] for (attribute,) in rdns]
        assert [value[0] for value in values] == [0x13] + [0x0C] * (len(values) - 1)


@pytest.mark.req("R-1-3-2-1", "R-7-1-1")
@pytest.mark.parametrize(
    ("issued", "last_second"),
    [
        ("2026-04-01T03:00:00", "2029-03-31T14:59:59"),
        ("2026-03-31T23:00:00", "2029-03-31T14:59:59"),
        ("2026-03-31T14:59:59", "2029-03-30T14:59:59"),
        ("2026-03-31T15:00:00", "2029-03-31T14:59:59"),
        ("2028-02-29T03:00:00", "2031-02-28T14:59:59"),
    ],
    ids=["at noon", "at 08:00 in Japan, the day before in UTC", "last second of a day", "first second", "29 February"],
)
def test_a_resident_certificate_lasts_three_years_with_the_first_day_counted_in(issued: str, last_second: str) -> None:
    """It ends at 23:59:59 in Japan on the day before the third anniversary; fractions of a second are cut off."""
    ca = software_ca(founded=datetime(2026, 1, 1, tzinfo=UTC))
    builder = resident(ca.issuer, notice(), SERIAL, 0, datetime.fromisoformat(f"{issued}.999999Z"))
    certificate = x509.load_der_x509_certificate(certify(ca, builder, Kind.RESIDENT))
    assert certificate.not_valid_before_utc == datetime.fromisoformat(f"{issued}Z")
    assert certificate.not_valid_after_utc == datetime.fromisoformat(f"{last_second}Z")


@pytest.mark.req("R-1-3-2-4", "R-1-2-1")
@pytest.mark.parametrize(
    ("hierarchy", "policy"),
    [("test", "1.2.392.200149.8.5.1.0.300"), ("production", "1.2.392.200149.8.5.1.300")],
    ids=["test hierarchy", "production hierarchy"],
)
def test_an_ocsp_delegate_may_sign_responses_for_a_year(hierarchy: Hierarchy, policy: str) -> None:
    """Extended key usage and id-pkix-ocsp-nocheck are those of RFC 6960, section 4.2.2.2, the policy is the rule's."""
    certificate = delegate_certificate(hierarchy)
    assert layout(certificate) == [
        ("keyUsage", True),
        ("extendedKeyUsage", False),
        ("OCSPNoCheck", False),
        ("certificatePolicies", True),
        ("authorityKeyIdentifier", False),
        ("subjectKeyIdentifier", False),
    ]
    assert extension(certificate, ExtensionOID.KEY_USAGE) == bytes.fromhex("03020780")
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    (policies,) = certificate.extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert policies.policy_identifier.dotted_string == policy
    assert certificate.not_valid_before_utc == NOW
    assert certificate.not_valid_after_utc == datetime(2027, 3, 31, 14, 59, 59, tzinfo=UTC)


@pytest.mark.req("R-6-3-1-2", "R-7-1-3", "R-6-1-1-4")
def test_the_certificate_of_the_ca_is_that_of_real_ones_and_lasts_ten_years() -> None:
    """Extensions, their order and their values follow the certificates of the real CAs."""
    authority, certificate = software_ca().issuer.authority, software_ca().issuer.certificate
    assert layout(certificate) == [
        ("keyUsage", True),
        ("subjectAltName", False),
        ("basicConstraints", True),
        ("cRLDistributionPoints", False),
        ("subjectKeyIdentifier", False),
    ]
    assert certificate.subject == certificate.issuer == authority.name
    assert extension(certificate, ExtensionOID.KEY_USAGE) == bytes.fromhex("03020106")
    assert extension(certificate, ExtensionOID.BASIC_CONSTRAINTS) == bytes.fromhex("30030101FF")
    assert authority.name.public_bytes() in extension(certificate, ExtensionOID.CRL_DISTRIBUTION_POINTS)
    assert certificate.not_valid_before_utc == NOW
    assert certificate.not_valid_after_utc == datetime(2036, 3, 31, 14, 59, 59, tzinfo=UTC)
    certificate.verify_directly_issued_by(certificate)


@pytest.mark.req("R-1-3-2-1")
def test_dates_after_2049_are_generalized_time() -> None:
    """RFC 5280, section 4.1.2.5: a certificate issued in 2048 begins in UTCTime and ends in GeneralizedTime."""
    ca = software_ca(founded=datetime(2045, 1, 1, tzinfo=UTC))
    builder = resident(ca.issuer, notice(), SERIAL, 0, datetime(2048, 6, 1, tzinfo=UTC))
    made = certify(ca, builder, Kind.RESIDENT)
    assert bytes.fromhex("170D") + b"480601000000Z" + bytes.fromhex("180F") + b"20510531145959Z" in made


@pytest.mark.req("R-7-1-1")
@pytest.mark.parametrize("octets", [bytes(8), b"\xff" * 8, b"\x00" * 7 + b"\x01"], ids=["zeros", "ones", "one"])
def test_serial_numbers_are_always_eight_octets(octets: bytes) -> None:
    """62 random bits between 2^62 and 2^63, whatever the octets."""
    number = serial_number(octets)
    assert MIN_SERIAL <= number <= MAX_SERIAL
    assert len(der.contents(der.integer(number))) == 8
    assert number & (MIN_SERIAL - 1) == int.from_bytes(octets, "big") & (MIN_SERIAL - 1)


@pytest.mark.req("R-7-1-4", "R-4-13-2")
def test_a_link_certificate_says_of_a_key_what_its_own_certificate_says() -> None:
    """The extensions of the self-signed one, with the issuer's identifier and a policy that lets every policy pass."""
    old, new = software_ca(), software_ca(key="next")
    validity = Validity(NOW, old.issuer.certificate.not_valid_after_utc)
    der = certify(old, link(old.issuer, new.issuer.certificate, SERIAL, validity), Kind.LINK)
    certificate = x509.load_der_x509_certificate(der)
    assert layout(certificate) == [
        ("keyUsage", True),
        ("subjectAltName", False),
        ("certificatePolicies", False),
        ("basicConstraints", True),
        ("cRLDistributionPoints", False),
        ("authorityKeyIdentifier", False),
        ("subjectKeyIdentifier", False),
    ]
    for own in new.issuer.certificate.extensions:
        assert certificate.extensions.get_extension_for_oid(own.oid).value == own.value
    policies = certificate.extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert [policy.policy_identifier.dotted_string for policy in policies] == ["2.5.29.32.0"]


@pytest.mark.req("R-4-13-2")
def test_an_issuer_may_be_identified_by_its_key_alone() -> None:
    """Then the identifier is that of its self-signed and of its link certificate."""
    ca = software_ca()
    authority = replace(ca.issuer.authority, identifies_key_alone=True)
    identifier = Issuer(authority, ca.issuer.certificate).authority_key_identifier
    assert identifier.key_identifier == ca.issuer.authority_key_identifier.key_identifier
    assert (identifier.authority_cert_issuer, identifier.authority_cert_serial_number) == (None, None)
