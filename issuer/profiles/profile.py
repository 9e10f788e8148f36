"""Certificate profiles: an order in, the to-be-signed certificate out. Facts of real JPKI certificates decide.

Every extension stands in the order of the real ones, with their criticality.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import CertificatePoliciesOID, ExtendedKeyUsageOID, ObjectIdentifier

from issuer.profiles.authority import CPS_URI, Authority, Kind
from issuer.profiles.notice import Notice
from pkix.certid import key_identifier
from pkix.distribution import crl_distribution_points
from pkix.names import directory_name, name
from pkix.policy import policy_mappings
from pkix.signing import PublicKey
from pkix.validity import JST, Validity, counting_first_day

CA_YEARS: Final = 10  # R-6-3-1-2
CA_SIGNING_YEARS: Final = 5  # R-4-13-1
RESIDENT_YEARS: Final = 3  # R-1-3-2-1
CROSS_YEARS: Final = 5  # R-1-3-2-2, R-7-1-2
OPERATIONS_YEARS: Final = 1  # R-1-3-2-3, R-1-3-2-4
SCVP_SERVER: Final = ObjectIdentifier("1.3.6.1.5.5.7.3.15")  # id-kp-scvpServer (RFC 5055)

MIN_SERIAL: Final = 1 << 62
MAX_SERIAL: Final = (1 << 63) - 1  # so every serial number is 8 octets of DER
SERIAL_OCTETS: Final = 8

# subjectAltName of a resident, in the order of real cards: commonName, dateOfBirth, gender, address, and the flags of
# substitutes in commonName and address.
PERSONAL_DATA: Final = tuple(f"1.2.392.200149.8.5.5.{field}" for field in (1, 4, 3, 5, 2, 6))


@dataclass(frozen=True, slots=True)
class Issuer:
    """A generation of an authority that signs: the issuer half of every certificate."""

    authority: Authority
    certificate: x509.Certificate

    @property
    def authority_key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """All three parts, as real certificates have them; or that of the key alone, if the authority has it so."""
        key_id = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        if self.authority.identifies_key_alone:
            return x509.AuthorityKeyIdentifier(key_id, None, None)
        return x509.AuthorityKeyIdentifier(
            key_id, [directory_name(self.certificate.issuer)], self.certificate.serial_number
        )

    @property
    def key_alone(self) -> x509.AuthorityKeyIdentifier:
        """The key only: true also by a link or cross certificate of it, which has another serial number."""
        return x509.AuthorityKeyIdentifier(self.authority_key_identifier.key_identifier, None, None)


@dataclass(frozen=True, slots=True)
class CrossSubject:
    """The other CA of a cross certificate, as its certification request names it."""

    name: x509.Name
    key: PublicKey
    key_identifier: bytes  # which it puts into what it signs
    policy: str | None  # its policy that is equivalent to ours; None: it uses ours


def serial_number(octets: bytes) -> int:
    """A serial number from 8 random octets: 62 of the bits count."""
    return MIN_SERIAL | int.from_bytes(octets, "big") & (MIN_SERIAL - 1)


def self_signed(
    authority: Authority, key: CertificatePublicKeyTypes, serial: int, now: datetime
) -> x509.CertificateBuilder:
    """The Governor's certificate (R-7-1-3)."""
    return (
        _builder(authority.name, authority.name, key, serial, counting_first_day(now, CA_YEARS))
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([directory_name(authority.japanese_name)]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(crl_distribution_points(authority.name), critical=False)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(key)), critical=False)
    )


def link(issuer: Issuer, certificate: x509.Certificate, serial: int, validity: Validity) -> x509.CertificateBuilder:
    """A link certificate (R-7-1-4; RFC 4210, section 4.4): the key of one generation, signed by the next or the last.

    It says of the key what its self-signed certificate says, and that every policy may pass (RFC 5280, section
    6.1.3 (d) (2)): else a verifier that demands the residents' policy would find none at the end of a path through it.

    Args:
        issuer: the generation that signs.
        certificate: the self-signed certificate of the other one.
        serial: of the link certificate.
        validity: of the link certificate.
    """
    authority, key = issuer.authority, certificate.public_key()
    any_policy = x509.PolicyInformation(CertificatePoliciesOID.ANY_POLICY, None)
    return (
        _builder(issuer.certificate.subject, certificate.subject, key, serial, validity)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([directory_name(authority.japanese_name)]), critical=False)
        .add_extension(x509.CertificatePolicies([any_policy]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(crl_distribution_points(authority.name), critical=False)
        .add_extension(issuer.authority_key_identifier, critical=False)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(key)), critical=False)
    )


def ocsp_delegate(
    issuer: Issuer, key: CertificatePublicKeyTypes, serial: int, now: datetime
) -> x509.CertificateBuilder:
    """A certificate of the OCSP responder (R-1-3-2-4; RFC 6960, section 4.2.2.2).

    It has id-pkix-ocsp-nocheck and no CRLDistributionPoints (RFC 9919, section 3.2.2): the responder itself stops using
    a delegate that was revoked.
    """
    subject = issuer.authority.server_name("OCSP Responder")
    return (
        _builder(issuer.certificate.subject, subject, key, serial, counting_first_day(now, OPERATIONS_YEARS))
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        .add_extension(x509.OCSPNoCheck(), critical=False)
        .add_extension(_policies(issuer.authority.policy(Kind.OCSP)), critical=True)
        .add_extension(issuer.authority_key_identifier, critical=False)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(key)), critical=False)
    )


def certificate_validation_server(
    issuer: Issuer, key: CertificatePublicKeyTypes, serial: int, now: datetime
) -> x509.CertificateBuilder:
    """A certificate of the 官職証明書検証サーバ, which signs its answers (R-1-3-2-3).

    Its list is that of operations certificates, at the CA's entry. Its policy has no qualifier, as in `cross`: here no
    real certificate is known that others expect it of.
    """
    authority = issuer.authority
    policy = x509.PolicyInformation(ObjectIdentifier(authority.policy(Kind.CVS)), None)
    subject = authority.server_name("Certificate Validation Server")
    return (
        _builder(issuer.certificate.subject, subject, key, serial, counting_first_day(now, OPERATIONS_YEARS))
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([SCVP_SERVER]), critical=False)
        .add_extension(x509.CertificatePolicies([policy]), critical=True)
        .add_extension(crl_distribution_points(authority.name), critical=False)
        .add_extension(issuer.key_alone, critical=False)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(key)), critical=False)
    )


def cross(issuer: Issuer, subject: CrossSubject, serial: int, not_before: datetime) -> x509.CertificateBuilder:
    """A certificate for another CA, the bridge (R-7-1-2, R-1-3-2-2; RFC 5280, section 3.2).

    It has no pathLenConstraint and no name constraints, for paths go on from the bridge to CAs that it knows. Its
    policy has no qualifier: software may refuse those in a critical extension (RFC 5280, section 4.2.1.4).
    Which policies are equivalent is told by PolicyMappings, not critical: section 4.2.1.5 recommends the contrary, but
    GnuTLS and others refuse what they do not know, and whoever demands a policy knows them.
    """
    authority = issuer.authority
    policy = ObjectIdentifier(authority.policy(Kind.CROSS))
    validity = counting_first_day(not_before, CROSS_YEARS)
    builder = (
        _builder(issuer.certificate.subject, subject.name, subject.key, serial, validity)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.CertificatePolicies([x509.PolicyInformation(policy, None)]), critical=True)
    )
    if subject.policy is not None:
        builder = builder.add_extension(policy_mappings((policy.dotted_string, subject.policy)), critical=False)
    return (
        builder.add_extension(crl_distribution_points(authority.name), critical=False)
        .add_extension(issuer.key_alone, critical=False)
        .add_extension(x509.SubjectKeyIdentifier(subject.key_identifier), critical=False)
    )


def resident(
    issuer: Issuer, notice: Notice, serial: int, subject_number: int, now: datetime
) -> x509.CertificateBuilder:
    """A resident's certificate (R-7-1-1, R-4-2-2-1)."""
    authority, key = issuer.authority, _rsa_key(notice.spki)
    return (
        _builder(
            issuer.certificate.subject,
            resident_subject(notice, subject_number, now),
            key,
            serial,
            counting_first_day(now, RESIDENT_YEARS),
        )
        .add_extension(key_usage(digital_signature=True, content_commitment=True), critical=True)
        .add_extension(x509.SubjectAlternativeName(personal_data(notice)), critical=False)
        .add_extension(_policies(authority.policy(Kind.RESIDENT)), critical=True)
        .add_extension(
            x509.IssuerAlternativeName([directory_name(authority.japanese_name)]),
            critical=False,
        )
        .add_extension(crl_distribution_points(authority.distribution_point(notice.municipality)), critical=False)
        .add_extension(issuer.authority_key_identifier, critical=False)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(key)), critical=False)
    )


def resident_subject(notice: Notice, subject_number: int, now: datetime) -> x509.Name:
    """C, L=prefecture, L=municipality and a CN unique inside the CA (R-3-1-4)."""
    municipality = notice.municipality
    return name(
        ("C", "JP"),
        ("L", municipality.prefecture),
        ("L", municipality.name_romaji),
        ("CN", resident_common_name(municipality.code, subject_number, now)),
    )


def resident_common_name(municipality_code: str, subject_number: int, now: datetime) -> str:
    """28 digits: time in Japan, the municipality's code without its check digit, 9-digit number."""
    return f"{_moment(now)}{municipality_code[:5]}{subject_number:09}"


def personal_texts(notice: Notice) -> tuple[str, ...]:
    """基本4情報 and substitute flags (R-3-1-2-2, R-3-1-8-3), in the order of PERSONAL_DATA."""
    return (
        notice.name.value,
        notice.date_of_birth,
        notice.gender,
        notice.address.value,
        notice.name.flags,
        notice.address.flags,
    )


def personal_data(notice: Notice) -> list[x509.GeneralName]:
    """The six otherNames of a resident, each a UTF8String."""
    return [
        x509.OtherName(ObjectIdentifier(oid), _utf8_string(value))
        for oid, value in zip(PERSONAL_DATA, personal_texts(notice), strict=True)
    ]


def key_usage(
    *,
    digital_signature: bool = False,
    content_commitment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    """KeyUsage with these bits set."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=content_commitment,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    issuer: x509.Name, subject: x509.Name, key: CertificatePublicKeyTypes, serial: int, validity: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
    )


def _policies(policy: str) -> x509.CertificatePolicies:
    return x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier(policy), [CPS_URI])])


@lru_cache(maxsize=2)  # certificates are made in batches of one moment
def _moment(now: datetime) -> str:
    return now.astimezone(JST).strftime("%Y%m%d%H%M%S")


def _rsa_key(spki: bytes) -> rsa.RSAPublicKey:
    key = load_der_public_key(spki)
    if not isinstance(key, rsa.RSAPublicKey):
        raise TypeError("residents have RSA keys (R-6-1-2-3)")
    return key


def _utf8_string(value: str) -> bytes:
    return asn1.encode_der(value)
